//! Decodes branches, barriers and instructions that work across the lanes of a warp.

use super::{Builder, Decoded, Suffixes, count};
use crate::instr::{Barrier, Collective, Op, Shuffle, WarpKind, WarpOp};
use crate::parse::{Operand, Statement};
use crate::regs::{File, Reg, Slot};
use crate::types::Ty;

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    let op = match s.words[0] {
        "bra" => {
            let [Operand::Name(label)] = s.operands[..] else { return Err("a label expected".to_owned()) };
            b.refer(label, 0, s.line);
            Op::Branch { target: 0 }
        }
        "brx" => branch_table(b, s)?,
        "exit" | "ret" => Op::Exit,
        "trap" => Op::Trap,
        "bar" | "barrier" => barrier(b, s)?,
        "shfl" => shuffle(b, s)?,
        "vote" => vote(b, s)?,
        "match" => matching(b, s)?,
        "redux" => reduction(b, s)?,
        "elect" => elect(b, s)?,
        "activemask" => {
            count(s, 1)?;
            Op::ActiveMask { d: b.destination(&s.operands[0], Ty::B32)?.slot }
        }
        "griddepcontrol" if s.words[1..] == ["wait"] => Op::GridWait,
        "griddepcontrol" if s.words[1..] == ["launch_dependents"] => Op::Nop,
        "nanosleep" | "pmevent" => Op::Nop,
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn branch_table<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let [index, Operand::Name(table)] = &s.operands[..] else {
        return Err("an index and a list of targets expected".to_owned());
    };
    let Some((_, labels)) = b.search(b.open, |scope| scope.tables.get(table).cloned()) else {
        return Err(format!("`{table}` is no list of branch targets declared above"));
    };
    for (at, label) in labels.iter().enumerate() {
        b.refer(label, at, s.line);
    }
    Ok(Op::BranchTable { index: b.slot32(index, Ty::U32)?, targets: vec![0; labels.len()].into() })
}

fn barrier<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if x.accept("warp") {
        if !x.accept("sync") || s.operands.len() != 1 {
            return Err("`bar.warp.sync` takes a mask".to_owned());
        }
        return collective(b, Collective::Sync, None, None, None, &s.operands[0]);
    }
    x.accept("cta");
    let kind = x.need(|w| ["sync", "arrive", "red"].into_iter().find(|k| *k == w))?;
    let mut aligned = s.words[0] == "bar";
    aligned |= x.accept("aligned");
    if kind == "red" {
        return reducing_barrier(b, s, &mut x, aligned);
    }
    x.end()?;
    let (id, threads) = match &s.operands[..] {
        [id] if kind == "sync" => (id, None),
        [id, threads] => (id, Some(threads)),
        _ => return Err("wrong number of operands".to_owned()),
    };
    let id = b.slot32(id, Ty::U32)?;
    let threads = threads.map(|t| b.slot32(t, Ty::U32)).transpose()?;
    Ok(Op::Barrier(Box::new(Barrier { id, threads, waits: kind == "sync", aligned, reduce: None })))
}

fn reducing_barrier<'a>(b: &mut Builder<'a>, s: &Statement<'a>, x: &mut Suffixes, aligned: bool) -> Decoded<Op> {
    let (operation, ty) = x
        .find(|w| match w {
            "popc" => Some((Collective::AddS, Ty::U32)),
            "and" => Some((Collective::All, Ty::Pred)),
            "or" => Some((Collective::Any, Ty::Pred)),
            _ => None,
        })
        .ok_or_else(|| "`.popc`, `.and` or `.or` expected".to_owned())?;
    let aligned = aligned | x.accept("aligned");
    if x.ty()? != ty {
        return Err("wrong type of a reduction".to_owned());
    }
    x.end()?;
    let (to, id, threads, value) = match &s.operands[..] {
        [to, id, value] => (to, id, None, value),
        [to, id, threads, value] => (to, id, Some(threads), value),
        _ => return Err("wrong number of operands".to_owned()),
    };
    let reduce = Some((operation, b.destination(to, ty)?, b.predicate(value)?));
    let id = b.slot32(id, Ty::U32)?;
    let threads = threads.map(|t| b.slot32(t, Ty::U32)).transpose()?;
    Ok(Op::Barrier(Box::new(Barrier { id, threads, waits: true, aligned, reduce })))
}

/// Splits `d|p`.
fn pair<'o, 'a>(operand: &'o Operand<'a>) -> (&'o Operand<'a>, Option<&'o Operand<'a>>) {
    match operand {
        Operand::Pair(d, p) => (d, Some(p)),
        single => (single, None),
    }
}

