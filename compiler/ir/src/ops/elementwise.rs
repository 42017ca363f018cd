//! Elementwise functions and comparisons, with numpy broadcasting.
//!
//! Not declared with `op!`: [`UnaryFn`], [`BinaryFn`] and [`Pred`] are ops themselves. What each function computes is said
//! in [`crate::math`].

use crate::dim::Dim;
use crate::dtype::DType;
use crate::elementwise::{BinaryFn, UnaryFn};
use crate::kernel::{Const, Pred};
use crate::math::{self, Eval};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, operands};
use crate::scalar;
use crate::tensor::{Tensor, strides};
use crate::types::Type;

impl OpImpl for UnaryFn {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        if !self.accepts(x.dtype) {
            bail!("does not apply to {}", x.dtype);
        }
        Ok(vec![x.with(self.result(x.dtype))])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let elements = x.iter().map(|c| math::unary(&mut Eval, *self, c));
        Ok(vec![Tensor::from_consts(self.result(x.dtype), x.shape.clone(), elements)])
    }
}

impl OpImpl for BinaryFn {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [a, b] = operands(inputs)?;
        if !self.accepts(a.dtype) {
            bail!("does not apply to {}", a.dtype);
        }
        Ok(vec![Type::new(same_dtype(a, b)?, broadcast_shapes(&[&a.shape, &b.shape])?)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let dtype = inputs[0].dtype;
        Ok(vec![zip(dtype, inputs, |x| math::binary(&mut Eval, *self, x[0], x[1]))?])
    }
}

impl OpImpl for Pred {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [a, b] = operands(inputs)?;
        same_dtype(a, b)?;
        Ok(vec![Type::new(DType::Bool, broadcast_shapes(&[&a.shape, &b.shape])?)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![zip(DType::Bool, inputs, |x| Const::bool(scalar::cmp(*self, x[0], x[1])))?])
    }
}

/// The element type two operands have in common.
fn same_dtype(a: &Type, b: &Type) -> Result<DType, InferError> {
    if a.dtype != b.dtype {
        bail!("operands have different element types: {} and {}", a.dtype, b.dtype);
    }
    Ok(a.dtype)
}

/// The shape operands have together, as in numpy: aligned at the end, axes of size 1 repeated.
///
/// Of two different symbolic dims the first is taken; that they are equal is a constraint of the graph, not of the op.
pub fn broadcast_shapes(shapes: &[&[Dim]]) -> Result<Vec<Dim>, InferError> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::ONE; rank];
    for shape in shapes {
        let missing = rank - shape.len();
        for (axis, dim) in shape.iter().enumerate() {
            let known = &mut out[missing + axis];
            match (known.as_const(), dim.as_const()) {
                _ if known == dim => {}
                (_, Some(1)) => {}
                (Some(1), _) | (None, Some(_)) => *known = dim.clone(),
                (Some(_), None) | (None, None) => {}
                (Some(a), Some(b)) => bail!("sizes {a} and {b} of axis {} do not broadcast", missing + axis),
            }
        }
    }
    Ok(out)
}

/// [`broadcast_shapes`] of concrete shapes.
pub fn broadcast_concrete(shapes: &[&[usize]]) -> Result<Vec<usize>, EvalError> {
    let dims: Vec<Vec<Dim>> = shapes.iter().map(|s| s.iter().map(|&d| Dim::from(d)).collect()).collect();
    let out = broadcast_shapes(&dims.iter().map(Vec::as_slice).collect::<Vec<_>>()).map_err(|e| EvalError(e.0))?;
    Ok(out.iter().filter_map(|d| usize::try_from(d.as_const()?).ok()).collect())
}

/// For each element of `to`, row-major, the element of a tensor of shape `from` that is repeated there.
pub fn broadcast_indices<'a>(from: &[usize], to: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
    let missing = to.len() - from.len();
    let mut steps = vec![0; to.len()];
    for (axis, stride) in strides(from).into_iter().enumerate() {
        if from[axis] != 1 {
            steps[missing + axis] = stride;
        }
    }
    let mut index = vec![0; to.len()];
    let mut at = 0;
    (0..to.iter().product()).map(move |_| {
        let current = at;
        for axis in (0..to.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < to[axis] {
                break;
            }
            at -= steps[axis] * to[axis];
            index[axis] = 0;
        }
        current
    })
}

