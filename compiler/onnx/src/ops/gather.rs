//! Gather, GatherElements and GatherND.

use xlac_ir::DType;
use xlac_ir::ops::{GatherElements, GatherNd};

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Gather", (2, 2), |n, b| {
        let (x, indices) = (n.input(0)?, n.input(1)?);
        let axis = b.axis(n.int("axis", 0)?, b.rank(x))?;
        ensure!(b.dtype(indices).is_int(), TYPES, "indices of type {}", b.dtype(indices));
        Ok(vec![b.gather(x, indices, axis)?])
    })
    .attrs(&["axis"]),
    OnnxOp::new("GatherElements", (2, 2), |n, b| {
        let x = n.input(0)?;
        let axis = b.axis(n.int("axis", 0)?, b.rank(x))?;
        let indices = b.cast(n.input(1)?, DType::I64)?;
        Ok(vec![b.op(GatherElements { axis }, &[x, indices])?])
    })
    .attrs(&["axis"]),
    OnnxOp::new("GatherND", (2, 2), |n, b| {
        let batch = n.int("batch_dims", 0)?;
        ensure!((0..=64).contains(&batch), ATTRIBUTE_VALUE, "`batch_dims` cannot be {batch}");
        let indices = b.cast(n.input(1)?, DType::I64)?;
        Ok(vec![b.op(GatherNd { batch_dims: batch as usize }, &[n.input(0)?, indices])?])
    })
    .attrs(&["batch_dims"]),
];
