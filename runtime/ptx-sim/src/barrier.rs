//! Block barriers: who has arrived, who waits, and what passes between them.

use crate::exec::{Env, State, Warp, compare};
use crate::fault::{FaultKind, Stop, stop};
use crate::instr::{Barrier, Collective, Op};
use crate::race::Joined;
use crate::regs::{LANES, Slot, lanes};

/// Hardware barriers of a block.
pub(crate) const BARRIERS: usize = 16;

/// The state of one barrier.
#[derive(Default)]
pub(crate) struct BarrierState {
    pub arrived: u32,
    /// The count that the arrivals so far have named; `Some(None)`: all threads of the block.
    expected: Option<Option<u32>>,
    joined: Joined,
    /// Predicates of `bar.red`: how many are true, and how many there are.
    votes: (u32, u32),
}

/// The one value of `slot` in all lanes of `mask`.
fn uniform(warp: &Warp, slot: Slot, mask: u32) -> Result<u32, Stop> {
    warp.regs.need32(mask, [slot])?;
    let row = &warp.regs.w32[slot as usize];
    let value = row[mask.trailing_zeros() as usize & 31];
    match lanes(mask).find(|lane| row[*lane] != value) {
        None => Ok(value),
        Some(lane) => Err(stop(FaultKind::BadInstruction, lane as u32, "lanes of a warp name different barriers")),
    }
}

/// The lanes of `mask` arrive. Returns the barrier they arrived at; the caller releases it if it is complete.
pub(crate) fn arrive(
    env: &mut Env,
    warp: &mut Warp,
    barriers: &mut [BarrierState],
    b: &Barrier,
    mask: u32,
) -> Result<usize, Stop> {
    let lane = mask.trailing_zeros();
    let id = uniform(warp, b.id, mask)? as usize;
    let threads = b.threads.map(|slot| uniform(warp, slot, mask)).transpose()?;
    if id >= BARRIERS {
        return Err(stop(FaultKind::BadInstruction, lane, format!("barrier {id}: there are 16")));
    }
    if let Some(n) = threads.filter(|n| *n == 0 || n % 32 != 0) {
        return Err(stop(
            FaultKind::BadInstruction,
            lane,
            format!("barrier for {n} threads, which are not whole warps"),
        ));
    }
    let state = &mut barriers[id];
    if state.expected.is_some_and(|e| e != threads) {
        let message = format!("barrier {id} is used with different thread counts at the same time");
        return Err(stop(FaultKind::BarrierDivergence, lane, message));
    }
    state.expected = Some(threads);
    // Counted barriers count whole warps, even if the last warp of the block is not full.
    state.arrived += if threads.is_some() && b.aligned { 32 } else { mask.count_ones() };
    if let Some(n) = threads.filter(|n| state.arrived > *n) {
        let message = format!("barrier {id} for {n} threads: {} have arrived", state.arrived);
        return Err(stop(FaultKind::BarrierDivergence, lane, message));
    }
    if let Some((_, _, value)) = b.reduce {
        let bits = compare::guard_bits(&warp.regs, value, mask)?;
        state.votes.0 += (bits & mask).count_ones();
        state.votes.1 += mask.count_ones();
    }
    if let Some(races) = &mut env.races {
        lanes(mask).for_each(|lane| races.release(warp.thread(lane), &mut state.joined));
    }
    Ok(id)
}

impl BarrierState {
    /// Whether as many threads have arrived as are expected, `live` being the threads that have not exited.
    pub fn is_complete(&self, live: u32) -> bool {
        self.arrived > 0 && self.expected.is_some_and(|e| e.unwrap_or(live) == self.arrived)
    }
}

/// Lets everyone who waits at barrier `id` go on.
pub(crate) fn release(env: &mut Env, warps: &mut [Warp], barriers: &mut [BarrierState], id: usize) {
    let state = std::mem::take(&mut barriers[id]);
    env.barriers += 1;
    let mut waiters = Vec::new();
    for warp in warps.iter_mut() {
        for index in 0..warp.fragments.len() {
            let fragment = warp.fragments[index];
            if fragment.state != State::Barrier(id as u8) {
                continue;
            }
            reduce(env, warp, fragment.pc as usize, fragment.mask, state.votes);
            warp.fragments[index].state = State::Ready;
            warp.fragments[index].pc += 1;
            if env.races.is_some() {
                waiters.extend(lanes(fragment.mask).map(|lane| warp.thread(lane)));
            }
        }
    }
    let whole = state.expected == Some(None);
    match &mut env.races {
        Some(races) if whole => races.full_barrier(),
        Some(races) => races.acquire(waiters.into_iter(), state.joined),
        None => {}
    }
}

/// Writes the result of `bar.red`.
fn reduce(env: &Env, warp: &mut Warp, pc: usize, mask: u32, (votes, all): (u32, u32)) {
    let Op::Barrier(barrier) = &env.kernel.code[pc].op else { return };
    let Some((kind, to, _)) = barrier.reduce else { return };
    let value = match kind {
        Collective::All => u64::from(votes == all),
        Collective::Any => u64::from(votes > 0),
        _ => u64::from(votes),
    };
    warp.regs.set_row(to, mask, &[value; LANES]);
}
