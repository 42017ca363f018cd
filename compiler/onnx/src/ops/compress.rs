//! Compress: the slices of an axis, or the elements, where a condition holds.

use xlac_ir::ops::NonZero;
use xlac_ir::dim::Dim;

use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Compress", (2, 2), |n, b| {
    let (x, condition) = (n.input(0)?, n.input(1)?);
    let (x, axis) = match n.int_opt("axis")? {
        Some(axis) => (x, b.axis(axis, b.rank(x))?),
        None => {
            let total = b.ty(x).elements();
            (b.reshape(x, &[total])?, 0)
        }
    };
    let count = b.symbol(&format!("{}_count", n.name));
    let places = b.op(NonZero { count: vec![count.clone()] }, &[condition])?;
    let places = b.reshape(places, &[Dim::sym(&count)])?;
    Ok(vec![b.gather(x, places, axis)?])
})
.attrs(&["axis"])];
