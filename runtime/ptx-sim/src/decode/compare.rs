//! Decodes comparisons and selections.

use super::arith::lane;
use super::{Builder, Decoded, Suffixes, count};
use crate::exec::bits;
use crate::instr::{Cmp, Compare, Kind, Logic, Mods, Op};
use crate::parse::{Operand, Statement};
use crate::regs::{File, Reg};
use crate::types::Ty;

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    let op = match s.words[0] {
        "setp" => setp(b, s)?,
        "set" => set(b, s)?,
        "selp" => select(b, s)?,
        "slct" => slct(b, s)?,
        _ => return Ok(None),
    };
    Ok(Some(op))
}

/// The comparison operator `word`; `lo`, `ls`, `hi`, `hs` are for unsigned types only.
fn comparison(word: &str) -> Option<Cmp> {
    Some(match word {
        "eq" => Cmp::Eq,
        "ne" => Cmp::Ne,
        "lt" | "lo" => Cmp::Lt,
        "le" | "ls" => Cmp::Le,
        "gt" | "hi" => Cmp::Gt,
        "ge" | "hs" => Cmp::Ge,
        "equ" => Cmp::Equ,
        "neu" => Cmp::Neu,
        "ltu" => Cmp::Ltu,
        "leu" => Cmp::Leu,
        "gtu" => Cmp::Gtu,
        "geu" => Cmp::Geu,
        "num" => Cmp::Num,
        "nan" => Cmp::Nan,
        _ => return None,
    })
}

/// Comparison, combination, `.ftz` and source type of `set` and `setp`, and whether a combination is there.
fn compare_suffixes(x: &mut Suffixes) -> Decoded<(Cmp, Option<Logic>, bool)> {
    let cmp = x.need(comparison)?;
    let logic = x.find(|w| match w {
        "and" => Some(Logic::And),
        "or" => Some(Logic::Or),
        "xor" => Some(Logic::Xor),
        _ => None,
    });
    Ok((cmp, logic, x.accept("ftz")))
}

fn setp<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let (cmp, logic, ftz) = compare_suffixes(&mut x)?;
    let ty = x.ty()?;
    x.end()?;
    check_comparison(cmp, ty)?;
    count(s, if logic.is_some() { 4 } else { 3 })?;
    let (to, to_other) = match &s.operands[0] {
        Operand::Pair(p, q) => (optional_pred(b, p)?, optional_pred(b, q)?),
        p => (optional_pred(b, p)?, None),
    };
    let (a, c) = (b.source(&s.operands[1], ty)?, b.source(&s.operands[2], ty)?);
    if let (None, Some(d), None, false) = (logic, to, to_other, ftz) {
        let kind = if ty.is_signed() { Kind::Signed } else { Kind::Unsigned };
        match ty {
            Ty::F32 => return Ok(Op::Setp32 { kind: Kind::Float, cmp, d: d.slot, a: a.slot, b: c.slot }),
            Ty::U32 | Ty::B32 | Ty::S32 => return Ok(Op::Setp32 { kind, cmp, d: d.slot, a: a.slot, b: c.slot }),
            Ty::U64 | Ty::B64 | Ty::S64 => {
                return Ok(Op::Setp64 { signed: ty.is_signed(), cmp, d: d.slot, a: a.slot, b: c.slot });
            }
            _ => {}
        }
    }
    let logic = match logic {
        Some(logic) => Some((logic, b.predicate(&s.operands[3])?)),
        None => None,
    };
    Ok(Op::Compare(Box::new(Compare { cmp, ty, ftz, a, b: c, logic, to, to_other, truth: 1 })))
}

fn optional_pred<'a>(b: &mut Builder<'a>, operand: &Operand<'a>) -> Decoded<Option<Reg>> {
    match operand {
        Operand::Sink => Ok(None),
        operand => b.destination(operand, Ty::Pred).map(Some),
    }
}

fn check_comparison(cmp: Cmp, ty: Ty) -> Decoded<()> {
    let unordered = !matches!(cmp, Cmp::Eq | Cmp::Ne | Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge);
    let bits = matches!(ty, Ty::B16 | Ty::B32 | Ty::B64) && !matches!(cmp, Cmp::Eq | Cmp::Ne);
    if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
        return Err("comparisons of pairs are not supported".to_owned());
    }
    match bits || unordered && ty.is_integer() || ty == Ty::Pred {
        true => Err(format!("comparison {cmp:?} is not for {ty:?}")),
        false => Ok(()),
    }
}

fn set<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let (cmp, logic, ftz) = compare_suffixes(&mut x)?;
    let (to_ty, ty) = (x.ty()?, x.ty()?);
    x.end()?;
    check_comparison(cmp, ty)?;
    count(s, if logic.is_some() { 4 } else { 3 })?;
    let truth = match to_ty {
        Ty::U32 | Ty::S32 => u64::from(u32::MAX),
        Ty::F32 => u64::from(1f32.to_bits()),
        _ => return Err("`set` writes `.u32`, `.s32` or `.f32`".to_owned()),
    };
    let to = Some(b.destination(&s.operands[0], to_ty)?);
    let (a, c) = (b.source(&s.operands[1], ty)?, b.source(&s.operands[2], ty)?);
    let logic = match logic {
        Some(logic) => Some((logic, b.predicate(&s.operands[3])?)),
        None => None,
    };
    Ok(Op::Compare(Box::new(Compare { cmp, ty, ftz, a, b: c, logic, to, to_other: None, truth })))
}

fn select<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let ty = x.ty()?;
    x.end()?;
    count(s, 4)?;
    let d = b.destination(&s.operands[0], ty)?;
    let (a, c) = (b.source(&s.operands[1], ty)?.slot, b.source(&s.operands[2], ty)?.slot);
    let guard = b.predicate(&s.operands[3])?;
    if guard.negated || ty == Ty::Pred {
        return Err("`selp` takes a plain predicate and no `.pred` values".to_owned());
    }
    Ok(match d.file {
        File::W64 => Op::Select64 { d: d.slot, a, b: c, p: guard.pred },
        _ => Op::Select32 { d: d.slot, a, b: c, p: guard.pred },
    })
}

fn slct<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    x.accept("ftz");
    let (ty, test) = (x.ty()?, x.ty()?);
    x.end()?;
    count(s, 4)?;
    let f = match test {
        Ty::S32 => bits::slct_int,
        Ty::F32 => bits::slct_float,
        _ => return Err("`slct` tests `.s32` or `.f32`".to_owned()),
    };
    let o = &s.operands;
    lane(b, f, Mods::of(ty), (&o[0], ty), &[(&o[1], ty), (&o[2], ty), (&o[3], test)])
}
