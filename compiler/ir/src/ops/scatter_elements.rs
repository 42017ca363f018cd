//! Writes elements along an axis.

use super::gather::wrap_index;
use crate::dtype::DType;
use crate::kernel::{BinOp, Const};
use crate::op::{
    EvalCx, EvalError, InferError, OpImpl, agree, arity, bail, check_axis, check_dtype, check_kernel_dtype, op, words,
};
use crate::scalar;
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;

words! {
    /// How a written element combines with what is there; repeated indices apply in row-major order.
    ScatterMode {
        /// Replaces it.
        Set "set",
        /// Sum.
        Add "add",
        /// Product.
        Mul "mul",
        /// Smaller.
        Min "min",
        /// Larger.
        Max "max",
    }
}

op! {
    /// Operands: data, i64 indices, updates of the indices' shape. A copy of data with
    /// `data[index[i][j]][j] <- updates[i][j]` for axis 0. Negative indices count from the end;
    /// indices out of range are a checked error.
    "scatter_elements" => ScatterElements { axis: usize, mode: ScatterMode }
}

impl OpImpl for ScatterElements {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 3)?;
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        check_dtype("the indices", indices, DType::I64)?;
        check_dtype("the updates", updates, data.dtype)?;
        self.mode.check(data.dtype)?;
        check_axis(self.axis, data.rank())?;
        if indices.rank() != data.rank() || updates.rank() != data.rank() {
            bail!("data, indices and updates have ranks {}, {} and {}", data.rank(), indices.rank(), updates.rank());
        }
        for axis in 0..data.rank() {
            let (i, u, d) = (&indices.shape[axis], &updates.shape[axis], &data.shape[axis]);
            if agree(i, u).is_none() {
                bail!("indices and updates have sizes {i} and {u} on axis {axis}");
            }
            let exceeds = i.as_const().zip(d.as_const()).is_some_and(|(i, d)| i > d);
            if axis != self.axis && exceeds {
                bail!("the indices have size {i} on axis {axis}, the data {d}");
            }
        }
        Ok(vec![data.clone()])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        let fits = |a: usize| a == self.axis || indices.shape[a] <= data.shape[a];
        if indices.shape != updates.shape || !(0..data.shape.len()).all(fits) {
            let shapes = (&data.shape, &indices.shape, &updates.shape);
            return Err(EvalError(format!("data, indices and updates of shapes {shapes:?} do not fit")));
        }
        let steps = strides(&data.shape);
        let width = data.dtype.bits().div_ceil(8);
        let (mut cells, from) = (data.cells().to_vec(), updates.cells());
        let mut error = None;
        let mut i = 0;
        for_each_index(&indices.shape, |index| {
            match wrap_index(indices.get(i).as_i64(), self.axis, data.shape[self.axis]) {
                Ok(target) => {
                    let at = |a: usize| if a == self.axis { target } else { index[a] };
                    let to: usize = (0..index.len()).map(|a| at(a) * steps[a]).sum();
                    let cell = |i: usize| i * width..(i + 1) * width;
                    self.mode.apply(data.dtype, &mut cells[cell(to)], &from[cell(i)]);
                }
                Err(e) => _ = error.get_or_insert(e),
            }
            i += 1;
        });
        error.map_or_else(|| Ok(vec![Tensor::from_cells(data.dtype, data.shape.clone(), cells)]), Err)
    }
}

impl ScatterMode {
    /// The kernel instruction that combines what is there with what is written; none to replace it.
    pub fn op(self) -> Option<BinOp> {
        match self {
            ScatterMode::Set => None,
            ScatterMode::Add => Some(BinOp::Add),
            ScatterMode::Mul => Some(BinOp::Mul),
            ScatterMode::Min => Some(BinOp::Min),
            ScatterMode::Max => Some(BinOp::Max),
        }
    }

    /// Checks that elements can be combined: any can be replaced.
    pub fn check(self, dtype: DType) -> Result<(), InferError> {
        if self == ScatterMode::Set {
            return Ok(());
        }
        check_kernel_dtype(dtype)?;
        if dtype == DType::Bool && matches!(self, ScatterMode::Add | ScatterMode::Mul) {
            bail!("{} does not apply to {dtype}", self.name());
        }
        Ok(())
    }

