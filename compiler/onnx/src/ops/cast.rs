//! Cast and CastLike.

use xlac_ir::DType;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Cast", (1, 1), |n, b| {
        ensure!(n.has("to"), MISSING_ATTRIBUTE, "attribute `to` is required");
        let to = n.dtype("to", DType::F32)?;
        cast(n, b, to)
    })
    .attrs(&["to", "saturate", "round_mode"]),
    OnnxOp::new("CastLike", (2, 2), |n, b| {
        let to = b.dtype(n.input(1)?);
        cast(n, b, to)
    })
    .attrs(&["saturate", "round_mode"]),
];

fn cast(n: &Node, b: &mut Builder, to: DType) -> Res<Vec<ValueId>> {
    let small_float = to.is_float() && to.bits() <= 8;
    ensure!(!small_float || n.flag("saturate", true)?, ATTRIBUTE_VALUE, "`saturate` = 0 is not supported for {to}");
    ensure!(n.word("round_mode", "up")? == "up" || to != DType::F8E8M0, ATTRIBUTE_VALUE, "only `round_mode` = `up` is supported");
    Ok(vec![b.cast(n.input(0)?, to)?])
}
