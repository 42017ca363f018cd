//! From arguments to something that runs and the data to run it on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use xlac_ir::diag::Diagnostic;
use xlac_ir::tensor::Tensor;

use super::args::{Build, InputArg, Inputs, On};
use crate::case::{self, Case, File};
use crate::compile::{CompileOptions, Report, Source};
use crate::device::Place;
use crate::engine::{Engine, Slot};
use crate::render::Ui;
use crate::{codes, data};

/// Something to run, and how it came about.
pub struct Loaded {
    /// It.
    pub engine: Engine,
    /// What happened while compiling, if it was.
    pub report: Report,
}

/// Opens what the user named, and compiles it if it is a model.
pub fn load(
    ui: &Arc<Ui>,
    case: &Case,
    build: &Build,
    inputs: &Inputs,
    on: &On,
) -> Result<Loaded, Vec<Diagnostic>> {
    let place = on.place().map_err(|e| vec![e])?;
    let loaded = match (&case.file, place) {
        (File::Artifact(_), Place::Interp) => {
            let message = "an artifact holds machine code, which the interpreter cannot run";
            return Err(vec![Diagnostic::error(codes::USAGE, message).help("give the model instead")]);
        }
        (File::Artifact(path), _) => {
            if !build.dim.is_empty() || build.backend.is_some() || build.numerics.is_some() {
                ui.note("note: the artifact is compiled already: --backend, --numerics do not change it, --dim only chooses sizes of made-up inputs");
            }
            let engine = place.open().and_then(|device| Engine::load(path, device, on.threads()));
            Loaded { engine: engine.map_err(|e| vec![e])?, report: Report::default() }
        }
        (File::Model(path), place) => {
            let mut options = build.options_for(ui, place);
            options.shapes = literal_shapes(inputs, path, &options)?;
            let source = Source::Path(path.clone());
            let make = |options: &CompileOptions| match place {
                Place::Interp => Engine::interpret(&source, options),
                _ => Engine::compile(&source, options, place.open().map_err(|e| vec![e])?, on.threads()),
            };
            let (mut engine, mut report) = make(&options)?;
            if let Some(shapes) = rank_deciding_shapes(&engine, &report, case, inputs, &options) {
                ui.note("note: the number of axes of a value depends on sizes, so the model is compiled for those of the given inputs");
                options.shapes = shapes;
                (engine, report) = make(&options)?;
            }
            Loaded { engine, report }
        }
    };
    ui.finish();
    loaded.report.warnings.iter().for_each(|w| ui.diagnostic(w));
    hint(ui, &loaded.report);
    Ok(loaded)
}

/// The shapes of the given inputs, if the importer could not tell the rank of a value without sizes.
fn rank_deciding_shapes(
    engine: &Engine,
    report: &Report,
    case: &Case,
    inputs: &Inputs,
    options: &CompileOptions,
) -> Option<BTreeMap<String, Vec<i64>>> {
    let open = report.warnings.iter().any(|w| w.code == xlac_onnx::codes::UNSUPPORTED_FORM);
    if !open || !options.shapes.is_empty() || !options.dims.is_empty() {
        return None;
    }
    let slots = engine.inputs();
    let mut tensors = given(inputs, &slots).ok()?;
    if let (true, Some(set)) = (tensors.is_empty(), case.data_sets.first()) {
        let set = case::read_set(set, "input").ok()?;
        tensors.extend(slots.iter().zip(set).filter_map(|(slot, t)| Some((slot.name.clone(), t?))));
    }
    let shape = |t: Tensor| t.shape.iter().map(|&d| d as i64).collect();
    let shapes: BTreeMap<String, Vec<i64>> = tensors.into_iter().map(|(name, t)| (name, shape(t))).collect();
    (!shapes.is_empty()).then_some(shapes)
}

/// Says how to get faster code, where there is some to get.
pub fn hint(ui: &Ui, report: &Report) {
    if report.variants.iter().any(|v| v.backend == "cranelift") && !cfg!(feature = "llvm") {
        ui.hint(
            "note: compiled by Cranelift, which has 128-bit vectors only; `cargo build --release --features llvm` \
             (needs LLVM 22) gives several times faster code",
        );
    }
}

