//! LSTM, GRU and RNN.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::op::Real;
use xlac_ir::ops::Rnn;
use xlac_ir::ops::rnn::{Activation, Cell, Direction};

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

const ATTRS: &[&str] = &[
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget", "layout",
    "linear_before_reset", "output_sequence",
];

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("GRU", (3, 6), |n, b| import(n, b, Cell::Gru)).attrs(ATTRS),
    OnnxOp::new("LSTM", (3, 8), |n, b| import(n, b, Cell::Lstm)).attrs(ATTRS),
    OnnxOp::new("RNN", (3, 6), |n, b| import(n, b, Cell::Plain)).attrs(ATTRS),
];

fn import(n: &Node, b: &mut Builder, cell: Cell) -> Res<Vec<ValueId>> {
    let batch_first = n.flag("layout", false)?;
    let mut x = n.input(0)?;
    let (w, r) = (n.input(1)?, n.input(2)?);
    ensure!(b.rank(x) == 3 && b.rank(w) == 3 && b.rank(r) == 3, TYPES, "input and weights have 3 axes each");
    if batch_first {
        x = b.transpose(x, &[1, 0, 2])?;
    }
    let t = b.dtype(x);
    let (direction, count) = match n.word("direction", "forward")? {
        "forward" => (Direction::Forward, 1),
        "reverse" => (Direction::Reverse, 1),
        "bidirectional" => (Direction::Both, 2),
        other => bail!(ATTRIBUTE_VALUE, "`direction` cannot be `{other}`"),
    };
    let Some(hidden) = b.shape(r)[2].as_const().and_then(|h| usize::try_from(h).ok()) else {
        bail!(UNSUPPORTED_FORM, "the hidden size is not known at import")
    };
    if let Some(given) = n.int_opt("hidden_size")? {
        ensure!(given == hidden as i64, TYPES, "`hidden_size` is {given}, but the weights say {hidden}");
    }
    let gates = match cell {
        Cell::Lstm => 4,
        Cell::Gru => 3,
        Cell::Plain => 1,
    };
    let (d, h, batch) = (Dim::from(count as i64), Dim::from(hidden), b.shape(x)[1].clone());
    let state = [d.clone(), batch, h];
    let bias = match n.opt(3) {
        Some(bias) => bias,
        None => b.filled(t, &[d.clone(), Dim::from(2 * gates * hidden)], 0.0)?,
    };
    let mut operands = vec![x, w, r, bias, initial(n, b, 5, t, &state, batch_first)?];
    if cell == Cell::Lstm {
        operands.push(initial(n, b, 6, t, &state, batch_first)?);
        operands.push(match n.opt(7) {
            Some(p) => p,
            None => b.filled(t, &[d, Dim::from(3 * hidden)], 0.0)?,
        });
    }
    if let Some(lengths) = n.opt(4) {
        operands.push(b.cast(lengths, DType::I32)?);
    }
    let (activations, alpha, beta) = activations(n, cell, count)?;
    let op = Rnn {
        cell,
        direction,
        hidden,
        activations,
        alpha,
        beta,
        clip: Real(n.float_opt("clip")?.map_or(f64::INFINITY, f64::from)),
        linear_before_reset: n.flag("linear_before_reset", false)?,
        input_forget: n.flag("input_forget", false)?,
        lengths: n.opt(4).is_some(),
    };
    let mut outputs = b.ops(op, &operands)?;
    if batch_first {
        outputs[0] = b.transpose(outputs[0], &[2, 0, 1, 3])?;
        for y in &mut outputs[1..] {
            *y = b.transpose(*y, &[1, 0, 2])?;
        }
    }
    Ok(outputs)
}

/// An initial state, zero if it is left out.
fn initial(n: &Node, b: &mut Builder, i: usize, t: DType, shape: &[Dim; 3], batch_first: bool) -> Res<ValueId> {
    match n.opt(i) {
        Some(s) if batch_first => b.transpose(s, &[1, 0, 2]),
        Some(s) => Ok(s),
        None => b.filled(t, shape, 0.0),
    }
}

type Functions = (Vec<Activation>, Vec<Real>, Vec<Real>);

/// Activations of every direction, with their parameters: given ones are used up in order by the functions that have any.
fn activations(n: &Node, cell: Cell, directions: usize) -> Res<Functions> {
    let default: &[&str] = match cell {
        Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Cell::Gru => &["Sigmoid", "Tanh"],
        Cell::Plain => &["Tanh"],
    };
    let names = match n.words("activations")? {
        Some(names) if !names.is_empty() => names,
        _ => default.repeat(directions),
    };
    let expected = default.len() * directions;
    ensure!(names.len() == expected, ATTRIBUTE_VALUE, "`activations` has {} elements, expected {expected}", names.len());
    let mut alphas = n.floats("activation_alpha")?.unwrap_or(&[]).iter();
    let mut betas = n.floats("activation_beta")?.unwrap_or(&[]).iter();
    let mut out = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let (f, alpha, beta) = function(name)?;
        let next = |default: Option<f32>, given: &mut std::slice::Iter<f32>| {
            Real(default.map_or(0.0, |d| f64::from(given.next().copied().unwrap_or(d))))
        };
        out.0.push(f);
        out.1.push(next(alpha, &mut alphas));
        out.2.push(next(beta, &mut betas));
    }
    Ok(out)
}

/// An activation by its name, and the defaults of the parameters it has.
fn function(name: &str) -> Res<(Activation, Option<f32>, Option<f32>)> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "sigmoid" => (Activation::Sigmoid, None, None),
        "tanh" => (Activation::Tanh, None, None),
        "relu" => (Activation::Relu, None, None),
        "affine" => (Activation::Affine, Some(1.0), Some(0.0)),
        "leakyrelu" => (Activation::LeakyRelu, Some(0.01), None),
        "thresholdedrelu" => (Activation::ThresholdedRelu, Some(1.0), None),
        "scaledtanh" => (Activation::ScaledTanh, Some(1.0), Some(1.0)),
        "hardsigmoid" => (Activation::HardSigmoid, Some(0.2), Some(0.5)),
        "elu" => (Activation::Elu, Some(1.0), None),
        "softsign" => (Activation::Softsign, None, None),
        "softplus" => (Activation::Softplus, None, None),
        _ => bail!(ATTRIBUTE_VALUE, "activation `{name}` is not known"),
    })
}
