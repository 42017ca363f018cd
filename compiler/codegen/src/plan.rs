//! What code generation gives: kernels, and the plan that launches them, in symbolic dims.
//!
//! The driver turns this into the runtime's plan; the two are alike, but here every number is a [`Dim`] and weights are
//! recipes.

use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{Constraint, Loc};
use xlac_ir::kernel::Kernel;
use xlac_ir::types::Type;
use xlac_ir::DType;

use crate::pack::Blob;

/// Index into [`Plan::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// A compiled program before its kernels become machine code.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kernels, each once however often it is launched.
    pub kernels: Vec<Kernel>,
    /// Constant data, in the order of the weights section.
    pub blobs: Vec<Blob>,
    /// Graph inputs.
    pub inputs: Vec<Io>,
    /// Graph outputs.
    pub outputs: Vec<Io>,
    /// Buffers.
    pub buffers: Vec<Buffer>,
    /// Bytes of the arena.
    pub arena: Dim,
    /// The program.
    pub steps: Vec<Step>,
    /// Assumptions about symbols.
    pub constraints: Vec<Constraint>,
    /// Bounds of symbols.
    pub ranges: Vec<(Symbol, i64, i64)>,
}

impl Plan {
    /// Steps that the runtime's own routines make, on the host whatever the target is.
    pub fn host_steps(&self) -> Vec<&Host> {
        let mut found = Vec::new();
        let mut stack: Vec<&[Step]> = vec![&self.steps];
        while let Some(steps) = stack.pop() {
            for step in steps {
                match step {
                    Step::Host(host) => found.push(host),
                    Step::If { then_steps, else_steps, .. } => stack.extend([&then_steps[..], &else_steps[..]]),
                    Step::Loop { body, .. } => stack.push(body),
                    _ => {}
                }
            }
        }
        found
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            kernels: Vec::new(),
            blobs: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            buffers: Vec::new(),
            arena: Dim::ZERO,
            steps: Vec::new(),
            constraints: Vec::new(),
            ranges: Vec::new(),
        }
    }
}

/// A graph input or output.
#[derive(Clone, Debug)]
pub struct Io {
    /// ONNX name.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// Its buffer.
    pub buffer: BufferId,
}

/// A buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Where it lives.
    pub storage: Storage,
    /// Size.
    pub bytes: Dim,
}

/// Where a buffer lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Not placed yet; the memory plan turns it into one of the others.
    Temp,
    /// At this byte offset of the arena.
    Arena(Dim),
    /// In an allocation of its own: its size depends on data.
    Heap,
    /// Constant data: index into [`Plan::blobs`].
    Blob(u32),
    /// Graph input.
    Input(u32),
    /// Graph output.
    Output(u32),
}

/// A step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Runs a kernel.
    Launch(Launch),
    /// Copies bytes.
    Copy {
        /// Source.
        from: BufferId,
        /// Destination.
        to: BufferId,
        /// How many.
        bytes: Dim,
    },
    /// Binds a symbol to an element of an i64 buffer.
    Bind {
        /// The symbol.
        symbol: Symbol,
        /// The buffer.
        from: BufferId,
        /// The element.
        index: u32,
    },
    /// Binds a symbol to an expression.
    Set {
        /// The symbol.
        symbol: Symbol,
        /// Its value.
        value: Dim,
    },
    /// Calls a routine of the runtime.
    Host(Host),
    /// Branches on a bool scalar.
    If {
        /// The condition.
        cond: BufferId,
        /// Steps if true.
        then_steps: Vec<Step>,
        /// Steps if false.
        else_steps: Vec<Step>,
    },
    /// Repeats steps.
    Loop {
        /// i64 scalar: most trips.
        trips: Option<BufferId>,
        /// Bool scalar: condition for the next trip.
        cond: Option<BufferId>,
        /// i64 scalar: trip number.
        counter: BufferId,
        /// Trip number while the body runs, trips made afterwards.
        symbol: Symbol,
        /// The body.
        body: Vec<Step>,
    },
    /// Appends to a heap buffer.
    Append {
        /// Source.
        from: BufferId,
        /// Destination.
        to: BufferId,
        /// Byte offset in the destination.
        offset: Dim,
        /// How many bytes.
        bytes: Dim,
    },
}

/// A kernel launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Index into [`Plan::kernels`].
    pub kernel: usize,
    /// Number of tiles.
    pub tiles: Dim,
    /// Buffer arguments with byte offsets.
    pub buffers: Vec<(BufferId, Dim)>,
    /// Dim arguments.
    pub dims: Vec<Dim>,
    /// Bytes of scratch memory.
    pub scratch: Dim,
    /// Cost of a tile, nanoseconds.
    pub tile_ns: Dim,
    /// Floating-point operations.
    pub flops: Dim,
    /// Bytes read and written.
    pub traffic: Dim,
    /// Origin.
    pub loc: Loc,
}

/// A call of a host routine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Which.
    pub routine: Routine,
    /// Operands.
    pub inputs: Vec<Operand>,
    /// Results.
    pub outputs: Vec<Operand>,
    /// Symbols it binds.
    pub binds: Vec<Symbol>,
    /// Origin.
    pub loc: Loc,
}

/// An operand of a host routine: contiguous, row-major.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Its buffer.
    pub buffer: BufferId,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<Dim>,
}

/// Host routines; see the runtime's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routine {
    /// Largest or smallest elements.
    TopK {
        /// Axis.
        axis: usize,
        /// Largest instead of smallest.
        largest: bool,
    },
    /// Positions of nonzero elements.
    NonZero,
}
