//! Picks slices by index tuples.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, bail, check_dtype, op, operands};
use crate::ops::gather::wrap_index;
use crate::tensor::{Tensor, strides};
use crate::types::Type;

op! {
    /// ONNX GatherND: operands data, i64 indices whose last axis holds tuples over the axes after `batch_dims`.
    "gather_nd" => GatherNd { batch_dims: usize }
}

impl OpImpl for GatherNd {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [data, indices] = operands(inputs)?;
        check_dtype("the indices", indices, DType::I64)?;
        let depth = tuple_length(indices)?;
        if self.batch_dims >= indices.rank() || self.batch_dims + depth > data.rank() {
            bail!("{} batch axes and tuples of {depth} do not fit ranks {} and {}", self.batch_dims, data.rank(), indices.rank());
        }
        let mut shape: Vec<Dim> = indices.shape[..indices.rank() - 1].to_vec();
        for (axis, (a, b)) in data.shape.iter().zip(&mut shape).take(self.batch_dims).enumerate() {
            let Some(dim) = agree(a, b) else { bail!("sizes {a} and {b} of batch axis {axis} differ") };
            *b = dim;
        }
        shape.extend_from_slice(&data.shape[self.batch_dims + depth..]);
        Ok(vec![Type::new(data.dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let [data, indices] = inputs else { return Err(EvalError("takes 2 operands".into())) };
        let (tuples, depth) = (&indices.shape[..indices.shape.len() - 1], indices.shape[indices.shape.len() - 1]);
        let batch: usize = data.shape[..self.batch_dims].iter().product();
        let per_batch: usize = tuples[self.batch_dims..].iter().product();
        let strides = strides(&data.shape);
        let slice: usize = data.shape[self.batch_dims + depth..].iter().product();
        let batch_stride: usize = data.shape[self.batch_dims..].iter().product();
        let size = data.dtype.size();
        let picks = indices.to_i64();
        let mut out = Vec::with_capacity(batch * per_batch * slice * size);
        for tuple in 0..batch * per_batch {
            let mut at = tuple / per_batch * batch_stride;
            for i in 0..depth {
                let axis = self.batch_dims + i;
                at += wrap_index(picks[tuple * depth + i], axis, data.shape[axis])? * strides[axis];
            }
            out.extend_from_slice(&data.data[at * size..(at + slice) * size]);
        }
        let shape = [tuples, &data.shape[self.batch_dims + depth..]].concat();
        Ok(vec![Tensor { dtype: data.dtype, shape, data: out.into() }])
    }
}

/// The constant length of the index tuples on the last axis.
pub fn tuple_length(indices: &Type) -> Result<usize, InferError> {
    let Some(last) = indices.shape.last() else { bail!("the indices are a scalar") };
    match last.as_const().and_then(|n| usize::try_from(n).ok()) {
        Some(n) => Ok(n),
        None => bail!("the length of the index tuples, {last}, is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, i64s, infer};

    #[test]
    fn shapes() {
        assert_eq!(infer(GatherNd { batch_dims: 0 }, &["f32[N, 3, 4]", "i64[M, 2]"]), "f32[M, 4]");
        assert_eq!(infer(GatherNd { batch_dims: 1 }, &["f32[2, 3, 4]", "i64[N, 5, 1]"]), "f32[2, 5, 4]");
        let fails = |batch_dims, indices: &str, why: &str| {
            assert_eq!(infer(GatherNd { batch_dims }, &["f32[2, 3]", indices]), why);
        };
        fails(0, "i64[4, 3]", "0 batch axes and tuples of 3 do not fit ranks 2 and 2");
        fails(1, "i64[1]", "1 batch axes and tuples of 1 do not fit ranks 2 and 1");
        fails(1, "i64[3, 1]", "sizes 2 and 3 of batch axis 0 differ");
        fails(0, "i64[]", "the indices are a scalar");
        fails(0, "i64[4, N]", "the length of the index tuples, N, is not known");
    }

    #[test]
    fn picks() {
        let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let run = |batch_dims, indices| eval_f32(GatherNd { batch_dims }, &[x.clone(), indices]);
        assert_eq!(run(0, i64s(&[2, 2], &[0, 0, 1, -1])), [1.0, 4.0]);
        assert_eq!(run(0, i64s(&[1, 1], &[1])), [3.0, 4.0]);
        assert_eq!(run(1, i64s(&[2, 1], &[1, 0])), [2.0, 3.0]);
        assert_eq!(run(0, i64s(&[2, 0], &[])), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        let outside = eval(GatherNd { batch_dims: 0 }, &[x, i64s(&[2], &[1, 2])]);
        assert_eq!(outside, Err("index 2 is outside axis 1 of size 2".into()));
    }
}
