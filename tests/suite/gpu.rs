//! Code for GPUs, on the simulator: networks in small under adversarial schedules with the search for races, whole models,
//! and every kernel of every model past the verifier and, where it is installed, ptxas.

use std::path::{Path, PathBuf};
use std::process::Command;

use xlac::compare::{Tolerance, difference};
use xlac::compile::Lowered;
use xlac::device::Place;
use xlac::engine::Engine;
use xlac::{CompileOptions, Numerics, Source};
use xlac_ir::graph::Program;
use xlac_ir::random;
use xlac_tests::{SIMULATOR, committed_models, more_models, optimized, options, scratch, skip};

use crate::{run, run_json, skeletons};

/// Seeds of adversarial schedules.
const SEEDS: u64 = 3;

/// Programs with the sizes they are run with.
fn networks() -> Vec<(&'static str, Program, Vec<(&'static str, i64)>)> {
    vec![
        ("resnet", skeletons::resnet(), vec![("N", 2)]),
        ("vit", skeletons::vit(), vec![("N", 2)]),
        ("gpt2, prefill", skeletons::gpt2(), vec![("N", 1), ("T", 9), ("P", 0)]),
        ("gpt2, decode", skeletons::gpt2(), vec![("N", 2), ("T", 1), ("P", 6)]),
    ]
}

#[test]
fn networks_in_small_agree_under_every_schedule() {
    for (name, program, sizes) in networks() {
        let sizes = sizes.iter().map(|&(symbol, size)| (symbol.into(), size)).collect();
        let inputs = random::inputs(&program, &sizes, 1).expect("every symbol has a size");
        let expected = Engine::Interp(Box::new(program.clone())).run(&inputs).expect("it runs");
        for numerics in [Numerics::Fast, Numerics::Exact] {
            let program = optimized(program.clone(), numerics);
            // Folding changes bits once, for all engines alike.
            let bits = Engine::Interp(Box::new(program.clone())).run(&inputs).expect("it runs");
            for seed in std::iter::once(None).chain((0..SEEDS).map(Some)) {
                let device = Place::PtxSim(seed).open().expect("the simulator is always there");
                let engine = Engine::compile_program(program.clone(), &options(SIMULATOR, numerics), device, None);
                let mut engine = engine.unwrap_or_else(|e| panic!("{name}: {}", e[0]));
                let got = engine.run(&inputs).unwrap_or_else(|e| panic!("{name}, seed {seed:?}: {e}"));
                for ((got, expected), bits) in got.iter().zip(&expected).zip(&bits) {
                    let (reference, tolerance) = match numerics {
                        Numerics::Fast => (expected, Tolerance::scaled_to(expected)),
                        Numerics::Exact => (bits, Tolerance::EXACT),
                    };
                    let d = difference(got, reference, tolerance);
                    assert!(d.is_fine(), "{name}, {numerics:?}, seed {seed:?}: {}", d.describe(got, reference));
                }
            }
        }
    }
}

/// Models the simulator is fast enough for.
const SMALL: &[&str] = &[
    "arabname_decoder",
    "arabname_encoder",
    "caustic_painn",
    "dtln_1",
    "osf_lm_model0",
    "ppocr_v2_cls",
    "silero6_vad",
    "slovorez",
    "stories260k_plain17",
    "ultraface_rfb320",
    "winml_mnist12",
];

#[test]
fn small_models_pass() {
    let Some(dir) = more_models() else {
        return skip("more models", "neither XLAC_MODELS nor ../shared/models is there");
    };
    let cases: Vec<String> = SMALL.iter().map(|m| dir.join(m).display().to_string()).collect();
    let mut args = vec!["test", "--json", "--device", SIMULATOR, "--timeout", "600"];
    args.extend(cases.iter().map(String::as_str));
    for case in run_json(&args)["cases"].as_array().expect("a list of cases") {
        assert_eq!(case["status"], "passed", "{case}");
    }
}

/// Models at hand: the project's, and more where there are more.
fn models() -> Vec<PathBuf> {
    let more = more_models().map(|dir| xlac::case::find_cases(&dir)).unwrap_or_default();
    committed_models().into_iter().chain(more).map(|case| case.join("model.onnx")).filter(|file| file.exists()).collect()
}

