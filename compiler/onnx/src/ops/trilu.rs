//! Trilu: the upper or lower triangle of matrices.

use xlac_ir::DType;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Trilu", (1, 2), |n, b| {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let rank = shape.len();
    ensure!(rank >= 2, TYPES, "the input has {rank} axes, expected at least 2");
    let k = match n.opt(1) {
        Some(k) => b.reshape(k, &[])?,
        None => b.int(0),
    };
    let rows = b.iota_along(&shape[rank - 2], DType::I64, 0, 2)?;
    let columns = b.iota_along(&shape[rank - 1], DType::I64, 1, 2)?;
    let offset = b.sub(columns, rows)?;
    let keep = if n.flag("upper", true)? { b.ge(offset, k)? } else { b.le(offset, k)? };
    let zero = b.scalar(b.dtype(x), 0.0);
    Ok(vec![b.select(keep, x, zero)?])
})
.attrs(&["upper"])];
