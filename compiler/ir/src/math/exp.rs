//! The exponential and what follows from it: exp, sinh, cosh, tanh, sigmoid, softplus.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other
//! from the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the
//! function.

use super::Arith;
use super::format::Ops;
use crate::kernel::{BinOp, Pred};

/// `(expm1(r) - r) / r^2` for  Error 2^-26.
const EXP_F32: &[f64] = &[0.5, 0.166665405, 0.04166661575, 0.008366997354, 0.001391654019];

/// The same for f64. Error 2^-57.
const EXP_F64: &[f64] = &[
    0.5,
    0.16666666666666677,
    0.041666666666666664,
    0.008333333333321282,
    0.0013888888888894063,
    0.00019841269887131363,
    2.480158727860568e-5,
    2.755724359102151e-6,
    2.755732095582386e-7,
    2.5108966462930018e-8,
    2.0900689499995757e-9,
];

/// `(sinh(x) / x - 1) / x^2` in x^2 for  Error 2^-31.
const SINH_F32: &[f64] = &[0.1666666716, 0.008333311416, 0.000198426118, 2.784143362e-6];

/// The same for f64. Error 2^-62.
const SINH_F64: &[f64] = &[
    0.16666666666666666,
    0.008333333333333588,
    0.00019841269841040923,
    2.755731931994306e-6,
    2.505208704671163e-8,
    1.606163981444145e-10,
    7.483871898388514e-13,
    6.9757738851883116e-15,
];

/// `(log1p(e) - e) / e^2` for e in 0..1. Error 2^-27.
const LOG1P_F32: &[f64] = &[
    -0.4999995232,
    0.3333101869,
    -0.2496341169,
    0.197184816,
    -0.1541804969,
    0.1078138724,
    -0.058617495,
    0.02069340087,
    -0.003423467744,
];

/// The same for f64. Error 2^-60.
const LOG1P_F64: &[f64] = &[
    -0.49999999999999994,
    0.3333333333333098,
    -0.24999999999763498,
    0.19999999989227488,
    -0.1666666638586015,
    0.14285709559231793,
    -0.12499944696403671,
    0.11110638495071191,
    -0.09996944847168815,
    0.09075577305929164,
    -0.0827240671293411,
    0.07497544234582255,
    -0.06635420761903048,
    0.05576347284099992,
    -0.042946780315571684,
    0.02914626755634859,
    -0.01673721264859658,
    0.007789296281204513,
    -0.0027916237518107977,
    0.000717652318724299,
    -0.00011718478830857665,
    9.097933559785513e-6,
];

/// x = n ln 2 + r with n an integer and |r| at most half of ln 2.
struct Reduced<V> {
    /// `expm1(r)`.
    expm1: V,
    /// An integer whose low bits hold `n + bias`.
    n: V,
}

/// Reduces `x + tail`. The tail is far below `x`; without it `x` is exact.
fn reduce<A: Arith>(a: &mut A, x: A::V, tail: Option<A::V>, bias: i64) -> Reduced<A::V> {
    let f = a.format(x);
    // The sum is so large that its last bit counts ones: the addition rounds x / ln 2 to an integer.
    let magic = a.num(f.magic + bias as f64, x);
    let sum = a.fma_num(x, std::f64::consts::LOG2_E, magic);
    let n = a.sub(sum, magic);
    let r = a.fma_num(n, -f.ln2_hi, x);
    let r = a.fma_num(n, -f.ln2_lo, r);
    let r = tail.map_or(r, |tail| a.add(r, tail));
    let table = a.pick(x, EXP_F32, EXP_F64);
    let p = a.poly(table, r);
    let square = a.mul(r, r);
    let expm1 = a.fma(square, p, r);
    Reduced { expm1, n: a.bits(sum) }
}

/// `exp(x + tail) * 2^shift` for x within the limits of [`clamp_low`] and [`clamp_high`].
///
/// 2^n is applied as two factors, so that results beyond the largest number become infinite and those below the
/// smallest normal number are rounded once, to a subnormal.
pub(super) fn exp_clamped<A: Arith>(a: &mut A, x: A::V, tail: Option<A::V>, shift: i64) -> A::V {
    let f = a.format(x);
    // Twice the exponent bias: halving the integer gives the bits of a power of two, and so does what is left.
    let reduced = reduce(a, x, tail, 2 * f.bias + shift);
    let half = a.bin_int(BinOp::Shr, reduced.n, 1);
    let rest = a.bin(BinOp::Sub, reduced.n, half);
    let first = power_of_two(a, half, x);
    let second = power_of_two(a, rest, x);
    let y = a.add_num(reduced.expm1, 1.0);
    let y = a.mul(y, first);
    a.mul(y, second)
}

