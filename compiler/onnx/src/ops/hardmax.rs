//! Hardmax: 1 at the first maximum, 0 elsewhere.

use xlac_ir::DType;
use xlac_ir::ops::ArgReduce;

use crate::ops::{OnnxOp, softmax};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Hardmax", (1, 1), |n, b| {
    softmax::along(n, b, |b, x, axis| {
        let at = b.op(ArgReduce { largest: true, axis, last: false }, &[x])?;
        let rank = b.rank(x);
        let count = b.iota_along(&b.shape(x)[axis].clone(), DType::I64, axis, rank)?;
        let hot = b.eq(count, at)?;
        b.cast(hot, b.dtype(x))
    })
})
.attrs(&["axis"])];
