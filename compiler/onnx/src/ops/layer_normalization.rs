//! LayerNormalization and RMSNormalization, over all axes from `axis` on.

use xlac_ir::DType;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail};
use crate::node::Node;
use crate::norm::{deviation, normalize};
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("LayerNormalization", (2, 3), layer).attrs(&["axis", "epsilon", "stash_type"]),
    OnnxOp::new("RMSNormalization", (2, 2), rms).attrs(&["axis", "epsilon", "stash_type"]),
    OnnxOp::new("SimplifiedLayerNormalization", (2, 2), rms).attrs(&["axis", "epsilon", "stash_type"]),
];

fn layer(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, t) = (n.input(0)?, b.dtype(n.input(0)?));
    let axes = axes(n, b)?;
    let stash = stash(n, t)?;
    let wide = b.cast(x, stash)?;
    let normalized = normalize(b, wide, &axes, n.float("epsilon", 1e-5)?)?;
    let y = b.cast(normalized.y, t)?;
    let mut y = b.mul(y, n.input(1)?)?;
    if let Some(bias) = n.opt(2) {
        y = b.add(y, bias)?;
    }
    let mut outputs = vec![y];
    if n.output_count() > 1 {
        let inverse = b.unary(xlac_ir::elementwise::UnaryFn::Reciprocal, normalized.deviation)?;
        outputs.extend([normalized.mean, inverse]);
    }
    Ok(outputs)
}

fn rms(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, t) = (n.input(0)?, b.dtype(n.input(0)?));
    let axes = axes(n, b)?;
    let wide = b.cast(x, stash(n, t)?)?;
    let square = b.mul(wide, wide)?;
    let mean = b.mean(square, &axes, true)?;
    let deviation = deviation(b, mean, n.float("epsilon", 1e-5)?)?;
    let y = b.div(wide, deviation)?;
    let y = b.cast(y, t)?;
    Ok(vec![b.mul(y, n.input(1)?)?])
}

fn axes(n: &Node, b: &Builder) -> Res<Vec<usize>> {
    let rank = b.rank(n.input(0)?);
    Ok((b.axis(n.int("axis", -1)?, rank)?..rank).collect())
}

/// The type statistics are computed in.
fn stash(n: &Node, t: DType) -> Res<DType> {
    match n.int("stash_type", 1)? {
        1 if t == DType::F64 => Ok(DType::F64),
        1 => Ok(DType::F32),
        other => match DType::from_onnx(other as i32) {
            Some(s) if s.is_float() => Ok(s),
            _ => bail!(ATTRIBUTE_VALUE, "`stash_type` cannot be {other}"),
        },
    }
}
