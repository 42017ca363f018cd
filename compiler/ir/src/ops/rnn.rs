//! Recurrent layers: LSTM, GRU and the plain cell.

use super::matmul::{Fused, Matrix, multiply};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::{BinOp, Const};
use crate::math::{Arith, Eval};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, Real, agree, bail, op, words};
use crate::tensor::Tensor;
use crate::types::Type;
use cell::Step;

pub mod cell;

words! {
    /// The cell.
    Cell {
        /// Gates in ONNX order: i, o, f, c.
        Lstm "lstm",
        /// Gates in ONNX order: z, r, h.
        Gru "gru",
        /// One gate.
        Plain "plain",
    }
}

words! {
    /// Direction of the steps.
    Direction {
        /// From the first step to the last.
        Forward "forward",
        /// From the last step to the first.
        Reverse "reverse",
        /// Both, as two directions of weights and results.
        Both "both",
    }
}

words! {
    /// Activation functions, with alpha and beta where they have any.
    Activation {
        /// `1 / (1 + exp(-x))`.
        Sigmoid "sigmoid",
        /// Hyperbolic tangent.
        Tanh "tanh",
        /// `max(0, x)`.
        Relu "relu",
        /// `alpha * x + beta`.
        Affine "affine",
        /// `x`, times alpha below 0.
        LeakyRelu "leaky_relu",
        /// `x`, 0 below alpha.
        ThresholdedRelu "thresholded_relu",
        /// `alpha * tanh(beta * x)`.
        ScaledTanh "scaled_tanh",
        /// `alpha * x + beta` limited to 0..1.
        HardSigmoid "hard_sigmoid",
        /// `x`, `alpha * (exp(x) - 1)` below 0.
        Elu "elu",
        /// `x / (1 + |x|)`.
        Softsign "softsign",
        /// `log(1 + exp(x))`.
        Softplus "softplus",
    }
}

op! {
    /// ONNX LSTM, GRU and RNN with layout 0. Operands: x `[T, N, I]`, w `[D, G*H, I]`, r `[D, G*H, H]`, b `[D, 2*G*H]`,
    /// h0 `[D, N, H]`, for LSTM c0 `[D, N, H]` and peepholes p `[D, 3*H]`, then, if `lengths`, i32 lengths `[N]`.
    /// Results: y `[T, D, N, H]`, yh `[D, N, H]`, for LSTM yc `[D, N, H]`. Each gate's pre-activation is `((sum over I
    /// of x*w) + (sum over H of h*r)) + (wb + rb)`, each sum one chain of fused multiply-adds in order from 0; the
    /// steps after it are in [`cell`]. Narrow floats compute in f32, the states included; results are rounded as they
    /// are written. Rows that have ended keep their state and give zeros; `reverse` reverses each row within its
    /// length.
    "rnn" => Rnn {
        cell: Cell,
        direction: Direction,
        hidden: usize,
        /// Per direction, in ONNX order: 3 for LSTM (f, g, h), 2 for GRU (f, g), 1 for the plain cell.
        activations: Vec<Activation>,
        /// One alpha for each activation; 0 where unused.
        alpha: Vec<Real>,
        /// One beta for each activation; 0 where unused.
        beta: Vec<Real>,
        /// Pre-activations are clipped to `-clip..clip`; infinity for none.
        clip: Real,
        /// GRU's `linear_before_reset`.
        linear_before_reset: bool,
        /// LSTM's `input_forget`.
        input_forget: bool,
        /// The last operand holds sequence lengths.
        lengths: bool,
    }
}

impl OpImpl for Rnn {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let Some(x) = inputs.first() else { bail!("takes operands") };
        let lstm = self.cell == Cell::Lstm;
        let (d, g, h) = (self.directions(), self.cell.gates(), self.hidden);
        let [t, n, i] = x.shape.as_slice() else { bail!("x is {x}, three axes are needed") };
        if !x.dtype.is_float() || !x.dtype.in_kernels() {
            bail!("does not apply to {}", x.dtype);
        }
        let c = |x: usize| Dim::from(x);
        let mut expected = vec![
            ("x", vec![t.clone(), n.clone(), i.clone()]),
            ("w", vec![c(d), c(g * h), i.clone()]),
            ("r", vec![c(d), c(g * h), c(h)]),
            ("b", vec![c(d), c(2 * g * h)]),
            ("h0", vec![c(d), n.clone(), c(h)]),
        ];
        if lstm {
            expected.push(("c0", vec![c(d), n.clone(), c(h)]));
            expected.push(("p", vec![c(d), c(3 * h)]));
        }
        if self.lengths {
            expected.push(("lengths", vec![n.clone()]));
        }
        if inputs.len() != expected.len() {
            bail!("takes {} operands, not {}", expected.len(), inputs.len());
        }
        for ((name, shape), given) in expected.into_iter().zip(inputs) {
            let dtype = if name == "lengths" { DType::I32 } else { x.dtype };
            let same = given.dtype == dtype
                && given.rank() == shape.len()
                && given.shape.iter().zip(&shape).all(|(a, b)| agree(a, b).is_some());
            if !same {
                bail!("{name} is {given}, {} is needed", Type::new(dtype, shape));
            }
        }
        self.check_activations()?;
        let y = Type::new(x.dtype, [t.clone(), c(d), n.clone(), c(h)]);
        let last = Type::new(x.dtype, [c(d), n.clone(), c(h)]);
        Ok(if lstm { vec![y, last.clone(), last] } else { vec![y, last] })
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        match inputs[0].dtype.compute() {
            DType::F64 => self.run::<f64>(inputs),
            _ => self.run::<f32>(inputs),
        }
    }
}

