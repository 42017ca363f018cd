//! Fragments of a warp: lanes that execute together, how they split and where they join again.

use crate::exec::{Fragment, State, Warp};
use crate::fault::{FaultKind, Stop, stop};
use crate::instr::Instr;
use crate::regs::lanes;

/// The lanes of `mask` for which the guard of `instr` holds.
#[inline(always)]
pub(crate) fn active_lanes(warp: &Warp, instr: &Instr, mask: u32) -> Result<u32, Stop> {
    match instr.guard {
        None => Ok(mask),
        Some(guard) => {
            warp.regs.need_pred(mask, guard.pred)?;
            let bits = warp.regs.pred[guard.pred as usize];
            Ok(mask & if guard.negated { !bits } else { bits })
        }
    }
}

/// The ready fragment to run next, and where it may meet another one. Fragments at one place become one.
pub(crate) fn pick(warp: &mut Warp, rotate: bool) -> Option<(usize, u32)> {
    if let [only] = warp.fragments[..] {
        return (only.state == State::Ready).then_some((0, u32::MAX));
    }
    warp.fragments.retain(|f| f.mask != 0);
    let ready = |warp: &Warp| warp.fragments.iter().position(|f| f.state == State::Ready);
    let first = ready(warp)?;
    if rotate {
        warp.fragments.rotate_left(1);
        let f = ready(warp)?;
        return Some((f, u32::MAX));
    }
    let mut lowest = first;
    for f in first..warp.fragments.len() {
        if warp.fragments[f].state == State::Ready && warp.fragments[f].pc < warp.fragments[lowest].pc {
            lowest = f;
        }
    }
    let lowest = merge_ready(warp, lowest);
    let pc = warp.fragments[lowest].pc;
    let others = warp.fragments.iter().filter(|f| f.state == State::Ready && f.pc > pc);
    Some((lowest, others.map(|f| f.pc).min().unwrap_or(u32::MAX)))
}

/// Joins the ready fragments that stand where fragment `f` stands; its new index.
pub(crate) fn merge_ready(warp: &mut Warp, f: usize) -> usize {
    let Fragment { pc, .. } = warp.fragments[f];
    let same = |x: &Fragment| x.pc == pc && x.state == State::Ready;
    let mask = warp.fragments.iter().filter(|x| same(x)).fold(0, |m, x| m | x.mask);
    if mask == warp.fragments[f].mask {
        return f;
    }
    warp.fragments.retain(|x| !same(x));
    warp.fragments.push(Fragment { pc, mask, state: State::Ready });
    warp.fragments.len() - 1
}

/// Sends the lanes of fragment `f` that are not in `active` past its instruction.
pub(crate) fn split_rest(warp: &mut Warp, f: usize, active: u32) {
    let fragment = &mut warp.fragments[f];
    let rest = Fragment { pc: fragment.pc + 1, mask: fragment.mask & !active, state: State::Ready };
    fragment.mask = active;
    if rest.mask != 0 {
        warp.fragments.push(rest);
    }
}

/// The `active` lanes of fragment `f` need the lanes of `need` beside them. True if fragment `f` now has them; else it
/// waits.
pub(crate) fn gather(warp: &mut Warp, f: usize, active: u32, need: u32) -> Result<bool, Stop> {
    let pc = warp.fragments[f].pc;
    if let Some(gone) = lanes(need & !warp.live).next() {
        let message = format!("lane {gone} must take part but has exited or does not exist");
        return Err(stop(FaultKind::MemberMask, active.trailing_zeros(), message));
    }
    split_rest(warp, f, active);
    warp.fragments[f].state = State::Gathering;
    let here = |x: &Fragment| x.pc == pc && x.state == State::Gathering && x.mask & need != 0;
    let union = warp.fragments.iter().filter(|x| here(x)).fold(0, |m, x| m | x.mask);
    if need & !union != 0 {
        return Ok(false);
    }
    // The caller keeps its index: the others disappear into its place.
    let mut kept = warp.fragments[f];
    kept.mask = union;
    kept.state = State::Ready;
    for x in &mut warp.fragments {
        if here(x) {
            x.mask = 0;
        }
    }
    warp.fragments[f] = kept;
    Ok(true)
}
