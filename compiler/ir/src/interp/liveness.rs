//! When values die: after the last node of their region that uses them, regions nested in that node included.

use std::collections::HashMap;

use crate::graph::{Graph, NodeId, RegionId, ValueId};

/// What can be freed, region by region.
pub struct Liveness {
    regions: HashMap<RegionId, Deaths>,
}

#[derive(Default)]
struct Deaths {
    unused_inputs: Vec<ValueId>,
    /// By position of the node.
    dying: Vec<Vec<ValueId>>,
    defined: Vec<ValueId>,
}

impl Liveness {
    /// Of every live region.
    pub fn new(graph: &Graph) -> Liveness {
        Liveness { regions: graph.live_regions().into_iter().map(|r| (r, deaths(graph, r))).collect() }
    }

    /// Inputs of a region that nothing uses.
    pub fn unused_inputs(&self, region: RegionId) -> Vec<ValueId> { self.regions[&region].unused_inputs.clone() }

    /// Values of a region that nothing uses after its node at position `at`.
    pub fn dying(&self, region: RegionId, at: usize) -> Vec<ValueId> { self.regions[&region].dying[at].clone() }

    /// Every value of a region.
    pub fn defined(&self, region: RegionId) -> Vec<ValueId> { self.regions[&region].defined.clone() }
}

fn deaths(graph: &Graph, region: RegionId) -> Deaths {
    let r = graph.region(region);
    let results = r.nodes.iter().map(|&n| graph.node(n).outputs.as_slice());
    let defined: Vec<ValueId> = [r.inputs.as_slice()].into_iter().chain(results).flatten().copied().collect();
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (at, &node) in r.nodes.iter().enumerate() {
        // Results nobody uses die where they are computed.
        for value in graph.node(node).outputs.iter().copied().chain(uses(graph, node)) {
            last_use.insert(value, at);
        }
    }
    let mut out = Deaths { dying: vec![Vec::new(); r.nodes.len()], ..Deaths::default() };
    for &value in defined.iter().filter(|v| !r.outputs.contains(v)) {
        match last_use.get(&value) {
            Some(&at) => out.dying[at].push(value),
            None => out.unused_inputs.push(value),
        }
    }
    out.defined = defined;
    out
}

/// Values a node uses, in its regions too.
pub fn uses(graph: &Graph, node: NodeId) -> Vec<ValueId> {
    let mut out = Vec::new();
    let mut nodes = vec![node];
    while let Some(n) = nodes.pop() {
        out.extend(&graph.node(n).inputs);
        for &r in &graph.node(n).regions {
            out.extend(&graph.region(r).outputs);
            nodes.extend(&graph.region(r).nodes);
        }
    }
    out
}
