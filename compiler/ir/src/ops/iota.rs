//! Counts.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::Const;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_kernel_dtype, check_sizes, op, operands};
use crate::scalar;
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// A vector `0, 1, ..., n-1` of a numeric type.
    ///
    /// ```text
    /// %i = iota {n = [N], dtype = i64} : i64[N]
    /// ```
    "iota" => Iota {
        /// One dim, the number of elements.
        n: Vec<Dim>,
        /// Element type.
        dtype: DType,
    }
}

impl OpImpl for Iota {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [] = operands(inputs)?;
        check_kernel_dtype(self.dtype)?;
        if self.dtype == DType::Bool {
            bail!("does not count in bool");
        }
        if self.n.len() != 1 {
            bail!("n is one dim, not {}", self.n.len());
        }
        check_sizes(&self.n)?;
        Ok(vec![Type::new(self.dtype, self.n.clone())])
    }

    fn eval(&self, _: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let n = cx.size(&self.n[0])?;
        let elements = (0..n).map(|i| scalar::convert(Const::i64(i as i64), self.dtype));
        Ok(vec![Tensor::from_consts(self.dtype, vec![n], elements)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_f32, eval_i64, infer};

    fn op(n: i64, dtype: DType) -> Iota { Iota { n: vec![Dim::from(n)], dtype } }

    #[test]
    fn shapes() {
        assert_eq!(infer(Iota { n: vec![Dim::sym("N")], dtype: DType::I32 }, &[]), "i32[N]");
        assert_eq!(infer(op(-1, DType::I32), &[]), "size -1 is negative");
        assert_eq!(infer(op(1, DType::Bool), &[]), "does not count in bool");
        assert_eq!(infer(Iota { n: Vec::new(), dtype: DType::I32 }, &[]), "n is one dim, not 0");
    }

    #[test]
    fn counts() {
        assert_eq!(eval_f32(op(3, DType::F16), &[]), [0.0, 1.0, 2.0]);
        assert_eq!(eval_i64(op(130, DType::I8), &[])[126..], [126, 127, -128, -127]);
        assert_eq!(eval_i64(op(0, DType::I8), &[]), [0; 0]);
    }
}
