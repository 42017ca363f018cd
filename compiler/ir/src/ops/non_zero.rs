//! Positions of the elements that are not zero.

use crate::dim::{Dim, Symbol};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, bail, op};
use crate::dtype::DType;
use crate::scalar;
use crate::tensor::{Tensor, for_each_index};
use crate::types::Type;

op! {
    /// i64 `[rank, count]`, row-major order of positions; binds `count` (one symbol).
    "non_zero" => NonZero { count: Vec<Symbol> }
}

impl OpImpl for NonZero {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 1)?;
        let [count] = self.count.as_slice() else { bail!("{} symbols for one count", self.count.len()) };
        let x = &inputs[0];
        if !x.dtype.in_kernels() {
            bail!("elements of type {} are not compared with zero", x.dtype);
        }
        Ok(vec![Type::new(DType::I64, vec![Dim::from(x.rank()), Dim::sym(count)])])
    }

    /// [`crate::interp`] binds `count` to the size of the result.
    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let mut positions: Vec<i64> = Vec::new();
        let mut i = 0;
        for_each_index(&x.shape, |index| {
            if scalar::convert(x.get(i), DType::Bool).bits != 0 {
                positions.extend(index.iter().map(|&p| p as i64));
            }
            i += 1;
        });
        let (rank, len) = (x.shape.len(), positions.len());
        let count = x.iter().filter(|&c| scalar::convert(c, DType::Bool).bits != 0).count();
        let by_axis: Vec<i64> = (0..rank).flat_map(|a| positions.iter().skip(a).step_by(rank).copied()).collect();
        debug_assert_eq!(len, rank * count);
        Ok(vec![Tensor::from_i64(vec![rank, count], &by_axis)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{f32s, infer};

    #[test]
    fn shapes() {
        let op = |count: &[&str]| NonZero { count: count.iter().map(|&s| s.into()).collect() };
        assert_eq!(infer(op(&["s"]), &["f32[N, 3]"]), "i64[2, s]");
        assert_eq!(infer(op(&[]), &["f32[N, 3]"]), "0 symbols for one count");
        assert_eq!(infer(op(&["s"]), &["c64[2]"]), "elements of type c64 are not compared with zero");
    }

    #[test]
    fn positions_by_axis() {
        let op = NonZero { count: vec!["s".into()] };
        let run = |x: Tensor| op.eval(&[x], &EvalCx { symbols: &|_| None }).unwrap().remove(0);
        let y = run(f32s(&[2, 3], &[0.0, f32::NAN, -0.0, 2.0, 0.0, 3.0]));
        assert_eq!((y.shape.as_slice(), y.to_i64()), (&[2, 3][..], vec![0, 1, 1, 1, 0, 2]));
        assert_eq!(run(f32s(&[2], &[0.0, 0.0])).shape, [1, 0]);
        assert_eq!(run(f32s(&[], &[1.0])).shape, [0, 1]);
    }
}
