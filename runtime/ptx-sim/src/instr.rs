//! Decoded instructions: registers as slots, labels as indices, suffixes as enums.
//!
//! The frequent ones have a variant of their own, executed for all lanes by a loop that the compiler vectorises; the
//! rest is [`Op::Lane`], a function of up to three raw values and a word of modifiers, called lane by lane.

use crate::regs::{Reg, Slot};
use crate::types::{Space, Ty};

/// A pure instruction: raw values of up to three sources and its modifiers to the raw result.
pub(crate) type LaneFn = fn([u64; 3], Mods) -> u64;

/// Modifiers of a [`LaneFn`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mods {
    /// Types of the destination and of the sources, where the function serves several.
    pub to: Ty,
    pub from: Ty,
    /// [`crate::float::Round`] as a number.
    pub round: u8,
    /// Rounds to an integral value first, or bits of a table (`lop3`).
    pub code: u8,
    pub ftz: bool,
    pub sat: bool,
    /// A NaN operand wins (`min.NaN`).
    pub nan: bool,
    pub relu: bool,
}

impl Mods {
    /// No modifiers, on values of type `ty`.
    pub fn of(ty: Ty) -> Mods {
        Mods { to: ty, from: ty, round: 0, code: 0, ftz: false, sat: false, nan: false, relu: false }
    }
}

/// When an instruction executes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub pred: Slot,
    pub negated: bool,
}

/// One instruction of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Instr {
    pub op: Op,
    pub guard: Option<Guard>,
    pub line: u32,
}

/// Vectorised functions of one 32-bit value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Un32 {
    Mov,
    Not,
    Neg,
    FNeg,
    FAbs,
    F16ToF32,
    Bf16ToF32,
    F32ToF16,
    F32ToBf16,
    S32ToF32,
    U32ToF32,
    Low16,
    Low8,
    Sign8,
    Sign16,
}

/// Vectorised functions of two 32-bit values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bin32 {
    Add,
    Sub,
    Mul,
    MinS,
    MaxS,
    MinU,
    MaxU,
    And,
    Or,
    Xor,
    Shl,
    ShrU,
    ShrS,
    FAdd,
    FSub,
    FMul,
    FMin,
    FMax,
    /// First operand in the upper half.
    PackBf16,
    PackF16,
    /// First operand in the lower half.
    Pack16,
}

/// Vectorised functions of three 32-bit values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tri32 {
    Mad,
    Fma,
}

/// Vectorised functions of two 64-bit values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bin64 {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Xor,
}

/// Vectorised functions of a 64-bit and a 32-bit value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shift64 {
    Shl,
    ShrU,
    ShrS,
}

/// What a vectorised comparison compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Unsigned,
    Signed,
    Float,
}

/// Comparison operators; the last eight are true for, or test for, unordered operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

/// How a comparison is combined with a predicate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// `set` and `setp` in full generality.
#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub cmp: Cmp,
    pub ty: Ty,
    pub ftz: bool,
    pub a: Reg,
    pub b: Reg,
    pub logic: Option<(Logic, Guard)>,
    /// Where the result goes, and where its complement combined with the predicate goes.
    pub to: Option<Reg>,
    pub to_other: Option<Reg>,
    /// What "true" is in `to`: 1 for predicates, all ones or 1.0 for `set`.
    pub truth: u64,
}

/// An address: a register and a displacement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub base: Reg,
    pub offset: i64,
}

/// `ld` and `st`.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub space: Space,
    pub address: Address,
    pub ty: Ty,
    /// One register per element; `None` discards it.
    pub regs: Vec<Option<Reg>>,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`: ordered against atomics.
    pub strong: bool,
}

/// Read-modify-write operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rmw {
    Add,
    Min,
    Max,
    Exch,
    Cas,
    And,
    Or,
    Xor,
    Inc,
    Dec,
}

/// `atom` and `red`.
#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    pub space: Space,
    pub rmw: Rmw,
    pub ty: Ty,
    pub to: Option<Reg>,
    pub address: Address,
    pub value: Reg,
    /// The new value of `cas`.
    pub swap: Reg,
}

/// `cp.async`.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    /// Bytes taken from the source; the rest is zero.
    pub taken: Option<Reg>,
    /// Copy nothing if true (`ignore-src`).
    pub ignore: Option<Slot>,
}

/// Modes of `shfl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// Modes of `vote`, `match` and `redux`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Collective {
    All,
    Any,
    Uniform,
    Ballot,
    MatchAny,
    MatchAll,
    AddS,
    MinS,
    MaxS,
    MinU,
    MaxU,
    And,
    Or,
    Xor,
    Elect,
    /// `bar.warp.sync`.
    Sync,
}

