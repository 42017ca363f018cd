//! Checks that a program is well-formed.
//!
//! - G1: every operand and region output is defined before it is used, in the same region or one around it.
//! - G2: every value is defined once, at the place it says.
//! - G3: every node is in one region, once; every region but the body belongs to one node.
//! - G4: a node has as many regions as its op needs.
//! - G5: the types of results are those the op infers; those of `if` and `loop` follow from their regions.
//! - G6: every symbol is bound once, by the shapes of the graph's inputs, `bind`, `non_zero`, `if` or `loop`, before it is
//!   used and in the same region or one around it.
//! - G7: constants have at most [`ops::constant::LIMIT`] elements.
//! - G8: weights are in the store, with their type.
//! - G9: the graph has one name for each output.
//! - G10: every id is in range.

use std::collections::{BTreeSet, HashSet};

use crate::dim::{Dim, Symbol};
use crate::graph::{BODY, Def, Graph, Loc, Node, NodeId, Program, RegionId, ValueId};
use crate::op::{Attr, InferError};
use crate::ops::{self, Op};
use crate::types::Type;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {message}{}", place(loc))]
pub struct VerifyError {
    /// Which one: `G1` and so on, see the text of the module.
    pub invariant: &'static str,
    /// Lower case, no final stop, names in backticks.
    pub message: String,
    /// The node it is about.
    pub loc: Loc,
}

/// Types for a message.
fn list(types: &[Type]) -> String { types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ") }

fn place(loc: &Loc) -> String {
    if loc.0.is_empty() { String::new() } else { format!(", in node `{}`", loc.0.join("`, `")) }
}

/// Everything that is wrong with a program.
pub fn verify(program: &Program) -> Result<(), Vec<VerifyError>> {
    let mut checker = Checker {
        program,
        visible: vec![false; program.graph.value_count()],
        defined: vec![false; program.graph.value_count()],
        symbols: BTreeSet::new(),
        bound: BTreeSet::new(),
        errors: Vec::new(),
    };
    checker.structure();
    // Without a sound structure the rest would go out of range or never end.
    if checker.errors.is_empty() {
        checker.names();
        checker.region(BODY);
    }
    if checker.errors.is_empty() { Ok(()) } else { Err(checker.errors) }
}

struct Checker<'a> {
    program: &'a Program,
    /// Values that may be used at this point.
    visible: Vec<bool>,
    /// Values defined so far, anywhere.
    defined: Vec<bool>,
    /// Symbols that may be used at this point.
    symbols: BTreeSet<Symbol>,
    /// Symbols bound so far, anywhere.
    bound: BTreeSet<Symbol>,
    errors: Vec<VerifyError>,
}

impl<'a> Checker<'a> {
    fn graph(&self) -> &'a Graph { &self.program.graph }

    fn fail(&mut self, invariant: &'static str, loc: &Loc, message: String) {
        self.errors.push(VerifyError { invariant, message, loc: loc.clone() });
    }

    /// G3 and G10.
    fn structure(&mut self) {
        let graph = self.graph();
        let none = Loc::default();
        let mut regions = vec![BODY];
        let mut seen_regions = HashSet::from([BODY]);
        let mut seen_nodes: HashSet<NodeId> = HashSet::new();
        while let Some(id) = regions.pop() {
            let region = graph.region(id);
            self.values_exist(region.inputs.iter().chain(&region.outputs), &none);
            for &n in &region.nodes {
                if n.0 as usize >= graph.node_count() {
                    self.fail("G10", &none, format!("there is no node {}", n.0));
                    continue;
                }
                let node = graph.node(n);
                if !seen_nodes.insert(n) {
                    self.fail("G3", &node.loc, format!("node {} is listed twice", n.0));
                    continue;
                }
                self.values_exist(node.inputs.iter().chain(&node.outputs), &node.loc);
                for &r in &node.regions {
                    if r.0 as usize >= graph.region_count() {
                        self.fail("G10", &node.loc, format!("there is no region {}", r.0));
                    } else if !seen_regions.insert(r) {
                        self.fail("G3", &node.loc, format!("region {} belongs to two nodes", r.0));
                    } else {
                        regions.push(r);
                    }
                }
            }
        }
    }

