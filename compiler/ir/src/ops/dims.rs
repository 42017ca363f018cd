//! Sizes as data.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::Const;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, op, operands};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// An i64 tensor of the values of dims: a vector, or a scalar if `scalar` (then there is one dim).
    ///
    /// ```text
    /// %s = dims {dims = [N, 2*H], scalar = false} : i64[2]
    /// ```
    "dims" => Dims { dims: Vec<Dim>, scalar: bool }
}

impl OpImpl for Dims {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [] = operands(inputs)?;
        match (self.scalar, self.dims.len()) {
            (true, 1) => Ok(vec![Type::fixed(DType::I64, &[])]),
            (true, n) => bail!("a scalar has one dim, not {n}"),
            (false, n) => Ok(vec![Type::fixed(DType::I64, &[n])]),
        }
    }

    fn eval(&self, _: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let values: Vec<Const> = self.dims.iter().map(|d| cx.dim(d).map(Const::i64)).collect::<Result<_, _>>()?;
        let shape = if self.scalar { Vec::new() } else { vec![values.len()] };
        Ok(vec![Tensor::from_consts(DType::I64, shape, values)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::infer;
    use crate::ops::Op;
    use crate::text::parse_dim;

    #[test]
    fn shapes() {
        let dims = vec![Dim::ONE, Dim::sym("N")];
        assert_eq!(infer(Dims { dims: dims.clone(), scalar: false }, &[]), "i64[2]");
        assert_eq!(infer(Dims { dims: dims[1..].to_vec(), scalar: true }, &[]), "i64[]");
        assert_eq!(infer(Dims { dims, scalar: true }, &[]), "a scalar has one dim, not 2");
    }

    #[test]
    fn values_of_symbols() {
        let op: Op = Dims { dims: vec![parse_dim("2*N - 7").unwrap()], scalar: false }.into();
        assert_eq!(op.eval(&[], &EvalCx { symbols: &|_| Some(3) }).unwrap()[0].to_i64(), [-1]);
        assert_eq!(op.eval(&[], &EvalCx { symbols: &|_| None }).unwrap_err().to_string(), "dim `2*N - 7` has no value");
    }
}
