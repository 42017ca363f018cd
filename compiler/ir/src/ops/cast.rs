//! Converts the element type.

use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, check_kernel_dtype, op, operands};
use crate::scalar;
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Each element converted as the table of corners says: floats to integers truncate and saturate, NaN gives 0,
    /// integers wrap, to bool is `!= 0`, to narrower floats rounds to nearest even.
    "cast" => Cast { to: DType }
}

impl OpImpl for Cast {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        check_kernel_dtype(self.to)?;
        Ok(vec![x.with(self.to)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let elements = inputs[0].iter().map(|c| scalar::convert(c, self.to));
        Ok(vec![Tensor::from_consts(self.to, inputs[0].shape.clone(), elements)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_i64, f32s, i64s, infer};

    #[test]
    fn shapes() {
        assert_eq!(infer(Cast { to: DType::I8 }, &["f32[N, 3]"]), "i8[N, 3]");
        assert_eq!(infer(Cast { to: DType::I4 }, &["f32[N]"]), "element type i4 cannot be computed with");
        assert_eq!(infer(Cast { to: DType::I8 }, &["string[N]"]), "element type string cannot be computed with");
    }

    #[test]
    fn corners() {
        let x = f32s(&[5], &[-1.5, f32::NAN, f32::INFINITY, 300.7, 2.9]);
        assert_eq!(eval_i64(Cast { to: DType::I8 }, &[x.clone()]), [-1, 0, 127, 127, 2]);
        assert_eq!(eval_i64(Cast { to: DType::U8 }, &[x.clone()]), [0, 0, 255, 255, 2]);
        assert_eq!(eval_i64(Cast { to: DType::Bool }, &[x]), [1, 1, 1, 1, 1]);
        assert_eq!(eval_i64(Cast { to: DType::U8 }, &[i64s(&[2], &[-1, 256])]), [255, 0]);
    }
}
