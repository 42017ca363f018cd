//! Conversions, one lane at a time.

use crate::exec::int::{number, range, truncate};
use crate::float::{BF16, F16, F32, Format, Round, TF32, make_odd};
use crate::instr::Mods;
use crate::types::Ty;

fn format(ty: Ty) -> Option<Format> {
    Some(match ty {
        Ty::F16 | Ty::F16x2 => F16,
        Ty::Bf16 | Ty::Bf16x2 => BF16,
        Ty::Tf32 => TF32,
        Ty::F32 => F32,
        _ => return None,
    })
}

/// Any `cvt` from one value; `nan` asks for a sign-extended result, because the register is wider than the type.
pub(crate) fn cvt(v: [u64; 3], m: Mods) -> u64 {
    let from_float = m.from == Ty::F64 || format(m.from).is_some();
    let to_float = m.to == Ty::F64 || format(m.to).is_some();
    let result = match (from_float, to_float) {
        (false, false) => integer_to_integer(v[0], m),
        (false, true) => integer_to_float(v[0], m),
        (true, false) => float_to_integer(v[0], m),
        (true, true) => float_to_float(v[0], m),
    };
    if m.nan { number(m.to, result) as u64 } else { result }
}

fn integer_to_integer(value: u64, m: Mods) -> u64 {
    let value = number(m.from, value);
    let (low, high) = range(m.to);
    truncate(m.to, if m.sat { value.clamp(low, high) } else { value } as u64)
}

fn integer_to_float(value: u64, m: Mods) -> u64 {
    let exact = number(m.from, value);
    let near = exact as f64;
    let error = (exact - near as i128) as f64;
    let round = Round::from_code(u32::from(m.round));
    let value = if m.sat { near.clamp(0.0, 1.0) } else { near };
    match format(m.to) {
        Some(format) => format.encode(make_odd(value, error), round),
        None => match round {
            Round::Up if error > 0.0 => near.next_up(),
            Round::Down if error < 0.0 => near.next_down(),
            Round::Zero if error < 0.0 && near > 0.0 => near.next_down(),
            Round::Zero if error > 0.0 && near < 0.0 => near.next_up(),
            _ => value,
        }
        .to_bits(),
    }
}

fn load(value: u64, m: Mods) -> f64 {
    match format(m.from) {
        Some(format) => {
            let value = truncate(m.from, value);
            format.decode(if m.ftz && m.from == Ty::F32 { format.flush(value) } else { value })
        }
        None => f64::from_bits(value),
    }
}

fn integral(x: f64, round: Round) -> f64 {
    match round {
        Round::Even | Round::Away => x.round_ties_even(),
        Round::Zero => x.trunc(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
    }
}

/// Results outside of the range are clamped. NaN gives zero, or the top bit if one side has 64 bits.
fn float_to_integer(value: u64, m: Mods) -> u64 {
    let x = load(value, m);
    if x.is_nan() {
        return if m.from == Ty::F64 || m.to.bits() == 64 { 1 << (m.to.bits() - 1) } else { 0 };
    }
    let (low, high) = range(m.to);
    let whole = integral(x, Round::from_code(u32::from(m.round)));
    truncate(m.to, (whole as i128).clamp(low, high) as u64)
}

fn float_to_float(value: u64, m: Mods) -> u64 {
    let round = Round::from_code(u32::from(m.round));
    let x = load(value, m);
    let x = if m.code == 1 { integral(x, round) } else { x };
    encode(x, m, if m.code == 1 { Round::Even } else { round })
}

fn encode(x: f64, m: Mods, round: Round) -> u64 {
    let x = match x {
        _ if m.sat => {
            if x > 0.0 {
                x.min(1.0)
            } else {
                0.0
            }
        }
        _ if m.relu && x < 0.0 => 0.0,
        _ => x,
    };
    match format(m.to) {
        Some(format) => {
            let bits = format.encode(x, round);
            if m.ftz && m.to == Ty::F32 { format.flush(bits) } else { bits }
        }
        None => x.to_bits(),
    }
}

/// Two f32 into a pair, the first one in the upper half.
pub(crate) fn packed(v: [u64; 3], m: Mods) -> u64 {
    let round = Round::from_code(u32::from(m.round));
    let half = |x: u64| encode(f64::from(f32::from_bits(x as u32)), m, round);
    half(v[0]) << 16 | half(v[1])
}

/// `cvt.pack.sat`.
pub(crate) fn pack(v: [u64; 3], m: Mods) -> u64 {
    let bits = m.to.bits();
    let (low, high) = range(m.to);
    let part = |x: u64| truncate(m.to, number(m.from, x).clamp(low, high) as u64);
    (part(v[1]) | part(v[0]) << bits | v[2].checked_shl(2 * bits).unwrap_or(0)) & 0xffff_ffff
}
