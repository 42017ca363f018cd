//! Single and double precision arithmetic with every rounding and modifier, one lane at a time.
//!
//! The approximate functions are computed in f64 and rounded once: well within what PTX allows.

use crate::float::{F32, Round, canonical, make_odd, odd_sum};
use crate::instr::Mods;
use crate::types::Ty;

/// Source `i` as a number.
fn load(v: [u64; 3], m: Mods, i: usize) -> f64 {
    match m.to {
        Ty::F64 => f64::from_bits(v[i]),
        _ if m.ftz => f64::from(f32::from_bits(F32.flush(v[i]) as u32)),
        _ => f64::from(f32::from_bits(v[i] as u32)),
    }
}

/// A result that is exact, or odd where inexact; `.f64` results come here already rounded.
fn store(m: Mods, value: f64) -> u64 {
    if m.to == Ty::F64 {
        return value.to_bits();
    }
    let bits = match Round::from_code(u32::from(m.round)) {
        Round::Even => u64::from(canonical(value as f32)),
        round => F32.encode(value, round),
    };
    let bits = if m.ftz { F32.flush(bits) } else { bits };
    if !m.sat {
        return bits;
    }
    let value = f32::from_bits(bits as u32);
    u64::from(if value > 0.0 { value.min(1.0).to_bits() } else { 0 })
}

/// Rounds an f64 result, given the sign of `exact - value`, in the mode of the instruction.
fn direct(m: Mods, value: f64, error: f64) -> f64 {
    if m.to != Ty::F64 {
        return make_odd(value, error);
    }
    let step = match Round::from_code(u32::from(m.round)) {
        _ if error == 0.0 || !value.is_finite() => 0,
        Round::Up => i32::from(error > 0.0),
        Round::Down => -i32::from(error < 0.0),
        Round::Zero if value > 0.0 => -i32::from(error < 0.0),
        Round::Zero => i32::from(error > 0.0),
        _ => 0,
    };
    match step {
        1 => value.next_up(),
        -1 => value.next_down(),
        _ => value,
    }
}

fn sum(m: Mods, a: f64, b: f64) -> u64 {
    let total = a + b;
    let part = total - a;
    let error = (a - (total - part)) + (b - part);
    let zero =
        total == 0.0 && m.round == Round::Down as u8 && (a != 0.0 || a.is_sign_negative() != b.is_sign_negative());
    if zero {
        return store(m, -0.0);
    }
    store(m, if error.is_nan() { total } else { direct(m, total, error) })
}

pub(crate) fn add(v: [u64; 3], m: Mods) -> u64 {
    sum(m, load(v, m, 0), load(v, m, 1))
}

pub(crate) fn sub(v: [u64; 3], m: Mods) -> u64 {
    sum(m, load(v, m, 0), -load(v, m, 1))
}

pub(crate) fn mul(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = (load(v, m, 0), load(v, m, 1));
    let product = a * b;
    let error = a.mul_add(b, -product);
    store(m, if error.is_nan() { product } else { direct(m, product, error) })
}

pub(crate) fn fma(v: [u64; 3], m: Mods) -> u64 {
    let (a, b, c) = (load(v, m, 0), load(v, m, 1), load(v, m, 2));
    match m.to {
        Ty::F64 => a.mul_add(b, c).to_bits(),
        // The product of two f32 is exact in f64.
        _ => store(m, odd_sum(a * b, c)),
    }
}

pub(crate) fn div(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = (load(v, m, 0), load(v, m, 1));
    let quotient = a / b;
    let rest = (-quotient).mul_add(b, a);
    let error = if b < 0.0 { -rest } else { rest };
    store(m, if error.is_nan() { quotient } else { direct(m, quotient, error) })
}

/// `div.approx`: very large divisors give zero.
pub(crate) fn div_approx(v: [u64; 3], m: Mods) -> u64 {
    let (a, b) = (load(v, m, 0), load(v, m, 1));
    let large = b.abs() > 2f64.powi(126) && b.is_finite();
    match large {
        true if a.is_infinite() => F32.encode(f64::NAN, Round::Even),
        true => store(m, 0.0 * a * b.signum()),
        false => store(m, a / b),
    }
}

pub(crate) fn sqrt(v: [u64; 3], m: Mods) -> u64 {
    let x = load(v, m, 0);
    let root = x.sqrt();
    let error = (-root).mul_add(root, x);
    store(m, if error.is_nan() { root } else { direct(m, root, error) })
}

pub(crate) fn rcp(v: [u64; 3], m: Mods) -> u64 {
    let x = load(v, m, 0);
    let quotient = 1.0 / x;
    let rest = (-quotient).mul_add(x, 1.0);
    let error = if x < 0.0 { -rest } else { rest };
    store(m, if error.is_nan() { quotient } else { direct(m, quotient, error) })
}

pub(crate) fn rsqrt(v: [u64; 3], m: Mods) -> u64 {
    store(m, 1.0 / load(v, m, 0).sqrt())
}

pub(crate) fn ex2(v: [u64; 3], m: Mods) -> u64 {
    store(m, load(v, m, 0).exp2())
}

pub(crate) fn lg2(v: [u64; 3], m: Mods) -> u64 {
    store(m, load(v, m, 0).log2())
}

pub(crate) fn sin(v: [u64; 3], m: Mods) -> u64 {
    store(m, load(v, m, 0).sin())
}

pub(crate) fn cos(v: [u64; 3], m: Mods) -> u64 {
    store(m, load(v, m, 0).cos())
}

pub(crate) fn tanh(v: [u64; 3], m: Mods) -> u64 {
    store(m, load(v, m, 0).tanh())
}

pub(crate) fn abs(v: [u64; 3], m: Mods) -> u64 {
    store(m, load(v, m, 0).abs())
}

pub(crate) fn neg(v: [u64; 3], m: Mods) -> u64 {
    store(m, -load(v, m, 0))
}

pub(crate) fn min(v: [u64; 3], m: Mods) -> u64 {
    store(m, smaller(load(v, m, 0), load(v, m, 1), m.nan))
}

pub(crate) fn max(v: [u64; 3], m: Mods) -> u64 {
    store(m, -smaller(-load(v, m, 0), -load(v, m, 1), m.nan))
}

/// The smaller one; -0 is smaller than +0; a NaN loses unless `nan`.
pub(crate) fn smaller(a: f64, b: f64, nan: bool) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => f64::NAN,
        (true, false) | (false, true) if nan => f64::NAN,
        (true, false) => b,
        (false, true) => a,
        _ if a == b && a.is_sign_negative() => a,
        _ if a == b => b,
        _ if a < b => a,
        _ => b,
    }
}
