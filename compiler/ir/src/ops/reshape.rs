//! Gives the same elements, in row-major order, another shape.

use crate::dim::Dim;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, arity, bail, check_sizes, op};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// The number of elements stays the same.
    "reshape" => Reshape { shape: Vec<Dim> }
}

impl OpImpl for Reshape {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 1)?;
        check_sizes(&self.shape)?;
        let result = Type::new(inputs[0].dtype, self.shape.clone());
        if agree(&inputs[0].elements(), &result.elements()).is_none() {
            bail!("{} elements cannot have the shape of {result}", inputs[0].elements());
        }
        Ok(vec![result])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let shape = cx.shape(&self.shape)?;
        let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        if count != Some(inputs[0].len()) {
            return Err(EvalError(format!("{} elements cannot have shape {shape:?}", inputs[0].len())));
        }
        Ok(vec![inputs[0].reshaped(shape)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_f32, f32s, infer};
    use std::slice::from_ref;

    #[test]
    fn shapes() {
        let op = |shape: &[i64]| Reshape { shape: shape.iter().map(|&d| Dim::from(d)).collect() };
        assert_eq!(infer(op(&[6]), &["f32[2, 3]"]), "f32[6]");
        assert_eq!(infer(op(&[]), &["f32[1, 1]"]), "f32[]");
        assert_eq!(infer(op(&[4, 2]), &["f32[2, 3]"]), "6 elements cannot have the shape of f32[4, 2]");
        assert_eq!(infer(op(&[4, 2]), &["f32[N, 3]"]), "f32[4, 2]");
        assert_eq!(infer(op(&[-1]), &["f32[2, 3]"]), "size -1 is negative");
    }

    #[test]
    fn keeps_the_elements() {
        let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(eval_f32(Reshape { shape: vec![Dim::from(4i64)] }, from_ref(&x)), [1.0, 2.0, 3.0, 4.0]);
        let op = Reshape { shape: vec![Dim::sym("N")] };
        let error = op.eval(&[x], &EvalCx { symbols: &|_| Some(5) }).unwrap_err();
        assert_eq!(error.0, "4 elements cannot have shape [5]");
    }
}
