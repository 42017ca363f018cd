//! Decodes moves, shifts, and integer and single/double precision arithmetic.

use super::{Builder, Decoded, Suffixes, count};
use crate::exec::{bits, int, real};
use crate::float::Round;
use crate::instr::{Bin32, Bin64, LaneFn, Logic, Mods, Op, Shift64, Tri32, Un32};
use crate::parse::{Operand, Statement};
use crate::regs::{File, Reg};
use crate::types::Ty;

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    let op = match s.words[0] {
        "mov" => mov(b, s)?,
        "add" | "sub" | "mul" | "mad" | "fma" | "min" | "max" | "abs" | "neg" if half_type(s) => return Ok(None),
        "ex2" | "tanh" if half_type(s) => return Ok(None),
        "add" | "sub" => add_sub(b, s)?,
        "mul" | "mad" => multiply(b, s)?,
        "fma" => float_op(b, s, real::fma, 3)?,
        "div" | "rem" => divide(b, s)?,
        "min" | "max" => min_max(b, s)?,
        "abs" | "neg" => sign(b, s)?,
        "and" | "or" | "xor" => logic(b, s)?,
        "not" | "cnot" => not(b, s)?,
        "shl" | "shr" => shift(b, s)?,
        "sqrt" => float_op(b, s, real::sqrt, 1)?,
        "rcp" => float_op(b, s, real::rcp, 1)?,
        "rsqrt" => float_op(b, s, real::rsqrt, 1)?,
        "ex2" => float_op(b, s, real::ex2, 1)?,
        "lg2" => float_op(b, s, real::lg2, 1)?,
        "sin" => float_op(b, s, real::sin, 1)?,
        "cos" => float_op(b, s, real::cos, 1)?,
        "tanh" => float_op(b, s, real::tanh, 1)?,
        "sad" => simple(b, s, int::sad, 3)?,
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn half_type(s: &Statement) -> bool {
    s.words.iter().any(|w| matches!(*w, "f16" | "f16x2" | "bf16" | "bf16x2"))
}

/// A lane-wise operation on `sources`, each with its type.
pub(super) fn lane<'a>(
    b: &mut Builder<'a>,
    f: LaneFn,
    mods: Mods,
    to: (&Operand<'a>, Ty),
    sources: &[(&Operand<'a>, Ty)],
) -> Decoded<Op> {
    let d = b.destination(to.0, to.1)?;
    let mut regs = [d; 3];
    for (reg, (operand, ty)) in regs.iter_mut().zip(sources) {
        *reg = b.source(operand, *ty)?;
    }
    Ok(Op::Lane { f, mods: Box::new(mods), d, s: regs, n: sources.len() as u8 })
}

/// A lane-wise operation whose `n` sources and destination all have the type of the last suffix.
pub(super) fn simple<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: LaneFn, n: usize) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let ty = x.ty()?;
    x.end()?;
    uniform(b, s, f, Mods::of(ty), n)
}

/// A lane-wise operation whose `n` sources and destination have the type `mods.to`.
pub(super) fn uniform<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: LaneFn, mods: Mods, n: usize) -> Decoded<Op> {
    count(s, n + 1)?;
    let sources: Vec<(&Operand, Ty)> = s.operands[1..].iter().map(|o| (o, mods.to)).collect();
    lane(b, f, mods, (&s.operands[0], mods.to), &sources)
}

fn bin32<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: Bin32, ty: Ty) -> Decoded<Op> {
    count(s, 3)?;
    let d = b.destination(&s.operands[0], ty)?.slot;
    Ok(Op::Bin32 { f, d, a: b.slot32(&s.operands[1], ty)?, b: b.slot32(&s.operands[2], ty)? })
}

fn bin64<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: Bin64, ty: Ty) -> Decoded<Op> {
    count(s, 3)?;
    let d = b.destination(&s.operands[0], ty)?.slot;
    Ok(Op::Bin64 { f, d, a: b.source(&s.operands[1], ty)?.slot, b: b.source(&s.operands[2], ty)?.slot })
}

fn un32<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: Un32, ty: Ty) -> Decoded<Op> {
    count(s, 2)?;
    let d = b.destination(&s.operands[0], ty)?.slot;
    Ok(Op::Un32 { f, d, a: b.slot32(&s.operands[1], ty)? })
}

