//! Attention in blocks of keys: `softmax(f(Q K^T)) V` without a matrix of scores in memory.
//!
//! A tile is a block of queries of one head. It walks over the keys a block at a time and keeps, for each query, the
//! largest logit so far, the sum of the exponentials relative to it, and the sum of the values weighted with them:
//!
//! ```text
//! s = f(q . k)              for the keys of a block; f reads its masks at (batch, query, key)
//! m' = max(m, s)            l' = l exp(m - m') + sum exp(s - m')
//! o' = o exp(m - m') + sum exp(s - m') v
//! ```
//!
//! and at the end `o / h(l)`, hidden rows, and the elementwise epilogue. That is for GPUs; on processors `cores` keeps all
//! scores of a few queries in scratch memory. Two schedules: `warps` multiplies matrices with
//! tensor cores, limited by them; `lanes`, for few queries and for f64, takes dot products, limited by reading the keys
//! and values once. A kernel whose number of queries is not known has both and chooses when it runs.
//!
//! Scores and weights of narrow floats stay f32 but where a cast asks for rounding. Infinite elements of f32 operands
//! give NaN on tensor cores, which see them in parts.

mod cores;
mod exp;
mod lanes;
mod logits;
mod panel;
mod warps;

use std::collections::{HashMap, HashSet};

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::{Graph, NodeId, ValueId};
use xlac_ir::kernel::{BinOp, Buf, Const, Pred, UnOp, Val, WARP};

use crate::CompileError;
use crate::attention::{Attention, Hidden, Operand, cut};
use crate::eval::{Leaf, Out, Point};
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::map;
use crate::lower::{Cost, Lowering};
use crate::memory::hint;
use warps::Shape;

/// Queries up to which tensor cores would mostly multiply padding.
const FEW: i64 = 8;

/// A matrix in memory, one for each point of the batch axes.
#[derive(Clone)]
struct Matrix {
    buf: Buf,
    batch: Vec<Dim>,
    /// Strides along queries or keys, and along the elements of a head.
    row: Dim,
    col: Dim,
    rows: Dim,
    cols: i64,
    dtype: DType,
    /// First element of the launch's parameter in its buffer.
    offset: Dim,
}

/// Everything the schedules need.
struct Blocked<'a> {
    g: &'a Graph,
    a: &'a Attention,
    queries: Matrix,
    keys: Matrix,
    values: Matrix,
    /// Element type of the sums.
    acc: DType,
    /// Operands of the elementwise nodes on scores and rows: strides along batch axes, queries and keys.
    leaves: HashMap<ValueId, Leaf>,
    /// Operands of the epilogue, and the results: strides along batch axes, queries and elements of a value.
    epilogue: HashMap<ValueId, Leaf>,
    outs: Vec<Out>,
}

/// What a tile works on.
struct Tile {
    /// Index along the batch axes.
    batch: Vec<Val>,
    /// First query.
    row: Val,
}

/// Running results of a query.
#[derive(Clone, Copy)]
struct State {
    /// Largest logit.
    max: Val,
    /// Sum of the exponentials.
    sum: Val,
}

/// Lowers an attention with its epilogue.
pub fn lower(l: &mut Lowering, group: &Group, a: &Attention) -> Result<(), CompileError> {
    let exits: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    if group.space.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let mut kb = Kb::new("attention");
    let b = gather(l, &mut kb, group, a, &exits);
    if !l.target.is_gpu() {
        let tile = tile(&mut kb, a, cores::CHUNK);
        b.cores(&mut kb, cores::Registers::new(l, &b), &tile);
        let tiles = &Dim::product(&a.batch) * &a.n_queries.ceil_div(&Dim::from(cores::CHUNK));
        let (cost, loc) = (cost(&b, &tiles), l.loc(group));
        l.launch(kb, tiles, cost, &loc);
        return Ok(());
    }
    let few = a.n_queries.as_const().map(|n| n <= FEW);
    let shape = warps::shape(l, &b).filter(|_| few != Some(true));
    let rows = match shape {
        Some(shape) => shape.rows(),
        None if few == Some(true) => FEW,
        None => lanes::ROWS,
    };
    let threads = shape.map_or(lanes::THREADS, Shape::threads);
    kb.k.set_threads(threads);
    let tile = tile(&mut kb, a, rows);
    match shape {
        Some(shape) if few == Some(false) => b.warps(&mut kb, shape, &tile),
        Some(shape) => {
            let (n, limit) = (kb.dim(&a.n_queries), kb.k.int(FEW));
            let few = kb.k.cmp(Pred::Le, n, limit);
            let mut open = kb.k.begin_if(few);
            b.lanes(&mut kb, lanes::Plan::new(&b, 1, rows, threads), &tile);
            kb.k.begin_else(&mut open, &[]);
            b.warps(&mut kb, shape, &tile);
            kb.k.end_if(open, &[]);
        }
        None => {
            let at_once = a.n_queries.as_const().map_or(lanes::ROWS, |n| n.min(lanes::ROWS));
            b.lanes(&mut kb, lanes::Plan::new(&b, at_once, rows, threads), &tile);
        }
    }
    let tiles = &Dim::product(&a.batch) * &a.n_queries.ceil_div(&Dim::from(rows));
    let cost = cost(&b, &tiles);
    let loc = l.loc(group);
    l.launch(kb, tiles, cost, &loc);
    Ok(())
}