/// Shapes given as numbers: the model is compiled for them alone.
fn literal_shapes(
    inputs: &Inputs,
    path: &Path,
    options: &CompileOptions,
) -> Result<BTreeMap<String, Vec<i64>>, Vec<Diagnostic>> {
    let shapes = inputs.parsed().into_iter().filter_map(|(name, arg)| match arg {
        InputArg::Shape(shape) => Some((name, shape)),
        InputArg::File(_) => None,
    });
    let mut named: BTreeMap<String, Vec<i64>> = shapes.collect();
    let Some(shape) = named.remove("") else { return Ok(named) };
    let imported = crate::compile::import(&path.into(), options)?;
    let graph = &imported.program.graph;
    match graph.inputs() {
        [only] => _ = named.insert(graph.value(*only).name.as_deref().unwrap_or("").into(), shape),
        _ => return Err(vec![Diagnostic::error(codes::USAGE, "a shape without a name needs a model with one input")]),
    }
    Ok(named)
}

/// Data for every input, in the model's order: given, from the test case, or made up.
pub fn inputs(ui: &Ui, engine: &Engine, case: &Case, build: &Build, args: &Inputs) -> Result<Vec<Tensor>, Diagnostic> {
    let slots = engine.inputs();
    let mut given = given(args, &slots)?;
    if let (true, Some(set)) = (given.is_empty(), case.data_sets.first()) {
        let tensors = case::read_set(set, "input")?;
        given.extend(slots.iter().zip(tensors).filter_map(|(slot, t)| Some((slot.name.clone(), t?))));
    }
    let sizes = known_sizes(&slots, &given, build, args);
    let mut tensors = Vec::with_capacity(slots.len());
    let mut made_up = Vec::new();
    for slot in &slots {
        let tensor = match given.remove(&slot.name) {
            Some(tensor) => tensor,
            None => {
                let tensor = make_up(slot, &sizes, engine)?;
                made_up.push(format!("`{}` {}{:?}", slot.name, tensor.dtype, tensor.shape));
                tensor
            }
        };
        tensors.push(tensor);
    }
    if !made_up.is_empty() {
        ui.note(&format!("note: not given, so made up from a fixed seed: {}", made_up.join(", ")));
    }
    Ok(tensors)
}

fn given(args: &Inputs, slots: &[Slot]) -> Result<BTreeMap<String, Tensor>, Diagnostic> {
    let mut given = match &args.inputs {
        Some(path) => data::read_many(path)?,
        None => BTreeMap::new(),
    };
    for (name, arg) in args.parsed() {
        let InputArg::File(path) = arg else { continue };
        let (_, tensor) = data::read_file(&path)?;
        let next = || slots.iter().map(|s| &s.name).find(|n| !given.contains_key(*n)).cloned();
        let name = if name.is_empty() { next().unwrap_or_default() } else { name };
        given.insert(name, tensor);
    }
    let known: Vec<&str> = slots.iter().map(|s| s.name.as_str()).collect();
    // Files named by position, as ONNX's own test cases have them.
    for (i, slot) in slots.iter().enumerate() {
        if let Some(tensor) = given.remove(&format!("input_{i}")).filter(|_| !known.contains(&&*format!("input_{i}"))) {
            given.entry(slot.name.clone()).or_insert(tensor);
        }
    }
    if let Some(odd) = given.keys().find(|name| !known.contains(&name.as_str())) {
        let message = format!("the model has no input `{odd}`");
        return Err(Diagnostic::error(codes::BAD_INPUT, message).help(format!("its inputs are {}", known.join(", "))));
    }
    Ok(given)
}

/// Sizes of symbols: from `--dim`, from the data that is there, and from shapes given instead of data.
fn known_sizes(slots: &[Slot], given: &BTreeMap<String, Tensor>, build: &Build, args: &Inputs) -> BTreeMap<String, i64> {
    let mut sizes = build.sizes();
    let mut learn = |slot: &Slot, shape: &[i64]| {
        for (dim, &size) in slot.shape.iter().zip(shape) {
            if let Some(symbol) = dim.as_symbol() {
                sizes.entry(symbol.to_string()).or_insert(size);
            }
        }
    };
    for slot in slots {
        if let Some(tensor) = given.get(&slot.name) {
            learn(slot, &tensor.shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        }
    }
    for (name, arg) in args.parsed() {
        let slot = slots.iter().find(|slot| slot.name == name || (name.is_empty() && slots.len() == 1));
        if let (Some(slot), InputArg::Shape(shape)) = (slot, arg) {
            learn(slot, &shape);
        }
    }
    sizes
}

fn make_up(slot: &Slot, sizes: &BTreeMap<String, i64>, engine: &Engine) -> Result<Tensor, Diagnostic> {
    let shape = data::resolve_shape(&slot.shape, sizes, &engine.ranges());
    let tensor = shape.and_then(|shape| data::generate(&slot.name, slot.dtype, &shape));
    tensor.ok_or_else(|| {
        let message = format!("no data can be made up for input `{}`", slot.name);
        Diagnostic::error(codes::BAD_INPUT, message).help("give a file with `--input NAME=FILE.npy`")
    })
}
