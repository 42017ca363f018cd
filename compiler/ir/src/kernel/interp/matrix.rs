//! Matrices: their lanes, row by row.

use super::*;

impl Machine<'_> {
    /// The lanes of an instruction's result.
    pub(super) fn matrix(&self, ty: VType, instr: &MatrixInstr) -> Result<Vec<Const>, Fault> {
        let columns = (ty.lanes / instr.rows()) as usize;
        match *instr {
            MatrixInstr::Zero { .. } => Ok(vec![Const { dtype: ty.dtype, bits: 0 }; ty.lanes as usize]),
            MatrixInstr::Load { buf, index, offset, stride, .. } => {
                let first = i128::from(self.int(index)) + i128::from(offset);
                let stride = i128::from(self.int(stride));
                let at = |i: usize| first + (i / columns) as i128 * stride + (i % columns) as i128;
                (0..ty.lanes as usize).map(|i| self.read(buf, at(i))).collect()
            }
            MatrixInstr::Dot4 { a, b, c, rows } => {
                let (a, b, c) = (self.lanes(a), self.lanes(b), self.lanes(c));
                let terms = a.len() / rows as usize;
                let product = |m: usize, n: usize, k: usize| {
                    a[m * terms + k].as_i64() * b[k / 4 * 4 * columns + 4 * n + k % 4].as_i64()
                };
                let sum =
                    |i: usize| (0..terms).map(|k| product(i / columns, i % columns, k)).sum::<i64>() + c[i].as_i64();
                Ok((0..c.len()).map(|i| Const::int(DType::I32, sum(i))).collect())
            }
        }
    }

    pub(super) fn matrix_store(&mut self, store: &MatrixStore) -> Result<(), Fault> {
        let lanes = self.lanes(store.value).to_vec();
        let columns = lanes.len() / store.rows as usize;
        let first = i128::from(self.int(store.index)) + i128::from(store.offset);
        let stride = i128::from(self.int(store.stride));
        lanes.iter().enumerate().try_for_each(|(i, &x)| {
            self.write(store.buf, first + (i / columns) as i128 * stride + (i % columns) as i128, x)
        })
    }
}
