//! `xlac explain`: more about a diagnostic code.

use std::sync::Arc;

use xlac_ir::diag::Diagnostic;

use super::Outcome;
use crate::codes;
use crate::render::{self, Ui};

/// Arguments of `xlac explain`.
#[derive(clap::Args)]
pub struct Args {
    /// A code such as X0301; without it all are listed
    code: Option<String>,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let Some(code) = args.code else {
        let lines: Vec<String> = codes::all().iter().map(|(code, title)| format!("{code}  {title}")).collect();
        ui.result(&lines.join("\n"));
        return Ok(());
    };
    let found = codes::explain(&code);
    if found.is_empty() {
        let help = "`xlac explain` without a code lists all";
        return Err(Diagnostic::error(codes::USAGE, format!("there is no code `{code}`")).help(help).into());
    }
    for (title, text) in found {
        ui.result(&format!("{} {title}\n\n{text}\n", render::bold(&code.to_uppercase())));
    }
    Ok(())
}
