//! Decodes bit manipulation, and integer instructions of odd widths.

use super::arith::{lane, simple, uniform};
use super::{Builder, Decoded, Suffixes, count};
use crate::exec::{bits, int};
use crate::instr::{Guard, Instr, LaneFn, Mods, Op};
use crate::parse::{Operand, Statement};
use crate::regs::File;
use crate::types::Ty;

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    let op = match s.words[0] {
        "mul24" | "mad24" => multiply24(b, s)?,
        "popc" => counting(b, s, bits::popc)?,
        "clz" => counting(b, s, bits::clz)?,
        "bfind" => bfind(b, s)?,
        "brev" => simple(b, s, bits::brev, 1)?,
        "bfe" => field(b, s, bits::bfe)?,
        "bfi" => insert(b, s)?,
        "prmt" => prmt(b, s)?,
        "shf" => funnel(b, s)?,
        "lop3" => lop3(b, s)?,
        "dp4a" => dp4a(b, s)?,
        "copysign" => simple(b, s, bits::copysign, 2)?,
        "testp" => testp(b, s)?,
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn testp<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let names = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    let code = x.need(|w| names.iter().position(|n| *n == w))? as u8;
    let ty = x.ty()?;
    x.end()?;
    count(s, 2)?;
    let mods = Mods { code, ..Mods::of(ty) };
    lane(b, bits::testp, mods, (&s.operands[0], Ty::Pred), &[(&s.operands[1], ty)])
}

fn multiply24<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let code = x.need(|w| ["lo", "hi"].iter().position(|p| *p == w))? as u8;
    let ty = x.ty()?;
    x.end()?;
    let mods = Mods { code, ..Mods::of(ty) };
    match s.words[0] {
        "mul24" => uniform(b, s, int::mul24, mods, 2),
        _ => uniform(b, s, int::mad24, mods, 3),
    }
}

/// Instructions with a 32-bit result whatever the type of the source.
fn counting<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: LaneFn) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let ty = x.ty()?;
    x.end()?;
    count(s, 2)?;
    lane(b, f, Mods::of(ty), (&s.operands[0], Ty::U32), &[(&s.operands[1], ty)])
}

fn bfind<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let code = u8::from(x.accept("shiftamt"));
    let ty = x.ty()?;
    x.end()?;
    count(s, 2)?;
    let mods = Mods { code, ..Mods::of(ty) };
    lane(b, bits::bfind, mods, (&s.operands[0], Ty::U32), &[(&s.operands[1], ty)])
}

fn field<'a>(b: &mut Builder<'a>, s: &Statement<'a>, f: LaneFn) -> Decoded<Op> {
    let ty = Suffixes::new(s).ty()?;
    count(s, 4)?;
    let o = &s.operands;
    lane(b, f, Mods::of(ty), (&o[0], ty), &[(&o[1], ty), (&o[2], Ty::U32), (&o[3], Ty::U32)])
}

/// `bfi` has four sources: an instruction of its own packs position and length into one.
fn insert<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let ty = Suffixes::new(s).ty()?;
    count(s, 5)?;
    let o = &s.operands;
    let mods = Mods::of(ty);
    let (d, value, base) = (b.destination(&o[0], ty)?, b.source(&o[1], ty)?, b.source(&o[2], ty)?);
    let (position, length) = (b.source(&o[3], Ty::U32)?, b.source(&o[4], Ty::U32)?);
    let place = b.new_slot(File::W32)?;
    let pack = Op::Lane { f: bits::pack_field, mods: Box::new(mods), d: place, s: [position, length, length], n: 2 };
    let guard = match s.guard {
        Some((name, negated)) => Some(Guard { pred: b.register(name, Ty::Pred)?.slot, negated }),
        None => None,
    };
    b.kernel.code.push(Instr { op: pack, guard, line: s.line });
    Ok(Op::Lane { f: bits::bfi, mods: Box::new(mods), d, s: [value, base, place], n: 3 })
}

fn prmt<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let ty = x.ty()?;
    let modes = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"];
    let code = x.find(|w| modes.iter().position(|m| *m == w)).map_or(0, |m| m as u8 + 1);
    x.end()?;
    uniform(b, s, bits::prmt, Mods { code, ..Mods::of(ty) }, 3)
}

fn funnel<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let left = x.need(|w| ["r", "l"].iter().position(|p| *p == w))? as u8;
    let wrap = x.need(|w| ["clamp", "wrap"].iter().position(|p| *p == w))? as u8;
    let ty = x.ty()?;
    x.end()?;
    uniform(b, s, bits::shf, Mods { code: left | wrap << 1, ..Mods::of(ty) }, 3)
}

fn lop3<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let ty = x.ty()?;
    x.end()?;
    count(s, 5)?;
    let o = &s.operands;
    let Operand::Int(table) = o[4] else { return Err("the table of `lop3` is a constant".to_owned()) };
    let mods = Mods { code: table as u8, ..Mods::of(ty) };
    lane(b, bits::lop3, mods, (&o[0], ty), &[(&o[1], ty), (&o[2], ty), (&o[3], ty)])
}

fn dp4a<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let (a, c) = (x.ty()?, x.ty()?);
    x.end()?;
    count(s, 4)?;
    let signed = a.is_signed() || c.is_signed();
    let to = if signed { Ty::S32 } else { Ty::U32 };
    let mods = Mods { code: u8::from(a.is_signed()) | u8::from(c.is_signed()) << 1, ..Mods::of(to) };
    let o = &s.operands;
    lane(b, int::dp4a, mods, (&o[0], to), &[(&o[1], Ty::B32), (&o[2], Ty::B32), (&o[3], to)])
}
