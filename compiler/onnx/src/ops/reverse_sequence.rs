//! ReverseSequence: the first elements along the time axis in the opposite order, as many as each sequence is long.

use xlac_ir::DType;
use xlac_ir::ops::GatherElements;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("ReverseSequence", (2, 2), |n, b| {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let rank = shape.len();
    let (batch, time) = (b.axis(n.int("batch_axis", 1)?, rank)?, b.axis(n.int("time_axis", 0)?, rank)?);
    ensure!(batch != time, ATTRIBUTE_VALUE, "batch and time are the same axis");
    let lengths = b.cast(n.input(1)?, DType::I64)?;
    let lengths = b.along(lengths, batch, rank)?;
    let step = b.iota_along(&shape[time], DType::I64, time, rank)?;
    let inside = b.lt(step, lengths)?;
    let last = b.add_scalar(lengths, -1.0)?;
    let mirrored = b.sub(last, step)?;
    let index = b.select(inside, mirrored, step)?;
    let index = b.broadcast(index, &shape)?;
    Ok(vec![b.op(GatherElements { axis: time }, &[x, index])?])
})
.attrs(&["batch_axis", "time_axis"])];
