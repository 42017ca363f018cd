//! Replacements of values, collected first and applied in one walk over the graph.

use xlac_ir::graph::{Graph, ValueId};

/// Which value stands for which. Chains are followed; there are no cycles, since a value is only replaced by one that
/// is defined before its uses and not replaced itself.
#[derive(Clone, Debug, Default)]
pub struct Substitution {
    map: Vec<Option<ValueId>>,
    any: bool,
}

impl Substitution {
    /// Makes `new` stand for `old`, and gives it the ONNX name of `old` if it has none.
    pub fn replace(&mut self, graph: &mut Graph, old: ValueId, new: ValueId) {
        let new = self.resolve(new);
        debug_assert_ne!(old, new, "a value cannot replace itself");
        if self.map.len() < graph.value_count() {
            self.map.resize(graph.value_count(), None);
        }
        self.map[old.0 as usize] = Some(new);
        self.any = true;
        if graph.value(new).name.is_none() {
            graph.value_mut(new).name = graph.value(old).name.clone();
        }
    }

    /// What stands for `value` now.
    pub fn resolve(&mut self, value: ValueId) -> ValueId {
        let mut last = value;
        while let Some(next) = self.map.get(last.0 as usize).copied().flatten() {
            last = next;
        }
        // Shorten the chain, so that long ones are walked once.
        let mut at = value;
        while at != last {
            at = self.map[at.0 as usize].replace(last).unwrap_or(last);
        }
        last
    }

    /// True without replacements.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Makes every live use follow the replacements.
    pub fn apply(&mut self, graph: &mut Graph) {
        if self.is_empty() {
            return;
        }
        for region in graph.live_regions() {
            for i in 0..graph.region(region).nodes.len() {
                let node = graph.region(region).nodes[i];
                graph.node_mut(node).inputs.iter_mut().for_each(|v| *v = self.resolve(*v));
            }
            graph.region_mut(region).outputs.iter_mut().for_each(|v| *v = self.resolve(*v));
        }
    }
}
