//! Code for AArch64, run in an emulator of its user mode: the same bits as the interpreter's in exact mode, near it in fast
//! mode. Needs `qemu-aarch64` and Rust's library for `aarch64-unknown-linux-musl`; `test.sh` installs both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use xlac::compare::{Tolerance, difference};
use xlac::engine::Engine;
use xlac::compile::Report;
use xlac::{CompileOptions, Numerics};
use xlac_ir::graph::Program;
use xlac_ir::random::{self, Options};
use xlac_ir::tensor::Tensor;
use xlac_tests::{backends, committed_models, is_refusal, optimized, root, scratch, skip};

const TRIPLE: &str = "aarch64-unknown-linux-musl";
const EMULATOR: &str = "qemu-aarch64";
/// The processor compiled for: the least of those with a name.
const TARGET: &str = "cpu:neoverse-n1";
/// Programs to try in each mode.
const PROGRAMS: u64 = 16;

/// The runtime's example that runs artifacts, built for AArch64; none if this machine lacks what that takes.
fn runner() -> Option<&'static Path> {
    static RUNNER: OnceLock<Option<PathBuf>> = OnceLock::new();
    RUNNER.get_or_init(build_runner).as_deref()
}

fn build_runner() -> Option<PathBuf> {
    let output = |program: &str, args: &[&str]| Command::new(program).args(args).output().ok().filter(|o| o.status.success());
    if output(EMULATOR, &["--version"]).is_none() {
        skip("AArch64", &format!("{EMULATOR} is not installed"));
        return None;
    }
    let sysroot = output("rustc", &["--print", "sysroot"])?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_string();
    if !Path::new(&sysroot).join("lib/rustlib").join(TRIPLE).is_dir() {
        skip("AArch64", &format!("`rustup target add {TRIPLE}` was not done"));
        return None;
    }
    let to = scratch("aarch64-build");
    // Rust's own linker, and no C: nothing of a cross compiler is needed.
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "xlac-runtime", "--example", "raw", "--target", TRIPLE])
        .args(["--features", "blake3/pure", "--target-dir"])
        .arg(&to)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld")
        .env_remove("RUSTFLAGS")
        .current_dir(root())
        .status();
    assert!(status.is_ok_and(|s| s.success()), "the runtime does not build for {TRIPLE}");
    Some(to.join(TRIPLE).join("debug/examples/raw"))
}

/// Compiles for AArch64 and runs in the emulator; none if the program is refused.
fn emulate(runner: &Path, program: &Program, inputs: &[Tensor], (target, backend): (&str, &str), numerics: Numerics, name: &str) -> Option<Vec<Tensor>> {
    let options = CompileOptions { backend: Some(backend.into()), targets: vec![target.into()], numerics, ..Default::default() };
    let dir = scratch(&format!("aarch64-{name}"));
    let artifact = dir.join("model.xlac");
    let file = std::fs::File::create(&artifact).expect("the scratch folder is writable");
    match xlac::compile::write_program(&mut program.clone(), [0; 32], &options, Report::default(), file) {
        Ok(_) => {}
        Err(errors) if is_refusal(&errors) => return None,
        Err(errors) => panic!("{name}, {backend}: {}", errors[0]),
    }
    let mut command = Command::new(EMULATOR);
    command.arg(runner).args([&artifact, &dir]);
    for (i, input) in inputs.iter().enumerate() {
        let file = dir.join(format!("input{i}.bin"));
        std::fs::write(&file, &input.data).expect("the scratch folder is writable");
        let shape: Vec<String> = input.shape.iter().map(ToString::to_string).collect();
        command.arg(format!("{}:{}", file.display(), shape.join("x")));
    }
    let output = command.output().expect("the emulator starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}, {backend}: {stderr}");
    Some(stdout.lines().enumerate().map(|(i, line)| read_output(&dir.join(format!("{i}.bin")), line)).collect())
}

/// An output, from a line as `f32 [2, 3]` and the file of its elements.
fn read_output(file: &Path, line: &str) -> Tensor {
    let (dtype, shape) = line.split_once(' ').expect("a type and a shape");
    let sizes = shape.trim_matches(['[', ']']).split(", ").filter(|s| !s.is_empty());
    let shape = sizes.map(|s| s.parse().expect("a size")).collect();
    let data = std::fs::read(file).expect("the runner wrote it");
    let dtype = xlac_ir::DType::from_name(dtype).expect("an element type");
    Tensor::new(dtype, shape, data.into()).expect("the elements fill the shape")
}

/// Compares both backends with the interpreter; how many were not refused.
fn compare(runner: &Path, program: &Program, inputs: &[Tensor], numerics: Numerics, name: &str) -> usize {
    compare_on(runner, TARGET, program, inputs, numerics, name)
}

