//! Arithmetic on sizes is done on dims: what `dims`, constants and integer ops over them compute becomes one `dims`, or
//! a constant if no symbol is left.

use std::collections::HashMap;

use xlac_ir::DType;
use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::Dim;
use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::graph::{BODY, Graph, Node, NodeId, Program, RegionId, ValueId};
use xlac_ir::op::{EvalCx, EvalError};
use xlac_ir::ops::reduce::ReduceFn;
use xlac_ir::ops::{self, Op};
use xlac_ir::tensor::Tensor;

use crate::edit::{constant_op, is_constant};
use crate::pass::{Pass, PassCx};
use crate::subst::Substitution;

/// The pass.
pub const PASS: Pass =
    Pass { name: "shapes", why: "sizes computed by the model are known as formulas before it runs", run };

/// Elements up to which a tensor of sizes is followed.
const LIMIT: usize = 64;

/// Elements of a value that is a `dims` or a constant i64.
pub fn known_dims(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    match &graph.producer(value)?.op {
        Op::Dims(d) => Some(d.dims.clone()),
        Op::Constant(c) if c.dtype == DType::I64 => Some(c.tensor().to_i64().into_iter().map(Dim::from).collect()),
        _ => None,
    }
}

fn run(program: &mut Program, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let mut shapes = Shapes { program, cx, known: HashMap::new(), subst: Substitution::default() };
    shapes.region(BODY);
    Ok(!shapes.subst.is_empty())
}

struct Shapes<'a, 'b, 'c> {
    program: &'a mut Program,
    cx: &'a mut PassCx<'b, 'c>,
    /// Elements of the values that are known, row-major.
    known: HashMap<ValueId, Vec<Dim>>,
    subst: Substitution,
}

