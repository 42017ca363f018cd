//! Matrices in the tile registers of AMX.
//!
//! LLVM's `internal` intrinsics name no register: their matrices are values of the type `x86_amx`, to which it gives
//! registers as to any others. It writes the one configuration that the shapes of a function need, loads it at the
//! function's entry and releases the registers at its end. A register has one shape in all of a function, so that shapes are
//! constants here.

use xlac_ir::DType;
use xlac_ir::backend::Target;
use xlac_ir::kernel::matrix::{MatrixInstr, MatrixStore};
use xlac_ir::kernel::{Buf, Val};

use super::Emitter;

/// LLVM's type of a matrix.
pub(super) const TYPE: &str = "x86_amx";

/// Why a kernel that needs matrices cannot be made.
const ABSENT: &str = "the target has no products of matrices in registers (features `amx-tile` and `amx-int8`)";

/// True if the target has tile registers and their sums of 8-bit products.
pub(crate) fn exist(target: &Target) -> bool {
    target.has("amx-tile") && target.has("amx-int8")
}

/// Rows and bytes of a row.
#[derive(Clone, Copy)]
struct Shape {
    rows: u32,
    bytes: u32,
}

impl Emitter<'_> {
    /// Defines a matrix; operand text of it.
    pub(super) fn matrix(&mut self, v: Val, instr: &MatrixInstr) -> Result<String, String> {
        if !self.isa.matrices {
            return Err(ABSENT.into());
        }
        self.matrices[v.0 as usize] = true;
        let shape = self.shape(v, instr.rows());
        let Shape { rows, bytes } = shape;
        Ok(match *instr {
            MatrixInstr::Zero { .. } => {
                self.op(format!("call {TYPE} @llvm.x86.tilezero.internal(i16 {rows}, i16 {bytes})"))
            }
            MatrixInstr::Load { buf, index, offset, stride, .. } => {
                let place = self.rows_at(buf, (index, offset), stride);
                let scopes = self.scopes(buf);
                self.op(format!("call {TYPE} @llvm.x86.tileloadd64.internal(i16 {rows}, i16 {bytes}, {place}){scopes}"))
            }
            MatrixInstr::Dot4 { a, b, c, .. } => {
                let signs = [a, b].map(|x| if self.kernel.ty(x).dtype == DType::I8 { 's' } else { 'u' });
                let terms = self.kernel.ty(a).lanes / rows;
                let [a, b, c] = [a, b, c].map(|x| self.val(x));
                let name: String = signs.iter().collect();
                self.op(format!(
                    "call {TYPE} @llvm.x86.tdpb{name}d.internal(i16 {rows}, i16 {bytes}, i16 {terms}, \
                     {TYPE} {c}, {TYPE} {a}, {TYPE} {b})"
                ))
            }
        })
    }

    pub(super) fn matrix_store(&mut self, store: &MatrixStore) -> Result<(), String> {
        if !self.isa.matrices {
            return Err(ABSENT.into());
        }
        let Shape { rows, bytes } = self.shape(store.value, store.rows);
        let place = self.rows_at(store.buf, (store.index, store.offset), store.stride);
        let (value, scopes) = (self.val(store.value), self.scopes(store.buf));
        self.line(format!(
            "call void @llvm.x86.tilestored64.internal(i16 {rows}, i16 {bytes}, {place}, {TYPE} {value}){scopes}"
        ));
        Ok(())
    }

    fn shape(&self, v: Val, rows: u32) -> Shape {
        let ty = self.kernel.ty(v);
        Shape { rows, bytes: ty.lanes / rows * ty.dtype.size() as u32 }
    }

    /// Operands for rows in memory: the first, and bytes from row to row.
    fn rows_at(&mut self, buf: Buf, place: (Val, i64), stride: Val) -> String {
        let size = self.kernel.buf_dtype(buf).size() as i64;
        let at = self.address(buf, place);
        let stride = match self.known_int(stride) {
            Some(stride) => (stride * size).to_string(),
            None if size == 1 => self.val(stride),
            None => {
                let stride = self.val(stride);
                self.op(format!("mul i64 {stride}, {size}"))
            }
        };
        format!("ptr {at}, i64 {stride}")
    }

    /// Says that `name` is a matrix if `of` is one.
    pub(super) fn same_matrix(&mut self, name: Val, of: Val) {
        self.matrices[name.0 as usize] = self.matrices[of.0 as usize];
    }
}
