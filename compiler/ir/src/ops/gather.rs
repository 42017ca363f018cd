//! Picks slices along an axis.

use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, check_axis, check_dtype, op, operands};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Operands: data, i64 indices of any shape. Axis `axis` of data is replaced by the axes of the indices. Negative
    /// indices count from the end; indices out of range are a checked error.
    "gather" => Gather { axis: usize }
}

impl OpImpl for Gather {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [data, indices] = operands(inputs)?;
        check_dtype("the indices", indices, DType::I64)?;
        check_axis(self.axis, data.rank())?;
        let mut shape = data.shape.clone();
        shape.splice(self.axis..=self.axis, indices.shape.iter().cloned());
        Ok(vec![Type::new(data.dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let [data, indices] = inputs else { return Err(EvalError("takes 2 operands".into())) };
        let size = data.shape[self.axis];
        let outer: usize = data.shape[..self.axis].iter().product();
        let slice = data.shape[self.axis + 1..].iter().product::<usize>() * data.dtype.size();
        let picks = indices.to_i64().into_iter().map(|i| wrap_index(i, self.axis, size)).collect::<Result<Vec<_>, _>>()?;
        let mut out = Vec::with_capacity(outer * picks.len() * slice);
        for i in 0..outer {
            for pick in &picks {
                let at = (i * size + pick) * slice;
                out.extend_from_slice(&data.data[at..at + slice]);
            }
        }
        let mut shape = data.shape.clone();
        shape.splice(self.axis..=self.axis, indices.shape.iter().copied());
        Ok(vec![Tensor { dtype: data.dtype, shape, data: out.into() }])
    }
}

/// The position a possibly negative index means.
pub fn wrap_index(index: i64, axis: usize, size: usize) -> Result<usize, EvalError> {
    let from_start = if index < 0 { index.checked_add(size as i64) } else { Some(index) };
    from_start
        .and_then(|i| usize::try_from(i).ok())
        .filter(|&i| i < size)
        .ok_or_else(|| EvalError(format!("index {index} is outside axis {axis} of size {size}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, i64s, infer};

    #[test]
    fn shapes() {
        assert_eq!(infer(Gather { axis: 1 }, &["f32[N, 3, 4]", "i64[2, M]"]), "f32[N, 2, M, 4]");
        assert_eq!(infer(Gather { axis: 0 }, &["f32[3, 4]", "i64[]"]), "f32[4]");
        assert_eq!(infer(Gather { axis: 4 }, &["f32[3, 4, 5]", "i64[]"]), "axis 4 is outside rank 3");
        assert_eq!(infer(Gather { axis: 0 }, &["f32[3]", "i32[]"]), "the indices must be i64, not i32");
    }

    #[test]
    fn picks() {
        let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(eval_f32(Gather { axis: 1 }, &[x.clone(), i64s(&[2], &[2, -3])]), [3.0, 1.0, 6.0, 4.0]);
        assert_eq!(eval_f32(Gather { axis: 0 }, &[x.clone(), i64s(&[], &[1])]), [4.0, 5.0, 6.0]);
        let outside = |i| eval(Gather { axis: 1 }, &[x.clone(), i64s(&[], &[i])]).unwrap_err();
        assert_eq!(outside(3), "index 3 is outside axis 1 of size 3");
        assert_eq!(outside(-4), "index -4 is outside axis 1 of size 3");
        assert_eq!(outside(i64::MIN), "index -9223372036854775808 is outside axis 1 of size 3");
    }
}
