//! MatMulInteger: product of quantized matrices, exact in i32.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::Res;
use crate::ops::{OnnxOp, matmul};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("MatMulInteger", (2, 4), |n, b| {
    Ok(vec![product(b, n.input(0)?, n.input(1)?, n.opt(2), n.opt(3))?])
})];

/// The product with zero points taken off.
pub fn product(b: &mut Builder, x: ValueId, y: ValueId, x_zero: Option<ValueId>, y_zero: Option<ValueId>) -> Res<ValueId> {
    // A vector of zero points belongs to the rows of the first matrix, and to the columns of the second.
    let x = centered(b, x, x_zero, |b, z| if b.rank(z) == 1 { rows(b, z) } else { Ok(z) })?;
    let y = centered(b, y, y_zero, |_, z| Ok(z))?;
    matmul::product(b, x, y, DType::I32)
}

/// A vector as a column; of one element, as a scalar.
pub fn rows(b: &mut Builder, z: ValueId) -> Res<ValueId> {
    let count = b.shape(z)[0].clone();
    if count.is(1) { b.reshape(z, &[]) } else { b.reshape(z, &[count, Dim::ONE]) }
}

/// `x - zero` in i32; zero points that are the constant 0 change nothing, and the narrow type stays.
pub fn centered(
    b: &mut Builder,
    x: ValueId,
    zero: Option<ValueId>,
    fit: impl Fn(&mut Builder, ValueId) -> Res<ValueId>,
) -> Res<ValueId> {
    let Some(zero) = zero.filter(|&z| b.known_ints(z).is_none_or(|k| k.iter().any(|&k| k != 0))) else { return Ok(x) };
    let (x, zero) = (b.cast(x, DType::I32)?, b.cast(zero, DType::I32)?);
    let zero = fit(b, zero)?;
    b.sub(x, zero)
}
