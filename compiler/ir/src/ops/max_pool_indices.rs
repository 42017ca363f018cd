//! Where the maxima of windows lie.

use super::pool::{Place, WindowAttributes};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::Pred;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, op, operands};
use crate::scalar;
use crate::tensor::{Tensor, for_each_index};
use crate::types::Type;

op! {
    /// The second result of ONNX MaxPool: i64 index of the first largest element of each window in the flattened input
    /// (over all axes, batch and channel included); `column_major` flattens the spatial axes
    /// column-major. Attributes as in
    /// `pool`. A window that lies in the padding gives -1.
    "max_pool_indices" => MaxPoolIndices {
        kernel: Vec<usize>,
        strides: Vec<usize>,
        before: Vec<Dim>,
        after: Vec<Dim>,
        dilations: Vec<usize>,
        sizes: Vec<Dim>,
        column_major: bool,
    }
}

impl OpImpl for MaxPoolIndices {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        if !x.dtype.in_kernels() || x.dtype == DType::Bool {
            bail!("max does not apply to {}", x.dtype);
        }
        Ok(vec![Type::new(DType::I64, self.attributes().check(x)?)])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let windows = self.attributes().windows(&x.shape, cx)?;
        let plane: usize = windows.input.iter().product();
        let mut elements = Vec::new();
        for image in 0..x.shape[0] * x.shape[1] {
            let base = image * plane;
            for_each_index(&windows.output, |at| {
                let mut best = None;
                windows.for_each(at, |place| {
                    if let Place::Inside(i) = place
                        && best.is_none_or(|b| larger(x, base + i, base + b))
                    {
                        best = Some(i);
                    }
                });
                let at = best.map(|i| if self.column_major { column_major(i, &windows.input) } else { i });
                elements.push(at.map_or(-1, |i| (base + i) as i64));
            });
        }
        Ok(vec![Tensor::from_i64(windows.shape(&x.shape), &elements)])
    }
}

impl MaxPoolIndices {
    /// The geometry it shares with `pool`.
    pub fn attributes(&self) -> WindowAttributes<'_> {
        WindowAttributes {
            kernel: &self.kernel,
            strides: &self.strides,
            before: &self.before,
            after: &self.after,
            dilations: &self.dilations,
            sizes: &self.sizes,
        }
    }
}

/// True if element `i` replaces the earlier element `best`: it is larger, or the first NaN.
fn larger(x: &Tensor, i: usize, best: usize) -> bool {
    let nan = |i| scalar::cmp(Pred::Ne, x.get(i), x.get(i));
    scalar::cmp(Pred::Gt, x.get(i), x.get(best)) || (nan(i) && !nan(best))
}

/// The number in column-major order of the element with number `i` in row-major order.
fn column_major(mut i: usize, shape: &[usize]) -> usize {
    let mut out = 0;
    for &size in shape.iter().rev() {
        out = out * size + i % size;
        i /= size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_i64, f32s, infer};
    use std::slice::from_ref;

    fn op(column_major: bool) -> MaxPoolIndices {
        let dims = |x: [i64; 2]| x.map(Dim::from).to_vec();
        MaxPoolIndices {
            kernel: vec![2, 2],
            strides: vec![1, 1],
            before: dims([0, 0]),
            after: dims([0, 0]),
            dilations: vec![1, 1],
            sizes: dims([1, 2]),
            column_major,
        }
    }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(false), &["f32[N, 4, 2, 3]"]), "i64[N, 4, 1, 2]");
        assert_eq!(infer(op(false), &["bool[N, 4, 2, 3]"]), "max does not apply to bool");
    }

    #[test]
    fn first_of_the_largest_over_all_axes() {
        let x = f32s(&[1, 2, 2, 3], &[1.0, 5.0, 5.0, 0.0, 5.0, 9.0, 0.0, 0.0, 0.0, 0.0, 1.0, f32::NAN]);
        assert_eq!(eval_i64(op(false), from_ref(&x)), [1, 5, 10, 11]);
        // Row 0 column 1 is number 2 in column-major order, row 1 column 2 is number 5, row 1 column 1 is 3.
        assert_eq!(eval_i64(op(true), &[x]), [2, 5, 6 + 3, 6 + 5]);
    }

    #[test]
    fn padding_has_no_index() {
        let padded = MaxPoolIndices { kernel: vec![1, 1], before: vec![Dim::ONE, Dim::ZERO], ..op(false) };
        assert_eq!(eval_i64(padded, &[f32s(&[1, 1, 1, 2], &[1.0, 2.0])]), [-1, -1]);
    }
}