fn cost(b: &Blocked, tiles: &Dim) -> Cost {
    let a = b.a;
    let batch = Dim::product(&a.batch);
    let scores = &batch * &(&a.n_queries * &a.n_keys);
    let flops = &scores * &Dim::from(2 * (a.head + a.width));
    let elements = &(&a.n_queries + &a.n_keys) * &Dim::from(a.head + a.width);
    let traffic = &(&batch * &elements) * &Dim::from(b.keys.dtype.size());
    let tile_ns = flops.floor_div(&Dim::from(64i64)).floor_div(&tiles.at_least(&Dim::ONE));
    Cost { tile_ns, flops, traffic }
}

/// Blocks of queries vary fastest, so that neighbouring tiles share keys and values in the caches.
fn tile(kb: &mut Kb, a: &Attention, rows: i64) -> Tile {
    let number = kb.k.tile();
    let blocks = kb.dim(&a.n_queries.ceil_div(&Dim::from(rows)));
    let (head, block) = (kb.k.bin(BinOp::Div, number, blocks), kb.k.bin(BinOp::Rem, number, blocks));
    let batch = if a.batch.is_empty() { Vec::new() } else { kb.unflatten(head, &a.batch) };
    Tile { batch, row: kb.k.mul_int(block, rows) }
}

/// Gathers all accesses.
fn gather<'a, 'g: 'a>(
    l: &mut Lowering<'g>,
    kb: &mut Kb,
    group: &Group,
    a: &'a Attention,
    exits: &[(ValueId, Place)],
) -> Blocked<'a> {
    let queries = matrix(l, kb, a, &a.queries, (&a.n_queries, a.head));
    let keys = matrix(l, kb, a, &a.keys, (&a.n_keys, a.head));
    let values = matrix(l, kb, a, &a.values, (&a.n_keys, a.width));
    let mut leaves = HashMap::new();
    let inner: Vec<NodeId> = a.chain.iter().chain(&a.divisor_chain).copied().collect();
    let known = [a.raw, a.sum];
    for &n in &inner {
        let shape = l.g.ty(l.g.node(n).outputs[0]).shape.clone();
        for &v in &l.g.node(n).inputs {
            let computed = known.contains(&v) || inner.iter().any(|&m| l.g.node(m).outputs.contains(&v));
            if !computed && !leaves.contains_key(&v) {
                leaves.insert(v, leaf(l, kb, a, v, &shape));
            }
        }
    }
    for hidden in &a.hidden {
        if let Hidden::If(v, at) | Hidden::Unless(v, at) = *hidden {
            let shape = l.g.ty(at).shape.clone();
            leaves.insert(v, leaf(l, kb, a, v, &shape));
        }
    }
    let after: HashSet<NodeId> = group.members.iter().copied().filter(|m| !a.members.contains(m)).collect();
    let mut epilogue = HashMap::new();
    for v in map::operands(l.g, exits.iter().map(|e| e.0), &after).into_iter().filter(|&v| v != a.result) {
        epilogue.insert(v, leaf(l, kb, a, v, &group.space));
    }
    let outs = exits.iter().map(|(v, place)| {
        let strides = strides(a, &group.space, &place.view.strides);
        (*v, kb.write(place), place.dtype, strides)
    });
    let outs = outs.collect();
    let acc = if l.g.ty(a.raw).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    Blocked { g: l.g, a, queries, keys, values, acc, leaves, epilogue, outs }
}

fn matrix(l: &mut Lowering, kb: &mut Kb, a: &Attention, o: &Operand, (rows, cols): (&Dim, i64)) -> Matrix {
    let shape = l.g.ty(o.value).shape.clone();
    let place = l.access(o.value);
    let to = [&o.batch[..], &shape[shape.len() - 2..]].concat();
    let view = place.view.broadcast(&shape, &to);
    let mut strides = strides(a, &to, &view.strides);
    let (last, before) = (strides.pop(), strides.pop());
    let (last, before) = (last.expect("two axes of a matrix"), before.expect("two axes of a matrix"));
    let (row, col) = if o.across { (last, before) } else { (before, last) };
    let (buf, offset) = (kb.read(&place), place.view.offset.clone());
    Matrix { buf, batch: strides, row, col, rows: rows.clone(), cols, dtype: place.dtype, offset }
}

