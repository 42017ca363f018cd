//! The natural logarithm and the inverse hyperbolic functions.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other from
//! the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the function.

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
    0.666666666666668517,
    0.399999999997039779,
    0.285714286838531728,
    0.222222041304402401,
    0.181832939842250574,
    0.15320580455005578,
    0.147338595195200678,
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
    -0.166666666666666657,
    0.0749999999999956396,
    -0.0446428571424226442,
    0.0303819444252237877,
    -0.0223721586086787494,
    0.0173527566533345119,
    -0.0139647570969234983,
    0.0115510978235362459,
    -0.00975731132262266411,
    0.00837001988676859716,
    -0.00723681522381744349,
    0.00622128248845632299,
    -0.00519314569385837498,
    0.00406651325157351019,
    -0.00286437695234863839,
    0.00173425887843052387,
    -0.000860143782463389499,
    0.000330730550628090324,
    -0.0000915648526406864549,
    0.0000161328390478797731,
    -1.35243500933806271e-6,
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
    -0.0833333333333333148,
    0.0187499999999965819,
    -0.00558035714268472274,
    0.00189887152371732656,
    -0.000699129916665681994,
    0.000271136467899132851,
    -0.000109097513609711499,
    0.0000451122106393467084,
    -0.0000190280982105706656,
    8.10564794176614988e-6,
    -3.41377841647695481e-6,
    1.36030742657507625e-6,
    -4.76463867928029061e-7,
    1.32029822279876614e-7,
    -2.47879086175578025e-8,
    2.29996619260872422e-9,
];

/// `(atanh(x) / x - 1) / x^2` in x^2 for  Error 2^-33.
const ATANH_F32: &[f64] = &[
    0.3333333433,
    0.1999983639,
    0.142924279,
    0.1099297777,
    0.1014059484,
    0.02843613178,
    0.1716763675,
];

/// The same for f64. Error 2^-63.
const ATANH_F64: &[f64] = &[
    0.333333333333333315,
    0.200000000000009892,
    0.142857142855820574,
    0.111111111188422762,
    0.0909090885563345191,
    0.07692311425935415,
    0.0666664859530913534,
    0.0588190529091063979,
    0.0527395001546277636,
    0.046421195680040217,
    0.0517401851028778878,
    0.00246886794643550421,
    0.148414716786534728,
    -0.167804354399585492,
    0.218336902032707308,
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

/// Natural logarithm. LOGULP
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

/// The logarithm of a positive finite f64, by a polynomial in `s = f / (2 + f)` as in fdlibm: log1p(f) = 2 atanh(s), and
/// `2s = f - s f` keeps the leading term exact.
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

/// Inverse hyperbolic sine. ASINHULP
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

/// Inverse hyperbolic cosine. ACOSHULP
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

/// Inverse hyperbolic tangent. ATANHULP
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
