//! Runs ONNX test-case folders through the importer and the interpreter: `onnx_case DIR...`, or `--import FILE...`.
//!
//! A tool for working on the importer; users have `xlac test`.

use std::path::{Path, PathBuf};

use xlac_ir::interp;
use xlac_ir::tensor::Tensor;
use xlac_ir::verify::verify;
use xlac_onnx::{ImportOptions, Imported, import_file, proto, read_tensor};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let import_only = args.first().is_some_and(|a| a == "--import");
    for arg in args.iter().filter(|a| *a != "--import") {
        let path = Path::new(arg);
        let model = if path.is_dir() { path.join("model.onnx") } else { path.into() };
        let outcome = std::panic::catch_unwind(|| case(&model, import_only));
        let line = outcome.unwrap_or_else(|_| "PANIC".into()).replace('\n', " | ");
        println!("{} {line}", path.file_name().map_or(arg.as_str(), |n| n.to_str().unwrap_or(arg)));
    }
}

fn case(model: &Path, import_only: bool) -> String {
    let start = std::time::Instant::now();
    let none = Vec::new();
    match import_file(model, &ImportOptions::default()) {
        Ok(imported) if verify(&imported.program).is_err() => {
            let errors = verify(&imported.program).err().unwrap_or_default();
            format!("INVALID {} {}", errors.len(), errors.first().map_or(String::new(), |e| e.to_string()))
        }
        Ok(imported) if import_only => describe(&imported, start.elapsed()),
        Ok(imported) => check(model, &imported, &none),
        Err(errors) => {
            // What must be known at import: the small integer inputs of the case, as a user who knows them would give.
            let retry = errors.iter().any(|e| e.code == "X0309").then(|| with_constants(model)).flatten();
            let again = retry.and_then(|(options, fixed)| Some((import_file(model, &options).ok()?, fixed)));
            match again {
                Some((imported, fixed)) => format!("CONSTANT-{}", check(model, &imported, &fixed)),
                None => refusal(&errors),
            }
        }
    }
}

fn refusal(errors: &[xlac_ir::diag::Diagnostic]) -> String {
    let texts: Vec<String> = errors.iter().take(4).map(|e| format!("{} {e}", e.code)).collect();
    format!("REFUSED {} errors: {}", errors.len(), texts.join("; "))
}

fn describe(imported: &Imported, time: std::time::Duration) -> String {
    let g = &imported.program.graph;
    let outputs: Vec<String> = g.outputs().iter().map(|&v| g.ty(v).to_string()).collect();
    format!("OK {} nodes, {} constraints, {time:?}: {}", g.live_nodes().len(), g.constraints.len(), outputs.join(", "))
}

fn with_constants(model: &Path) -> Option<(ImportOptions, Vec<usize>)> {
    let proto = proto::decode(std::fs::read(model).ok()?.into()).ok()?;
    let mut options = ImportOptions::default();
    let mut fixed = Vec::new();
    for (i, input) in proto.graph?.input.iter().enumerate() {
        let file = model.parent()?.join(format!("test_data_set_0/input_{i}.pb"));
        let (_, tensor) = read_tensor(std::fs::read(file).ok()?.into()).ok()?;
        if !tensor.dtype.is_float() && tensor.len() <= 16 {
            options.constants.insert(input.name.clone(), tensor);
            fixed.push(i);
        }
    }
    Some((options, fixed))
}

/// Runs every data set; `fixed` are inputs that are constants of the program.
fn check(model: &Path, imported: &Imported, fixed: &[usize]) -> String {
    let folder = model.parent().unwrap_or(Path::new("."));
    let sets: Vec<PathBuf> = (0..3).map(|i| folder.join(format!("test_data_set_{i}"))).filter(|p| p.is_dir()).collect();
    for set in sets {
        let (Ok(inputs), Ok(expected)) = (tensors(&set, "input"), tensors(&set, "output")) else {
            return "SKIP data is not tensors".into();
        };
        let inputs: Vec<Tensor> = inputs.into_iter().enumerate().filter(|(i, _)| !fixed.contains(i)).map(|(_, t)| t).collect();
        let outputs = match interp::run(&imported.program, &inputs, interp::Options::default()) {
            Ok(o) => o,
            Err(e) => return format!("ERROR {e}"),
        };
        if let Some(difference) = differs(&outputs, &expected) {
            return format!("WRONG {difference}");
        }
    }
    "OK".into()
}

fn tensors(set: &Path, kind: &str) -> Result<Vec<Tensor>, String> {
    let mut out = Vec::new();
    for i in 0.. {
        let Ok(bytes) = std::fs::read(set.join(format!("{kind}_{i}.pb"))) else { break };
        out.push(read_tensor(bytes.into()).map_err(|e| e.to_string())?.1);
    }
    Ok(out)
}

fn differs(found: &[Tensor], expected: &[Tensor]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{} outputs, expected {}", found.len(), expected.len()));
    }
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        if f.dtype != e.dtype || f.shape != e.shape {
            return Some(format!("output {i} is {}, expected {}", f.ty(), e.ty()));
        }
        if !f.dtype.in_kernels() {
            if f.data != e.data {
                return Some(format!("output {i}: bytes differ"));
            }
            continue;
        }
        let (rtol, atol) = if f.dtype.bits() == 16 { (1e-2, 1e-3) } else { (1e-3, 1e-5) };
        for (k, (x, y)) in f.to_f64().into_iter().zip(e.to_f64()).enumerate() {
            let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= atol + rtol * y.abs();
            if !same {
                return Some(format!("output {i} element {k}: {x}, expected {y}"));
            }
        }
    }
    None
}
