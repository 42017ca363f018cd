//! Reorders axes.

use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, bail, op};
use crate::tensor::{Tensor, strides};
use crate::types::Type;

op! {
    /// Output axis `i` is input axis `perm[i]`.
    ///
    /// ```text
    /// %y = transpose %x {perm = [1, 0]} : f32[3, 2]
    /// ```
    "transpose" => Transpose { perm: Vec<usize> }
}

impl OpImpl for Transpose {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 1)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..inputs[0].rank()) {
            bail!("{:?} does not permute the axes of rank {}", self.perm, inputs[0].rank());
        }
        let shape = self.perm.iter().map(|&a| inputs[0].shape[a].clone()).collect::<Vec<_>>();
        Ok(vec![Type::new(inputs[0].dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let from = strides(&x.shape);
        let shape: Vec<usize> = self.perm.iter().map(|&a| x.shape[a]).collect();
        let steps: Vec<i64> = self.perm.iter().map(|&a| from[a] as i64).collect();
        Ok(vec![x.strided(&shape, 0, &steps)])
    }
}