/// The power of two whose biased exponent is in the low bits of `n`, in the format of `like`.
fn power_of_two<A: Arith>(a: &mut A, n: A::V, like: A::V) -> A::V {
    let mantissa = a.format(like).mantissa;
    let bits = a.bin_int(BinOp::Shl, n, mantissa);
    a.float(bits)
}

/// At least a number whose exponential is 0.
pub(super) fn clamp_low<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let low = a.pick(x, -104.0, -746.0);
    a.max_num(x, low)
}

/// At most a number whose exponential, and half of it, is infinite.
pub(super) fn clamp_high<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let high = a.pick(x, 90.0, 711.0);
    a.min_num(x, high)
}

/// e to the x. At most 1.1 ulp; f64: 1.0.
pub(super) fn exp<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let x = clamp_low(a, x);
    let x = clamp_high(a, x);
    exp_clamped(a, x, None, 0)
}

/// `exp(-|x|)`.
fn exp_of_minus_abs<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let negative = a.neg(magnitude);
    let negative = clamp_low(a, negative);
    exp_clamped(a, negative, None, 0)
}

/// `1 / (1 + exp(-x))`. At most 2.4 ulp; f64: 2.3.
pub(super) fn sigmoid<A: Arith>(a: &mut A, x: A::V) -> A::V {
    // With e = exp(-|x|) nothing overflows and small results keep their precision: 1 / (1 + e) or e / (1 + e).
    let e = exp_of_minus_abs(a, x);
    let one = a.num(1.0, x);
    let below = a.add(e, one);
    let negative = a.cmp_num(Pred::Lt, x, 0.0);
    let above = a.select(negative, e, one);
    a.div(above, below)
}

/// `log(1 + exp(x))`, as `max(x, 0) + log1p(exp(-|x|))`. At most 1.7 ulp; f64: 1.5.
pub(super) fn softplus<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let e = exp_of_minus_abs(a, x);
    let table = a.pick(x, LOG1P_F32, LOG1P_F64);
    let p = a.poly(table, e);
    let square = a.mul(e, e);
    let log1p = a.fma(square, p, e);
    let positive = a.max_num(x, 0.0);
    a.add(positive, log1p)
}

/// Hyperbolic tangent, as `expm1(2|x|) / (expm1(2|x|) + 2)`. At most 2.3 ulp; f64: 2.0.
pub(super) fn tanh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    // From here on the quotient is exactly 1.
    let limit = a.pick(x, 10.0, 20.0);
    let magnitude = a.min_num(magnitude, limit);
    let twice = a.add(magnitude, magnitude);
    let bias = a.format(x).bias;
    let reduced = reduce(a, twice, None, bias);
    let scale = power_of_two(a, reduced.n, x);
    let less = a.sub_num(scale, 1.0);
    let expm1 = a.fma(reduced.expm1, scale, less);
    let below = a.add_num(expm1, 2.0);
    let y = a.div(expm1, below);
    a.with_sign(y, x)
}

/// `exp(|x|) / 2`, and a quarter of its inverse.
fn half_exponentials<A: Arith>(a: &mut A, x: A::V) -> (A::V, A::V) {
    let magnitude = a.abs(x);
    let magnitude = clamp_high(a, magnitude);
    let half = exp_clamped(a, magnitude, None, -1);
    let quarter = a.num(0.25, x);
    (half, a.div(quarter, half))
}

/// Hyperbolic sine. At most 1.7 ulp; f64: 1.6.
pub(super) fn sinh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let square = a.mul(x, x);
    let table = a.pick(x, SINH_F32, SINH_F64);
    let p = a.poly(table, square);
    let cube = a.mul(square, magnitude);
    let small = a.fma(cube, p, magnitude);
    let (half, inverse) = half_exponentials(a, x);
    let large = a.sub(half, inverse);
    let is_small = a.cmp_num(Pred::Lt, magnitude, 1.0);
    let y = a.select(is_small, small, large);
    a.with_sign(y, x)
}

/// Hyperbolic cosine. At most 1.5 ulp; f64: 1.4.
pub(super) fn cosh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let (half, inverse) = half_exponentials(a, x);
    a.add(half, inverse)
}
