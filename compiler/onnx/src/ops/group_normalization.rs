//! GroupNormalization: over groups of channels; one scale for each group before opset 21, for each channel since.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::norm::{normalize, scale_along};
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] =
    &[OnnxOp::new("GroupNormalization", (3, 3), import).attrs(&["epsilon", "num_groups", "stash_type"]).opsets(18, i64::MAX)];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, scale, bias) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let (t, shape) = (b.dtype(x), b.shape(x));
    ensure!(shape.len() >= 3, TYPES, "the input has {} axes, expected at least 3", shape.len());
    n.int_required("num_groups")?;
    let groups = Dim::from(n.size("num_groups", 1)?);
    b.equal(&shape[1].rem(&groups), &Dim::ZERO, "channels are a multiple of the groups")?;
    let group = &shape[1].floor_div(&groups) * &Dim::product(&shape[2..]);
    let wide = if n.opset >= 21 && t != DType::F64 { b.cast(x, DType::F32)? } else { x };
    let grouped = b.reshape(wide, &[shape[0].clone(), groups, group])?;
    let y = normalize(b, grouped, &[2], n.float("epsilon", 1e-5)?)?.y;
    let y = b.cast(y, t)?;
    if n.opset >= 21 {
        let y = b.reshape(y, &shape)?;
        return Ok(vec![scale_along(b, y, scale, bias, 1)?]);
    }
    let y = scale_along(b, y, scale, bias, 1)?;
    Ok(vec![b.reshape(y, &shape)?])
}
