//! Recognizes attention: `softmax(f(Q K^T)) V`, with any elementwise `f` over the scores, such as scales, masks and caps.
//!
//! The match walks back from the second product. In between it takes, all of them used for nothing else:
//!
//! ```text
//! raw     = matmul Q, K           Q and K may carry a constant factor, which moves to the scores
//! logits  = f(raw, masks...)      elementwise; a reshape may split or join batch axes
//! max     = reduce max logits     possibly with 0 in the place of -inf
//! e       = exp(logits - max)
//! divisor = h(reduce sum e)       elementwise, such as 1 in the place of 0
//! y       = e / divisor           possibly with 0 where a condition of the row holds, or for NaN; casts
//! result  = matmul y, V
//! ```
//!
//! What does not match stays what it is to other groups. Batch axes are cut as finely as any of the values needs it, so
//! that heads that share keys are a stride of 0, not a copy.

use std::collections::{HashMap, HashSet};

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::graph::{Def, Graph, Node, NodeId, RegionId, Users, ValueId};
use xlac_ir::kernel::{Const, Pred};
use xlac_ir::ops::reduce::ReduceFn;
use xlac_ir::ops::{MatMul, Op, Reduce};
use xlac_ir::scalar;

/// Largest size of a head.
const LARGEST_HEAD: i64 = 256;
/// Most elementwise nodes on the scores.
const LONGEST_CHAIN: usize = 48;

/// A matrix operand of one of the products.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The value.
    pub value: ValueId,
    /// Sizes its batch axes are broadcast to; they multiply to those of the product.
    pub batch: Vec<Dim>,
    /// True if its last axis counts keys or queries, and the one before it the elements of a head.
    pub across: bool,
}

/// Where the weights of a whole row are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Where the first value, the same for all keys, is true; it is broadcast to the shape of the second.
    If(ValueId, ValueId),
    /// Where it is false.
    Unless(ValueId, ValueId),
    /// Where they would be NaN.
    Nan,
}

/// An attention: values of its graph and their part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    /// `Q`.
    pub queries: Operand,
    /// `K`.
    pub keys: Operand,
    /// `V`.
    pub values: Operand,
    /// Batch axes, without those of size 1.
    pub batch: Vec<Dim>,
    /// Number of queries.
    pub n_queries: Dim,
    /// Number of keys.
    pub n_keys: Dim,
    /// Elements of a query and of a key.
    pub head: i64,
    /// Elements of a value.
    pub width: i64,
    /// What the products of queries and keys are multiplied with, in the place of the operands; bits of an f64.
    pub factor: u64,
    /// Products of queries and keys.
    pub raw: ValueId,
    /// What the softmax is taken of.
    pub logits: ValueId,
    /// Nodes between the two.
    pub chain: Vec<NodeId>,
    /// True if 0 takes the place of a maximum of -inf.
    pub guarded: bool,
    /// Sum of the exponentials.
    pub sum: ValueId,
    /// What they are divided by.
    pub divisor: ValueId,
    /// Nodes between the two.
    pub divisor_chain: Vec<NodeId>,
    /// Rows whose weights are zero.
    pub hidden: Vec<Hidden>,
    /// The second product.
    pub anchor: NodeId,
    /// Its result.
    pub result: ValueId,
    /// All nodes.
    pub members: Vec<NodeId>,
}

/// Finds every attention of a region. They have no node in common.
pub fn find(g: &Graph, region: RegionId, users: &[Users], escaping: &HashSet<ValueId>) -> Vec<Attention> {
    let nodes = &g.region(region).nodes;
    let position: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let mut taken = HashSet::new();
    let mut found = Vec::new();
    for &n in nodes {
        let matcher = Matcher { g, users, escaping, members: Vec::new() };
        let Some(mut attention) = matcher.attention(n) else { continue };
        if attention.members.iter().any(|m| taken.contains(m)) {
            continue;
        }
        taken.extend(attention.members.iter().copied());
        attention.members.sort_by_key(|n| position.get(n));
        attention.members.dedup();
        found.push(attention);
    }
    found
}

/// The axis of `from` that each axis of `to` is a part of, if `to` only cuts axes; those of size 1 do not count.
pub fn cut(from: &[Dim], to: &[Dim]) -> Option<Vec<usize>> {
    let mut owner = Vec::new();
    for (axis, size) in from.iter().enumerate().filter(|(_, d)| !d.is(1)) {
        let mut product = Dim::ONE;
        while product != *size {
            product = &product * to.get(owner.len())?;
            owner.push(axis);
        }
    }
    (owner.len() == to.len()).then_some(owner)
}

