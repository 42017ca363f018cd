//! A regular part of each axis.

use crate::dim::Dim;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, bail, op};
use crate::tensor::{Tensor, strides};
use crate::types::Type;

op! {
    /// Output element `i` of axis `a` is input element `starts[a] + i * steps[a]`, for `sizes[a]` elements. Steps may be
    /// negative. Every element lies within the input.
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
