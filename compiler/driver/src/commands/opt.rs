//! `xlac opt`: passes on text IR, text out.

use std::path::PathBuf;
use std::sync::Arc;

use xlac_ir::diag::Diagnostic;

use super::Outcome;
use super::args::NumericsArg;
use crate::compile::{cannot, opt_numerics};
use crate::render::Ui;
use crate::codes;

/// Arguments of `xlac opt`.
#[derive(clap::Args)]
pub struct Args {
    /// Text IR; `-` reads stdin
    file: PathBuf,
    /// Passes to run, in this order; the whole pipeline without it
    #[arg(long, value_delimiter = ',')]
    passes: Option<Vec<String>>,
    /// Which rewrites are allowed
    #[arg(long, value_enum)]
    numerics: Option<NumericsArg>,
    /// At most this many rewrites
    #[arg(long)]
    fuel: Option<u64>,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let text = if args.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(&args.file)
    };
    let text = text.map_err(|e| cannot("read", &args.file, &e))?;
    let parsed = xlac_ir::text::parse(&text);
    let mut program = parsed.map_err(|e| Diagnostic::error(codes::TEXT_IR, format!("{}: {e}", args.file.display())))?;
    if let Err(errors) = xlac_ir::verify::verify(&program) {
        return Err(errors.iter().map(|e| Diagnostic::error(codes::TEXT_IR, e.to_string())).collect::<Vec<_>>().into());
    }
    let numerics = match args.numerics {
        Some(NumericsArg::Exact) => xlac_codegen::Numerics::Exact,
        _ => xlac_codegen::Numerics::Fast,
    };
    let mut options = xlac_opt::Options {
        numerics: opt_numerics(numerics),
        passes: args.passes,
        fuel: args.fuel,
        verify: true,
        ..Default::default()
    };
    let report = xlac_opt::optimize(&mut program, &mut options)?;
    report.notes.iter().for_each(|n| ui.diagnostic(n));
    for (rule, count) in &report.rules {
        ui.detail(&format!("{count:>6}  {rule}"));
    }
    ui.raw(&xlac_ir::text::print(&program));
    Ok(())
}
