//! Expand: broadcast in both directions.

use xlac_ir::dim::Dim;

use crate::builder::Builder;
use crate::fail::Res;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Expand", (2, 2), |n, b| {
    let x = n.input(0)?;
    let own = b.shape(x);
    let mut shape = b.dims_of(n.input(1)?, "the shape")?;
    while shape.len() < own.len() {
        shape.insert(0, Dim::ONE);
    }
    let missing = shape.len() - own.len();
    for (wanted, have) in shape[missing..].iter_mut().zip(&own) {
        // Of a size and a symbol the size is the result; the other is the same, or 1 and not told apart from it.
        let keep = wanted.is(1) || (!have.is(1) && have.as_const().is_some());
        if keep {
            if !wanted.is(1) {
                fits(b, wanted, have)?;
            }
            *wanted = have.clone();
        }
    }
    Ok(vec![b.broadcast(x, &shape)?])
})];

/// Asks for a size that is 1 or that of the input.
fn fits(b: &mut Builder, wanted: &Dim, have: &Dim) -> Res<()> {
    const WHY: &str = "the shape broadcasts against the input";
    if wanted.as_const().is_some() {
        return b.equal(wanted, have, WHY);
    }
    // One of two values is a root of the product of the differences.
    b.equal(&(&(wanted - &Dim::ONE) * &(wanted - have)), &Dim::ZERO, WHY)
}
