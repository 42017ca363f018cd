//! The loop over the chunks of a sum: while one is multiplied, the next ones are on their way to shared memory.
//!
//! With `S` stages a chunk's place is filled `S - 1` trips before it is read. One barrier a trip does for both directions:
//! what was written before it may be read after it, and the place that was read in the trip before may be written. Chunks
//! that pass through registers are read from memory before a trip's products and written to shared memory after them.

use super::*;
use stage::{Stage, Unit};

/// Which chunks a tile sums.
pub(super) struct Span {
    /// First term.
    pub first: Val,
    /// Chunks that are staged.
    pub staged: Val,
    /// Chunks the main loop multiplies: those that are whole, if the last one is left to the caller.
    pub whole: Val,
}

/// Runs the main loop. `multiply` gets the stage whose turn it is and the carried values and gives their next ones. Returns
/// their last ones and the stage of the chunk that follows.
pub(super) fn run(
    kb: &mut Kb,
    operands: &[(&Stage, Vec<Unit>)],
    stages: i64,
    depth: i64,
    span: &Span,
    carried: &[Val],
    mut multiply: impl FnMut(&mut Kb, Val, &[Val]) -> Vec<Val>,
) -> (Vec<Val>, Val) {
    for ahead in 0..stages - 1 {
        let (chunk, slot) = (kb.k.int(ahead), kb.k.int(ahead));
        let read = issue(kb, operands, depth, span, chunk, slot);
        land(kb, operands, &read, slot);
        kb.k.copy_commit();
    }
    let zero = kb.k.int(0);
    let open = kb.k.begin_for((zero, span.whole, 1), carried, LoopHint::Plain);
    let (chunk, phis) = (open.var, open.phis.clone());
    kb.k.copy_wait((stages - 2) as u32);
    kb.k.barrier();
    let next = kb.k.add_int(chunk, stages - 1);
    let (from, to) = (turn(kb, chunk, stages), turn(kb, next, stages));
    let read = issue(kb, operands, depth, span, next, to);
    kb.k.copy_commit();
    let results = multiply(kb, from, &phis);
    land(kb, operands, &read, to);
    let results = kb.k.end_for(open, &results);
    (results, turn(kb, span.whole, stages))
}

/// The stage of a chunk.
fn turn(kb: &mut Kb, chunk: Val, stages: i64) -> Val {
    let stages = kb.k.int(stages);
    kb.k.bin(BinOp::Rem, chunk, stages)
}

/// Begins to stage a chunk, if it exists.
fn issue(kb: &mut Kb, operands: &[(&Stage, Vec<Unit>)], depth: i64, span: &Span, chunk: Val, slot: Val) -> Vec<Vec<Val>> {
    let skip = kb.k.mul_int(chunk, depth);
    let k0 = kb.k.add(span.first, skip);
    let place = |kb: &mut Kb, s: &Stage| kb.k.mul_int(slot, s.size);
    let exists = kb.k.cmp(Pred::Lt, chunk, span.staged);
    let copied = operands.iter().any(|o| o.0.copied);
    if copied {
        when(kb, exists, |kb| {
            for (s, units) in operands.iter().filter(|o| o.0.copied) {
                let slot = place(kb, s);
                s.issue(kb, units, k0, slot);
            }
        });
    }
    let mut read = Vec::new();
    for (s, units) in operands {
        // Reads of a chunk that does not exist are cut to nothing by its terms.
        let slot = place(kb, s);
        read.push(if s.copied { Vec::new() } else { s.issue(kb, units, k0, slot) });
    }
    read
}

fn land(kb: &mut Kb, operands: &[(&Stage, Vec<Unit>)], read: &[Vec<Val>], slot: Val) {
    for ((s, units), read) in operands.iter().zip(read) {
        if !s.copied {
            let slot = kb.k.mul_int(slot, s.size);
            s.land(kb, units, read, slot);
        }
    }
}
