//! OneHot: one value where the index is, another elsewhere.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::kernel::Pred;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("OneHot", (3, 3), |n, b| {
    let indices = b.cast(n.input(0)?, DType::I64)?;
    let depth = b.cast(n.input(1)?, DType::I64)?;
    let depth = b.dim_of(depth, "the input `depth`")?;
    ensure!(depth.as_const().is_none_or(|d| d > 0), BAD_SIZE, "the input `depth` is {depth}");
    let values = n.input(2)?;
    b.equal(&b.ty(values).elements(), &Dim::from(2i64), "the values are off and on")?;
    let rank = b.rank(indices) + 1;
    let axis = b.axis(n.int("axis", -1)?, rank)?;
    let size = b.dim_scalar(DType::I64, &depth)?;
    let negative = b.compare_scalar(Pred::Lt, indices, 0.0)?;
    let wrapped = b.add(indices, size)?;
    let indices = b.select(negative, wrapped, indices)?;
    let indices = b.unsqueeze(indices, &[axis])?;
    let count = b.iota_along(&depth, DType::I64, axis, rank)?;
    let hot = b.eq(indices, count)?;
    let (off, on) = (b.pick(values, 0, 0)?, b.pick(values, 0, 1)?);
    Ok(vec![b.select(hot, on, off)?])
})
.attrs(&["axis"])];
