//! Windows over spatial axes.

use crate::dim::Dim;
use crate::kernel::{BinOp, Const};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, op, operands, words};
use crate::scalar;
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;
use super::reduce::ReduceFn;

words! {
    /// What a window gives.
    PoolFn {
        /// Largest element; padding does not count; NaN wins.
        Max "max",
        /// Sum in row-major order from 0; padding counts as 0.
        Sum "sum",
        /// Sum divided by the number of elements that are not padding.
        Mean "mean",
        /// Sum divided by the number of elements of the window, padding (`before`/`after`) included, but not what lies
        /// beyond it because of `ceil`.
        MeanPadded "mean_padded",
    }
}

op! {
    /// Operand `[N, C, spatial...]`, 1 to 3 spatial axes. `sizes` are the output sizes of the spatial axes (the
    /// importer computes them from floor or ceil mode); windows start at `i * stride - before`.
    "pool" => Pool {
        f: PoolFn,
        kernel: Vec<usize>,
        strides: Vec<usize>,
        /// Padding before each spatial axis.
        before: Vec<Dim>,
        /// Padding after each spatial axis.
        after: Vec<Dim>,
        dilations: Vec<usize>,
        /// Output sizes of the spatial axes.
        sizes: Vec<Dim>,
    }
}

impl OpImpl for Pool {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        let ints = self.f == PoolFn::Max && x.dtype.is_int();
        if !x.dtype.in_kernels() || !(ints || x.dtype.is_float()) {
            bail!("{} does not apply to {}", self.f.name(), x.dtype);
        }
        Ok(vec![Type::new(x.dtype, self.attributes().check(x)?)])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let windows = self.attributes().windows(&x.shape, cx)?;
        let shape = windows.shape(&x.shape);
        let plane: usize = windows.input.iter().product();
        let mut elements = Vec::with_capacity(shape.iter().product());
        for image in 0..x.shape[0] * x.shape[1] {
            for_each_index(&windows.output, |at| elements.push(self.window(x, image * plane, &windows, at)));
        }
        Ok(vec![Tensor::from_consts(x.dtype, shape, elements)])
    }
}

impl Pool {
    /// The geometry it shares with `max_pool_indices`.
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

    /// The result at output position `at` of the image that starts at element `base`.
    fn window(&self, x: &Tensor, base: usize, windows: &Windows, at: &[usize]) -> Const {
        let compute = x.dtype.compute();
        let (f, start) = match self.f {
            PoolFn::Max => (BinOp::Max, ReduceFn::Max.neutral(compute)),
            _ => (BinOp::Add, ReduceFn::Sum.neutral(compute)),
        };
        let mut acc = start;
        let mut count = 0;
        windows.for_each(at, |place| {
            let Place::Inside(i) = place else {
                count += usize::from(place == Place::Padding && self.f == PoolFn::MeanPadded);
                return;
            };
            count += 1;
            acc = scalar::bin(f, acc, scalar::convert(x.get(base + i), compute)).unwrap_or(acc);
        });
        let mean = matches!(self.f, PoolFn::Mean | PoolFn::MeanPadded);
        if mean {
            acc = scalar::bin(BinOp::Div, acc, Const::number(compute, count as f64)).unwrap_or(acc);
        }
        scalar::convert(acc, x.dtype)
    }
}

/// Attributes of an op with windows over spatial axes.
#[derive(Clone, Copy, Debug)]
pub struct WindowAttributes<'a> {
    /// Elements of a window.
    pub kernel: &'a [usize],
    /// Distance between windows.
    pub strides: &'a [usize],
    /// Padding before.
    pub before: &'a [Dim],
    /// Padding after.
    pub after: &'a [Dim],
    /// Distance between elements of a window.
    pub dilations: &'a [usize],
    /// Number of windows.
    pub sizes: &'a [Dim],
}

impl WindowAttributes<'_> {
    /// Checks the attributes against the operand and gives the shape of the result.
    pub fn check(&self, x: &Type) -> Result<Vec<Dim>, InferError> {
        if !(3..=5).contains(&x.rank()) {
            bail!("1 to 3 spatial axes are needed, the operand is {x}");
        }
        let spatial = x.rank() - 2;
        let lens = [self.kernel.len(), self.strides.len(), self.dilations.len()];
        let dims = [self.before.len(), self.after.len(), self.sizes.len()];
        if lens.iter().chain(&dims).any(|&len| len != spatial) {
            bail!("attributes for {lens:?} and {dims:?} axes, the operand has {spatial} spatial axes");
        }
        if [self.kernel, self.strides, self.dilations].concat().contains(&0) {
            bail!("kernel sizes, strides and dilations must not be 0");
        }
        let negative = |d: &&Dim| d.as_const().is_some_and(|x| x < 0);
        if let Some(d) = [self.before, self.after, self.sizes].concat().iter().find(negative) {
            bail!("a padding or size is {d}");
        }
        Ok([&x.shape[..2], self.sizes].concat())
    }

    /// The geometry for a concrete operand shape.
    pub fn windows(&self, shape: &[usize], cx: &EvalCx) -> Result<Windows, EvalError> {
        let input = shape[2..].to_vec();
        Ok(Windows {
            steps: strides(&input),
            input,
            output: cx.shape(self.sizes)?,
            kernel: self.kernel.to_vec(),
            strides: self.strides.to_vec(),
            dilations: self.dilations.to_vec(),
            before: cx.shape(self.before)?,
            after: cx.shape(self.after)?,
        })
    }
}

