//! What the threads of a tile do together, on targets where a tile is run by more than one: a block of a GPU.
//!
//! A kernel with [`Kernel::threads`](super::Kernel::threads) above 1 is run by that many threads per tile. Every thread
//! runs the whole body; [`TeamInstr::Thread`] tells them apart. Warps are 32 threads of consecutive numbers. Instructions
//! of a warp are run by all of its threads, and a barrier by all threads of the tile, in the same trip of the same loops.
//! Shared scratch belongs to the tile, private scratch to the thread. What one thread writes, to shared scratch or to a
//! parameter, another sees after a barrier.
//!
//! Fragments of matrices are vectors spread over a warp as `mma.sync` of the PTX ISA (section 9.7.14.5) lays them out:
//! with `g = lane / 4` and `t = lane % 4`, a thread holds of A (16 rows) the row pieces `g, g + 8`, each piece `2` (16-bit),
//! `1` (f32) or `4` (8-bit) consecutive k from `t` pieces on, first for both rows, then again for the upper half of k; of B
//! the same pieces of column `g`; of C and D the columns `2 t, 2 t + 1` of row `g`, then of row `g + 8`.

use super::{Buf, Val};

/// Threads of a warp.
pub const WARP: u32 = 32;

/// Which lane of the warp a [`TeamInstr::Shuffle`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The own number with these bits flipped.
    Xor(u32),
    /// The own number plus this; the own value if there is no such lane.
    Down(u32),
    /// This lane.
    Index(u32),
}

/// Instructions of a team. Values they read and give have one lane unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TeamInstr {
    /// i64: number of this thread in its tile.
    Thread,
    /// The value another thread of the warp gives.
    Shuffle(Lane, Val),
    /// `A * B + C` of a warp; the result has the type of C. Shapes by the type of A: 16x8x16 for 8 lanes of f16 or bf16,
    /// 16x8x8 for 4 lanes of f32 (its bits beyond tf32 are zero), 16x8x32 for 16 lanes of i8 or u8. B has half of A's
    /// lanes; C is f32x4, or i32x4 for integers.
    ///
    /// The order in which a float sum over k is rounded is the target's.
    Mma {
        /// Left factor.
        a: Val,
        /// Right factor, of the same element type (i8 and u8 may be mixed).
        b: Val,
        /// Addend.
        c: Val,
    },
    /// Fragments of 1, 2 or 4 matrices of 8 rows of 16 bytes in shared scratch: the result has as many groups of 4 bytes.
    /// Thread `8 m + r` of the warp gives the index of row `r` of matrix `m`; rows start at multiples of 16 bytes.
    LoadMatrix {
        /// Shared scratch.
        buf: Buf,
        /// i64 scalar, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
        /// Transposes each matrix; elements of 16 bits only.
        transposed: bool,
    },
}

/// Statements of a team.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TeamStmt {
    /// Waits for all threads of the tile.
    Barrier,
    /// Begins to copy `lanes` elements (4, 8 or 16 bytes, both places at a multiple of as many) to shared scratch; those
    /// beyond `count` become zero and are not read.
    CopyAsync {
        /// Destination, shared scratch.
        to: Buf,
        /// i64 scalar, in elements.
        to_index: Val,
        /// Constant part of the destination's index.
        to_offset: i64,
        /// Source, a parameter.
        from: Buf,
        /// i64 scalar, in elements.
        from_index: Val,
        /// Constant part of the source's index.
        from_offset: i64,
        /// Number of elements.
        lanes: u32,
        /// i64 scalar: number of leading elements to read; none means all.
        count: Option<Val>,
    },
    /// Makes one group of this thread's copies begun since the last one.
    CopyCommit,
    /// Waits until at most this many of this thread's groups are under way; other threads see the rest after a barrier.
    CopyWait(u32),
}

impl TeamInstr {
    /// Values it reads.
    pub fn operands(&self) -> Vec<Val> {
        match *self {
            TeamInstr::Thread => Vec::new(),
            TeamInstr::Shuffle(_, a) => vec![a],
            TeamInstr::Mma { a, b, c } => vec![a, b, c],
            TeamInstr::LoadMatrix { index, .. } => vec![index],
        }
    }

    /// The same with other operands.
    pub fn map(&self, f: impl Fn(Val) -> Val) -> TeamInstr {
        match *self {
            TeamInstr::Thread => TeamInstr::Thread,
            TeamInstr::Shuffle(lane, a) => TeamInstr::Shuffle(lane, f(a)),
            TeamInstr::Mma { a, b, c } => TeamInstr::Mma { a: f(a), b: f(b), c: f(c) },
            TeamInstr::LoadMatrix { buf, index, offset, transposed } => {
                TeamInstr::LoadMatrix { buf, index: f(index), offset, transposed }
            }
        }
    }
}

impl TeamStmt {
    /// Values it reads.
    pub fn operands(&self) -> Vec<Val> {
        match *self {
            TeamStmt::CopyAsync { to_index, from_index, count, .. } => {
                [to_index, from_index].into_iter().chain(count).collect()
            }
            TeamStmt::Barrier | TeamStmt::CopyCommit | TeamStmt::CopyWait(_) => Vec::new(),
        }
    }

    /// The same with other operands.
    pub fn map(&self, f: impl Fn(Val) -> Val) -> TeamStmt {
        match *self {
            TeamStmt::CopyAsync { to, to_index, to_offset, from, from_index, from_offset, lanes, count } => {
                TeamStmt::CopyAsync {
                    to,
                    to_index: f(to_index),
                    to_offset,
                    from,
                    from_index: f(from_index),
                    from_offset,
                    lanes,
                    count: count.map(f),
                }
            }
            TeamStmt::Barrier => TeamStmt::Barrier,
            TeamStmt::CopyCommit => TeamStmt::CopyCommit,
            TeamStmt::CopyWait(n) => TeamStmt::CopyWait(n),
        }
    }
}

#[cfg(test)]
mod tests;
