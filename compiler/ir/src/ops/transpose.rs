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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::kernel::Const;
    use crate::op::testing::{eval, eval_f32, f32s, infer};

    #[test]
    fn shapes() {
        let op = |perm: &[usize]| Transpose { perm: perm.to_vec() };
        assert_eq!(infer(op(&[2, 0, 1]), &["f32[N, 3, 4]"]), "f32[4, N, 3]");
        assert_eq!(infer(op(&[]), &["c128[]"]), "c128[]");
        assert_eq!(infer(op(&[0, 0]), &["f32[2, 3]"]), "[0, 0] does not permute the axes of rank 2");
        assert_eq!(infer(op(&[0]), &["f32[2, 3]"]), "[0] does not permute the axes of rank 2");
    }

    #[test]
    fn moves_axes() {
        let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(eval_f32(Transpose { perm: vec![1, 0] }, &[x]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let x = f32s(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(eval_f32(Transpose { perm: vec![2, 0, 1] }, &[x]), [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn elements_smaller_than_a_byte_move_too() {
        let cells = vec![1, 2, 3, 4, 5, 6];
        let x = Tensor::from_cells(DType::U4, vec![2, 3], cells);
        let y = eval(Transpose { perm: vec![1, 0] }, &[x]).unwrap();
        assert_eq!(y.cells()[..], [1, 4, 2, 5, 3, 6]);
        assert_eq!(y.data[..], [0x41, 0x52, 0x63]);
        assert_eq!(Tensor::scalar(Const::bool(true)).cells()[..], [1]);
    }
}