impl Cell {
    /// Number of gates.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Plain => 1,
        }
    }

    /// Number of activations of a direction.
    pub fn activations(self) -> usize {
        match self {
            Cell::Lstm => 3,
            Cell::Gru => 2,
            Cell::Plain => 1,
        }
    }
}

impl Rnn {
    fn run<T: Fused>(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let [t, n, i] = x.shape[..] else { return Err(EvalError("x has three axes".into())) };
        let (d, h) = (self.directions(), self.hidden);
        let lengths = self.row_lengths(inputs, t, n)?;
        let load = |at: usize| inputs.get(at).map(T::load).unwrap_or_default();
        let (xs, w, r, b, h0) = (load(0), load(1), load(2), load(3), load(4));
        let (c0, p) = if self.cell == Cell::Lstm { (load(5), load(6)) } else { (Vec::new(), Vec::new()) };
        let gates = self.cell.gates();
        let mut y = vec![T::ZERO; t * d * n * h];
        let (mut yh, mut yc) = (Vec::new(), Vec::new());
        for direction in 0..d {
            // Block `direction` of an operand with `size` elements per direction.
            let range = |size: usize| direction * size..(direction + 1) * size;
            let part = |x: &[T], size: usize| x.get(range(size)).unwrap_or_default().to_vec();
            let w = part(&w, gates * h * i);
            let mut xw = vec![T::ZERO; t * n * gates * h];
            multiply(rows(&xs, i), transposed(&w, i), [t * n, i, gates * h], &mut xw);
            let mut layer = Layer {
                op: self,
                step: Step::new(self, direction),
                xw,
                r: part(&r, gates * h * h),
                b: part(&b, 2 * gates * h),
                p: part(&p, 3 * h),
                h: part(&h0, n * h),
                c: part(&c0, n * h),
            };
            let reverse = self.direction == Direction::Reverse || direction == 1;
            for s in 0..t {
                let step_of = |row: usize| {
                    let len = lengths[row];
                    (s < len).then(|| if reverse { len - 1 - s } else { s })
                };
                layer.advance(n, step_of);
                for row in 0..n {
                    if let Some(s) = step_of(row) {
                        let to = ((s * d + direction) * n + row) * h;
                        y[to..to + h].copy_from_slice(&layer.h[row * h..(row + 1) * h]);
                    }
                }
            }
            yh.extend(layer.h);
            yc.extend(layer.c);
        }
        let dtype = x.dtype;
        let tensor = |shape: Vec<usize>, x: Vec<T>| {
            Tensor::from_consts(dtype, shape, x.into_iter().map(|x| x.finish(dtype)))
        };
        let mut results = vec![tensor(vec![t, d, n, h], y), tensor(vec![d, n, h], yh)];
        if self.cell == Cell::Lstm {
            results.push(tensor(vec![d, n, h], yc));
        }
        Ok(results)
    }

    /// The number of steps of every row.
    fn row_lengths(&self, inputs: &[Tensor], steps: usize, rows: usize) -> Result<Vec<usize>, EvalError> {
        let Some(lengths) = inputs.last().filter(|_| self.lengths) else { return Ok(vec![steps; rows]) };
        let check = |(row, length): (usize, i64)| match usize::try_from(length) {
            Ok(l) if l <= steps => Ok(l),
            _ => Err(EvalError(format!("length {length} of row {row} is outside 0..={steps}"))),
        };
        lengths.to_i64().into_iter().enumerate().map(check).collect()
    }

    /// Number of directions.
    pub fn directions(&self) -> usize { if self.direction == Direction::Both { 2 } else { 1 } }

    fn check_activations(&self) -> Result<(), InferError> {
        let expected = self.directions() * self.cell.activations();
        let given = [self.activations.len(), self.alpha.len(), self.beta.len()];
        if given != [expected; 3] {
            bail!("{given:?} activations, alphas and betas, {expected} of each are needed");
        }
        if self.clip.0.is_nan() || self.clip.0 < 0.0 {
            bail!("cannot clip to {}", self.clip.0);
        }
        Ok(())
    }
}

