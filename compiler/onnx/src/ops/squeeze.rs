//! Squeeze and Unsqueeze: axes as an attribute before opset 13, as an input since.

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Squeeze", (1, 2), |n, b| {
        let x = n.input(0)?;
        let axes = match axes(n, b)? {
            Some(axes) => b.axes(&axes, b.rank(x))?,
            None => (0..b.rank(x)).filter(|&a| b.shape(x)[a].is(1)).collect(),
        };
        Ok(vec![b.squeeze(x, &axes)?])
    })
    .attrs(&["axes"]),
    OnnxOp::new("Unsqueeze", (1, 2), |n, b| {
        let x = n.input(0)?;
        let axes = axes(n, b)?;
        ensure!(axes.is_some(), MISSING_ATTRIBUTE, "the axes are required");
        let axes = axes.unwrap_or_default();
        let mut axes = b.axes(&axes, b.rank(x) + axes.len())?;
        axes.sort_unstable();
        Ok(vec![b.unsqueeze(x, &axes)?])
    })
    .attrs(&["axes"]),
];

fn axes(n: &Node, b: &Builder) -> Res<Option<Vec<i64>>> {
    match n.opset {
        ..13 => Ok(n.ints("axes")?.map(<[i64]>::to_vec)),
        _ => {
            ensure!(!n.has("axes"), UNKNOWN_ATTRIBUTE, "`axes` is an input since opset 13");
            n.opt(1).map(|v| b.constant_ints(v, "the input `axes`")).transpose()
        }
    }
}
