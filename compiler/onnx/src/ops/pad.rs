//! Pad: amounts as an attribute before opset 11, as an input since.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::Pad;
use xlac_ir::ops::pad::PadMode;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Pad", (1, 4), import).attrs(&["mode", "paddings", "pads", "value"])];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let amounts: Vec<Dim> = match n.opset {
        ..11 => n.ints_required(if n.opset < 2 { "paddings" } else { "pads" })?.iter().map(|&p| Dim::from(p)).collect(),
        _ => b.dims_of(n.input(1)?, "the input `pads`")?,
    };
    let axes = match n.opt(3) {
        Some(v) => b.axes(&b.constant_ints(v, "the input `axes`")?, rank)?,
        None => (0..rank).collect(),
    };
    ensure!(amounts.len() == 2 * axes.len(), TYPES, "{} pads for {} axes", amounts.len(), axes.len());
    let (mut before, mut after) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        before[axis] = amounts[i].clone();
        after[axis] = amounts[axes.len() + i].clone();
    }
    if before.iter().chain(&after).all(|d| d.is(0)) {
        return Ok(vec![x]);
    }
    let mode = match n.word("mode", "constant")? {
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" => PadMode::Wrap,
        other => bail!(ATTRIBUTE_VALUE, "`mode` cannot be `{other}`"),
    };
    let mut operands = vec![x];
    if mode == PadMode::Constant {
        let value = match n.opt(2) {
            Some(v) => b.reshape(v, &[])?,
            None => b.scalar(b.dtype(x), f64::from(if n.opset < 11 { n.float("value", 0.0)? } else { 0.0 })),
        };
        operands.push(value);
    }
    Ok(vec![b.op(Pad { before, after, mode }, &operands)?])
}
