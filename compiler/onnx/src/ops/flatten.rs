//! Flatten: to two axes.

use crate::fail::ensure;
use crate::ops::OnnxOp;
use xlac_ir::dim::Dim;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Flatten", (1, 1), |n, b| {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let rank = shape.len() as i64;
    let axis = n.int("axis", 1)?;
    ensure!((-rank..=rank).contains(&axis), AXIS, "axis {axis} is outside of rank {rank}");
    let at = (if axis < 0 { axis + rank } else { axis }) as usize;
    Ok(vec![b.reshape(x, &[Dim::product(&shape[..at]), Dim::product(&shape[at..])])?])
})
.attrs(&["axis"])];
