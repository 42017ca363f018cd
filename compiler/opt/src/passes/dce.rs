//! Drops what no output depends on, and the data of weights that are not used any more.
//!
//! A node that binds symbols lives if something live mentions one of them in a type or an attribute. Assumptions about
//! symbols that nothing live gives a value are dropped.

use std::collections::{BTreeSet, HashMap};

use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{BODY, Def, NodeId, Program, RegionId, ValueId};
use xlac_ir::op::Attr;
use xlac_ir::ops::Op;

use crate::pass::{Pass, PassCx};
use crate::rewrite::symbols_bound;

/// The pass.
pub const PASS: Pass = Pass { name: "dce", why: "what no output depends on costs time and memory", run };

fn run(program: &mut Program, _: &mut PassCx) -> Result<bool, Diagnostic> {
    let Live { nodes: live, binders, .. } = Live::find(program);
    let mut changed = false;
    for region in program.graph.live_regions() {
        let nodes = &mut program.graph.region_mut(region).nodes;
        let before = nodes.len();
        nodes.retain(|n| live[n.0 as usize]);
        changed |= nodes.len() != before;
    }
    let unbound = |d: &Dim| {
        let mut symbols = BTreeSet::new();
        d.symbols(&mut symbols);
        symbols.iter().any(|s| binders.get(s).is_some_and(|n| !live[n.0 as usize]))
    };
    program.graph.constraints.retain(|c| !unbound(&c.left) && !unbound(&c.right));
    release_weights(program);
    Ok(changed)
}

/// Forgets data that no live node names. Not a change of the program.
fn release_weights(program: &mut Program) {
    let used: BTreeSet<_> = program
        .graph
        .live_nodes()
        .into_iter()
        .filter_map(|n| match &program.graph.node(n).op {
            Op::Weight(w) => Some(w.id),
            _ => None,
        })
        .collect();
    program.weights.release(|id| used.contains(&id));
}

struct Live<'a> {
    program: &'a Program,
    /// The node that binds each symbol.
    binders: HashMap<Symbol, NodeId>,
    /// The node that each region belongs to.
    owners: HashMap<RegionId, NodeId>,
    /// Region of each node.
    home: Vec<RegionId>,
    nodes: Vec<bool>,
    symbols: BTreeSet<Symbol>,
    todo: Vec<NodeId>,
}

impl<'a> Live<'a> {
    fn find(program: &'a Program) -> Live<'a> {
        let graph = &program.graph;
        let mut live = Live {
            program,
            binders: HashMap::new(),
            owners: HashMap::new(),
            home: vec![BODY; graph.node_count()],
            nodes: vec![false; graph.node_count()],
            symbols: BTreeSet::new(),
            todo: Vec::new(),
        };
        for region in graph.live_regions() {
            for &n in &graph.region(region).nodes {
                live.home[n.0 as usize] = region;
                live.binders.extend(symbols_bound(&graph.node(n).op).iter().map(|s| (s.clone(), n)));
                live.owners.extend(graph.node(n).regions.iter().map(|&r| (r, n)));
            }
        }
        live.enter(BODY);
        while let Some(n) = live.todo.pop() {
            live.visit(n);
        }
        live
    }

    fn enter(&mut self, region: RegionId) {
        let r = self.program.graph.region(region);
        r.inputs.iter().chain(&r.outputs).for_each(|&v| self.need_value(v));
    }

    fn need_value(&mut self, value: ValueId) {
        let v = self.program.graph.value(value);
        v.ty.shape.iter().for_each(|d| self.need_dim(d));
        if let Def::Node(n, _) = v.def {
            self.need_node(n);
        }
    }

    fn need_node(&mut self, n: NodeId) {
        if !std::mem::replace(&mut self.nodes[n.0 as usize], true) {
            self.todo.push(n);
        }
    }

    fn need_dim(&mut self, dim: &Dim) {
        if dim.as_const().is_some() {
            return;
        }
        let mut symbols = BTreeSet::new();
        dim.symbols(&mut symbols);
        for s in symbols {
            if let Some(&binder) = self.binders.get(&s)
                && self.symbols.insert(s)
            {
                self.need_node(binder);
            }
        }
    }

    fn visit(&mut self, n: NodeId) {
        let node = self.program.graph.node(n);
        node.inputs.iter().chain(&node.outputs).for_each(|&v| self.need_value(v));
        for (_, attr) in node.op.attrs() {
            if let Attr::Dims(dims) = attr {
                dims.iter().for_each(|d| self.need_dim(d));
            }
        }
        node.regions.iter().for_each(|&r| self.enter(r));
        // A binder inside a region needs the node that runs the region.
        if let Some(&owner) = self.owners.get(&self.home[n.0 as usize]) {
            self.need_node(owner);
        }
    }
}
