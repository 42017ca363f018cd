//! Elementwise ops, reductions, and chains of them.

use super::{Generator, Step};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::elementwise::{BinaryFn, UnaryFn};
use crate::graph::ValueId;
use crate::kernel::Pred;
use crate::ops::{self, Op};
use crate::ops::reduce::ReduceFn;
use crate::types::Type;

/// The steps, as often as they shall be taken.
pub(super) const STEPS: &[Step] = &[
    unary, unary, unary, binary, binary, binary, binary, binary, compare, select, select, cast, reduce, reduce, arg_reduce,
    cumulate, softmax, normalize,
];

/// Functions that keep small differences small.
const GENTLE_UNARY: &[UnaryFn] =
    &[UnaryFn::Neg, UnaryFn::Abs, UnaryFn::Tanh, UnaryFn::Sigmoid, UnaryFn::Erf, UnaryFn::Softplus, UnaryFn::Atan];

const GENTLE_BINARY: &[BinaryFn] = &[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Min, BinaryFn::Max];

fn unary(g: &mut Generator) -> Option<()> {
    let all = if g.options.well_conditioned { GENTLE_UNARY } else { UnaryFn::ALL };
    let f = g.random.pick(all);
    let x = g.value(|t| f.accepts(t.dtype))?;
    g.apply(Op::Unary(f), &[x]).map(drop)
}

fn binary(g: &mut Generator) -> Option<()> {
    let all = if g.options.well_conditioned || g.random.once_in(2) { GENTLE_BINARY } else { BinaryFn::ALL };
    let f = g.random.pick(all);
    let x = g.value(|t| f.accepts(t.dtype))?;
    let y = partner(g, x);
    let operands = if g.random.once_in(2) { [x, y] } else { [y, x] };
    g.apply(Op::Binary(f), &operands).map(drop)
}

fn compare(g: &mut Generator) -> Option<()> {
    let x = g.value(|_| true)?;
    if g.options.well_conditioned && g.ty(x).dtype.is_float() {
        return None;
    }
    let y = partner(g, x);
    let predicate = g.random.pick(Pred::ALL);
    g.apply(Op::Compare(predicate), &[x, y]).map(drop)
}

fn select(g: &mut Generator) -> Option<()> {
    let a = g.value(|_| true)?;
    let b = partner(g, a);
    let shape = g.ty(a).shape;
    let cond = match g.value(|t| t.dtype == DType::Bool && fit(&t.shape, &shape)) {
        Some(cond) => cond,
        None => {
            let shape = repeatable(g, &shape);
            g.constant(DType::Bool, &shape)
        }
    };
    g.apply(ops::Select {}, &[cond, a, b]).map(drop)
}

fn cast(g: &mut Generator) -> Option<()> {
    let to = g.random.pick(&g.options.dtypes);
    let x = g.value(|t| t.dtype != to)?;
    let rounds = g.ty(x).dtype.is_float() && to.compute() != DType::F32 && to != DType::F64;
    if g.options.well_conditioned && rounds {
        return None;
    }
    g.apply(ops::Cast { to }, &[x]).map(drop)
}

/// A random selection of axes, sorted, at least one.
fn some_axes(g: &mut Generator, rank: usize) -> Vec<usize> {
    let axes: Vec<usize> = (0..rank).filter(|_| g.random.once_in(2)).collect();
    if axes.is_empty() { vec![rank - 1] } else { axes }
}

fn reduce(g: &mut Generator) -> Option<()> {
    let f = g.random.pick(ReduceFn::ALL);
    let x = g.value(|t| t.rank() > 0 && f.accepts(t.dtype))?;
    let rank = g.ty(x).rank();
    let axes = some_axes(g, rank);
    g.apply(ops::Reduce { f, axes }, &[x]).map(drop)
}

/// A value with axes, not of floats if differences must stay small; and one of its axes.
pub(super) fn ordered(g: &mut Generator) -> Option<(ValueId, usize)> {
    let gentle = g.options.well_conditioned;
    let x = g.value(|t| t.rank() > 0 && !(gentle && t.dtype.is_float()))?;
    let rank = g.ty(x).rank();
    Some((x, g.random.below(rank)))
}

