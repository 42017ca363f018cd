//! The plan: what to launch in which order, on which bytes, for which symbolic dims.
//!
//! A plan is data. The compiler writes it, [`crate::artifact`] stores it, the session walks it. Every size, offset and
//! scalar argument is an index into one table of expressions over the symbolic dims, so that one plan serves every shape:
//! when the shapes of the inputs change, the table is evaluated once, top to bottom, and nothing else is decided at run
//! time.

use serde::{Deserialize, Serialize};

/// Index into [`Plan::exprs`].
pub type ExprId = u32;
/// Index into [`Plan::symbols`].
pub type SymbolId = u32;
/// Index into [`Plan::buffers`].
pub type BufferId = u32;
/// Index into [`Plan::kernels`].
pub type KernelId = u32;

/// A complete program for one target variant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Symbolic dims. Those with [`SymbolSource::Input`] are known when `run` starts, the others are bound by a step.
    pub symbols: Vec<Symbol>,
    /// Expressions in dependency order: an expression uses only earlier ones.
    pub exprs: Vec<Expr>,
    /// Pairs that must be equal (or ranges that must hold), checked as soon as their symbols are known.
    pub constraints: Vec<Constraint>,
    /// Graph inputs, in the model's order.
    pub inputs: Vec<TensorDecl>,
    /// Graph outputs, in the model's order.
    pub outputs: Vec<TensorDecl>,
    /// Every buffer a step touches.
    pub buffers: Vec<Buffer>,
    /// Bytes of the arena.
    pub arena_bytes: ExprId,
    /// Compiled kernels, in the order of their entry points in the code section.
    pub kernels: Vec<Kernel>,
    /// The program.
    pub steps: Vec<Step>,
}

/// A symbolic dim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbol {
    /// Name shown to people; the ONNX `dim_param` where there is one.
    pub name: String,
    /// Where its value comes from.
    pub source: SymbolSource,
    /// Smallest and largest value the artifact was compiled for, both included.
    pub range: (i64, i64),
}

/// Where the value of a symbol comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SymbolSource {
    /// Size of `axis` of graph input `input`.
    Input {
        /// Position in [`Plan::inputs`].
        input: u32,
        /// Axis of that input.
        axis: u32,
    },
    /// Bound by a [`Step::Bind`], a loop or a host routine while the plan runs.
    Step,
}

/// An integer expression over symbols; division rounds towards negative infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expr {
    /// A constant.
    Const(i64),
    /// The value of a symbol.
    Symbol(SymbolId),
    /// Sum.
    Add(ExprId, ExprId),
    /// Product.
    Mul(ExprId, ExprId),
    /// Quotient, rounded down; the divisor is positive.
    FloorDiv(ExprId, ExprId),
    /// Remainder with the divisor's sign.
    Mod(ExprId, ExprId),
    /// Smaller of two.
    Min(ExprId, ExprId),
    /// Larger of two.
    Max(ExprId, ExprId),
}

/// Something that must hold for the symbols of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// The two sides.
    pub left: ExprId,
    /// See `left`.
    pub right: ExprId,
    /// How they are compared.
    pub relation: Relation,
    /// Sentence for the user: what was assumed, and the node it is about.
    pub why: String,
}

/// Comparison in a [`Constraint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// Both sides are equal.
    Equal,
    /// The left side is at most the right side.
    AtMost,
}

/// Name, element type and shape of a graph input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorDecl {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// One expression per axis.
    pub shape: Vec<ExprId>,
    /// The buffer that holds it.
    pub buffer: BufferId,
}

/// Element types that can cross the runtime's boundary. `Bool` is one byte, 0 or 1.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

/// A range of bytes steps read and write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Where the bytes live.
    pub storage: Storage,
    /// Size in bytes.
    pub bytes: ExprId,
}

/// Where a buffer's bytes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// At this byte offset in the session's arena; 64-byte aligned.
    Arena(ExprId),
    /// In an allocation of its own that only grows: sizes that depend on data.
    Heap,
    /// At this byte offset in the weights section.
    Weight(u64),
    /// The caller's input.
    Input(u32),
    /// The caller's output.
    Output(u32),
}

/// One compiled kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Name in profiles and listings; for a GPU that of the entry point in the code section's PTX text.
    pub name: String,
    /// Byte offset of the entry point in the code section; 0 for a GPU, which finds kernels by name.
    pub entry: u64,
    /// ONNX nodes it computes.
    pub nodes: Vec<String>,
    /// How a GPU runs its tiles; none for CPU code. All kernels of a plan are of one kind.
    pub block: Option<BlockShape>,
}

/// How a GPU runs the tiles of a kernel.
///
/// A launch has `ceil(tiles / block.tiles)` blocks in `x`. Its parameters are, in this order: a `u64` pointer for each
/// buffer argument (byte offset added), an `s64` for each dim argument, `s64` tiles, `u64` scratch memory (0 if there is
/// none), `s64` bytes of it per worker, and `u64` the address of this launch's `u32` status, where a failed check leaves
/// its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockShape {
    /// Threads of a block.
    pub threads: u32,
    /// Tiles one block runs, each by a worker of its own: more than 1 where one thread runs one tile.
    pub tiles: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Whether the grid may be smaller than the tiles, because workers stride over them; for kernels with scratch memory.
    pub strided: bool,
    /// Bit `i` is set if buffer argument `i` may be written; those from 64 on may be. Kernels that only read what another
    /// reads may run beside it.
    pub writes: u64,
}

