//! Control flow that is decided: an `if` with a constant condition, and a `loop` that makes no or one trip, become the
//! nodes they run.

use std::collections::HashMap;

use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{BODY, Loc, Node, NodeId, Program, RegionId, ValueId};
use xlac_ir::kernel::Const;
use xlac_ir::ops::{self, Op};
use xlac_ir::tensor::Tensor;
use xlac_ir::types::Type;

use crate::pass::{Pass, PassCx};
use crate::passes::bind::{substitute, substitute_constraints};
use crate::subst::Substitution;

/// The pass.
pub const PASS: Pass =
    Pass { name: "control", why: "decided branches hide their nodes from every other pass and cost a launch", run };

fn run(program: &mut Program, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let mut control = Control { program, cx, subst: Substitution::default(), known: HashMap::new(), any: false };
    control.region(BODY);
    let (known, any) = (control.closed(), control.any);
    if !known.is_empty() {
        substitute(&mut program.graph, BODY, &known);
        substitute_constraints(&mut program.graph, &known);
    }
    Ok(any)
}

struct Control<'a, 'b, 'c> {
    program: &'a mut Program,
    cx: &'a mut PassCx<'b, 'c>,
    subst: Substitution,
    /// Symbols that control flow bound and that are now known; applied once, at the end.
    known: HashMap<Symbol, Dim>,
    any: bool,
}

