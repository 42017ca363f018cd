//! The XLAC compiler as a library: an ONNX model in, an artifact for [`xlac_runtime`] out.
//!
//! ```no_run
//! let artifact = xlac::compile("model.onnx", &xlac::CompileOptions::default()).map_err(|e| e[0].to_string())?;
//! let model = xlac_runtime::Model::from_bytes(&artifact.bytes).map_err(|e| e.to_string())?;
//! # Ok::<(), String>(())
//! ```
//!
//! In reading order: [`mod@compile`] is the pipeline, [`targets`] and [`machine`] say what for, [`assemble`] turns the
//! plan of code generation into the runtime's; [`engine`] runs the result or the reference interpreter, on data read by
//! [`data`] and compared by [`compare`]; [`commands`] is the command line, [`render`] its only voice.

#![forbid(unsafe_code)]
// Diagnostics are large, and errors are rare: a box around each would only be in the way.
#![allow(clippy::result_large_err)]

pub mod assemble;
pub mod case;
pub mod codes;
pub mod commands;
pub mod compare;
pub mod compile;
pub mod data;
pub mod device;
pub mod engine;
pub mod machine;
pub mod render;
pub mod roofline;
pub mod targets;

pub use compile::{CompileOptions, Compiled, Source, compile, compile_to};
pub use xlac_codegen::Numerics;
