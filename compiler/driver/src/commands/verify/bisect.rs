//! Finds the first value of the optimized graph that diverges, by making values outputs, a bounded batch at a time.

use std::path::Path;
use std::sync::Arc;

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::{BODY, Graph, NodeId, Program, ValueId};
use xlac_ir::ops::Op;
use xlac_ir::tensor::Tensor;

use super::Args;
use crate::assemble::runtime_dtype;
use crate::compare;
use crate::compile::{self, CompileOptions, Report};
use crate::device::Place;
use crate::engine::Engine;
use crate::render::Ui;

/// Bytes of values in a batch, symbolic dims counted as 64.
const BATCH_BYTES: i64 = 256 << 20;
/// Values in a batch.
const BATCH_VALUES: usize = 256;

/// Runs the search and tells what it found.
pub fn run(ui: &Arc<Ui>, args: &Args, model: &Path, inputs: &[Tensor]) -> Result<(), Vec<Diagnostic>> {
    let place = args.on.place().map_err(|e| vec![e])?;
    let options = args.build.options_for(ui, place);
    let program = compile::import_optimized(&model.into(), &options, &mut Report::default())?;
    let values = candidates(&program.graph);
    let (mut start, mut checked) = (0, 0);
    while start < values.len() {
        let end = batch_end(&program.graph, &values, start);
        ui.phase(&format!("comparing values {start} to {end} of {}", values.len()));
        if let Some(text) = check_batch(args, &options, &program, &values[start..end], inputs)? {
            ui.result(&text);
            return Ok(());
        }
        checked += end - start;
        start = end;
    }
    ui.result(&format!(
        "none of {checked} intermediate values diverges when they are outputs themselves, which keeps kernels from being \
         fused: if an output differs, it is in a fused kernel"
    ));
    Ok(())
}

/// Values of the body that can be outputs, in the order they are computed, with their nodes.
fn candidates(graph: &Graph) -> Vec<(usize, NodeId, ValueId)> {
    let mut values = Vec::new();
    for (at, &id) in graph.region(BODY).nodes.iter().enumerate() {
        let node = graph.node(id);
        if matches!(node.op, Op::Weight(_) | Op::Constant(_)) {
            continue;
        }
        let visible = node.outputs.iter().filter(|&&v| runtime_dtype(graph.ty(v).dtype).is_some());
        values.extend(visible.map(|&v| (at, id, v)));
    }
    values
}

fn batch_end(graph: &Graph, values: &[(usize, NodeId, ValueId)], start: usize) -> usize {
    let mut bytes = 0i64;
    for (at, &(_, _, v)) in values.iter().enumerate().skip(start) {
        let ty = graph.ty(v);
        let count = ty.elements().eval(&|_| Some(64)).unwrap_or(BATCH_BYTES);
        bytes = bytes.saturating_add(count.saturating_mul(ty.dtype.size() as i64));
        if at > start && (bytes > BATCH_BYTES || at - start >= BATCH_VALUES) {
            return at;
        }
    }
    values.len()
}

/// The report about the first value of a batch that diverges.
fn check_batch(
    args: &Args,
    options: &CompileOptions,
    program: &Program,
    batch: &[(usize, NodeId, ValueId)],
    inputs: &[Tensor],
) -> Result<Option<String>, Vec<Diagnostic>> {
    let expose = || {
        let mut program = program.clone();
        let last = batch.last().map_or(0, |(at, ..)| *at);
        let body = program.graph.region_mut(BODY);
        // What comes later is of no interest, and the interpreter would run it.
        body.nodes.truncate(last + 1);
        body.outputs = batch.iter().map(|(_, _, v)| *v).collect();
        program.graph.output_names = (0..batch.len()).map(|i| format!("value_{i}").into()).collect();
        program
    };
    let device = args.on.place().and_then(Place::open).map_err(|e| vec![e])?;
    let got = Engine::compile_program(expose(), options, device, args.on.threads())?.run(inputs).map_err(|e| vec![e])?;
    let expected = Engine::Interp(Box::new(expose())).run(inputs).map_err(|e| vec![e])?;
    for (i, &(_, node, value)) in batch.iter().enumerate() {
        let difference = compare::difference(&got[i], &expected[i], args.tolerance(&expected[i]));
        if !difference.is_fine() {
            let (node, ty) = (program.graph.node(node), program.graph.ty(value));
            let names = if node.loc.0.is_empty() { "(no ONNX name)".into() } else { node.loc.0.join(", ") };
            let detail = difference.describe(&got[i], &expected[i]);
            return Ok(Some(format!("first to diverge: {names} (`{}` giving {ty}): {detail}", node.op.mnemonic())));
        }
    }
    Ok(None)
}
