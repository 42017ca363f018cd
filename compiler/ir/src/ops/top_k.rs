//! The largest or smallest elements along an axis.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::{Const, Pred};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_axis, check_sizes, op, operands};
use crate::scalar;
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;
use std::cmp::Ordering;

op! {
    /// Values and i64 positions of the `k` (one dim) largest or smallest elements along `axis`, sorted, the lower
    /// position first among equals. NaN counts as the largest.
    "top_k" => TopK { k: Vec<Dim>, axis: usize, largest: bool }
}

impl OpImpl for TopK {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        let [k] = self.k.as_slice() else { bail!("{} dims for one `k`", self.k.len()) };
        check_axis(self.axis, x.rank())?;
        check_sizes(&self.k)?;
        let size = &x.shape[self.axis];
        if k.as_const().zip(size.as_const()).is_some_and(|(k, size)| k > size) {
            bail!("{k} elements of {size} on axis {}", self.axis);
        }
        let mut shape = x.shape.clone();
        shape[self.axis] = k.clone();
        Ok(vec![Type::new(x.dtype, shape.clone()), Type::new(DType::I64, shape)])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let k = cx.shape(&self.k)?.first().copied().unwrap_or(0);
        let size = x.shape[self.axis];
        if k > size {
            return Err(EvalError(format!("{k} elements of {size} on axis {}", self.axis)));
        }
        let (from, mut lanes) = (strides(&x.shape), x.shape.clone());
        lanes[self.axis] = 1;
        let mut shape = x.shape.clone();
        shape[self.axis] = k;
        let to = strides(&shape);
        let mut sources = vec![0; shape.iter().product()];
        let mut positions = vec![0; sources.len()];
        for_each_index(&lanes, |index| {
            let base = |steps: &[usize]| index.iter().zip(steps).map(|(i, s)| i * s).sum::<usize>();
            let (first, out) = (base(&from), base(&to));
            for (i, position) in self.sorted(x, first, from[self.axis]).into_iter().take(k).enumerate() {
                sources[out + i * to[self.axis]] = first + position * from[self.axis];
                positions[out + i * to[self.axis]] = position as i64;
            }
        });
        Ok(vec![x.pick(shape.clone(), sources), Tensor::from_i64(shape, &positions)])
    }
}

impl TopK {
    /// Positions along the axis in the order of the result, for the lane that starts at element `first`.
    fn sorted(&self, x: &Tensor, first: usize, step: usize) -> Vec<usize> {
        let mut positions: Vec<usize> = (0..x.shape[self.axis]).collect();
        positions.sort_by(|&i, &j| {
            let order = compare(x.get(first + i * step), x.get(first + j * step));
            if self.largest { order.reverse() } else { order }
        });
        positions
    }
}

/// Orders two elements of one type; NaN is the largest, and equal to NaN.
pub fn compare(a: Const, b: Const) -> Ordering {
    if scalar::cmp(Pred::Lt, a, b) {
        return Ordering::Less;
    }
    if scalar::cmp(Pred::Gt, a, b) {
        return Ordering::Greater;
    }
    let nan = |c| scalar::cmp(Pred::Ne, c, c);
    nan(a).cmp(&nan(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{f32s, infer};

    fn op(k: i64, axis: usize, largest: bool) -> TopK { TopK { k: vec![Dim::from(k)], axis, largest } }

    fn run(op: TopK, x: Tensor) -> (Vec<f32>, Vec<i64>) {
        let y = op.eval(&[x], &EvalCx { symbols: &|_| None }).unwrap();
        (y[0].to_f32(), y[1].to_i64())
    }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(2, 1, true), &["f16[N, 5]"]), "f16[N, 2], i64[N, 2]");
        assert_eq!(infer(op(6, 1, true), &["f16[N, 5]"]), "6 elements of 5 on axis 1");
        assert_eq!(infer(op(1, 2, true), &["f16[N, 5]"]), "axis 2 is outside rank 2");
        assert_eq!(infer(op(-1, 0, true), &["f16[N, 5]"]), "size -1 is negative");
    }

    #[test]
    fn sorts_with_the_lower_position_first() {
        let x = f32s(&[5], &[1.0, 3.0, 2.0, 3.0, 1.0]);
        assert_eq!(run(op(3, 0, true), x.clone()), (vec![3.0, 3.0, 2.0], vec![1, 3, 2]));
        assert_eq!(run(op(3, 0, false), x), (vec![1.0, 1.0, 2.0], vec![0, 4, 2]));
    }

    #[test]
    fn works_along_any_axis() {
        let x = f32s(&[2, 2], &[1.0, 4.0, 3.0, 2.0]);
        assert_eq!(run(op(1, 0, true), x), (vec![3.0, 4.0], vec![1, 0]));
    }

    #[test]
    fn nan_is_the_largest() {
        let x = f32s(&[4], &[f32::INFINITY, f32::NAN, 0.0, -f32::NAN]);
        assert_eq!(run(op(4, 0, true), x.clone()).1, [1, 3, 0, 2]);
        assert_eq!(run(op(4, 0, false), x).1, [2, 0, 1, 3]);
    }
}
