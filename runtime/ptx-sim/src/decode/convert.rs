//! Decodes `cvt`.

use super::arith::{lane, rounding};
use super::{Builder, Decoded, Suffixes, count};
use crate::exec::convert;
use crate::float::Round;
use crate::instr::{Bin32, Mods, Op, Un32};
use crate::parse::{Operand, Statement};
use crate::regs::{File, Reg};
use crate::types::{Class, Ty};

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    match s.words[..] {
        ["cvt", "pack", ..] => pack(b, s).map(Some),
        ["cvt", ..] => cvt(b, s).map(Some),
        _ => Ok(None),
    }
}

fn integral(word: &str) -> Option<Round> {
    Some(match word {
        "rni" => Round::Even,
        "rzi" => Round::Zero,
        "rmi" => Round::Down,
        "rpi" => Round::Up,
        _ => return None,
    })
}

fn is_float(ty: Ty) -> bool {
    matches!(ty, Ty::F16 | Ty::Bf16 | Ty::F32 | Ty::F64 | Ty::Tf32 | Ty::F16x2 | Ty::Bf16x2)
}

fn cvt<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let whole = x.find(integral);
    let round = x.find(rounding);
    let relu = x.accept("relu");
    let (ftz, mut sat) = (x.accept("ftz"), x.accept("sat"));
    let satfinite = x.accept("satfinite");
    let (to, from) = (x.ty()?, x.ty()?);
    x.end()?;
    sat |= satfinite && to.is_integer();
    check_rounding(to, from, whole, round)?;
    let code = u8::from(whole.is_some());
    let round = whole.or(round).unwrap_or(Round::Even);
    let mods = Mods { to, from, round: round as u8, code, ftz, sat, nan: false, relu };
    if matches!(to, Ty::F16x2 | Ty::Bf16x2) {
        return packed(b, s, mods);
    }
    count(s, 2)?;
    let (Operand::Name(to_name), from_operand) = (&s.operands[0], &s.operands[1]) else {
        return Err("a register expected".to_owned());
    };
    let d = b.relaxed(to_name, to)?;
    let a = match from_operand {
        Operand::Name(name) if !name.contains('.') && b.find_register(name).is_ok() => b.relaxed(name, from)?,
        other => b.source(other, from)?,
    };
    if let Some(op) = frequent(&mods, d, a) {
        return Ok(op);
    }
    let wide = b.find_register(to_name)?.1.bytes() > to.bytes() && to.is_signed();
    let mods = Mods { nan: wide, ..mods };
    Ok(Op::Lane { f: convert::cvt, mods: Box::new(mods), d, s: [a; 3], n: 1 })
}

/// Whether the rounding modifiers are those that the pair of types demands.
fn check_rounding(to: Ty, from: Ty, whole: Option<Round>, round: Option<Round>) -> Decoded<()> {
    let good = match (is_float(to), is_float(from)) {
        (false, false) => whole.is_none() && round.is_none(),
        (false, true) => whole.is_some() && round.is_none(),
        (true, false) => whole.is_none() && round.is_some(),
        _ if to == Ty::Tf32 => from == Ty::F32 && round.is_some(),
        _ if to.bytes() < from.bytes() || matches!(to, Ty::F16x2 | Ty::Bf16x2) => round.is_some(),
        _ if to == from => round.is_none(),
        _ => whole.is_none(),
    };
    if good && to != Ty::Pred && from != Ty::Pred { Ok(()) } else { Err("wrong rounding for these types".to_owned()) }
}

/// The vectorised form of a frequent conversion.
fn frequent(mods: &Mods, d: Reg, a: Reg) -> Option<Op> {
    let Mods { to, from, round, ftz, sat, relu, .. } = *mods;
    if ftz || sat || relu || mods.code == 1 && is_float(to) {
        return None;
    }
    let integers = to.is_integer() && from.is_integer();
    let unary = |f| Some(Op::Un32 { f, d: d.slot, a: a.slot });
    match (d.file, a.file) {
        (File::W64, File::W32) if integers && to.bytes() == 8 && from.bytes() == 4 => {
            Some(Op::Widen { signed: from.is_signed(), d: d.slot, a: a.slot })
        }
        (File::W32, File::W64) if integers && to.bytes() == 4 => Some(Op::Narrow { d: d.slot, a: a.slot }),
        (File::W32, File::W32) => match (to, from) {
            (Ty::U32 | Ty::S32 | Ty::B32, Ty::U32 | Ty::S32 | Ty::B32) => unary(Un32::Mov),
            (Ty::U32 | Ty::S32 | Ty::B32, Ty::U16 | Ty::B16) => unary(Un32::Low16),
            (Ty::U32 | Ty::S32 | Ty::B32, Ty::U8 | Ty::B8) => unary(Un32::Low8),
            (Ty::U32 | Ty::S32, Ty::S8) => unary(Un32::Sign8),
            (Ty::U32 | Ty::S32, Ty::S16) => unary(Un32::Sign16),
            (Ty::U16, Ty::U32 | Ty::S32 | Ty::U16) => unary(Un32::Low16),
            (Ty::F32, Ty::S32) if round == 0 => unary(Un32::S32ToF32),
            (Ty::F32, Ty::U32) if round == 0 => unary(Un32::U32ToF32),
            (Ty::F32, Ty::F16) => unary(Un32::F16ToF32),
            (Ty::F32, Ty::Bf16) => unary(Un32::Bf16ToF32),
            (Ty::F16, Ty::F32) if round == 0 => unary(Un32::F32ToF16),
            (Ty::Bf16, Ty::F32) if round == 0 => unary(Un32::F32ToBf16),
            _ => None,
        },
        _ => None,
    }
}

/// `cvt.rn.f16x2.f32 d, a, b`: `a` goes to the upper half.
fn packed<'a>(b: &mut Builder<'a>, s: &Statement<'a>, mods: Mods) -> Decoded<Op> {
    if mods.from != Ty::F32 {
        return Err("packed conversions start from `.f32`".to_owned());
    }
    count(s, 3)?;
    let o = &s.operands;
    if mods.round == 0 && !mods.relu && !mods.ftz && !mods.sat {
        let f = if mods.to == Ty::F16x2 { Bin32::PackF16 } else { Bin32::PackBf16 };
        let d = b.destination(&o[0], mods.to)?.slot;
        return Ok(Op::Bin32 { f, d, a: b.slot32(&o[1], Ty::F32)?, b: b.slot32(&o[2], Ty::F32)? });
    }
    lane(b, convert::packed, mods, (&o[0], mods.to), &[(&o[1], Ty::F32), (&o[2], Ty::F32)])
}

/// `cvt.pack.sat`: two integers, saturated, below the low bits of a third.
fn pack<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if !x.accept("pack") || !x.accept("sat") {
        return Err("`cvt.pack.sat` expected".to_owned());
    }
    let (to, from) = (x.ty()?, x.ty()?);
    let third = x.find(|w| (w == "b32").then_some(()));
    x.end()?;
    if from != Ty::S32 || to.bytes() > 2 || !matches!(to.class(), Class::Signed | Class::Unsigned) {
        return Err("`cvt.pack` packs `.s32` into 8 or 16 bits".to_owned());
    }
    count(s, 3 + usize::from(third.is_some()))?;
    let o = &s.operands;
    let zero = Operand::Int(0);
    let rest = o.get(3).unwrap_or(&zero);
    let mods = Mods { from, ..Mods::of(to) };
    lane(b, convert::pack, mods, (&o[0], Ty::B32), &[(&o[1], from), (&o[2], from), (rest, Ty::B32)])
}
