//! Softmax and LogSoftmax: exponentials along `axis`, scaled to sum to one.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("LogSoftmax", (1, 1), |n, b| {
        along(n, b, |b, x, axis| {
            let shifted = shifted(b, x, axis)?;
            let e = b.exp(shifted)?;
            let sum = b.reduce(ReduceFn::Sum, e, &[axis], true)?;
            let log = b.log(sum)?;
            b.sub(shifted, log)
        })
    })
    .attrs(&["axis"]),
    OnnxOp::new("Softmax", (1, 1), |n, b| along(n, b, softmax)).attrs(&["axis"]),
];

/// Softmax along an axis.
pub fn softmax(b: &mut Builder, x: ValueId, axis: usize) -> Res<ValueId> {
    let shifted = shifted(b, x, axis)?;
    let e = b.exp(shifted)?;
    let sum = b.reduce(ReduceFn::Sum, e, &[axis], true)?;
    b.div(e, sum)
}

fn shifted(b: &mut Builder, x: ValueId, axis: usize) -> Res<ValueId> {
    let max = b.reduce(ReduceFn::Max, x, &[axis], true)?;
    b.sub(x, max)
}

/// Applies `f` along the axis; before opset 13 all axes from it on count as one.
pub fn along(n: &Node, b: &mut Builder, f: impl Fn(&mut Builder, ValueId, usize) -> Res<ValueId>) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    ensure!(b.dtype(x).is_float(), DTYPE, "does not apply to {}", b.dtype(x));
    if n.opset >= 13 {
        let axis = b.axis(n.int("axis", -1)?, shape.len())?;
        return Ok(vec![f(b, x, axis)?]);
    }
    let axis = b.axis(n.int("axis", 1)?, shape.len())?;
    if axis + 1 == shape.len() {
        return Ok(vec![f(b, x, axis)?]);
    }
    let flat = b.reshape(x, &[Dim::product(&shape[..axis]), Dim::product(&shape[axis..])])?;
    let y = f(b, flat, 1)?;
    Ok(vec![b.reshape(y, &shape)?])
}
