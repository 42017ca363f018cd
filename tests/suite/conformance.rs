//! The ONNX project's own node tests, with floors on how many pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use xlac_tests::{engines, flags, root, scratch, skip};

use crate::run_json;

/// At least so many of the cases pass on each engine.
const FLOORS: &[(&str, usize)] = &[("interp", 1330), ("cranelift", 1330), ("llvm", 1330), ("ptx-sim", 1330)];

/// A Python that has `onnx`: `XLAC_PYTHON`, the project's `.venv`, or the system's.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("XLAC_PYTHON").map(PathBuf::from);
    let candidates = named.into_iter().chain([root().join(".venv/bin/python"), "python3".into()]);
    candidates.into_iter().find(|p| Command::new(p).args(["-c", "import onnx"]).output().is_ok_and(|o| o.status.success()))
}

/// The folder of the cases; none without Python.
fn cases() -> Option<PathBuf> {
    let python = python()?;
    let dir = scratch("onnx-node-cases");
    if !dir.join("LEFT_OUT").exists() {
        let script = root().join("tests/onnx/export_cases.py");
        let output = Command::new(python).arg(script).arg(&dir).output().expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Some(dir)
}

fn judge(engine: &str, flags: &[&str], dir: &str) {
    let args = [&["test", dir, "--json", "--timeout", "60", "--threads", "1"][..], flags].concat();
    let v = run_json(&args);
    let mut counts = BTreeMap::<&str, usize>::new();
    let cases = v["cases"].as_array().expect("a list of cases");
    for case in cases {
        *counts.entry(case["status"].as_str().unwrap_or("")).or_default() += 1;
    }
    eprintln!("{engine}: {counts:?}");
    let bad = |c: &&Value| ["crash", "timeout", "wrong", "error"].iter().any(|s| c["status"] == *s);
    cases.iter().filter(bad).for_each(|c| eprintln!("{engine}: {} {}: {}", c["status"], c["name"], c["detail"]));
    let floor = FLOORS.iter().find(|(e, _)| *e == engine).map_or(0, |(_, n)| *n);
    let passed = counts.get("passed").copied().unwrap_or(0);
    assert!(passed >= floor, "{engine}: {passed} cases pass, {floor} did before");
    assert!(!counts.contains_key("crash"), "{engine}: a case crashes");
}

#[test]
fn onnx_node_cases() {
    let Some(dir) = cases() else { return skip("ONNX node cases", "no Python with `onnx`; ./test.sh installs one") };
    let dir = dir.display().to_string();
    judge("interp", &["--device", "interp"], &dir);
    for engine in engines() {
        judge(engine, &flags(engine), &dir);
    }
}
