//! A plan made flat: steps as a list with jumps, arguments as ranges of two arrays, and who must know when what changes.

use crate::expr::Dependencies;
use crate::plan::{BufferId, ExprId, Host, KernelId, SymbolId};

/// One operation of a flat program. Targets are positions in [`Program::ops`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Runs [`Program::launches`]`[i]`.
    Launch(u32),
    /// Copies bytes.
    Copy { from: BufferId, to: BufferId, bytes: ExprId },
    /// Binds a symbol to an element of a buffer.
    Bind { symbol: SymbolId, from: BufferId, index: u32 },
    /// Binds a symbol to an expression.
    Set { symbol: SymbolId, value: ExprId },
    /// Checks a constraint whose symbols are all bound by now.
    Check(u32),
    /// Runs [`Program::hosts`]`[i]`.
    Host(u32),
    /// Jumps when the boolean is false.
    Branch { cond: BufferId, otherwise: u32 },
    /// Jumps.
    Jump(u32),
    /// Begins [`Program::loops`]`[i]`.
    LoopStart(u32),
    /// Makes another trip, or leaves the loop.
    LoopTest(u32),
    /// Ends a trip.
    LoopNext(u32),
    /// Exchanges two buffers.
    Swap { a: BufferId, b: BufferId },
    /// Appends to a heap buffer.
    Append { from: BufferId, to: BufferId, offset: ExprId, bytes: ExprId },
}

/// A kernel launch; its arguments are ranges of the session's arrays.
#[derive(Clone, Debug)]
pub(crate) struct LaunchInfo {
    pub(crate) kernel: KernelId,
    pub(crate) tiles: ExprId,
    pub(crate) scratch: ExprId,
    pub(crate) tile_ns: ExprId,
    pub(crate) flops: ExprId,
    pub(crate) traffic: ExprId,
    /// Buffer arguments; the first is number `first_arg` of all launches' arguments.
    pub(crate) buffers: Vec<(BufferId, ExprId)>,
    pub(crate) first_arg: usize,
    /// i64 arguments; the first is number `first_dim` of all launches' arguments.
    pub(crate) dims: Vec<ExprId>,
    pub(crate) first_dim: usize,
    /// Whether everything about it is known once the inputs' shapes are.
    pub(crate) is_static: bool,
}

/// A loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopInfo {
    pub(crate) trips: Option<BufferId>,
    pub(crate) cond: Option<BufferId>,
    pub(crate) counter: BufferId,
    pub(crate) symbol: SymbolId,
    /// Position of its [`Op::LoopTest`].
    pub(crate) test: u32,
    /// First position after the loop.
    pub(crate) exit: u32,
}

/// The flat form of a plan.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) launches: Vec<LaunchInfo>,
    pub(crate) loops: Vec<LoopInfo>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) dependencies: Dependencies,
    /// Constraints that need the inputs' shapes only.
    pub(crate) static_constraints: Vec<u32>,
    /// For each symbol, the launches to refresh when a step binds it.
    pub(crate) launches_of_symbol: Vec<Vec<u32>>,
    /// For each buffer, the arguments that point into it.
    pub(crate) args_of_buffer: Vec<Vec<u32>>,
    /// For each argument, its launch.
    pub(crate) launch_of_arg: Vec<u32>,
    /// Number of i64 arguments of all launches.
    pub(crate) dims: usize,
    /// Buffers that some step swaps.
    pub(crate) swapped: Vec<BufferId>,
    /// Runs with the same shapes launch the same kernels on the same sizes, whatever the data.
    pub(crate) has_fixed_work: bool,
}
