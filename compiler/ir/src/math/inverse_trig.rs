//! Inverse sine, cosine and tangent.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other
//! from the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the
//! function.

use super::Arith;
use super::format::Ops;
use crate::kernel::{Pred, UnOp};

/// `(asin(x) / x - 1) / x^2` in x^2 for  Error 2^-27.
const ASIN_F32: &[f64] = &[0.1666673869, 0.07495732605, 0.04542482644, 0.02437454276, 0.04187179729];

/// The same for f64. Error 2^-59.
const ASIN_F64: &[f64] = &[
    0.1666666666666669,
    0.07499999999986721,
    0.044642857161366206,
    0.03038194327591698,
    0.02237220043255939,
    0.0173518527237108,
    0.013978138280973324,
    0.011419469665447296,
    0.010671633766000548,
    0.0040952504807375174,
    0.020806682305993276,
    -0.019780607551609153,
    0.03189777153172295,
];

/// `(atan(t) / t - 1) / t^2` in t^2 for  Error 2^-30.
const ATAN_F32: &[f64] = &[-0.3333331943, 0.1999866366, -0.1424638182, 0.1061085165, -0.06113733724];

/// The same for f64. Error 2^-62.
const ATAN_F64: &[f64] = &[
    -0.3333333333333333,
    0.19999999999998816,
    -0.14285714285522683,
    0.11111111096544822,
    -0.09090908448514186,
    0.07692289620988782,
    -0.06666326675199516,
    0.05877975427025192,
    -0.052243304656532,
    0.04526634778614136,
    -0.03398625841769288,
    0.015687777224448095,
];

/// Pi / 2 in two parts.
const HALF_PI_F32: (f64, f64) = (1.5707963705062866, -4.371138828673793e-8);
/// The same for f64.
const HALF_PI_F64: (f64, f64) = (std::f64::consts::FRAC_PI_2, 6.123233995736766e-17);

/// The inverse sine of `|x|` up to 1/2, above of the number w in asin(x) = pi/2 - 2 asin(w), w = sqrt((1 - x) / 2).
struct Half<V> {
    /// True where `|x|` is below 1/2 and `asin` is its own.
    own: V,
    /// The inverse sine.
    asin: V,
}

fn half<A: Arith>(a: &mut A, magnitude: A::V) -> Half<A::V> {
    let own = a.cmp_num(Pred::Lt, magnitude, 0.5);
    let square = a.mul(magnitude, magnitude);
    let half = a.num(0.5, magnitude);
    let rest = a.fma_num(magnitude, -0.5, half);
    let root = a.un(UnOp::Sqrt, rest);
    let z = a.select(own, square, rest);
    let w = a.select(own, magnitude, root);
    let table = a.pick(magnitude, ASIN_F32, ASIN_F64);
    let p = a.poly(table, z);
    let cube = a.mul(w, z);
    Half { own, asin: a.fma(cube, p, w) }
}

/// Inverse sine; NaN beyond 1. At most 1.9 ulp; f64: 1.9.
pub(super) fn asin<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let half = half(a, magnitude);
    let (hi, lo) = a.pick(x, HALF_PI_F32, HALF_PI_F64);
    let right = a.num(hi, x);
    let large = a.fma_num(half.asin, -2.0, right);
    let large = a.add_num(large, lo);
    let y = a.select(half.own, half.asin, large);
    a.with_sign(y, x)
}

/// Inverse cosine; NaN beyond 1. At most 1.3 ulp; f64: 1.2.
pub(super) fn acos<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let half = half(a, magnitude);
    let (hi, lo) = a.pick(x, HALF_PI_F32, HALF_PI_F64);
    let (hi, lo) = (a.num(hi, x), a.num(lo, x));
    let sine = a.with_sign(half.asin, x);
    let small = a.sub(sine, lo);
    let small = a.sub(hi, small);
    let twice = a.add(half.asin, half.asin);
    let left = a.sub(hi, half.asin);
    let left = a.add(left, lo);
    let left = a.add(left, left);
    let negative = a.cmp_num(Pred::Lt, x, 0.0);
    let large = a.select(negative, left, twice);
    a.select(half.own, small, large)
}

/// Inverse tangent. At most 2.1 ulp; f64: 1.8.
pub(super) fn atan<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    // tan(pi/8) and tan(3 pi/8): between them the angle is taken from pi/4, above from pi/2.
    let middle = a.cmp_num(Pred::Gt, magnitude, std::f64::consts::SQRT_2 - 1.0);
    let far = a.cmp_num(Pred::Gt, magnitude, std::f64::consts::SQRT_2 + 1.0);
    let (one, minus) = (a.num(1.0, x), a.num(-1.0, x));
    let less = a.sub(magnitude, one);
    let more = a.add(magnitude, one);
    let above = a.select(middle, less, magnitude);
    let above = a.select(far, minus, above);
    let below = a.select(middle, more, one);
    let below = a.select(far, magnitude, below);
    let t = a.div(above, below);
    let z = a.mul(t, t);
    let table = a.pick(x, ATAN_F32, ATAN_F64);
    let p = a.poly(table, z);
    let cube = a.mul(t, z);
    let rest = a.fma(cube, p, t);

    let (hi, lo) = a.pick(x, HALF_PI_F32, HALF_PI_F64);
    let zero = a.num(0.0, x);
    let (hi, half_hi) = (a.num(hi, x), a.num(hi / 2.0, x));
    let (lo, half_lo) = (a.num(lo, x), a.num(lo / 2.0, x));
    let base = a.select(middle, half_hi, zero);
    let base = a.select(far, hi, base);
    let tail = a.select(middle, half_lo, zero);
    let tail = a.select(far, lo, tail);
    let rest = a.add(rest, tail);
    let y = a.add(base, rest);
    a.with_sign(y, x)
}
