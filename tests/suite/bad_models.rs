//! Broken model files: a coded error within two seconds, never a panic.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use xlac_ir::random::Random;
use xlac_tests::{committed_models, root, scratch};

use crate::run;

/// Files that must not be believed: those the importer is tested with, and a good model cut and damaged.
fn corpus() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in ["compiler/onnx/tests/corpus", "tests/data/bad"] {
        let entries = std::fs::read_dir(root().join(dir)).into_iter().flatten().flatten();
        files.extend(entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")));
    }
    let dir = scratch("bad_models");
    let good = std::fs::read(committed_models()[0].join("model.onnx")).expect("the example's model");
    let mut random = Random::new(1);
    let mut write = |name: String, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).expect("the scratch folder is writable");
        files.push(path);
    };
    write("empty.onnx".into(), &[]);
    write("text.onnx".into(), b"this is not a model\n");
    write("zeros.onnx".into(), &[0; 4096]);
    for i in 0..12 {
        write(format!("cut_{i}.onnx"), &good[..random.below(good.len())]);
    }
    for i in 0..24 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(20) {
            // Mostly in the graph, which is small beside the weights.
            let at = if random.once_in(2) { random.below(bytes.len()) } else { bytes.len() - 1 - random.below(60_000) };
            bytes[at] = random.bits() as u8;
        }
        write(format!("damaged_{i}.onnx"), &bytes);
    }
    files
}

#[test]
fn errors_have_codes_and_come_soon() {
    for file in corpus() {
        let path = file.display().to_string();
        let start = Instant::now();
        let (code, _, stderr) = run(&["check", &path]);
        let time = start.elapsed();
        assert!([0, 1, 3, 5].contains(&code), "{path}: exit code {code}\n{stderr}");
        assert!(code == 0 || stderr.contains("error[X"), "{path}: an error without a code\n{stderr}");
        assert!(time < Duration::from_secs(2), "{path}: {time:?}");
    }
}

#[test]
fn damaged_artifacts_are_refused() {
    let dir = scratch("bad_models");
    let artifact = dir.join("good.xlac");
    let model = committed_models()[0].display().to_string();
    let (code, _, stderr) = run(&["compile", &model, "-o", &artifact.display().to_string()]);
    assert_eq!(code, 0, "{stderr}");
    let good = std::fs::read(&artifact).expect("the artifact was written");
    let mut random = Random::new(2);
    for i in 0..12 {
        let mut bytes = good.clone();
        if i % 3 == 0 { bytes.truncate(random.below(good.len())) } else { bytes[random.below(good.len())] ^= 1 << random.below(8) }
        let path = dir.join(format!("damaged_{i}.xlac"));
        std::fs::write(&path, &bytes).expect("the scratch folder is writable");
        let (code, _, stderr) = run(&["run", &path.display().to_string()]);
        // Padding between sections is the one thing no digest covers.
        assert!(code == 0 || code == 1 && stderr.contains("error["), "{i}: exit code {code}\n{stderr}");
    }
}