fn mov<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let ty = x.ty()?;
    x.end()?;
    count(s, 2)?;
    let (to, from) = (&s.operands[0], &s.operands[1]);
    match (to, from) {
        (Operand::Vector(parts), from) => {
            let bits = ty.bits() / parts.len() as u32;
            let part = |b: &mut Builder<'a>, p: &Operand<'a>| match p {
                Operand::Sink => Ok(None),
                p => b.destination(p, bits_type(bits)?).map(Some),
            };
            let parts = parts.iter().map(|p| part(b, p)).collect::<Decoded<_>>()?;
            Ok(Op::Unpack { parts, a: b.source(from, ty)?, bits })
        }
        (to, Operand::Vector(parts)) => {
            let bits = ty.bits() / parts.len() as u32;
            let parts: Box<[Reg]> = parts.iter().map(|p| b.source(p, bits_type(bits)?)).collect::<Decoded<_>>()?;
            let d = b.destination(to, ty)?;
            match (&*parts, bits) {
                ([low, high], 16) => Ok(Op::Bin32 { f: Bin32::Pack16, d: d.slot, a: low.slot, b: high.slot }),
                _ => Ok(Op::Pack { d, parts, bits }),
            }
        }
        _ if ty == Ty::Pred => {
            let source = b.predicate(from)?;
            let d = b.destination(to, ty)?.slot;
            match source.negated {
                true => Err("`mov.pred` takes no negated predicate".to_owned()),
                false => Ok(Op::PredMov { d, a: source.pred }),
            }
        }
        _ => {
            let (d, a) = (b.destination(to, ty)?, b.source(from, ty)?);
            Ok(match d.file {
                File::W64 => Op::Mov64 { d: d.slot, a: a.slot },
                _ => Op::Un32 { f: Un32::Mov, d: d.slot, a: a.slot },
            })
        }
    }
}

fn bits_type(bits: u32) -> Decoded<Ty> {
    Ok(match bits {
        8 => Ty::B8,
        16 => Ty::B16,
        32 => Ty::B32,
        _ => return Err("elements of 8, 16 or 32 bits expected".to_owned()),
    })
}

/// `.rn` and friends.
pub(super) fn rounding(word: &str) -> Option<Round> {
    Some(match word {
        "rn" => Round::Even,
        "rz" => Round::Zero,
        "rm" => Round::Down,
        "rp" => Round::Up,
        "rna" => Round::Away,
        _ => return None,
    })
}

/// Rounding, `.ftz`, `.sat` and the type of a floating-point instruction.
fn float_mods(x: &mut Suffixes) -> Decoded<Mods> {
    x.skip(|w| matches!(w, "approx" | "full"));
    let round = x.find(rounding).filter(|r| *r != Round::Away).unwrap_or(Round::Even);
    let (ftz, sat) = (x.accept("ftz"), x.accept("sat"));
    let ty = x.ty()?;
    x.end()?;
    match ty {
        Ty::F32 => {}
        Ty::F64 if !ftz && !sat => {}
        _ => return Err(format!("type {ty:?} is not known here")),
    }
    Ok(Mods { round: round as u8, ftz, sat, ..Mods::of(ty) })
}

fn is_plain(mods: &Mods) -> bool {
    mods.to == Ty::F32 && mods.round == 0 && !mods.ftz && !mods.sat
}

fn float_op<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: LaneFn, n: usize) -> Decoded<Op> {
    let has = |word: &str| s.words.contains(&word);
    let (approx, rounded) = (has("approx"), s.words.iter().any(|w| rounding(w).is_some()));
    let only_approx = matches!(s.words[0], "ex2" | "lg2" | "sin" | "cos" | "tanh" | "rsqrt");
    if approx == rounded || only_approx && !approx {
        return Err("exactly one of `.approx` and a rounding mode is needed".to_owned());
    }
    let mods = float_mods(&mut Suffixes::new(s))?;
    let double_ok = !approx || matches!(s.words[0], "rcp" | "rsqrt");
    if mods.to == Ty::F64 && (!double_ok || s.words[0] == "fma" && mods.round != 0) {
        return Err("not supported for `.f64`".to_owned());
    }
    if n == 3 && is_plain(&mods) {
        count(s, 4)?;
        let d = b.destination(&s.operands[0], Ty::F32)?.slot;
        let mut slot = |i: usize| b.slot32(&s.operands[i], Ty::F32);
        return Ok(Op::Tri32 { f: Tri32::Fma, d, a: slot(1)?, b: slot(2)?, c: slot(3)? });
    }
    uniform(b, s, f, mods, n)
}

fn is_float(s: &Statement) -> bool {
    matches!(s.words.last(), Some(&("f32" | "f64")))
}

