//! Shape and Size: `shape_fold` makes them dims; what it leaves is too large to be one.

use crate::fail::bail;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Shape", (1, 1), |_, _| bail!(UNSUPPORTED_FORM, "the input has too many axes")).attrs(&["start", "end"]),
    OnnxOp::new("Size", (1, 1), |_, _| bail!(UNSUPPORTED_FORM, "the input has too many axes")),
];
