//! Range: `start, start + delta, ...` before `limit`.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Range", (3, 3), import)];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let t = b.dtype(n.input(0)?);
    let mut operands = Vec::new();
    for i in 0..3 {
        operands.push(b.reshape(n.input(i)?, &[])?);
    }
    let [start, limit, delta] = operands[..] else { return Ok(Vec::new()) };
    ensure!(b.dtype(limit) == t && b.dtype(delta) == t, TYPES, "operands have different element types");
    let zero_step = b.tensor(delta).is_some_and(|d| d.to_f64() == [0.0]);
    ensure!(!zero_step, BAD_SIZE, "the input `delta` is 0");
    let count = count(b, start, limit, delta)?;
    // Small integers count in i64, so that the count itself cannot wrap.
    let i = b.iota(&count, t)?;
    let scaled = if b.known_ints(delta).is_some_and(|d| d == [1]) { i } else { b.mul(i, delta)? };
    let from_zero = b.known_ints(start).is_some_and(|s| s == [0]);
    Ok(vec![if from_zero { scaled } else { b.add(scaled, start)? }])
}

/// `max(0, ceil((limit - start) / delta))`
fn count(b: &mut Builder, start: ValueId, limit: ValueId, delta: ValueId) -> Res<Dim> {
    if let (Some(s), Some(l), Some(&[d])) = (b.known(start), b.known(limit), b.known_ints(delta).as_deref()) {
        let way = if d > 0 { &l[0] - &s[0] } else { &s[0] - &l[0] };
        return Ok(way.ceil_div(&Dim::from(d.saturating_abs())).at_least(&Dim::ZERO));
    }
    let wide = if b.dtype(start) == DType::F64 || b.dtype(start).is_int() { DType::F64 } else { DType::F32 };
    let (s, l, d) = (b.cast(start, wide)?, b.cast(limit, wide)?, b.cast(delta, wide)?);
    let way = b.sub(l, s)?;
    let steps = b.div(way, d)?;
    let steps = b.ceil(steps)?;
    let steps = b.cast(steps, DType::I64)?;
    let steps = b.max_scalar(steps, 0.0)?;
    b.dim_of(steps, "the number of steps")
}
