//! EyeLike: ones on a diagonal.

use xlac_ir::DType;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("EyeLike", (1, 1), |n, b| {
    let x = n.input(0)?;
    let shape = b.shape(x);
    ensure!(shape.len() == 2, TYPES, "the input has {} axes, expected 2", shape.len());
    let to = n.dtype("dtype", b.dtype(x))?;
    let rows = b.iota_along(&shape[0], DType::I64, 0, 2)?;
    let columns = b.iota_along(&shape[1], DType::I64, 1, 2)?;
    let k = b.int(n.int("k", 0)?);
    let shifted = b.add(rows, k)?;
    let on = b.eq(shifted, columns)?;
    Ok(vec![b.cast(on, to)?])
})
.attrs(&["dtype", "k"])];
