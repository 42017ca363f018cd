//! Integer arithmetic, one lane at a time, on values of the type in the modifiers.

use crate::instr::Mods;
use crate::types::Ty;

/// The low bits that `ty` has.
pub(crate) fn truncate(ty: Ty, value: u64) -> u64 {
    match ty.bits() {
        64 => value,
        bits => value & ((1 << bits) - 1),
    }
}

/// The value as a number: sign- or zero-extended from `ty`.
pub(crate) fn number(ty: Ty, value: u64) -> i128 {
    let unused = 64 - ty.bits();
    if ty.is_signed() { i128::from((value << unused) as i64 >> unused) } else { i128::from(truncate(ty, value)) }
}

/// The smallest and largest numbers of `ty`.
pub(crate) fn range(ty: Ty) -> (i128, i128) {
    let bits = ty.bits();
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

fn wrap(m: Mods, value: i128) -> u64 {
    truncate(m.to, value as u64)
}

fn pair(v: [u64; 3], m: Mods) -> (i128, i128) {
    (number(m.to, v[0]), number(m.to, v[1]))
}

fn finish(m: Mods, value: i128) -> u64 {
    let (low, high) = range(m.to);
    wrap(m, if m.sat { value.clamp(low, high) } else { value })
}

pub(crate) fn add(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    finish(m, a + b)
}

pub(crate) fn sub(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    finish(m, a - b)
}

pub(crate) fn mul_lo(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    wrap(m, a.wrapping_mul(b))
}

/// The upper half of the product; unsigned 64-bit products need all of u128.
fn high(v: [u64; 3], m: Mods) -> u64 {
    let bits = m.to.bits();
    let (a, b) = pair(v, m);
    match m.to.is_signed() {
        true => truncate(m.to, ((a * b) >> bits) as u64),
        false => truncate(m.to, ((a as u128 * b as u128) >> bits) as u64),
    }
}

pub(crate) fn mul_hi(v: [u64; 3], m: Mods) -> u64 {
    high(v, m)
}

pub(crate) fn mad_lo(v: [u64; 3], m: Mods) -> u64 {
    truncate(m.to, mul_lo(v, m).wrapping_add(v[2]))
}

pub(crate) fn mad_hi(v: [u64; 3], m: Mods) -> u64 {
    truncate(m.to, high(v, m).wrapping_add(v[2]))
}

pub(crate) fn mul_wide(v: [u64; 3], m: Mods) -> u64 {
    wrap(m, number(m.from, v[0]) * number(m.from, v[1]))
}

pub(crate) fn mad_wide(v: [u64; 3], m: Mods) -> u64 {
    truncate(m.to, mul_wide(v, m).wrapping_add(v[2]))
}

/// A quotient by zero is unspecified: all bits set here.
pub(crate) fn div(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    wrap(m, if b == 0 { -1 } else { a / b })
}

/// A remainder by zero is unspecified: all bits set here.
pub(crate) fn rem(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    wrap(m, if b == 0 { -1 } else { a % b })
}

pub(crate) fn abs(v: [u64; 3], m: Mods) -> u64 {
    wrap(m, number(m.to, v[0]).abs())
}

pub(crate) fn neg(v: [u64; 3], m: Mods) -> u64 {
    wrap(m, -number(m.to, v[0]))
}

pub(crate) fn min(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    relu(m, a.min(b))
}

pub(crate) fn max(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    relu(m, a.max(b))
}

fn relu(m: Mods, value: i128) -> u64 {
    wrap(m, if m.relu { value.max(0) } else { value })
}

pub(crate) fn sad(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = pair(v, m);
    wrap(m, number(m.to, v[2]) + (a - b).abs())
}

/// Shift amounts above the width behave like the width.
pub(crate) fn shl(v: [u64; 3], m: Mods) -> u64 {
    truncate(m.to, v[0].checked_shl(v[1] as u32).unwrap_or(0))
}

/// Shift amounts above the width behave like the width.
pub(crate) fn shr(v: [u64; 3], m: Mods) -> u64 {
    wrap(m, number(m.to, v[0]) >> (v[1] as u32).min(64))
}

fn product24(v: [u64; 3], m: Mods) -> u64 {
    let part = |x: u64| match m.to {
        Ty::S32 => i64::from((x as i32) << 8 >> 8),
        _ => (x & 0xff_ffff) as i64,
    };
    let product = part(v[0]) * part(v[1]);
    truncate(m.to, (if m.code == 0 { product } else { product >> 16 }) as u64)
}

pub(crate) fn mul24(v: [u64; 3], m: Mods) -> u64 {
    product24(v, m)
}

pub(crate) fn mad24(v: [u64; 3], m: Mods) -> u64 {
    truncate(m.to, product24(v, m).wrapping_add(v[2]))
}

/// Four products of bytes and a sum; bit 0 of the code: `a` is signed, bit 1: `b` is.
pub(crate) fn dp4a(v: [u64; 3], m: Mods) -> u64 {
    let byte = |x: u64, i: u32, signed: bool| {
        let byte = (x >> (8 * i)) as u8;
        if signed { i64::from(byte as i8) } else { i64::from(byte) }
    };
    let term = |i| byte(v[0], i, m.code & 1 == 1) * byte(v[1], i, m.code & 2 == 2);
    truncate(m.to, (0..4).map(term).sum::<i64>().wrapping_add(v[2] as i64) as u64)
}
