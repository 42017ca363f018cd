//! BitShift: shifts left or right.

use xlac_ir::elementwise::BinaryFn;

use crate::fail::bail;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("BitShift", (2, 2), |n, b| {
    let f = match n.word("direction", "")? {
        "LEFT" => BinaryFn::Shl,
        "RIGHT" => BinaryFn::Shr,
        other => bail!(ATTRIBUTE_VALUE, "`direction` cannot be `{other}`: `LEFT` and `RIGHT` are possible"),
    };
    Ok(vec![b.binary(f, n.input(0)?, n.input(1)?)?])
})
.attrs(&["direction"])];
