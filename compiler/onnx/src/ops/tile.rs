//! Tile: repeats along axes.

use xlac_ir::dim::Dim;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Tile", (2, 3), |n, b| {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let repeats = b.dims_of(n.input(1)?, "the input `repeats`")?;
    ensure!(repeats.len() == shape.len(), TYPES, "{} repeats for {} axes", repeats.len(), shape.len());
    let (mut split, mut repeated, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for (size, times) in shape.iter().zip(&repeats) {
        ensure!(times.as_const().is_none_or(|t| t >= 0), TYPES, "a repeat is negative");
        if !times.is(1) {
            split.push(Dim::ONE);
            repeated.push(times.clone());
        }
        split.push(size.clone());
        repeated.push(size.clone());
        result.push(size * times);
    }
    let y = b.reshape(x, &split)?;
    let y = b.broadcast(y, &repeated)?;
    Ok(vec![b.reshape(y, &result)?])
})];
