//! ConvInteger: convolution of quantized numbers, exact in i32.

use xlac_ir::DType;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::Res;
use crate::node::Node;
use crate::ops::{OnnxOp, conv, matmul_integer};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("ConvInteger", (2, 4), |n, b| {
    Ok(vec![convolution(n, b, n.input(0)?, n.input(1)?, n.opt(2), n.opt(3))?])
})
.attrs(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])];

/// The convolution with zero points taken off; that of the weights may be one for each output channel.
pub fn convolution(
    n: &Node,
    b: &mut Builder,
    x: ValueId,
    w: ValueId,
    x_zero: Option<ValueId>,
    w_zero: Option<ValueId>,
) -> Res<ValueId> {
    let rank = b.rank(w);
    let x = matmul_integer::centered(b, x, x_zero, |b, z| b.reshape(z, &[]))?;
    let w = matmul_integer::centered(b, w, w_zero, |b, z| {
        if b.ty(z).elements().is(1) { b.reshape(z, &[]) } else { b.along(z, 0, rank) }
    })?;
    conv::convolution(n, b, x, w, DType::I32)
}
