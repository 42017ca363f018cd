//! The check of the whole model before anything is imported: everything unsupported is told at once.

use std::collections::HashSet;

use xlac_ir::diag::{Diagnostic, NodeRef};

use crate::fail::Fail;
use crate::node::{clean, display_name, supported};
use crate::proto::{GraphProto, NodeProto, type_proto};
use crate::{Limits, codes, functions, ops, tensor_data};

/// Errors told before the rest is summed up: a broken file can have a million of them.
const MOST: usize = 1000;

/// What stands in the way of importing a graph.
pub fn check(graph: &GraphProto, opsets: &[(String, i64)], limits: &Limits) -> Vec<Diagnostic> {
    let mut checker = Checker { opsets, limits, nodes: 0, errors: Vec::new() };
    checker.graph(graph, 0);
    checker.errors
}

struct Checker<'a> {
    opsets: &'a [(String, i64)],
    limits: &'a Limits,
    nodes: usize,
    errors: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn graph(&mut self, graph: &GraphProto, depth: usize) {
        if depth > self.limits.nesting {
            return self.once(codes::NESTING, format!("subgraphs are nested more than {} deep", self.limits.nesting));
        }
        self.nodes = self.nodes.saturating_add(graph.node.len());
        if self.nodes > self.limits.nodes {
            return self.once(codes::TOO_MANY_NODES, format!("the model has more than {} nodes", self.limits.nodes));
        }
        for input in &graph.input {
            let value = input.r#type.as_ref().and_then(|t| t.value.as_ref());
            let result = match value {
                Some(type_proto::Value::TensorType(t)) if t.elem_type != 0 => {
                    tensor_data::dtype(t.elem_type).and_then(supported).map(|_| ())
                }
                Some(type_proto::Value::TensorType(_)) | None => Ok(()),
                Some(_) => Err(Fail::new(codes::NOT_A_TENSOR, "is not a tensor")),
            };
            if let Err(e) = result {
                let inner = e.into_diagnostic();
                self.push(Diagnostic::error(inner.code, format!("input `{}`: {}", clean(&input.name), inner.message)));
            }
        }
        for (i, node) in graph.node.iter().enumerate() {
            if self.errors.len() >= MOST {
                return;
            }
            self.node(node, i);
            for a in &node.attribute {
                a.g.iter().chain(&a.graphs).for_each(|g| self.graph(g, depth + 1));
            }
        }
    }

    fn node(&mut self, proto: &NodeProto, index: usize) {
        let domain = functions::domain(&proto.domain);
        let imported = self.opsets.iter().find(|(d, _)| d == domain).map(|(_, v)| *v);
        let version = functions::opset(proto).or(imported);
        let at = NodeRef {
            name: display_name(proto, index),
            op: clean(&proto.op_type),
            domain: clean(domain),
            opset: version.unwrap_or(0),
        };
        let Some(opset) = version else {
            let message = format!("the model does not import operator set `{}`", clean(domain));
            return self.push(Diagnostic::error(codes::OPSET_IMPORT, message).at(at));
        };
        let op = match ops::find(domain, &proto.op_type, opset) {
            Ok(op) => op,
            Err(e) => return self.push(e.at(at).into_diagnostic()),
        };
        let mut seen = HashSet::new();
        for a in &proto.attribute {
            if !seen.insert(&a.name) {
                let message = format!("attribute `{}` is given twice", clean(&a.name));
                self.push(Diagnostic::error(codes::DUPLICATE_ATTRIBUTE, message).at(at.clone()));
            }
            if !op.attrs.contains(&a.name.as_str()) {
                let known = if op.attrs.is_empty() { "it has none".into() } else { format!("it has `{}`", op.attrs.join("`, `")) };
                let message = format!("unknown attribute `{}`", clean(&a.name));
                self.push(Diagnostic::error(codes::UNKNOWN_ATTRIBUTE, message).at(at.clone()).help(known));
            }
        }
        let (least, most) = op.inputs;
        let given = proto.input.iter().rposition(|i| !i.is_empty()).map_or(0, |i| i + 1);
        if given < least || given > most {
            let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
            self.push(Diagnostic::error(codes::ARITY, format!("{given} inputs, expected {expected}")).at(at));
        }
    }

    fn push(&mut self, d: Diagnostic) {
        if self.errors.len() < MOST {
            self.errors.push(d);
        }
    }

    fn once(&mut self, code: &'static str, message: String) {
        if self.errors.iter().all(|e| e.code != code) {
            self.errors.push(Diagnostic::error(code, message));
        }
    }
}
