//! Exchanges between the lanes of a warp.

use std::collections::HashMap;

use crate::exec::Warp;
use crate::fault::{FaultKind, Stop, stop};
use crate::instr::{Collective, Shuffle, WarpKind, WarpOp};
use crate::regs::{LANES, Slot, lanes};

/// The lanes that must take part before the lanes of `mask` can go on: each lane names them, itself included.
pub(crate) fn members(warp: &Warp, op: &WarpOp, mask: u32) -> Result<u32, Stop> {
    warp.regs.need32(mask, [op.members])?;
    let row = &warp.regs.w32[op.members as usize];
    let mut all = 0;
    for lane in lanes(mask) {
        if row[lane] >> lane & 1 == 0 {
            let message = format!("lane {lane} is not in its own member mask {:#010x}", row[lane]);
            return Err(stop(FaultKind::MemberMask, lane as u32, message));
        }
        all |= row[lane];
    }
    Ok(all)
}

/// Executes `op` for the lanes of `mask`, which contains all members; lanes with equal member masks form a group.
pub(crate) fn execute(warp: &mut Warp, op: &WarpOp, mask: u32) -> Result<(), Stop> {
    let row = warp.regs.w32[op.members as usize];
    let mut rest = mask;
    while rest != 0 {
        let group = row[rest.trailing_zeros() as usize];
        if let Some(lane) = lanes(group).find(|lane| mask >> lane & 1 == 0 || row[*lane] != group) {
            let message = format!("lane {lane} is named by the member mask {group:#010x} but has another one");
            return Err(stop(FaultKind::MemberMask, lane as u32, message));
        }
        rest &= !group;
        match op.kind {
            WarpKind::Shuffle(mode, b, c) => shuffle(warp, op, mode, b, c, group)?,
            WarpKind::Collective(Collective::Sync) => {}
            WarpKind::Collective(kind) => collective(warp, op, kind, group)?,
        }
    }
    Ok(())
}

fn shuffle(warp: &mut Warp, op: &WarpOp, mode: Shuffle, b: Slot, c: Slot, group: u32) -> Result<(), Stop> {
    let r = &mut warp.regs;
    r.need32(group, [op.value.slot, b, c])?;
    let (value, bs, cs) = (r.w32[op.value.slot as usize], r.w32[b as usize], r.w32[c as usize]);
    let mut result = [0; LANES];
    let mut valid = 0;
    for lane in lanes(group) {
        let (from, inside) = source_lane(mode, lane as u32, bs[lane] & 31, cs[lane]);
        if group >> from & 1 == 0 && op.to.is_some() {
            let message = format!("lane {lane} takes a value from lane {from}, which is not a member");
            return Err(stop(FaultKind::MemberMask, lane as u32, message));
        }
        result[lane] = value[from as usize];
        valid |= u32::from(inside) << lane;
    }
    if let Some(to) = op.to {
        r.set32(to.slot, group, &result);
    }
    if let Some(pred) = op.to_pred {
        r.set_pred(pred, group, valid);
    }
    Ok(())
}

/// The lane to read from, and whether it is within the segment.
fn source_lane(mode: Shuffle, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (clamp, segment) = (c & 31, c >> 8 & 31);
    let highest = lane & segment | clamp & !segment;
    let lowest = lane & segment;
    let (from, inside) = match mode {
        Shuffle::Up => {
            let from = lane as i32 - b as i32;
            (from, from >= highest as i32)
        }
        Shuffle::Down => ((lane + b) as i32, lane + b <= highest),
        Shuffle::Butterfly => ((lane ^ b) as i32, lane ^ b <= highest),
        Shuffle::Index => {
            let from = lowest | b & !segment;
            (from as i32, from <= highest)
        }
    };
    if inside { (from as u32, true) } else { (lane, false) }
}

fn collective(warp: &mut Warp, op: &WarpOp, kind: Collective, group: u32) -> Result<(), Stop> {
    let r = &mut warp.regs;
    r.need(group, op.value)?;
    let values = r.row(op.value);
    let members = || lanes(group).map(|lane| values[lane] as u32);
    let signed = || members().map(|v| v as i32);
    let votes = lanes(group).fold(0, |bits, lane| bits | (values[lane] as u32 & 1) << lane);
    let votes = if op.negated { !votes & group } else { votes };
    let fold = |f: fn(u32, u32) -> u32| members().reduce(f).unwrap_or(0);
    let result = match kind {
        Collective::All => u32::from(votes == group),
        Collective::Any => u32::from(votes != 0),
        Collective::Uniform => u32::from(votes == 0 || votes == group),
        Collective::Ballot => votes,
        Collective::AddS => fold(u32::wrapping_add),
        Collective::MinS => signed().min().unwrap_or(0) as u32,
        Collective::MaxS => signed().max().unwrap_or(0) as u32,
        Collective::MinU => fold(u32::min),
        Collective::MaxU => fold(u32::max),
        Collective::And => fold(|a, b| a & b),
        Collective::Or => fold(|a, b| a | b),
        Collective::Xor => fold(|a, b| a ^ b),
        Collective::Elect => group.trailing_zeros(),
        Collective::MatchAny | Collective::MatchAll => return matching(warp, op, kind, group),
        Collective::Sync => return Ok(()),
    };
    if let Some(to) = op.to {
        r.set_row(to, group, &[u64::from(result); LANES]);
    }
    if let Some(pred) = op.to_pred {
        r.set_pred(pred, group, 1 << result);
    }
    Ok(())
}

fn matching(warp: &mut Warp, op: &WarpOp, kind: Collective, group: u32) -> Result<(), Stop> {
    let r = &mut warp.regs;
    let values = r.row(op.value);
    let mut equal: HashMap<u64, u32> = HashMap::new();
    lanes(group).for_each(|lane| *equal.entry(values[lane]).or_default() |= 1 << lane);
    let agree = equal.len() == 1;
    let row = std::array::from_fn(|lane| match kind {
        Collective::MatchAll => {
            if agree {
                group
            } else {
                0
            }
        }
        _ => equal.get(&values[lane]).copied().unwrap_or(0),
    });
    if let Some(to) = op.to {
        r.set32(to.slot, group, &row);
    }
    if let Some(pred) = op.to_pred {
        r.set_pred(pred, group, if agree { u32::MAX } else { 0 });
    }
    Ok(())
}
