//! `xlac inspect`: what is in an artifact or a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use xlac_runtime::{Artifact, Model, TensorInfo};

use super::args::Build;
use super::Outcome;
use crate::case::{self, File};
use crate::compile::{self, Report, Source, cannot};
use crate::engine::{Engine, Slot, runtime_error};
use crate::render::{self, Ui};

/// Arguments of `xlac inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// A model, an artifact, or a test case's folder
    file: PathBuf,
    #[command(flatten)]
    build: Build,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let case = case::open(&args.file)?;
    let (json, text) = match &case.file {
        File::Artifact(path) => artifact(path)?,
        File::Model(path) => model(ui, path, &args.build)?,
    };
    ui.finish();
    if args.json { ui.result(&json.to_string()) } else { ui.result(&text) }
    Ok(())
}

fn hex(bytes: &[u8]) -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() }

fn artifact(path: &Path) -> Result<(Value, String), Vec<xlac_ir::diag::Diagnostic>> {
    let artifact = Artifact::open(path).map_err(|e| vec![runtime_error(e)])?;
    let meta = artifact.metadata().clone();
    let sections = artifact.sections();
    let variants: Vec<Value> = meta.variants.iter().enumerate().map(|(i, v)| {
        let plan = artifact.plan(i).unwrap_or_default();
        json!({
            "target": v.target, "arch": v.arch, "features": v.features, "backend": v.backend,
            "kernels": plan.kernels.iter().map(|k| json!({ "name": k.name, "nodes": k.nodes })).collect::<Vec<_>>(),
            "launches": launches(&plan.steps),
            "memory": xlac_runtime::expr::describe(&plan, plan.arena_bytes),
        })
    }).collect();
    let mut json = json!({
        "kind": "artifact", "producer": meta.producer, "model": meta.model_name, "model_hash": hex(&meta.model_hash),
        "numerics": meta.numerics, "notes": meta.notes, "variants": variants,
        "sections": sections.iter().map(|s| json!({
            "kind": s.kind, "variant": s.variant, "offset": s.offset, "bytes": s.len, "digest": hex(&s.digest),
        })).collect::<Vec<_>>(),
    });
    let mut text = format!(
        "{} compiled by {}, {} numerics\nmodel digest  {}\n",
        render::bold(&meta.model_name), meta.producer, meta.numerics, hex(&meta.model_hash)
    );
    match Model::from_artifact(artifact) {
        Ok(model) => {
            add_io(&mut json, &mut text, &model.inputs(), &model.outputs());
            let formula = model.memory_formula();
            text.push_str(&format!("working memory {formula} bytes\n"));
            json["memory"] = json!(formula);
            if let Some(peak) = static_peak(&model) {
                text.push_str(&format!("peak memory    {peak} bytes on one thread, and {} of weights\n", render::bytes(model.weight_bytes() as u64)));
                json["peak_bytes"] = json!(peak);
            }
            json["weight_bytes"] = json!(model.weight_bytes());
        }
        Err(e) => text.push_str(&format!("cannot run here: {e}\n")),
    }
    text.push_str(&variant_text(&json["variants"]));
    let row = |s: &xlac_runtime::SectionInfo| vec![s.kind.into(), s.variant.to_string(), s.offset.to_string(), s.len.to_string(), hex(&s.digest)[..16].into()];
    let rows: Vec<Vec<String>> = sections.iter().map(row).collect();
    text.push('\n');
    text.push_str(&render::table(&["section", "variant", "offset", "bytes", "digest"], &[false, true, true, true, false], &rows));
    Ok((json, text))
}

/// Launches in a list of steps, each once however often a loop repeats it.
fn launches(steps: &[xlac_runtime::plan::Step]) -> usize {
    use xlac_runtime::plan::Step;
    let count = |s: &Step| match s {
        Step::Launch(_) => 1,
        Step::If { then_steps, else_steps, .. } => launches(then_steps) + launches(else_steps),
        Step::Loop { body, .. } => launches(body),
        _ => 0,
    };
    steps.iter().map(count).sum()
}

