//! Comparing programs.

use std::collections::BTreeMap;

use super::print::weight_label;
use crate::graph::{BODY, Node, Program, RegionId, ValueId};
use crate::ops::Op;

/// What first makes two programs different, up to the numbering of nodes, values and weights, and the names of values
/// other than inputs; none if they are the same. Weights are compared by name and type, not by contents.
pub fn difference(a: &Program, b: &Program) -> Option<String> {
    let mut c = Comparison { a, b, values: BTreeMap::new() };
    c.header().and_then(|()| c.region(BODY, BODY)).err()
}

struct Comparison<'a> {
    a: &'a Program,
    b: &'a Program,
    /// Values of `b` for those of `a`.
    values: BTreeMap<ValueId, ValueId>,
}

/// Says that `what` differs unless both sides are equal.
fn same<T: PartialEq + std::fmt::Debug>(what: impl std::fmt::Display, a: T, b: T) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what}: {a:?} and {b:?}")) }
}

impl Comparison<'_> {
    fn header(&mut self) -> Result<(), String> {
        let (a, b) = (&self.a.graph, &self.b.graph);
        same("names", &a.name, &b.name)?;
        same("output names", &a.output_names, &b.output_names)?;
        same("ranges", &a.ranges, &b.ranges)?;
        same("constraints", &a.constraints, &b.constraints)?;
        for (&x, &y) in a.inputs().iter().zip(b.inputs()) {
            same("names of inputs", &a.value(x).name, &b.value(y).name)?;
        }
        Ok(())
    }

    fn region(&mut self, ra: RegionId, rb: RegionId) -> Result<(), String> {
        let (a, b) = (self.a.graph.region(ra), self.b.graph.region(rb));
        self.define("inputs", &a.inputs, &b.inputs)?;
        same("numbers of nodes", a.nodes.len(), b.nodes.len())?;
        for (&x, &y) in a.nodes.iter().zip(&b.nodes) {
            self.node(self.a.graph.node(x), self.b.graph.node(y))?;
        }
        self.uses("outputs", &a.outputs, &b.outputs)
    }

    fn node(&mut self, a: &Node, b: &Node) -> Result<(), String> {
        match (&a.op, &b.op) {
            (Op::Weight(x), Op::Weight(y)) => {
                same("weights", weight_label(&self.a.weights, x.id), weight_label(&self.b.weights, y.id))?;
            }
            (x, y) => same("ops", x, y)?,
        }
        let what = a.op.mnemonic();
        same(format_args!("origins of {what}"), &a.loc, &b.loc)?;
        self.uses(what, &a.inputs, &b.inputs)?;
        same(format_args!("regions of {what}"), a.regions.len(), b.regions.len())?;
        for (&x, &y) in a.regions.iter().zip(&b.regions) {
            self.region(x, y)?;
        }
        self.define(what, &a.outputs, &b.outputs)
    }

    fn define(&mut self, what: &str, a: &[ValueId], b: &[ValueId]) -> Result<(), String> {
        let types = |p: &Program, values: &[ValueId]| values.iter().map(|&v| p.graph.ty(v).to_string()).collect::<Vec<_>>();
        same(format_args!("results of {what}"), types(self.a, a), types(self.b, b))?;
        self.values.extend(a.iter().copied().zip(b.iter().copied()));
        Ok(())
    }

    fn uses(&self, what: &str, a: &[ValueId], b: &[ValueId]) -> Result<(), String> {
        let translated: Vec<Option<ValueId>> = a.iter().map(|v| self.values.get(v).copied()).collect();
        same(format_args!("operands of {what}"), translated, b.iter().copied().map(Some).collect())
    }
}
