//! NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

use xlac_ir::DType;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::GatherElements;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("NegativeLogLikelihoodLoss", (2, 3), |n, b| Ok(vec![loss(n, b, n.input(0)?)?]))
        .attrs(&["ignore_index", "reduction"]),
    OnnxOp::new("SoftmaxCrossEntropyLoss", (2, 3), |n, b| {
        let x = n.input(0)?;
        ensure!(b.rank(x) >= 2, TYPES, "the scores have {} axes, expected at least 2", b.rank(x));
        let max = b.reduce(ReduceFn::Max, x, &[1], true)?;
        let shifted = b.sub(x, max)?;
        let e = b.exp(shifted)?;
        let sum = b.reduce(ReduceFn::Sum, e, &[1], true)?;
        let log = b.log(sum)?;
        let logs = b.sub(shifted, log)?;
        Ok(vec![loss(n, b, logs)?, logs])
    })
    .attrs(&["ignore_index", "reduction"]),
];

/// The loss of log-probabilities `logs` with classes along axis 1.
fn loss(n: &Node, b: &mut Builder, logs: ValueId) -> Res<ValueId> {
    let t = b.dtype(logs);
    ensure!(b.rank(logs) >= 2, TYPES, "the input has {} axes, expected at least 2", b.rank(logs));
    let mut target = b.cast(n.input(1)?, DType::I64)?;
    let ignored = match n.int_opt("ignore_index")? {
        Some(i) => {
            let i = b.int(i);
            let ignored = b.eq(target, i)?;
            // Class 0 in place of the ignored ones, which may lie outside of the classes.
            let zero = b.int(0);
            target = b.select(ignored, zero, target)?;
            Some(ignored)
        }
        None => None,
    };
    let index = b.unsqueeze(target, &[1])?;
    let picked = b.op(GatherElements { axis: 1 }, &[logs, index])?;
    let picked = b.squeeze(picked, &[1])?;
    let mut loss = b.neg(picked)?;
    let mut weight = match n.opt(2) {
        Some(w) => Some(b.gather(w, target, 0)?),
        None => None,
    };
    if let Some(ignored) = ignored {
        let (zero, one) = (b.scalar(t, 0.0), b.scalar(t, 1.0));
        let base = weight.unwrap_or(one);
        weight = Some(b.select(ignored, zero, base)?);
        // What is ignored may be infinite: zero times that would be NaN.
        loss = b.select(ignored, zero, loss)?;
    }
    if let Some(w) = weight {
        loss = b.mul(loss, w)?;
    }
    let axes: Vec<usize> = (0..b.rank(loss)).collect();
    match n.word("reduction", "mean")? {
        "none" => Ok(loss),
        "sum" => b.reduce(ReduceFn::Sum, loss, &axes, false),
        "mean" => match weight {
            None => b.mean(loss, &axes, false),
            Some(w) => {
                let (sum, total) = (b.reduce(ReduceFn::Sum, loss, &axes, false)?, b.reduce(ReduceFn::Sum, w, &axes, false)?);
                b.div(sum, total)
            }
        },
        other => bail!(ATTRIBUTE_VALUE, "`reduction` cannot be `{other}`"),
    }
}