/// A model lowered for GPUs, without host routines; none if the importer refuses it.
fn lowered(model: &Path, numerics: Numerics) -> Option<Lowered> {
    let options = CompileOptions { targets: vec!["ptx".into()], numerics, ..Default::default() };
    let mut report = Default::default();
    let program = xlac::compile::import_optimized(&Source::Path(model.into()), &options, &mut report).ok()?;
    let lowered = xlac::compile::lower(&program, "ptx", &options).unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    assert!(lowered.plan.host_steps().is_empty(), "{}: host routines", model.display());
    Some(lowered)
}

#[test]
fn every_kernel_of_every_model_is_verified() {
    let mut kernels = 0;
    for model in models() {
        for numerics in [Numerics::Fast, Numerics::Exact] {
            let Some(Lowered { target, backend, plan }) = lowered(&model, numerics) else { continue };
            // The backend holds every kernel's text to the verifier.
            let image = backend.compile(&plan.kernels, &target, 2);
            kernels += image.unwrap_or_else(|e| panic!("{}: {e}", model.display())).blocks.len();
        }
    }
    eprintln!("{kernels} kernels verified");
    assert!(kernels > 0);
}

/// An assembler for PTX: `XLAC_PTXAS`, the one of the project's `.venv`, or the system's.
fn ptxas() -> Option<PathBuf> {
    let named = std::env::var_os("XLAC_PTXAS").map(PathBuf::from);
    let venv = glob_ptxas(&xlac_tests::root().join(".venv/lib"));
    let candidates = named.into_iter().chain(venv).chain(["ptxas".into()]);
    candidates.into_iter().find(|p| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success()))
}

/// `lib/python*/site-packages/nvidia/*/bin/ptxas`.
fn glob_ptxas(lib: &Path) -> Option<PathBuf> {
    let folders = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    folders(lib.into())
        .flat_map(|python| folders(python.join("site-packages/nvidia")))
        .map(|package| package.join("bin/ptxas"))
        .find(|file| file.exists())
}

/// Programs whose kernels are assembled: the project's models and the networks in small.
fn assembled() -> Vec<(String, String)> {
    let text = |l: &Lowered| l.backend.print(&l.plan.kernels, &l.target, "ptx").unwrap_or_else(|e| panic!("{e}"));
    let mut all = Vec::new();
    for numerics in [Numerics::Fast, Numerics::Exact] {
        for case in committed_models() {
            let lowered = lowered(&case.join("model.onnx"), numerics).expect("the project's models compile");
            all.push((format!("{} {numerics:?}", case.display()), text(&lowered)));
        }
        for (name, program, _) in networks() {
            let program = optimized(program, numerics);
            let lowered = xlac::compile::lower(&program, "ptx", &options(SIMULATOR, numerics)).expect("it compiles");
            all.push((format!("{name} {numerics:?}"), text(&lowered)));
        }
    }
    all
}

#[test]
fn ptxas_accepts_every_kernel() {
    let Some(ptxas) = ptxas() else {
        return skip("ptxas", "it is not installed (pip install nvidia-cuda-nvcc); the driver has the same compiler");
    };
    let file = scratch("ptxas").join("model.ptx");
    for (name, text) in assembled() {
        std::fs::write(&file, text).expect("the folder is writable");
        for sm in ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"] {
            let output = Command::new(&ptxas).args(["-v", "-arch", sm, "-o", "/dev/null"]).arg(&file).output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}, {sm}: {said}");
            let spills = said.lines().filter(|l| l.contains("bytes spill") && !l.contains(" 0 bytes spill stores")).count();
            assert_eq!(spills, 0, "{name}, {sm}: {said}");
        }
    }
}

#[test]
fn a_gpu_that_is_not_there_is_told() {
    let model = xlac_tests::root().join("examples/data/ppocr_v2_cls").display().to_string();
    let (code, stdout, stderr) = run(&["run", &model, "--device", "cuda:99"]);
    assert!(stdout.is_empty() && stderr.contains("R040"), "{stderr}");
    assert_eq!(code, 1, "{stderr}");
    let (code, _, stderr) = run(&["run", &model, "--device", "gpu"]);
    assert!(code == 2 && stderr.contains("X0801"), "{stderr}");
}
