//! Remainders of floats.

use super::Arith;
use super::format::Ops;
use crate::kernel::{Pred, UnOp};

/// Remainder with the dividend's sign: C's `fmod`, exact.
///
/// Every step takes away a multiple of the divisor by one exact fused multiply-add and leaves at most 2^-23 (f64:
/// 2^-52) of the dividend. The steps suffice for every f32 quotient below 2^128 and every f64 quotient below 2^208;
/// beyond that the result is NaN.
pub(super) fn truncated<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let (dividend, divisor) = (a.abs(x), a.abs(y));
    let minus = a.neg(divisor);
    let mut rest = dividend;
    for _ in 0..a.pick(x, 6, 4) {
        let quotient = a.div(rest, divisor);
        let quotient = a.un(UnOp::Trunc, quotient);
        rest = a.fma(quotient, minus, rest);
    }
    // A quotient rounded up to the next integer took away one divisor too many.
    let negative = a.cmp_num(Pred::Lt, rest, 0.0);
    let more = a.add(rest, divisor);
    let rest = a.select(negative, more, rest);
    let done = a.cmp(Pred::Lt, rest, divisor);
    let nan = a.num(f64::NAN, x);
    let rest = a.select(done, rest, nan);
    let all = a.cmp_num(Pred::Eq, divisor, f64::INFINITY);
    let finite = a.cmp_num(Pred::Lt, dividend, f64::INFINITY);
    let all = a.and(all, finite);
    let rest = a.select(all, dividend, rest);
    a.with_sign(rest, x)
}

/// Remainder with the divisor's sign: that of [`truncated`], moved by one divisor where the signs differ.
pub(super) fn floored<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let rest = truncated(a, x, y);
    let below = a.cmp_num(Pred::Lt, rest, 0.0);
    let above = a.cmp_num(Pred::Gt, rest, 0.0);
    let y_below = a.cmp_num(Pred::Lt, y, 0.0);
    let y_above = a.cmp_num(Pred::Gt, y, 0.0);
    let low = a.and(below, y_above);
    let high = a.and(above, y_below);
    let differ = a.or(low, high);
    let moved = a.add(rest, y);
    let rest = a.select(differ, moved, rest);
    // A zero takes the divisor's sign too; the others have it by now.
    let magnitude = a.abs(rest);
    a.with_sign(magnitude, y)
}
