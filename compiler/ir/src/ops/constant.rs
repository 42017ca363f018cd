//! A small constant, written in the program itself.

use crate::dtype::DType;
use crate::kernel::Const;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_kernel_dtype, op, operands};
use crate::tensor::Tensor;
use crate::types::Type;

/// Most elements a constant may have; larger ones are weights.
pub const LIMIT: usize = 8;

op! {
    /// A constant of at most eight elements.
    ///
    /// ```text
    /// %c = constant {dtype = f32, shape = [2], bits = [1065353216, 0]} : f32[2]
    /// ```
    "constant" => Constant {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
        /// Elements as raw bits, zero-extended.
        bits: Vec<i64>,
    }
}

impl Constant {
    /// From a tensor of at most [`LIMIT`] elements of a type kernels know.
    pub fn new(tensor: &Tensor) -> Constant {
        let bits = tensor.iter().map(|c| c.bits as i64).collect();
        Constant { dtype: tensor.dtype, shape: tensor.shape.clone(), bits }
    }

    /// The constant as a tensor.
    pub fn tensor(&self) -> Tensor {
        let elements = self.bits.iter().map(|&bits| Const { dtype: self.dtype, bits: bits as u64 });
        Tensor::from_consts(self.dtype, self.shape.clone(), elements)
    }
}

impl OpImpl for Constant {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [] = operands(inputs)?;
        check_kernel_dtype(self.dtype)?;
        let count = self.shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        if count != Some(self.bits.len()) {
            bail!("{} elements do not fill shape {:?}", self.bits.len(), self.shape);
        }
        if self.bits.len() > LIMIT {
            bail!("{} elements are too many for a constant, which has at most {LIMIT}", self.bits.len());
        }
        let width = self.dtype.bits();
        if let Some(bits) = self.bits.iter().find(|&&b| width < 64 && b as u64 >> width != 0) {
            bail!("{bits:#x} is wider than {}", self.dtype);
        }
        if self.dtype == DType::Bool && self.bits.iter().any(|&b| b > 1) {
            bail!("a bool is 0 or 1");
        }
        Ok(vec![Type::fixed(self.dtype, &self.shape)])
    }

    fn eval(&self, _: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> { Ok(vec![self.tensor()]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, i64s, infer};

    #[test]
    fn round_trips() {
        let t = i64s(&[2, 1], &[-1, 7]);
        assert_eq!(eval(Constant::new(&t), &[]), Ok(t));
    }

    #[test]
    fn shapes() {
        let op = |dtype, shape: &[usize], bits: &[i64]| Constant { dtype, shape: shape.to_vec(), bits: bits.to_vec() };
        assert_eq!(infer(op(DType::U8, &[2], &[1, 255]), &[]), "u8[2]");
        assert_eq!(infer(op(DType::U8, &[2], &[1, 256]), &[]), "0x100 is wider than u8");
        assert_eq!(infer(op(DType::Bool, &[], &[2]), &[]), "a bool is 0 or 1");
        assert_eq!(infer(op(DType::F32, &[3], &[0]), &[]), "1 elements do not fill shape [3]");
        assert_eq!(infer(op(DType::F32, &[9], &[0; 9]), &[]), "9 elements are too many for a constant, which has at most 8");
        assert_eq!(infer(op(DType::F32, &[1 << 40, 1 << 40], &[0]), &[]), "1 elements do not fill shape [1099511627776, 1099511627776]");
        assert_eq!(infer(op(DType::I4, &[], &[0]), &[]), "element type i4 cannot be computed with");
    }
}
