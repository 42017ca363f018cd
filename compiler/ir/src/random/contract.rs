//! Contractions and windows.

use super::{Generator, Step};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ValueId;
use crate::op::Real;
use crate::ops;
use crate::ops::pool::PoolFn;
use crate::ops::rnn::{Activation, Cell, Direction};
use crate::types::Type;

/// The steps, as often as they shall be taken.
pub(super) const STEPS: &[Step] = &[
    matmul, matmul, matmul, matmul_values, conv, conv, conv, conv_transpose, pool, pool, max_pool_indices, rnn,
];

/// An element type for the result of products of `x`.
fn product_type(g: &mut Generator, x: DType) -> DType {
    match x {
        DType::I8 | DType::U8 => DType::I32,
        DType::F16 | DType::BF16 if g.random.once_in(3) => DType::F32,
        other => other,
    }
}

/// An element type for what `x` is multiplied with: bytes have either sign.
fn factor_type(g: &mut Generator, x: DType) -> DType {
    match x {
        DType::I8 | DType::U8 => g.random.pick(&[DType::I8, DType::U8]),
        other => other,
    }
}

fn matmul(g: &mut Generator) -> Option<()> {
    let a = g.value(|t| t.rank() >= 2 && t.dtype != DType::Bool)?;
    let ty = g.ty(a);
    let (trans_a, trans_b) = (g.random.once_in(3), g.random.once_in(2));
    let k = ty.shape[ty.rank() - if trans_a { 2 } else { 1 }].as_const()? as usize;
    let n = g.random.pick(&[1usize, 3, 4, 8, 17]);
    let mut shape = if trans_b { vec![n, k] } else { vec![k, n] };
    if g.random.once_in(4) {
        shape.insert(0, 1);
    }
    let factor = factor_type(g, ty.dtype);
    let b = g.constant(factor, &shape);
    let out = product_type(g, ty.dtype);
    g.apply(ops::MatMul { trans_a, trans_b, out }, &[a, b]).map(drop)
}

/// A matrix times its own transpose, and sometimes that times the matrix: the shape of attention.
fn matmul_values(g: &mut Generator) -> Option<()> {
    let a = g.value(|t| t.rank() >= 2 && t.dtype.is_float())?;
    let out = g.ty(a).dtype;
    let scores = g.apply(ops::MatMul { trans_a: false, trans_b: true, out }, &[a, a])?;
    if g.random.once_in(2) {
        g.apply(ops::MatMul { trans_a: false, trans_b: false, out }, &[scores, a])?;
    }
    Some(())
}

/// An image: rank 3 to 5 with a constant number of channels. A new input if there is none.
fn image(g: &mut Generator, dtypes: impl Fn(DType) -> bool) -> ValueId {
    let fits = |t: &Type| (3..=5).contains(&t.rank()) && dtypes(t.dtype) && t.shape[1].as_const().is_some();
    if let Some(found) = g.value(fits) {
        return found;
    }
    let batch = if g.options.symbolic && g.random.once_in(2) { Dim::sym("N") } else { Dim::from(1 + g.random.below(2)) };
    let mut shape = vec![batch, Dim::from(g.random.pick(&[1usize, 2, 4, 6]))];
    let (spatial, size) = g.random.pick(&[(1, 16), (2, 7), (2, 8), (3, 4)]);
    shape.extend((0..spatial).map(|_| Dim::from(size)));
    g.input(Type::new(DType::F32, shape))
}

/// One number for each spatial axis.
fn each<T: Clone>(g: &mut Generator, spatial: usize, choices: &[T]) -> Vec<T> {
    (0..spatial).map(|_| g.random.pick(choices)).collect()
}

fn pads(g: &mut Generator, spatial: usize, most: usize) -> Vec<Dim> {
    (0..spatial).map(|_| Dim::from(g.random.below(most + 1))).collect()
}

/// Numbers of groups that divide the channels.
fn groups(g: &mut Generator, channels: usize) -> usize {
    let divisors: Vec<usize> = [1, 1, 2, channels].into_iter().filter(|&n| channels.is_multiple_of(n)).collect();
    g.random.pick(&divisors)
}

fn conv(g: &mut Generator) -> Option<()> {
    let x = image(g, |t| t != DType::Bool);
    let ty = g.ty(x);
    let (spatial, channels) = (ty.rank() - 2, ty.shape[1].as_const()? as usize);
    let groups = groups(g, channels);
    let kernel = each(g, spatial, &[1, 1, 2, 3]);
    let out_channels = groups * (1 + g.random.below(3));
    let factor = factor_type(g, ty.dtype);
    let w = g.constant(factor, &[&[out_channels, channels / groups], kernel.as_slice()].concat());
    let op = ops::Conv {
        strides: each(g, spatial, &[1, 1, 2]),
        before: pads(g, spatial, 1),
        after: pads(g, spatial, 1),
        dilations: each(g, spatial, &[1, 1, 2]),
        groups,
        out: product_type(g, ty.dtype),
    };
    g.apply(op, &[x, w]).map(drop)
}