    fn values_exist<'v>(&mut self, values: impl Iterator<Item = &'v ValueId>, loc: &Loc) {
        let count = self.graph().value_count();
        for v in values.filter(|v| v.0 as usize >= count) {
            self.fail("G10", loc, format!("there is no value {}", v.0));
        }
    }

    /// G9.
    fn names(&mut self) {
        let (names, outputs) = (self.graph().output_names.len(), self.graph().outputs().len());
        if names != outputs {
            self.fail("G9", &Loc::default(), format!("{names} names for {outputs} outputs"));
        }
    }

    fn region(&mut self, id: RegionId) {
        let graph = self.graph();
        let region = graph.region(id);
        let (visible, symbols) = (self.visible.clone(), self.symbols.clone());
        let none = Loc::default();
        if id == BODY {
            let dims = region.inputs.iter().flat_map(|&v| &graph.ty(v).shape);
            self.symbols.extend(dims.filter_map(|d| d.as_symbol().cloned()));
            self.bound = self.symbols.clone();
        }
        for (i, &v) in region.inputs.iter().enumerate() {
            self.define(v, Def::Input(id, i as u32), &none);
        }
        for &n in &region.nodes {
            self.node(n);
        }
        for &v in &region.outputs {
            self.visible(v, &none);
        }
        (self.visible, self.symbols) = (visible, symbols);
    }

    fn node(&mut self, id: NodeId) {
        let node = self.graph().node(id);
        for &v in &node.inputs {
            self.visible(v, &node.loc);
        }
        for (name, attr) in node.op.attrs() {
            if let Attr::Dims(dims) = attr {
                self.known(&dims, &format!("attribute `{name}`"), &node.loc);
            }
        }
        if node.regions.len() != node.op.regions() {
            let (given, needed) = (node.regions.len(), node.op.regions());
            self.fail("G4", &node.loc, format!("`{}` has {given} regions, {needed} are needed", node.op.mnemonic()));
            return;
        }
        self.constants(node);
        if let Op::Loop(op) = &node.op {
            // The body sees the trip number.
            self.bind(&op.count, &node.loc);
        }
        for &r in &node.regions {
            self.region(r);
        }
        self.types(node);
        match &node.op {
            Op::Bind(op) => self.bind(&op.symbols, &node.loc),
            Op::NonZero(op) => self.bind(&op.count, &node.loc),
            Op::If(op) => self.bind(&op.symbols, &node.loc),
            _ => {}
        }
        for (i, &v) in node.outputs.iter().enumerate() {
            self.define(v, Def::Node(id, i as u32), &node.loc);
        }
    }

    /// G1.
    fn visible(&mut self, value: ValueId, loc: &Loc) {
        if self.visible[value.0 as usize] {
            return;
        }
        let live = match self.graph().value(value).def {
            Def::Node(n, _) => self.graph().live_nodes().contains(&n),
            Def::Input(r, _) => self.graph().live_regions().contains(&r),
        };
        let why = if live { "is not defined before it" } else { "was removed" };
        self.fail("G1", loc, format!("value {} is used but {why}", value.0));
    }

    /// G2, and G6 for the type.
    fn define(&mut self, value: ValueId, def: Def, loc: &Loc) {
        let v = self.graph().value(value);
        if std::mem::replace(&mut self.defined[value.0 as usize], true) {
            self.fail("G2", loc, format!("value {} is defined twice", value.0));
        } else if v.def != def {
            self.fail("G2", loc, format!("value {} says {:?} defines it, {def:?} does", value.0, v.def));
        }
        self.visible[value.0 as usize] = true;
        self.known(&v.ty.shape, &format!("type {}", v.ty), loc);
    }

    /// G5.
    fn types(&mut self, node: &Node) {
        let types = |values: &[ValueId]| values.iter().map(|&v| self.graph().ty(v).clone()).collect::<Vec<Type>>();
        let outputs = |i: usize| types(&self.graph().region(node.regions[i]).outputs);
        let operands = types(&node.inputs);
        let expected: Result<Vec<Type>, InferError> = match &node.op {
            Op::If(op) => op.result_types(&operands, &outputs(0), &outputs(1)),
            Op::Loop(op) => {
                op.result_types(&operands, &types(&self.graph().region(node.regions[0]).inputs), &outputs(0))
            }
            op => op.infer(&operands),
        };
        let given = types(&node.outputs);
        let name = node.op.mnemonic();
        match expected {
            Err(InferError(message)) => self.fail("G5", &node.loc, format!("`{name}`: {message}")),
            Ok(e) if e != given => {
                self.fail("G5", &node.loc, format!("`{name}` gives {}, its results are {}", list(&e), list(&given)));
            }
            Ok(_) => {}
        }
    }

    /// G6 for uses.
    fn known(&mut self, dims: &[Dim], what: &str, loc: &Loc) {
        let mut symbols = BTreeSet::new();
        dims.iter().for_each(|d| d.symbols(&mut symbols));
        for s in symbols.into_iter().filter(|s| !self.symbols.contains(s)).collect::<Vec<_>>() {
            self.fail("G6", loc, format!("symbol `{s}` in {what} is not bound before it"));
        }
    }

    /// G6 for bindings.
    fn bind(&mut self, symbols: &[Symbol], loc: &Loc) {
        for s in symbols {
            if !self.bound.insert(s.clone()) {
                self.fail("G6", loc, format!("symbol `{s}` is bound twice"));
            }
            self.symbols.insert(s.clone());
        }
    }

    /// G7 and G8.
    fn constants(&mut self, node: &Node) {
        match &node.op {
            Op::Constant(c) => {
                let (count, limit) = (c.bits.len(), ops::constant::LIMIT);
                if count > limit {
                    self.fail("G7", &node.loc, format!("a constant has {count} elements, the limit is {limit}"));
                }
            }
            Op::Weight(w) => {
                let exists = (w.id.0 as usize) < self.program.weights.len();
                let given = Type::fixed(w.dtype, &w.shape);
                match exists.then(|| self.program.weights.get(w.id).tensor.ty()) {
                    None => self.fail("G8", &node.loc, format!("there is no weight {}", w.id.0)),
                    Some(ty) if ty != given => {
                        self.fail("G8", &node.loc, format!("weight {} is {ty}, not {given}", w.id.0));
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
