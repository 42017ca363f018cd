//! Finds stretches of a program that can be launched as one graph: straight-line launches and copies of which everything
//! is known once the shapes of the inputs are, on buffers that never move meanwhile.

use crate::plan::{BufferId, Plan, Storage};
use crate::program::{Op, Program};

/// Positions `start..end` of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A graph costs more to launch than a single kernel.
const SHORTEST: usize = 2;

/// All stretches, in order.
pub(super) fn find_stretches(plan: &Plan, program: &Program) -> Vec<Stretch> {
    let fixed = fixed_buffers(plan, program);
    let mut is_target = vec![false; program.ops.len() + 1];
    for op in &program.ops {
        match *op {
            Op::Branch { otherwise: target, .. } | Op::Jump(target) => is_target[target as usize] = true,
            _ => {}
        }
    }
    for info in &program.loops {
        is_target[info.test as usize] = true;
        is_target[info.exit as usize] = true;
    }
    let mut stretches = Vec::new();
    let mut start = 0;
    for (end, &is_target) in is_target.iter().enumerate() {
        let goes_on = program.ops.get(end).is_some_and(|op| is_static(plan, program, &fixed, op));
        if goes_on && !is_target {
            continue;
        }
        // With the copies of inputs and outputs, a program of one launch is long enough.
        let is_whole = start == 0 && end == program.ops.len() && end > 0;
        if end - start >= SHORTEST || is_whole {
            stretches.push(Stretch { start: start as u32, end: end as u32 });
        }
        start = if goes_on { end } else { end + 1 };
    }
    stretches
}

/// Which buffers stay where they are as long as the shapes of the inputs do.
pub(super) fn fixed_buffers(plan: &Plan, program: &Program) -> Vec<bool> {
    let is_static = |id| program.dependencies.is_static(id);
    let mut fixed: Vec<bool> =
        plan.buffers.iter().map(|buffer| buffer.storage != Storage::Heap || is_static(buffer.bytes)).collect();
    let mut moves = |buffer: BufferId| fixed[buffer as usize] = false;
    program.swapped.iter().for_each(|&buffer| moves(buffer));
    for op in &program.ops {
        if let Op::Append { to, .. } = *op {
            moves(to);
        }
    }
    for operand in program.hosts.iter().flat_map(|host| &host.outputs) {
        if plan.buffers[operand.buffer as usize].storage == Storage::Heap {
            moves(operand.buffer);
        }
    }
    fixed
}

fn is_static(plan: &Plan, program: &Program, fixed: &[bool], op: &Op) -> bool {
    match *op {
        Op::Launch(number) => {
            let launch = &program.launches[number as usize];
            launch.is_static && launch.buffers.iter().all(|&(buffer, _)| fixed[buffer as usize])
        }
        Op::Copy { from, to, bytes } => {
            let size = plan.buffers[to as usize].bytes;
            fixed[from as usize]
                && fixed[to as usize]
                && [bytes, size].iter().all(|&id| program.dependencies.is_static(id))
        }
        _ => false,
    }
}
