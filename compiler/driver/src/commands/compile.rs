//! `xlac compile`: a model to an artifact, or to the text of a stage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xlac_ir::diag::Diagnostic;

use super::args::Build;
use super::{Outcome, load};
use crate::case::{self, File};
use crate::compile::{self, CompileOptions, Report, Source, cannot};
use crate::render::{self, Ui};
use crate::{codes, targets};

/// Arguments of `xlac compile`.
#[derive(clap::Args)]
pub struct Args {
    /// The model, or a test case's folder
    model: PathBuf,
    /// Where to write the artifact; the model's name with .xlac without it
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    build: Build,
    /// Print a stage as text instead: graph, graph:PASS, kernels, llvm, clif, asm
    #[arg(long, value_name = "STAGE")]
    emit: Option<String>,
    /// Threads that compile kernels
    #[arg(long, env = "XLAC_THREADS")]
    threads: Option<usize>,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let case = case::open(&args.model)?;
    let File::Model(model) = &case.file else {
        return Err(Diagnostic::error(codes::USAGE, format!("`{}` is compiled already", args.model.display())).into());
    };
    let mut options = args.build.options(ui);
    options.threads = args.threads;
    let source = Source::Path(model.clone());
    if let Some(stage) = &args.emit {
        return emit(ui, &source, &options, stage, args.output.as_deref());
    }
    let output = args.output.unwrap_or_else(|| default_output(&args.model));
    let report = write(&source, &options, &output)?;
    ui.finish();
    tell(ui, &report, &output);
    Ok(())
}

/// The model's name, in the current folder.
fn default_output(model: &Path) -> PathBuf {
    let full = model.canonicalize().unwrap_or_else(|_| model.into());
    let stem = if full.is_dir() { full.file_name() } else { full.file_stem() };
    PathBuf::from(stem.unwrap_or_default()).with_extension("xlac")
}

/// Writes next to the output and renames, so that nobody ever reads half an artifact.
fn write(source: &Source, options: &CompileOptions, output: &Path) -> Result<Report, Vec<Diagnostic>> {
    let partial = output.with_extension(format!("{}.part", std::process::id()));
    let file = std::fs::File::create(&partial).map_err(|e| vec![cannot("write", &partial, &e)])?;
    let written = compile::compile_to(source.clone(), options, file);
    let renamed = written.and_then(|(_, report)| {
        std::fs::rename(&partial, output).map_err(|e| vec![cannot("write", output, &e)])?;
        Ok(report)
    });
    if renamed.is_err() {
        // The error is told; what is left of the file is of no use.
        let _ = std::fs::remove_file(&partial);
    }
    renamed
}

fn tell(ui: &Ui, report: &Report, output: &Path) {
    report.warnings.iter().for_each(|w| ui.diagnostic(w));
    for (phase, time) in &report.phases {
        ui.detail(&format!("{phase:>10} {:.1} ms", time.as_secs_f64() * 1e3));
    }
    for v in &report.variants {
        let scheduled = if v.target.ends_with(&v.cpu) { String::new() } else { format!(" ({})", v.cpu) };
        ui.status(
            "Compiled",
            &format!(
                "{} for {}{scheduled} with {}: {} kernels, {} of code, working memory {}",
                report.model_name, v.target, v.backend, v.kernels, render::bytes(v.code_bytes as u64), memory(&v.arena)
            ),
        );
    }
    report.variants.iter().flat_map(|v| &v.on_host).for_each(|text| ui.note(&format!("note: {text}")));
    let size = std::fs::metadata(output).map_or(0, |m| m.len());
    let text = format!("{} ({}, {} of it weights)", output.display(), render::bytes(size), render::bytes(report.weight_bytes));
    ui.status("Wrote", &text);
    load::hint(ui, report);
}

/// A number for people, a short formula, or a word about a long one.
fn memory(formula: &str) -> String {
    const SHORT: usize = 60;
    match formula.parse::<u64>() {
        Ok(bytes) => render::bytes(bytes),
        Err(_) if formula.len() <= SHORT => format!("{formula} bytes"),
        Err(_) => "by a formula of the shapes (`xlac inspect`)".into(),
    }
}

/// Prints a stage.
fn emit(ui: &Ui, source: &Source, options: &CompileOptions, stage: &str, output: Option<&Path>) -> Outcome {
    let text = match stage.split_once(':') {
        Some(("graph", pass)) => graph_after(source, options, pass)?,
        _ => text_of(source, options, stage)?,
    };
    match output {
        Some(path) => std::fs::write(path, text).map_err(|e| cannot("write", path, &e))?,
        None => ui.raw(&text),
    }
    Ok(())
}

fn text_of(source: &Source, options: &CompileOptions, stage: &str) -> Result<String, Vec<Diagnostic>> {
    let forms = forms(options).map_err(|e| vec![e])?;
    if !["graph", "kernels"].contains(&stage) && !forms.contains(&stage) {
        let known = ["llvm", "clif", "asm", "ptx", "onnx", "obj", "lib", "header"].contains(&stage);
        let code = if known { codes::NOT_BUILT_IN } else { codes::USAGE };
        let message = format!("`--emit {stage}` is not available with this backend");
        let help = format!("there are graph, graph:PASS, kernels, {}", forms.join(", "));
        return Err(vec![Diagnostic::error(code, message).help(help)]);
    }
    let program = compile::import_optimized(source, options, &mut Report::default())?;
    if stage == "graph" {
        return Ok(xlac_ir::text::print(&program));
    }
    let mut text = String::new();
    for name in compile::target_names(options) {
        let lowered = compile::lower(&program, name, options).map_err(|e| vec![e])?;
        let part = match stage {
            "kernels" => Ok(compile::print_kernels(&lowered.plan)),
            form => lowered.backend.print(&lowered.plan.kernels, &lowered.target, form),
        };
        text.push_str(&part.map_err(|e| vec![Diagnostic::error(codes::EMIT, e.to_string())])?);
    }
    Ok(text)
}

/// Text forms that the backends of all targets have.
fn forms(options: &CompileOptions) -> Result<Vec<&'static str>, Diagnostic> {
    let mut common: Option<Vec<&str>> = None;
    for name in compile::target_names(options) {
        let forms = targets::backend_for(&targets::target(name)?, options.backend.as_deref())?.forms();
        common = Some(match common {
            None => forms.to_vec(),
            Some(before) => before.into_iter().filter(|form| forms.contains(form)).collect(),
        });
    }
    Ok(common.unwrap_or_default())
}

/// The graph as a pass leaves it; `import` for the graph before the first.
fn graph_after(source: &Source, options: &CompileOptions, pass: &str) -> Result<String, Vec<Diagnostic>> {
    let mut program = compile::import(source, options)?.program;
    if pass != "import" {
        if !xlac_opt::passes::PASSES.iter().any(|p| p.name == pass) {
            let names: Vec<&str> = xlac_opt::passes::PASSES.iter().map(|p| p.name).collect();
            let message = format!("no pass is called `{pass}`");
            let help = format!("there are import, {}", names.join(", "));
            return Err(vec![Diagnostic::error(codes::USAGE, message).help(help)]);
        }
        let mut pass_options = xlac_opt::Options {
            numerics: compile::opt_numerics(options.numerics),
            stop_after: Some(pass.into()),
            ..Default::default()
        };
        xlac_opt::optimize(&mut program, &mut pass_options).map_err(|e| vec![e])?;
    }
    Ok(xlac_ir::text::print(&program))
}
