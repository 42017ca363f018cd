//! The natural logarithm and the inverse hyperbolic functions.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other
//! from the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the
//! function.

use super::Arith;
use super::format::Ops;
use crate::dtype::DType;
use crate::kernel::{BinOp, Pred, UnOp};

/// `(log1p(f) - f) / f^2` for  Error 2^-26.
const LOG_F32: &[f64] = &[
    -0.5,
    0.3333320022,
    -0.2499992698,
    0.2001133561,
    -0.1667405814,
    0.1398899853,
    -0.1225278229,
    0.1407670081,
    -0.1272801757,
];

/// `(2 atanh(s) - 2s) / s^3` in s^2 for s^2 <= 0.0294. Error 2^-58.
const LOG_F64: &[f64] = &[
    0.6666666666666685,
    0.3999999999970398,
    0.28571428683853173,
    0.2222220413044024,
    0.18183293984225057,
    0.15320580455005578,
    0.14733859519520068,
];

/// `(asinh(x) / x - 1) / x^2` in x^2 for  Error 2^-33.
const ASINH_F32: &[f64] = &[
    -0.1666666567,
    0.07499940693,
    -0.0446315445,
    0.03027748689,
    -0.02181618847,
    0.01547711901,
    -0.009701001458,
    0.004686560482,
    -0.001467825845,
    0.00021623059,
];

/// The same for f64. Error 2^-62.
const ASINH_F64: &[f64] = &[
    -0.16666666666666666,
    0.07499999999999564,
    -0.044642857142422644,
    0.030381944425223788,
    -0.02237215860867875,
    0.017352756653334512,
    -0.013964757096923498,
    0.011551097823536246,
    -0.009757311322622664,
    0.008370019886768597,
    -0.0072368152238174435,
    0.006221282488456323,
    -0.005193145693858375,
    0.00406651325157351,
    -0.0028643769523486384,
    0.0017342588784305239,
    -0.0008601437824633895,
    0.0003307305506280903,
    -9.156485264068645e-5,
    1.6132839047879773e-5,
    -1.3524350093380627e-6,
];

/// `(acosh(1 + t) / sqrt(2t) - 1) / t` for t in 0..1. Error 2^-31.
const ACOSH_F32: &[f64] = &[
    -0.08333331347,
    0.01874940842,
    -0.005574647337,
    0.001872871886,
    -0.0006344947033,
    0.0001774947741,
    -2.74604572e-5,
];

/// The same for f64. Error 2^-62.
const ACOSH_F64: &[f64] = &[
    -0.08333333333333331,
    0.018749999999996582,
    -0.005580357142684723,
    0.0018988715237173266,
    -0.000699129916665682,
    0.00027113646789913285,
    -0.0001090975136097115,
    4.511221063934671e-5,
    -1.9028098210570666e-5,
    8.10564794176615e-6,
    -3.413778416476955e-6,
    1.3603074265750763e-6,
    -4.7646386792802906e-7,
    1.3202982227987661e-7,
    -2.4787908617557803e-8,
    2.2999661926087242e-9,
];

/// `(atanh(x) / x - 1) / x^2` in x^2 for  Error 2^-33.
const ATANH_F32: &[f64] =
    &[0.3333333433, 0.1999983639, 0.142924279, 0.1099297777, 0.1014059484, 0.02843613178, 0.1716763675];

/// The same for f64. Error 2^-63.
const ATANH_F64: &[f64] = &[
    0.3333333333333333,
    0.2000000000000099,
    0.14285714285582057,
    0.11111111118842276,
    0.09090908855633452,
    0.07692311425935415,
    0.06666648595309135,
    0.0588190529091064,
    0.052739500154627764,
    0.04642119568004022,
    0.05174018510287789,
    0.002468867946435504,
    0.14841471678653473,
    -0.1678043543995855,
    0.2183369020327073,
];

/// A positive number as `m * 2^k`.
pub(super) struct Split<V> {
    /// Between the lower bound and twice that.
    pub m: V,
    /// The exponent, as a float.
    pub k: V,
}

/// Splits x so that `m` starts at the number with the bits `low` (of f32, of f64), which is below 1.
pub(super) fn split<A: Arith>(a: &mut A, x: A::V, low: (u32, u64)) -> Split<A::V> {
    let f = a.format(x);
    let subnormal = a.cmp_num(Pred::Lt, x, f.min_normal);
    let shift = (f.mantissa + 1) as f64;
    let scaled = a.mul_num(x, shift.exp2());
    let scaled = a.select(subnormal, scaled, x);
    let (down, zero) = (a.num(-shift, x), a.num(0.0, x));
    let start = a.select(subnormal, down, zero);
    let bits = a.bits(scaled);
    let low = a.pick(x, i64::from(low.0), low.1 as i64);
    let above = a.bin_int(BinOp::Sub, bits, low);
    // The exponent alone, still in its place: converting it and scaling it saves a shift.
    let exponent = a.bin_int(BinOp::And, above, -1 << f.mantissa);
    let m = a.bin(BinOp::Sub, bits, exponent);
    let m = a.float(m);
    let exponent = a.convert(exponent, a.dtype(x));
    let k = a.fma_num(exponent, (-f.mantissa as f64).exp2(), start);
    Split { m, k }
}

