//! Symbols whose value is known are replaced by it everywhere: in types, attributes and assumptions.

use std::collections::{HashMap, HashSet};

use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{BODY, Graph, Program, RegionId};
use xlac_ir::op::{Attr, Attrs};
use xlac_ir::ops::Op;

use crate::pass::{Pass, PassCx};
use crate::passes::shapes::known_dims;

/// The pass.
pub const PASS: Pass = Pass { name: "bind", why: "a size computed from constants or other sizes is no unknown", run };

fn run(program: &mut Program, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let graph = &program.graph;
    let mut known: HashMap<Symbol, Dim> = HashMap::new();
    let mut bound = HashSet::new();
    for id in graph.live_nodes() {
        let node = graph.node(id);
        let Op::Bind(b) = &node.op else { continue };
        let Some(dims) = known_dims(graph, node.inputs[0]).filter(|d| d.len() == b.symbols.len()) else { continue };
        let sizes: Vec<Dim> = dims.iter().map(|d| d.substitute(&|s| known.get(s).cloned())).collect();
        // A negative size is an error of the model that the run reports.
        if sizes.iter().all(|d| d.lower_bound().is_some_and(|x| x >= 0)) && cx.burn() {
            known.extend(b.symbols.iter().cloned().zip(sizes));
            bound.insert(id);
        }
    }
    if known.is_empty() {
        return Ok(false);
    }
    for region in program.graph.live_regions() {
        program.graph.region_mut(region).nodes.retain(|n| !bound.contains(n));
    }
    substitute(&mut program.graph, BODY, &known);
    substitute_constraints(&mut program.graph, &known);
    Ok(true)
}

/// Replaces symbols in the types and attributes of a region and all regions in it.
pub fn substitute(graph: &mut Graph, region: RegionId, known: &HashMap<Symbol, Dim>) {
    let mut regions = vec![region];
    while let Some(region) = regions.pop() {
        let r = graph.region(region).clone();
        for &n in &r.nodes {
            regions.extend(&graph.node(n).regions);
            if let Some(op) = substitute_op(&graph.node(n).op, known) {
                graph.node_mut(n).op = op;
            }
        }
        let results = r.nodes.iter().flat_map(|&n| graph.node(n).outputs.clone()).collect::<Vec<_>>();
        for v in r.inputs.into_iter().chain(results) {
            let shape = &mut graph.value_mut(v).ty.shape;
            shape.iter_mut().filter(|d| d.as_const().is_none()).for_each(|d| *d = replace(d, known));
        }
    }
}

/// Replaces symbols in assumptions, and drops those that now hold by themselves.
pub fn substitute_constraints(graph: &mut Graph, known: &HashMap<Symbol, Dim>) {
    for c in &mut graph.constraints {
        c.left = replace(&c.left, known);
        c.right = replace(&c.right, known);
    }
    let holds = |c: &xlac_ir::graph::Constraint| match c.equal {
        true => c.left == c.right,
        false => (&c.right - &c.left).lower_bound().is_some_and(|x| x >= 0),
    };
    graph.constraints.retain(|c| !holds(c));
}

fn replace(dim: &Dim, known: &HashMap<Symbol, Dim>) -> Dim {
    dim.substitute(&|s| known.get(s).cloned())
}

/// The op with symbols replaced, if it has symbolic attributes.
fn substitute_op(op: &Op, known: &HashMap<Symbol, Dim>) -> Option<Op> {
    let attrs = op.attrs();
    let symbolic = |a: &Attr| matches!(a, Attr::Dims(dims) if dims.iter().any(|d| d.as_const().is_none()));
    if !attrs.iter().any(|(_, a)| symbolic(a)) {
        return None;
    }
    let swap = |a: Attr| match a {
        Attr::Dims(dims) => Attr::Dims(dims.iter().map(|d| replace(d, known)).collect()),
        other => other,
    };
    let mut attrs: Attrs = attrs.into_iter().map(|(name, a)| (name.to_string(), swap(a))).collect();
    Op::from_text(op.mnemonic(), &mut attrs).ok()
}
