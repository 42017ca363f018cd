//! ONNX's protobuf messages, and decoding them.
//!
//! The types are generated from `proto/onnx.proto3`; `raw_data` is a view of the bytes that were decoded. Unknown fields
//! are ignored, wrong wire types are errors, and nesting is bounded by prost's recursion limit.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated;

use bytes::Bytes;
pub use generated::*;
use prost::Message;

use crate::codes;
use crate::fail::{Fail, Res};

/// Decodes a model.
pub fn decode(bytes: Bytes) -> Res<ModelProto> {
    let help = "the file is cut, damaged or of another format: export or download it again";
    if bytes.is_empty() {
        return Err(Fail::new(codes::NOT_ONNX, "the file is empty").help(help));
    }
    ModelProto::decode(bytes).map_err(|e| Fail::new(codes::NOT_ONNX, format!("not an ONNX model: {e}")).help(help))
}
