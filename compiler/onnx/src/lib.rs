//! ONNX models in: protobuf to graph IR, one file per operator or family.
//!
//! A model file is untrusted. Whatever it holds, importing gives a program or diagnostics with codes, never a panic; the
//! table of codes is [`codes::CODES`].

#![deny(unsafe_code)]

pub mod builder;
pub mod codes;
mod check;
mod external;
mod fail;
mod file;
mod functions;
mod import;
mod model;
pub mod node;
pub mod ops;
pub mod proto;
mod prune;
mod shape_fold;
mod sort;
mod norm;
mod tensor_data;
mod window;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::Program;
use xlac_ir::tensor::Tensor;

pub use codes::{CODES, explain};
pub use fail::{Fail, Res};

/// What a symbolic dim is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimOverride {
    /// A constant.
    Fixed(i64),
    /// Anything from the first to the second.
    Range(i64, i64),
}

/// Bounds on what a model may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes, those of subgraphs and expanded functions included.
    pub nodes: usize,
    /// Nesting of subgraphs and of functions.
    pub nesting: usize,
    /// Bytes of a single tensor, symbolic dims counted as one.
    pub tensor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits { Limits { nodes: 1_000_000, nesting: 64, tensor_bytes: 1 << 36 } }
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Values of symbolic dims, by their name.
    pub dims: BTreeMap<String, DimOverride>,
    /// Shapes of inputs, by the name of the input; -1 leaves a dim as it is.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// Values of inputs that are known already: they become constants, and the program has no such inputs. For inputs
    /// that decide about shapes or axes.
    pub constants: BTreeMap<String, Tensor>,
    /// Bounds.
    pub limits: Limits,
}

/// A model that was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it computes.
    pub program: Program,
    /// What the user should know.
    pub warnings: Vec<Diagnostic>,
    /// Where it comes from.
    pub info: ModelInfo,
}

/// What a model says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Version of the file format.
    pub ir_version: i64,
    /// Name of the exporter.
    pub producer: String,
    /// Version of the exporter.
    pub producer_version: String,
    /// Operator sets: domain (empty for `ai.onnx`) and version.
    pub opsets: Vec<(String, i64)>,
}

/// Imports a model file. Weights stay in the file, which is mapped and must not change while the program is used.
pub fn import_file(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let path = path.as_ref();
    let bytes = file::map_path(path).map_err(|e| vec![e.into_diagnostic()])?;
    import_bytes(bytes, path.parent(), options)
}

/// Imports a model from bytes, with external data beneath `base_dir`.
pub fn import_bytes(bytes: Bytes, base_dir: Option<&Path>, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let model = proto::decode(bytes).map_err(|e| vec![e.into_diagnostic()])?;
    model::import(&model, base_dir, options)
}

/// The tensor in the bytes of a `TensorProto`: the inputs and outputs of ONNX test cases. Also gives its name.
pub fn read_tensor(bytes: Bytes) -> Result<(String, Tensor), Diagnostic> {
    let decode = |bytes| -> Res<(String, Tensor)> {
        let proto = <proto::TensorProto as prost::Message>::decode(bytes)
            .map_err(|e| Fail::new(codes::NOT_ONNX, format!("not a tensor: {e}")))?;
        let tensor = tensor_data::tensor(&proto, &mut external::External::default(), Limits::default().tensor_bytes)?;
        Ok((proto.name, tensor))
    };
    decode(bytes).map_err(Fail::into_diagnostic)
}