/// One step. Buffers and expressions are indices into the plan's tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Runs a kernel over its grid of tiles.
    Launch(Launch),
    /// Copies `bytes` bytes from one buffer to another.
    Copy {
        /// Source.
        from: BufferId,
        /// Destination.
        to: BufferId,
        /// Bytes to copy.
        bytes: ExprId,
    },
    /// Binds `symbol` to element `index` of an i64 buffer; a negative value or one outside the range is an error.
    Bind {
        /// Symbol to bind.
        symbol: SymbolId,
        /// Buffer of i64.
        from: BufferId,
        /// Element index.
        index: u32,
    },
    /// Binds `symbol` to an expression, so that the shapes of an `if` or a loop can be told outside of it.
    Set {
        /// Symbol to bind.
        symbol: SymbolId,
        /// Its value.
        value: ExprId,
    },
    /// Runs a routine of [`crate::host`].
    Host(Host),
    /// Runs one of two step lists, chosen by a one-byte boolean.
    If {
        /// Boolean buffer.
        cond: BufferId,
        /// Steps when it is true.
        #[serde(deserialize_with = "nested_steps")]
        then_steps: Vec<Step>,
        /// Steps when it is false.
        #[serde(deserialize_with = "nested_steps")]
        else_steps: Vec<Step>,
    },
    /// Repeats `body`.
    Loop {
        /// i64 scalar with the largest number of trips; none means no limit but the fuel.
        trips: Option<BufferId>,
        /// Boolean scalar that must be true before each trip; the body writes it anew.
        cond: Option<BufferId>,
        /// i64 scalar that holds the trip number while the body runs.
        counter: BufferId,
        /// Symbol whose value is the trip number while the body runs and the number of trips made afterwards.
        symbol: SymbolId,
        /// The body.
        #[serde(deserialize_with = "nested_steps")]
        body: Vec<Step>,
    },
    /// Exchanges two buffers of the same size: what a loop carries, without a copy.
    Swap {
        /// One buffer.
        a: BufferId,
        /// The other.
        b: BufferId,
    },
    /// Appends `bytes` bytes of `from` to the heap buffer `to` at `offset`, which grows as needed and keeps its contents.
    Append {
        /// Source.
        from: BufferId,
        /// Heap buffer.
        to: BufferId,
        /// Byte offset in `to`.
        offset: ExprId,
        /// Bytes to append.
        bytes: ExprId,
    },
}

/// A kernel launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The kernel.
    pub kernel: KernelId,
    /// Number of tiles; none are run when it is zero or less.
    pub tiles: ExprId,
    /// Buffer arguments, in the kernel's order, each with a byte offset.
    pub buffers: Vec<(BufferId, ExprId)>,
    /// i64 arguments, in the kernel's order.
    pub dims: Vec<ExprId>,
    /// Bytes of scratch memory each worker needs.
    pub scratch: ExprId,
    /// Estimated cost of one tile in nanoseconds: the pool uses it to decide how many workers are worth waking.
    pub tile_ns: ExprId,
    /// Floating-point operations of the launch, for profiles.
    pub flops: ExprId,
    /// Bytes of memory traffic of the launch, for profiles.
    pub traffic: ExprId,
}

/// A call of a host routine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Which routine.
    pub routine: Routine,
    /// Operands, each with its element type and shape, contiguous in row-major order.
    pub inputs: Vec<Operand>,
    /// Results; those of data-dependent size live in heap buffers that the routine sizes.
    pub outputs: Vec<Operand>,
    /// Symbols the routine binds, in its documented order, before the outputs' shapes are evaluated.
    pub binds: Vec<SymbolId>,
    /// ONNX nodes it computes.
    pub nodes: Vec<String>,
}

/// An operand of a host routine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operand {
    /// The bytes.
    pub buffer: BufferId,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<ExprId>,
}

/// Host routines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routine {
    /// Inputs `x`, `k` (i64 scalar, already used in the output shapes); outputs values and i64 indices along `axis`.
    TopK {
        /// Axis to search.
        axis: u32,
        /// Largest instead of smallest.
        largest: bool,
    },
    /// Input `x`; output i64 `[rank, count]`; binds `count`.
    NonZero,
}

/// Decodes steps within steps, but not so deep that a forged file could exhaust the stack.
fn nested_steps<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<Vec<Step>, D::Error> {
    thread_local! {
        static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    let depth = DEPTH.get();
    if depth >= crate::lower::MAX_DEPTH {
        return Err(serde::de::Error::custom("steps are nested too deep"));
    }
    DEPTH.set(depth + 1);
    let steps = Vec::deserialize(decoder);
    DEPTH.set(depth);
    steps
}