fn arg_reduce(g: &mut Generator) -> Option<()> {
    let (x, axis) = ordered(g)?;
    let (largest, last) = (g.random.once_in(2), g.random.once_in(2));
    g.apply(ops::ArgReduce { largest, axis, last }, &[x]).map(drop)
}

fn cumulate(g: &mut Generator) -> Option<()> {
    let f = g.random.pick(ReduceFn::ALL);
    let x = g.value(|t| t.rank() > 0 && f.accepts(t.dtype))?;
    let axis = g.ty(x).rank();
    let axis = g.random.below(axis);
    let (exclusive, reverse) = (g.random.once_in(2), g.random.once_in(2));
    // The neutral elements of max and min are infinite: too much for what comes after.
    let exclusive = exclusive && matches!(f, ReduceFn::Sum | ReduceFn::Prod);
    g.apply(ops::Cumulate { f, axis, exclusive, reverse }, &[x]).map(drop)
}

/// A float value and its last axis.
fn rows(g: &mut Generator) -> Option<(ValueId, usize)> {
    let x = g.value(|t| t.rank() > 0 && t.dtype.is_float())?;
    Some((x, g.ty(x).rank() - 1))
}

fn softmax(g: &mut Generator) -> Option<()> {
    let (x, axis) = rows(g)?;
    let reduce = |f| ops::Reduce { f, axes: vec![axis] };
    let max = g.apply(reduce(ReduceFn::Max), &[x])?;
    let shifted = g.apply(Op::Binary(BinaryFn::Sub), &[x, max])?;
    let exp = g.apply(Op::Unary(UnaryFn::Exp), &[shifted])?;
    let sum = g.apply(reduce(ReduceFn::Sum), &[exp])?;
    g.apply(Op::Binary(BinaryFn::Div), &[exp, sum]).map(drop)
}

/// Mean square normalization with a learned scale.
fn normalize(g: &mut Generator) -> Option<()> {
    let (x, axis) = rows(g)?;
    let ty = g.ty(x);
    let size = ty.shape[axis].as_const()? as usize;
    let square = g.apply(Op::Binary(BinaryFn::Mul), &[x, x])?;
    let sum = g.apply(ops::Reduce { f: ReduceFn::Sum, axes: vec![axis] }, &[square])?;
    let one = g.constant_of(crate::tensor::Tensor::scalar(crate::kernel::Const::number(ty.dtype, 1.0)));
    let moved = g.apply(Op::Binary(BinaryFn::Add), &[sum, one])?;
    let root = g.apply(Op::Unary(UnaryFn::Sqrt), &[moved])?;
    let scale = g.constant(ty.dtype, &[size]);
    let scaled = g.apply(Op::Binary(BinaryFn::Mul), &[x, scale])?;
    g.apply(Op::Binary(BinaryFn::Div), &[scaled, root]).map(drop)
}

/// A value to combine with `x`: an earlier one that broadcasts with it, or a new constant.
pub(super) fn partner(g: &mut Generator, x: ValueId) -> ValueId {
    let ty = g.ty(x);
    let fits = |t: &Type| t.dtype == ty.dtype && fit(&t.shape, &ty.shape);
    if g.random.once_in(2)
        && let Some(y) = g.value(fits)
    {
        return y;
    }
    let shape = repeatable(g, &ty.shape);
    g.constant(ty.dtype, &shape)
}

/// True if shapes broadcast whatever the values of symbols are.
fn fit(a: &[Dim], b: &[Dim]) -> bool { a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b || a.is(1) || b.is(1)) }

/// A constant shape that broadcasts to `shape`: 1 in place of symbols and at random, leading axes missing at random.
fn repeatable(g: &mut Generator, shape: &[Dim]) -> Vec<usize> {
    let missing = if g.random.once_in(2) { g.random.below(shape.len() + 1) } else { 0 };
    let size = |d: &Dim| d.as_const().filter(|_| !g.random.once_in(4)).map_or(1, |c| c as usize);
    shape[missing..].iter().map(size).collect()
}
