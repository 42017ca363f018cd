//! ArgMax and ArgMin.

use xlac_ir::graph::ValueId;
use xlac_ir::ops::ArgReduce;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

const ATTRS: &[&str] = &["axis", "keepdims", "select_last_index"];

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("ArgMax", (1, 1), |n, b| import(n, b, true)).attrs(ATTRS),
    OnnxOp::new("ArgMin", (1, 1), |n, b| import(n, b, false)).attrs(ATTRS),
];

fn import(n: &Node, b: &mut Builder, largest: bool) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let axis = b.axis(n.int("axis", 0)?, b.rank(x))?;
    ensure!(!b.shape(x)[axis].is(0), TYPES, "the axis is empty");
    let y = b.op(ArgReduce { largest, axis, last: n.flag("select_last_index", false)? }, &[x])?;
    Ok(vec![if n.flag("keepdims", true)? { y } else { b.squeeze(y, &[axis])? }])
}
