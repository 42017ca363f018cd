//! A regular part of each axis.

use crate::dim::Dim;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, bail, op};
use crate::tensor::{Tensor, strides};
use crate::types::Type;

op! {
    /// Output element `i` of axis `a` is input element `starts[a] + i * steps[a]`, for `sizes[a]` elements. Steps may
    /// be negative. Every element lies within the input.
    "slice" => Slice { starts: Vec<Dim>, steps: Vec<i64>, sizes: Vec<Dim> }
}

impl OpImpl for Slice {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 1)?;
        let rank = inputs[0].rank();
        for (what, len) in [("starts", self.starts.len()), ("steps", self.steps.len()), ("sizes", self.sizes.len())] {
            if len != rank {
                bail!("{len} {what} for rank {rank}");
            }
        }
        for axis in 0..rank {
            if self.steps[axis] == 0 {
                bail!("the step of axis {axis} is 0");
            }
            let bounds = [&self.starts[axis], &self.sizes[axis], &inputs[0].shape[axis]].map(Dim::as_const);
            if let [Some(start), Some(size), Some(dim)] = bounds {
                check(axis, start, self.steps[axis], size, dim).map_err(InferError)?;
            }
        }
        Ok(vec![Type::new(inputs[0].dtype, self.sizes.clone())])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let sizes = cx.shape(&self.sizes)?;
        let from = strides(&x.shape);
        let mut offset = 0;
        let mut steps = Vec::new();
        for axis in 0..x.shape.len() {
            let start = cx.dim(&self.starts[axis])?;
            check(axis, start, self.steps[axis], sizes[axis] as i64, x.shape[axis] as i64).map_err(EvalError)?;
            if sizes[axis] > 0 {
                offset += start * from[axis] as i64;
            }
            // A step past every element may be huge; it is never taken with one element or none.
            steps.push(if sizes[axis] > 1 { self.steps[axis] * from[axis] as i64 } else { 0 });
        }
        Ok(vec![x.strided(&sizes, offset, &steps)])
    }
}

/// Checks that the elements `start + i * step` for `i < size` lie within an axis.
fn check(axis: usize, start: i64, step: i64, size: i64, dim: i64) -> Result<(), String> {
    if size < 0 {
        return Err(format!("the size of axis {axis} is {size}"));
    }
    if size == 0 {
        return Ok(());
    }
    let last = (size - 1).checked_mul(step).and_then(|x| x.checked_add(start)).unwrap_or(i64::MAX);
    match [start, last].into_iter().find(|x| !(0..dim).contains(x)) {
        Some(x) => Err(format!("element {x} is outside axis {axis} of size {dim}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, infer};
    use std::slice::from_ref;

    fn op(starts: &[i64], steps: &[i64], sizes: &[i64]) -> Slice {
        let dims = |x: &[i64]| x.iter().map(|&d| Dim::from(d)).collect();
        Slice { starts: dims(starts), steps: steps.to_vec(), sizes: dims(sizes) }
    }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(&[1, 0], &[2, 1], &[2, 5]), &["i4[4, M]"]), "i4[2, 5]");
        assert_eq!(infer(op(&[1], &[2], &[3]), &["f32[5]"]), "element 5 is outside axis 0 of size 5");
        assert_eq!(infer(op(&[1], &[-1], &[3]), &["f32[5]"]), "element -1 is outside axis 0 of size 5");
        assert_eq!(infer(op(&[9], &[1], &[0]), &["f32[5]"]), "f32[0]");
        assert_eq!(infer(op(&[0], &[1], &[-1]), &["f32[5]"]), "the size of axis 0 is -1");
        assert_eq!(infer(op(&[0], &[0], &[1]), &["f32[5]"]), "the step of axis 0 is 0");
        assert_eq!(infer(op(&[0], &[1], &[1]), &["f32[5, 2]"]), "1 starts for rank 2");
    }

    #[test]
    fn takes_a_regular_part() {
        let x = f32s(&[2, 4], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(eval_f32(op(&[1, 3], &[1, -2], &[1, 2]), from_ref(&x)), [7.0, 5.0]);
        assert_eq!(eval_f32(op(&[1, 3], &[-1, i64::MAX], &[2, 1]), from_ref(&x)), [7.0, 3.0]);
        assert!(eval_f32(op(&[99, 0], &[1, 1], &[0, 4]), from_ref(&x)).is_empty());
    }

    #[test]
    fn symbols_are_checked_when_they_have_values() {
        let op = Slice { starts: vec![Dim::sym("S")], steps: vec![1], sizes: vec![Dim::from(2i64)] };
        assert_eq!(infer(op.clone(), &["f32[5]"]), "f32[2]");
        let run = |s: i64| op.eval(&[f32s(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0])], &EvalCx { symbols: &|_| Some(s) });
        assert_eq!(run(3).unwrap()[0].to_f32(), [3.0, 4.0]);
        assert_eq!(run(4).unwrap_err().0, "element 5 is outside axis 0 of size 5");
        assert_eq!(eval(op, &[f32s(&[5], &[0.0; 5])]).unwrap_err(), "dim `S` has no value");
    }
}
