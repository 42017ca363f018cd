//! Joins tensors along an axis.

use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, bail, check_axis, check_kernel_dtype, op};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// One or more operands of one element type whose other axes agree.
    "concat" => Concat { axis: usize }
}

impl OpImpl for Concat {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let Some((first, rest)) = inputs.split_first() else { bail!("takes at least one operand") };
        check_kernel_dtype(first.dtype)?;
        check_axis(self.axis, first.rank())?;
        let mut shape = first.shape.clone();
        for x in rest {
            if x.dtype != first.dtype {
                bail!("operands have different element types: {} and {}", first.dtype, x.dtype);
            }
            if x.rank() != first.rank() {
                bail!("operands have different ranks: {} and {}", first.rank(), x.rank());
            }
            for (axis, (known, dim)) in shape.iter_mut().zip(&x.shape).enumerate() {
                *known = match agree(known, dim) {
                    _ if axis == self.axis => &*known + dim,
                    Some(dim) => dim,
                    None => bail!("sizes {known} and {dim} of axis {axis} differ"),
                };
            }
        }
        Ok(vec![Type::new(first.dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let mut shape = inputs[0].shape.clone();
        shape[self.axis] = inputs.iter().map(|x| x.shape[self.axis]).sum();
        let outer: usize = shape[..self.axis].iter().product();
        let row = |x: &Tensor| x.shape[self.axis..].iter().product::<usize>() * x.dtype.size();
        let mut data = Vec::with_capacity(inputs.iter().map(|x| x.data.len()).sum());
        for i in 0..outer {
            for x in inputs {
                data.extend_from_slice(&x.data[i * row(x)..(i + 1) * row(x)]);
            }
        }
        Tensor::new(inputs[0].dtype, shape, data.into()).map(|t| vec![t]).ok_or_else(|| EvalError("too large".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_f32, f32s, infer};

    #[test]
    fn shapes() {
        let op = |axis| Concat { axis };
        assert_eq!(infer(op(0), &["f32[N, 3]", "f32[2, M]", "f32[N, 3]"]), "f32[2*N + 2, 3]");
        assert_eq!(infer(op(0), &["f32[2, 3]", "f32[2, 4]"]), "sizes 3 and 4 of axis 1 differ");
        assert_eq!(infer(op(2), &["f32[2, 3]"]), "axis 2 is outside rank 2");
        assert_eq!(infer(op(0), &["f32[2]", "f32[2, 3]"]), "operands have different ranks: 1 and 2");
        assert_eq!(infer(op(0), &["f32[2]", "i8[2]"]), "operands have different element types: f32 and i8");
        assert_eq!(infer(op(0), &[]), "takes at least one operand");
    }

    #[test]
    fn joins_rows() {
        let (a, b) = (f32s(&[2, 1], &[1.0, 2.0]), f32s(&[2, 2], &[3.0, 4.0, 5.0, 6.0]));
        assert_eq!(eval_f32(Concat { axis: 1 }, &[a.clone(), b]), [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
        assert_eq!(eval_f32(Concat { axis: 0 }, &[a.clone(), f32s(&[0, 1], &[]), a]), [1.0, 2.0, 1.0, 2.0]);
    }
}
