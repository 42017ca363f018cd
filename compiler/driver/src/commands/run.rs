//! `xlac run`: runs a model or an artifact once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use xlac_ir::tensor::Tensor;

use super::args::{Build, Inputs, On};
use super::{Outcome, load};
use crate::engine::Slot;
use crate::render::{self, Ui};
use crate::{case, data};

/// Arguments of `xlac run`.
#[derive(clap::Args)]
pub struct Args {
    /// A model, an artifact, or a test case's folder
    file: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Write the outputs to this .npz file
    #[arg(short, long, value_name = "OUT.npz")]
    output: Option<PathBuf>,
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    build: Build,
    /// Print the outputs as JSON
    #[arg(long)]
    json: bool,
    /// Print the largest elements of each output with their positions
    #[arg(long, value_name = "K")]
    top: Option<usize>,
}

/// Elements shown of each output.
const SHOWN: usize = 8;

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let case = case::open(&args.file)?;
    let mut loaded = load::load(ui, &case, &args.build, &args.inputs, &args.on)?;
    let inputs = load::inputs(ui, &loaded.engine, &case, &args.build, &args.inputs)?;
    let start = Instant::now();
    let outputs = loaded.engine.run(&inputs)?;
    ui.detail(&format!("ran in {:.3} ms", start.elapsed().as_secs_f64() * 1e3));
    let slots = loaded.engine.outputs();
    if let Some(path) = &args.output {
        let named: Vec<(String, Tensor)> = slots.iter().map(|s| s.name.clone()).zip(outputs.iter().cloned()).collect();
        data::write_npz(path, &named)?;
        ui.status("Wrote", &path.display().to_string());
    }
    match (args.json, args.output) {
        (true, _) => ui.result(&as_json(&slots, &outputs)),
        (false, Some(_)) if args.top.is_none() => {}
        _ => outputs.iter().zip(&slots).for_each(|(t, slot)| ui.result(&show(slot, t, args.top))),
    }
    Ok(())
}

fn as_json(slots: &[Slot], outputs: &[Tensor]) -> String {
    let output = |(slot, t): (&Slot, &Tensor)| {
        let values: Vec<serde_json::Value> =
            if t.dtype.in_kernels() { t.iter().map(element_json).collect() } else { Vec::new() };
        json!({ "name": slot.name, "dtype": t.dtype.name(), "shape": t.shape, "data": values })
    };
    let all: Vec<_> = slots.iter().zip(outputs).map(output).collect();
    json!({ "outputs": all }).to_string()
}

/// JSON has no NaN and no infinities: they become text.
fn element_json(c: xlac_ir::kernel::Const) -> serde_json::Value {
    let text = data::show(c);
    serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
}

fn show(slot: &Slot, tensor: &Tensor, top: Option<usize>) -> String {
    let head = format!("{} {}{:?}", render::bold(&slot.name), tensor.dtype, tensor.shape);
    if !tensor.dtype.in_kernels() {
        return head;
    }
    if let Some(k) = top {
        return format!("{head}\n{}", show_top(tensor, k));
    }
    let first: Vec<String> = tensor.iter().take(SHOWN).map(data::show).collect();
    let more = if tensor.len() > SHOWN { ", ..." } else { "" };
    format!("{head}\n  {}{more}{}", first.join(", "), statistics(tensor))
}

fn show_top(tensor: &Tensor, k: usize) -> String {
    let values = tensor.to_f64();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let line = |&i: &usize| format!("  {:>6}  {}", i, data::show(tensor.get(i)));
    order.iter().take(k).map(line).collect::<Vec<_>>().join("\n")
}

fn statistics(tensor: &Tensor) -> String {
    if tensor.len() <= SHOWN || !tensor.dtype.is_float() {
        return String::new();
    }
    let values = tensor.to_f64();
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let nan = values.iter().filter(|v| v.is_nan()).count();
    let nan = if nan > 0 { format!(", {nan} NaN") } else { String::new() };
    format!("\n  min {low:.6}, max {high:.6}, mean {mean:.6}{nan}")
}
