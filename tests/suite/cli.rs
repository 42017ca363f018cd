//! The command line is a contract: help, exit codes, what goes to stdout, and the shape of JSON.

use std::time::Instant;

use serde_json::Value;
use xlac_tests::{root, scratch};

use crate::{run, run_json};

fn model() -> String { root().join("examples/data/ppocr_v2_cls").display().to_string() }

#[test]
fn help_names_every_command() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for command in ["compile", "run", "test", "bench", "verify", "inspect", "check", "opt", "explain", "completions"] {
        assert!(stdout.contains(&format!("\n  {command} ")), "`{command}` is not in\n{stdout}");
        assert_eq!(run(&[command, "--help"]).0, 0, "{command} --help");
    }
}

#[test]
fn version_is_quick() {
    let best = (0..5).map(|_| {
        let start = Instant::now();
        assert_eq!(run(&["--version"]).0, 0);
        start.elapsed()
    });
    let best = best.min().expect("five runs");
    // Ten milliseconds is the goal; a loaded machine and a debug build are given more.
    assert!(best.as_millis() < 200, "{best:?}");
}

#[test]
fn exit_codes() {
    let model = model();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["frobnicate"], 2, "frobnicate"),
        (&["run"], 2, "FILE"),
        (&["compile", "/nonexistent/model.onnx"], 1, "X0803"),
        (&["explain", "X9999"], 2, "X0811"),
        (&["compile", &model, "--target", "ptx:sm_20"], 3, "X0802"),
        (&["run", &model, "--device", "cuda:99"], 1, "R040"),
        (&["compile", &model, "--target", "tpu"], 2, "X0801"),
        (&["compile", &model, "--emit", "poetry"], 2, "X0811"),
        (&["run", &model, "--input", "nonsense=a.npy"], 1, "X0803"),
    ];
    for (args, expected, text) in cases {
        let (code, stdout, stderr) = run(args);
        assert_eq!(code, *expected, "{args:?}\n{stdout}\n{stderr}");
        assert!(stderr.contains(text), "{args:?}: no `{text}` in\n{stderr}");
        assert_eq!(stdout, "", "{args:?}: stdout carries the result only");
    }
}

#[test]
fn explain_knows_every_code() {
    let (code, list, _) = run(&["explain"]);
    assert_eq!(code, 0);
    for line in list.lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        assert_eq!(run(&["explain", name]).0, 0, "{name}");
    }
}

#[test]
fn compile_then_run_then_inspect() {
    let dir = scratch("cli");
    let artifact = dir.join("model.xlac").display().to_string();
    let (code, stdout, stderr) = run(&["compile", &model(), "-o", &artifact]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    let bytes = std::fs::read(&artifact).expect("the artifact was written");
    assert_eq!(run(&["compile", &model(), "-o", &artifact]).0, 0);
    assert!(std::fs::read(&artifact).is_ok_and(|again| again == bytes), "the same input gives the same bytes");

    let inspected = run_json(&["inspect", &artifact, "--json"]);
    for key in ["model", "model_hash", "inputs", "outputs", "variants", "sections", "weight_bytes", "numerics"] {
        assert!(!inspected[key].is_null(), "`{key}` is missing in {inspected}");
    }
    let outputs = dir.join("out.npz").display().to_string();
    let (code, _, stderr) = run(&["run", &artifact, "--input", "x=1x3x48x192", "-o", &outputs]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("made up"), "made-up inputs are told:\n{stderr}");
    let ran = run_json(&["run", &model(), "--json"]);
    assert_eq!(ran["outputs"][0]["shape"], serde_json::json!([1, 2]), "{ran}");
}

#[test]
fn one_artifact_holds_several_targets() {
    let artifact = scratch("cli").join("several.xlac").display().to_string();
    let targets = ["--target", "cpu:generic", "--target", "cpu"];
    let model = model();
    let args = [&["compile", &model, "-o", &artifact][..], &targets[..]].concat();
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 0, "{stderr}");
    let inspected = run_json(&["inspect", &artifact, "--json"]);
    assert_eq!(inspected["variants"].as_array().map(Vec::len), Some(2));
    assert_eq!(run(&["run", &artifact]).0, 0);
}

#[test]
fn bench_prints_the_agreed_object() {
    let v = run_json(&["bench", &model(), "--json", "-n", "3", "--duration", "0.1", "--threads", "1"]);
    for key in ["min", "median", "p99"] {
        assert!(v["latency_ms"][key].as_f64().is_some_and(|x| x > 0.0), "latency_ms.{key} in {v}");
    }
    assert_eq!(v["threads"], 1);
    assert!(v["backend"].is_string() && v["peak_bytes"].is_u64());
    let kernels = v["kernels"].as_array().expect("a list of kernels");
    assert!(!kernels.is_empty());
    for key in ["name", "nodes", "ms", "gflops", "gbps"] {
        assert!(kernels.iter().all(|k| !k[key].is_null()), "kernels.{key} in {v}");
    }
}

#[test]
fn test_prints_the_agreed_object() {
    let v = run_json(&["test", &model(), "--json"]);
    assert_eq!((&v["passed"], &v["failed"], &v["refused"]), (&Value::from(1), &Value::from(0), &Value::from(0)), "{v}");
    let case = &v["cases"][0];
    assert_eq!(case["status"], "passed");
    assert!(case["name"].is_string() && case.get("code").is_some() && case["detail"].is_string());
}

#[test]
fn verify_compares_with_the_interpreter() {
    let v = run_json(&["verify", &model(), "--json"]);
    assert_eq!(v["ok"], true, "{v}");
    let exact = run_json(&["verify", &model(), "--json", "--numerics", "exact"]);
    assert_eq!(exact["outputs"][0]["max_ulp"], 0, "{exact}");
}

#[test]
fn text_ir_goes_through_passes() {
    let dir = scratch("cli");
    let file = dir.join("graph.xir").display().to_string();
    let (code, text, stderr) = run(&["compile", &model(), "--emit", "graph"]);
    assert_eq!(code, 0, "{stderr}");
    std::fs::write(&file, &text).expect("the scratch folder is writable");
    let (code, again, stderr) = run(&["opt", &file, "--passes", "dce"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(again, text, "a pass that changes nothing prints the same text");
}
