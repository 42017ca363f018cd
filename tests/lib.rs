//! What the tests of the whole share: where things are, and how to get from a program to a session.

use std::path::{Path, PathBuf};

use xlac::device::{Opened, Place};
use xlac::engine::Engine;
use xlac::{CompileOptions, Numerics};
use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::Program;

/// The project's folder.
pub fn root() -> PathBuf { Path::new(env!("CARGO_MANIFEST_DIR")).join("..") }

/// Cargo's target folder: the test program lies in `debug/deps` or the like of it.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a file");
    program.ancestors().nth(3).unwrap_or(&program).to_path_buf()
}

/// A folder for what tests write.
pub fn scratch(name: &str) -> PathBuf {
    let dir = target_dir().join("xlac-tests").join(name);
    std::fs::create_dir_all(&dir).expect("the target folder is writable");
    dir
}

/// Names of the backends for processors that are built in.
pub fn backends() -> Vec<&'static str> { xlac::targets::BACKENDS.iter().map(|b| b.name()).collect() }

/// The simulated GPU's name among the engines.
pub const SIMULATOR: &str = "ptx-sim";

/// Names of everything that runs compiled code here: the backends, and the simulated GPU.
pub fn engines() -> Vec<&'static str> { backends().into_iter().chain([SIMULATOR]).collect() }

/// What chooses an engine on the command line.
pub fn flags(engine: &str) -> [&str; 2] { [if engine == SIMULATOR { "--device" } else { "--backend" }, engine] }

/// Options that compile for an engine, which runs on [`device`].
pub fn options(engine: &str, numerics: Numerics) -> CompileOptions {
    let (backend, target) = if engine == SIMULATOR { (None, "ptx") } else { (Some(engine.into()), "cpu") };
    CompileOptions { backend, targets: vec![target.into()], numerics, threads: Some(2), ..Default::default() }
}

/// The device of an engine.
pub fn device(engine: &str) -> Opened {
    let place = if engine == SIMULATOR { Place::PtxSim(None) } else { Place::Cpu };
    place.open().expect("a processor and the simulator are always there")
}

/// Compiles an optimized program.
pub fn compile(
    program: &Program,
    engine: &str,
    numerics: Numerics,
    threads: usize,
) -> Result<Engine, Vec<Diagnostic>> {
    Engine::compile_program(program.clone(), &options(engine, numerics), device(engine), Some(threads))
}

/// Optimizes a program as the compiler would.
pub fn optimized(mut program: Program, numerics: Numerics) -> Program {
    let mut options = xlac_opt::Options { numerics: xlac::compile::opt_numerics(numerics), ..Default::default() };
    xlac_opt::optimize(&mut program, &mut options).expect("random programs can be optimized");
    program
}

/// True if the program was refused, rather than miscompiled or broken: code generation does not cover everything yet.
pub fn is_refusal(errors: &[Diagnostic]) -> bool { errors.iter().all(|e| xlac::codes::exit_code(e.code) == 3) }

/// Folders of the models that are part of the project.
pub fn committed_models() -> Vec<PathBuf> {
    let mut cases = xlac::case::find_cases(&root().join("examples/data"));
    cases.extend(xlac::case::find_cases(&root().join("tests/data")));
    cases
}

/// The folder of more models: `XLAC_MODELS`, or `../shared/models` beside the project.
pub fn more_models() -> Option<PathBuf> {
    let named = std::env::var_os("XLAC_MODELS").map(PathBuf::from);
    named.or_else(|| Some(root().join("../shared/models"))).filter(|p| p.is_dir())
}

/// Says on the console that something is skipped, and why.
pub fn skip(what: &str, why: &str) { eprintln!("skipped: {what}: {why}"); }
