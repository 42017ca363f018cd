//! ScatterElements (once called Scatter), ScatterND and TensorScatter.

use xlac_ir::DType;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::scatter_elements::ScatterMode;
use xlac_ir::ops::{ScatterElements, ScatterNd};

use crate::builder::Builder;
use crate::fail::{Res, bail};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Scatter", (3, 3), elements).attrs(&["axis"]).opsets(9, 10),
    OnnxOp::new("ScatterElements", (3, 3), elements).attrs(&["axis", "reduction"]),
    OnnxOp::new("ScatterND", (3, 3), |n, b| {
        let indices = b.cast(n.input(1)?, DType::I64)?;
        Ok(vec![b.op(ScatterNd { mode: mode(n)? }, &[n.input(0)?, indices, n.input(2)?])?])
    })
    .attrs(&["reduction"]),
];

fn elements(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let axis = b.axis(n.int("axis", 0)?, b.rank(x))?;
    let indices = b.cast(n.input(1)?, DType::I64)?;
    Ok(vec![b.op(ScatterElements { axis, mode: mode(n)? }, &[x, indices, n.input(2)?])?])
}

fn mode(n: &Node) -> Res<ScatterMode> {
    Ok(match n.word("reduction", "none")? {
        "none" => ScatterMode::Set,
        "add" => ScatterMode::Add,
        "mul" => ScatterMode::Mul,
        "min" => ScatterMode::Min,
        "max" => ScatterMode::Max,
        other => bail!(ATTRIBUTE_VALUE, "`reduction` cannot be `{other}`"),
    })
}
