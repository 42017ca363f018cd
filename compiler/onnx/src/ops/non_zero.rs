//! NonZero: positions of the elements that are not zero.

use xlac_ir::ops::NonZero;

use crate::ops::OnnxOp;
use xlac_ir::dim::Dim;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("NonZero", (1, 1), |n, b| {
    let x = n.input(0)?;
    // A scalar counts as a vector of one element.
    let x = if b.rank(x) == 0 { b.reshape(x, &[Dim::ONE])? } else { x };
    let count = b.symbol(&format!("{}_count", n.name));
    Ok(vec![b.op(NonZero { count: vec![count] }, &[x])?])
})];
