//! What the user names on the command line: a model, an artifact, or a folder in the layout of ONNX test cases.

use std::io::Read;
use std::path::{Path, PathBuf};

use xlac_ir::diag::Diagnostic;
use xlac_ir::tensor::Tensor;

use crate::compile::cannot;
use crate::{codes, data};

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// An ONNX model.
    Model(PathBuf),
    /// A compiled artifact.
    Artifact(PathBuf),
}

/// A path looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What to run.
    pub file: File,
    /// Folders of inputs and outputs, in order.
    pub data_sets: Vec<PathBuf>,
}

/// Looks at a path.
pub fn open(path: &Path) -> Result<Case, Diagnostic> {
    if path.is_dir() {
        let model = path.join("model.onnx");
        if !model.is_file() {
            let message = format!("`{}` has no model.onnx", path.display());
            return Err(Diagnostic::error(codes::NO_CASE, message));
        }
        return Ok(Case { file: File::Model(model), data_sets: data_sets(path) });
    }
    let mut magic = [0; 8];
    let mut file = std::fs::File::open(path).map_err(|e| cannot("read", path, &e))?;
    let is_artifact = file.read_exact(&mut magic).is_ok() && magic.starts_with(b"XLAC\r\n");
    let file = if is_artifact { File::Artifact(path.into()) } else { File::Model(path.into()) };
    Ok(Case { file, data_sets: Vec::new() })
}

/// Folders of a test case with inputs and outputs, by number.
fn data_sets(case: &Path) -> Vec<PathBuf> {
    (0..).map(|i| case.join(format!("test_data_set_{i}"))).take_while(|p| p.is_dir()).collect()
}

/// The tensors `PREFIX_0.pb`, `PREFIX_1.pb`, ... of a data set; none where a number is missing.
pub fn read_set(set: &Path, prefix: &str) -> Result<Vec<Option<Tensor>>, Diagnostic> {
    let mut tensors = Vec::new();
    for number in numbers(set, prefix) {
        tensors.resize(number, None);
        tensors.push(Some(data::read_file(&set.join(format!("{prefix}_{number}.pb")))?.1));
    }
    Ok(tensors)
}

/// The numbers behind a prefix in a folder, ascending.
fn numbers(set: &Path, prefix: &str) -> Vec<usize> {
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix(prefix)?.strip_prefix('_')?.strip_suffix(".pb")?.parse::<usize>().ok().filter(|n| *n < 4096)
    };
    let entries = std::fs::read_dir(set).into_iter().flatten().flatten();
    let mut numbers: Vec<usize> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Test cases at or beneath a path, sorted.
pub fn find_cases(path: &Path) -> Vec<PathBuf> {
    if path.join("model.onnx").is_file() {
        return vec![path.into()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders.iter().flat_map(|p| find_cases(p)).collect()
}
