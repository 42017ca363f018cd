//! One step of a recurrent cell on single elements: the formulas the reference and code generation share.
//!
//! Everything is written against [`Arith`], in the order in which it is computed: the same bits on every engine. Values
//! have the type the op computes in (f32 for narrow floats).

use super::{Activation, Rnn};
use crate::elementwise::UnaryFn;
use crate::kernel::{BinOp, Const, Pred};
use crate::math::{self, Arith};

/// An activation with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activate {
    /// The function.
    pub f: Activation,
    /// Its first parameter.
    pub alpha: f64,
    /// Its second parameter.
    pub beta: f64,
}

/// What the steps of one direction have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// In ONNX order: f, g, h for LSTM; f, g for GRU; f for the plain cell.
    pub activations: Vec<Activate>,
    /// Pre-activations are clipped to `-clip..clip`; infinity for none.
    pub clip: f64,
}

impl Step {
    /// The steps of direction `direction`.
    pub fn new(op: &Rnn, direction: usize) -> Step {
        let count = op.cell.activations();
        let activate = |i: usize| Activate { f: op.activations[i], alpha: op.alpha[i].0, beta: op.beta[i].0 };
        Step { activations: (direction * count..(direction + 1) * count).map(activate).collect(), clip: op.clip.0 }
    }

    /// Activation `which` of the clipped `x`.
    fn gate<A: Arith>(&self, a: &mut A, which: usize, x: A::V) -> A::V {
        let clipped = clip(a, self.clip, x);
        self.apply(a, which, clipped)
    }

    fn apply<A: Arith>(&self, a: &mut A, which: usize, x: A::V) -> A::V {
        let Activate { f, alpha, beta } = self.activations[which];
        activate(a, f, alpha, beta, x)
    }
}

/// `f(x)`:
///
/// - `affine`: `fma(alpha, x, beta)`; `hard_sigmoid`: the same, limited to 0..1;
/// - `relu`: `max(0, x)`; `leaky_relu`: `x < 0 ? alpha * x : x`; `thresholded_relu`: `x < alpha ? 0 : x`;
/// - `scaled_tanh`: `alpha * tanh(beta * x)`; `elu`: `x < 0 ? alpha * (exp(x) - 1) : x`; `softsign`: `x / (1 + |x|)`;
/// - `sigmoid`, `tanh`, `softplus`: as in [`crate::math`].
///
/// A NaN gives NaN.
pub fn activate<A: Arith>(a: &mut A, f: Activation, alpha: f64, beta: f64, x: A::V) -> A::V {
    let number = |a: &mut A, value: f64| constant(a, value, x);
    match f {
        Activation::Sigmoid => math::unary(a, UnaryFn::Sigmoid, x),
        Activation::Tanh => math::unary(a, UnaryFn::Tanh, x),
        Activation::Softplus => math::unary(a, UnaryFn::Softplus, x),
        Activation::Relu => {
            let zero = number(a, 0.0);
            a.bin(BinOp::Max, zero, x)
        }
        Activation::Affine => {
            let (alpha, beta) = (number(a, alpha), number(a, beta));
            a.fma(alpha, x, beta)
        }
        Activation::HardSigmoid => {
            let line = activate(a, Activation::Affine, alpha, beta, x);
            let (zero, one) = (number(a, 0.0), number(a, 1.0));
            let low = a.bin(BinOp::Max, zero, line);
            a.bin(BinOp::Min, one, low)
        }
        Activation::LeakyRelu => {
            let alpha = number(a, alpha);
            let scaled = a.bin(BinOp::Mul, alpha, x);
            below(a, x, 0.0, scaled, x)
        }
        Activation::ThresholdedRelu => {
            let zero = number(a, 0.0);
            below(a, x, alpha, zero, x)
        }
        Activation::ScaledTanh => {
            let (alpha, beta) = (number(a, alpha), number(a, beta));
            let scaled = a.bin(BinOp::Mul, beta, x);
            let tanh = math::unary(a, UnaryFn::Tanh, scaled);
            a.bin(BinOp::Mul, alpha, tanh)
        }
        Activation::Elu => {
            let (alpha, one) = (number(a, alpha), number(a, 1.0));
            let exp = math::unary(a, UnaryFn::Exp, x);
            let less = a.bin(BinOp::Sub, exp, one);
            let scaled = a.bin(BinOp::Mul, alpha, less);
            below(a, x, 0.0, scaled, x)
        }
        Activation::Softsign => {
            let one = number(a, 1.0);
            let abs = a.un(crate::kernel::UnOp::Abs, x);
            let divisor = a.bin(BinOp::Add, one, abs);
            a.bin(BinOp::Div, x, divisor)
        }
    }
}

/// `(xw + hr) + (wb + rb)`: the pre-activation of a gate from its two sums and its two biases.
pub fn pre_activation<A: Arith>(a: &mut A, [xw, hr]: [A::V; 2], [wb, rb]: [A::V; 2]) -> A::V {
    let sums = a.bin(BinOp::Add, xw, hr);
    let biases = a.bin(BinOp::Add, wb, rb);
    a.bin(BinOp::Add, sums, biases)
}

