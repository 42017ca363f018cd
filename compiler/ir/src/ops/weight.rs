//! A large constant, kept outside of the program.

use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, op};
use crate::tensor::Tensor;
use crate::types::Type;
use crate::weights::WeightId;

op! {
    /// The weight with handle `id` in the program's store. The text form writes its name: `weight @fc.bias : f32[10]`.
    "weight" => Weight {
        /// Handle.
        id: WeightId,
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
    }
}

impl OpImpl for Weight {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 0)?;
        Ok(vec![Type::fixed(self.dtype, &self.shape)])
    }

    /// The store is not at hand here: [`crate::interp`] reads it.
    fn eval(&self, _: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        Err(EvalError(format!("weight {} is outside of the graph", self.id.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, infer};

    #[test]
    fn knows_its_type_but_not_its_data() {
        let op = Weight { id: WeightId(3), dtype: DType::F32, shape: vec![2, 10] };
        assert_eq!(infer(op.clone(), &[]), "f32[2, 10]");
        assert_eq!(infer(op.clone(), &["f32[]"]), "0 operands expected, 1 given");
        assert_eq!(eval(op, &[]).unwrap_err(), "weight 3 is outside of the graph");
    }
}
