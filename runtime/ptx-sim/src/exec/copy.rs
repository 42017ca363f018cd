//! `cp.async`: copies that take effect at an unknown moment before the wait that covers them.
//!
//! A fast run copies at once. An adversarial run copies at once or as late as the wait allows, at random, and from the
//! issue to the wait every access to the destination is a race.

use crate::exec::access::{addresses, global_access, shared_access};
use crate::exec::{Env, Site, Warp};
use crate::fault::{FaultKind, Stop, stop};
use crate::instr::Copy;
use crate::race::Kind;
use crate::regs::lanes;

/// The copies that the lanes of a warp have issued.
#[derive(Default)]
pub(crate) struct Copies {
    /// Groups that each lane has committed.
    committed: [u32; 32],
    pending: Vec<Pending>,
}

/// One copy under way.
struct Pending {
    lane: u8,
    group: u32,
    /// Offset in shared memory, and bytes there.
    offset: usize,
    bytes: usize,
    /// Address in global memory, and bytes taken from there.
    source: u64,
    taken: usize,
    /// The bytes have arrived already, though nobody may know.
    done: bool,
    site: Site,
}

impl Copies {
    /// Ends the open group of these lanes.
    pub fn commit(&mut self, mask: u32) {
        lanes(mask).for_each(|lane| self.committed[lane] += 1);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.committed = [0; 32];
        self.pending.clear();
    }
}

/// Issues copies.
pub(crate) fn issue(env: &mut Env, warp: &mut Warp, c: &Copy, mask: u32, site: Site) -> Result<(), Stop> {
    let to = addresses(&warp.regs, &c.to, mask)?;
    let from = addresses(&warp.regs, &c.from, mask)?;
    if let Some(taken) = c.taken {
        warp.regs.need(mask, taken)?;
    }
    let ignored = match c.ignore {
        Some(pred) => {
            warp.regs.need_pred(mask, pred)?;
            warp.regs.pred[pred as usize]
        }
        None => 0,
    };
    let bytes = c.bytes as usize;
    for lane in lanes(mask) {
        let all = if ignored >> lane & 1 == 1 { 0 } else { c.bytes };
        let taken = c.taken.map_or(all, |reg| warp.regs.get(reg, lane) as u32) as usize;
        if taken > bytes {
            let message = format!("`cp.async` of {bytes} bytes takes {taken} from its source");
            return Err(stop(FaultKind::BadInstruction, lane as u32, message));
        }
        if (to[lane] | from[lane]) % bytes as u64 != 0 {
            let message = format!("`cp.async` of {bytes} bytes from {:#x} to {:#x}", from[lane], to[lane]);
            return Err(stop(FaultKind::Misaligned, lane as u32, message));
        }
        issue_one(env, warp, lane, (to[lane], from[lane]), bytes, taken, site)?;
    }
    Ok(())
}

fn issue_one(
    env: &mut Env,
    warp: &mut Warp,
    lane: usize,
    (to, from): (u64, u64),
    bytes: usize,
    taken: usize,
    site: Site,
) -> Result<(), Stop> {
    if taken > 0 {
        global_access(env, warp, lane, from, taken, Kind::Read, site)?;
    }
    let offset = shared_access(env, warp, lane, to, bytes, Kind::Copy, site)?;
    let mut pending = Pending {
        lane: lane as u8,
        group: warp.copies.committed[lane],
        offset,
        bytes,
        source: from,
        taken,
        done: true,
        site,
    };
    if !env.late {
        return transfer(env, &pending);
    }
    pending.done = env.random.as_mut().is_none_or(|random| random.one_in(2));
    if pending.done {
        transfer(env, &pending)?;
    } else {
        env.shared[offset..offset + bytes].fill(0xff);
    }
    mark(env, &pending, 1);
    warp.copies.pending.push(pending);
    Ok(())
}

/// Notes that a copy to these words begins (1) or ends (-1).
fn mark(env: &mut Env, pending: &Pending, change: i8) {
    for word in pending.offset / 4..(pending.offset + pending.bytes) / 4 {
        let before = env.pending[word];
        env.pending[word] = before.saturating_add_signed(change);
        env.pending_words += usize::from(before == 0);
        env.pending_words -= usize::from(env.pending[word] == 0);
    }
}

fn transfer(env: &mut Env, p: &Pending) -> Result<(), Stop> {
    let mut data = [0; 16];
    if p.taken > 0 && env.memory.read(p.source, &mut data[..p.taken]).is_err() {
        let message = format!("`cp.async` of line {} reads memory that is gone", p.site.line);
        return Err(stop(FaultKind::OutOfBounds, u32::from(p.lane), message));
    }
    env.shared[p.offset..p.offset + p.bytes].copy_from_slice(&data[..p.bytes]);
    Ok(())
}

/// Waits until at most `groups` groups of each lane are under way; for all copies if absent.
pub(crate) fn wait(env: &mut Env, warp: &mut Warp, mask: u32, groups: Option<u32>) -> Result<(), Stop> {
    if warp.copies.pending.is_empty() {
        return Ok(());
    }
    let committed = warp.copies.committed;
    let covered = |p: &Pending| {
        let lane = p.lane as usize;
        let finished = groups.is_none_or(|groups| p.group < committed[lane] && p.group + groups < committed[lane]);
        mask >> lane & 1 == 1 && finished
    };
    let (complete, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut warp.copies.pending).into_iter().partition(covered);
    warp.copies.pending = rest;
    for p in &complete {
        if !p.done {
            transfer(env, p)?;
        }
        mark(env, p, -1);
        let thread = warp.thread(p.lane as usize);
        if let Some(races) = &mut env.races {
            races.copy_waited(thread, p.offset, p.bytes);
        }
    }
    Ok(())
}

/// The bytes of copies that exiting lanes never waited for arrive; nobody may ever look at them.
pub(crate) fn abandon(env: &mut Env, warp: &mut Warp, mask: u32) -> Result<(), Stop> {
    for p in &mut warp.copies.pending {
        if mask >> p.lane & 1 == 1 && !p.done {
            p.done = true;
            transfer(env, p)?;
        }
    }
    Ok(())
}
