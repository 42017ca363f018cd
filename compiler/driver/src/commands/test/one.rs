//! `xlac test-case`: one test case; prints how it ended as one line of JSON.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use xlac_ir::diag::{Diagnostic, Severity};

use super::super::args::{Build, Inputs, On};
use super::super::{Outcome, load};
use crate::case::{self, Case};
use crate::codes;
use crate::compare::{self, Tolerance};
use crate::engine::Engine;
use crate::render::{Level, Ui};

/// Arguments of `xlac test-case`.
#[derive(clap::Args)]
pub struct Args {
    /// The case
    dir: PathBuf,
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    build: Build,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let (status, code, detail) = match judge(&args) {
        Ok(detail) => ("passed", None, detail),
        Err(d) => {
            let status = match d.code {
                codes::DIFFERENT => "wrong",
                c if is_refusal(c) => "refused",
                _ => "error",
            };
            (status, Some(d.code), d.to_string())
        }
    };
    ui.result(&json!({ "status": status, "code": code, "detail": detail }).to_string());
    Ok(())
}

/// True for codes that say that XLAC does not take this model, rather than that something went wrong on the way.
fn is_refusal(code: &str) -> bool {
    let by_importer = ["X01", "X02", "X03", "X04", "X06"].iter().any(|family| code.starts_with(family));
    by_importer || codes::exit_code(code) == 3
}

fn judge(args: &Args) -> Result<String, Diagnostic> {
    let case = case::open(&args.dir)?;
    if case.data_sets.is_empty() {
        return Err(Diagnostic::error(codes::NO_CASE, "there is no test_data_set_0"));
    }
    let quiet = Arc::new(Ui::new(Level::Quiet));
    let loaded = load::load(&quiet, &case, &args.build, &Inputs::default(), &args.on).map_err(worst)?;
    let mut engine = loaded.engine;
    let mut compared = 0;
    for set in 0..case.data_sets.len() {
        compared += compare_set(&mut engine, &case, set, args)?;
    }
    if compared == 0 {
        return Err(Diagnostic::error(codes::NO_CASE, "no expected outputs were found"));
    }
    Ok(format!("{compared} outputs"))
}

/// The error that decides: one that says "not supported" stands for a case that is refused.
fn worst(all: Vec<Diagnostic>) -> Diagnostic {
    let errors: Vec<Diagnostic> = all.into_iter().filter(|d| d.severity == Severity::Error).collect();
    let refusal = errors.iter().position(|d| is_refusal(d.code)).unwrap_or(0);
    errors.into_iter().nth(refusal).unwrap_or_else(|| Diagnostic::error(codes::INTERNAL, "failed without an error"))
}

/// Runs one data set and gives how many outputs were compared.
fn compare_set(engine: &mut Engine, case: &Case, set: usize, args: &Args) -> Result<usize, Diagnostic> {
    let quiet = Ui::new(Level::Quiet);
    let folder = &case.data_sets[set];
    let one = Case { file: case.file.clone(), data_sets: vec![folder.clone()] };
    let inputs = load::inputs(&quiet, engine, &one, &args.build, &Inputs::default())?;
    let outputs = engine.run(&inputs)?;
    let expected = case::read_set(folder, "output")?;
    let tolerances = compare::tolerances(&args.dir);
    let mut compared = 0;
    for ((slot, got), expected) in engine.outputs().iter().zip(&outputs).zip(&expected) {
        let Some(expected) = expected else { continue };
        let tolerance = tolerances.get(&slot.name).copied().unwrap_or_else(|| Tolerance::default_for(expected.dtype));
        let difference = compare::difference(got, expected, tolerance);
        if !difference.is_fine() {
            let message = format!("data set {set}, output `{}`: {}", slot.name, difference.describe(got, expected));
            return Err(Diagnostic::error(codes::DIFFERENT, message));
        }
        compared += 1;
    }
    Ok(compared)
}
