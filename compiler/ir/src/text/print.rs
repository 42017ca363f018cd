//! Graph to text.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::graph::{BODY, Graph, Loc, Node, Program, RegionId, ValueId};
use crate::lex;
use crate::op::Attr;
use crate::ops::Op;
use crate::types::Type;
use crate::weights::{WeightId, Weights};

/// The text form of a program.
pub fn print(program: &Program) -> String {
    let graph = &program.graph;
    let mut p = Printer { graph, weights: &program.weights, names: names(graph), out: String::new() };
    let outputs: Vec<String> = graph.output_names.iter().map(|n| format!("%{}", lex::name(n))).collect();
    let inputs = join(graph.inputs().iter().map(|&v| p.input(v)));
    p.line(0, &format!("graph @{}({inputs}) -> ({}) {{", lex::name(&graph.name), outputs.join(", ")));
    for (symbol, lo, hi) in &graph.ranges {
        p.line(1, &format!("range {} {lo}..{hi}", lex::name(symbol)));
    }
    for c in &graph.constraints {
        let sign = if c.equal { "==" } else { "<=" };
        p.line(1, &format!("constraint {} {sign} {} {}", c.left, c.right, lex::quote(&c.why)));
    }
    p.region(BODY, 1);
    p.line(0, "}");
    p.out
}

/// The name weights are written with: their own, or with their number where several share it.
pub fn weight_label(weights: &Weights, id: WeightId) -> String {
    let name = &weights.get(id).name;
    let twins = weights.iter().filter(|(_, w)| w.name == *name).count();
    if twins > 1 { format!("{name}#{}", id.0) } else { name.to_string() }
}

/// Names of all live values.
fn names(graph: &Graph) -> BTreeMap<ValueId, String> {
    let mut order: Vec<ValueId> = Vec::new();
    collect_values(graph, BODY, &mut order);
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for &v in &order {
        if let Some(name) = &graph.value(v).name {
            *uses.entry(name).or_default() += 1;
        }
    }
    let own = |v: ValueId| {
        let name = graph.value(v).name.as_deref()?;
        (uses[name] == 1 && lex::is_ident(name)).then(|| name.to_string())
    };
    let mut next = 0;
    let mut number = || {
        next += 1;
        (next - 1).to_string()
    };
    order.iter().map(|&v| (v, own(v).unwrap_or_else(&mut number))).collect()
}

/// The values of a region and the regions in it, in the order of their definitions.
fn collect_values(graph: &Graph, region: RegionId, out: &mut Vec<ValueId>) {
    out.extend(&graph.region(region).inputs);
    for &n in &graph.region(region).nodes {
        let node = graph.node(n);
        out.extend(&node.outputs);
        node.regions.iter().for_each(|&r| collect_values(graph, r, out));
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    names: BTreeMap<ValueId, String>,
    out: String,
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, text: &str) { _ = writeln!(self.out, "{:1$}{text}", "", depth * 2); }

    /// A value as an operand. Operands that are not live are the verifier's business; they must not stop printing.
    fn value(&self, v: ValueId) -> String {
        match self.names.get(&v) {
            Some(name) => format!("%{name}"),
            None => format!("%dead.{}", v.0),
        }
    }

    fn values(&self, values: &[ValueId]) -> String { join(values.iter().map(|&v| self.value(v))) }

    /// Values with their types.
    fn typed(&self, values: &[ValueId]) -> String {
        join(values.iter().map(|&v| format!("{}: {}", self.value(v), self.graph.ty(v))))
    }

    /// An input of the graph: with its ONNX name in quotes where the value could not take it.
    fn input(&self, v: ValueId) -> String {
        let written = self.value(v);
        match &self.graph.value(v).name {
            Some(name) if written[1..] != **name => format!("{written} {}: {}", lex::quote(name), self.graph.ty(v)),
            _ => format!("{written}: {}", self.graph.ty(v)),
        }
    }

    fn region(&mut self, region: RegionId, depth: usize) {
        let graph = self.graph;
        for &n in &graph.region(region).nodes {
            self.node(graph.node(n), depth);
        }
        let outputs = self.values(&graph.region(region).outputs);
        self.line(depth, format!("yield {outputs}").trim_end());
    }

    fn node(&mut self, node: &Node, depth: usize) {
        let mut text = String::new();
        if !node.outputs.is_empty() {
            _ = write!(text, "{} = ", self.values(&node.outputs));
        }
        text.push_str(node.op.mnemonic());
        if let Op::Weight(w) = &node.op {
            _ = write!(text, " @{}", lex::name(&weight_label(self.weights, w.id)));
        } else {
            text.push_str(&attributes(&self.values(&node.inputs), &node.op));
        }
        if !node.outputs.is_empty() {
            let types: Vec<&Type> = node.outputs.iter().map(|&v| self.graph.ty(v)).collect();
            _ = write!(text, " : {}", join(types));
        }
        let comment = comment(&node.loc);
        if node.regions.is_empty() {
            return self.line(depth, &(text + &comment));
        }
        for (i, &region) in node.regions.iter().enumerate() {
            let inputs = self.typed(&self.graph.region(region).inputs);
            let inputs = if inputs.is_empty() { inputs } else { format!("({inputs}) ") };
            let (open, comment) = if i == 0 { (text.as_str(), comment.as_str()) } else { ("}", "") };
            self.line(depth, &format!("{open} {inputs}{{{comment}"));
            self.region(region, depth + 1);
        }
        self.line(depth, "}");
    }
}

/// Operands and attributes after the name of an op.
fn attributes(operands: &str, op: &Op) -> String {
    let mut text = if operands.is_empty() { String::new() } else { format!(" {operands}") };
    let attrs = op.attrs();
    if !attrs.is_empty() {
        _ = write!(text, " {{{}}}", join(attrs.iter().map(|(name, attr)| format!("{name} = {}", attribute(attr)))));
    }
    text
}

fn attribute(attr: &Attr) -> String {
    match attr {
        Attr::Int(x) => x.to_string(),
        Attr::Float(x) => float(*x),
        Attr::Bool(x) => x.to_string(),
        Attr::Str(s) => word(s),
        Attr::Ints(x) => format!("[{}]", join(x)),
        Attr::Dims(x) => format!("[{}]", join(x)),
        Attr::Strs(x) => format!("[{}]", join(x.iter().map(|s| word(s)))),
        Attr::Floats(x) => format!("[{}]", join(x.iter().map(|&x| float(x)))),
    }
}

/// The shortest digits that read back as the same number, marked as a float.
fn float(x: f64) -> String { if x.is_nan() { "nan".into() } else { format!("{x:?}") } }

/// A word, in quotes where it would read as something else.
fn word(s: &str) -> String {
    if matches!(s, "true" | "false" | "inf" | "nan") { lex::quote(s) } else { lex::name(s) }
}

fn comment(loc: &Loc) -> String {
    if loc.0.is_empty() { String::new() } else { format!("  // {}", join(loc.0.iter().map(|n| origin(n)))) }
}

/// An ONNX node's name in a comment, in quotes where commas and spaces would mislead.
fn origin(name: &str) -> String {
    let plain = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '"'));
    if plain { name.into() } else { lex::quote(name) }
}

fn join<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|x| x.to_string()).collect::<Vec<_>>().join(", ")
}