/// `[_, columns]` in row-major order.
fn rows<T>(elements: &[T], columns: usize) -> Matrix<'_, T> { Matrix { elements, steps: [columns, 1] } }

/// The transpose of `[_, columns]` in row-major order.
fn transposed<T>(elements: &[T], columns: usize) -> Matrix<'_, T> { Matrix { elements, steps: [1, columns] } }

/// One direction while it runs.
struct Layer<'a, T> {
    op: &'a Rnn,
    step: Step,
    /// Sums over the input, `[T, N, G*H]`.
    xw: Vec<T>,
    r: Vec<T>,
    b: Vec<T>,
    p: Vec<T>,
    /// State `[N, H]`, in the type it is computed in.
    h: Vec<T>,
    c: Vec<T>,
}

impl<T: Fused> Layer<'_, T> {
    /// One step of every row: `step_of` gives the element of the sequence it takes, none if it has ended.
    fn advance(&mut self, n: usize, step_of: impl Fn(usize) -> Option<usize>) {
        let (h, width) = (self.op.hidden, self.op.cell.gates() * self.op.hidden);
        let mut hr = vec![T::ZERO; n * width];
        multiply(rows(&self.h, h), transposed(&self.r, h), [n, h, width], &mut hr);
        let live: Vec<(usize, usize)> = (0..n).filter_map(|row| Some((row, step_of(row)?))).collect();
        if self.op.cell == Cell::Gru && !self.op.linear_before_reset {
            self.reset(n, &live, &mut hr);
        }
        let old = self.h.clone();
        for (row, s) in live {
            for j in 0..h {
                let sums = |gate: usize| {
                    let at = gate * h + j;
                    [self.xw[(s * n + row) * width + at], hr[row * width + at]].map(wide)
                };
                let at = row * h + j;
                let (next, c) = self.element(j, sums, wide(old[at]), self.c.get(at).copied().map(wide));
                self.h[at] = T::of(next);
                if let Some(c) = c {
                    self.c[at] = T::of(c);
                }
            }
        }
    }

    /// Replaces the sums of gate h in `hr` by those over the reset state `r * h`.
    fn reset(&self, n: usize, live: &[(usize, usize)], hr: &mut [T]) {
        let (h, width) = (self.op.hidden, 3 * self.op.hidden);
        let mut state = vec![T::ZERO; n * h];
        for &(row, s) in live {
            for j in 0..h {
                let at = h + j;
                let sums = [self.xw[(s * n + row) * width + at], hr[row * width + at]].map(wide);
                let pre = cell::pre_activation(&mut Eval, sums, self.biases(1, j));
                let r = cell::gru_reset(&mut Eval, &self.step, pre);
                state[row * h + j] = T::of(Eval.bin(BinOp::Mul, r, wide(self.h[row * h + j])));
            }
        }
        let mut sums = vec![T::ZERO; n * h];
        multiply(rows(&state, h), transposed(&self.r[2 * h * h..], h), [n, h, h], &mut sums);
        for row in 0..n {
            hr[row * width + 2 * h..][..h].copy_from_slice(&sums[row * h..][..h]);
        }
    }

    /// The next `h` and `c` of element `j` of the state.
    fn element(
        &self,
        j: usize,
        sums: impl Fn(usize) -> [Const; 2],
        h: Const,
        c: Option<Const>,
    ) -> (Const, Option<Const>) {
        let pre = |gate| cell::pre_activation(&mut Eval, sums(gate), self.biases(gate, j));
        match self.op.cell {
            Cell::Plain => (cell::plain_cell(&mut Eval, &self.step, pre(0)), None),
            Cell::Gru => {
                let pre_h = if self.op.linear_before_reset {
                    let r = cell::gru_reset(&mut Eval, &self.step, pre(1));
                    cell::gru_linear(&mut Eval, r, sums(2), self.biases(2, j))
                } else {
                    pre(2)
                };
                (cell::gru_cell(&mut Eval, &self.step, pre(0), pre_h, h), None)
            }
            Cell::Lstm => {
                let hidden = self.op.hidden;
                let p = [0, 1, 2].map(|gate| wide(self.p[gate * hidden + j]));
                let pre = [0, 1, 2, 3].map(pre);
                let [h, c] = cell::lstm_cell(&mut Eval, &self.step, self.op.input_forget, pre, p, c.unwrap_or(h));
                (h, Some(c))
            }
        }
    }

    /// The two biases of a gate.
    fn biases(&self, gate: usize, j: usize) -> [Const; 2] {
        let (h, gates) = (self.op.hidden, self.op.cell.gates());
        [gate, gates + gate].map(|g| wide(self.b[g * h + j]))
    }
}

/// As a constant of the type it is computed in.
fn wide<T: Fused>(x: T) -> Const { x.finish(T::DTYPE) }

#[cfg(test)]
mod tests;
