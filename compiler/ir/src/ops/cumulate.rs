//! Running sums and products.

use crate::kernel::Const;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_axis, op, operands};
use crate::ops::reduce::ReduceFn;
use crate::scalar;
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Running `f` (sum or prod, max, min) along `axis`, in order; from the end if `reverse`; without the element itself if
    /// `exclusive` (the first is then neutral).
    "cumulate" => Cumulate { f: ReduceFn, axis: usize, exclusive: bool, reverse: bool }
}

impl OpImpl for Cumulate {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        if !self.f.accepts(x.dtype) {
            bail!("{} does not apply to {}", self.f.name(), x.dtype);
        }
        check_axis(self.axis, x.rank())?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let n = x.shape[self.axis];
        let inner: usize = x.shape[self.axis + 1..].iter().product();
        let f = |sum, element| scalar::bin(self.f.op(), sum, element).unwrap_or(sum);
        let wide = x.dtype.compute();
        let mut out: Vec<Const> = x.iter().collect();
        for line in 0..x.len().checked_div(n).unwrap_or(0) {
            let first = line / inner * n * inner + line % inner;
            let mut sum = self.f.neutral(wide);
            for step in 0..n {
                let at = first + inner * if self.reverse { n - 1 - step } else { step };
                let before = sum;
                sum = f(sum, scalar::convert(x.get(at), wide));
                out[at] = scalar::convert(if self.exclusive { before } else { sum }, x.dtype);
            }
        }
        Ok(vec![Tensor::from_consts(x.dtype, x.shape.clone(), out)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_f32, eval_i64, f32s, i64s, infer};

    fn sum(axis: usize, exclusive: bool, reverse: bool) -> Cumulate { Cumulate { f: ReduceFn::Sum, axis, exclusive, reverse } }

    #[test]
    fn shapes() {
        assert_eq!(infer(sum(1, false, false), &["f32[N, 3]"]), "f32[N, 3]");
        assert_eq!(infer(sum(2, false, false), &["f32[N, 3]"]), "axis 2 is outside rank 2");
        assert_eq!(infer(sum(0, false, false), &["bool[N, 3]"]), "sum does not apply to bool");
    }

    #[test]
    fn directions() {
        let x = i64s(&[2, 3], &[1, 2, 3, 10, 20, 30]);
        let run = |op: Cumulate| eval_i64(op, &[x.clone()]);
        assert_eq!(run(sum(1, false, false)), [1, 3, 6, 10, 30, 60]);
        assert_eq!(run(sum(1, true, false)), [0, 1, 3, 0, 10, 30]);
        assert_eq!(run(sum(1, false, true)), [6, 5, 3, 60, 50, 30]);
        assert_eq!(run(sum(0, true, true)), [10, 20, 30, 0, 0, 0]);
        assert_eq!(run(Cumulate { f: ReduceFn::Max, ..sum(0, false, false) }), [1, 2, 3, 10, 20, 30]);
        assert_eq!(run(Cumulate { f: ReduceFn::Prod, ..sum(1, true, false) }), [1, 1, 2, 1, 10, 200]);
    }

    #[test]
    fn nothing_to_sum() {
        assert_eq!(eval_f32(sum(0, false, false), &[f32s(&[0, 2], &[])]), [0.0; 0]);
        assert_eq!(eval_f32(sum(0, false, false), &[f32s(&[2, 0], &[])]), [0.0; 0]);
    }
}
