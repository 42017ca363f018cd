//! IsInf: positive and negative infinity can each be left out.

use xlac_ir::DType;
use xlac_ir::elementwise::UnaryFn;

use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("IsInf", (1, 1), |n, b| {
    let x = n.input(0)?;
    let (negative, positive) = (n.flag("detect_negative", true)?, n.flag("detect_positive", true)?);
    Ok(vec![match (negative, positive) {
        (false, false) => b.filled(DType::Bool, &b.shape(x), 0.0)?,
        (true, false) => b.unary(UnaryFn::IsNegInf, x)?,
        (false, true) => b.unary(UnaryFn::IsPosInf, x)?,
        (true, true) => {
            let (low, high) = (b.unary(UnaryFn::IsNegInf, x)?, b.unary(UnaryFn::IsPosInf, x)?);
            b.or(low, high)?
        }
    }])
})
.attrs(&["detect_negative", "detect_positive"])];
