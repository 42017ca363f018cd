//! Kernel IR: how something is computed. A kernel is a grid of independent tile tasks.
//!
//! Inside a tile: structured loops and branches over SSA values that are scalars or short vectors, loads and stores on
//! buffers with an element index, and checks. There are no calls and no transcendental functions: [`crate::math`] expands
//! those. Loop-carried values are SSA (a loop yields the next ones), so register accumulators need no memory.
//!
//! Meaning of the corners, the same on every target:
//! - integer `add`, `sub`, `mul`, `neg`, `abs` wrap; `div` and `rem` by zero give 0; `MIN / -1` is `MIN`, `MIN % -1` is 0;
//! - shifts by the width or more give 0, or the sign for a signed `shr`;
//! - `max a, b` is `b` if `b > a` or `b` is NaN, else `a`; `min` alike with `<`;
//! - float to integer conversion truncates, saturates, and maps NaN to 0; integer to integer wraps; anything to bool is
//!   `!= 0` (NaN is true); to a narrower float rounds to nearest even;
//! - `fma` rounds once.

use crate::dtype::DType;

pub mod build;
pub mod interp;
pub mod matrix;
pub mod team;
pub mod text;
pub mod verify;
pub use build::KernelBuilder;
pub use matrix::{MatrixInstr, MatrixStore};
pub use team::{Lane, TeamInstr, TeamStmt, WARP};

/// An SSA value of a kernel: index into [`Kernel::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val(pub u32);

/// Type of a kernel value: `lanes` elements of `dtype`; one lane is a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VType {
    /// Element type; one of those with [`DType::in_kernels`].
    pub dtype: DType,
    /// Number of lanes, at least 1. Any number: backends split or widen to what the target has.
    pub lanes: u32,
}

/// A buffer a kernel accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buf {
    /// Index into [`Kernel::params`].
    Param(u32),
    /// Index into [`Kernel::scratch`].
    Scratch(u32),
}

/// How a kernel uses a parameter buffer.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access { Read, Write, ReadWrite }

/// A buffer parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Name in the text form.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// How it is used.
    pub access: Access,
    /// True if no other parameter of a launch overlaps it.
    pub noalias: bool,
    /// Bytes its start is a multiple of, a power of two; 1 if nothing more is known than that elements are aligned.
    pub align: u32,
}

/// Whose scratch memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Space {
    /// The thread's that runs the tile, or takes part in it.
    #[default]
    Private,
    /// The tile's: all its threads use it.
    Shared,
}

/// Working memory of a tile; its contents do not survive the tile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scratch {
    /// Name in the text form.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Elements.
    pub len: ScratchLen,
    /// Whose it is; shared scratch has a constant length.
    pub space: Space,
}

/// Length of a scratch buffer in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScratchLen {
    /// A constant.
    Const(u64),
    /// The value of this dim parameter.
    Dim(u32),
}

/// A kernel. Invariants are listed in [`crate::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Name, unique in a program; letters, digits and `_`.
    pub name: String,
    /// Buffer parameters.
    pub params: Vec<Param>,
    /// Names of the i64 parameters: dims, strides, offsets.
    pub dims: Vec<String>,
    /// Scratch memory.
    pub scratch: Vec<Scratch>,
    /// Type of every value.
    pub values: Vec<VType>,
    /// Threads that run a tile together; 1 on CPUs. See [`team`].
    pub threads: u32,
    /// The tile task.
    pub body: Block,
    /// ONNX nodes it computes and remarks, shown as comments.
    pub notes: Vec<String>,
}

/// Statements in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Block(pub Vec<Stmt>);

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Defines a value.
    Let(Val, Instr),
    /// Stores the first `count` lanes of `value` (all without it) at elements `index + offset ..`.
    Store {
        /// Destination.
        buf: Buf,
        /// i64 scalar, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
        /// What to store.
        value: Val,
        /// i64 scalar: number of leading lanes to store; none means all.
        count: Option<Val>,
    },
    /// Says that the cache line of element `index + offset` will be read soon. It does nothing else, wherever that is: the
    /// element need not exist.
    Prefetch {
        /// What will be read.
        buf: Buf,
        /// i64 scalar, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
    },
    /// Counts `var` from `lo` below `hi` by `step`, carrying values from trip to trip.
    For(Box<For>),
    /// Chooses one of two blocks by a scalar bool.
    If(Box<If>),
    /// Ends the kernel with `code` (see the runtime's table of check codes) unless the scalar bool `cond` is true.
    Check {
        /// Must be true.
        cond: Val,
        /// Returned otherwise; not 0.
        code: u32,
    },
    /// Stores a matrix.
    MatrixStore(MatrixStore),
    /// Something the threads of a tile do together.
    Team(TeamStmt),
}

