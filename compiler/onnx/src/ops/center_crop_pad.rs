//! CenterCropPad: each axis cut or padded with zeros around its center.

use xlac_ir::dim::Dim;

use crate::fail::{bail, ensure};
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("CenterCropPad", (2, 2), |n, b| {
    let mut x = n.input(0)?;
    let rank = b.rank(x);
    let wanted = b.dims_of(n.input(1)?, "the shape")?;
    let axes = match n.ints("axes")? {
        Some(a) => b.axes(a, rank)?,
        None => (0..rank).collect(),
    };
    ensure!(axes.len() == wanted.len(), TYPES, "{} sizes for {} axes", wanted.len(), axes.len());
    for (&axis, size) in axes.iter().zip(&wanted) {
        let have = b.shape(x)[axis].clone();
        let two = Dim::from(2i64);
        let (more, less) = (size - &have, &have - size);
        x = match (more.lower_bound() >= Some(0), less.lower_bound() >= Some(0)) {
            (_, true) => b.slice(x, axis, &less.floor_div(&two), size)?,
            (true, _) => {
                let before = more.floor_div(&two);
                b.pad_axis(x, axis, &before, &(&more - &before), 0.0)?
            }
            _ => bail!(UNSUPPORTED_FORM, "whether axis {axis} is cut or padded is not known at import"),
        };
    }
    Ok(vec![x])
})
.attrs(&["axes"])];
