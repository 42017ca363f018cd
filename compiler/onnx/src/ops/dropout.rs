//! Dropout in inference: the input itself, and a mask that keeps everything.

use crate::fail::ensure;
use crate::ops::OnnxOp;
use xlac_ir::DType;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Dropout", (1, 3), |n, b| {
    let x = n.input(0)?;
    if let Some(training) = n.opt(2) {
        let off = b.known_ints(training).is_some_and(|t| t == [0]);
        let none = n.opt(1).and_then(|r| b.tensor(r)).is_some_and(|r| r.to_f64() == [0.0]);
        ensure!(off || none, UNSUPPORTED_FORM, "`training_mode` must be the constant false: XLAC runs inference");
    }
    if !n.wants(1) {
        return Ok(vec![x]);
    }
    // The mask is bool since opset 10, of the input's type before.
    let dtype = if n.opset >= 10 { DType::Bool } else { b.dtype(x) };
    let mask = b.filled(dtype, &b.shape(x), 1.0)?;
    Ok(vec![x, mask])
})
.attrs(&["ratio", "seed", "is_test", "consumed_inputs"])];
