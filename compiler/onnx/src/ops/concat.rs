//! Concat.

use crate::ops::{MANY, OnnxOp};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Concat", (1, MANY), |n, b| {
    let parts = n.all_inputs()?;
    // The axis was optional before opset 4.
    let axis = if n.opset < 4 { n.int("axis", 1)? } else { n.int_required("axis")? };
    let axis = b.axis(axis, b.rank(parts[0]))?;
    Ok(vec![b.concat(&parts, axis)?])
})
.attrs(&["axis"])];
