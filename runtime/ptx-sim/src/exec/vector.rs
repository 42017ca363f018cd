//! The frequent arithmetic, for all lanes of a warp at once.
//!
//! Every loop runs over all lanes whatever the mask says, so that the compiler vectorises it; the mask decides which
//! results are kept. None of the functions can fail, so lanes outside of the mask do no harm.

use crate::exec::{compare, each};
use crate::fault::Stop;
use crate::float::{canonical, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::instr::{Bin32, Bin64, Cmp, Kind, Logic, Op, Shift64, Tri32, Un32};
use crate::regs::{LANES, Regs, Row32, Slot};

#[inline(always)]
fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

#[inline(always)]
fn un(r: &mut Regs, mask: u32, d: Slot, a: Slot, g: impl Fn(u32) -> u32) -> Result<(), Stop> {
    r.need32(mask, [a])?;
    let a = r.w32[a as usize];
    let row: Row32 = each(|i| g(a[i]));
    r.set32(d, mask, &row);
    Ok(())
}

#[inline(always)]
fn bin(r: &mut Regs, mask: u32, s: [Slot; 3], g: impl Fn(u32, u32) -> u32) -> Result<(), Stop> {
    r.need32(mask, [s[1], s[2]])?;
    let (a, b) = (&r.w32[s[1] as usize], &r.w32[s[2] as usize]);
    let row: Row32 = each(|i| g(a[i], b[i]));
    r.set32(s[0], mask, &row);
    Ok(())
}

#[inline(always)]
fn tri(r: &mut Regs, mask: u32, s: [Slot; 4], g: impl Fn(u32, u32, u32) -> u32) -> Result<(), Stop> {
    r.need32(mask, [s[1], s[2], s[3]])?;
    let (a, b, c) = (&r.w32[s[1] as usize], &r.w32[s[2] as usize], &r.w32[s[3] as usize]);
    let row: Row32 = each(|i| g(a[i], b[i], c[i]));
    r.set32(s[0], mask, &row);
    Ok(())
}

#[inline(always)]
fn bin64(r: &mut Regs, mask: u32, s: [Slot; 3], g: impl Fn(u64, u64) -> u64) -> Result<(), Stop> {
    r.need64(mask, [s[1], s[2]])?;
    let (a, b) = (&r.w64[s[1] as usize], &r.w64[s[2] as usize]);
    let row = each(|i| g(a[i], b[i]));
    r.set64(s[0], mask, &row);
    Ok(())
}

#[inline(always)]
fn shift64(r: &mut Regs, mask: u32, s: [Slot; 3], g: impl Fn(u64, u32) -> u64) -> Result<(), Stop> {
    r.need64(mask, [s[1]])?;
    r.need32(mask, [s[2]])?;
    let (a, b) = (&r.w64[s[1] as usize], &r.w32[s[2] as usize]);
    let row = each(|i| g(a[i], b[i]));
    r.set64(s[0], mask, &row);
    Ok(())
}

/// Executes `op`, one of the vectorised variants.
#[inline(always)]
pub(crate) fn execute(r: &mut Regs, op: &Op, mask: u32) -> Result<(), Stop> {
    match *op {
        Op::Un32 { f, d, a } => unary(r, mask, f, d, a),
        Op::Bin32 { f, d, a, b } => binary(r, mask, f, [d, a, b]),
        Op::Tri32 { f: Tri32::Mad, d, a, b, c } => {
            tri(r, mask, [d, a, b, c], |a, b, c| a.wrapping_mul(b).wrapping_add(c))
        }
        Op::Tri32 { f: Tri32::Fma, d, a, b, c } => {
            tri(r, mask, [d, a, b, c], |a, b, c| canonical(f(a).mul_add(f(b), f(c))))
        }
        Op::Mov64 { d, a } => {
            r.need64(mask, [a])?;
            let row = r.w64[a as usize];
            r.set64(d, mask, &row);
            Ok(())
        }
        Op::Bin64 { f, d, a, b } => binary64(r, mask, f, [d, a, b]),
        Op::Shift64 { f, d, a, b } => shifts(r, mask, f, [d, a, b]),
        Op::MulWide { signed, d, a, b } => mul_wide(r, mask, signed, [d, a, b]),
        Op::MadWide { signed, d, a, b, c } => mad_wide(r, mask, signed, [d, a, b, c]),
        Op::Widen { signed, d, a } => {
            r.need32(mask, [a])?;
            let a = &r.w32[a as usize];
            let row = each(|i| if signed { i64::from(a[i] as i32) as u64 } else { u64::from(a[i]) });
            r.set64(d, mask, &row);
            Ok(())
        }
        Op::Narrow { d, a } => {
            r.need64(mask, [a])?;
            let a = &r.w64[a as usize];
            let row = each(|i| a[i] as u32);
            r.set32(d, mask, &row);
            Ok(())
        }
        Op::Setp32 { kind, cmp, d, a, b } => setp32(r, mask, kind, cmp, [d, a, b]),
        Op::Setp64 { signed, cmp, d, a, b } => setp64(r, mask, signed, cmp, [d, a, b]),
        Op::Select32 { d, a, b, p } => {
            r.need32(mask, [a, b])?;
            r.need_pred(mask, p)?;
            let (a, b, p) = (&r.w32[a as usize], &r.w32[b as usize], r.pred[p as usize]);
            let row = each(|i| if p >> i & 1 == 1 { a[i] } else { b[i] });
            r.set32(d, mask, &row);
            Ok(())
        }
        Op::Select64 { d, a, b, p } => {
            r.need64(mask, [a, b])?;
            r.need_pred(mask, p)?;
            let (a, b, p) = (&r.w64[a as usize], &r.w64[b as usize], r.pred[p as usize]);
            let row = each(|i| if p >> i & 1 == 1 { a[i] } else { b[i] });
            r.set64(d, mask, &row);
            Ok(())
        }
        _ => predicates(r, op, mask),
    }
}

#[inline(always)]
fn unary(r: &mut Regs, mask: u32, op: Un32, d: Slot, a: Slot) -> Result<(), Stop> {
    match op {
        Un32::Mov => un(r, mask, d, a, |a| a),
        Un32::Not => un(r, mask, d, a, |a| !a),
        Un32::Neg => un(r, mask, d, a, u32::wrapping_neg),
        Un32::FNeg => un(r, mask, d, a, |a| a ^ 0x8000_0000),
        Un32::FAbs => un(r, mask, d, a, |a| a & 0x7fff_ffff),
        Un32::F16ToF32 => un(r, mask, d, a, |a| canonical(f16_to_f32(a))),
        Un32::Bf16ToF32 => un(r, mask, d, a, |a| canonical(f(a << 16))),
        Un32::F32ToF16 => un(r, mask, d, a, |a| f32_to_f16(f(a))),
        Un32::F32ToBf16 => un(r, mask, d, a, |a| f32_to_bf16(f(a))),
        Un32::S32ToF32 => un(r, mask, d, a, |a| (a as i32 as f32).to_bits()),
        Un32::U32ToF32 => un(r, mask, d, a, |a| (a as f32).to_bits()),
        Un32::Low16 => un(r, mask, d, a, |a| a & 0xffff),
        Un32::Low8 => un(r, mask, d, a, |a| a & 0xff),
        Un32::Sign8 => un(r, mask, d, a, |a| i32::from(a as i8) as u32),
        Un32::Sign16 => un(r, mask, d, a, |a| i32::from(a as i16) as u32),
    }
}

/// `min` and `max` of numbers: a NaN loses, and -0 is smaller than +0.
#[inline(always)]
fn fmin(a: u32, b: u32) -> u32 {
    let (x, y) = (f(a), f(b));
    let smaller = if x < y || x == y && a >> 31 == 1 { a } else { b };
    let chosen = if y.is_nan() { a } else { smaller };
    let chosen = if x.is_nan() { b } else { chosen };
    canonical(f(chosen))
}

#[inline(always)]
fn binary(r: &mut Regs, mask: u32, op: Bin32, s: [Slot; 3]) -> Result<(), Stop> {
    const SIGN: u32 = 0x8000_0000;
    match op {
        Bin32::Add => bin(r, mask, s, u32::wrapping_add),
        Bin32::Sub => bin(r, mask, s, u32::wrapping_sub),
        Bin32::Mul => bin(r, mask, s, u32::wrapping_mul),
        Bin32::MinS => bin(r, mask, s, |a, b| (a as i32).min(b as i32) as u32),
        Bin32::MaxS => bin(r, mask, s, |a, b| (a as i32).max(b as i32) as u32),
        Bin32::MinU => bin(r, mask, s, u32::min),
        Bin32::MaxU => bin(r, mask, s, u32::max),
        Bin32::And => bin(r, mask, s, |a, b| a & b),
        Bin32::Or => bin(r, mask, s, |a, b| a | b),
        Bin32::Xor => bin(r, mask, s, |a, b| a ^ b),
        Bin32::Shl => bin(r, mask, s, |a, b| if b < 32 { a << (b & 31) } else { 0 }),
        Bin32::ShrU => bin(r, mask, s, |a, b| if b < 32 { a >> (b & 31) } else { 0 }),
        Bin32::ShrS => bin(r, mask, s, |a, b| (a as i32 >> b.min(31)) as u32),
        Bin32::FAdd => bin(r, mask, s, |a, b| canonical(f(a) + f(b))),
        Bin32::FSub => bin(r, mask, s, |a, b| canonical(f(a) - f(b))),
        Bin32::FMul => bin(r, mask, s, |a, b| canonical(f(a) * f(b))),
        Bin32::FMin => bin(r, mask, s, fmin),
        // A NaN stays one without its sign.
        Bin32::FMax => bin(r, mask, s, |a, b| canonical(f(fmin(a ^ SIGN, b ^ SIGN) ^ SIGN))),
        Bin32::PackBf16 => bin(r, mask, s, |a, b| f32_to_bf16(f(a)) << 16 | f32_to_bf16(f(b))),
        Bin32::PackF16 => bin(r, mask, s, |a, b| f32_to_f16(f(a)) << 16 | f32_to_f16(f(b))),
        Bin32::Pack16 => bin(r, mask, s, |a, b| a & 0xffff | b << 16),
    }
}

#[inline(always)]
fn binary64(r: &mut Regs, mask: u32, op: Bin64, s: [Slot; 3]) -> Result<(), Stop> {
    match op {
        Bin64::Add => bin64(r, mask, s, u64::wrapping_add),
        Bin64::Sub => bin64(r, mask, s, u64::wrapping_sub),
        Bin64::Mul => bin64(r, mask, s, u64::wrapping_mul),
        Bin64::And => bin64(r, mask, s, |a, b| a & b),
        Bin64::Or => bin64(r, mask, s, |a, b| a | b),
        Bin64::Xor => bin64(r, mask, s, |a, b| a ^ b),
    }
}

#[inline(always)]
fn shifts(r: &mut Regs, mask: u32, op: Shift64, s: [Slot; 3]) -> Result<(), Stop> {
    match op {
        Shift64::Shl => shift64(r, mask, s, |a, b| if b < 64 { a << (b & 63) } else { 0 }),
        Shift64::ShrU => shift64(r, mask, s, |a, b| if b < 64 { a >> (b & 63) } else { 0 }),
        Shift64::ShrS => shift64(r, mask, s, |a, b| (a as i64 >> b.min(63)) as u64),
    }
}

#[inline(always)]
fn product(signed: bool, a: u32, b: u32) -> u64 {
    if signed { (i64::from(a as i32) * i64::from(b as i32)) as u64 } else { u64::from(a) * u64::from(b) }
}

#[inline(always)]
fn mul_wide(r: &mut Regs, mask: u32, signed: bool, s: [Slot; 3]) -> Result<(), Stop> {
    r.need32(mask, [s[1], s[2]])?;
    let (a, b) = (&r.w32[s[1] as usize], &r.w32[s[2] as usize]);
    let row = each(|i| product(signed, a[i], b[i]));
    r.set64(s[0], mask, &row);
    Ok(())
}

#[inline(always)]
fn mad_wide(r: &mut Regs, mask: u32, signed: bool, s: [Slot; 4]) -> Result<(), Stop> {
    r.need32(mask, [s[1], s[2]])?;
    r.need64(mask, [s[3]])?;
    let (a, b, c) = (&r.w32[s[1] as usize], &r.w32[s[2] as usize], &r.w64[s[3] as usize]);
    let row = each(|i| product(signed, a[i], b[i]).wrapping_add(c[i]));
    r.set64(s[0], mask, &row);
    Ok(())
}

/// The bit mask of the lanes for which `g` is true.
#[inline(always)]
fn ballot(g: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for i in 0..LANES {
        bits |= u32::from(g(i)) << i;
    }
    bits
}

macro_rules! compare_lanes {
    ($cmp:expr, $a:expr, $b:expr, $as:expr) => {{
        let (a, b) = ($a, $b);
        match $cmp {
            Cmp::Eq => ballot(|i| $as(a[i]) == $as(b[i])),
            Cmp::Ne => ballot(|i| compare::ordered_ne($as(a[i]), $as(b[i]))),
            Cmp::Lt => ballot(|i| $as(a[i]) < $as(b[i])),
            Cmp::Le => ballot(|i| $as(a[i]) <= $as(b[i])),
            Cmp::Gt => ballot(|i| $as(a[i]) > $as(b[i])),
            Cmp::Ge => ballot(|i| $as(a[i]) >= $as(b[i])),
            other => ballot(|i| compare::apply(other, $as(a[i]).partial_cmp(&$as(b[i])))),
        }
    }};
}

#[inline(always)]
fn setp32(r: &mut Regs, mask: u32, kind: Kind, cmp: Cmp, s: [Slot; 3]) -> Result<(), Stop> {
    r.need32(mask, [s[1], s[2]])?;
    let (a, b) = (&r.w32[s[1] as usize], &r.w32[s[2] as usize]);
    let bits = match kind {
        Kind::Unsigned => compare_lanes!(cmp, a, b, |x: u32| x),
        Kind::Signed => compare_lanes!(cmp, a, b, |x: u32| x as i32),
        Kind::Float => compare_lanes!(cmp, a, b, f),
    };
    r.set_pred(s[0], mask, bits);
    Ok(())
}

#[inline(always)]
fn setp64(r: &mut Regs, mask: u32, signed: bool, cmp: Cmp, s: [Slot; 3]) -> Result<(), Stop> {
    r.need64(mask, [s[1], s[2]])?;
    let (a, b) = (&r.w64[s[1] as usize], &r.w64[s[2] as usize]);
    let bits = match signed {
        false => compare_lanes!(cmp, a, b, |x: u64| x),
        true => compare_lanes!(cmp, a, b, |x: u64| x as i64),
    };
    r.set_pred(s[0], mask, bits);
    Ok(())
}

fn predicates(r: &mut Regs, op: &Op, mask: u32) -> Result<(), Stop> {
    let (d, bits) = match *op {
        Op::PredLogic { f, d, a, b } => {
            r.need_pred(mask, a)?;
            r.need_pred(mask, b)?;
            let (a, b) = (r.pred[a as usize], r.pred[b as usize]);
            let bits = match f {
                Logic::And => a & b,
                Logic::Or => a | b,
                Logic::Xor => a ^ b,
            };
            (d, bits)
        }
        Op::PredNot { d, a } => {
            r.need_pred(mask, a)?;
            (d, !r.pred[a as usize])
        }
        Op::PredMov { d, a } => {
            r.need_pred(mask, a)?;
            (d, r.pred[a as usize])
        }
        _ => return Ok(()),
    };
    r.set_pred(d, mask, bits);
    Ok(())
}
