//! Pow: the exponent may have another element type than the base.

use xlac_ir::DType;

use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Pow", (2, 2), |n, b| {
    let (x, y) = (n.input(0)?, n.input(1)?);
    let (base, exponent) = (b.dtype(x), b.dtype(y));
    if base == exponent {
        return Ok(vec![b.pow(x, y)?]);
    }
    // Computed in the wider of the two kinds, so that neither operand loses its value, and converted at the end.
    let wide = match (base.is_float(), exponent.is_float()) {
        (true, _) => base,
        (false, true) if base.bits() == 64 || exponent == DType::F64 => DType::F64,
        (false, true) => exponent,
        (false, false) => DType::I64,
    };
    let (x, y) = (b.cast(x, wide)?, b.cast(y, wide)?);
    let z = b.pow(x, y)?;
    Ok(vec![b.cast(z, base)?])
})
.attrs(&["axis", "broadcast"])];
