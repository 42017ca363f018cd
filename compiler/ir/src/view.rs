//! A region as a petgraph graph: nodes are its nodes, edges go from a node to those that need it to come before them.
//!
//! A node needs another if it uses one of its results, in its own regions too, or a symbol the other binds. petgraph's
//! algorithms run over `&RegionView`.

use std::collections::{BTreeSet, HashMap};

use petgraph::Direction;
use petgraph::algo::toposort;
use petgraph::visit::{
    DfsPostOrder, GraphBase, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, NodeCompactIndexable, NodeCount,
    NodeIndexable, Reversed, VisitMap, Visitable,
};

use crate::dim::Symbol;
use crate::graph::{Def, Graph, NodeId, RegionId};
use crate::op::Attr;
use crate::ops::Op;

/// The nodes of one region and what they need from each other, as they were when the view was made.
#[derive(Clone, Debug)]
pub struct RegionView {
    nodes: Vec<NodeId>,
    positions: HashMap<NodeId, usize>,
    users: Vec<Vec<NodeId>>,
    needs: Vec<Vec<NodeId>>,
}

/// Nodes that need each other cannot be ordered; this is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {} needs its own results", .0.0)]
pub struct Cycle(pub NodeId);

/// The nodes of a region, each after those it needs, and otherwise in the order they are in.
pub fn topological(graph: &Graph, region: RegionId) -> Result<Vec<NodeId>, Cycle> {
    let view = RegionView::new(graph, region);
    toposort(&view, None).map_err(|cycle| Cycle(cycle.node_id()))?;
    // What a node needs comes right before it, unless it is there already: an order that holds does not change.
    let needs = Reversed(&view);
    let mut order = Vec::with_capacity(view.nodes.len());
    let mut walk = DfsPostOrder::empty(needs);
    for &node in &view.nodes {
        walk.move_to(node);
        while let Some(next) = walk.next(needs) {
            order.push(next);
        }
    }
    Ok(order)
}

/// Orders the nodes of a region after rewriting.
pub fn sort_region(graph: &mut Graph, region: RegionId) -> Result<(), Cycle> {
    graph.region_mut(region).nodes = topological(graph, region)?;
    Ok(())
}

impl RegionView {
    /// The view of a region.
    pub fn new(graph: &Graph, region: RegionId) -> RegionView {
        let nodes = graph.region(region).nodes.clone();
        let positions: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, &n)| (n, i)).collect();
        let mut binders: HashMap<Symbol, NodeId> = HashMap::new();
        for &node in &nodes {
            binders.extend(binds(&graph.node(node).op).iter().map(|s| (s.clone(), node)));
        }
        let mut view =
            RegionView { users: vec![Vec::new(); nodes.len()], needs: vec![Vec::new(); nodes.len()], nodes, positions };
        for (at, &node) in view.nodes.iter().enumerate() {
            let mut needs = BTreeSet::new();
            // Using a symbol it binds itself is no dependence.
            let binder = |s: &Symbol| binders.get(s).copied().filter(|&n| n != node);
            collect_needs(graph, node, &binder, &mut needs);
            for need in needs {
                if let Some(&from) = view.positions.get(&need) {
                    view.users[from].push(node);
                    view.needs[at].push(need);
                }
            }
        }
        view
    }
}

/// Symbols an op binds.
pub fn binds(op: &Op) -> &[Symbol] {
    match op {
        Op::Bind(op) => &op.symbols,
        Op::NonZero(op) => &op.count,
        Op::If(op) => &op.symbols,
        Op::Loop(op) => &op.count,
        _ => &[],
    }
}

/// Nodes that `node` needs, in its regions too; some of other regions may be among them.
fn collect_needs(
    graph: &Graph,
    node: NodeId,
    binder: &dyn Fn(&Symbol) -> Option<NodeId>,
    out: &mut BTreeSet<NodeId>,
) {
    let n = graph.node(node);
    let producer = |v| match graph.value(v).def {
        Def::Node(producer, _) => Some(producer),
        Def::Input(..) => None,
    };
    out.extend(n.inputs.iter().filter_map(|&v| producer(v)));
    let mut symbols = BTreeSet::new();
    for (_, attr) in n.op.attrs() {
        if let Attr::Dims(dims) = attr {
            dims.iter().for_each(|d| d.symbols(&mut symbols));
        }
    }
    for &v in &n.outputs {
        graph.ty(v).shape.iter().for_each(|d| d.symbols(&mut symbols));
    }
    out.extend(symbols.iter().filter_map(binder));
    for &region in &n.regions {
        let r = graph.region(region);
        out.extend(r.outputs.iter().filter_map(|&v| producer(v)));
        r.nodes.iter().for_each(|&inner| collect_needs(graph, inner, binder, out));
    }
}

/// Which nodes petgraph has visited.
#[derive(Clone, Debug, Default)]
pub struct Visited(std::collections::HashSet<NodeId>);

impl VisitMap<NodeId> for Visited {
    fn visit(&mut self, node: NodeId) -> bool { self.0.insert(node) }
    fn is_visited(&self, node: &NodeId) -> bool { self.0.contains(node) }
    fn unvisit(&mut self, node: NodeId) -> bool { self.0.remove(&node) }
}

impl GraphBase for RegionView {
    type NodeId = NodeId;
    type EdgeId = (NodeId, NodeId);
}

impl Visitable for RegionView {
    type Map = Visited;
    fn visit_map(&self) -> Visited { Visited::default() }
    fn reset_map(&self, map: &mut Visited) { map.0.clear(); }
}

