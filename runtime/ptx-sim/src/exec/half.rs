//! Arithmetic on f16 and bf16, single and in pairs, one lane at a time.

use crate::exec::real::smaller;
use crate::float::{BF16, F16, Format, Round, odd_sum};
use crate::instr::Mods;
use crate::types::Ty;

fn format(ty: Ty) -> Format {
    if matches!(ty, Ty::F16 | Ty::F16x2) { F16 } else { BF16 }
}

fn finish(m: Mods, value: f64) -> u64 {
    let format = format(m.to);
    let value = match value {
        // A NaN becomes zero.
        _ if m.sat => {
            if value > 0.0 {
                value.min(1.0)
            } else {
                0.0
            }
        }
        _ if m.relu && value < 0.0 => 0.0,
        _ => value,
    };
    let bits = format.encode(value, Round::Even);
    if m.ftz { format.flush(bits) } else { bits }
}

/// Applies `f` to each half, which must be exact or odd.
fn each(v: [u64; 3], m: Mods, f: impl Fn([f64; 3]) -> f64) -> u64 {
    let format = format(m.to);
    let one = |shift: u32| {
        let part = |x: u64| {
            let bits = x >> shift & 0xffff;
            format.decode(if m.ftz { format.flush(bits) } else { bits })
        };
        finish(m, f(v.map(part))) << shift
    };
    match m.to {
        Ty::F16x2 | Ty::Bf16x2 => one(0) | one(16),
        _ => one(0),
    }
}

pub(crate) fn add(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| odd_sum(x[0], x[1]))
}

pub(crate) fn sub(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| odd_sum(x[0], -x[1]))
}

pub(crate) fn mul(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| x[0] * x[1])
}

pub(crate) fn fma(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| odd_sum(x[0] * x[1], x[2]))
}

pub(crate) fn min(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| smaller(x[0], x[1], m.nan))
}

pub(crate) fn max(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| -smaller(-x[0], -x[1], m.nan))
}

pub(crate) fn abs(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| x[0].abs())
}

pub(crate) fn neg(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| -x[0])
}

pub(crate) fn ex2(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| x[0].exp2())
}

pub(crate) fn tanh(v: [u64; 3], m: Mods) -> u64 {
    each(v, m, |x| x[0].tanh())
}
