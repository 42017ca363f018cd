//! Tensors from files and to files: `.npy`, `.npz`, `.pb`; and made-up inputs.

mod generate;
mod npy;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use xlac_ir::DType;
use xlac_ir::diag::Diagnostic;
use xlac_ir::kernel::Const;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;

use crate::codes;
use crate::compile::cannot;

pub use generate::{generate, resolve_shape};
pub use npy::{read_npy, write_npy};

/// A tensor from a `.npy` or `.pb` file, with the name in it if there is one.
pub fn read_file(path: &Path) -> Result<(Option<String>, Tensor), Diagnostic> {
    let bytes = std::fs::read(path).map_err(|e| cannot("read", path, &e))?;
    let about = |d: Diagnostic| Diagnostic { message: format!("`{}`: {}", path.display(), d.message), ..d };
    match extension(path) {
        "pb" => {
            let (name, tensor) = xlac_onnx::read_tensor(bytes.into()).map_err(about)?;
            Ok(((!name.is_empty()).then_some(name), tensor))
        }
        "npy" => Ok((None, read_npy(bytes).map_err(|e| bad(path, e))?)),
        _ => Err(bad(path, "only .npy and .pb files hold one tensor".into())),
    }
}

/// The tensors of a `.npz` file, or of the `.npy` and `.pb` files of a folder, by name.
pub fn read_many(path: &Path) -> Result<BTreeMap<String, Tensor>, Diagnostic> {
    if path.is_dir() {
        return read_folder(path);
    }
    let file = std::fs::File::open(path).map_err(|e| cannot("read", path, &e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| bad(path, e.to_string()))?;
    let mut tensors = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| bad(path, e.to_string()))?;
        let name = entry.name().trim_end_matches(".npy").to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| cannot("read", path, &e))?;
        tensors.insert(name, read_npy(bytes).map_err(|e| bad(path, e))?);
    }
    Ok(tensors)
}

fn read_folder(path: &Path) -> Result<BTreeMap<String, Tensor>, Diagnostic> {
    let mut tensors = BTreeMap::new();
    let entries = std::fs::read_dir(path).map_err(|e| cannot("read", path, &e))?;
    for entry in entries.flatten() {
        let file = entry.path();
        let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // A test data set holds the expected outputs beside the inputs.
        let expected = extension(&file) == "pb" && stem.starts_with("output_");
        if matches!(extension(&file), "npy" | "pb") && !expected {
            let (inner, tensor) = read_file(&file)?;
            tensors.insert(inner.unwrap_or(stem), tensor);
        }
    }
    Ok(tensors)
}

/// Writes named tensors as a `.npz` file.
pub fn write_npz(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Diagnostic> {
    let file = std::fs::File::create(path).map_err(|e| cannot("write", path, &e))?;
    let mut archive = zip::ZipWriter::new(std::io::BufWriter::new(file));
    // A fixed date: the same tensors give the same bytes.
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(true);
    for (name, tensor) in tensors {
        let bytes = write_npy(tensor).ok_or_else(|| bad(path, format!("{} cannot be stored", tensor.dtype)))?;
        archive.start_file(format!("{name}.npy"), options).map_err(|e| bad(path, e.to_string()))?;
        archive.write_all(&bytes).map_err(|e| cannot("write", path, &e))?;
    }
    archive.finish().map_err(|e| bad(path, e.to_string()))?.flush().map_err(|e| cannot("write", path, &e))
}

/// An element for people, as short as it can be without being ambiguous.
pub fn show(c: Const) -> String {
    match c.dtype {
        DType::F64 => f64::from_bits(c.bits).to_string(),
        t if t.is_float() => f32::from_bits(scalar::convert(c, DType::F32).bits as u32).to_string(),
        DType::Bool => (c.bits != 0).to_string(),
        DType::U64 => c.bits.to_string(),
        _ => scalar::convert(c, DType::I64).as_i64().to_string(),
    }
}

fn extension(path: &Path) -> &str { path.extension().and_then(|e| e.to_str()).unwrap_or("") }

fn bad(path: &Path, reason: String) -> Diagnostic {
    Diagnostic::error(codes::BAD_DATA, format!("`{}`: {reason}", path.display()))
}
