//! Typed access to one ONNX node.

use bytes::Bytes;
use xlac_ir::DType;
use xlac_ir::diag::NodeRef;
use xlac_ir::graph::ValueId;

use crate::codes;
use crate::fail::{Fail, Res, bail, ensure};
use crate::proto::attribute_proto::AttributeType as Kind;
use crate::proto::{AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto};
use crate::tensor_data;

/// A node that is being imported: its attributes and the values of its inputs.
pub struct Node<'m> {
    /// The node in the file.
    pub proto: &'m NodeProto,
    /// Version of its domain.
    pub opset: i64,
    /// How messages call it.
    pub name: String,
    /// Values of the inputs; none for those left out.
    pub inputs: Vec<Option<ValueId>>,
}

/// How diagnostics call node number `index` of a graph.
pub fn display_name(proto: &NodeProto, index: usize) -> String {
    let name = if proto.name.is_empty() { format!("{}_{index}", proto.op_type) } else { proto.name.clone() };
    clean(&name)
}

/// A name from a file, fit for messages and symbols: bounded, without control characters.
pub fn clean(name: &str) -> String { name.chars().map(|c| if c.is_control() { '_' } else { c }).take(200).collect() }

impl<'m> Node<'m> {
    /// How diagnostics refer to it.
    pub fn reference(&self) -> NodeRef {
        NodeRef {
            name: self.name.clone(),
            op: clean(&self.proto.op_type),
            domain: clean(&self.proto.domain),
            opset: self.opset,
        }
    }

    /// A required input.
    pub fn input(&self, index: usize) -> Res<ValueId> {
        self.opt(index).ok_or_else(|| Fail::new(codes::ARITY, format!("input {index} is required")))
    }

    /// An optional input.
    pub fn opt(&self, index: usize) -> Option<ValueId> { self.inputs.get(index).copied().flatten() }

    /// All inputs, none of which may be left out.
    pub fn all_inputs(&self) -> Res<Vec<ValueId>> { (0..self.inputs.len()).map(|i| self.input(i)).collect() }

    /// True if output `index` has a name.
    pub fn wants(&self, index: usize) -> bool { self.proto.output.get(index).is_some_and(|o| !o.is_empty()) }

