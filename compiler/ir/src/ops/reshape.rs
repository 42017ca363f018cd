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
