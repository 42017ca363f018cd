//! Power of floats: exp(y log |x|) with the logarithm and the product carried in two numbers each.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other
//! from the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the
//! function.

use super::Arith;
use super::exp::{clamp_high, clamp_low, exp_clamped};
use super::format::Ops;
use super::log::{Split, split};
use crate::kernel::{Pred, UnOp};

/// `(2 atanh(s) - 2s - 2/3 s^3) / s^5` in s^2 for s^2 <= 0.0294. Error 2^-36.
const REST_F32: &[f64] = &[0.4000011683, 0.2855018377, 0.2335493863];

/// The same for f64. Error 2^-65.
const REST_F64: &[f64] = &[
    0.40000000000000235,
    0.2857142857102004,
    0.22222222364499092,
    0.18181797229144603,
    0.15386196124743753,
    0.13269222494473956,
    0.13086789362007656,
];

/// A number in two parts: the rounded value, and what rounding lost.
struct Double<V> {
    hi: V,
    lo: V,
}

/// The product of two numbers in two parts.
fn product<A: Arith>(a: &mut A, x: A::V, y: A::V) -> Double<A::V> {
    let hi = a.mul(x, y);
    let minus = a.neg(hi);
    let lo = a.fma(x, y, minus);
    Double { hi, lo }
}

/// The logarithm of a positive finite number in two parts.
///
/// log(m) = 2 atanh(s) = 2s + 2/3 s^3 + ... with s = (m - 1) / (m + 1) below 0.172: the first two terms are computed in
/// two parts, and the rest is less than 2^-12 of them.
fn log_double<A: Arith>(a: &mut A, x: A::V) -> Double<A::V> {
    // m in sqrt(1/2) .. sqrt(2).
    let Split { m, k } = split(a, x, (0x3f35_04f3, 0x3fe6_a09e_667f_3bcd));
    let (ln2_hi, ln2_lo) = (a.format(x).ln2_hi, a.format(x).ln2_lo);
    let s = atanh_argument(a, m);
    let square = product(a, s.hi, s.hi);
    let cross = a.mul(s.hi, s.lo);
    let square_lo = a.fma_num(cross, 2.0, square.lo);
    let cube = product(a, s.hi, square.hi);
    let lo = a.fma(s.hi, square_lo, cube.lo);
    let cube_lo = a.fma(s.lo, square.hi, lo);
    let (third_hi, third_lo) = a.pick(x, TWO_THIRDS_F32, TWO_THIRDS_F64);
    let two_thirds = a.num(third_hi, x);
    let term = product(a, cube.hi, two_thirds);
    let lo = a.fma_num(cube.hi, third_lo, term.lo);
    let term_lo = a.fma(cube_lo, two_thirds, lo);
    let table = a.pick(x, REST_F32, REST_F64);
    let p = a.poly(table, square.hi);
    let fifth = a.mul(cube.hi, square.hi);

    let exponent = a.mul_num(k, ln2_hi);
    let twice = a.add(s.hi, s.hi);
    let (sum, lost) = a.fast_two_sum(exponent, twice);
    let (sum, lost_too) = a.fast_two_sum(sum, term.hi);
    let lo = a.fma(fifth, p, term_lo);
    let lo = a.fma_num(s.lo, 2.0, lo);
    let lo = a.fma_num(k, ln2_lo, lo);
    let lo = a.add(lo, lost_too);
    let lo = a.add(lo, lost);
    let (hi, lo) = a.fast_two_sum(sum, lo);
    Double { hi, lo }
}

/// Two thirds in two parts.
const TWO_THIRDS_F32: (f64, f64) = (0.6666666865348816, -1.9868215517249155e-8);
/// The same for f64.
const TWO_THIRDS_F64: (f64, f64) = (0.6666666666666666, 3.700743415417188e-17);

/// `(m - 1) / (m + 1)` in two parts, for m between 1/2 and 2.
fn atanh_argument<A: Arith>(a: &mut A, m: A::V) -> Double<A::V> {
    let one = a.num(1.0, m);
    let above = a.sub(m, one);
    let (below, below_lo) = a.fast_two_sum(one, m);
    let inverse = a.div(one, below);
    let hi = a.mul(above, inverse);
    let minus = a.neg(hi);
    let left = a.fma(minus, below, above);
    let left = a.fma(minus, below_lo, left);
    Double { hi, lo: a.mul(left, inverse) }
}

/// `x` to the power `y`, with the special cases of IEEE 754 `pow`. At most 1.2 ulp; f64: 1.1.
pub(super) fn pow<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let magnitude = a.abs(x);
    let r = positive_pow(a, magnitude, y);
    let r = signed(a, r, x, y);
    // 1 to any power and anything to the power 0 is 1, even for NaN.
    let exponent_zero = a.cmp_num(Pred::Eq, y, 0.0);
    let base_one = a.cmp_num(Pred::Eq, x, 1.0);
    let is_one = a.or(exponent_zero, base_one);
    let one = a.num(1.0, x);
    a.select(is_one, one, r)
}

/// `x^y` for x not below 0.
fn positive_pow<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let log = log_double(a, x);
    // Zero and infinity have the logarithms that give the right limits below.
    let finite = a.cmp_num(Pred::Lt, x, f64::INFINITY);
    let log_hi = a.select(finite, log.hi, x);
    let is_zero = a.cmp_num(Pred::Eq, x, 0.0);
    let low = a.num(f64::NEG_INFINITY, x);
    let log_hi = a.select(is_zero, low, log_hi);
    let power = product(a, y, log_hi);
    let tail = a.fma(y, log.lo, power.lo);
    // Beyond the range of exp the tail does not matter, and may be NaN.
    let size = a.abs(power.hi);
    let in_range = a.cmp_num(Pred::Lt, size, 1000.0);
    let zero = a.num(0.0, x);
    let tail = a.select(in_range, tail, zero);
    let power = clamp_low(a, power.hi);
    let power = clamp_high(a, power);
    let r = exp_clamped(a, power, Some(tail), 0);
    // 1 to an infinite power: the product above is NaN. A NaN power remains one.
    let base_one = a.cmp_num(Pred::Eq, x, 1.0);
    let power_number = a.cmp(Pred::Eq, y, y);
    let is_one = a.and(base_one, power_number);
    let one = a.num(1.0, x);
    a.select(is_one, one, r)
}

/// `|x|^y` turned into `x^y`: negative for a negative x and odd y, NaN for a negative finite x and broken y.
fn signed<A: Arith>(a: &mut A, r: A::V, x: A::V, y: A::V) -> A::V {
    let floor = a.un(UnOp::Floor, y);
    let broken = a.cmp(Pred::Ne, floor, y);
    let half = a.mul_num(y, 0.5);
    let half_floor = a.un(UnOp::Floor, half);
    let half_broken = a.cmp(Pred::Ne, half_floor, half);
    let whole = a.un(UnOp::Not, broken);
    let odd = a.and(whole, half_broken);
    let sign = a.sign_bit(x);
    let none = a.int(0, sign);
    let sign = a.select(odd, sign, none);
    let r = a.xor_sign(r, sign);
    let negative = a.cmp_num(Pred::Lt, x, 0.0);
    let finite = a.cmp_num(Pred::Gt, x, f64::NEG_INFINITY);
    let undefined = a.and(negative, broken);
    let undefined = a.and(undefined, finite);
    let nan = a.num(f64::NAN, x);
    a.select(undefined, nan, r)
}