fn add_sub<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let add = s.words[0] == "add";
    let mut x = Suffixes::new(s);
    if is_float(s) {
        let mods = float_mods(&mut x)?;
        return match (is_plain(&mods), add) {
            (true, true) => bin32(b, s, Bin32::FAdd, Ty::F32),
            (true, false) => bin32(b, s, Bin32::FSub, Ty::F32),
            (false, _) => uniform(b, s, if add { real::add } else { real::sub }, mods, 2),
        };
    }
    let sat = x.accept("sat");
    let ty = x.ty()?;
    x.end()?;
    if !ty.is_integer() || ty.class() == crate::types::Class::Bits || ty.bytes() == 1 || sat && ty != Ty::S32 {
        return Err("type not known here".to_owned());
    }
    match (ty.bytes(), sat) {
        (4, false) => bin32(b, s, if add { Bin32::Add } else { Bin32::Sub }, ty),
        (8, false) => bin64(b, s, if add { Bin64::Add } else { Bin64::Sub }, ty),
        _ => uniform(b, s, if add { int::add } else { int::sub }, Mods { sat, ..Mods::of(ty) }, 2),
    }
}

fn multiply<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mad = s.words[0] == "mad";
    let mut x = Suffixes::new(s);
    if is_float(s) {
        if mad {
            return float_op(b, s, real::fma, 3);
        }
        let mods = float_mods(&mut x)?;
        return match is_plain(&mods) {
            true => bin32(b, s, Bin32::FMul, Ty::F32),
            false => uniform(b, s, real::mul, mods, 2),
        };
    }
    let part = x.need(|w| ["lo", "hi", "wide"].into_iter().find(|p| *p == w))?;
    let ty = x.ty()?;
    x.end()?;
    if part == "wide" {
        return multiply_wide(b, s, ty, mad);
    }
    let n = if mad { 3 } else { 2 };
    match (part, ty, mad) {
        ("lo", Ty::U32 | Ty::S32, false) => bin32(b, s, Bin32::Mul, ty),
        ("lo", Ty::U64 | Ty::S64, false) => bin64(b, s, Bin64::Mul, ty),
        ("lo", Ty::U32 | Ty::S32, true) => {
            count(s, 4)?;
            let d = b.destination(&s.operands[0], ty)?.slot;
            let mut slot = |i: usize| b.slot32(&s.operands[i], ty);
            Ok(Op::Tri32 { f: Tri32::Mad, d, a: slot(1)?, b: slot(2)?, c: slot(3)? })
        }
        ("lo", _, false) => uniform(b, s, int::mul_lo, Mods::of(ty), n),
        ("lo", _, true) => uniform(b, s, int::mad_lo, Mods::of(ty), n),
        (_, _, false) => uniform(b, s, int::mul_hi, Mods::of(ty), n),
        _ => uniform(b, s, int::mad_hi, Mods::of(ty), n),
    }
}

fn multiply_wide<'a>(b: &mut Builder<'a>, s: &Statement<'a>, ty: Ty, mad: bool) -> Decoded<Op> {
    let wide = match ty {
        Ty::U16 => Ty::U32,
        Ty::S16 => Ty::S32,
        Ty::U32 => Ty::U64,
        Ty::S32 => Ty::S64,
        _ => return Err("`.wide` takes 16 or 32 bits".to_owned()),
    };
    count(s, if mad { 4 } else { 3 })?;
    let o = &s.operands;
    if ty.bytes() == 4 {
        let signed = ty.is_signed();
        let d = b.destination(&o[0], wide)?.slot;
        let (a, c) = (b.slot32(&o[1], ty)?, b.slot32(&o[2], ty)?);
        return Ok(match mad {
            true => Op::MadWide { signed, d, a, b: c, c: b.source(&o[3], wide)?.slot },
            false => Op::MulWide { signed, d, a, b: c },
        });
    }
    let mods = Mods { from: ty, ..Mods::of(wide) };
    match mad {
        true => lane(b, int::mad_wide, mods, (&o[0], wide), &[(&o[1], ty), (&o[2], ty), (&o[3], wide)]),
        false => lane(b, int::mul_wide, mods, (&o[0], wide), &[(&o[1], ty), (&o[2], ty)]),
    }
}

fn divide<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let div = s.words[0] == "div";
    if is_float(s) && div {
        let approx = s.words[1] == "approx";
        if !approx && s.words[1] != "full" && rounding(s.words[1]).is_none() {
            return Err("`.approx`, `.full` or a rounding mode is needed".to_owned());
        }
        let mods = float_mods(&mut Suffixes::new(s))?;
        return uniform(b, s, if approx { real::div_approx } else { real::div }, mods, 2);
    }
    simple(b, s, if div { int::div } else { int::rem }, 2)
}

