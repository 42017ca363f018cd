//! Chooses between two tensors element by element.

use super::elementwise::{broadcast_concrete, broadcast_indices, broadcast_shapes};
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, bail, op};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// `cond ? a : b` with numpy broadcasting; `cond` is bool, `a` and `b` have one element type.
    "select" => Select {}
}

impl OpImpl for Select {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 3)?;
        let (cond, a, b) = (&inputs[0], &inputs[1], &inputs[2]);
        if cond.dtype != DType::Bool {
            bail!("the condition is {}, not bool", cond.dtype);
        }
        if a.dtype != b.dtype {
            bail!("operands have different element types: {} and {}", a.dtype, b.dtype);
        }
        Ok(vec![Type::new(a.dtype, broadcast_shapes(&[&cond.shape, &a.shape, &b.shape])?)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let [cond, a, b] = inputs else { return Err(EvalError("`select` has three operands".into())) };
        let shape = broadcast_concrete(&[&cond.shape, &a.shape, &b.shape])?;
        let width = a.dtype.bits().div_ceil(8);
        let (ca, cb) = (a.cells(), b.cells());
        let sources = broadcast_indices(&a.shape, &shape).zip(broadcast_indices(&b.shape, &shape));
        let mut data = Vec::with_capacity(shape.iter().product::<usize>() * width);
        for (at, (i, j)) in broadcast_indices(&cond.shape, &shape).zip(sources) {
            let (cells, i) = if cond.data[at] != 0 { (&ca, i) } else { (&cb, j) };
            data.extend_from_slice(&cells[i * width..(i + 1) * width]);
        }
        Ok(vec![Tensor::from_cells(a.dtype, shape, data)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Const;
    use crate::op::testing::{eval_f32, f32s, infer};

    #[test]
    fn shapes() {
        assert_eq!(infer(Select {}, &["bool[N, 1]", "f32[3]", "f32[]"]), "f32[N, 3]");
        assert_eq!(infer(Select {}, &["i8[2]", "f32[2]", "f32[2]"]), "the condition is i8, not bool");
        let mixed = infer(Select {}, &["bool[2]", "f32[2]", "f64[2]"]);
        assert_eq!(mixed, "operands have different element types: f32 and f64");
        assert!(infer(Select {}, &["bool[2]", "f32[3]", "f32[3]"]).contains("do not broadcast"));
    }

    #[test]
    fn chooses() {
        let cond = Tensor::from_consts(DType::Bool, vec![2, 1], [true, false].map(Const::bool));
        let a = f32s(&[2], &[1.0, 2.0]);
        assert_eq!(eval_f32(Select {}, &[cond, a, f32s(&[], &[9.0])]), [1.0, 2.0, 9.0, 9.0]);
    }
}
