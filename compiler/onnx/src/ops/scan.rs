//! Scan: a loop over slices of its inputs.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::import::subgraph;
use crate::node::Node;
use crate::ops::control_flow::{Plan, Step, run_loop};
use crate::ops::{MANY, OnnxOp};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Scan", (1, MANY), import)
    .attrs(&[
        "body", "num_scan_inputs", "scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions",
    ])
    .opsets(9, i64::MAX)];

fn import<'m>(n: &Node<'m>, b: &mut Builder<'m>) -> Res<Vec<ValueId>> {
    let body = n.graph("body")?;
    let inputs = n.all_inputs()?;
    n.int_required("num_scan_inputs")?;
    let scanned = n.size("num_scan_inputs", 1)?;
    ensure!(scanned <= inputs.len(), ATTRIBUTE_VALUE, "`num_scan_inputs` is {scanned}, but there are {} inputs", inputs.len());
    let states = inputs.len() - scanned;
    let axes = list(n, "scan_input_axes", scanned)?;
    let directions = list(n, "scan_input_directions", scanned)?;
    let mut sources = Vec::new();
    let mut length: Option<Dim> = None;
    for (i, &x) in inputs[states..].iter().enumerate() {
        let axis = b.axis(axes[i], b.rank(x))?;
        let size = b.shape(x)[axis].clone();
        match &length {
            Some(l) => b.equal(l, &size, "scanned inputs are equally long")?,
            None => length = Some(size),
        }
        // Reversed once outside rather than indexed backwards in every trip.
        let x = if directions[i] == 1 { b.reverse(x, axis)? } else { x };
        sources.push(b.move_axis(x, axis, 0)?);
    }
    let length = length.unwrap_or(Dim::ZERO);
    let trips = b.dim_scalar(DType::I64, &length)?;
    let plan = Plan { trips: Some(trips), condition: None, carried: inputs[..states].to_vec(), hint: n.name.clone() };
    let results = run_loop(b, plan, |b, trip, carried| {
        let mut inputs = carried.to_vec();
        for &x in &sources {
            inputs.push(b.gather(x, trip, 0)?);
        }
        let values = subgraph(body, &inputs, b)?;
        ensure!(values.len() >= states, SUBGRAPH, "the body gives {} results for {states} states", values.len());
        Ok(Step { go_on: None, values })
    })?;
    let outputs = results.len() - states;
    let axes = list(n, "scan_output_axes", outputs)?;
    let directions = list(n, "scan_output_directions", outputs)?;
    let mut out = results[..states].to_vec();
    for (i, &y) in results[states..].iter().enumerate() {
        let y = if directions[i] == 1 { b.reverse(y, 0)? } else { y };
        let axis = b.axis(axes[i], b.rank(y))?;
        out.push(b.move_axis(y, 0, axis)?);
    }
    Ok(out)
}

/// An attribute of one integer for each input or output, 0 by default.
fn list(n: &Node, name: &str, count: usize) -> Res<Vec<i64>> {
    let given = n.ints(name)?.map_or_else(|| vec![0; count], <[i64]>::to_vec);
    ensure!(given.len() == count, ATTRIBUTE_VALUE, "`{name}` has {} elements, expected {count}", given.len());
    Ok(given)
}