/// The next `[h, c]` of an LSTM from the pre-activations `[i, o, f, c]`, the peepholes `[i, o, f]` and the last `c`:
///
/// 1. `i = f(clip(fma(p_i, c, pre_i)))`
/// 2. `f = f(clip(fma(p_f, c, pre_f)))`, with `input_forget` `f = 1 - i`
/// 3. `g = g(clip(pre_c))`
/// 4. `c = fma(f, c, i * g)`
/// 5. `o = f(clip(fma(p_o, c, pre_o)))`
/// 6. `h = o * h(c)`
pub fn lstm_cell<A: Arith>(
    a: &mut A,
    step: &Step,
    input_forget: bool,
    pre: [A::V; 4],
    peepholes: [A::V; 3],
    c: A::V,
) -> [A::V; 2] {
    let [pre_i, pre_o, pre_f, pre_c] = pre;
    let [p_i, p_o, p_f] = peepholes;
    let seen = a.fma(p_i, c, pre_i);
    let i = step.gate(a, 0, seen);
    let f = if input_forget {
        let one = constant(a, 1.0, i);
        a.bin(BinOp::Sub, one, i)
    } else {
        let seen = a.fma(p_f, c, pre_f);
        step.gate(a, 0, seen)
    };
    let g = step.gate(a, 1, pre_c);
    let new = a.bin(BinOp::Mul, i, g);
    let c = a.fma(f, c, new);
    let seen = a.fma(p_o, c, pre_o);
    let o = step.gate(a, 0, seen);
    let shown = step.apply(a, 2, c);
    [a.bin(BinOp::Mul, o, shown), c]
}

/// GRU's reset gate `r = f(clip(pre_r))`.
pub fn gru_reset<A: Arith>(a: &mut A, step: &Step, pre_r: A::V) -> A::V { step.gate(a, 0, pre_r) }

/// GRU's pre-activation of `h` with `linear_before_reset`: `fma(r, hr + rb, xw + wb)`. Without it the pre-activation is
/// that of every gate, its second sum taken over `(r * h) * r_h`.
pub fn gru_linear<A: Arith>(a: &mut A, r: A::V, [xw, hr]: [A::V; 2], [wb, rb]: [A::V; 2]) -> A::V {
    let linear = a.bin(BinOp::Add, hr, rb);
    let input = a.bin(BinOp::Add, xw, wb);
    a.fma(r, linear, input)
}

/// The next `h` of a GRU from the pre-activations of `z` and `h` and the last `h`:
///
/// 1. `z = f(clip(pre_z))`
/// 2. `g = g(clip(pre_h))`
/// 3. `h = fma(z, h, (1 - z) * g)`
pub fn gru_cell<A: Arith>(a: &mut A, step: &Step, pre_z: A::V, pre_h: A::V, h: A::V) -> A::V {
    let z = step.gate(a, 0, pre_z);
    let g = step.gate(a, 1, pre_h);
    let one = constant(a, 1.0, z);
    let rest = a.bin(BinOp::Sub, one, z);
    let new = a.bin(BinOp::Mul, rest, g);
    a.fma(z, h, new)
}

/// The next `h` of the plain cell: `f(clip(pre))`.
pub fn plain_cell<A: Arith>(a: &mut A, step: &Step, pre: A::V) -> A::V { step.gate(a, 0, pre) }

/// `x` limited to `-limit..limit`.
fn clip<A: Arith>(a: &mut A, limit: f64, x: A::V) -> A::V {
    if limit == f64::INFINITY {
        return x;
    }
    let (low, high) = (constant(a, -limit, x), constant(a, limit, x));
    let x = a.bin(BinOp::Max, low, x);
    a.bin(BinOp::Min, high, x)
}

/// `x < limit ? yes : no`.
fn below<A: Arith>(a: &mut A, x: A::V, limit: f64, yes: A::V, no: A::V) -> A::V {
    let limit = constant(a, limit, x);
    let less = a.cmp(Pred::Lt, x, limit);
    a.select(less, yes, no)
}

fn constant<A: Arith>(a: &mut A, value: f64, like: A::V) -> A::V {
    let dtype = a.dtype(like);
    a.constant(Const::number(dtype, value), like)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::math::Eval;

    fn formula(f: Activation, alpha: f64, beta: f64, x: f64) -> f64 {
        match f {
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Relu => x.max(0.0),
            Activation::Affine => alpha * x + beta,
            Activation::LeakyRelu => if x < 0.0 { alpha * x } else { x },
            Activation::ThresholdedRelu => if x < alpha { 0.0 } else { x },
            Activation::ScaledTanh => alpha * (beta * x).tanh(),
            Activation::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
            Activation::Elu => if x < 0.0 { alpha * x.exp_m1() } else { x },
            Activation::Softsign => x / (1.0 + x.abs()),
            Activation::Softplus => x.exp().ln_1p(),
        }
    }

    #[test]
    fn activations_are_their_formulas() {
        for &f in Activation::ALL {
            for x in [-3.0, -0.5, 0.0, 0.25, 2.0] {
                let y = activate(&mut Eval, f, 0.3, 0.6, Const::number(DType::F64, x));
                let (y, expected) = (f64::from_bits(y.bits), formula(f, 0.3, 0.6, x));
                assert!((y - expected).abs() < 1e-12, "{} of {x}: {y}, not {expected}", f.name());
            }
            let nan = activate(&mut Eval, f, 0.3, 0.6, Const::f32(f32::NAN));
            assert!(f32::from_bits(nan.bits as u32).is_nan(), "{} of NaN", f.name());
        }
    }

    #[test]
    fn clipping_keeps_nan() {
        let clipped = |x: f32| f32::from_bits(clip(&mut Eval, 2.0, Const::f32(x)).bits as u32);
        assert_eq!([clipped(-5.0), clipped(1.5), clipped(5.0)], [-2.0, 1.5, 2.0]);
        assert!(clipped(f32::NAN).is_nan());
    }
}
