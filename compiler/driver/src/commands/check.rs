//! `xlac check`: everything that stands in the way of compiling a model, at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use xlac_ir::diag::{Diagnostic, Severity};

use super::args::Build;
use super::{Failure, Outcome};
use crate::case::{self, File};
use crate::compile::{self, Report, Source};
use crate::codes;
use crate::render::{self, Ui};

/// Arguments of `xlac check`.
#[derive(clap::Args)]
pub struct Args {
    /// The model, or a test case's folder
    model: PathBuf,
    #[command(flatten)]
    build: Build,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let case = case::open(&args.model)?;
    let File::Model(model) = &case.file else {
        return Err(Diagnostic::error(codes::USAGE, "an artifact is compiled already: `xlac inspect` shows what it needs").into());
    };
    let found = find(ui, &Source::Path(model.clone()), &args.build);
    ui.finish();
    let errors = found.iter().filter(|d| d.severity == Severity::Error).count();
    if args.json {
        let one = |d: &Diagnostic| {
            let node = d.node.as_ref().map(|n| json!({ "name": n.name, "op": n.op, "domain": n.domain, "opset": n.opset }));
            json!({ "severity": format!("{:?}", d.severity).to_lowercase(), "code": d.code, "message": d.message, "node": node, "help": d.help })
        };
        let all: Vec<_> = found.iter().map(one).collect();
        ui.result(&json!({ "errors": errors, "diagnostics": all }).to_string());
    } else {
        found.iter().for_each(|d| ui.diagnostic(d));
        ui.result(&summary(&found, errors));
    }
    if errors == 0 { Ok(()) } else { Err(Failure::Code(exit_code(&found))) }
}

/// 3 if anything is unsupported or contradictory, else what the first error says.
fn exit_code(found: &[Diagnostic]) -> u8 {
    let errors = || found.iter().filter(|d| d.severity == Severity::Error);
    let stands_in_the_way = |d: &&Diagnostic| codes::exit_code(d.code) == 3 || d.code.starts_with("X04");
    match errors().find(stands_in_the_way) {
        Some(_) => 3,
        None => errors().next().map_or(1, |d| codes::exit_code(d.code)),
    }
}

fn find(ui: &Arc<Ui>, source: &Source, build: &Build) -> Vec<Diagnostic> {
    let options = build.options(ui);
    let mut report = Report::default();
    let program = match compile::import_optimized(source, &options, &mut report) {
        Ok(program) => program,
        Err(errors) => return [report.warnings, errors].concat(),
    };
    let mut found = report.warnings;
    for target in compile::target_names(&options) {
        found.extend(compile::lower(&program, target, &options).err());
    }
    found
}

fn summary(found: &[Diagnostic], errors: usize) -> String {
    if errors == 0 {
        return format!("{}: nothing stands in the way", render::verdict(true, "ok"));
    }
    let mut groups: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for d in found.iter().filter(|d| d.severity == Severity::Error) {
        let op = d.node.as_ref().map(|n| n.op.clone()).unwrap_or_default();
        *groups.entry((d.code, op)).or_default() += 1;
    }
    let row = |((code, op), count): (&(&str, String), &usize)| vec![count.to_string(), code.to_string(), op.clone()];
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    let table = render::table(&["count", "code", "operator"], &[true, false, false], &rows);
    format!("{}: {errors} problems\n{table}", render::verdict(false, "failed"))
}
