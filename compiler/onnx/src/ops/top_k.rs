//! TopK: `k` as an attribute before opset 10, as an input since.

use xlac_ir::dim::Dim;
use xlac_ir::ops::TopK;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("TopK", (1, 2), |n, b| {
    let x = n.input(0)?;
    let axis = b.axis(n.int("axis", -1)?, b.rank(x))?;
    let k = if n.opset < 10 { Dim::from(n.int_required("k")?) } else { b.dim_of(n.input(1)?, "the input `k`")? };
    ensure!(k.as_const().is_none_or(|k| k >= 0), TYPES, "`k` is {k}");
    b.at_most(&k, &b.shape(x)[axis].clone(), "`k` is at most the size of the axis")?;
    b.ops(TopK { k: vec![k], axis, largest: n.flag("largest", true)? }, &[x])
})
.attrs(&["axis", "k", "largest", "sorted"])];
