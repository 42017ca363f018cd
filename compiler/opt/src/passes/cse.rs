//! Equal computations are done once. An inner region may use what an enclosing one has computed, not the reverse.

use std::collections::HashMap;

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::{BODY, Program, RegionId, ValueId};
use xlac_ir::ops::Op;

use crate::pass::{Pass, PassCx};
use crate::rewrite::symbols_bound;
use crate::subst::Substitution;

/// The pass.
pub const PASS: Pass = Pass { name: "cse", why: "exporters repeat shape computations, masks and casts", run };

/// An op with its operands; those of commuting ops are sorted.
type Key = (Op, Vec<ValueId>);

fn run(program: &mut Program, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let mut cse = Cse { program, cx, seen: HashMap::new(), subst: Substitution::default() };
    cse.region(BODY);
    Ok(!cse.subst.is_empty())
}

struct Cse<'a, 'b, 'c> {
    program: &'a mut Program,
    cx: &'a mut PassCx<'b, 'c>,
    seen: HashMap<Key, Vec<ValueId>>,
    subst: Substitution,
}

impl Cse<'_, '_, '_> {
    fn region(&mut self, region: RegionId) {
        let nodes = std::mem::take(&mut self.program.graph.region_mut(region).nodes);
        let mut kept = Vec::with_capacity(nodes.len());
        let mut added = Vec::new();
        for id in nodes {
            let node = self.program.graph.node_mut(id);
            node.inputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
            let inner = node.regions.clone();
            inner.into_iter().for_each(|r| self.region(r));
            let node = self.program.graph.node(id);
            let pure = node.regions.is_empty() && symbols_bound(&node.op).is_empty();
            let key = (node.op.clone(), sorted_operands(&node.op, &node.inputs));
            match self.seen.get(&key).cloned().filter(|_| pure) {
                Some(first) if self.same_types(&node.outputs, &first) && self.cx.burn() => self.merge(id, &first),
                _ => {
                    if pure {
                        self.seen.insert(key.clone(), self.program.graph.node(id).outputs.clone());
                        added.push(key);
                    }
                    kept.push(id);
                }
            }
        }
        let r = self.program.graph.region_mut(region);
        r.nodes = kept;
        r.outputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
        if region != BODY {
            added.iter().for_each(|key| _ = self.seen.remove(key));
        }
    }

    fn same_types(&self, a: &[ValueId], b: &[ValueId]) -> bool {
        let ty = |v: &ValueId| self.program.graph.ty(*v);
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| ty(a) == ty(b))
    }

    /// Uses the results `first` of an earlier node for those of `id`, and keeps both origins.
    fn merge(&mut self, id: xlac_ir::graph::NodeId, first: &[ValueId]) {
        let graph = &mut self.program.graph;
        let (loc, outputs) = (graph.node(id).loc.clone(), graph.node(id).outputs.clone());
        if let Some(&v) = first.first()
            && let xlac_ir::graph::Def::Node(n, _) = graph.value(v).def
            && !crate::edit::is_constant(&graph.node(n).op)
        {
            graph.node_mut(n).loc = graph.node(n).loc.merge(&loc);
        }
        outputs.iter().zip(first).for_each(|(&old, &new)| self.subst.replace(graph, old, new));
    }
}

fn sorted_operands(op: &Op, inputs: &[ValueId]) -> Vec<ValueId> {
    let mut inputs = inputs.to_vec();
    if matches!(op, Op::Binary(f) if f.commutes()) {
        inputs.sort();
    }
    inputs
}
