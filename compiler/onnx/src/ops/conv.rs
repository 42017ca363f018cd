//! Conv: convolution with an optional bias.

use xlac_ir::graph::ValueId;
use xlac_ir::ops::Conv;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;
use crate::window::{kernel, window};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Conv", (2, 3), |n, b| {
    let out = b.dtype(n.input(0)?);
    let y = convolution(n, b, n.input(0)?, n.input(1)?, out)?;
    Ok(vec![bias(b, y, n.opt(2))?])
})
.attrs(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])];

/// The convolution itself; `out` is its element type.
pub fn convolution(n: &Node, b: &mut Builder, x: ValueId, w: ValueId, out: xlac_ir::DType) -> Res<ValueId> {
    let (xs, ws) = (b.shape(x), b.shape(w));
    ensure!(xs.len() >= 3, TYPES, "the input has {} axes, expected at least 3", xs.len());
    ensure!(ws.len() == xs.len(), TYPES, "input and weights have {} and {} axes", xs.len(), ws.len());
    let groups = n.size("group", 1)?;
    let channels = &ws[1] * &xlac_ir::dim::Dim::from(groups);
    b.equal(&xs[1], &channels, "channels of input and weights")?;
    let k = kernel(n, Some(&ws[2..]), xs.len() - 2)?;
    let win = window(n, &xs[2..], k)?;
    let (strides, dilations) = (win.strides, win.dilations);
    b.op(Conv { strides, before: win.before, after: win.after, dilations, groups, out }, &[x, w])
}

/// A vector added along the channels, if there is one.
pub fn bias(b: &mut Builder, y: ValueId, bias: Option<ValueId>) -> Res<ValueId> {
    let Some(bias) = bias else { return Ok(y) };
    let channels = b.shape(y)[1].clone();
    let size = b.ty(bias).elements();
    b.equal(&channels, &size, "channels of result and bias")?;
    let bias = b.along(bias, 1, b.rank(y))?;
    b.add(y, bias)
}