struct Matcher<'a> {
    g: &'a Graph,
    users: &'a [Users],
    escaping: &'a HashSet<ValueId>,
    members: Vec<NodeId>,
}

/// Nodes that lead from one value to another.
struct Path {
    start: NodeId,
    nodes: Vec<NodeId>,
}

impl<'a> Matcher<'a> {
    fn attention(mut self, anchor: NodeId) -> Option<Attention> {
        let second = self.g.node(anchor);
        let Op::MatMul(product) = &second.op else { return None };
        if product.trans_a {
            return None;
        }
        let (weights, result) = (second.inputs[0], second.outputs[0]);
        let (division, hidden) = self.division(weights)?;
        let (e, divisor) = (division.inputs[0], division.inputs[1]);
        let (sum, divisor_chain) = self.reduced(divisor, ReduceFn::Sum, e)?;
        let (logits, guarded) = self.exponential(e)?;
        let path = self.path(logits, &|node| matches!(node.op, Op::MatMul(_)))?;
        let first = self.g.node(path.start);
        self.members.extend([path.start, anchor]);
        self.members.extend(path.nodes.iter().chain(&divisor_chain));
        let Op::MatMul(scores) = &first.op else { return None };
        let raw = first.outputs[0];
        let batch = self.batch(raw);
        let mut factor = 1.0;
        let (start, of_values) = (path.start, self.batch(result));
        let queries = self.operand(first.inputs[0], (start, batch), scores.trans_a, &mut factor);
        let keys = self.operand(first.inputs[1], (start, batch), !scores.trans_b, &mut factor);
        let mut unit = 1.0;
        let values = self.operand(second.inputs[1], (anchor, of_values), product.trans_b, &mut unit);
        if unit != 1.0 {
            return None;
        }
        let [n_queries, n_keys] = self.matrix(raw);
        let head = inner(self.g, first, scores).as_const()?;
        let width = self.matrix(result)[1].as_const()?;
        let attention = Attention {
            batch: Vec::new(),
            n_queries: n_queries.clone(),
            n_keys: n_keys.clone(),
            head,
            width,
            factor: factor.to_bits(),
            raw,
            logits,
            chain: path.nodes,
            guarded,
            sum,
            divisor,
            divisor_chain,
            hidden,
            anchor,
            result,
            members: self.members.clone(),
            queries,
            keys,
            values,
        };
        self.checked(attention)
    }

    /// What a kernel can do: sizes, element types, batch axes, and nothing else reads what is never stored.
    fn checked(&self, mut a: Attention) -> Option<Attention> {
        let sizes = [a.head, a.width].iter().all(|n| (1..=LARGEST_HEAD).contains(n));
        let dtype = |v: ValueId| self.g.ty(v).dtype;
        let floats = [a.queries.value, a.keys.value, a.values.value, a.raw, a.logits, a.result];
        let wide = floats.iter().filter(|&&v| dtype(v) == DType::F64).count();
        let known = floats.iter().all(|&v| dtype(v).is_float() && dtype(v).in_kernels());
        let types = known && (wide == 0 || wide == floats.len());
        let paired = dtype(a.queries.value) == dtype(a.keys.value);
        let private = a.members.iter().filter(|&&n| n != a.anchor).all(|&n| {
            self.g.node(n).outputs.iter().all(|v| self.is_private(*v, &a.members))
        });
        let hiding = a.hidden.iter().filter_map(|h| match h {
            Hidden::If(_, at) | Hidden::Unless(_, at) => Some(*at),
            Hidden::Nan => None,
        });
        let scores = a.chain.iter().map(|&n| self.g.node(n).outputs[0]).chain([a.raw]).chain(hiding);
        let shapes: Vec<&[Dim]> = scores.map(|v| self.batch(v)).collect();
        let whole = a.chain.iter().all(|&n| self.matrix(self.g.node(n).outputs[0]) == [&a.n_queries, &a.n_keys]);
        let rest = [self.batch(a.result), &a.queries.batch, &a.keys.batch, &a.values.batch];
        let finest = shapes.iter().chain(&rest).max_by_key(|s| s.iter().filter(|d| !d.is(1)).count())?;
        let batch: Vec<Dim> = finest.iter().filter(|d| !d.is(1)).cloned().collect();
        let cuts = shapes.iter().chain(&rest).all(|s| cut(s, &batch).is_some());
        a.batch = batch;
        (sizes && types && paired && private && whole && cuts).then_some(a)
    }

