//! Transpose: the axes in the opposite order by default.

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Transpose", (1, 1), |n, b| {
    let x = n.input(0)?;
    let rank = b.rank(x);
    let perm = match n.ints("perm")? {
        Some(p) => b.axes(p, rank)?,
        None => (0..rank).rev().collect(),
    };
    ensure!(perm.len() == rank, ATTRIBUTE_VALUE, "`perm` has {} elements for {rank} axes", perm.len());
    Ok(vec![b.transpose(x, &perm)?])
})
.attrs(&["perm"])];
