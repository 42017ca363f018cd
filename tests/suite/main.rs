//! Tests of the whole, one file per theme. What needs LLVM, Python or more models says that it is skipped.

mod aarch64;
mod amx;
mod bad_models;
mod cli;
mod conformance;
mod differential;
mod docs;
mod dynamic;
mod exact;
mod gpu;
mod models;
mod skeletons;
mod tidy;

/// The program under test, without what the environment might add.
fn xlac() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xlac-under-test"));
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("XLAC_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the program and gives exit code, stdout and stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = xlac().args(args).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Runs the program, which must succeed and print JSON.
fn run_json(args: &[&str]) -> serde_json::Value {
    let (code, stdout, stderr) = run(args);
    let parsed = serde_json::from_str(&stdout);
    parsed.unwrap_or_else(|e| panic!("xlac {args:?} ended with {code} and printed no JSON ({e}):\n{stdout}\n{stderr}"))
}