fn min_max<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let min = s.words[0] == "min";
    let mut x = Suffixes::new(s);
    let (ftz, nan) = (x.accept("ftz"), x.accept("NaN"));
    let relu = x.accept("relu");
    let ty = x.ty()?;
    x.end()?;
    let f = match (ty, min) {
        (Ty::S32, _) if relu => {
            return uniform(b, s, if min { int::min } else { int::max }, Mods { relu, ..Mods::of(ty) }, 2);
        }
        (Ty::U32, true) => Bin32::MinU,
        (Ty::U32, false) => Bin32::MaxU,
        (Ty::S32, true) => Bin32::MinS,
        (Ty::S32, false) => Bin32::MaxS,
        (Ty::F32, true) if !ftz && !nan => Bin32::FMin,
        (Ty::F32, false) if !ftz && !nan => Bin32::FMax,
        (Ty::F32 | Ty::F64, _) => {
            let mods = Mods { ftz, nan, ..Mods::of(ty) };
            return uniform(b, s, if min { real::min } else { real::max }, mods, 2);
        }
        _ => return uniform(b, s, if min { int::min } else { int::max }, Mods::of(ty), 2),
    };
    bin32(b, s, f, ty)
}

fn sign<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let abs = s.words[0] == "abs";
    let mut x = Suffixes::new(s);
    let ftz = x.accept("ftz");
    let ty = x.ty()?;
    x.end()?;
    match ty {
        Ty::F32 if !ftz => un32(b, s, if abs { Un32::FAbs } else { Un32::FNeg }, ty),
        Ty::F32 | Ty::F64 => uniform(b, s, if abs { real::abs } else { real::neg }, Mods { ftz, ..Mods::of(ty) }, 1),
        Ty::S32 if !abs => un32(b, s, Un32::Neg, ty),
        Ty::S16 | Ty::S32 | Ty::S64 => uniform(b, s, if abs { int::abs } else { int::neg }, Mods::of(ty), 1),
        _ => Err("a signed type is needed".to_owned()),
    }
}

fn logic<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let ty = Suffixes::new(s).ty()?;
    count(s, 3)?;
    let (f32, f64, f) = match s.words[0] {
        "and" => (Bin32::And, Bin64::And, Logic::And),
        "or" => (Bin32::Or, Bin64::Or, Logic::Or),
        _ => (Bin32::Xor, Bin64::Xor, Logic::Xor),
    };
    match ty {
        Ty::Pred => {
            let d = b.destination(&s.operands[0], ty)?.slot;
            let (a, c) = (b.predicate(&s.operands[1])?, b.predicate(&s.operands[2])?);
            match a.negated || c.negated {
                true => Err("predicates cannot be negated here".to_owned()),
                false => Ok(Op::PredLogic { f, d, a: a.pred, b: c.pred }),
            }
        }
        Ty::B16 | Ty::B32 => bin32(b, s, f32, ty),
        Ty::B64 => bin64(b, s, f64, ty),
        _ => Err("`.pred`, `.b16`, `.b32` or `.b64` is needed".to_owned()),
    }
}

fn not<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let ty = Suffixes::new(s).ty()?;
    count(s, 2)?;
    if ty == Ty::Pred && s.words[0] == "not" {
        let d = b.destination(&s.operands[0], ty)?.slot;
        return Ok(Op::PredNot { d, a: b.predicate(&s.operands[1])?.pred });
    }
    match (ty, s.words[0]) {
        (Ty::B32, "not") => un32(b, s, Un32::Not, ty),
        (_, "not") => uniform(b, s, bits::not, Mods::of(ty), 1),
        _ => uniform(b, s, bits::cnot, Mods::of(ty), 1),
    }
}

fn shift<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let left = s.words[0] == "shl";
    let ty = Suffixes::new(s).ty()?;
    count(s, 3)?;
    let d = b.destination(&s.operands[0], ty)?.slot;
    let (a, amount) = (b.source(&s.operands[1], ty)?.slot, b.slot32(&s.operands[2], Ty::U32)?);
    Ok(match (ty.bytes(), left, ty.is_signed()) {
        (4, true, _) => Op::Bin32 { f: Bin32::Shl, d, a, b: amount },
        (4, false, true) => Op::Bin32 { f: Bin32::ShrS, d, a, b: amount },
        (4, false, false) => Op::Bin32 { f: Bin32::ShrU, d, a, b: amount },
        (8, true, _) => Op::Shift64 { f: Shift64::Shl, d, a, b: amount },
        (8, false, true) => Op::Shift64 { f: Shift64::ShrS, d, a, b: amount },
        (8, false, false) => Op::Shift64 { f: Shift64::ShrU, d, a, b: amount },
        _ => {
            let w = |slot| Reg { file: File::W32, slot };
            let f = if left { int::shl } else { int::shr };
            Op::Lane { f, mods: Box::new(Mods::of(ty)), d: w(d), s: [w(a), w(amount), w(a)], n: 2 }
        }
    })
}
