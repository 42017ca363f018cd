//! The order of statements: loads from global memory come first, so that one waits for none of the others.
//!
//! ptxas would do it, but an access that looks at its alignment or its count is a branch, and nothing moves over that.

use std::collections::HashMap;

use xlac_ir::kernel::{Block, Buf, Instr, Stmt, Val};

/// Most elements that are loaded before anything is done with them.
const MOST_LOADED: usize = 8;

/// The statements of a block. Only those that define values change places, and not over others.
pub(super) fn loads_first(block: &Block) -> Vec<&Stmt> {
    let mut ordered = Vec::with_capacity(block.0.len());
    let defines = |s: &Stmt| matches!(s, Stmt::Let(..));
    for run in block.0.chunk_by(|a, b| defines(a) && defines(b)) {
        let early = early(run);
        let pick = |first: bool| run.iter().zip(&early).filter(move |(_, e)| **e == first).map(|(s, _)| s);
        ordered.extend(pick(true).chain(pick(false)));
    }
    ordered
}

/// Which statements of a run are loads, or needed by them.
fn early(run: &[Stmt]) -> Vec<bool> {
    let mut early = vec![false; run.len()];
    let loads: Vec<usize> = (0..run.len()).filter(|&i| is_load(&run[i])).take(MOST_LOADED).collect();
    if loads.len() < 2 {
        return early;
    }
    let at: HashMap<Val, usize> = run
        .iter()
        .enumerate()
        .filter_map(|(i, s)| if let Stmt::Let(v, _) = s { Some((*v, i)) } else { None })
        .collect();
    let mut work = loads;
    while let Some(i) = work.pop() {
        if std::mem::replace(&mut early[i], true) {
            continue;
        }
        if let Stmt::Let(_, instr) = &run[i] {
            work.extend(instr.operands().iter().filter_map(|v| at.get(v)));
        }
    }
    early
}

fn is_load(stmt: &Stmt) -> bool {
    let Stmt::Let(_, instr) = stmt else { return false };
    let (Instr::Load { buf, .. } | Instr::LoadStrided { buf, .. } | Instr::Gather { buf, .. }) = instr else {
        return false;
    };
    matches!(buf, Buf::Param(_))
}
