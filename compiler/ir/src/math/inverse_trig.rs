//! Inverse sine, cosine and tangent.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other from
//! the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the function.

use super::Arith;
use super::format::Ops;
use crate::kernel::{Pred, UnOp};

/// `(asin(x) / x - 1) / x^2` in x^2 for  Error 2^-27.
const ASIN_F32: &[f64] = &[
    0.1666673869,
    0.07495732605,
    0.04542482644,
    0.02437454276,
    0.04187179729,
];

/// The same for f64. Error 2^-59.
const ASIN_F64: &[f64] = &[
    0.166666666666666907,
    0.0749999999998672146,
    0.0446428571613662062,
    0.0303819432759169783,
    0.0223722004325593894,
    0.0173518527237108006,
    0.0139781382809733238,
    0.011419469665447296,
    0.0106716337660005475,
    0.00409525048073751743,
    0.0208066823059932758,
    -0.0197806075516091528,
    0.0318977715317229488,
];

/// `(atan(t) / t - 1) / t^2` in t^2 for  Error 2^-30.
const ATAN_F32: &[f64] = &[
    -0.3333331943,
    0.1999866366,
    -0.1424638182,
    0.1061085165,
    -0.06113733724,
];

/// The same for f64. Error 2^-62.
const ATAN_F64: &[f64] = &[
    -0.333333333333333315,
    0.199999999999988159,
    -0.142857142855226826,
    0.11111111096544822,
    -0.0909090844851418584,
    0.07692289620988782,
    -0.0666632667519951594,
    0.0587797542702519216,
    -0.0522433046565319997,
    0.0452663477861413588,
    -0.0339862584176928786,
    0.0156877772244480955,
];

/// Pi / 2 in two parts.
const HALF_PI_F32: (f64, f64) = (1.57079637050628662109375, -4.371138828673792886547744e-8);
/// The same for f64.
const HALF_PI_F64: (f64, f64) = (1.5707963267948966, 6.123233995736766e-17);

/// The inverse sine of a number at most 1/2 that is `|x|`, or belongs to it: asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)).
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

/// Inverse sine; NaN beyond 1. ASINULP
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

/// Inverse cosine; NaN beyond 1. ACOSULP
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

/// Inverse tangent. ATANULP
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
