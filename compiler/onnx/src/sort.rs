//! Order of nodes: each after those it depends on.

use std::collections::HashMap;

use crate::fail::{Res, bail};
use crate::node::display_name;
use crate::proto::{GraphProto, NodeProto};

/// An order of a graph's nodes, and true if it is the one of the file.
pub fn order(graph: &GraphProto) -> Res<(Vec<usize>, bool)> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            producer.entry(name).or_insert(i);
        }
    }
    let mut sorted = true;
    let mut waiting = vec![0usize; graph.node.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (i, node) in graph.node.iter().enumerate() {
        let mut names = Vec::new();
        used_names(node, &mut names);
        for &p in names.iter().filter_map(|n| producer.get(n)) {
            sorted &= p < i;
            waiting[i] += 1;
            users[p].push(i);
        }
    }
    if sorted {
        return Ok(((0..graph.node.len()).collect(), true));
    }
    // Kahn's algorithm, lowest number first so that the order stays close to the file's.
    let mut ready: std::collections::BTreeSet<usize> = (0..graph.node.len()).filter(|&i| waiting[i] == 0).collect();
    let mut order = Vec::with_capacity(graph.node.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &u in &users[i] {
            waiting[u] -= 1;
            if waiting[u] == 0 {
                ready.insert(u);
            }
        }
    }
    if order.len() < graph.node.len() {
        let stuck = (0..graph.node.len()).filter(|&i| waiting[i] > 0).take(5);
        let names: Vec<String> = stuck.map(|i| format!("`{}`", display_name(&graph.node[i], i))).collect();
        bail!(CYCLE, "nodes depend on each other in a circle, among them {}", names.join(", "));
    }
    Ok((order, false))
}

/// Names a node uses, those captured by its subgraphs included.
fn used_names<'a>(node: &'a NodeProto, out: &mut Vec<&'a str>) {
    out.extend(node.input.iter().filter(|n| !n.is_empty()).map(String::as_str));
    for g in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        captured_names(g, out);
    }
}

fn captured_names<'a>(graph: &'a GraphProto, out: &mut Vec<&'a str>) {
    let mut used = Vec::new();
    graph.node.iter().for_each(|n| used_names(n, &mut used));
    used.extend(graph.output.iter().map(|o| o.name.as_str()));
    let own: std::collections::HashSet<&str> = graph
        .node
        .iter()
        .flat_map(|n| n.output.iter().map(String::as_str))
        .chain(graph.input.iter().map(|i| i.name.as_str()))
        .chain(graph.initializer.iter().map(|i| i.name.as_str()))
        .collect();
    out.extend(used.into_iter().filter(|n| !own.contains(n)));
}
