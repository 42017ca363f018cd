//! The command line: one file per command.

mod args;
mod bench;
mod check;
mod compile;
mod completions;
mod explain;
mod inspect;
mod load;
mod opt;
mod ops;
mod run;
mod test;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use xlac_ir::diag::Diagnostic;

use crate::codes;
use crate::render::{Level, Ui};

pub use ops::markdown as operators_markdown;

/// Compiles ONNX models to fast code, and runs it.
#[derive(Parser)]
#[command(name = "xlac", version, about, propagate_version = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, env = "XLAC_COLOR")]
    color: Color,
    /// Tell more
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Tell errors only
    #[arg(short, long, global = true)]
    quiet: bool,
}

const AFTER_HELP: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 model not supported by the target, 4 numbers differ, \
                          5 a limit was reached, 101 internal error.";

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model to an artifact
    Compile(compile::Args),
    /// Run a model or an artifact
    Run(run::Args),
    /// Run ONNX test cases and compare with the expected outputs
    Test(test::Args),
    /// Run one test case; what `test` starts for each
    #[command(hide = true)]
    TestCase(test::one::Args),
    /// Time a model or an artifact
    Bench(bench::Args),
    /// Compare with the reference interpreter, or with given outputs
    Verify(verify::Args),
    /// Show what is in a model or an artifact
    Inspect(inspect::Args),
    /// List everything that stands in the way of compiling a model
    Check(check::Args),
    /// Run passes on text IR
    Opt(opt::Args),
    /// List the ONNX operators that can be imported
    Ops(ops::Args),
    /// Explain a diagnostic code
    Explain(explain::Args),
    /// Print a script that completes commands in a shell
    Completions(completions::Args),
}

/// How a command ends: success, or an exit code after everything was told.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command failed.
pub(crate) enum Failure {
    /// Diagnostics to show; the first error decides the exit code.
    Diagnostics(Vec<Diagnostic>),
    /// Everything was told.
    Code(u8),
}

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Failure { Failure::Diagnostics(vec![d]) }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(all: Vec<Diagnostic>) -> Failure { Failure::Diagnostics(all) }
}

/// Parses the arguments of the process and does what they say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors, and go to stdout.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    let ui = Arc::new(Ui::new(level));
    let command = cli.command;
    // Deep recursion over graphs and expressions needs more stack than the first thread may have.
    let worker = std::thread::Builder::new().name("main".into()).stack_size(256 << 20);
    let inner = Arc::clone(&ui);
    let outcome = match worker.spawn(move || guarded(&inner, command)) {
        Ok(thread) => thread.join().unwrap_or(101),
        Err(_) => 101,
    };
    ui.finish();
    ExitCode::from(outcome)
}

/// Runs a command; a panic becomes the internal error page.
fn guarded(ui: &Arc<Ui>, command: Command) -> u8 {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        let message = text.unwrap_or("no message");
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
        LAST_PANIC.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(format!("{message} ({place})"));
    }));
    match catch_unwind(AssertUnwindSafe(|| dispatch(ui, command))) {
        Ok(Ok(())) => 0,
        Ok(Err(Failure::Code(code))) => code,
        Ok(Err(Failure::Diagnostics(all))) => {
            ui.diagnostics(&all);
            let first = all.iter().find(|d| d.severity == xlac_ir::diag::Severity::Error);
            first.map_or(1, |d| codes::exit_code(d.code))
        }
        Err(_) => {
            let message = LAST_PANIC.lock().unwrap_or_else(|e| e.into_inner()).take().unwrap_or_default();
            ui.diagnostic(&internal(&message));
            101
        }
    }
}

static LAST_PANIC: std::sync::Mutex<Option<String>> = std::sync::Mutex::new(None);

fn internal(message: &str) -> Diagnostic {
    let version = env!("CARGO_PKG_VERSION");
    let command: Vec<String> = std::env::args().collect();
    Diagnostic::error(codes::INTERNAL, format!("internal error: {message}")).help(format!(
        "this is a fault of xlac {version}, not of the model; please report it with the command\n        {}\n        \
         and the model if you may share it; RUST_BACKTRACE=1 shows where it happened",
        command.join(" ")
    ))
}

fn dispatch(ui: &Arc<Ui>, command: Command) -> Outcome {
    match command {
        Command::Compile(args) => compile::main(ui, args),
        Command::Run(args) => run::main(ui, args),
        Command::Test(args) => test::main(ui, args),
        Command::TestCase(args) => test::one::main(ui, args),
        Command::Bench(args) => bench::main(ui, args),
        Command::Verify(args) => verify::main(ui, args),
        Command::Inspect(args) => inspect::main(ui, args),
        Command::Check(args) => check::main(ui, args),
        Command::Opt(args) => opt::main(ui, args),
        Command::Ops(args) => ops::main(ui, args),
        Command::Explain(args) => explain::main(ui, args),
        Command::Completions(args) => completions::main(ui, args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() { super::Cli::command().debug_assert(); }
}