/// Windows over the spatial axes of one image.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Spatial sizes of the operand.
    pub input: Vec<usize>,
    /// Row-major strides of the operand.
    pub steps: Vec<usize>,
    /// Number of windows.
    pub output: Vec<usize>,
    /// Elements of a window.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub strides: Vec<usize>,
    /// Distance between elements of a window.
    pub dilations: Vec<usize>,
    /// Padding before.
    pub before: Vec<usize>,
    /// Padding after.
    pub after: Vec<usize>,
}

/// Where an element of a window lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Element of the operand, counted within the image.
    Inside(usize),
    /// In the padding.
    Padding,
    /// Beyond the padding, because of `ceil` mode.
    Beyond,
}

impl Windows {
    /// The result's shape for an operand of this shape.
    pub fn shape(&self, x: &[usize]) -> Vec<usize> { [&x[..2], &self.output].concat() }

    /// Calls `f` with the place of every element of the window at output position `at`, in row-major order.
    pub fn for_each(&self, at: &[usize], mut f: impl FnMut(Place)) {
        for_each_index(&self.kernel, |k| {
            let mut place = Some(0);
            let mut beyond = false;
            for axis in 0..k.len() {
                // Counted from the start of the padding, so that nothing is negative.
                let start = at[axis].saturating_mul(self.strides[axis]);
                let p = start.saturating_add(k[axis].saturating_mul(self.dilations[axis]));
                let inside = p.checked_sub(self.before[axis]).filter(|&p| p < self.input[axis]);
                place = place.and_then(|sum| Some(sum + inside? * self.steps[axis]));
                beyond |= p >= self.before[axis].saturating_add(self.input[axis]).saturating_add(self.after[axis]);
            }
            f(match place {
                Some(i) => Place::Inside(i),
                None if beyond => Place::Beyond,
                None => Place::Padding,
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::op::testing::{eval_f32, eval_i64, f32s, infer};
    use std::slice::from_ref;

    fn dims(x: &[i64]) -> Vec<Dim> { x.iter().map(|&d| Dim::from(d)).collect() }

    /// Windows of `kernel` elements over one axis.
    fn line(f: PoolFn, kernel: usize, stride: usize, [before, after]: [i64; 2], size: i64) -> Pool {
        Pool {
            f,
            kernel: vec![kernel],
            strides: vec![stride],
            before: dims(&[before]),
            after: dims(&[after]),
            dilations: vec![1],
            sizes: dims(&[size]),
        }
    }

    #[test]
    fn shapes() {
        let op = line(PoolFn::Max, 2, 2, [0, 0], 3);
        assert_eq!(infer(op.clone(), &["u8[N, 4, 6]"]), "u8[N, 4, 3]");
        assert_eq!(infer(op.clone(), &["f32[4, 6]"]), "1 to 3 spatial axes are needed, the operand is f32[4, 6]");
        let axes = infer(op.clone(), &["f32[1, 1, 4, 6]"]);
        assert_eq!(axes, "attributes for [1, 1, 1] and [1, 1, 1] axes, the operand has 2 spatial axes");
        assert_eq!(infer(Pool { f: PoolFn::Mean, ..op.clone() }, &["u8[1, 1, 6]"]), "mean does not apply to u8");
        let zero = infer(Pool { strides: vec![0], ..op.clone() }, &["f32[1, 1, 6]"]);
        assert_eq!(zero, "kernel sizes, strides and dilations must not be 0");
        assert_eq!(infer(Pool { before: dims(&[-1]), ..op }, &["f32[1, 1, 6]"]), "a padding or size is -1");
    }

    #[test]
    fn each_function_on_a_padded_line() {
        // Windows: [pad 1], [2 3], [4 beyond].
        let x = f32s(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let run = |f| eval_f32(line(f, 2, 2, [1, 0], 3), from_ref(&x));
        assert_eq!(run(PoolFn::Max), [1.0, 3.0, 4.0]);
        assert_eq!(run(PoolFn::Sum), [1.0, 5.0, 4.0]);
        assert_eq!(run(PoolFn::Mean), [1.0, 2.5, 4.0]);
        assert_eq!(run(PoolFn::MeanPadded), [0.5, 2.5, 4.0]);
    }

    #[test]
    fn two_axes_with_dilation() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let op = Pool {
            f: PoolFn::Sum,
            kernel: vec![2, 2],
            strides: vec![1, 1],
            before: dims(&[0, 0]),
            after: dims(&[0, 0]),
            dilations: vec![2, 1],
            sizes: dims(&[1, 3]),
        };
        // Rows 0 and 2 of [3, 4].
        assert_eq!(eval_f32(op, &[f32s(&[1, 1, 3, 4], &x)]), [18.0, 22.0, 26.0]);
    }

    #[test]
    fn channels_and_images_are_apart() {
        let x = f32s(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(eval_f32(line(PoolFn::Max, 2, 1, [0, 0], 1), &[x]), [2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn nan_wins_and_padding_alone_is_neutral() {
        let x = f32s(&[1, 1, 2], &[f32::NAN, 1.0]);
        assert!(eval_f32(line(PoolFn::Max, 2, 1, [0, 0], 1), &[x])[0].is_nan());
        let x = f32s(&[1, 1, 1], &[5.0]);
        assert_eq!(eval_f32(line(PoolFn::Max, 1, 1, [1, 0], 1), from_ref(&x)), [f32::NEG_INFINITY]);
        assert!(eval_f32(line(PoolFn::Mean, 1, 1, [1, 0], 1), &[x])[0].is_nan());
    }

    #[test]
    fn integers_have_a_maximum() {
        let bytes = [-3, -7].map(|x| Const::int(DType::I8, x));
        let x = Tensor::from_consts(DType::I8, vec![1, 1, 2], bytes);
        assert_eq!(eval_i64(line(PoolFn::Max, 2, 1, [0, 0], 1), &[x]), [-3]);
    }
}
