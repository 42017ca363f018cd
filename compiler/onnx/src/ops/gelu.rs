//! Gelu and its relatives: `x * Phi(x)`, exactly through erf or approximated through tanh.

use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail};
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Gelu", (1, 1), |n, b| {
        let x = n.input(0)?;
        match n.word("approximate", "none")? {
            "none" => Ok(vec![exact(b, x)?]),
            "tanh" => Ok(vec![approximate(b, x)?]),
            other => bail!(ATTRIBUTE_VALUE, "`approximate` cannot be `{other}`: `none` and `tanh` are possible"),
        }
    })
    .attrs(&["approximate"])
    .opsets(20, i64::MAX),
    OnnxOp::new("Gelu", (1, 1), |n, b| Ok(vec![exact(b, n.input(0)?)?])).domain("com.microsoft"),
    OnnxOp::new("BiasGelu", (2, 2), |n, b| {
        let x = b.add(n.input(0)?, n.input(1)?)?;
        Ok(vec![exact(b, x)?])
    })
    .domain("com.microsoft"),
    OnnxOp::new("FastGelu", (1, 2), |n, b| {
        let x = match n.opt(1) {
            Some(bias) => b.add(n.input(0)?, bias)?,
            None => n.input(0)?,
        };
        Ok(vec![approximate(b, x)?])
    })
    .domain("com.microsoft"),
];

/// `0.5 * x * (1 + erf(x / sqrt(2)))`
fn exact(b: &mut Builder, x: ValueId) -> Res<ValueId> {
    let scaled = b.div_scalar(x, std::f64::consts::SQRT_2)?;
    let e = b.erf(scaled)?;
    half_gate(b, x, e)
}

/// `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`
fn approximate(b: &mut Builder, x: ValueId) -> Res<ValueId> {
    let square = b.mul(x, x)?;
    let cube = b.mul(square, x)?;
    let cube = b.mul_scalar(cube, 0.044715)?;
    let sum = b.add(x, cube)?;
    let scaled = b.mul_scalar(sum, (2.0 / std::f64::consts::PI).sqrt())?;
    let t = b.tanh(scaled)?;
    half_gate(b, x, t)
}

fn half_gate(b: &mut Builder, x: ValueId, t: ValueId) -> Res<ValueId> {
    let gate = b.add_scalar(t, 1.0)?;
    let half = b.mul_scalar(x, 0.5)?;
    b.mul(half, gate)
}