/// Natural logarithm. At most 0.9 ulp; f64: 0.8.
pub(super) fn log<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let y = if a.dtype(x) == DType::F64 { log_f64(a, x) } else { log_f32(a, x) };
    // Infinity and NaN are themselves.
    let finite = a.cmp_num(Pred::Lt, x, f64::INFINITY);
    let y = a.select(finite, y, x);
    let is_zero = a.cmp_num(Pred::Eq, x, 0.0);
    let (nan, low) = (a.num(f64::NAN, x), a.num(f64::NEG_INFINITY, x));
    let none = a.select(is_zero, low, nan);
    let positive = a.cmp_num(Pred::Gt, x, 0.0);
    a.select(positive, y, none)
}

/// The logarithm of a positive finite f32, by a polynomial in `m - 1`.
fn log_f32<A: Arith>(a: &mut A, x: A::V) -> A::V {
    // m in 2/3 .. 4/3.
    let Split { m, k } = split(a, x, (0x3f2a_aaab, 0x3fe5_5555_5555_5555));
    let f = a.sub_num(m, 1.0);
    let p = a.poly(LOG_F32, f);
    let square = a.mul(f, f);
    let y = a.fma(square, p, f);
    a.fma_num(k, std::f64::consts::LN_2, y)
}

/// The logarithm of a positive finite f64, by a polynomial in `s = f / (2 + f)` as in fdlibm: log1p(f) = 2 atanh(s),
/// and `2s = f - s f` keeps the leading term exact.
fn log_f64<A: Arith>(a: &mut A, x: A::V) -> A::V {
    // m in sqrt(1/2) .. sqrt(2).
    let Split { m, k } = split(a, x, (0x3f35_04f3, 0x3fe6_a09e_667f_3bcd));
    let (ln2_hi, ln2_lo) = (a.format(x).ln2_hi, a.format(x).ln2_lo);
    let f = a.sub_num(m, 1.0);
    let below = a.add_num(f, 2.0);
    let s = a.div(f, below);
    let z = a.mul(s, s);
    let p = a.poly(LOG_F64, z);
    let r = a.mul(z, p);
    let half = a.mul_num(f, 0.5);
    let half_square = a.mul(half, f);
    let sum = a.add(half_square, r);
    let tail = a.mul_num(k, ln2_lo);
    let small = a.fma(s, sum, tail);
    let small = a.sub(half_square, small);
    let small = a.sub(small, f);
    let large = a.mul_num(k, ln2_hi);
    a.sub(large, small)
}

/// Inverse hyperbolic sine. At most 2.2 ulp; f64: 2.0.
pub(super) fn asinh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let square = a.mul(x, x);
    let table = a.pick(x, ASINH_F32, ASINH_F64);
    let p = a.poly(table, square);
    let cube = a.mul(square, magnitude);
    let small = a.fma(cube, p, magnitude);

    let one = a.num(1.0, x);
    let under = a.fma(x, x, one);
    let large = log_of_sum(a, magnitude, under);

    let is_small = a.cmp_num(Pred::Lt, magnitude, 1.0);
    let y = a.select(is_small, small, large);
    a.with_sign(y, x)
}

/// `log(x + sqrt(under))`, where `under` is about x squared: log(2x) where squaring would overflow.
fn log_of_sum<A: Arith>(a: &mut A, x: A::V, under: A::V) -> A::V {
    let root = a.un(UnOp::Sqrt, under);
    let sum = a.add(x, root);
    let huge = a.cmp_num(Pred::Gt, x, 30f64.exp2());
    let sum = a.select(huge, x, sum);
    let y = log(a, sum);
    let (ln2, zero) = (a.num(std::f64::consts::LN_2, x), a.num(0.0, x));
    let more = a.select(huge, ln2, zero);
    a.add(y, more)
}

/// Inverse hyperbolic cosine. At most 1.5 ulp; f64: 1.4.
pub(super) fn acosh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    // Near 1 it is a square root times a smooth function; below 1 the root is NaN.
    let t = a.sub_num(x, 1.0);
    let table = a.pick(x, ACOSH_F32, ACOSH_F64);
    let p = a.poly(table, t);
    let twice = a.add(t, t);
    let root = a.un(UnOp::Sqrt, twice);
    let rest = a.mul(root, t);
    let small = a.fma(rest, p, root);

    let minus = a.num(-1.0, x);
    let under = a.fma(x, x, minus);
    let large = log_of_sum(a, x, under);

    let is_small = a.cmp_num(Pred::Lt, x, 2.0);
    a.select(is_small, small, large)
}

/// Inverse hyperbolic tangent. At most 1.4 ulp; f64: 1.4.
pub(super) fn atanh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let square = a.mul(x, x);
    let table = a.pick(x, ATANH_F32, ATANH_F64);
    let p = a.poly(table, square);
    let cube = a.mul(square, magnitude);
    let small = a.fma(cube, p, magnitude);

    let one = a.num(1.0, x);
    let above = a.add(one, magnitude);
    let below = a.sub(one, magnitude);
    let quotient = a.div(above, below);
    let twice = log(a, quotient);
    let large = a.mul_num(twice, 0.5);

    let is_small = a.cmp_num(Pred::Lt, magnitude, 0.5);
    let y = a.select(is_small, small, large);
    a.with_sign(y, x)
}
