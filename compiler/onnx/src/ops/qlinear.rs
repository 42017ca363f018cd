//! QLinearConv and QLinearMatMul, and onnxruntime's QLinearAdd and QLinearMul: quantized in, quantized out.

use xlac_ir::DType;
use xlac_ir::elementwise::BinaryFn;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::Res;
use crate::node::Node;
use crate::ops::{OnnxOp, conv, conv_integer, matmul_integer, quantize};

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("QLinearConv", (8, 9), convolution)
        .attrs(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]),
    OnnxOp::new("QLinearMatMul", (8, 8), product),
    OnnxOp::new("QLinearAdd", (7, 8), |n, b| binary(n, b, BinaryFn::Add)).domain("com.microsoft"),
    OnnxOp::new("QLinearMul", (7, 8), |n, b| binary(n, b, BinaryFn::Mul)).domain("com.microsoft"),
];

fn convolution(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let y = conv_integer::convolution(n, b, n.input(0)?, n.input(3)?, Some(n.input(2)?), Some(n.input(5)?))?;
    let y = conv::bias(b, y, n.opt(8))?;
    let w_scale = n.input(4)?;
    // One scale for all, or one for each output channel.
    let w_scale = if b.ty(w_scale).elements().is(1) { b.reshape(w_scale, &[])? } else { b.along(w_scale, 1, b.rank(y))? };
    requantize(n, b, y, w_scale, n.input(6)?, n.input(7)?)
}

fn product(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let y = matmul_integer::product(b, n.input(0)?, n.input(3)?, Some(n.input(2)?), Some(n.input(5)?))?;
    let scale = n.input(4)?;
    requantize(n, b, y, scale, n.input(6)?, n.input(7)?)
}

/// The i32 sum times the product of the operands' scales, over the result's.
fn requantize(n: &Node, b: &mut Builder, y: ValueId, second: ValueId, scale: ValueId, zero: ValueId) -> Res<Vec<ValueId>> {
    let to = b.dtype(zero);
    let mut first = n.input(1)?;
    if b.rank(first) == 1 {
        first = matmul_integer::rows(b, first)?;
    }
    let (first, second, scale) = (b.cast(first, DType::F32)?, b.cast(second, DType::F32)?, b.cast(scale, DType::F32)?);
    let factor = b.mul(first, second)?;
    let y = b.cast(y, DType::F32)?;
    let y = b.mul(y, factor)?;
    let scale = if b.ty(scale).elements().is(1) { b.reshape(scale, &[])? } else { scale };
    let zero = if b.ty(zero).elements().is(1) { b.reshape(zero, &[])? } else { zero };
    Ok(vec![quantize::quantize(b, y, scale, Some(zero), to)?])
}

fn binary(n: &Node, b: &mut Builder, f: BinaryFn) -> Res<Vec<ValueId>> {
    let to = b.dtype(n.input(0)?);
    let single = |b: &mut Builder, v: Option<ValueId>| v.map(|v| b.reshape(v, &[])).transpose();
    let mut operands = Vec::new();
    for i in [0, 3] {
        let (scale, zero) = (b.reshape(n.input(i + 1)?, &[])?, single(b, n.opt(i + 2))?);
        operands.push(quantize::dequantize(b, n.input(i)?, scale, zero)?);
    }
    let y = b.binary(f, operands[0], operands[1])?;
    let (scale, zero) = (b.reshape(n.input(6)?, &[])?, single(b, n.opt(7))?);
    Ok(vec![quantize::quantize(b, y, scale, zero, to)?])
}