    fn is_private(&self, v: ValueId, members: &[NodeId]) -> bool {
        let users = &self.users[v.0 as usize];
        !users.output && !self.escaping.contains(&v) && users.nodes.iter().all(|n| members.contains(n))
    }

    fn producer(&self, v: ValueId) -> Option<(NodeId, &'a Node)> {
        match self.g.value(v).def {
            Def::Node(n, _) => Some((n, self.g.node(n))),
            Def::Input(..) => None,
        }
    }

    /// The batch axes of a stack of matrices.
    fn batch(&self, v: ValueId) -> &'a [Dim] {
        let shape = &self.g.ty(v).shape;
        &shape[..shape.len().saturating_sub(2)]
    }

    /// Its other axes.
    fn matrix(&self, v: ValueId) -> [&'a Dim; 2] {
        match &self.g.ty(v).shape[..] {
            [.., a, b] => [a, b],
            _ => [&Dim::ONE, &Dim::ONE],
        }
    }

    /// The division at the end of a softmax, and what hides rows after it.
    fn division(&mut self, weights: ValueId) -> Option<(&'a Node, Vec<Hidden>)> {
        let mut v = weights;
        let mut hidden = Vec::new();
        loop {
            let (n, node) = self.producer(v)?;
            self.members.push(n);
            v = match &node.op {
                Op::Binary(BinaryFn::Div) => return Some((node, hidden)),
                Op::Cast(c) if c.to.is_float() => node.inputs[0],
                Op::Reshape(_) => node.inputs[0],
                Op::Select(_) => {
                    let (what, rest) = self.hidden(node)?;
                    hidden.push(what);
                    rest
                }
                _ => return None,
            };
        }
    }

    /// Which rows a `select` makes zero, and the value it keeps for the others.
    fn hidden(&mut self, node: &Node) -> Option<(Hidden, ValueId)> {
        let [cond, a, b] = node.inputs[..] else { return None };
        if let Some((n, test)) = self.producer(cond)
            && matches!(test.op, Op::Unary(UnaryFn::IsNan))
            && test.inputs[0] == b
            && self.is(a, 0.0)
        {
            self.members.push(n);
            return Some((Hidden::Nan, b));
        }
        let row = self.g.ty(cond).shape.last().is_none_or(|d| d.is(1));
        match (row, self.is(a, 0.0), self.is(b, 0.0)) {
            (true, true, _) => Some((Hidden::If(cond, node.outputs[0]), b)),
            (true, _, true) => Some((Hidden::Unless(cond, node.outputs[0]), a)),
            _ => None,
        }
    }

    /// The reduction of `of` along its last axis that `v` is computed from, and the nodes in between.
    fn reduced(&mut self, v: ValueId, f: ReduceFn, of: ValueId) -> Option<(ValueId, Vec<NodeId>)> {
        let last = self.g.ty(of).shape.len().checked_sub(1)?;
        let wanted = Op::from(Reduce { f, axes: vec![last] });
        let path = self.path(v, &|node| node.op == wanted && node.inputs[0] == of)?;
        self.members.push(path.start);
        self.members.extend(&path.nodes);
        Some((self.g.node(path.start).outputs[0], path.nodes))
    }

    /// What the exponentials are taken of, and whether a maximum of -inf counts as 0.
    fn exponential(&mut self, e: ValueId) -> Option<(ValueId, bool)> {
        let (n, exp) = self.producer(e)?;
        let (m, sub) = self.producer(*exp.inputs.first()?)?;
        if exp.op != Op::Unary(UnaryFn::Exp) || sub.op != Op::Binary(BinaryFn::Sub) {
            return None;
        }
        self.members.extend([n, m]);
        let (logits, shift) = (sub.inputs[0], sub.inputs[1]);
        let (max, between) = self.reduced(shift, ReduceFn::Max, logits)?;
        if between.is_empty() {
            return Some((logits, false));
        }
        let (_, select) = self.producer(shift)?;
        let [cond, zero, same] = select.inputs[..] else { return None };
        let (_, test) = self.producer(cond)?;
        let lowest = match &test.op {
            Op::Unary(UnaryFn::IsNegInf) => test.inputs[0] == max,
            Op::Compare(Pred::Eq) => test.inputs[0] == max && self.is(test.inputs[1], f64::NEG_INFINITY),
            _ => false,
        };
        (matches!(select.op, Op::Select(_)) && same == max && self.is(zero, 0.0) && lowest).then_some((logits, true))
    }

    /// True if a value is this constant everywhere.
    fn is(&self, v: ValueId, x: f64) -> bool { self.g.splat_constant(v).is_some_and(|c| number(c) == x) }

    /// The elementwise nodes and reshapes from `v` back to the first node that `goal` accepts.
    fn path(&self, v: ValueId, goal: &dyn Fn(&Node) -> bool) -> Option<Path> {
        let start = self.nearest(v, goal, &mut HashSet::new())?;
        let mut nodes = Vec::new();
        self.leading(v, start, &mut HashSet::new(), &mut nodes)?;
        Some(Path { start, nodes })
    }

    fn nearest(&self, v: ValueId, goal: &dyn Fn(&Node) -> bool, seen: &mut HashSet<NodeId>) -> Option<NodeId> {
        let (n, node) = self.producer(v)?;
        if goal(node) {
            return Some(n);
        }
        let through = node.op.is_elementwise() || matches!(node.op, Op::Reshape(_));
        if !through || seen.len() > LONGEST_CHAIN || !seen.insert(n) {
            return None;
        }
        node.inputs.iter().find_map(|&i| self.nearest(i, goal, seen))
    }

    /// Gathers the nodes that use the result of `start` on the way to `v`; says whether `v` is one of theirs.
    fn leading(&self, v: ValueId, start: NodeId, seen: &mut HashSet<NodeId>, out: &mut Vec<NodeId>) -> Option<bool> {
        let Some((n, node)) = self.producer(v) else { return Some(false) };
        if n == start || out.contains(&n) {
            return Some(true);
        }
        let through = node.op.is_elementwise() || matches!(node.op, Op::Reshape(_));
        if !through || !seen.insert(n) {
            return Some(false);
        }
        if seen.len() > 4 * LONGEST_CHAIN {
            return None;
        }
        let mut leads = false;
        for &i in &node.inputs {
            leads |= self.leading(i, start, seen, out)?;
        }
        if leads {
            out.push(n);
        }
        Some(leads)
    }

    /// An operand of a product, without what its kernel need not compute: factors and the joining of batch axes.
    fn operand(&mut self, v: ValueId, (user, batch): (NodeId, &[Dim]), across: bool, factor: &mut f64) -> Operand {
        let mut operand = Operand { value: v, batch: batch.to_vec(), across };
        while let Some((n, node)) = self.producer(operand.value) {
            let v = operand.value;
            match &node.op {
                Op::Binary(BinaryFn::Mul) if self.is_private(v, &[user]) => {
                    let constant = |v: ValueId| self.g.splat_constant(v).map(number);
                    let scaled = |i: usize| constant(node.inputs[1 - i]).map(|c| (node.inputs[i], c));
                    let Some((x, c)) = scaled(0).or_else(|| scaled(1)) else { break };
                    if self.g.ty(x).shape != self.g.ty(v).shape || !c.is_finite() {
                        break;
                    }
                    *factor *= c;
                    self.members.push(n);
                    operand.value = x;
                }
                Op::Reshape(_) => {
                    let x = node.inputs[0];
                    let cuts = cut(self.batch(v), &without_ones(self.batch(x))).is_some();
                    if self.batch(v) != operand.batch || self.matrix(x) != self.matrix(v) || !cuts {
                        break;
                    }
                    operand = Operand { value: x, batch: self.batch(x).to_vec(), across };
                }
                _ => break,
            }
        }
        operand
    }
}

fn without_ones(batch: &[Dim]) -> Vec<Dim> { batch.iter().filter(|d| !d.is(1)).cloned().collect() }

fn number(c: Const) -> f64 { f64::from_bits(scalar::convert(c, DType::F64).bits) }

/// Number of terms of a product.
fn inner<'a>(g: &'a Graph, node: &Node, op: &MatMul) -> &'a Dim {
    let shape = &g.ty(node.inputs[0]).shape;
    &shape[shape.len() - if op.trans_a { 2 } else { 1 }]
}
