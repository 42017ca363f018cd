//! Evaluates nodes whose operands are constants, by the same `eval` that the interpreter uses.
//!
//! What could blow up stays: a fold may produce `fold_bytes`, or twice its operands; folds that rearrange, cast or
//! combine weights elementwise share `weight_bytes`. A node whose evaluation fails, say on an index out of range, stays
//! and fails when the program runs.

use std::collections::HashSet;

use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::Dim;
use xlac_ir::graph::{BODY, NodeId, Program, RegionId, ValueId};
use xlac_ir::op::EvalCx;
use xlac_ir::ops::Op;
use xlac_ir::tensor::Tensor;

use crate::edit::{constant_data, constant_op, is_constant};
use crate::pass::{Pass, PassCx};
use crate::subst::Substitution;

/// The pass.
pub const PASS: Pass = Pass { name: "fold", why: "what is known now need not be computed at every run", run };

/// Multiply-adds that one fold may take: the reference evaluation is slow.
const WORK: i64 = 1 << 27;

fn run(program: &mut Program, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let names = program.weights.iter().map(|(_, w)| w.name.to_string()).collect();
    let elementwise_only = elementwise_only(program);
    let mut fold = Fold { program, cx, names, elementwise_only, subst: Substitution::default() };
    fold.region(BODY);
    Ok(!fold.subst.is_empty())
}

/// Values that only elementwise ops use.
fn elementwise_only(program: &Program) -> Vec<bool> {
    let is_elementwise = |n: &NodeId| program.graph.node(*n).op.is_elementwise();
    let users = program.graph.users();
    users.iter().map(|u| !u.output && u.nodes.iter().all(is_elementwise)).collect()
}

struct Fold<'a, 'b, 'c> {
    program: &'a mut Program,
    cx: &'a mut PassCx<'b, 'c>,
    names: HashSet<String>,
    elementwise_only: Vec<bool>,
    subst: Substitution,
}