fn shuffle<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if !x.accept("sync") {
        return Err("only `shfl.sync` is supported".to_owned());
    }
    let mode = x.need(|w| match w {
        "up" => Some(Shuffle::Up),
        "down" => Some(Shuffle::Down),
        "bfly" => Some(Shuffle::Butterfly),
        "idx" => Some(Shuffle::Index),
        _ => None,
    })?;
    if x.ty()? != Ty::B32 {
        return Err("`shfl` moves `.b32`".to_owned());
    }
    x.end()?;
    count(s, 5)?;
    let (to, pred) = pair(&s.operands[0]);
    let to = match to {
        Operand::Sink => None,
        to => Some(b.destination(to, Ty::B32)?),
    };
    let to_pred = pred.map(|p| b.destination(p, Ty::Pred)).transpose()?.map(|p| p.slot);
    let value = b.source(&s.operands[1], Ty::B32)?;
    let (lane, clamp) = (b.slot32(&s.operands[2], Ty::B32)?, b.slot32(&s.operands[3], Ty::B32)?);
    let members = b.slot32(&s.operands[4], Ty::B32)?;
    let kind = WarpKind::Shuffle(mode, lane, clamp);
    Ok(Op::Warp(Box::new(WarpOp { kind, to, to_pred, value, negated: false, members })))
}

fn collective<'a>(
    b: &mut Builder<'a>,
    kind: Collective,
    to: Option<Reg>,
    to_pred: Option<Slot>,
    value: Option<(Reg, bool)>,
    members: &Operand<'a>,
) -> Decoded<Op> {
    let members = b.slot32(members, Ty::B32)?;
    let (value, negated) = value.unwrap_or((Reg { file: File::W32, slot: members }, false));
    Ok(Op::Warp(Box::new(WarpOp { kind: WarpKind::Collective(kind), to, to_pred, value, negated, members })))
}

fn vote<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if !x.accept("sync") {
        return Err("only `vote.sync` is supported".to_owned());
    }
    let kind = x.need(|w| match w {
        "all" => Some(Collective::All),
        "any" => Some(Collective::Any),
        "uni" => Some(Collective::Uniform),
        "ballot" => Some(Collective::Ballot),
        _ => None,
    })?;
    let ty = x.ty()?;
    x.end()?;
    count(s, 3)?;
    let wanted = if kind == Collective::Ballot { Ty::B32 } else { Ty::Pred };
    if ty != wanted {
        return Err("wrong type of a vote".to_owned());
    }
    let to = b.destination(&s.operands[0], ty)?;
    let value = b.predicate(&s.operands[1])?;
    let reg = Reg { file: File::Pred, slot: value.pred };
    collective(b, kind, Some(to), None, Some((reg, value.negated)), &s.operands[2])
}

fn matching<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let kind = x.need(|w| match w {
        "any" => Some(Collective::MatchAny),
        "all" => Some(Collective::MatchAll),
        _ => None,
    })?;
    if !x.accept("sync") {
        return Err("only `.sync` is supported".to_owned());
    }
    let ty = x.ty()?;
    x.end()?;
    count(s, 3)?;
    let (to, pred) = pair(&s.operands[0]);
    let to = b.destination(to, Ty::B32)?;
    let to_pred = pred.map(|p| b.destination(p, Ty::Pred)).transpose()?.map(|p| p.slot);
    let value = b.source(&s.operands[1], ty)?;
    collective(b, kind, Some(to), to_pred, Some((value, false)), &s.operands[2])
}

fn reduction<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if !x.accept("sync") {
        return Err("only `.sync` is supported".to_owned());
    }
    let name = x.need(|w| ["add", "min", "max", "and", "or", "xor"].into_iter().find(|k| *k == w))?;
    let ty = x.ty()?;
    x.end()?;
    count(s, 3)?;
    let kind = match (name, ty) {
        ("add", Ty::U32 | Ty::S32) => Collective::AddS,
        ("min", Ty::S32) => Collective::MinS,
        ("max", Ty::S32) => Collective::MaxS,
        ("min", Ty::U32) => Collective::MinU,
        ("max", Ty::U32) => Collective::MaxU,
        ("and", Ty::B32) => Collective::And,
        ("or", Ty::B32) => Collective::Or,
        ("xor", Ty::B32) => Collective::Xor,
        _ => return Err("wrong type of a reduction".to_owned()),
    };
    let to = b.destination(&s.operands[0], ty)?;
    let value = b.source(&s.operands[1], ty)?;
    collective(b, kind, Some(to), None, Some((value, false)), &s.operands[2])
}

fn elect<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    count(s, 2)?;
    let (to, pred) = pair(&s.operands[0]);
    let to = match to {
        Operand::Sink => None,
        to => Some(b.destination(to, Ty::B32)?),
    };
    let to_pred = pred.map(|p| b.destination(p, Ty::Pred)).transpose()?.map(|p| p.slot);
    collective(b, Collective::Elect, to, to_pred, None, &s.operands[1])
}
