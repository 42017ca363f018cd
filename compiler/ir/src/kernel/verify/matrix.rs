//! K20: matrices.

use super::*;
use crate::kernel::matrix::{ROW_BYTES, ROWS};

const BYTES: [DType; 2] = [DType::I8, DType::U8];

impl Verifier<'_> {
    pub(super) fn matrix_instr(&mut self, v: Val, ty: VType, instr: &MatrixInstr) {
        let bad = || format!("%{} of {ty} is not made by {instr:?}", v.0);
        self.require(self.kernel.threads == 1, "K20", || "a matrix in a kernel of several threads a tile".into());
        let whole = is_matrix(ty, instr.rows());
        self.require(whole, "K20", bad);
        match *instr {
            MatrixInstr::Zero { .. } => self.require(ty.dtype == DType::I32, "K20", bad),
            MatrixInstr::Load { buf, index, stride, .. } => {
                self.access(buf, v, true);
                self.expect(index, I64, "K12", "an index");
                self.expect(stride, I64, "K12", "a stride");
                self.require(BYTES.contains(&ty.dtype), "K20", bad);
            }
            MatrixInstr::Dot4 { a, b, c, rows } => {
                let types = [self.matrix(a, Some(rows)), self.matrix(b, None), self.matrix(c, Some(rows))];
                let [Some(a_ty), Some(b_ty), Some(c_ty)] = types else { return };
                let bytes = [a_ty, b_ty].iter().all(|t| BYTES.contains(&t.dtype));
                let (row, column) = (a_ty.lanes / rows, 4 * (c_ty.lanes / rows));
                let whole = row % 4 == 0 && self.rows_of(b) == Some(row / 4) && b_ty.lanes == row / 4 * column;
                let sum = ty.dtype == DType::I32 && c_ty == ty;
                self.require(bytes && whole && sum, "K20", || {
                    format!("%{} of {ty} is no sum of {a_ty} times {b_ty}", v.0)
                });
            }
        }
        if let Some(slot) = self.matrices.get_mut(v.0 as usize).filter(|_| whole) {
            *slot = Some(instr.rows());
        }
    }

    pub(super) fn matrix_store(&mut self, store: &MatrixStore) {
        self.access(store.buf, store.value, false);
        self.expect(store.index, I64, "K12", "an index");
        self.expect(store.stride, I64, "K12", "a stride");
        self.matrix(store.value, Some(store.rows));
    }

    /// The type of a value that is used here as a matrix, of `rows` rows if that is given; none if it is no such matrix.
    fn matrix(&mut self, v: Val, rows: Option<u32>) -> Option<VType> {
        let ty = self.used_any(v)?;
        let found = self.rows_of(v);
        let fits = found.is_some() && (rows.is_none() || found == rows);
        self.require(fits, "K20", || format!("%{} is no matrix of as many rows", v.0));
        Some(ty).filter(|_| fits)
    }

    /// Rows of a matrix; none for other values.
    pub(super) fn rows_of(&self, v: Val) -> Option<u32> {
        self.matrices.get(v.0 as usize).copied().flatten()
    }

    /// A name for the value of another.
    pub(super) fn same_matrix(&mut self, name: Val, of: Val) {
        let rows = self.rows_of(of);
        if let Some(slot) = self.matrices.get_mut(name.0 as usize) {
            *slot = rows;
        }
    }
}

/// True if a value of this type can be a matrix of so many rows.
fn is_matrix(ty: VType, rows: u32) -> bool {
    let whole = (1..=ROWS).contains(&rows) && ty.lanes.is_multiple_of(rows);
    let bytes = || ty.lanes / rows * ty.dtype.size() as u32;
    whole && bytes().is_multiple_of(4) && (4..=ROW_BYTES).contains(&bytes())
}
