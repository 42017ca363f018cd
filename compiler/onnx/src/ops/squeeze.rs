//! Squeeze and Unsqueeze: axes as an attribute before opset 13, as an input since.

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::codes;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Squeeze", (1, 2), |n, b| {
        let x = n.input(0)?;
        let axes = match axes(n, b)? {
            Some(axes) => b.axes(&axes, b.rank(x))?,
            None => ones(b, x),
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

/// Axes of size 1. A symbolic size may turn out to be 1 as well: it stays, and this is said.
fn ones(b: &mut Builder, x: ValueId) -> Vec<usize> {
    let shape = b.shape(x);
    if let Some(d) = shape.iter().find(|d| d.as_const().is_none()) {
        let message = format!("without axes, an axis of symbolic size `{d}` is kept, even where the size is 1");
        let node = b.loc.0.first().map_or(String::new(), |name| format!("node `{name}` (`Squeeze`): "));
        b.warnings.push(Diagnostic::warning(codes::UNSUPPORTED_FORM, format!("{node}{message}")).help("set the size with `--dim`"));
    }
    (0..shape.len()).filter(|&a| shape[a].is(1)).collect()
}

fn axes(n: &Node, b: &Builder) -> Res<Option<Vec<i64>>> {
    match n.opset {
        ..13 => Ok(n.ints("axes")?.map(<[i64]>::to_vec)),
        _ => {
            ensure!(!n.has("axes"), UNKNOWN_ATTRIBUTE, "`axes` is an input since opset 13");
            n.opt(1).map(|v| b.constant_ints(v, "the input `axes`")).transpose()
        }
    }
}
