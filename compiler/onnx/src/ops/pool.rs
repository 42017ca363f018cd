//! Pools: largest, average and p-norm over windows, or over all spatial axes.

use xlac_ir::graph::ValueId;
use xlac_ir::ops::pool::PoolFn;
use xlac_ir::ops::reduce::ReduceFn;
use xlac_ir::ops::{MaxPoolIndices, Pool};

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;
use crate::window::{kernel, window};

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("AveragePool", (1, 1), |n, b| {
        let padded = n.flag("count_include_pad", false)?;
        Ok(vec![pool(n, b, n.input(0)?, if padded { PoolFn::MeanPadded } else { PoolFn::Mean })?])
    })
    .attrs(&["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"]),
    OnnxOp::new("GlobalAveragePool", (1, 1), |n, b| {
        let (x, axes) = global(n, b)?;
        Ok(vec![b.mean(x, &axes, true)?])
    }),
    OnnxOp::new("GlobalLpPool", (1, 1), |n, b| {
        let (x, axes) = global(n, b)?;
        let p = exponent(n)?;
        let powers = powers(b, x, p)?;
        let sum = b.reduce(ReduceFn::Sum, powers, &axes, true)?;
        Ok(vec![root(b, sum, p)?])
    })
    .attrs(&["p"]),
    OnnxOp::new("GlobalMaxPool", (1, 1), |n, b| {
        let (x, axes) = global(n, b)?;
        Ok(vec![b.reduce(ReduceFn::Max, x, &axes, true)?])
    }),
    OnnxOp::new("LpPool", (1, 1), |n, b| {
        let p = exponent(n)?;
        let powers = powers(b, n.input(0)?, p)?;
        let sum = pool(n, b, powers, PoolFn::Sum)?;
        Ok(vec![root(b, sum, p)?])
    })
    .attrs(&["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"]),
    OnnxOp::new("MaxPool", (1, 1), max_pool)
        .attrs(&["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]),
];

fn pool(n: &Node, b: &mut Builder, x: ValueId, f: PoolFn) -> Res<ValueId> {
    let shape = b.shape(x);
    ensure!(shape.len() >= 3, TYPES, "the input has {} axes, expected at least 3", shape.len());
    let w = window(n, &shape[2..], kernel(n, None, shape.len() - 2)?)?;
    let (before, after, dilations, sizes) = (w.before, w.after, w.dilations, w.sizes);
    b.op(Pool { f, kernel: w.kernel, strides: w.strides, before, after, dilations, sizes }, &[x])
}

fn max_pool(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let y = pool(n, b, x, PoolFn::Max)?;
    if !n.wants(1) {
        return Ok(vec![y]);
    }
    let shape = b.shape(x);
    let w = window(n, &shape[2..], kernel(n, None, shape.len() - 2)?)?;
    let op = MaxPoolIndices {
        kernel: w.kernel,
        strides: w.strides,
        before: w.before,
        after: w.after,
        dilations: w.dilations,
        sizes: w.sizes,
        column_major: n.flag("storage_order", false)?,
    };
    Ok(vec![y, b.op(op, &[x])?])
}

/// The input and its spatial axes.
fn global(n: &Node, b: &Builder) -> Res<(ValueId, Vec<usize>)> {
    let x = n.input(0)?;
    ensure!(b.rank(x) >= 3, TYPES, "the input has {} axes, expected at least 3", b.rank(x));
    Ok((x, (2..b.rank(x)).collect()))
}

fn exponent(n: &Node) -> Res<f64> {
    // An int since opset 2, a float before.
    if n.opset < 2 { Ok(f64::from(n.float("p", 2.0)?)) } else { Ok(n.int("p", 2)? as f64) }
}

/// `|x|^p`
fn powers(b: &mut Builder, x: ValueId, p: f64) -> Res<ValueId> {
    if p == 2.0 {
        return b.mul(x, x);
    }
    let a = b.abs(x)?;
    if p == 1.0 {
        return Ok(a);
    }
    let p = b.scalar(b.dtype(x), p);
    b.pow(a, p)
}

/// `x^(1/p)`
fn root(b: &mut Builder, x: ValueId, p: f64) -> Res<ValueId> {
    if p == 1.0 {
        return Ok(x);
    }
    if p == 2.0 {
        return b.sqrt(x);
    }
    let p = b.scalar(b.dtype(x), 1.0 / p);
    b.pow(x, p)
}