fn variant_text(variants: &Value) -> String {
    let mut text = String::new();
    for v in variants.as_array().into_iter().flatten() {
        let word = |key: &str| v[key].as_str().unwrap_or("").to_string();
        let features: Vec<&str> = v["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let kernels = v["kernels"].as_array().map_or(0, Vec::len);
        text.push_str(&format!(
            "\n{} {} by {}: {kernels} kernels, {} launches\n  needs {}\n",
            render::bold(&word("target")), word("arch"), word("backend"), v["launches"], features.join(" ")
        ));
    }
    text
}

/// Peak memory, if no shape depends on a symbol.
fn static_peak(model: &Model) -> Option<u64> {
    let shapes: Option<Vec<Vec<usize>>> =
        model.inputs().iter().map(|i| i.shape.iter().map(|d| d.parse().ok()).collect()).collect();
    let shapes = shapes?;
    let views: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    model.peak_bytes(&views).ok()
}

fn add_io(json: &mut Value, text: &mut String, inputs: &[TensorInfo], outputs: &[TensorInfo]) {
    let as_json = |t: &TensorInfo| json!({ "name": t.name, "dtype": t.dtype.name(), "shape": t.shape });
    json["inputs"] = inputs.iter().map(as_json).collect();
    json["outputs"] = outputs.iter().map(as_json).collect();
    for (word, list) in [("input ", inputs), ("output", outputs)] {
        list.iter().for_each(|t| text.push_str(&format!("{word}  {}: {}[{}]\n", t.name, t.dtype, t.shape.join(", "))));
    }
}

fn slot_info(slot: &Slot) -> (Value, String) {
    let shape: Vec<String> = slot.shape.iter().map(ToString::to_string).collect();
    let text = format!("{}: {}[{}]", slot.name, slot.dtype, shape.join(", "));
    (json!({ "name": slot.name, "dtype": slot.dtype.name(), "shape": shape }), text)
}

fn model(ui: &Arc<Ui>, path: &Path, build: &Build) -> Result<(Value, String), Vec<xlac_ir::diag::Diagnostic>> {
    let ops = histogram(path)?;
    let mut json = json!({ "kind": "model", "file": path.display().to_string(), "ops": ops });
    let mut text = format!("{}\n", render::bold(&path.display().to_string()));
    let options = build.options(ui);
    let mut report = Report::default();
    let imported = compile::import(&Source::Path(path.into()), &options);
    match imported {
        Ok(imported) => {
            let opsets: Vec<String> =
                imported.info.opsets.iter().map(|(d, v)| format!("{} {v}", if d.is_empty() { "ai.onnx" } else { d })).collect();
            text.push_str(&format!("made by {} {}, opsets {}\n", imported.info.producer, imported.info.producer_version, opsets.join(", ")));
            let weights: usize = imported.program.weights.iter().map(|(_, w)| w.tensor.data.len()).sum();
            let engine = Engine::Interp(Box::new(imported.program));
            for (word, key, slots) in [("input ", "inputs", engine.inputs()), ("output", "outputs", engine.outputs())] {
                let infos: Vec<(Value, String)> = slots.iter().map(slot_info).collect();
                json[key] = infos.iter().map(|(v, _)| v.clone()).collect();
                infos.iter().for_each(|(_, line)| text.push_str(&format!("{word}  {line}\n")));
            }
            text.push_str(&format!("weights {}\n", render::bytes(weights as u64)));
            json["opsets"] = json!(imported.info.opsets);
            json["weight_bytes"] = json!(weights);
            json["unsupported"] = json!([]);
            report.warnings = imported.warnings;
        }
        Err(errors) => {
            let list: Vec<String> = errors.iter().map(|e| format!("{}: {e}", e.code)).collect();
            text.push_str(&format!("\nstands in the way of compiling:\n  {}\n", list.join("\n  ")));
            json["unsupported"] = json!(list);
        }
    }
    let mut counts: Vec<(&String, &usize)> = ops.iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    let rows: Vec<Vec<String>> = counts.iter().map(|(name, count)| vec![count.to_string(), name.to_string()]).collect();
    text.push('\n');
    text.push_str(&render::table(&["count", "operator"], &[true, false], &rows));
    report.warnings.iter().for_each(|w| ui.diagnostic(w));
    Ok((json, text))
}

/// How often each operator occurs, subgraphs and functions included.
fn histogram(path: &Path) -> Result<BTreeMap<String, usize>, Vec<xlac_ir::diag::Diagnostic>> {
    let bytes = std::fs::read(path).map_err(|e| vec![cannot("read", path, &e)])?;
    let model = xlac_onnx::proto::decode(bytes.into()).map_err(|e| vec![e.into_diagnostic()])?;
    let mut ops = BTreeMap::new();
    let nodes = model.graph.iter().flat_map(|g| &g.node).chain(model.functions.iter().flat_map(|f| &f.node));
    nodes.for_each(|n| count(n, &mut ops, 0));
    Ok(ops)
}

fn count(node: &xlac_onnx::proto::NodeProto, ops: &mut BTreeMap<String, usize>, depth: usize) {
    let name = if node.domain.is_empty() { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) };
    *ops.entry(name).or_default() += 1;
    if depth < 64 {
        let graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
        graphs.flat_map(|g| &g.node).for_each(|n| count(n, ops, depth + 1));
    }
}
