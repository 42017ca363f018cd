//! `xlac verify`: the target against the reference, per output and then per ONNX node.

mod bisect;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use xlac_codegen::Numerics;
use xlac_ir::diag::Diagnostic;
use xlac_ir::tensor::Tensor;

use super::args::{Build, Inputs, On};
use super::{Failure, Outcome, load};
use crate::case::{self, Case, File};
use crate::compare::{self, Difference, Tolerance};
use crate::compile::Source;
use crate::device::Place;
use crate::engine::{Engine, Slot};
use crate::render::{self, Ui};
use crate::{codes, data};

/// Arguments of `xlac verify`.
#[derive(clap::Args)]
pub struct Args {
    /// A model, a test case's folder, or (with `--against FILE.npz`) an artifact
    file: PathBuf,
    /// Reference: interp, another device (cpu, cuda, ptx-sim), a backend (cranelift or llvm), or given outputs (FILE.npz)
    #[arg(long, default_value = "interp", value_name = "REFERENCE")]
    against: String,
    /// Find the first ONNX node whose result diverges
    #[arg(long)]
    bisect: bool,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    build: Build,
    /// Relative tolerance instead of the default
    #[arg(long)]
    rtol: Option<f64>,
    /// Absolute tolerance instead of the default
    #[arg(long)]
    atol: Option<f64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What a value is held to: bits with `--numerics exact`, else an error bound that grows with the largest value.
    fn tolerance(&self, reference: &Tensor) -> Tolerance {
        if self.build.numerics() == Numerics::Exact && self.rtol.is_none() && self.atol.is_none() {
            return Tolerance::EXACT;
        }
        let base = Tolerance::scaled_to(reference);
        Tolerance { rtol: self.rtol.unwrap_or(base.rtol), atol: self.atol.unwrap_or(base.atol) }
    }
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let case = case::open(&args.file)?;
    let mut loaded = load::load(ui, &case, &args.build, &args.inputs, &args.on)?;
    let inputs = load::inputs(ui, &loaded.engine, &case, &args.build, &args.inputs)?;
    ui.phase("running the target");
    let got = loaded.engine.run(&inputs)?;
    let slots = loaded.engine.outputs();
    ui.phase(&format!("running the reference: {}", args.against));
    let expected = reference(ui, &args, &case, &slots, &inputs)?;
    let compared = compare_all(&args, &slots, &got, &expected);
    ui.finish();
    let bad = compared.iter().filter(|(_, d)| !d.is_fine()).count();
    if args.json {
        ui.result(&as_json(&compared, bad));
    } else {
        ui.result(&as_text(&compared));
    }
    if args.bisect {
        let File::Model(model) = &case.file else {
            return Err(Diagnostic::error(codes::USAGE, "`--bisect` needs the model, not an artifact").into());
        };
        bisect::run(ui, &args, model, &inputs)?;
    }
    if bad == 0 {
        return Ok(());
    }
    let first = compared.iter().position(|(_, d)| !d.is_fine()).unwrap_or_default();
    let (name, difference) = &compared[first];
    let detail = expected[first].as_ref().map(|e| difference.describe(&got[first], e)).unwrap_or_default();
    let d = Diagnostic::error(codes::DIFFERENT, format!("output `{name}`: {detail}"));
    ui.diagnostic(&if args.bisect { d } else { d.help("`--bisect` names the first node that diverges") });
    Err(Failure::Code(4))
}

/// The expected outputs; none where the reference has nothing under an output's name.
fn reference(
    ui: &Arc<Ui>,
    args: &Args,
    case: &Case,
    slots: &[Slot],
    inputs: &[Tensor],
) -> Result<Vec<Option<Tensor>>, Failure> {
    if args.against.ends_with(".npz") || Path::new(&args.against).is_dir() {
        let given = data::read_many(Path::new(&args.against))?;
        if !slots.iter().any(|s| given.contains_key(&s.name)) {
            let names: Vec<&str> = given.keys().map(String::as_str).collect();
            let message = format!("`{}` has none of the outputs, only {}", args.against, names.join(", "));
            return Err(Diagnostic::error(codes::BAD_DATA, message).into());
        }
        return Ok(slots.iter().map(|s| given.get(&s.name).cloned()).collect());
    }
    let File::Model(model) = &case.file else {
        let message = "an artifact can be compared with given outputs only";
        return Err(Diagnostic::error(codes::USAGE, message).help("give the model, or `--against FILE.npz`").into());
    };
    let source = Source::Path(model.clone());
    let mut engine = match args.against.as_str() {
        "interp" => Engine::interpret(&source, &args.build.options(ui))?.0,
        "cranelift" | "llvm" => {
            let build = Build { backend: Some(args.against.clone()), ..args.build.clone() };
            let options = build.options_for(ui, Place::Cpu);
            Engine::compile(&source, &options, Place::Cpu.open()?, args.on.threads())?.0
        }
        "onnxruntime" => {
            let message = format!("reference `{}` is not built in yet", args.against);
            let help = "run it yourself, save the outputs with numpy.savez, and use `--against FILE.npz`";
            return Err(Diagnostic::error(codes::NOT_BUILT_IN, message).help(help).into());
        }
        other => {
            let Ok(place) = Place::parse(other) else {
                let message = format!("there is no reference `{other}`");
                let help = "there are interp, cpu, cranelift, llvm, cuda, ptx-sim and FILE.npz";
                return Err(Diagnostic::error(codes::USAGE, message).help(help).into());
            };
            Engine::compile(&source, &args.build.options_for(ui, place), place.open()?, args.on.threads())?.0
        }
    };
    Ok(engine.run(inputs)?.into_iter().map(Some).collect())
}

fn compare_all(
    args: &Args,
    slots: &[Slot],
    got: &[Tensor],
    expected: &[Option<Tensor>],
) -> Vec<(String, Difference)> {
    let mut out = Vec::new();
    for ((slot, got), expected) in slots.iter().zip(got).zip(expected) {
        let difference = match expected {
            Some(expected) => compare::difference(got, expected, args.tolerance(expected)),
            None => Difference::default(),
        };
        out.push((slot.name.clone(), difference));
    }
    out
}

fn as_json(compared: &[(String, Difference)], bad: usize) -> String {
    let one = |(name, d): &(String, Difference)| {
        let number = |x: f64| if x.is_finite() { json!(x) } else { json!(x.to_string()) };
        json!({
            "name": name, "ok": d.is_fine(), "max_abs": number(d.abs), "max_rel": number(d.rel), "max_ulp": d.ulp,
            "outside": d.outside, "elements": d.elements, "kind": d.kind,
        })
    };
    let outputs: Vec<_> = compared.iter().map(one).collect();
    json!({ "ok": bad == 0, "outputs": outputs }).to_string()
}

fn as_text(compared: &[(String, Difference)]) -> String {
    let row = |(name, d): &(String, Difference)| {
        let verdict = match (&d.kind, d.is_fine()) {
            (Some(kind), _) => kind.clone(),
            (None, true) if d.ulp == 0 && d.abs == 0.0 => "equal".into(),
            (None, true) => "ok".into(),
            (None, false) => format!("{} of {} differ", d.outside, d.elements),
        };
        vec![name.clone(), format!("{:.3e}", d.abs), format!("{:.3e}", d.rel), d.ulp.to_string(), verdict]
    };
    let rows: Vec<Vec<String>> = compared.iter().map(row).collect();
    render::table(&["output", "max abs", "max rel", "max ulp", ""], &[false, true, true, true, false], &rows)
}
