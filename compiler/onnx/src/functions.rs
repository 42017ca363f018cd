//! Model-local functions, expanded in place before anything else looks at the graph.

use std::collections::{HashMap, HashSet};

use crate::fail::{Res, bail, ensure};
use crate::node::{clean, display_name};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto};
use crate::Limits;

/// Key under which an expanded node remembers the opset its function imports.
const OPSET: &str = "xlac.opset";

/// A domain by its short name.
pub fn domain(domain: &str) -> &str { if domain == "ai.onnx" { "" } else { domain } }

/// The version of its domain that the function imports which a node stems from.
pub fn opset(node: &NodeProto) -> Option<i64> {
    node.metadata_props.iter().find(|p| p.key == OPSET)?.value.parse().ok().filter(|v| (1..=1 << 20).contains(v))
}

/// The graph with every call of a function replaced by its body; none if there are no functions.
pub fn expand(model: &ModelProto, graph: &GraphProto, limits: &Limits) -> Res<Option<GraphProto>> {
    if model.functions.is_empty() {
        return Ok(None);
    }
    let mut functions = HashMap::new();
    for f in &model.functions {
        let key = key(&f.domain, &f.name, &f.overload);
        ensure!(functions.insert(key, f).is_none(), FUNCTION, "function `{}` is defined twice", clean(&f.name));
    }
    let mut expander = Expander { functions, limits, nodes: 0, calls: 0 };
    let mut graph = graph.clone();
    expander.graph(&mut graph, &mut Vec::new(), 0)?;
    Ok(Some(graph))
}

/// What a call finds its function by.
fn key(domain_name: &str, name: &str, overload: &str) -> String { format!("{}\0{name}\0{overload}", domain(domain_name)) }

struct Expander<'a> {
    functions: HashMap<String, &'a FunctionProto>,
    limits: &'a Limits,
    nodes: usize,
    calls: usize,
}

impl Expander<'_> {
    fn graph(&mut self, graph: &mut GraphProto, stack: &mut Vec<String>, depth: usize) -> Res<()> {
        ensure!(depth <= self.limits.nesting, NESTING, "subgraphs are nested more than {} deep", self.limits.nesting);
        let mut out = Vec::with_capacity(graph.node.len());
        for (i, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            self.node(node, i, stack, depth, &mut out)?;
        }
        graph.node = out;
        Ok(())
    }

    fn node(&mut self, mut node: NodeProto, i: usize, stack: &mut Vec<String>, depth: usize, out: &mut Vec<NodeProto>) -> Res<()> {
        self.nodes += 1;
        ensure!(self.nodes <= self.limits.nodes, TOO_MANY_NODES, "the model has more than {} nodes when its functions are expanded", self.limits.nodes);
        for a in &mut node.attribute {
            for g in a.g.iter_mut().chain(&mut a.graphs) {
                self.graph(g, stack, depth + 1)?;
            }
        }
        let key = key(&node.domain, &node.op_type, &node.overload);
        let Some(&f) = self.functions.get(&key) else {
            out.push(node);
            return Ok(());
        };
        ensure!(!stack.contains(&key), FUNCTION, "function `{}` calls itself", clean(&f.name));
        ensure!(stack.len() < self.limits.nesting, NESTING, "functions are nested more than {} deep", self.limits.nesting);
        stack.push(key);
        for (j, body) in self.body(f, &node, i)?.into_iter().enumerate() {
            self.node(body, j, stack, depth, out)?;
        }
        stack.pop();
        Ok(())
    }

    /// The nodes of a call, with names made unique and attributes filled in.
    fn body(&mut self, f: &FunctionProto, call: &NodeProto, index: usize) -> Res<Vec<NodeProto>> {
        let name = display_name(call, index);
        ensure!(
            call.input.len() <= f.input.len() && call.output.len() <= f.output.len(),
            FUNCTION, "call `{name}` has more inputs or outputs than function `{}`", clean(&f.name)
        );
        self.calls += 1;
        let prefix = format!("{name}#{}/", self.calls);
        let mut names: HashMap<String, String> = HashMap::new();
        for (i, formal) in f.input.iter().enumerate() {
            names.insert(formal.clone(), call.input.get(i).cloned().unwrap_or_default());
        }
        let inputs: HashSet<&String> = f.input.iter().collect();
        let mut copies = Vec::new();
        for (i, formal) in f.output.iter().enumerate() {
            let Some(actual) = call.output.get(i).filter(|o| !o.is_empty()) else { continue };
            if inputs.contains(formal) {
                copies.push(identity(&names[formal], actual));
            } else {
                names.insert(formal.clone(), actual.clone());
            }
        }
        let versions: HashMap<&str, i64> = f.opset_import.iter().map(|o| (domain(&o.domain), o.version)).collect();
        let cx = Call { prefix, attributes: attributes(f, call)?, versions };
        let mut nodes = Vec::with_capacity(f.node.len());
        for node in &f.node {
            nodes.push(cx.node(node, &mut names));
        }
        nodes.extend(copies);
        Ok(nodes)
    }
}