/// [`compare`] with code for a processor of this name.
fn compare_on(runner: &Path, target: &str, program: &Program, inputs: &[Tensor], numerics: Numerics, name: &str) -> usize {
    let expected = Engine::Interp(Box::new(program.clone())).run(inputs).expect("the program runs");
    let run = |backend| Some((backend, emulate(runner, program, inputs, (target, backend), numerics, name)?));
    let results: Vec<(&str, Vec<Tensor>)> = backends().into_iter().filter_map(run).collect();
    for (backend, got) in &results {
        assert_eq!(got.len(), expected.len(), "{name}, {backend}");
        for (got, expected) in got.iter().zip(&expected) {
            let tolerance = if numerics == Numerics::Exact { Tolerance::EXACT } else { Tolerance::scaled_to(expected) };
            let d = difference(got, expected, tolerance);
            assert!(d.is_fine(), "{name}, {backend}: {}\n{}", d.describe(got, expected), xlac_ir::text::print(program));
        }
    }
    results.len()
}

#[test]
fn random_programs() {
    let Some(runner) = runner() else { return };
    let well = Options { well_conditioned: true, dtypes: vec![xlac_ir::DType::F32], ..Options::default() };
    for (numerics, options) in [(Numerics::Exact, Options::default()), (Numerics::Fast, well)] {
        let mut ran = 0;
        for seed in 0..PROGRAMS {
            let program = optimized(random::program(seed, &options), numerics);
            let inputs = random::inputs(&program, &random::sizes(&program, seed), seed).expect("sizes for every symbol");
            ran += compare(runner, &program, &inputs, numerics, "random");
        }
        assert!(ran >= PROGRAMS as usize * backends().len() / 2, "{numerics:?}: only {ran} were not refused");
    }
}

/// Processors that multiply bytes of equal signs only, and of any: all of one model's products, at the ends of the range.
#[test]
fn products_of_bytes() {
    let Some(runner) = runner() else { return };
    let signs = [("u8", "i8"), ("i8", "u8"), ("i8", "i8"), ("u8", "u8")];
    let product = |i: usize, (a, b): (&str, &str)| format!(
        "%m{i} = matmul %{a}, %w{b} {{trans_a = false, trans_b = true, out = i32}} : i32[9, 13]
         %c{i} = conv %x{a}, %f{b} {{strides = [2, 1], before = [1, 1], after = [1, 0], dilations = [1, 1], groups = 1, out = i32}} : i32[1, 7, 3, 5]
        "
    );
    let products: String = signs.iter().enumerate().map(|(i, &s)| product(i, s)).collect();
    let results: Vec<String> = (0..4).flat_map(|i| [format!("%m{i}"), format!("%c{i}")]).collect();
    let names: Vec<String> = (0..8).map(|i| format!("%r{i}")).collect();
    let weights: String = ["u8", "i8"].map(|t| format!(
        "%w{t} = weight @w{t} : {t}[13, 39]
         %f{t} = weight @f{t} : {t}[7, 10, 3, 3]
        "
    )).concat();
    let text = format!(
        "graph @g(%u8: u8[9, 39], %i8: i8[9, 39], %xu8: u8[1, 10, 5, 6], %xi8: i8[1, 10, 5, 6]) -> ({}) {{ {weights} {products} yield {} }}",
        names.join(", "),
        results.join(", ")
    );
    let program = xlac_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let extreme = |t: Tensor| {
        let bytes: Vec<u8> = t.data.iter().zip(0..).map(|(&x, i)| if i % 3 == 0 { x } else { [128, 127, 255][i / 4 % 3] }).collect();
        Tensor::new(t.dtype, t.shape.clone(), bytes.into()).expect("as many bytes")
    };
    let inputs = random::inputs(&program, &Default::default(), 3).expect("no symbols").into_iter().map(extreme).collect::<Vec<_>>();
    for target in [TARGET, "cpu:neoverse-v1"] {
        let ran = compare_on(runner, target, &program, &inputs, Numerics::Exact, "bytes");
        assert_eq!(ran, backends().len(), "{target}");
    }
}

#[test]
fn real_models() {
    let Some(runner) = runner() else { return };
    for case in committed_models() {
        let inputs: Vec<Tensor> =
            xlac::case::read_set(&case.join("test_data_set_0"), "input").expect("inputs").into_iter().flatten().collect();
        for numerics in [Numerics::Exact, Numerics::Fast] {
            let options = CompileOptions { numerics, ..Default::default() };
            let source = xlac::Source::Path(case.join("model.onnx"));
            let program = xlac::compile::import_optimized(&source, &options, &mut Report::default()).expect("it is imported");
            let ran = compare(runner, &program, &inputs, numerics, "model");
            assert_eq!(ran, backends().len(), "{}", case.display());
        }
    }
}