impl Fold<'_, '_, '_> {
    fn region(&mut self, region: RegionId) {
        let nodes = std::mem::take(&mut self.program.graph.region_mut(region).nodes);
        let mut kept = Vec::with_capacity(nodes.len());
        for id in nodes {
            let node = self.program.graph.node_mut(id);
            node.inputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
            let inner = node.regions.clone();
            inner.into_iter().for_each(|r| self.region(r));
            match self.evaluate(id) {
                Some(results) if self.cx.burn() => kept.extend(self.replace(region, id, results)),
                _ => kept.push(id),
            }
        }
        let r = self.program.graph.region_mut(region);
        r.nodes = kept;
        r.outputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
    }

    /// The results of a node, if they can be known and are worth having.
    fn evaluate(&mut self, id: NodeId) -> Option<Vec<Tensor>> {
        let node = self.program.graph.node(id);
        let candidate = !is_constant(&node.op) && node.regions.is_empty() && !node.outputs.is_empty();
        if !candidate || self.cx.is_late() {
            return None;
        }
        let all_constant =
            node.inputs.iter().all(|&v| self.program.graph.producer(v).is_some_and(|n| is_constant(&n.op)));
        if !all_constant || (matches!(node.op, Op::Broadcast(_)) && self.elementwise_only[node.outputs[0].0 as usize]) {
            return None;
        }
        let charge = self.affordable(id)?;
        let node = self.program.graph.node(id);
        let operands: Vec<Tensor> =
            node.inputs.iter().map(|&v| constant_data(self.program, v)).collect::<Option<_>>()?;
        let results = node.op.eval(&operands, &EvalCx { symbols: &|_| None }).ok()?;
        let expected = node.outputs.iter().map(|&v| self.program.graph.ty(v));
        let fits = results.len() == node.outputs.len() && results.iter().zip(expected).all(|(t, ty)| t.ty() == *ty);
        if fits {
            self.cx.weight_bytes -= charge;
            self.cx.report.folded_bytes += results.iter().map(|t| t.data.len()).sum::<usize>();
        }
        fits.then_some(results)
    }

    /// What the fold takes from the budget of weights, if it may be done.
    fn affordable(&self, id: NodeId) -> Option<usize> {
        let graph = &self.program.graph;
        let node = graph.node(id);
        let bytes = |v: &ValueId| {
            let shape = graph.ty(*v).fixed_shape()?;
            let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b))?;
            // Strings have no fixed size; their number bounds what is copied.
            graph.ty(*v).dtype.bytes_for(count).map(|b| b.max(count / 8))
        };
        let produced: usize = node.outputs.iter().map(bytes).try_fold(0usize, |a, b| a.checked_add(b?))?;
        let consumed: usize = node.inputs.iter().map(bytes).try_fold(0usize, |a, b| a.checked_add(b?))?;
        if work(graph, id)? > WORK {
            return None;
        }
        let free = matches!(node.op, Op::Reshape(_));
        let small = produced <= self.cx.options.fold_bytes.max(consumed.saturating_mul(2));
        let moves_weights = node.op.is_elementwise() || matches!(node.op, Op::Transpose(_) | Op::Broadcast(_));
        if free || produced <= self.cx.options.fold_bytes {
            return Some(0);
        }
        if small && !moves_weights {
            return Some(0);
        }
        (moves_weights && produced <= self.cx.weight_bytes).then_some(produced)
    }

    fn replace(&mut self, region: RegionId, id: NodeId, results: Vec<Tensor>) -> Vec<NodeId> {
        let node = self.program.graph.node(id).clone();
        let base = self.base_name(id);
        let mut made = Vec::new();
        for (old, tensor) in node.outputs.iter().zip(results) {
            let name = self.unique(&base);
            let op = constant_op(self.program, &name, tensor);
            let new = self.program.graph.add(region, op, &[], &node.loc).expect("constants have no operands");
            self.program.graph.region_mut(region).nodes.clear();
            let value = self.program.graph.node(new).outputs[0];
            self.subst.replace(&mut self.program.graph, *old, value);
            made.push(new);
        }
        made
    }

    /// A name that tells where a folded weight comes from: its largest operand and the op.
    fn base_name(&self, id: NodeId) -> String {
        let graph = &self.program.graph;
        let node = graph.node(id);
        let weight = node.inputs.iter().find_map(|&v| graph.weight(v));
        let from_weight = weight.map(|w| self.program.weights.get(w).name.to_string());
        let base = from_weight.or_else(|| node.loc.0.first().map(|n| n.to_string()));
        format!("{}.{}", base.unwrap_or_else(|| "folded".into()), node.op.mnemonic())
    }

    fn unique(&mut self, base: &str) -> String {
        let mut name = base.to_string();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{base}.{count}");
        }
        name
    }
}

/// Roughly the multiply-adds a node takes; none on overflow or if a size is not known.
fn work(graph: &xlac_ir::graph::Graph, id: NodeId) -> Option<i64> {
    let node = graph.node(id);
    let dims = |v: ValueId| &graph.ty(v).shape;
    let product = |d: &[Dim]| d.iter().try_fold(1i64, |a, b| a.checked_mul(b.as_const()?));
    let produced = product(dims(node.outputs[0]))?;
    let per_element = match &node.op {
        Op::MatMul(m) => {
            let shape = dims(node.inputs[0]);
            shape[shape.len() - if m.trans_a { 2 } else { 1 }].as_const()?
        }
        Op::Conv(_) => product(&dims(node.inputs[1])[1..])?,
        Op::ConvTranspose(_) | Op::Rnn(_) => product(dims(node.inputs[1]))?,
        Op::Pool(p) => product(&p.kernel.iter().map(|&k| Dim::from(k)).collect::<Vec<_>>())?,
        _ => 1,
    };
    let consumed = node.inputs.iter().try_fold(0i64, |a, &v| a.checked_add(product(dims(v))?))?;
    produced.checked_mul(per_element)?.checked_add(consumed)
}