fn conv_transpose(g: &mut Generator) -> Option<()> {
    let x = image(g, |t| t.is_float());
    let ty = g.ty(x);
    let (spatial, channels) = (ty.rank() - 2, ty.shape[1].as_const()? as usize);
    let groups = groups(g, channels);
    let kernel = each(g, spatial, &[1, 2, 3]);
    let per_group = 1 + g.random.below(2);
    let w = g.constant(ty.dtype, &[&[channels, per_group], kernel.as_slice()].concat());
    let op = ops::ConvTranspose {
        strides: each(g, spatial, &[1, 2]),
        before: pads(g, spatial, 1),
        after: pads(g, spatial, 1),
        extra: each(g, spatial, &[0, 0, 1]),
        dilations: each(g, spatial, &[1, 1, 2]),
        groups,
    };
    g.apply(op, &[x, w]).map(drop)
}

fn pool(g: &mut Generator) -> Option<()> {
    let f = g.random.pick(PoolFn::ALL);
    let x = image(g, |t| t.is_float() || f == PoolFn::Max && t.is_int());
    let ty = g.ty(x);
    let spatial = ty.rank() - 2;
    let kernel = each(g, spatial, &[1, 2, 3]);
    let strides = each(g, spatial, &[1, 2]);
    // Padding stays below the window, so that no window lies in padding alone.
    let before = kernel.iter().map(|&k| Dim::from(g.random.below(k.min(2)))).collect::<Vec<_>>();
    let after = before.clone();
    let sizes = windows(&ty, &kernel, &strides, &before);
    g.apply(ops::Pool { f, dilations: vec![1; spatial], kernel, strides, before, after, sizes }, &[x]).map(drop)
}

/// Number of windows along each spatial axis, with the same padding on both sides.
fn windows(x: &Type, kernel: &[usize], strides: &[usize], pads: &[Dim]) -> Vec<Dim> {
    let size = |i: usize| {
        let padded = &(&x.shape[i + 2] + &pads[i]) + &pads[i];
        &(&padded - &Dim::from(kernel[i])).floor_div(&Dim::from(strides[i])) + &Dim::ONE
    };
    (0..kernel.len()).map(size).collect()
}

fn max_pool_indices(g: &mut Generator) -> Option<()> {
    if g.options.well_conditioned {
        return None;
    }
    let x = image(g, |t| t != DType::Bool);
    let ty = g.ty(x);
    let spatial = ty.rank() - 2;
    let (kernel, strides) = (each(g, spatial, &[1, 2, 3]), each(g, spatial, &[1, 2]));
    let pads = vec![Dim::ZERO; spatial];
    let sizes = windows(&ty, &kernel, &strides, &pads);
    let column_major = g.random.once_in(4);
    let (before, after, dilations) = (pads.clone(), pads, vec![1; spatial]);
    g.apply(ops::MaxPoolIndices { kernel, strides, before, after, dilations, sizes, column_major }, &[x]).map(drop)
}

fn rnn(g: &mut Generator) -> Option<()> {
    let x = g.value(|t| t.rank() == 3 && t.dtype.is_float() && t.shape[1..].iter().all(|d| d.as_const().is_some()))?;
    let ty = g.ty(x);
    let (n, i, hidden) = (ty.shape[1].as_const()? as usize, ty.shape[2].as_const()? as usize, 1 + g.random.below(5));
    let cell = g.random.pick(Cell::ALL);
    let direction = g.random.pick(Direction::ALL);
    let (d, gates) = (if direction == Direction::Both { 2 } else { 1 }, cell.gates());
    let mut operands = vec![x];
    let mut shapes = vec![vec![d, gates * hidden, i], vec![d, gates * hidden, hidden], vec![d, 2 * gates * hidden]];
    shapes.push(vec![d, n, hidden]);
    let activations = match cell {
        Cell::Lstm => {
            shapes.extend([vec![d, n, hidden], vec![d, 3 * hidden]]);
            vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh]
        }
        Cell::Gru => vec![Activation::Sigmoid, Activation::Tanh],
        Cell::Plain => vec![Activation::Tanh],
    };
    operands.extend(shapes.iter().map(|s| g.constant(ty.dtype, s)));
    let activations = activations.repeat(d);
    let zeros = vec![Real(0.0); activations.len()];
    let op = ops::Rnn {
        cell,
        direction,
        hidden,
        activations,
        alpha: zeros.clone(),
        beta: zeros,
        clip: Real(f64::INFINITY),
        linear_before_reset: cell == Cell::Gru && g.random.once_in(2),
        input_forget: cell == Cell::Lstm && g.random.once_in(4),
        lengths: false,
    };
    g.add(op, &operands).map(drop)
}