/// Applies `f` to the elements of the broadcast operands at each position.
pub fn zip(dtype: DType, inputs: &[Tensor], f: impl Fn(&[Const]) -> Const) -> Result<Tensor, EvalError> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape.as_slice()).collect();
    let shape = broadcast_concrete(&shapes)?;
    let mut indices: Vec<_> = shapes.iter().map(|s| broadcast_indices(s, &shape)).collect();
    let mut elements: Vec<Const> = vec![Const { dtype, bits: 0 }; inputs.len()];
    let count: usize = shape.iter().product();
    let out = (0..count).map(|_| {
        for ((element, tensor), at) in elements.iter_mut().zip(inputs).zip(&mut indices) {
            *element = tensor.get(at.next().unwrap_or(0));
        }
        f(&elements)
    });
    Ok(Tensor::from_consts(dtype, shape.clone(), out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, eval_i64, f32s, i64s, infer};
    use crate::ops::Op;
    use crate::text::parse_type;

    const ADD: Op = Op::Binary(BinaryFn::Add);

    #[test]
    fn shapes() {
        assert_eq!(infer(Op::Unary(UnaryFn::Exp), &["f32[N, 3]"]), "f32[N, 3]");
        assert_eq!(infer(Op::Unary(UnaryFn::IsNan), &["f16[N]"]), "bool[N]");
        assert_eq!(infer(Op::Unary(UnaryFn::Exp), &["i32[N]"]), "does not apply to i32");
        assert_eq!(infer(Op::Unary(UnaryFn::Exp), &["f32[N]", "f32[N]"]), "takes 1 operands, not 2");
        assert_eq!(infer(ADD, &["f32[N, 1]", "f32[3]"]), "f32[N, 3]");
        assert_eq!(infer(ADD, &["f32[N]", "f64[N]"]), "operands have different element types: f32 and f64");
        assert_eq!(infer(ADD, &["bool[N]", "bool[N]"]), "does not apply to bool");
        assert_eq!(infer(ADD, &["f4e2m1[N]", "f4e2m1[N]"]), "element type f4e2m1 cannot be computed with");
        assert_eq!(infer(ADD, &["f32[2, 3]", "f32[4]"]), "sizes 3 and 4 of axis 1 do not broadcast");
        assert_eq!(infer(Op::Compare(Pred::Lt), &["f32[N, 1]", "f32[M]"]), "bool[N, M]");
    }

    #[test]
    fn symbols_broadcast() {
        let check = |shapes: &[&str], expected: &str| {
            let types: Vec<Type> = shapes.iter().map(|s| parse_type(&format!("f32{s}")).unwrap()).collect();
            let shapes: Vec<&[Dim]> = types.iter().map(|t| t.shape.as_slice()).collect();
            assert_eq!(Type::new(DType::F32, broadcast_shapes(&shapes).unwrap()).to_string(), format!("f32{expected}"));
        };
        check(&["[N]", "[N]"], "[N]");
        check(&["[N]", "[1]"], "[N]");
        check(&["[1]", "[N]"], "[N]");
        check(&["[N]", "[4]"], "[4]");
        check(&["[4]", "[N]"], "[4]");
        check(&["[N]", "[M]"], "[N]");
        check(&["[0]", "[1]"], "[0]");
        check(&["[]", "[2, 1]", "[3]"], "[2, 3]");
    }

    #[test]
    fn combines_elements() {
        let (x, y) = (f32s(&[2, 1], &[1.0, 2.0]), f32s(&[3], &[10.0, 20.0, 30.0]));
        assert_eq!(eval_f32(ADD, &[x.clone(), y.clone()]), [11.0, 21.0, 31.0, 12.0, 22.0, 32.0]);
        assert_eq!(eval_f32(ADD, &[x.clone(), f32s(&[0], &[])]), [0.0; 0]);
        assert_eq!(eval_i64(Op::Compare(Pred::Ge), &[x, f32s(&[], &[2.0])]), [0, 1]);
        assert_eq!(eval_f32(Op::Unary(UnaryFn::Neg), &[y]), [-10.0, -20.0, -30.0]);
        assert_eq!(eval_i64(Op::Binary(BinaryFn::Div), &[i64s(&[2], &[-7, 7]), i64s(&[2], &[2, 0])]), [-3, 0]);
    }

    #[test]
    fn concrete_shapes_are_checked_again() {
        let found = eval(ADD, &[f32s(&[2], &[1.0, 2.0]), f32s(&[3], &[1.0, 2.0, 3.0])]);
        assert_eq!(found, Err("sizes 2 and 3 of axis 0 do not broadcast".into()));
    }
}