impl Control<'_, '_, '_> {
    fn region(&mut self, region: RegionId) {
        let mut todo = std::mem::take(&mut self.program.graph.region_mut(region).nodes);
        todo.reverse();
        let mut done = Vec::with_capacity(todo.len());
        while let Some(id) = todo.pop() {
            let node = self.program.graph.node_mut(id);
            node.inputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
            match self.inline(region, id) {
                Some(nodes) => {
                    self.any = true;
                    todo.extend(nodes.into_iter().rev());
                }
                None => {
                    let inner = self.program.graph.node(id).regions.clone();
                    inner.into_iter().for_each(|r| self.region(r));
                    done.push(id);
                }
            }
        }
        let r = self.program.graph.region_mut(region);
        r.nodes = done;
        r.outputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
    }

    /// The nodes that take the place of a decided `if` or `loop`.
    fn inline(&mut self, region: RegionId, id: NodeId) -> Option<Vec<NodeId>> {
        let node = self.program.graph.node(id).clone();
        match &node.op {
            Op::If(op) => self.inline_if(&node, &op.symbols),
            Op::Loop(op) => match self.trips(&node, op)? {
                0 => self.inline_no_trip(region, &node, op),
                1 => self.inline_one_trip(region, &node, op),
                _ => None,
            },
            _ => None,
        }
    }

    fn constant(&self, value: ValueId) -> Option<i64> {
        self.program.graph.constant(value)?.to_i64().first().copied()
    }

    fn inline_if(&mut self, node: &Node, symbols: &[Symbol]) -> Option<Vec<NodeId>> {
        let taken = if self.constant(node.inputs[0])? != 0 { node.regions[0] } else { node.regions[1] };
        let results = self.program.graph.region(taken).outputs.clone();
        let mut known = HashMap::new();
        for (&outer, &inner) in node.outputs.iter().zip(&results) {
            let (outer, inner) = (self.program.graph.ty(outer), self.program.graph.ty(inner));
            for (o, i) in outer.shape.iter().zip(&inner.shape) {
                if let Some(s) = o.as_symbol().filter(|s| symbols.contains(s)) {
                    known.entry(s.clone()).or_insert_with(|| i.clone());
                }
            }
        }
        self.take(known, &node.outputs, &results)?;
        Some(std::mem::take(&mut self.program.graph.region_mut(taken).nodes))
    }

    /// Trips that are certain.
    fn trips(&self, node: &Node, op: &ops::Loop) -> Option<i64> {
        let most = if op.trips { self.constant(node.inputs[0]) } else { None };
        let first = if op.cond { self.constant(node.inputs[usize::from(op.trips)]) } else { Some(1) };
        match (most, first) {
            (Some(n), _) if n <= 0 => Some(0),
            (_, Some(0)) => Some(0),
            (Some(1), Some(_)) => Some(1),
            _ => None,
        }
    }

    fn inline_no_trip(&mut self, region: RegionId, node: &Node, op: &ops::Loop) -> Option<Vec<NodeId>> {
        let known = count_is(op, 0);
        let given = &node.inputs[node.inputs.len() - op.carried..];
        let empty = |v: &ValueId| {
            let ty = self.program.graph.ty(*v);
            let shape = ty.shape.iter().map(|d| usize::try_from(substituted(d, &known).as_const()?).ok());
            let shape: Vec<usize> = shape.collect::<Option<_>>()?;
            ty.dtype.in_kernels().then(|| Tensor::from_consts(ty.dtype, shape, []))
        };
        let scans: Vec<Tensor> = node.outputs[op.carried..].iter().map(empty).collect::<Option<_>>()?;
        let (mut nodes, mut results) = (Vec::new(), given.to_vec());
        for tensor in scans {
            results.push(self.constant_node(region, &tensor, &node.loc, &mut nodes));
        }
        self.take(known, &node.outputs, &results)?;
        Some(nodes)
    }

    fn inline_one_trip(&mut self, region: RegionId, node: &Node, op: &ops::Loop) -> Option<Vec<NodeId>> {
        let body = node.regions[0];
        let given = &node.inputs[node.inputs.len() - op.carried..];
        let inner = self.program.graph.region(body).clone();
        let ty = |v: ValueId| self.program.graph.ty(v);
        let at_start = count_is(op, 0);
        let same = |(&outer, &inner): (&ValueId, &ValueId)| ty(outer) == &substitute_type(ty(inner), &at_start);
        if !given.iter().zip(&inner.inputs[1..]).all(same) {
            return None;
        }
        let outputs = &inner.outputs[usize::from(op.cond)..];
        let fits = |(&outer, &inner): (&ValueId, &ValueId)| ty(outer).dtype == ty(inner).dtype;
        if !node.outputs.iter().zip(outputs).all(fits) || !self.cx.burn() {
            return None;
        }
        // While the body runs the symbol is the trip number; afterwards it is the number of trips.
        substitute(&mut self.program.graph, body, &at_start);
        let mut nodes = Vec::new();
        let trip = self.constant_node(region, &Tensor::scalar(Const::i64(0)), &node.loc, &mut nodes);
        let starts = [trip].into_iter().chain(given.iter().copied());
        inner.inputs.iter().zip(starts).for_each(|(&i, v)| self.subst.replace(&mut self.program.graph, i, v));
        nodes.append(&mut self.program.graph.region_mut(body).nodes);
        let mut results = outputs[..op.carried].to_vec();
        for &v in &outputs[op.carried..] {
            let mut shape = self.program.graph.ty(v).shape.clone();
            shape.insert(0, Dim::ONE);
            let op = ops::Reshape { shape };
            // The operand is resolved when the new node is visited.
            let new = self.program.graph.add(region, op, &[v], &node.loc).expect("one more axis of size 1");
            self.program.graph.region_mut(region).nodes.clear();
            results.push(self.program.graph.node(new).outputs[0]);
            nodes.push(new);
        }
        self.known.extend(count_is(op, 1));
        for (&old, &new) in node.outputs.iter().zip(&results) {
            self.subst.replace(&mut self.program.graph, old, new);
        }
        Some(nodes)
    }

    fn constant_node(&mut self, region: RegionId, t: &Tensor, loc: &Loc, nodes: &mut Vec<NodeId>) -> ValueId {
        let graph = &mut self.program.graph;
        let new = graph.add(region, ops::Constant::new(t), &[], loc).expect("constants have no operands");
        graph.region_mut(region).nodes.clear();
        nodes.push(new);
        graph.node(new).outputs[0]
    }

    /// Makes `new` stand for `old`, if their types are equal once `known` is; takes fuel.
    fn take(&mut self, known: HashMap<Symbol, Dim>, old: &[ValueId], new: &[ValueId]) -> Option<()> {
        let ty = |v: ValueId| substitute_type(self.program.graph.ty(v), &known);
        let same = old.iter().zip(new).all(|(&o, &n)| ty(o) == ty(n));
        if !same || !self.cx.burn() {
            return None;
        }
        self.known.extend(known);
        old.iter().zip(new).for_each(|(&o, &n)| self.subst.replace(&mut self.program.graph, o, n));
        Some(())
    }

    /// The known symbols, with none of them left in what they are: an inner `if` may decide a size of an outer one.
    fn closed(&self) -> HashMap<Symbol, Dim> {
        let close = |d: &Dim| {
            let mut d = d.clone();
            loop {
                let next = substituted(&d, &self.known);
                if next == d {
                    return d;
                }
                d = next;
            }
        };
        self.known.iter().map(|(s, d)| (s.clone(), close(d))).collect()
    }
}

fn count_is(op: &ops::Loop, n: i64) -> HashMap<Symbol, Dim> {
    op.count.iter().map(|s| (s.clone(), Dim::from(n))).collect()
}

fn substituted(dim: &Dim, known: &HashMap<Symbol, Dim>) -> Dim {
    dim.substitute(&|s| known.get(s).cloned())
}

fn substitute_type(ty: &Type, known: &HashMap<Symbol, Dim>) -> Type {
    Type { dtype: ty.dtype, shape: ty.shape.iter().map(|d| substituted(d, known)).collect() }
}
