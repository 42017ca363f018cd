//! Bit manipulation, one lane at a time.

use crate::exec::int::{number, truncate};
use crate::instr::Mods;
use crate::types::Ty;

pub(crate) fn not(v: [u64; 3], m: Mods) -> u64 {
    truncate(m.to, !v[0])
}

pub(crate) fn cnot(v: [u64; 3], m: Mods) -> u64 {
    u64::from(truncate(m.to, v[0]) == 0)
}

pub(crate) fn popc(v: [u64; 3], _: Mods) -> u64 {
    u64::from(v[0].count_ones())
}

pub(crate) fn clz(v: [u64; 3], m: Mods) -> u64 {
    u64::from(v[0].leading_zeros() + m.to.bits() - 64)
}

pub(crate) fn brev(v: [u64; 3], m: Mods) -> u64 {
    v[0].reverse_bits() >> (64 - m.to.bits())
}

/// The position of the highest bit that differs from the sign; code 1 wants the shift that brings it to the top.
pub(crate) fn bfind(v: [u64; 3], m: Mods) -> u64 {
    let value = number(m.to, v[0]);
    let magnitude = truncate(m.to, if value < 0 { !value } else { value } as u64);
    if magnitude == 0 {
        return u64::from(u32::MAX);
    }
    let position = 63 - magnitude.leading_zeros();
    u64::from(if m.code == 1 { m.to.bits() - 1 - position } else { position })
}

pub(crate) fn bfe(v: [u64; 3], m: Mods) -> u64 {
    let bits = m.to.bits();
    let (position, length) = (v[1] as u32 & 0xff, v[2] as u32 & 0xff);
    let top = (position + length).wrapping_sub(1).min(bits - 1);
    let negative = m.to.is_signed() && length > 0 && v[0] >> top & 1 == 1;
    let field = v[0].checked_shr(position).unwrap_or(0);
    let mask = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    // Bits above the top of the source are copies of the sign.
    let available = bits.saturating_sub(position).min(length);
    let known = if available >= 64 { u64::MAX } else { (1 << available) - 1 };
    truncate(m.to, if negative { field & known | !known } else { field & known & mask })
}

/// Position and length of a field as `bfi` takes them.
pub(crate) fn pack_field(v: [u64; 3], _: Mods) -> u64 {
    v[0] & 0xff | (v[1] & 0xff) << 8
}

/// `bfi` with the position in byte 0 and the length in byte 1 of the third value.
pub(crate) fn bfi(v: [u64; 3], m: Mods) -> u64 {
    let (position, length) = (v[2] as u32 & 0xff, v[2] as u32 >> 8 & 0xff);
    let field = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let mask = field.checked_shl(position).unwrap_or(0);
    let insert = v[0].checked_shl(position).unwrap_or(0);
    truncate(m.to, v[1] & !mask | insert & mask)
}

pub(crate) fn prmt(v: [u64; 3], m: Mods) -> u64 {
    let bytes = (v[0] | v[1] << 32).to_le_bytes();
    let select = v[2];
    let low = (select & 3) as usize;
    let pick = |index: usize| -> u8 {
        let at = match m.code {
            0 => {
                let nibble = (select >> (4 * index)) as usize & 0xf;
                let byte = bytes[nibble & 7];
                return if nibble & 8 == 0 { byte } else { (byte as i8 >> 7) as u8 };
            }
            1 => low + index,
            2 => (low + 8 - index) & 7,
            3 => low,
            4 => low.max(index),
            5 => low.min(index),
            _ => (low & 1) * 2 + (index & 1),
        };
        bytes[at]
    };
    u64::from(u32::from_le_bytes(std::array::from_fn(pick)))
}

/// Bit 0 of the code: to the left; bit 1: the amount wraps.
pub(crate) fn shf(v: [u64; 3], m: Mods) -> u64 {
    let both = v[0] | v[1] << 32;
    let amount = if m.code & 2 == 2 { v[2] & 31 } else { v[2].min(32) };
    if m.code & 1 == 1 { (both << amount) >> 32 } else { both >> amount & 0xffff_ffff }
}

pub(crate) fn lop3(v: [u64; 3], m: Mods) -> u64 {
    let mut result = 0;
    for index in 0..8u8 {
        let side = |x: u64, bit: u8| if index >> bit & 1 == 1 { x } else { !x };
        if m.code >> index & 1 == 1 {
            result |= side(v[0], 2) & side(v[1], 1) & side(v[2], 0);
        }
    }
    truncate(m.to, result)
}

/// The sign of the first operand on the second.
pub(crate) fn copysign(v: [u64; 3], m: Mods) -> u64 {
    let sign = 1 << (m.to.bits() - 1);
    v[0] & sign | v[1] & (sign - 1)
}

pub(crate) fn slct_int(v: [u64; 3], _: Mods) -> u64 {
    if (v[2] as i32) >= 0 { v[0] } else { v[1] }
}

pub(crate) fn slct_float(v: [u64; 3], _: Mods) -> u64 {
    if f32::from_bits(v[2] as u32) >= 0.0 { v[0] } else { v[1] }
}

pub(crate) fn testp(v: [u64; 3], m: Mods) -> u64 {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal};
    let class = match m.to {
        Ty::F64 => f64::from_bits(v[0]).classify(),
        _ => f32::from_bits(v[0] as u32).classify(),
    };
    u64::from(match m.code {
        0 => !matches!(class, Infinite | Nan),
        1 => class == Infinite,
        2 => class != Nan,
        3 => class == Nan,
        4 => class == Normal,
        _ => class == Subnormal,
    })
}