/// A counted loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct For {
    /// i64 scalar, the counter.
    pub var: Val,
    /// i64 scalar, first value.
    pub lo: Val,
    /// i64 scalar, exclusive bound.
    pub hi: Val,
    /// Positive constant step.
    pub step: i64,
    /// Values carried from trip to trip.
    pub carried: Vec<Carried>,
    /// The body.
    pub body: Block,
    /// How backends should treat it.
    pub hint: LoopHint,
}

/// A loop-carried value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Carried {
    /// Its name inside the body.
    pub phi: Val,
    /// Its value before the first trip.
    pub init: Val,
    /// Its value for the next trip, defined in the body or outside.
    pub next: Val,
    /// Its name after the loop: `init` if there was no trip.
    pub result: Val,
}

/// How backends should treat a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum LoopHint {
    /// Nothing special.
    #[default]
    Plain,
    /// Unroll by this factor.
    Unroll(u32),
}

/// A branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct If {
    /// Scalar bool.
    pub cond: Val,
    /// Runs if true.
    pub then: Block,
    /// Runs if false.
    pub els: Block,
    /// Per result: its name, its value from `then`, its value from `els`.
    pub results: Vec<(Val, Val, Val)>,
}

/// A constant, as raw bits of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Const {
    /// Element type.
    pub dtype: DType,
    /// Bits, zero-extended.
    pub bits: u64,
}

/// Instructions without side effects. Operands and result have equal types unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Instr {
    /// A constant in every lane.
    Const(Const),
    /// i64: number of this tile.
    Tile,
    /// i64: value of a dim parameter.
    Dim(u32),
    /// One operand.
    Un(UnOp, Val),
    /// Two operands.
    Bin(BinOp, Val, Val),
    /// `a * b + c`, rounded once.
    Fma(Val, Val, Val),
    /// `c` plus, in each lane, the products of four neighbouring 8-bit elements of `a` and `b`, which have four for each
    /// lane of `c`: i32, exact, wrapping. Each of `a` and `b` has a sign or not.
    Dot4(Val, Val, Val),
    /// Compares; the result is bool of the same lanes.
    Cmp(Pred, Val, Val),
    /// `cond ? a : b`, lane by lane; `cond` is bool, of one lane or of the same lanes.
    Select(Val, Val, Val),
    /// Converts to the result's element type.
    Convert(Val),
    /// Reinterprets the bits as another type of the same width and lanes.
    Bitcast(Val),
    /// A scalar in every lane.
    Splat(Val),
    /// `base, base+1, ...` from a scalar integer.
    Iota(Val),
    /// Lane `n` as a scalar.
    Extract(Val, u32),
    /// Lanes `first ..` as many as the result has.
    Slice(Val, u32),
    /// The lanes of `a`, then those of `b`.
    Concat(Val, Val),
    /// Any lanes of two vectors of one type, in any order: each number counts the lanes of the first, then those of the
    /// second.
    Permute(Val, Val, Box<[u32]>),
    /// Contiguous elements at `index + offset ..`; beyond `count` lanes memory is not read and the lanes are zero.
    Load {
        /// Source.
        buf: Buf,
        /// i64 scalar, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
        /// i64 scalar: number of leading lanes to read; none means all.
        count: Option<Val>,
    },
    /// Elements at `index + offset + lane * stride`; lanes beyond `count` are not read and are zero.
    LoadStrided {
        /// Source.
        buf: Buf,
        /// i64 scalar, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
        /// i64 scalar, in elements.
        stride: Val,
        /// i64 scalar: number of leading lanes to read; none means all.
        count: Option<Val>,
    },
    /// Elements at the i64 vector `index`, plus `offset`; lanes beyond `count` are not read and are zero.
    Gather {
        /// Source.
        buf: Buf,
        /// i64 vector, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
        /// i64 scalar: number of leading lanes to read; none means all.
        count: Option<Val>,
    },
    /// Makes a matrix.
    Matrix(MatrixInstr),
    /// Something the threads of a tile do together.
    Team(TeamInstr),
}

macro_rules! mnemonics {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl $name {
            /// Every one, in the order of the declaration.
            pub const ALL: &[$name] = &[$($name::$variant),*];
            /// Name in the text form.
            pub fn name(self) -> &'static str { match self { $($name::$variant => $text),* } }
            /// The one with this name.
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|x| x.name() == name)
            }
        }
    };
}
pub(crate) use mnemonics;

mnemonics! {
    /// Operations of one operand.
    UnOp {
        /// Negation.
        Neg "neg",
        /// Absolute value.
        Abs "abs",
        /// Square root of a float, correctly rounded.
        Sqrt "sqrt",
        /// Towards negative infinity; floats only.
        Floor "floor",
        /// Towards positive infinity; floats only.
        Ceil "ceil",
        /// Towards zero; floats only.
        Trunc "trunc",
        /// To nearest, ties to even; floats only.
        Round "round",
        /// Every bit flipped; logical for bool.
        Not "not",
    }
}

