//! Gemm: `alpha * A * B + beta * C`, operands transposed as asked.

use xlac_ir::graph::ValueId;
use xlac_ir::ops::MatMul;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Gemm", (2, 3), import).attrs(&["alpha", "beta", "broadcast", "transA", "transB"])];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, y) = (n.input(0)?, n.input(1)?);
    let out = b.dtype(x);
    ensure!(b.rank(x) == 2 && b.rank(y) == 2, TYPES, "operands have {} and {} axes, expected 2", b.rank(x), b.rank(y));
    ensure!(b.dtype(y) == out, TYPES, "operands have different element types: {out} and {}", b.dtype(y));
    let (trans_a, trans_b) = (n.flag("transA", false)?, n.flag("transB", false)?);
    let (k, l) = (&b.shape(x)[usize::from(!trans_a)], &b.shape(y)[usize::from(trans_b)]);
    b.equal(k, l, "inner sizes of a matrix product")?;
    let product = b.op(MatMul { trans_a, trans_b, out }, &[x, y])?;
    let z = scaled(b, product, n.float("alpha", 1.0)?)?;
    let Some(c) = n.opt(2) else { return Ok(vec![z]) };
    let c = scaled(b, c, n.float("beta", 1.0)?)?;
    Ok(vec![b.add(z, c)?])
}

/// `x * factor`; integers are scaled in f64, because the factor is a float.
fn scaled(b: &mut Builder, x: ValueId, factor: f32) -> Res<ValueId> {
    let t = b.dtype(x);
    if factor == 1.0 {
        return Ok(x);
    }
    if t.is_float() {
        return b.mul_scalar(x, f64::from(factor));
    }
    let wide = b.cast(x, xlac_ir::DType::F64)?;
    let y = b.mul_scalar(wide, f64::from(factor))?;
    b.cast(y, t)
}
