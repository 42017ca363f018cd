//! The Reduce family: axes as an attribute, or as an input since opset 18 (ReduceSum: 13).

use xlac_ir::DType;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::Res;
use crate::node::Node;
use crate::ops::OnnxOp;

macro_rules! op {
    ($name:literal $f:expr) => { OnnxOp::new($name, (1, 2), $f).attrs(&["axes", "keepdims", "noop_with_empty_axes"]) };
}

pub const OPS: &[OnnxOp] = &[
    op!("ReduceL1" |n, b| {
        let (x, axes) = operand(n, b)?;
        let a = b.abs(x)?;
        finish(n, b, ReduceFn::Sum, a, &axes)
    }),
    op!("ReduceL2" |n, b| {
        let (x, axes) = operand(n, b)?;
        let square = b.mul(x, x)?;
        let sum = finish(n, b, ReduceFn::Sum, square, &axes)?[0];
        root(b, sum)
    }),
    op!("ReduceLogSum" |n, b| {
        let (x, axes) = operand(n, b)?;
        let sum = finish(n, b, ReduceFn::Sum, x, &axes)?[0];
        Ok(vec![b.log(sum)?])
    }),
    op!("ReduceLogSumExp" log_sum_exp),
    op!("ReduceMax" |n, b| extreme(n, b, ReduceFn::Max)),
    op!("ReduceMean" |n, b| {
        let (x, axes) = operand(n, b)?;
        Ok(vec![if axes.is_empty() { x } else { b.mean(x, &axes, keep(n)?)? }])
    }),
    op!("ReduceMin" |n, b| extreme(n, b, ReduceFn::Min)),
    op!("ReduceProd" |n, b| { let (x, axes) = operand(n, b)?; finish(n, b, ReduceFn::Prod, x, &axes) }),
    op!("ReduceSum" |n, b| { let (x, axes) = operand(n, b)?; finish(n, b, ReduceFn::Sum, x, &axes) }),
    op!("ReduceSumSquare" |n, b| {
        let (x, axes) = operand(n, b)?;
        let square = b.mul(x, x)?;
        finish(n, b, ReduceFn::Sum, square, &axes)
    }),
];

/// The input, and the axes to reduce.
fn operand(n: &Node, b: &Builder) -> Res<(ValueId, Vec<usize>)> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let given = match (n.ints("axes")?, n.opt(1)) {
        (Some(a), _) => a.to_vec(),
        (None, Some(v)) => b.constant_ints(v, "the input `axes`")?,
        (None, None) => Vec::new(),
    };
    // No axes mean all of them, or none if so asked.
    let all = given.is_empty() && !n.flag("noop_with_empty_axes", false)?;
    Ok((x, if all { (0..rank).collect() } else { b.axes(&given, rank)? }))
}

fn keep(n: &Node) -> Res<bool> { n.flag("keepdims", true) }

fn finish(n: &Node, b: &mut Builder, f: ReduceFn, x: ValueId, axes: &[usize]) -> Res<Vec<ValueId>> {
    Ok(vec![b.reduce(f, x, axes, keep(n)?)?])
}

/// Bools are compared as bytes.
fn extreme(n: &Node, b: &mut Builder, f: ReduceFn) -> Res<Vec<ValueId>> {
    let (x, axes) = operand(n, b)?;
    if b.dtype(x) != DType::Bool {
        return finish(n, b, f, x, &axes);
    }
    let bytes = b.cast(x, DType::U8)?;
    let y = finish(n, b, f, bytes, &axes)?[0];
    // The largest of nothing is the lowest byte, 0; the smallest of nothing the highest, which is true.
    Ok(vec![b.cast(y, DType::Bool)?])
}

/// Square root; of integers rounded down.
fn root(b: &mut Builder, x: ValueId) -> Res<Vec<ValueId>> {
    let t = b.dtype(x);
    if t.is_float() {
        return Ok(vec![b.sqrt(x)?]);
    }
    let wide = b.cast(x, DType::F64)?;
    let y = b.sqrt(wide)?;
    Ok(vec![b.cast(y, t)?])
}

/// `m + log(sum(exp(x - m)))` with the maximum `m`, so that large inputs do not overflow.
fn log_sum_exp(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, axes) = operand(n, b)?;
    if axes.is_empty() {
        return Ok(vec![x]);
    }
    let max = b.reduce(ReduceFn::Max, x, &axes, true)?;
    // An infinite maximum would give NaN; subtracting nothing gives the right infinity.
    let finite = b.scalar(b.dtype(x), 0.0);
    let size = b.abs(max)?;
    let infinite = b.compare_scalar(xlac_ir::kernel::Pred::Eq, size, f64::INFINITY)?;
    let shift = b.select(infinite, finite, max)?;
    let e = b.sub(x, shift)?;
    let e = b.exp(e)?;
    let sum = b.reduce(ReduceFn::Sum, e, &axes, true)?;
    let log = b.log(sum)?;
    let y = b.add(log, shift)?;
    let mut dropped = axes.clone();
    dropped.sort_unstable();
    Ok(vec![if keep(n)? { y } else { b.squeeze(y, &dropped)? }])
}
