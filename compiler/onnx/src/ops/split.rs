//! Split: sizes as an attribute before opset 13, as an input since; equal parts without.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Split", (1, 2), import).attrs(&["axis", "num_outputs", "split"])];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let axis = b.axis(n.int("axis", 0)?, b.rank(x))?;
    let total = b.shape(x)[axis].clone();
    let count = n.proto.output.len();
    let given = match (n.ints("split")?, n.opt(1)) {
        (Some(s), _) => Some(s.iter().map(|&d| Dim::from(d)).collect()),
        (None, Some(v)) => Some(b.dims_of(v, "the input `split`")?),
        (None, None) => None,
    };
    let sizes = match given {
        Some(sizes) => sizes,
        None => equal_parts(n, &total, count)?,
    };
    ensure!(sizes.len() == count, TYPES, "{} sizes for {count} outputs", sizes.len());
    ensure!(sizes.iter().all(|d| d.as_const() >= Some(0) || d.as_const().is_none()), TYPES, "a size is negative");
    let sum = sizes.iter().fold(Dim::ZERO, |a, d| &a + d);
    b.equal(&sum, &total, "the parts add up to the axis")?;
    let mut start = Dim::ZERO;
    let mut parts = Vec::new();
    for size in &sizes {
        parts.push(b.slice(x, axis, &start, size)?);
        start = &start + size;
    }
    Ok(parts)
}

/// Equal parts; since opset 18 the last one may be smaller.
fn equal_parts(n: &Node, total: &Dim, count: usize) -> Res<Vec<Dim>> {
    if let Some(wanted) = n.int_opt("num_outputs")? {
        ensure!(wanted == count as i64, ATTRIBUTE_VALUE, "`num_outputs` is {wanted}, but there are {count} outputs");
    }
    let parts = Dim::from(count);
    if let (Some(t), ..18) = (total.as_const(), n.opset) {
        ensure!(t % count as i64 == 0, TYPES, "{t} elements do not split into {count} equal parts");
    }
    let size = total.ceil_div(&parts);
    let mut sizes = vec![size.clone(); count];
    let before = &size * &Dim::from(count - 1);
    let last = total - &before;
    ensure!(last.as_const().is_none_or(|l| l >= 0), TYPES, "{total} elements do not split into {count} parts");
    sizes[count - 1] = last;
    Ok(sizes)
}