    /// Writes an element, as in [`Tensor::cells`], over another. Narrow floats are rounded after each write.
    pub fn apply(self, dtype: DType, target: &mut [u8], update: &[u8]) {
        let Some(op) = self.op() else {
            target.copy_from_slice(update);
            return;
        };
        let wide = |bytes: &[u8]| {
            let mut bits = [0; 8];
            bits[..bytes.len()].copy_from_slice(bytes);
            scalar::convert(Const { dtype, bits: u64::from_le_bytes(bits) }, dtype.compute())
        };
        let (old, new) = (wide(target), wide(update));
        let result = scalar::convert(scalar::bin(op, old, new).unwrap_or(old), dtype);
        target.copy_from_slice(&result.bits.to_le_bytes()[..target.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, i64s, infer};

    fn op(axis: usize, mode: ScatterMode) -> ScatterElements { ScatterElements { axis, mode } }

    #[test]
    fn shapes() {
        let set = op(1, ScatterMode::Set);
        assert_eq!(infer(set.clone(), &["u4[N, 5]", "i64[2, 7]", "u4[2, M]"]), "u4[N, 5]");
        assert_eq!(infer(set.clone(), &["f32[5]", "i64[2]", "f32[2]"]), "axis 1 is outside rank 1");
        assert_eq!(infer(set.clone(), &["f32[2, 5]", "i32[2, 1]", "f32[2, 1]"]), "the indices must be i64, not i32");
        assert_eq!(infer(set.clone(), &["f32[2, 5]", "i64[2, 1]", "f16[2, 1]"]), "the updates must be f32, not f16");
        let larger = infer(set.clone(), &["f32[2, 5]", "i64[3, 1]", "f32[3, 1]"]);
        assert_eq!(larger, "the indices have size 3 on axis 0, the data 2");
        let different = infer(set, &["f32[2, 5]", "i64[2, 1]", "f32[2, 2]"]);
        assert_eq!(different, "indices and updates have sizes 1 and 2 on axis 1");
        assert_eq!(infer(op(0, ScatterMode::Add), &["bool[2]", "i64[2]", "bool[2]"]), "add does not apply to bool");
        assert_eq!(infer(op(0, ScatterMode::Max), &["bool[2]", "i64[2]", "bool[2]"]), "bool[2]");
    }

    #[test]
    fn writes_along_an_axis() {
        let data = f32s(&[2, 3], &[0.0; 6]);
        let y = eval_f32(op(1, ScatterMode::Set), &[data.clone(), i64s(&[1, 2], &[2, -3]), f32s(&[1, 2], &[5.0, 6.0])]);
        assert_eq!(y, [6.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
        let y = eval_f32(op(0, ScatterMode::Set), &[data, i64s(&[1, 2], &[1, 0]), f32s(&[1, 2], &[5.0, 6.0])]);
        assert_eq!(y, [0.0, 6.0, 0.0, 5.0, 0.0, 0.0]);
    }

    #[test]
    fn repeated_indices_apply_in_order() {
        let run = |mode| {
            eval_f32(op(0, mode), &[f32s(&[2], &[2.0, 2.0]), i64s(&[3], &[1, 1, 1]), f32s(&[3], &[3.0, 5.0, 4.0])])[1]
        };
        let found = [ScatterMode::Set, ScatterMode::Add, ScatterMode::Mul, ScatterMode::Min, ScatterMode::Max].map(run);
        assert_eq!(found, [4.0, 14.0, 120.0, 2.0, 5.0]);
    }

    #[test]
    fn indices_are_checked() {
        let error = |i| eval(op(0, ScatterMode::Set), &[f32s(&[5], &[0.0; 5]), i64s(&[1], &[i]), f32s(&[1], &[1.0])]);
        assert_eq!(error(7).unwrap_err(), "index 7 is outside axis 0 of size 5");
        assert_eq!(error(-6).unwrap_err(), "index -6 is outside axis 0 of size 5");
    }
}
