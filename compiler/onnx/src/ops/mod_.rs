//! Mod: remainder with the divisor's sign, or the dividend's with `fmod`.

use xlac_ir::elementwise::BinaryFn;

use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Mod", (2, 2), |n, b| {
    let (x, y) = (n.input(0)?, n.input(1)?);
    let fmod = n.flag("fmod", false)?;
    Ok(vec![b.binary(if fmod { BinaryFn::Fmod } else { BinaryFn::Mod }, x, y)?])
})
.attrs(&["fmod"])];
