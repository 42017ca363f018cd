//! Repeats along axes of size 1.

use crate::dim::Dim;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_sizes, op, operands};
use crate::ops::elementwise::broadcast_indices;
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// numpy's `broadcast_to`: axes are aligned at the end; an axis of size 1, or a missing one, is repeated.
    "broadcast" => Broadcast { shape: Vec<Dim> }
}

impl OpImpl for Broadcast {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        if x.rank() > self.shape.len() {
            bail!("rank {} cannot become rank {}", x.rank(), self.shape.len());
        }
        let missing = self.shape.len() - x.rank();
        for (axis, (from, to)) in x.shape.iter().zip(&self.shape[missing..]).enumerate() {
            let differ = from.as_const().zip(to.as_const()).is_some_and(|(a, b)| a != 1 && a != b);
            if differ {
                bail!("axis {axis} of size {from} cannot become size {to}");
            }
        }
        check_sizes(&self.shape)?;
        Ok(vec![Type::new(x.dtype, self.shape.clone())])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let shape = cx.shape(&self.shape)?;
        let missing = shape.len() - x.shape.len();
        for (axis, (&from, &to)) in x.shape.iter().zip(&shape[missing..]).enumerate() {
            if from != 1 && from != to {
                return Err(EvalError(format!("axis {axis} of size {from} cannot become size {to}")));
            }
        }
        let elements = broadcast_indices(&x.shape, &shape).map(|i| x.get(i));
        Ok(vec![Tensor::from_consts(x.dtype, shape.clone(), elements)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_f32, f32s, infer};
    use crate::ops::Op;

    fn op(shape: &[i64]) -> Broadcast { Broadcast { shape: shape.iter().map(|&d| Dim::from(d)).collect() } }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(&[2, 3]), &["f32[1]"]), "f32[2, 3]");
        assert_eq!(infer(op(&[2, 3]), &["f32[N, 3]"]), "f32[2, 3]");
        assert_eq!(infer(op(&[2, 3]), &["f32[2]"]), "axis 0 of size 2 cannot become size 3");
        assert_eq!(infer(op(&[2]), &["f32[1, 2]"]), "rank 2 cannot become rank 1");
        assert_eq!(infer(op(&[-2]), &["f32[1]"]), "size -2 is negative");
    }

    #[test]
    fn repeats() {
        assert_eq!(eval_f32(op(&[2, 2, 2]), &[f32s(&[2, 1], &[1.0, 2.0])]), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(eval_f32(op(&[0, 2]), &[f32s(&[1], &[1.0])]), [0.0; 0]);
    }

    #[test]
    fn symbols_are_checked_when_they_have_values() {
        let op: Op = Broadcast { shape: vec![Dim::sym("N")] }.into();
        let run = |n| op.eval(&[f32s(&[2], &[1.0, 2.0])], &EvalCx { symbols: &|_| Some(n) });
        assert_eq!(run(2).unwrap()[0].to_f32(), [1.0, 2.0]);
        assert_eq!(run(3).unwrap_err().to_string(), "axis 0 of size 2 cannot become size 3");
    }
}
