//! Position of the largest or smallest element along an axis.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::{Const, Pred};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_axis, op, operands};
use crate::scalar;
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// i64 positions along `axis`, which stays with size 1. NaN counts as the extreme. Among equals the first, or the last
    /// if `last`.
    "arg_reduce" => ArgReduce { largest: bool, axis: usize, last: bool }
}

impl OpImpl for ArgReduce {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        check_axis(self.axis, x.rank())?;
        let mut shape = x.shape.clone();
        if shape[self.axis].is(0) {
            bail!("axis {} has no elements", self.axis);
        }
        shape[self.axis] = Dim::ONE;
        Ok(vec![Type::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let n = x.shape[self.axis];
        let inner: usize = x.shape[self.axis + 1..].iter().product();
        let mut shape = x.shape.clone();
        shape[self.axis] = 1;
        let count: usize = shape.iter().product();
        let elements = (0..count).map(|i| {
            let first = i / inner * n * inner + i % inner;
            let mut best = 0;
            for j in 1..n {
                if self.replaces(x.get(first + best * inner), x.get(first + j * inner)) {
                    best = j;
                }
            }
            Const::i64(best as i64)
        });
        Ok(vec![Tensor::from_consts(DType::I64, shape, elements)])
    }
}

impl ArgReduce {
    /// True if `new` takes the place of the extreme found so far, which lies before it.
    fn replaces(&self, best: Const, new: Const) -> bool {
        let is_nan = |c| scalar::cmp(Pred::Ne, c, c);
        let better = if self.largest { Pred::Gt } else { Pred::Lt };
        match (is_nan(best), is_nan(new)) {
            (true, true) => self.last,
            (true, false) => false,
            (false, true) => true,
            (false, false) => scalar::cmp(better, new, best) || self.last && scalar::cmp(Pred::Eq, new, best),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_i64, f32s, infer};

    fn op(largest: bool, axis: usize, last: bool) -> ArgReduce { ArgReduce { largest, axis, last } }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(true, 1, false), &["f32[N, 3, 2]"]), "i64[N, 1, 2]");
        assert_eq!(infer(op(true, 3, false), &["f32[N, 3, 2]"]), "axis 3 is outside rank 3");
        assert_eq!(infer(op(true, 0, false), &["f32[0, 3]"]), "axis 0 has no elements");
    }

    #[test]
    fn first_last_and_nan() {
        let x = f32s(&[2, 4], &[1.0, 5.0, 5.0, 0.0, f32::NAN, 7.0, f32::NAN, 9.0]);
        assert_eq!(eval_i64(op(true, 1, false), &[x.clone()]), [1, 0]);
        assert_eq!(eval_i64(op(true, 1, true), &[x.clone()]), [2, 2]);
        assert_eq!(eval_i64(op(false, 1, false), &[x.clone()]), [3, 0]);
        assert_eq!(eval_i64(op(false, 0, false), &[x]), [1, 0, 1, 0]);
    }
}
