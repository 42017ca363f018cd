//! Picks elements along an axis.

use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_axis, check_dtype, op, operands};
use crate::ops::gather::wrap_index;
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;

op! {
    /// Operands: data, i64 indices of the same rank. `out[i][j] = data[index[i][j]][j]` for axis 0. Every other axis of the
    /// indices is at most that of data. Negative indices count from the end.
    "gather_elements" => GatherElements { axis: usize }
}

impl OpImpl for GatherElements {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [data, indices] = operands(inputs)?;
        check_dtype("the indices", indices, DType::I64)?;
        check_axis(self.axis, data.rank())?;
        check_index_shape(self.axis, data, indices)?;
        Ok(vec![indices.with(data.dtype)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let [data, indices] = inputs else { return Err(EvalError("takes 2 operands".into())) };
        let strides = strides(&data.shape);
        let mut picks = indices.iter();
        let mut elements = Ok(Vec::with_capacity(indices.len()));
        for_each_index(&indices.shape, |index| {
            let (Ok(found), Some(pick)) = (&mut elements, picks.next()) else { return };
            match wrap_index(pick.as_i64(), self.axis, data.shape[self.axis]) {
                Ok(pick) => {
                    let at = |axis: usize| if axis == self.axis { pick } else { index[axis] };
                    found.push(data.get((0..index.len()).map(|a| at(a) * strides[a]).sum()));
                }
                Err(e) => elements = Err(e),
            }
        });
        Ok(vec![Tensor::from_consts(data.dtype, indices.shape.clone(), elements?)])
    }
}

/// Requires indices of the rank of `data`, not larger than it on axes other than `axis`.
pub fn check_index_shape(axis: usize, data: &Type, indices: &Type) -> Result<(), InferError> {
    if indices.rank() != data.rank() {
        bail!("the indices have rank {}, the data {}", indices.rank(), data.rank());
    }
    for (a, (i, d)) in indices.shape.iter().zip(&data.shape).enumerate() {
        let larger = i.as_const().zip(d.as_const()).is_some_and(|(i, d)| i > d);
        if a != axis && larger {
            bail!("axis {a} of the indices, of size {i}, is larger than {d}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, i64s, infer};

    #[test]
    fn shapes() {
        assert_eq!(infer(GatherElements { axis: 0 }, &["f32[N, 3]", "i64[7, 2]"]), "f32[7, 2]");
        let fails = |axis, indices: &str, why: &str| {
            assert_eq!(infer(GatherElements { axis }, &["f32[2, 3]", indices]), why);
        };
        fails(0, "i64[7, 4]", "axis 1 of the indices, of size 4, is larger than 3");
        fails(0, "i64[7]", "the indices have rank 1, the data 2");
        fails(2, "i64[7, 2]", "axis 2 is outside rank 2");
    }

    #[test]
    fn picks() {
        let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(eval_f32(GatherElements { axis: 1 }, &[x.clone(), i64s(&[2, 2], &[0, 0, 1, -2])]), [1.0, 1.0, 4.0, 3.0]);
        assert_eq!(eval_f32(GatherElements { axis: 0 }, &[x.clone(), i64s(&[1, 2], &[1, 0])]), [3.0, 2.0]);
        let outside = eval(GatherElements { axis: 0 }, &[x, i64s(&[1, 1], &[2])]);
        assert_eq!(outside, Err("index 2 is outside axis 0 of size 2".into()));
    }
}
