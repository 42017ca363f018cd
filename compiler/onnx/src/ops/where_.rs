//! Where: chooses between two tensors element by element.

use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Where", (3, 3), |n, b| {
    Ok(vec![b.select(n.input(0)?, n.input(1)?, n.input(2)?)?])
})];
