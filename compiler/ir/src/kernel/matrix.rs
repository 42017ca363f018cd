//! Matrices in registers, on targets that have instructions for whole ones.
//!
//! A matrix is a value of `rows` times as many lanes as a row has, row by row. Only the instructions here make one, and only
//! they use one; besides, loops carry matrices and branches give them. They are as large as the tile registers of Intel's
//! AMX: at most [`ROWS`] rows of at most [`ROW_BYTES`] bytes, a multiple of four (Intel 64 and IA-32 Architectures Software
//! Developer's Manual, volume 1, chapter 18).
//!
//! There are eight registers at most, and what is in them cannot be copied cheaply: kernels keep fewer matrices than that
//! alive at once, of as few shapes as they can.

use super::{Block, Buf, Instr, Kernel, Stmt, Val};

/// Most rows of a matrix.
pub const ROWS: u32 = 16;

/// Most bytes of a row.
pub const ROW_BYTES: u32 = 64;

/// Instructions that make matrices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MatrixInstr {
    /// Zeros of i32.
    Zero {
        /// Rows of the result.
        rows: u32,
    },
    /// 8-bit elements: row `r` is the contiguous ones at `index + offset + r * stride ..`.
    Load {
        /// Source.
        buf: Buf,
        /// i64 scalar, in elements.
        index: Val,
        /// Constant part of the index.
        offset: i64,
        /// i64 scalar, in elements: from row to row.
        stride: Val,
        /// Rows of the result.
        rows: u32,
    },
    /// `c` plus the products of `a` and `b`, exact, wrapping: with `k` running over the terms, element `(m, n)` gains
    /// `a[m][k] * b[k / 4][4 n + k % 4]`. So `b` has a row for every four terms, in which four neighbours belong to a column.
    /// Each of `a` and `b` has a sign or not.
    Dot4 {
        /// 8-bit, `rows` rows of a multiple of four terms.
        a: Val,
        /// 8-bit, a row for every four terms, four elements for each column of `c`.
        b: Val,
        /// i32, `rows` rows.
        c: Val,
        /// Rows of `a`, `c` and the result.
        rows: u32,
    },
}

/// Stores a matrix: row `r` at `index + offset + r * stride ..`, contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixStore {
    /// Destination.
    pub buf: Buf,
    /// i64 scalar, in elements.
    pub index: Val,
    /// Constant part of the index.
    pub offset: i64,
    /// i64 scalar, in elements: from row to row.
    pub stride: Val,
    /// What to store.
    pub value: Val,
    /// Its rows.
    pub rows: u32,
}

impl MatrixInstr {
    /// Values it reads.
    pub fn operands(&self) -> Vec<Val> {
        match *self {
            MatrixInstr::Zero { .. } => Vec::new(),
            MatrixInstr::Load { index, stride, .. } => vec![index, stride],
            MatrixInstr::Dot4 { a, b, c, .. } => vec![a, b, c],
        }
    }

    /// The same with other operands.
    pub fn map(&self, f: impl Fn(Val) -> Val) -> MatrixInstr {
        match *self {
            MatrixInstr::Zero { rows } => MatrixInstr::Zero { rows },
            MatrixInstr::Load { buf, index, offset, stride, rows } => {
                MatrixInstr::Load { buf, index: f(index), offset, stride: f(stride), rows }
            }
            MatrixInstr::Dot4 { a, b, c, rows } => MatrixInstr::Dot4 { a: f(a), b: f(b), c: f(c), rows },
        }
    }

    /// Rows of the result.
    pub fn rows(&self) -> u32 {
        match *self {
            MatrixInstr::Zero { rows } | MatrixInstr::Load { rows, .. } | MatrixInstr::Dot4 { rows, .. } => rows,
        }
    }
}

impl MatrixStore {
    /// The same with other operands.
    pub fn map(&self, f: impl Fn(Val) -> Val) -> MatrixStore {
        MatrixStore { index: f(self.index), stride: f(self.stride), value: f(self.value), ..*self }
    }
}

impl Kernel {
    /// True if it needs registers for matrices.
    pub fn uses_matrices(&self) -> bool {
        has_matrices(&self.body)
    }
}

fn has_matrices(block: &Block) -> bool {
    block.0.iter().any(|stmt| match stmt {
        Stmt::Let(_, Instr::Matrix(_)) | Stmt::MatrixStore(_) => true,
        Stmt::For(f) => has_matrices(&f.body),
        Stmt::If(i) => has_matrices(&i.then) || has_matrices(&i.els),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
