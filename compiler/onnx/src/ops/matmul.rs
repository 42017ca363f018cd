//! MatMul as in numpy: vectors count as matrices of one row or column.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::MatMul;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("MatMul", (2, 2), |n, b| {
    let (x, y) = (n.input(0)?, n.input(1)?);
    ensure!(b.dtype(x) == b.dtype(y), TYPES, "operands have different element types: {} and {}", b.dtype(x), b.dtype(y));
    Ok(vec![product(b, x, y, b.dtype(x))?])
})];

/// The product, with elements of type `out`.
pub fn product(b: &mut Builder, x: ValueId, y: ValueId, out: DType) -> Res<ValueId> {
    let (rx, ry) = (b.rank(x), b.rank(y));
    ensure!(rx > 0 && ry > 0, TYPES, "a scalar is no matrix");
    let x = if rx == 1 { b.unsqueeze(x, &[0])? } else { x };
    let y = if ry == 1 { b.unsqueeze(y, &[1])? } else { y };
    let (sx, sy) = (b.shape(x), b.shape(y));
    b.equal(&sx[sx.len() - 1], &sy[sy.len() - 2], "inner sizes of a matrix product")?;
    let batch = (sx.len() - 2).min(sy.len() - 2);
    for i in 1..=batch {
        let (p, q) = (&sx[sx.len() - 2 - i], &sy[sy.len() - 2 - i]);
        if !p.is(1) && !q.is(1) {
            b.equal(p, q, "batches of a matrix product")?;
        }
    }
    let z = b.op(MatMul { trans_a: false, trans_b: false, out }, &[x, y])?;
    let mut shape: Vec<Dim> = b.shape(z);
    if ry == 1 {
        shape.pop();
    }
    if rx == 1 {
        shape.remove(shape.len() - usize::from(ry != 1) - 1);
    }
    b.reshape(z, &shape)
}
