//! A rough cost of a program, to hold rules to: multiply-adds and moved elements, symbols taken as 8.

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Graph, Node, Program, ValueId};
use xlac_ir::ops::Op;

/// Size that stands for every symbol.
const SYMBOL: i64 = 8;

/// The cost of one run; nodes in regions count once.
pub fn cost(program: &Program) -> u64 {
    let graph = &program.graph;
    graph.live_nodes().into_iter().map(|n| node_cost(graph, graph.node(n))).sum()
}

/// The cost of one node.
pub fn node_cost(graph: &Graph, node: &Node) -> u64 {
    let size = |v: ValueId| size(&graph.ty(v).shape);
    let produced: u64 = node.outputs.iter().map(|&v| size(v)).sum();
    let operand = |i: usize| &graph.ty(node.inputs[i]).shape;
    match &node.op {
        Op::Constant(_) | Op::Weight(_) | Op::Dims(_) | Op::Reshape(_) | Op::Bind(_) => 0,
        Op::Unary(f) => produced * u64::from(f.cost()),
        Op::Binary(f) => produced * u64::from(f.cost()),
        Op::MatMul(m) => {
            let shape = operand(0);
            produced * value(&shape[shape.len() - if m.trans_a { 2 } else { 1 }])
        }
        Op::Conv(_) => produced * self::size(&operand(1)[1..]),
        Op::ConvTranspose(_) => size(node.inputs[0]) * self::size(&operand(1)[1..]),
        Op::Pool(p) => produced * p.kernel.iter().product::<usize>() as u64,
        Op::Reduce(_) | Op::ArgReduce(_) | Op::Rnn(_) => produced + node.inputs.iter().map(|&v| size(v)).sum::<u64>(),
        _ => produced,
    }
}

fn value(dim: &Dim) -> u64 {
    dim.eval(&|_| Some(SYMBOL)).map_or(0, |d| d.max(0) as u64)
}

fn size(dims: &[Dim]) -> u64 {
    dims.iter().map(value).product()
}
