//! Sum, Mean, Max and Min of any number of operands.

use xlac_ir::elementwise::BinaryFn;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::Res;
use crate::node::Node;
use crate::ops::{MANY, OnnxOp};

const LEGACY: &[&str] = &["consumed_inputs"];

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Max", (1, MANY), |n, b| chain(n, b, BinaryFn::Max)).attrs(LEGACY),
    OnnxOp::new("Mean", (1, MANY), |n, b| {
        let sum = chain(n, b, BinaryFn::Add)?[0];
        Ok(vec![b.div_scalar(sum, n.inputs.len() as f64)?])
    })
    .attrs(LEGACY),
    OnnxOp::new("Min", (1, MANY), |n, b| chain(n, b, BinaryFn::Min)).attrs(LEGACY),
    OnnxOp::new("Sum", (1, MANY), |n, b| chain(n, b, BinaryFn::Add)).attrs(LEGACY),
];

fn chain(n: &Node, b: &mut Builder, f: BinaryFn) -> Res<Vec<ValueId>> {
    let operands = n.all_inputs()?;
    let mut result = operands[0];
    for &x in &operands[1..] {
        result = b.binary(f, result, x)?;
    }
    Ok(vec![result])
}
