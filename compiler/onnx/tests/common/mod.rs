//! Small helpers that build ONNX models for tests.
#![allow(dead_code, missing_docs)]

use prost::Message;
use xlac_ir::diag::Diagnostic;
use xlac_ir::interp;
use xlac_ir::tensor::Tensor;
use xlac_ir::verify::verify;
use xlac_onnx::proto::attribute_proto::AttributeType as Kind;
use xlac_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use xlac_onnx::proto::*;
use xlac_onnx::{ImportOptions, Imported, import_bytes};

pub const F32: i32 = 1;
pub const I64: i32 = 7;
pub const BOOL: i32 = 9;

/// A dim of an input: a size, or a symbol.
pub fn dim(text: &str) -> Dimension {
    let value = match text.parse() {
        Ok(n) => dimension::Value::DimValue(n),
        Err(_) => dimension::Value::DimParam(text.into()),
    };
    Dimension { value: Some(value) }
}

pub fn info(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: dims.iter().map(|d| dim(d)).collect() });
    let tensor = type_proto::Tensor { elem_type, shape };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }) }
}

/// An output, whose type is left open.
pub fn output(name: &str) -> ValueInfoProto { ValueInfoProto { name: name.into(), r#type: None } }

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    NodeProto { op_type: op.into(), input: names(inputs), output: names(outputs), ..NodeProto::default() }
}

pub fn attr(name: &str, kind: Kind) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}

pub fn int(name: &str, i: i64) -> AttributeProto { AttributeProto { i, ..attr(name, Kind::Int) } }
pub fn float(name: &str, f: f32) -> AttributeProto { AttributeProto { f, ..attr(name, Kind::Float) } }
pub fn ints(name: &str, v: &[i64]) -> AttributeProto { AttributeProto { ints: v.to_vec(), ..attr(name, Kind::Ints) } }
pub fn word(name: &str, v: &str) -> AttributeProto {
    AttributeProto { s: v.as_bytes().to_vec().into(), ..attr(name, Kind::String) }
}
pub fn graph_attr(name: &str, g: GraphProto) -> AttributeProto { AttributeProto { g: Some(g), ..attr(name, Kind::Graph) } }
pub fn tensor_attr(name: &str, t: TensorProto) -> AttributeProto { AttributeProto { t: Some(t), ..attr(name, Kind::Tensor) } }

pub fn with(mut n: NodeProto, attrs: Vec<AttributeProto>) -> NodeProto {
    n.attribute = attrs;
    n
}

pub fn f32s(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: F32, float_data: data.to_vec(), ..TensorProto::default() }
}

pub fn i64s(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: I64, int64_data: data.to_vec(), ..TensorProto::default() }
}

pub fn graph(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    let output = outputs.iter().map(|o| output(o)).collect();
    GraphProto { name: "g".into(), input: inputs, node: nodes, output, ..GraphProto::default() }
}

pub fn model(opset: i64, graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }
}

pub fn import(m: &ModelProto) -> Result<Imported, Vec<Diagnostic>> {
    import_bytes(m.encode_to_vec().into(), None, &ImportOptions::default())
}

/// Imports and runs a model.
pub fn run(m: &ModelProto, inputs: &[Tensor]) -> Vec<Tensor> {
    let imported = import(m).unwrap_or_else(|e| panic!("{e:?}"));
    verify(&imported.program).unwrap_or_else(|e| panic!("{e:?}"));
    interp::run(&imported.program, inputs, interp::Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Codes of the diagnostics a model is refused with.
pub fn codes(m: &ModelProto) -> Vec<&'static str> {
    match import(m) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|e| e.code).collect(),
    }
}
