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
    /// Operand `[N, C, spatial...]`, 1 to 3 spatial axes. `sizes` are the output sizes of the spatial axes (the importer
    /// computes them from floor or ceil mode); windows start at `i * stride - before`.
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
                let p = at[axis] * self.strides[axis] + k[axis] * self.dilations[axis];
                let inside = p.checked_sub(self.before[axis]).filter(|&p| p < self.input[axis]);
                place = place.and_then(|sum| Some(sum + inside? * self.steps[axis]));
                beyond |= p >= self.before[axis] + self.input[axis] + self.after[axis];
            }
            f(match place {
                Some(i) => Place::Inside(i),
                None if beyond => Place::Beyond,
                None => Place::Padding,
            });
        });
    }
}