fn identity(from: &str, to: &str) -> NodeProto {
    NodeProto { op_type: "Identity".into(), input: vec![from.into()], output: vec![to.into()], ..NodeProto::default() }
}

/// Attributes of a call by name, defaults included.
fn attributes(f: &FunctionProto, call: &NodeProto) -> Res<HashMap<String, AttributeProto>> {
    let mut out: HashMap<String, AttributeProto> = f.attribute_proto.iter().map(|a| (a.name.clone(), a.clone())).collect();
    for a in &call.attribute {
        let known = f.attribute.contains(&a.name) || out.contains_key(&a.name);
        if !known {
            bail!(FUNCTION, "function `{}` has no attribute `{}`", clean(&f.name), clean(&a.name));
        }
        out.insert(a.name.clone(), a.clone());
    }
    Ok(out)
}

/// One call that is being expanded.
struct Call<'a> {
    prefix: String,
    attributes: HashMap<String, AttributeProto>,
    versions: HashMap<&'a str, i64>,
}

impl Call<'_> {
    fn node(&self, node: &NodeProto, names: &mut HashMap<String, String>) -> NodeProto {
        let mut out = NodeProto {
            name: format!("{}{}", self.prefix, if node.name.is_empty() { &node.op_type } else { &node.name }),
            input: node.input.iter().map(|n| self.used(n, names)).collect(),
            op_type: node.op_type.clone(),
            domain: node.domain.clone(),
            overload: node.overload.clone(),
            ..NodeProto::default()
        };
        if let Some(version) = self.versions.get(domain(&node.domain)) {
            out.metadata_props.push(StringStringEntryProto { key: OPSET.into(), value: version.to_string() });
        }
        out.attribute = node.attribute.iter().filter_map(|a| self.attribute(a, names)).collect();
        out.output = node.output.iter().map(|n| self.defined(n, names)).collect();
        out
    }

    fn used(&self, name: &str, names: &HashMap<String, String>) -> String {
        match names.get(name) {
            _ if name.is_empty() => String::new(),
            Some(n) => n.clone(),
            None => format!("{}{name}", self.prefix),
        }
    }

    fn defined(&self, name: &str, names: &mut HashMap<String, String>) -> String {
        if name.is_empty() {
            return String::new();
        }
        names.entry(name.to_string()).or_insert_with(|| format!("{}{name}", self.prefix)).clone()
    }

    /// An attribute of a body node; none if it refers to one that the call leaves out.
    fn attribute(&self, a: &AttributeProto, names: &HashMap<String, String>) -> Option<AttributeProto> {
        if !a.ref_attr_name.is_empty() {
            let given = self.attributes.get(&a.ref_attr_name)?;
            return Some(AttributeProto { name: a.name.clone(), ref_attr_name: String::new(), ..given.clone() });
        }
        let mut out = a.clone();
        for g in out.g.iter_mut().chain(&mut out.graphs) {
            self.graph(g, names);
        }
        Some(out)
    }

    /// Renames the values of a subgraph; its own values shadow those outside.
    fn graph(&self, graph: &mut GraphProto, outer: &HashMap<String, String>) {
        let mut names = outer.clone();
        for input in &mut graph.input {
            input.name = format!("{}{}", self.prefix, input.name);
        }
        let initializers = graph.initializer.iter_mut().chain(graph.sparse_initializer.iter_mut().filter_map(|s| s.values.as_mut()));
        for t in initializers {
            t.name = format!("{}{}", self.prefix, t.name);
        }
        graph.node = graph.node.iter().map(|n| self.node(n, &mut names)).collect();
        for output in &mut graph.output {
            output.name = self.used(&output.name, &names);
        }
    }
}
