//! Adds elements around a tensor.

use crate::dim::Dim;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, arity, bail, op, words};
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;

words! {
    /// What the added elements are.
    PadMode {
        /// The value of the second operand, a scalar of the same element type.
        Constant "constant",
        /// The nearest element.
        Edge "edge",
        /// Mirrored without repeating the edge.
        Reflect "reflect",
        /// Continued from the other side.
        Wrap "wrap",
    }
}

op! {
    /// Adds `before[a]` and `after[a]` elements to axis `a`; negative numbers remove elements, before
    /// anything is added. Operands: the tensor, and for mode `constant` the value.
    "pad" => Pad { before: Vec<Dim>, after: Vec<Dim>, mode: PadMode }
}

impl OpImpl for Pad {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, if self.mode == PadMode::Constant { 2 } else { 1 })?;
        let x = &inputs[0];
        if self.before.len() != x.rank() || self.after.len() != x.rank() {
            bail!("padding of {} and {} axes for rank {}", self.before.len(), self.after.len(), x.rank());
        }
        if let Some(value) = inputs.get(1).filter(|v| v.rank() != 0 || v.dtype != x.dtype) {
            bail!("the value is {value}, a scalar of type {} is needed", x.dtype);
        }
        let mut shape = Vec::new();
        for axis in 0..x.rank() {
            let d = &(&x.shape[axis] + &self.before[axis]) + &self.after[axis];
            if d.as_const().is_some_and(|d| d < 0) {
                bail!("padding leaves {d} elements of axis {axis}");
            }
            shape.push(d);
        }
        Ok(vec![Type::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let mut shape = Vec::new();
        let mut sources = Vec::new();
        for axis in 0..x.shape.len() {
            let (before, after) = (cx.dim(&self.before[axis])?, cx.dim(&self.after[axis])?);
            let source = axis_sources(self.mode, axis, x.shape[axis] as i64, before, after)?;
            shape.push(source.len());
            sources.push(source);
        }
        let from = strides(&x.shape);
        let width = x.dtype.bits().div_ceil(8);
        let cells = x.cells();
        let value = inputs.get(1).map(Tensor::cells).unwrap_or_default();
        let mut data = Vec::new();
        for_each_index(&shape, |index| {
            let at = (0..index.len()).try_fold(0, |sum, a| Some(sum + sources[a][index[a]]? * from[a]));
            match at {
                Some(i) => data.extend_from_slice(&cells[i * width..(i + 1) * width]),
                None => data.extend_from_slice(&value),
            }
        });
        Ok(vec![Tensor::from_cells(x.dtype, shape, data)])
    }
}

/// For each element of a padded axis of size `n`, the element it comes from; none for the constant.
fn axis_sources(mode: PadMode, axis: usize, n: i64, before: i64, after: i64) -> Result<Vec<Option<usize>>, EvalError> {
    // What negative padding leaves is [lo, hi): only that is repeated and mirrored.
    let (lo, hi) = (before.min(0).saturating_neg().min(n), n.saturating_add(after.min(0)).max(0));
    let kept = hi - lo;
    let size = n.checked_add(before).and_then(|x| x.checked_add(after)).filter(|&x| x >= 0);
    let Some(size) = size else {
        return Err(EvalError(format!("axis {axis} of size {n} cannot be padded by {before} and {after}")));
    };
    if size > 0 && kept <= 0 && mode != PadMode::Constant {
        return Err(EvalError(format!("axis {axis} has no element to repeat")));
    }
    let source = |i: i64| {
        let i = i - before.max(0);
        let i = match mode {
            PadMode::Constant => Some(i).filter(|i| (0..kept).contains(i)),
            PadMode::Edge => Some(i.clamp(0, kept - 1)),
            PadMode::Wrap => Some(i.rem_euclid(kept)),
            PadMode::Reflect if kept == 1 => Some(0),
            PadMode::Reflect => {
                let period = 2 * (kept - 1);
                let i = i.rem_euclid(period);
                Some(i.min(period - i))
            }
        };
        i.map(|i| (lo + i) as usize)
    };
    Ok((0..size).map(source).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, infer};
    use std::slice::from_ref;

    fn op(before: &[i64], after: &[i64], mode: PadMode) -> Pad {
        let dims = |x: &[i64]| x.iter().map(|&d| Dim::from(d)).collect();
        Pad { before: dims(before), after: dims(after), mode }
    }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(&[1, -1], &[2, 0], PadMode::Edge), &["f32[N, 3]"]), "f32[N + 3, 2]");
        assert_eq!(infer(op(&[1], &[2], PadMode::Constant), &["f32[4]", "f32[]"]), "f32[7]");
        assert_eq!(infer(op(&[1], &[2], PadMode::Constant), &["f32[4]"]), "2 operands expected, 1 given");
        let wrong = infer(op(&[1], &[2], PadMode::Constant), &["f32[4]", "f64[]"]);
        assert_eq!(wrong, "the value is f64[], a scalar of type f32 is needed");
        assert_eq!(infer(op(&[-3], &[-3], PadMode::Edge), &["f32[4]"]), "padding leaves -2 elements of axis 0");
        assert_eq!(infer(op(&[1], &[2], PadMode::Edge), &["f32[4, 1]"]), "padding of 1 and 1 axes for rank 2");
    }

    #[test]
    fn modes() {
        let x = || f32s(&[3], &[1.0, 2.0, 3.0]);
        let seven = f32s(&[], &[7.0]);
        assert_eq!(eval_f32(op(&[2], &[1], PadMode::Constant), &[x(), seven]), [7.0, 7.0, 1.0, 2.0, 3.0, 7.0]);
        assert_eq!(eval_f32(op(&[2], &[1], PadMode::Edge), &[x()]), [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
        assert_eq!(eval_f32(op(&[2], &[3], PadMode::Reflect), &[x()]), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]);
        assert_eq!(eval_f32(op(&[2], &[4], PadMode::Wrap), &[x()]), [2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]);
        assert_eq!(eval_f32(op(&[2], &[1], PadMode::Reflect), &[f32s(&[1], &[5.0])]), [5.0; 4]);
    }

    #[test]
    fn negative_padding_removes_first() {
        let x = || f32s(&[4], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(eval_f32(op(&[-1], &[-2], PadMode::Edge), &[x()]), [2.0]);
        assert_eq!(eval_f32(op(&[-1], &[2], PadMode::Wrap), &[x()]), [2.0, 3.0, 4.0, 2.0, 3.0]);
        assert_eq!(eval_f32(op(&[-5], &[2], PadMode::Constant), &[x(), f32s(&[], &[9.0])]), [9.0]);
    }

    #[test]
    fn two_axes() {
        let x = f32s(&[1, 2], &[1.0, 2.0]);
        let y = eval_f32(op(&[1, 0], &[0, 1], PadMode::Constant), &[x, f32s(&[], &[0.0])]);
        assert_eq!(y, [0.0, 0.0, 0.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn nothing_cannot_be_repeated() {
        let empty = f32s(&[0], &[]);
        let error = eval(op(&[1], &[0], PadMode::Edge), from_ref(&empty)).unwrap_err();
        assert_eq!(error, "axis 0 has no element to repeat");
        assert_eq!(eval_f32(op(&[1], &[0], PadMode::Constant), &[empty, f32s(&[], &[3.0])]), [3.0]);
    }
}