impl<'a> IntoNeighbors for &'a RegionView {
    type Neighbors = std::iter::Copied<std::slice::Iter<'a, NodeId>>;
    fn neighbors(self, node: NodeId) -> Self::Neighbors { self.neighbors_directed(node, Direction::Outgoing) }
}

impl<'a> IntoNeighborsDirected for &'a RegionView {
    type NeighborsDirected = std::iter::Copied<std::slice::Iter<'a, NodeId>>;
    fn neighbors_directed(self, node: NodeId, direction: Direction) -> Self::NeighborsDirected {
        let lists = if direction == Direction::Outgoing { &self.users } else { &self.needs };
        lists[self.positions[&node]].iter().copied()
    }
}

impl<'a> IntoNodeIdentifiers for &'a RegionView {
    type NodeIdentifiers = std::iter::Copied<std::slice::Iter<'a, NodeId>>;
    fn node_identifiers(self) -> Self::NodeIdentifiers { self.nodes.iter().copied() }
}

impl NodeCount for RegionView {
    fn node_count(&self) -> usize { self.nodes.len() }
}

impl NodeIndexable for RegionView {
    fn node_bound(&self) -> usize { self.nodes.len() }
    fn to_index(&self, node: NodeId) -> usize { self.positions[&node] }
    fn from_index(&self, index: usize) -> NodeId { self.nodes[index] }
}

impl NodeCompactIndexable for RegionView {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::dtype::DType;
    use crate::elementwise::{BinaryFn, UnaryFn};
    use crate::graph::{BODY, Loc, ValueId};
    use crate::ops;
    use crate::types::Type;

    const LOC: Loc = Loc(Vec::new());

    fn unary(g: &mut Graph, region: RegionId, x: ValueId) -> ValueId {
        g.apply(region, UnaryFn::Neg, &[x], &LOC).unwrap()
    }

    /// x -> 0 -> {1, 2} -> 3
    fn diamond() -> Graph {
        let mut g = Graph::default();
        let x = g.add_input(BODY, Type::new(DType::F32, [Dim::sym("N")]), Some("x"));
        let a = unary(&mut g, BODY, x);
        let (b, c) = (unary(&mut g, BODY, a), unary(&mut g, BODY, a));
        let d = g.apply(BODY, BinaryFn::Add, &[b, c], &LOC).unwrap();
        g.region_mut(BODY).outputs = vec![d];
        g
    }

    fn ids(order: &[NodeId]) -> Vec<u32> { order.iter().map(|n| n.0).collect() }

    #[test]
    fn petgraph_sees_the_edges() {
        let g = diamond();
        let view = RegionView::new(&g, BODY);
        let users = |n| ids(&view.neighbors(NodeId(n)).collect::<Vec<_>>());
        assert_eq!((users(0), users(3)), (vec![1, 2], vec![]));
        assert!(petgraph::algo::has_path_connecting(&view, NodeId(0), NodeId(3), None));
        assert!(!petgraph::algo::has_path_connecting(&view, NodeId(1), NodeId(2), None));
        assert_eq!(petgraph::algo::tarjan_scc(&view).len(), 4);
    }

    #[test]
    fn sorting_restores_and_keeps_order() {
        let mut g = diamond();
        assert_eq!(ids(&topological(&g, BODY).unwrap()), [0, 1, 2, 3]);
        g.region_mut(BODY).nodes = [0, 2, 1, 3].map(NodeId).to_vec();
        assert_eq!(ids(&topological(&g, BODY).unwrap()), [0, 2, 1, 3]);
        g.region_mut(BODY).nodes = [3, 1, 2, 0].map(NodeId).to_vec();
        sort_region(&mut g, BODY).unwrap();
        let order = ids(&g.region(BODY).nodes);
        assert_eq!((order[0], order[3]), (0, 3));
    }

    #[test]
    fn cycles_are_found() {
        let mut g = diamond();
        let last = g.outputs()[0];
        g.node_mut(NodeId(0)).inputs = vec![last];
        assert!(topological(&g, BODY).is_err());
    }

    #[test]
    fn regions_and_symbols_are_dependences() {
        let mut g = Graph::default();
        let x = g.add_input(BODY, Type::new(DType::I64, [Dim::ONE]), Some("x"));
        let cond = g.add_input(BODY, Type::new(DType::Bool, []), Some("cond"));
        let a = unary(&mut g, BODY, x);
        g.add(BODY, ops::Bind { symbols: vec!["s".into()] }, &[x], &LOC).unwrap();
        let iota = ops::Iota { n: vec![Dim::sym("s")], dtype: DType::I64 };
        g.apply(BODY, iota, &[], &LOC).unwrap();
        let (then, els) = (g.add_region(), g.add_region());
        let inner = unary(&mut g, then, a);
        g.region_mut(then).outputs = vec![inner];
        g.region_mut(els).outputs = vec![a];
        let op = ops::If { symbols: vec![] };
        let ty = Type::new(DType::I64, [Dim::ONE]);
        let branch = g.add_typed(BODY, op.into(), &[cond], vec![then, els], vec![ty], &LOC);
        g.region_mut(BODY).nodes.reverse();
        sort_region(&mut g, BODY).unwrap();
        let order = ids(&g.region(BODY).nodes);
        let at = |n: u32| order.iter().position(|&x| x == n).unwrap();
        assert!(at(1) < at(2), "bind before iota in {order:?}");
        assert!(at(0) < at(branch.0), "the operand of a region before its node in {order:?}");
    }
}
