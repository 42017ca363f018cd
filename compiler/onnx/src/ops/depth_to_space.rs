//! DepthToSpace and SpaceToDepth.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("DepthToSpace", (1, 1), depth_to_space).attrs(&["blocksize", "mode"]),
    OnnxOp::new("SpaceToDepth", (1, 1), space_to_depth).attrs(&["blocksize", "mode"]),
];

fn block(n: &Node, b: &Builder) -> Res<(Vec<Dim>, Dim)> {
    let shape = b.shape(n.input(0)?);
    ensure!(shape.len() == 4, TYPES, "the input has {} axes, expected 4", shape.len());
    n.int_required("blocksize")?;
    Ok((shape, Dim::from(n.size("blocksize", 1)?)))
}

fn depth_to_space(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let ([batch, c, h, w], s) = split(block(n, b)?)?;
    let depth = c.floor_div(&(&s * &s));
    let (inner, perm) = match n.word("mode", "DCR")? {
        "DCR" => ([s.clone(), s.clone(), depth.clone()], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([depth.clone(), s.clone(), s.clone()], [0, 1, 4, 2, 5, 3]),
        other => bail!(ATTRIBUTE_VALUE, "`mode` cannot be `{other}`: `DCR` and `CRD` are possible"),
    };
    let [i, j, k] = inner;
    let x = b.reshape(n.input(0)?, &[batch.clone(), i, j, k, h.clone(), w.clone()])?;
    let y = b.transpose(x, &perm)?;
    Ok(vec![b.reshape(y, &[batch, depth, &h * &s, &w * &s])?])
}

fn space_to_depth(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let ([batch, c, h, w], s) = split(block(n, b)?)?;
    let (rows, columns) = (h.floor_div(&s), w.floor_div(&s));
    let x = b.reshape(n.input(0)?, &[batch.clone(), c.clone(), rows.clone(), s.clone(), columns.clone(), s.clone()])?;
    let perm = match n.word("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => bail!(ATTRIBUTE_VALUE, "`mode` cannot be `{other}`: `DCR` and `CRD` are possible"),
    };
    let y = b.transpose(x, &perm)?;
    Ok(vec![b.reshape(y, &[batch, &(&c * &s) * &s, rows, columns])?])
}

fn split((shape, s): (Vec<Dim>, Dim)) -> Res<([Dim; 4], Dim)> {
    match <[Dim; 4]>::try_from(shape) {
        Ok(dims) => Ok((dims, s)),
        Err(shape) => bail!(TYPES, "the input has {} axes, expected 4", shape.len()),
    }
}
