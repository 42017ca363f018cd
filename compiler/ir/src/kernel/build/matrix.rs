//! Building what is done with matrices.

use super::*;

impl KernelBuilder {
    /// A matrix of zeros: `rows` rows of `columns` i32.
    pub fn matrix_zero(&mut self, rows: u32, columns: u32) -> Val {
        self.emit(Instr::Matrix(MatrixInstr::Zero { rows }), VType::vector(DType::I32, rows * columns))
    }

    /// Loads `rows` rows of `columns` elements, the rows a stride apart.
    pub fn matrix_load(&mut self, (buf, index, offset): (Buf, Val, i64), stride: Val, rows: u32, columns: u32) -> Val {
        let ty = VType::vector(self.buf_dtype(buf), rows * columns);
        self.emit(Instr::Matrix(MatrixInstr::Load { buf, index, offset, stride, rows }), ty)
    }

    /// `c` of `rows` rows plus the products of `a` and `b`.
    pub fn matrix_dot4(&mut self, a: Val, b: Val, c: Val, rows: u32) -> Val {
        let ty = self.ty(c);
        self.emit(Instr::Matrix(MatrixInstr::Dot4 { a, b, c, rows }), ty)
    }

    /// Stores the `rows` rows of a matrix a stride apart.
    pub fn matrix_store(&mut self, (buf, index, offset): (Buf, Val, i64), stride: Val, value: Val, rows: u32) {
        assert_eq!(self.buf_dtype(buf), self.ty(value).dtype, "stored value differs in type from its buffer");
        self.stmt(Stmt::MatrixStore(MatrixStore { buf, index, offset, stride, value, rows }));
    }
}
