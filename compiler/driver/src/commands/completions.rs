//! `xlac completions`: scripts that complete commands in a shell.

use std::sync::Arc;

use clap::CommandFactory;

use super::{Cli, Outcome};
use crate::render::Ui;

/// Arguments of `xlac completions`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Runs the command.
pub fn main(ui: &Arc<Ui>, args: Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "xlac", &mut script);
    ui.raw(&String::from_utf8_lossy(&script));
    Ok(())
}
