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
    /// Values and i64 positions of the `k` (one dim) largest or smallest elements along `axis`, sorted, the lower position
    /// first among equals. NaN counts as the largest.
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