    /// Number of outputs, trailing unnamed ones not counted.
    pub fn output_count(&self) -> usize { self.proto.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1) }

    fn attr(&self, name: &str, kind: Kind) -> Res<Option<&'m AttributeProto>> {
        let Some(a) = self.proto.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        // Files of the first IR versions leave the type out.
        let fits = a.r#type == kind as i32 || a.r#type == Kind::Undefined as i32;
        ensure!(fits, ATTRIBUTE_TYPE, "attribute `{name}` is not of type {}", kind.as_str_name());
        Ok(Some(a))
    }

    /// True if the attribute is given.
    pub fn has(&self, name: &str) -> bool { self.proto.attribute.iter().any(|a| a.name == name) }

    /// An integer, if it is given.
    pub fn int_opt(&self, name: &str) -> Res<Option<i64>> { Ok(self.attr(name, Kind::Int)?.map(|a| a.i)) }

    /// An integer with a default.
    pub fn int(&self, name: &str, default: i64) -> Res<i64> { Ok(self.int_opt(name)?.unwrap_or(default)) }

    /// An integer without a default.
    pub fn int_required(&self, name: &str) -> Res<i64> { self.int_opt(name)?.ok_or_else(|| missing(name)) }

    /// An integer that is 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Res<bool> { Ok(self.int(name, i64::from(default))? != 0) }

    /// A size: an integer of at least one.
    pub fn size(&self, name: &str, default: i64) -> Res<usize> {
        let x = self.int(name, default)?;
        usize::try_from(x).ok().filter(|&x| x > 0 && x <= 1 << 40).ok_or_else(|| bad_size(name, x))
    }

    /// A number, if it is given.
    pub fn float_opt(&self, name: &str) -> Res<Option<f32>> { Ok(self.attr(name, Kind::Float)?.map(|a| a.f)) }

    /// A number with a default.
    pub fn float(&self, name: &str, default: f32) -> Res<f32> { Ok(self.float_opt(name)?.unwrap_or(default)) }

    /// Integers, if they are given.
    pub fn ints(&self, name: &str) -> Res<Option<&'m [i64]>> { Ok(self.attr(name, Kind::Ints)?.map(|a| a.ints.as_slice())) }

    /// Integers without a default.
    pub fn ints_required(&self, name: &str) -> Res<&'m [i64]> { self.ints(name)?.ok_or_else(|| missing(name)) }

    /// `count` sizes of at least `least`, all `default` if they are not given.
    pub fn sizes(&self, name: &str, count: usize, default: i64, least: i64) -> Res<Vec<usize>> {
        let Some(given) = self.ints(name)?.filter(|x| !x.is_empty()) else { return Ok(vec![default as usize; count]) };
        ensure!(given.len() == count, ATTRIBUTE_VALUE, "attribute `{name}` has {} elements, expected {count}", given.len());
        let size = |&x: &i64| usize::try_from(x).ok().filter(|_| x >= least && x <= 1 << 40).ok_or_else(|| bad_size(name, x));
        given.iter().map(size).collect()
    }

    /// Numbers, if they are given.
    pub fn floats(&self, name: &str) -> Res<Option<&'m [f32]>> {
        Ok(self.attr(name, Kind::Floats)?.map(|a| a.floats.as_slice()))
    }

    /// A word with a default.
    pub fn word(&self, name: &str, default: &'m str) -> Res<&'m str> {
        self.attr(name, Kind::String)?.map_or(Ok(default), |a| utf8(name, &a.s))
    }

    /// Words, if they are given.
    pub fn words(&self, name: &str) -> Res<Option<Vec<&'m str>>> {
        self.attr(name, Kind::Strings)?.map(|a| a.strings.iter().map(|s| utf8(name, s)).collect()).transpose()
    }

    /// An element type with a default.
    pub fn dtype(&self, name: &str, default: DType) -> Res<DType> {
        match self.int_opt(name)? {
            None => Ok(default),
            Some(code) => supported(tensor_data::dtype(i32::try_from(code).unwrap_or(-1))?),
        }
    }

    /// A tensor, if it is given.
    pub fn tensor(&self, name: &str) -> Res<Option<&'m TensorProto>> {
        Ok(self.attr(name, Kind::Tensor)?.and_then(|a| a.t.as_ref()))
    }

    /// A sparse tensor, if it is given.
    pub fn sparse_tensor(&self, name: &str) -> Res<Option<&'m SparseTensorProto>> {
        Ok(self.attr(name, Kind::SparseTensor)?.and_then(|a| a.sparse_tensor.as_ref()))
    }

    /// A graph.
    pub fn graph(&self, name: &str) -> Res<&'m GraphProto> {
        self.attr(name, Kind::Graph)?.and_then(|a| a.g.as_ref()).ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> Fail { Fail::new(codes::MISSING_ATTRIBUTE, format!("attribute `{name}` is required")) }

fn bad_size(name: &str, x: i64) -> Fail { Fail::new(codes::BAD_SIZE, format!("attribute `{name}` cannot be {x}")) }

fn utf8<'a>(name: &str, bytes: &'a Bytes) -> Res<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| Fail::new(codes::ATTRIBUTE_VALUE, format!("attribute `{name}` is not UTF-8")))
}

/// The element type itself, unless values of it cannot exist in a program.
pub fn supported(dtype: DType) -> Res<DType> {
    match dtype {
        DType::String | DType::C64 | DType::C128 => bail!(DTYPE, "element type {dtype} is not supported"),
        _ => Ok(dtype),
    }
}
