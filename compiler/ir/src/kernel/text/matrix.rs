//! Matrices in the text form: `matrix_load %a[%i by %s] rows 16`.

use super::*;

impl Printer<'_> {
    pub(super) fn matrix_instr(&self, instr: &MatrixInstr) -> String {
        match *instr {
            MatrixInstr::Zero { rows } => format!("matrix_zero rows {rows}"),
            MatrixInstr::Load { buf, index, offset, stride, rows } => {
                format!("matrix_load {} rows {rows}", self.place(buf, index, offset, Some(stride)))
            }
            MatrixInstr::Dot4 { a, b, c, rows } => format!("matrix_dot4 {} rows {rows}", list(&[a, b, c])),
        }
    }

    pub(super) fn matrix_store(&mut self, store: &MatrixStore) {
        let place = self.place(store.buf, store.index, store.offset, Some(store.stride));
        let ty = self.kernel.ty(store.value);
        self.line(&format!("matrix_store {place}, {} rows {} : {ty}", val(store.value), store.rows));
    }
}
