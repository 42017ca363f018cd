//! Data as sizes.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, bail, check_dtype, op, operands};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Binds each symbol to the element of the i64 vector at its position. No results; the symbols may be used after it.
    ///
    /// ```text
    /// bind %n {symbols = [s0]}
    /// ```
    "bind" => Bind { symbols: Vec<Symbol> }
}

impl OpImpl for Bind {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        check_dtype("the sizes", x, DType::I64)?;
        let [n] = x.shape.as_slice() else { bail!("the sizes must be a vector, not of rank {}", x.rank()) };
        if agree(n, &Dim::from(self.symbols.len())).is_none() {
            bail!("{n} sizes for {} symbols", self.symbols.len());
        }
        Ok(Vec::new())
    }

    /// The interpreter does the binding: it owns the symbols.
    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        match inputs[0].to_i64().iter().zip(&self.symbols).find(|(n, _)| **n < 0) {
            Some((n, symbol)) => Err(EvalError(format!("size `{symbol}` is {n}"))),
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{i64s, infer};
    use crate::ops::Op;

    fn op() -> Bind { Bind { symbols: vec!["a".into(), "b".into()] } }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(), &["i64[2]"]), "");
        assert_eq!(infer(op(), &["i64[N]"]), "");
        assert_eq!(infer(op(), &["i64[3]"]), "3 sizes for 2 symbols");
        assert_eq!(infer(op(), &["i64[]"]), "the sizes must be a vector, not of rank 0");
        assert_eq!(infer(op(), &["i32[2]"]), "the sizes must be i64, not i32");
    }

    #[test]
    fn sizes_are_not_negative() {
        let run = |n: i64| Op::from(op()).eval(&[i64s(&[2], &[4, n])], &EvalCx { symbols: &|_| None });
        assert_eq!(run(0), Ok(Vec::new()));
        assert_eq!(run(-1).unwrap_err().to_string(), "size `b` is -1");
    }
}
