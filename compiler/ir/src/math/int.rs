//! Functions of integers that are not one instruction. Everything wraps.

use super::Arith;
use super::format::Ops;
use crate::kernel::{BinOp, Pred};

/// -1, 0 or 1.
pub(super) fn sign<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let y = a.bin_int(BinOp::Min, x, 1);
    if a.dtype(x).is_signed() { a.bin_int(BinOp::Max, y, -1) } else { y }
}

/// Remainder with the divisor's sign; 0 for a divisor of 0.
pub(super) fn floored_remainder<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let r = a.bin(BinOp::Rem, x, y);
    if !a.dtype(x).is_signed() {
        return r;
    }
    let zero = a.int(0, x);
    let some = a.cmp(Pred::Ne, r, zero);
    let mixed = a.bin(BinOp::Xor, r, y);
    let signs_differ = a.cmp(Pred::Lt, mixed, zero);
    let wrong = a.and(some, signs_differ);
    let right = a.add(r, y);
    a.select(wrong, right, r)
}

/// `x` to the power `y`, wrapped; a negative `y` gives 0, but for x = 1 and x = -1.
///
/// By squaring, one step for each bit of the exponent. For 1 and -1 only the lowest bit counts, and it is right for
/// negative exponents as well.
pub(super) fn pow<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let t = a.dtype(x);
    let steps = t.bits() - usize::from(t.is_signed());
    let (zero, one) = (a.int(0, x), a.int(1, x));
    let mut power = x;
    let mut product = one;
    for step in 0..steps {
        if step > 0 {
            power = a.mul(power, power);
        }
        let bit = a.bin_int(BinOp::And, y, 1 << step);
        let is_set = a.cmp(Pred::Ne, bit, zero);
        let factor = a.select(is_set, power, one);
        product = a.mul(product, factor);
    }
    if t.is_signed() { inverse_power(a, product, x, y) } else { product }
}

/// 0 where `y` is negative and `x` is neither 1 nor -1, else `product`.
fn inverse_power<A: Arith>(a: &mut A, product: A::V, x: A::V, y: A::V) -> A::V {
    let (zero, one, minus) = (a.int(0, x), a.int(1, x), a.int(-1, x));
    let inverse = a.cmp(Pred::Lt, y, zero);
    let not_one = a.cmp(Pred::Ne, x, one);
    let not_minus = a.cmp(Pred::Ne, x, minus);
    let fraction = a.and(inverse, not_one);
    let fraction = a.and(fraction, not_minus);
    a.select(fraction, zero, product)
}
