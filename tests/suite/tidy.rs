//! Rules about the tree itself: who depends on whom, how files begin, what must not stay behind.

use std::path::{Path, PathBuf};

use xlac_tests::root;

/// Our crates that each crate may use; `compiler/driver` is the rim, `runtime` stands outside.
const MAY_USE: &[(&str, &[&str])] = &[
    ("compiler/ir", &[]),
    ("compiler/onnx", &["xlac-ir"]),
    ("compiler/opt", &["xlac-ir"]),
    ("compiler/codegen", &["xlac-ir"]),
    ("compiler/backend/cranelift", &["xlac-ir"]),
    ("compiler/backend/llvm", &["xlac-ir"]),
    ("compiler/backend/ptx", &["xlac-ir"]),
    (
        "compiler/driver",
        &[
            "xlac-ir",
            "xlac-onnx",
            "xlac-opt",
            "xlac-codegen",
            "xlac-cranelift",
            "xlac-llvm",
            "xlac-ptx",
            "xlac-ptx-sim",
            "xlac-runtime",
        ],
    ),
    ("runtime", &[]),
    ("runtime/ptx-sim", &["xlac-runtime"]),
    ("examples", &["xlac", "xlac-runtime"]),
    ("tests", &["xlac", "xlac-ir", "xlac-opt", "xlac-runtime"]),
];

/// Most lines of a file; longer ones are listed.
const MOST_LINES: usize = 500;

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["compiler", "runtime", "tests", "examples"] {
        collect(&root().join(top), &mut found);
    }
    assert!(found.len() > 100, "the tree is not where it was expected: {} files", found.len());
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Names of our crates in the `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if inside && line.starts_with("xlac") {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
            names.push(name);
        }
    }
    names
}

#[test]
fn crates_depend_inwards() {
    for (folder, allowed) in MAY_USE {
        let Ok(manifest) = std::fs::read_to_string(root().join(folder).join("Cargo.toml")) else { continue };
        for name in dependencies(&manifest) {
            assert!(allowed.contains(&name.as_str()), "{folder} must not depend on {name}; see docs/architecture.md");
        }
    }
}

#[test]
fn every_crate_is_in_the_table() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = workspace.split("members = [").nth(1).and_then(|s| s.split(']').next()).unwrap_or("");
    for member in members.split(',').map(|m| m.trim().trim_matches('"')).filter(|m| !m.is_empty()) {
        let prefix = member.trim_end_matches('*');
        assert!(MAY_USE.iter().any(|(f, _)| f.starts_with(prefix)), "{member} is not in the table of this test");
    }
}

#[test]
fn files_say_what_they_are() {
    let silent: Vec<PathBuf> = rust_files()
        .into_iter()
        .filter(|p| !p.ends_with("generated.rs") && !std::fs::read_to_string(p).is_ok_and(|t| t.starts_with("//!")))
        .collect();
    assert!(silent.is_empty(), "the first line of a file says what it is, with `//!`: {silent:#?}");
}

#[test]
fn nothing_is_left_to_do() {
    // Written in two halves, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    for path in rust_files() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for word in words {
            assert!(!text.contains(word), "{} contains `{word}`", path.display());
        }
    }
}

#[test]
fn lists_of_operators_are_sorted() {
    for (file, opening) in [("compiler/onnx/src/ops.rs", "operators! {"), ("compiler/opt/src/rules.rs", "rules! {")] {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        let Some(list) = text.split(&format!("\n{opening}")).nth(1).and_then(|t| t.split('}').next()) else { continue };
        let names: Vec<&str> = list.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
        let bare: Vec<&str> = names.iter().map(|n| n.trim_end_matches('_')).collect();
        assert!(bare.is_sorted(), "{file}: the list after `{opening}` is not sorted");
    }
}

#[test]
fn files_stay_short() {
    let lines = |p: &PathBuf| std::fs::read_to_string(p).map_or(0, |t| t.lines().count());
    let mut long: Vec<(usize, PathBuf)> =
        rust_files().into_iter().filter(|p| !p.ends_with("generated.rs")).map(|p| (lines(&p), p)).collect();
    long.retain(|(n, _)| *n > MOST_LINES);
    long.sort();
    // A report rather than a rule: a file grows by a line now and then, and is split when somebody has the time.
    for (n, path) in &long {
        eprintln!("{n} lines, more than {MOST_LINES}: {}", path.display());
    }
    assert!(long.iter().all(|(n, _)| *n < 2 * MOST_LINES), "split these files: {long:#?}");
}
