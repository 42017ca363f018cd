//! Removes what nothing needs: shape computations that became dims, and weights only they used.

use std::collections::{BTreeSet, HashSet};

use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{BODY, Graph, NodeId, Program, RegionId, ValueId};
use xlac_ir::op::Attr;
use xlac_ir::ops::Op;

/// Removes dead nodes from every region, and forgets weights that no node uses.
pub fn prune(program: &mut Program) {
    let live = live_nodes(&program.graph);
    for region in program.graph.live_regions() {
        program.graph.region_mut(region).nodes.retain(|n| live.contains(n));
    }
    let graph = &mut program.graph;
    let mut symbols = graph.symbols();
    for n in graph.live_nodes() {
        symbols.extend(bound_symbols(&graph.node(n).op).iter().cloned());
    }
    for &v in graph.inputs() {
        graph.ty(v).shape.iter().for_each(|d| d.symbols(&mut symbols));
    }
    graph.constraints.retain(|c| {
        let mut used = BTreeSet::new();
        c.left.symbols(&mut used);
        c.right.symbols(&mut used);
        used.is_subset(&symbols)
    });
    graph.ranges.retain(|(s, ..)| symbols.contains(s));
    let used: HashSet<_> = graph
        .live_nodes()
        .into_iter()
        .filter_map(|n| match &graph.node(n).op {
            Op::Weight(w) => Some(w.id),
            _ => None,
        })
        .collect();
    program.weights.release(|id| used.contains(&id));
}

/// Nodes that outputs need, and those that bind symbols which these need.
fn live_nodes(graph: &Graph) -> HashSet<NodeId> {
    let all = graph.live_nodes();
    let mut checked = BTreeSet::new();
    for c in &graph.constraints {
        c.left.symbols(&mut checked);
        c.right.symbols(&mut checked);
    }
    let parent = parents(graph, &all);
    let mut region_of = vec![None; graph.node_count()];
    for r in graph.live_regions() {
        graph.region(r).nodes.iter().for_each(|n| region_of[n.0 as usize] = Some(r));
    }
    let mut marker = Marker { graph, parent, nodes: HashSet::new(), values: Vec::new(), symbols: BTreeSet::new() };
    marker.values.extend(graph.outputs());
    loop {
        marker.run();
        let before = marker.nodes.len();
        for &n in &all {
            let op = &graph.node(n).op;
            let binds = bound_symbols(op).iter().any(|s| marker.symbols.contains(s));
            // A check within a branch that is kept is kept with it.
            let checks = matches!(op, Op::Bind(b) if b.symbols.iter().any(|s| checked.contains(s)));
            let checks = checks && region_of[n.0 as usize].is_some_and(|r| marker.alive(r));
            if binds || checks {
                marker.node(n);
            }
        }
        if marker.nodes.len() == before {
            return marker.nodes;
        }
    }
}

/// Symbols that an op gives a value to.
fn bound_symbols(op: &Op) -> &[Symbol] {
    match op {
        Op::Bind(b) => &b.symbols,
        Op::NonZero(n) => &n.count,
        Op::If(i) => &i.symbols,
        Op::Loop(l) => &l.count,
        _ => &[],
    }
}

/// For every region but the body, the node it belongs to.
fn parents(graph: &Graph, nodes: &[NodeId]) -> Vec<Option<NodeId>> {
    let mut parent = vec![None; graph.region_count()];
    for &n in nodes {
        graph.node(n).regions.iter().for_each(|r| parent[r.0 as usize] = Some(n));
    }
    parent
}

struct Marker<'a> {
    graph: &'a Graph,
    parent: Vec<Option<NodeId>>,
    nodes: HashSet<NodeId>,
    values: Vec<ValueId>,
    symbols: BTreeSet<Symbol>,
}

impl Marker<'_> {
    fn run(&mut self) {
        while let Some(v) = self.values.pop() {
            match self.graph.value(v).def {
                xlac_ir::graph::Def::Node(n, _) => self.node(n),
                xlac_ir::graph::Def::Input(r, _) => self.region(r),
            }
        }
    }

    /// True for regions that a kept node has; the body's checks go with what uses their symbols.
    fn alive(&self, region: RegionId) -> bool { self.parent[region.0 as usize].is_some_and(|n| self.nodes.contains(&n)) }

    fn region(&mut self, region: RegionId) {
        if let Some(n) = self.parent[region.0 as usize].filter(|_| region != BODY) {
            self.node(n);
        }
    }

    fn node(&mut self, n: NodeId) {
        if !self.nodes.insert(n) {
            return;
        }
        let node = self.graph.node(n);
        self.values.extend(&node.inputs);
        for &r in &node.regions {
            self.values.extend(&self.graph.region(r).outputs);
        }
        let mut dims = |list: &[Dim]| list.iter().for_each(|d| d.symbols(&mut self.symbols));
        node.outputs.iter().for_each(|&v| dims(&self.graph.ty(v).shape));
        for (_, attr) in node.op.attrs() {
            if let Attr::Dims(list) = attr {
                dims(&list);
            }
        }
    }
}
