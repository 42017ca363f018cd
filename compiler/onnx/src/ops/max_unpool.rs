//! MaxUnpool: puts elements back to where MaxPool found them.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::ScatterElements;
use xlac_ir::ops::scatter_elements::ScatterMode;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;
use crate::window::kernel;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("MaxUnpool", (2, 3), import).attrs(&["kernel_shape", "pads", "strides"])];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, indices) = (n.input(0)?, n.input(1)?);
    let shape = b.shape(x);
    ensure!(shape.len() >= 3, TYPES, "the input has {} axes, expected at least 3", shape.len());
    let rank = shape.len() - 2;
    let kernel = kernel(n, None, rank)?;
    let (strides, pads) = (n.sizes("strides", rank, 1, 1)?, n.sizes("pads", 2 * rank, 0, 0)?);
    let mut pooled = shape[..2].to_vec();
    for i in 0..rank {
        let steps = &(&shape[2 + i] - &Dim::ONE) * &Dim::from(strides[i]);
        pooled.push(&(&steps + &Dim::from(kernel[i])) - &Dim::from(pads[i] + pads[rank + i]));
    }
    let total = Dim::product(&pooled);
    let zeros = b.filled(b.dtype(x), std::slice::from_ref(&total), 0.0)?;
    let count = Dim::product(&shape);
    let (flat, at) = (b.reshape(x, std::slice::from_ref(&count))?, b.reshape(indices, &[count])?);
    let at = b.cast(at, DType::I64)?;
    let y = b.op(ScatterElements { axis: 0, mode: ScatterMode::Set }, &[zeros, at, flat])?;
    let mut y = b.reshape(y, &pooled)?;
    // A larger output: the indices count in the smaller one, the rest is zero.
    if let Some(output_shape) = n.opt(2) {
        let wanted = b.dims_of(output_shape, "output_shape")?;
        ensure!(wanted.len() == pooled.len(), TYPES, "`output_shape` has {} elements, expected {}", wanted.len(), pooled.len());
        for axis in 0..wanted.len() {
            if wanted[axis] != pooled[axis] {
                y = b.pad_axis(y, axis, &Dim::ZERO, &(&wanted[axis] - &pooled[axis]), 0.0)?;
            }
        }
    }
    Ok(vec![y])
}