/// How `v` is read where values have this shape, which ends in the two axes of a matrix.
fn leaf(l: &mut Lowering, kb: &mut Kb, a: &Attention, v: ValueId, shape: &[Dim]) -> Leaf {
    if let Some(leaf) = l.const_leaf(v) {
        return leaf;
    }
    let place = l.leaf_view(v, shape);
    let strides = strides(a, shape, &place.view.strides);
    Leaf::Buffer { buf: kb.read(&place), strides, dtype: l.g.ty(v).dtype }
}

/// Strides along the attention's batch axes and the last two axes of a value of this shape.
fn strides(a: &Attention, shape: &[Dim], strides: &[Dim]) -> Vec<Dim> {
    let (batch, matrix) = shape.split_at(shape.len() - 2);
    let owner = cut(batch, &a.batch).expect("the match has checked the batch axes");
    let mut out = vec![Dim::ZERO; owner.len()];
    let mut inside = (usize::MAX, Dim::ONE);
    for (axis, &from) in owner.iter().enumerate().rev() {
        if inside.0 != from {
            inside = (from, Dim::ONE);
        }
        out[axis] = &strides[from] * &inside.1;
        inside.1 = &inside.1 * &a.batch[axis];
    }
    out.extend_from_slice(&strides[strides.len() - matrix.len()..]);
    out
}

impl Blocked<'_> {
    /// The state before the first key.
    fn start(&self, kb: &mut Kb) -> State {
        let max = kb.k.constant(Const::number(self.acc, f64::NEG_INFINITY));
        State { max, sum: kb.k.constant(Const::number(self.acc, 0.0)) }
    }

    /// What exponents are taken relative to: a maximum of -inf has seen no key, and every exponential is 0.
    fn shift(&self, kb: &mut Kb, max: Val) -> Val {
        let (low, zero) = (Const::number(self.acc, f64::NEG_INFINITY), Const::number(self.acc, 0.0));
        let (low, zero) = (kb.k.constant(low), kb.k.constant(zero));
        let none = kb.k.cmp(Pred::Eq, max, low);
        kb.k.select(none, zero, max)
    }

    /// What the sum of a row's weighted values is multiplied with at the end, and whether the row is zero instead.
    fn finish(&self, kb: &mut Kb, tile: &Tile, row: Val, state: State) -> (Val, Option<Val>) {
        let zero = kb.k.int(0);
        let mut sum = state.sum;
        let n = kb.dim(&self.a.n_keys);
        let some = kb.k.cmp(Pred::Gt, n, zero);
        if !self.a.guarded {
            // Minus infinity less itself.
            let (low, nan) = (Const::number(self.acc, f64::NEG_INFINITY), Const::number(self.acc, f64::NAN));
            let (low, nan) = (kb.k.constant(low), kb.k.constant(nan));
            let none = kb.k.cmp(Pred::Eq, state.max, low);
            sum = kb.k.select(none, nan, sum);
        }
        let index = [&tile.batch[..], &[row, zero]].concat();
        let mut spot = logits::Spot::new(index, 1, None, &[(self.a.sum, sum)]);
        let divisor = self.value(kb, &mut spot, self.a.divisor);
        let one = kb.k.constant(Const::number(self.acc, 1.0));
        let scale = kb.k.bin(BinOp::Div, one, divisor);
        // Without keys the product with the values is an empty sum.
        let scale = kb.k.select(some, scale, one);
        let mut hidden = None;
        for h in &self.a.hidden {
            let here = match h {
                Hidden::If(v, _) => self.value(kb, &mut spot, *v),
                Hidden::Unless(v, _) => {
                    let seen = self.value(kb, &mut spot, *v);
                    kb.k.un(UnOp::Not, seen)
                }
                Hidden::Nan => kb.k.cmp(Pred::Ne, scale, scale),
            };
            hidden = Some(hidden.map_or(here, |h| kb.k.bin(BinOp::Or, h, here)));
        }
        (scale, hidden)
    }

    /// Puts some elements of a row of the result through the epilogue and stores them.
    /// Elements are dealt out `span` at a time.
    fn store(&self, kb: &mut Kb, tile: &Tile, (row, col, span): (Val, Val, i64), x: Val, end: (Val, Option<Val>)) {
        let lanes = kb.k.ty(x).lanes;
        let mut x = kb.k.bin(BinOp::Mul, x, end.0);
        if let Some(hidden) = end.1 {
            let zero = kb.k.constant(Const::number(self.acc, 0.0));
            x = kb.k.select(hidden, zero, x);
        }
        let x = kb.k.convert(x, self.g.ty(self.a.result).dtype);
        let index = [&tile.batch[..], &[row, col]].concat();
        let count = (self.a.width % span != 0).then(|| {
            let width = kb.k.int(self.a.width);
            kb.k.sub(width, col)
        });
        let known = HashMap::from([(self.a.result, x)]);
        let mut point = Point { g: self.g, leaves: &self.epilogue, index, lanes, count, known };
        point.store(kb, &self.outs);
    }
}
