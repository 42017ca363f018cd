//! The `.xlac` file: header, table of sections, and sections aligned to 64 bytes, each with its BLAKE3 digest.
//!
//! ```text
//! 0     magic, format version, length of the header, number of sections, file length, digest of the header
//! 64    table: kind, variant, offset, length, digest; 64 bytes per section
//! 4096  sections: weights, then plan and code of each variant, then the metadata
//! ```
//!
//! Numbers are little-endian; plans and metadata are in postcard's format. The digest of the weights is one of hashes of their
//! pieces: see `digest`. Every byte but the padding between sections is covered by a digest, and nothing in a damaged file
//! is believed before its digest is.

mod digest;
mod format;
mod read;
mod write;

use serde::{Deserialize, Serialize};

pub(crate) use read::check_sizes;
pub use read::{Artifact, LoadOptions, Refusal, SectionInfo};
pub use write::ArtifactWriter;

pub use format::FORMAT_VERSION;

/// What an artifact says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Name and version of what wrote it.
    pub producer: String,
    /// Name of the model.
    pub model_name: String,
    /// BLAKE3 digest of the model file.
    pub model_hash: [u8; 32],
    /// Numerics contract, such as `fast` or `exact`.
    pub numerics: String,
    /// Other facts worth showing, as key and value.
    pub notes: Vec<(String, String)>,
    /// The variants; filled in by the writer.
    pub variants: Vec<VariantInfo>,
}

impl Metadata {
    /// For a model made of functions of this program.
    pub(crate) fn of_functions() -> Metadata {
        let variant = VariantInfo { target: "functions".into(), ..VariantInfo::default() };
        Metadata { model_name: "functions".into(), variants: vec![variant], ..Metadata::default() }
    }
}

/// What one variant needs of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantInfo {
    /// Name of the target as given to the compiler, such as `cpu:znver3`.
    pub target: String,
    /// Processor architecture, as in [`std::env::consts::ARCH`], or [`crate::device::cuda::ARCH`] for NVIDIA GPUs, whose
    /// code is PTX text that ends with a zero.
    pub arch: String,
    /// Processor features the code uses, by the names of [`crate::device::features`]; for a GPU the oldest generation it
    /// runs on, such as `sm_80`, or with a final `a` the only one.
    pub features: Vec<String>,
    /// What generated the code, such as `cranelift`, `llvm` or `ptx`.
    pub backend: String,
}

#[cfg(test)]
mod tests;