/// An instruction that waits for the lanes of its member mask.
#[derive(Clone, Debug)]
pub(crate) struct WarpOp {
    pub kind: WarpKind,
    pub to: Option<Reg>,
    pub to_pred: Option<Slot>,
    pub value: Reg,
    /// A predicate operand is taken negated.
    pub negated: bool,
    pub members: Slot,
}

/// What a [`WarpOp`] does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WarpKind {
    /// With the slots of the operands `b` and `c`.
    Shuffle(Shuffle, Slot, Slot),
    Collective(Collective),
}

/// `ldmatrix`.
#[derive(Clone, Debug)]
pub(crate) struct LoadMatrix {
    pub to: Vec<Slot>,
    pub address: Address,
    pub transposed: bool,
    pub space: Space,
}

/// Element types of `mma` operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Element {
    F16,
    Bf16,
    Tf32,
    S8,
    U8,
}

/// `mma.sync`.
#[derive(Clone, Debug)]
pub(crate) struct Mma {
    pub rows: usize,
    pub depth: usize,
    pub a_type: Element,
    pub b_type: Element,
    /// Accumulators are f16 pairs.
    pub half: bool,
    pub satfinite: bool,
    pub d: Vec<Slot>,
    pub a: Vec<Slot>,
    pub b: Vec<Slot>,
    pub c: Vec<Slot>,
}

/// A block barrier.
#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub id: Slot,
    /// Threads that take part; all of the block if absent.
    pub threads: Option<Slot>,
    /// `arrive` does not wait.
    pub waits: bool,
    pub aligned: bool,
    /// `bar.red`: operation, destination and predicate.
    pub reduce: Option<(Collective, Reg, Guard)>,
}

/// A decoded operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Un32 {
        f: Un32,
        d: Slot,
        a: Slot,
    },
    Bin32 {
        f: Bin32,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Tri32 {
        f: Tri32,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Mov64 {
        d: Slot,
        a: Slot,
    },
    Bin64 {
        f: Bin64,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Shift64 {
        f: Shift64,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    MulWide {
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    MadWide {
        signed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Widen {
        signed: bool,
        d: Slot,
        a: Slot,
    },
    Narrow {
        d: Slot,
        a: Slot,
    },
    Setp32 {
        kind: Kind,
        cmp: Cmp,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Setp64 {
        signed: bool,
        cmp: Cmp,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Select32 {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Slot,
    },
    Select64 {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Slot,
    },
    PredLogic {
        f: Logic,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    PredNot {
        d: Slot,
        a: Slot,
    },
    PredMov {
        d: Slot,
        a: Slot,
    },
    Lane {
        f: LaneFn,
        mods: Box<Mods>,
        d: Reg,
        s: [Reg; 3],
        n: u8,
    },
    Compare(Box<Compare>),
    /// Elements of `bits` bits each into one register, first element lowest.
    Pack {
        d: Reg,
        parts: Box<[Reg]>,
        bits: u32,
    },
    Unpack {
        parts: Box<[Option<Reg>]>,
        a: Reg,
        bits: u32,
    },
    Load(Box<Access>),
    Store(Box<Access>),
    Atomic(Box<Atomic>),
    Copy(Box<Copy>),
    CopyCommit,
    /// Waits until at most this many groups are pending.
    CopyWait(u32),
    CopyWaitAll,
    LoadMatrix(Box<LoadMatrix>),
    Mma(Box<Mma>),
    Warp(Box<WarpOp>),
    ActiveMask {
        d: Slot,
    },
    Barrier(Box<Barrier>),
    Branch {
        target: u32,
    },
    /// Indirect through a list of targets.
    BranchTable {
        index: Slot,
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    GridWait,
    Nop,
}
