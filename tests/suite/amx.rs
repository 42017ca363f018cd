//! Targets with tile registers: what their artifacts need, which code they get, and that a machine without them refuses it.

use std::io::Cursor;

use xlac::CompileOptions;
use xlac::compile::Report;
use xlac_ir::graph::Program;
use xlac_runtime::Model;
use xlac_runtime::device::features::detect;
use xlac_tests::{backends, skip};

const TARGETS: [&str; 3] = ["cpu:sapphirerapids", "cpu:emeraldrapids", "cpu:graniterapids"];

/// A matrix product of `rows` rows.
fn product(rows: i64, a: &str, b: &str, out: &str) -> Program {
    let text = format!(
        "graph @g(%x: {a}[{rows}, 256], %w: {b}[256, 96]) -> (%y) {{
           %y = matmul %x, %w {{trans_a = false, trans_b = false, out = {out}}} : {out}[{rows}, 96]
           yield %y
         }}"
    );
    xlac_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn options(backend: &str, target: &str) -> CompileOptions {
    CompileOptions { backend: Some(backend.into()), targets: vec![target.into()], ..Default::default() }
}

/// The assembly of a program.
fn assembly(program: &Program, target: &str) -> String {
    let lowered = xlac::compile::lower(program, target, &options("llvm", target)).expect("it compiles");
    lowered.backend.print(&lowered.plan.kernels, &lowered.target, "asm").expect("it prints")
}

/// Features an artifact asks for, and what comes of loading it.
fn load(program: &Program, backend: &str, target: &str) -> (Vec<String>, Result<(), String>) {
    let options = options(backend, target);
    let written = xlac::compile::write_program(
        &mut program.clone(),
        [0; 32],
        &options,
        Report::default(),
        Cursor::new(Vec::new()),
    );
    let bytes = written.unwrap_or_else(|e| panic!("{}", e[0])).0.into_inner();
    let artifact = xlac_runtime::Artifact::from_bytes(&bytes).expect("it was just written");
    let features = artifact.metadata().variants[0].features.clone();
    (features, Model::from_bytes(&bytes).map(|_| ()).map_err(|e| e.to_string()))
}

fn needs_tiles(features: &[String]) -> bool {
    ["amx-int8", "amx-tile"].iter().all(|f| features.iter().any(|x| x == f))
}

#[test]
fn products_of_bytes_use_tiles_where_there_are_any() {
    if !backends().contains(&"llvm") {
        return skip("tile registers", "LLVM is not built in");
    }
    for target in TARGETS {
        let asm = assembly(&product(64, "u8", "i8", "i32"), target);
        let count = |text: &str| asm.matches(text).count();
        assert!(count("tdpbusd") >= 4 && count("tileloadd") >= 4 && count("tilestored") >= 4, "{asm}");
        assert_eq!((count("ldtilecfg"), count("tilerelease")), (1, 1), "{asm}");
        assert!(!assembly(&product(1, "u8", "i8", "i32"), target).contains("tdpb"), "one row stays on vectors");
    }
    for target in ["cpu:icelake-server", "cpu:znver5"] {
        assert!(!assembly(&product(64, "u8", "i8", "i32"), target).contains("tdpb"), "{target}");
    }
    let native = assembly(&product(64, "u8", "i8", "i32"), "cpu:native");
    assert_eq!(native.contains("tdpb"), detect("amx-int8") == Some(true), "this machine");
}

/// An artifact with tile instructions loads exactly where they may be used; others do not ask for them.
#[test]
fn artifacts_need_what_their_code_uses() {
    for backend in backends() {
        let (features, loaded) = load(&product(64, "u8", "i8", "i32"), backend, TARGETS[0]);
        assert_eq!(needs_tiles(&features), backend == "llvm", "{features:?}");
        if backend == "llvm" && detect("amx-int8") != Some(true) {
            let error = loaded.expect_err("is refused");
            assert!(error.contains("amx-int8") && error.contains("amx-tile"), "{error}");
            assert!(error.contains("lacks") || error.contains("does not let this process use"), "{error}");
        }
        for program in [product(64, "f32", "f32", "f32"), product(1, "u8", "i8", "i32")] {
            let (features, _) = load(&program, backend, TARGETS[0]);
            assert!(!features.iter().any(|f| f.starts_with("amx")), "{features:?}");
        }
    }
}