impl Shapes<'_, '_, '_> {
    fn region(&mut self, region: RegionId) {
        let nodes = std::mem::take(&mut self.program.graph.region_mut(region).nodes);
        let mut kept = Vec::with_capacity(nodes.len());
        for id in nodes {
            let node = self.program.graph.node_mut(id);
            node.inputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
            let inner = node.regions.clone();
            inner.into_iter().for_each(|r| self.region(r));
            kept.extend(self.node(region, id));
        }
        let r = self.program.graph.region_mut(region);
        r.nodes = kept;
        r.outputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
    }

    /// Notes what a node gives; returns the nodes to keep in its place.
    fn node(&mut self, region: RegionId, id: NodeId) -> Vec<NodeId> {
        let node = self.program.graph.node(id);
        let [result] = node.outputs[..] else { return vec![id] };
        if let Some(dims) = known_dims(&self.program.graph, result) {
            self.known.insert(result, dims);
            return vec![id];
        }
        let Some(dims) = self.evaluate(node) else { return vec![id] };
        self.known.insert(result, dims.clone());
        // A view of sizes is kept: it costs nothing, and is what higher ranks end in.
        let is_view = matches!(node.op, Op::Reshape(_)) && self.program.graph.ty(result).rank() > 1;
        if is_view || is_constant(&node.op) || !self.cx.burn() {
            return vec![id];
        }
        self.replace(region, id, dims)
    }

    fn replace(&mut self, region: RegionId, id: NodeId, dims: Vec<Dim>) -> Vec<NodeId> {
        let node = self.program.graph.node(id).clone();
        let ty = self.program.graph.ty(node.outputs[0]).clone();
        let constants: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        let shape = ty.fixed_shape().expect("sizes are followed through fixed shapes");
        let program = &mut *self.program;
        let ops: Vec<Op> = match constants {
            Some(c) => vec![constant_op(program, "sizes", Tensor::from_i64(shape, &c))],
            None if shape.len() > 1 => {
                vec![ops::Dims { dims, scalar: false }.into(), ops::Reshape { shape: ty.shape }.into()]
            }
            None => vec![ops::Dims { dims, scalar: shape.is_empty() }.into()],
        };
        let mut made = Vec::new();
        let mut last: Option<ValueId> = None;
        for op in ops {
            let operands: Vec<ValueId> = last.into_iter().collect();
            let new =
                program.graph.add(region, op, &operands, &node.loc).expect("sizes have the type they were read from");
            last = Some(program.graph.node(new).outputs[0]);
            made.push(new);
        }
        program.graph.region_mut(region).nodes.clear();
        if let Some(new) = last {
            self.known.insert(new, self.known[&node.outputs[0]].clone());
            self.subst.replace(&mut program.graph, node.outputs[0], new);
        }
        made
    }

    /// The sizes that a node computes, if it computes sizes from sizes.
    fn evaluate(&self, node: &Node) -> Option<Vec<Dim>> {
        let graph = &self.program.graph;
        let ty = graph.ty(node.outputs[0]);
        let shape = ty.fixed_shape()?;
        let count: usize = shape.iter().product();
        if ty.dtype != DType::I64 || count > LIMIT || node.inputs.is_empty() {
            return None;
        }
        // Arithmetic on constants alone is for `fold`: there it wraps as in tensors.
        let computes = matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Reduce(_));
        if computes && node.inputs.iter().all(|&v| graph.producer(v).is_some_and(|n| is_constant(&n.op))) {
            return None;
        }
        let of = |i: usize| self.known.get(&node.inputs[i]);
        match &node.op {
            Op::Unary(UnaryFn::Neg) => Some(of(0)?.iter().map(|d| d * &Dim::from(-1)).collect()),
            Op::Binary(f) => {
                let (a, b) = (self.expand(node.inputs[0], &shape)?, self.expand(node.inputs[1], &shape)?);
                a.iter().zip(&b).map(|(a, b)| binary(*f, a, b)).collect()
            }
            Op::Cast(_) => of(0).cloned(),
            Op::Reduce(r) if count == 1 => {
                of(0)?.iter().try_fold(None, |sum, d| combine(r.f, sum, d))?.map(|d| vec![d])
            }
            Op::Broadcast(_) => self.expand(node.inputs[0], &shape),
            Op::Select(_) => self.select(node, &shape),
            _ => self.rearrange(node, &shape),
        }
    }

    /// Elements of an operand broadcast to `shape`.
    fn expand(&self, value: ValueId, shape: &[usize]) -> Option<Vec<Dim>> {
        let dims = self.known.get(&value)?;
        let own = self.program.graph.ty(value).fixed_shape()?;
        let positions = Tensor::from_i64(own, &(0..dims.len() as i64).collect::<Vec<_>>());
        let wide = ops::Broadcast { shape: shape.iter().map(|&d| Dim::from(d)).collect() };
        let picked = eval(wide.into(), &[positions]).ok()?.to_i64();
        Some(picked.into_iter().map(|i| dims[i as usize].clone()).collect())
    }

    /// `select` with a constant condition.
    fn select(&self, node: &Node, shape: &[usize]) -> Option<Vec<Dim>> {
        let cond = self.program.graph.constant(node.inputs[0])?;
        let wide = ops::Broadcast { shape: shape.iter().map(|&d| Dim::from(d)).collect() };
        let cond = eval(wide.into(), &[cond]).ok()?;
        let (a, b) = (self.expand(node.inputs[1], shape)?, self.expand(node.inputs[2], shape)?);
        Some(cond.iter().zip(a.into_iter().zip(b)).map(|(c, (a, b))| if c.bits != 0 { a } else { b }).collect())
    }

    /// Ops that only move elements: they are run on positions instead. The last operand of `gather` is data.
    fn rearrange(&self, node: &Node, shape: &[usize]) -> Option<Vec<Dim>> {
        let moves = matches!(node.op, Op::Gather(_) | Op::Slice(_) | Op::Concat(_) | Op::Reshape(_) | Op::Transpose(_));
        if !moves {
            return None;
        }
        let mut all: Vec<Dim> = Vec::new();
        let mut operands = Vec::new();
        for (i, &v) in node.inputs.iter().enumerate() {
            if i == 1 && matches!(node.op, Op::Gather(_)) {
                operands.push(self.program.graph.constant(v)?);
                continue;
            }
            let dims = self.known.get(&v)?;
            let first = all.len() as i64;
            let positions: Vec<i64> = (first..first + dims.len() as i64).collect();
            operands.push(Tensor::from_i64(self.program.graph.ty(v).fixed_shape()?, &positions));
            all.extend(dims.iter().cloned());
        }
        let picked = eval(node.op.clone(), &operands).ok()?;
        debug_assert_eq!(picked.shape, shape);
        Some(picked.to_i64().into_iter().map(|i| all[i as usize].clone()).collect())
    }
}

fn eval(op: Op, operands: &[Tensor]) -> Result<Tensor, EvalError> {
    Ok(op.eval(operands, &EvalCx { symbols: &|_| None })?.swap_remove(0))
}

/// An integer function on sizes, where dims can say what it means.
fn binary(f: BinaryFn, a: &Dim, b: &Dim) -> Option<Dim> {
    // Truncation and flooring agree for these.
    let divides = || a.lower_bound().is_some_and(|x| x >= 0) && b.lower_bound().is_some_and(|x| x >= 1);
    match f {
        BinaryFn::Add => Some(a + b),
        BinaryFn::Sub => Some(a - b),
        BinaryFn::Mul => Some(a * b),
        BinaryFn::Div if divides() => Some(a.floor_div(b)),
        BinaryFn::Mod | BinaryFn::Fmod if divides() => Some(a.rem(b)),
        BinaryFn::Min => Some(Dim::at_most(a, b)),
        BinaryFn::Max => Some(Dim::at_least(a, b)),
        _ => None,
    }
}

/// One step of a reduction over sizes; outer none to give up.
fn combine(f: ReduceFn, sum: Option<Dim>, d: &Dim) -> Option<Option<Dim>> {
    let Some(sum) = sum else { return Some(Some(d.clone())) };
    Some(Some(match f {
        ReduceFn::Sum => &sum + d,
        ReduceFn::Prod => &sum * d,
        ReduceFn::Max => Dim::at_least(&sum, d),
        ReduceFn::Min => Dim::at_most(&sum, d),
    }))
}