mnemonics! {
    /// Operations of two operands.
    BinOp {
        /// Sum.
        Add "add",
        /// Difference.
        Sub "sub",
        /// Product.
        Mul "mul",
        /// Quotient, truncated for integers.
        Div "div",
        /// Remainder with the dividend's sign; integers only.
        Rem "rem",
        /// Smaller; see the module text.
        Min "min",
        /// Larger; see the module text.
        Max "max",
        /// Bits in both; integers and bool.
        And "and",
        /// Bits in either; integers and bool.
        Or "or",
        /// Bits in one; integers and bool.
        Xor "xor",
        /// Left shift; integers.
        Shl "shl",
        /// Right shift, arithmetic for signed integers.
        Shr "shr",
    }
}

mnemonics! {
    /// Comparisons. All but `ne` are false if an operand is NaN; `ne` is true.
    Pred {
        /// Equal.
        Eq "eq",
        /// Not equal.
        Ne "ne",
        /// Less.
        Lt "lt",
        /// Less or equal.
        Le "le",
        /// Greater.
        Gt "gt",
        /// Greater or equal.
        Ge "ge",
    }
}

impl VType {
    /// A scalar.
    pub fn scalar(dtype: DType) -> VType { VType { dtype, lanes: 1 } }
    /// A vector.
    pub fn vector(dtype: DType, lanes: u32) -> VType { VType { dtype, lanes } }
    /// The same lanes of another element type.
    pub fn with(self, dtype: DType) -> VType { VType { dtype, ..self } }
}

impl Const {
    /// An f32.
    pub fn f32(x: f32) -> Const { Const { dtype: DType::F32, bits: u64::from(x.to_bits()) } }
    /// An f64.
    pub fn f64(x: f64) -> Const { Const { dtype: DType::F64, bits: x.to_bits() } }
    /// An i64.
    pub fn i64(x: i64) -> Const { Const { dtype: DType::I64, bits: x as u64 } }
    /// `x` as an integer of type `dtype`, wrapped.
    pub fn int(dtype: DType, x: i64) -> Const {
        let bits = dtype.bits();
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        Const { dtype, bits: x as u64 & mask }
    }
    /// A bool.
    pub fn bool(x: bool) -> Const { Const { dtype: DType::Bool, bits: u64::from(x) } }
    /// `x` rounded to type `dtype`; integers saturate.
    pub fn number(dtype: DType, x: f64) -> Const {
        match dtype {
            DType::F64 => Const::f64(x),
            DType::F32 => Const::f32(x as f32),
            DType::F16 => Const { dtype, bits: u64::from(half::f16::from_f64(x).to_bits()) },
            DType::BF16 => Const { dtype, bits: u64::from(half::bf16::from_f64(x).to_bits()) },
            DType::Bool => Const::bool(x != 0.0),
            DType::U64 => Const { dtype, bits: x as u64 },
            _ => Const::int(dtype, x as i64),
        }
    }
    /// The signed value of an integer constant.
    pub fn as_i64(self) -> i64 {
        let shift = 64 - self.dtype.bits();
        if self.dtype.is_signed() { ((self.bits << shift) as i64) >> shift } else { self.bits as i64 }
    }
}

impl Instr {
    /// True for the instructions that read memory.
    pub fn is_load(&self) -> bool {
        let team = matches!(self, Instr::Team(TeamInstr::LoadMatrix { .. }));
        let matrix = matches!(self, Instr::Matrix(MatrixInstr::Load { .. }));
        team || matrix || matches!(self, Instr::Load { .. } | Instr::LoadStrided { .. } | Instr::Gather { .. })
    }

    /// Values it reads.
    pub fn operands(&self) -> Vec<Val> {
        match self {
            Instr::Const(_) | Instr::Tile | Instr::Dim(_) => Vec::new(),
            Instr::Un(_, a)
            | Instr::Convert(a)
            | Instr::Bitcast(a)
            | Instr::Splat(a)
            | Instr::Iota(a)
            | Instr::Extract(a, _)
            | Instr::Slice(a, _) => vec![*a],
            Instr::Bin(_, a, b) | Instr::Cmp(_, a, b) | Instr::Concat(a, b) | Instr::Permute(a, b, _) => vec![*a, *b],
            Instr::Fma(a, b, c) | Instr::Dot4(a, b, c) | Instr::Select(a, b, c) => vec![*a, *b, *c],
            Instr::Load { index, count, .. } | Instr::Gather { index, count, .. } => {
                [*index].into_iter().chain(*count).collect()
            }
            Instr::LoadStrided { index, stride, count, .. } => [*index, *stride].into_iter().chain(*count).collect(),
            Instr::Matrix(instr) => instr.operands(),
            Instr::Team(instr) => instr.operands(),
        }
    }
}

impl Kernel {
    /// Type of a value.
    pub fn ty(&self, v: Val) -> VType { self.values[v.0 as usize] }

    /// Element type of a buffer.
    pub fn buf_dtype(&self, buf: Buf) -> DType {
        match buf {
            Buf::Param(i) => self.params[i as usize].dtype,
            Buf::Scratch(i) => self.scratch[i as usize].dtype,
        }
    }
}
