//! Kernels with reductions: softmax, normalizations, sums, pooling over whole axes.
//!
//! A kernel walks the kept axes and, for each point of them, makes one or more passes over the reduced axes. A value
//! belongs to the pass that has all reductions it depends on; what is expensive and needed again in a later pass is kept in
//! scratch memory, on a GPU in registers. Schedules: lanes, or the threads of a GPU's warps, along the reduced axis, if
//! that is the contiguous one (`along`, `team`), and lanes or threads along a kept axis (`across`, `columns`). All follow the order of `reduce`:
//! 32 strided partial results and a tree; `across` takes four running results instead if numerics are `fast`, and a block
//! of warps as many as it has threads.

mod across;
mod along;
mod columns;
mod team;

use std::collections::{HashMap, HashSet};

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Def, Graph, NodeId, ValueId};
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};
use xlac_ir::ops::reduce::ReduceFn;
use xlac_ir::ops::{Op, Reduce};
use xlac_ir::DType;

use crate::CompileError;
use crate::eval::{Leaf, Point};
use crate::group::{self, Group, reduced};
use crate::kb::{Kb, Place};
use crate::kernels::map;
use crate::lower::{Cost, Lowering};
use crate::memory::hint;
use crate::view::coalesce;

/// Partial results of a reduction.
const PARTIALS: u32 = 32;
/// Cost from which a value is stored rather than computed again in a later pass.
const KEEP_COST: u32 = 15;

/// A reduction of the group.
struct Reduction {
    f: ReduceFn,
    input: ValueId,
    output: ValueId,
    dtype: DType,
}

/// A result of the kernel.
struct Exit {
    value: ValueId,
    buf: Buf,
    dtype: DType,
    /// Strides along kept axes, then reduced axes (zero for reduced results).
    kept: Vec<Dim>,
    red: Vec<Dim>,
    full: bool,
}

/// Everything the passes need.
struct Rows<'a> {
    g: &'a Graph,
    space: Vec<Dim>,
    kept: Vec<Dim>,
    red: Vec<Dim>,
    along: bool,
    exact: bool,
    walk: map::Walk,
    /// Lanes along a kept axis, or of a pass without reductions.
    lanes: u32,
    leaves: HashMap<ValueId, Leaf>,
    exits: Vec<Exit>,
    reductions: Vec<Reduction>,
    members: HashSet<NodeId>,
    stage: HashMap<ValueId, usize>,
    passes: usize,
    /// Values kept in scratch memory between passes.
    cached: Vec<(ValueId, Buf)>,
}

/// Lowers a group with reductions.
pub fn lower(l: &mut Lowering, group: &Group, axes: &[usize]) -> Result<(), CompileError> {
    let places: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    if reduced(&group.space, axes).iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let mut kb = Kb::new(&l.name(group));
    let mut rows = plan(l, &mut kb, group, axes, &places);
    if !l.target.is_gpu() {
        rows.choose_cached(&mut kb);
    }
    let elements = Dim::product(&group.space);
    let ops: u32 = group.members.iter().map(|&n| group::cost(&l.g.node(n).op)).sum();
    let flops = &elements * &Dim::from(i64::from(ops.max(1)));
    let traffic = &elements * &Dim::from(4 * (1 + rows.exits.iter().filter(|e| e.full).count()));
    let tiles = match (rows.along, l.target.is_gpu()) {
        (true, true) => rows.emit_team(&mut kb),
        (true, false) => rows.emit_along(&mut kb),
        (false, true) if rows.has_tall_columns() => rows.emit_columns(&mut kb),
        (false, _) => rows.emit_across(&mut kb),
    };
    let tile_ns = l.nanoseconds(l.target.lanes(DType::F32), &flops, &traffic).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &loc);
    Ok(())
}

/// Chooses the schedule and gathers all accesses.
fn plan<'a>(l: &mut Lowering<'a>, kb: &mut Kb, group: &Group, axes: &[usize], places: &[(ValueId, Place)]) -> Rows<'a> {
    let space = group.space.clone();
    let members = l.members(group);
    let mut leaves = HashMap::new();
    let mut read: Vec<(ValueId, Place)> = Vec::new();
    for v in map::operands(l.g, group.exits.iter().copied(), &members) {
        match l.const_leaf(v) {
            Some(leaf) => _ = leaves.insert(v, leaf),
            None => read.push((v, l.leaf_view(v, &space))),
        }
    }
    // The walk follows the first operand that has the whole space.
    let main = read.iter().find(|(v, _)| l.g.ty(*v).shape == space).or(read.first()).map(|r| r.1.clone());
    let strides: Vec<Dim> = main.map(|p| p.view.strides).unwrap_or_else(|| vec![Dim::ONE; space.len()]);
    let mut kept_axes: Vec<usize> = (0..space.len()).filter(|a| !axes.contains(a)).collect();
    kept_axes.sort_by_key(|&a| if space[a].is(1) { i64::MIN } else { -hint(&strides[a]) });

    let full = |v: ValueId| l.g.ty(v).shape == space;
    let exit_strides = |v: ValueId, p: &Place, a: usize| {
        if axes.contains(&a) && !full(v) { Dim::ZERO } else { p.view.strides[a].clone() }
    };
    let pick = |list: &[usize]| -> Vec<Vec<Dim>> {
        let reads = read.iter().map(|(_, p)| list.iter().map(|&a| p.view.strides[a].clone()).collect());
        let writes = places.iter().map(|(v, p)| list.iter().map(|&a| exit_strides(*v, p, a)).collect());
        reads.chain(writes).collect()
    };
    let sizes = |list: &[usize]| list.iter().map(|&a| space[a].clone()).collect::<Vec<_>>();
    let (mut kept_access, mut red_access) = (pick(&kept_axes), pick(axes));
    let kept = coalesce(&sizes(&kept_axes), &mut kept_access);
    let red = coalesce(&sizes(axes), &mut red_access);
    let fastest = (0..space.len()).filter(|&a| !space[a].is(1)).min_by_key(|&a| match hint(&strides[a]) {
        0 => i64::MAX,
        s => s.abs(),
    });
    let base = l.target.lanes(DType::F32);
    let short = !l.target.is_gpu() && are_short(&red, &kept, base);
    let along = red.len() == 1 && fastest.is_none_or(|a| axes.contains(&a)) && !short;

    for ((v, place), i) in read.iter().zip(0..) {
        let buf = kb.read(place);
        let strides = loop_strides(along, &kept_access[i], &red_access[i]);
        leaves.insert(*v, Leaf::Buffer { buf, strides, dtype: l.g.ty(*v).dtype });
    }
    let exits: Vec<Exit> = places
        .iter()
        .zip(read.len()..)
        .map(|((v, place), i)| Exit {
            value: *v,
            buf: kb.write(place),
            dtype: place.dtype,
            kept: kept_access[i].clone(),
            red: red_access[i].clone(),
            full: full(*v),
        })
        .collect();
    let reductions: Vec<Reduction> = group.members.iter().filter_map(|&m| reduction(l.g, m)).collect();
    let stage = stages(l.g, group);
    let passes = stage.values().max().copied().unwrap_or(0) + 1;
    let unit = exits.iter().all(|e| e.kept.last().is_none_or(|s| s.is(1)));
    let lanes = match along {
        true => base,
        false if unit || short => map::fit_lanes(base, kept.last(), l.target.masked_memory),
        false => 1,
    };
    Rows {
        g: l.g,
        space,
        kept,
        red,
        along,
        exact: l.exact(),
        walk: l.walk(),
        lanes,
        leaves,
        exits,
        reductions,
        members,
        stage,
        passes,
        cached: Vec::new(),
    }
}

/// True if the reduced elements fill less than half of a vector and there are many rows: then each lane has a row of its own,
/// although its elements are neighbours.
fn are_short(red: &[Dim], kept: &[Dim], lanes: u32) -> bool {
    let few = matches!(red, [n] if n.as_const().is_some_and(|n| 2 * n <= i64::from(lanes)));
    few && kept.last().is_some_and(|rows| hint(rows) >= i64::from(lanes))
}

/// Strides in the order of the kernel's loops: the lanes' loop is the last.
fn loop_strides(along: bool, kept: &[Dim], red: &[Dim]) -> Vec<Dim> {
    if along {
        return [kept, red].concat();
    }
    match kept.split_last() {
        Some((inner, outer)) => [outer, red, std::slice::from_ref(inner)].concat(),
        None => [red, &[Dim::ZERO]].concat(),
    }
}

fn reduction(g: &Graph, n: NodeId) -> Option<Reduction> {
    let node = g.node(n);
    let Op::Reduce(Reduce { f, .. }) = &node.op else { return None };
    let (input, output) = (node.inputs[0], node.outputs[0]);
    Some(Reduction { f: *f, input, output, dtype: accumulator(g.ty(input).dtype) })
}

/// The pass in which each member's value is available.
fn stages(g: &Graph, group: &Group) -> HashMap<ValueId, usize> {
    let mut stage: HashMap<ValueId, usize> = HashMap::new();
    for &m in &group.members {
        let node = g.node(m);
        let base = node.inputs.iter().map(|v| stage.get(v).copied().unwrap_or(0)).max().unwrap_or(0);
        let own = base + usize::from(matches!(node.op, Op::Reduce(_)));
        node.outputs.iter().for_each(|&v| _ = stage.insert(v, own));
    }
    stage
}

/// Type a reduction accumulates in.
fn accumulator(dtype: DType) -> DType { if dtype == DType::Bool { DType::U8 } else { dtype.compute() } }

/// The instruction that combines two partial results.
pub fn combine(f: ReduceFn) -> BinOp {
    match f {
        ReduceFn::Sum => BinOp::Add,
        ReduceFn::Prod => BinOp::Mul,
        ReduceFn::Max => BinOp::Max,
        ReduceFn::Min => BinOp::Min,
    }
}

/// The value a reduction starts from.
pub fn neutral(f: ReduceFn, dtype: DType) -> Const {
    let bits = dtype.bits();
    let (low, high) = match dtype {
        t if t.is_float() => return Const::number(t, match f {
            ReduceFn::Sum => 0.0,
            ReduceFn::Prod => 1.0,
            ReduceFn::Max => f64::NEG_INFINITY,
            ReduceFn::Min => f64::INFINITY,
        }),
        t if t.is_signed() => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
        _ => (0, -1),
    };
    Const::int(dtype, match f {
        ReduceFn::Sum => 0,
        ReduceFn::Prod => 1,
        ReduceFn::Max => low,
        ReduceFn::Min => high,
    })
}

impl Rows<'_> {
    fn is_full(&self, v: ValueId) -> bool { self.g.ty(v).shape == self.space }

    /// Decides which values are kept in scratch memory between passes.
    fn choose_cached(&mut self, kb: &mut Kb) {
        if self.passes < 2 {
            return;
        }
        let length = &Dim::product(&self.red) * &Dim::from(i64::from(if self.along { 1 } else { self.lanes }));
        for &m in &self.members {
            let node = self.g.node(m);
            let v = node.outputs[0];
            let here = self.stage[&v];
            let again = self.members.iter().any(|&u| {
                let user = self.g.node(u);
                user.inputs.contains(&v) && self.needed_in(user.outputs[0]) > here && !matches!(user.op, Op::Reduce(_))
            });
            let costly = group::cost(&node.op) >= KEEP_COST;
            if self.is_full(v) && again && costly && !matches!(node.op, Op::Reduce(_)) {
                let dtype = self.g.ty(v).dtype;
                let buf = kb.scratch(&format!("row{}", self.cached.len()), dtype, &length);
                self.cached.push((v, buf));
            }
        }
        self.cached.sort_by_key(|c| c.0);
    }

    /// The last pass a value is computed in.
    fn needed_in(&self, v: ValueId) -> usize {
        let users = self.members.iter().filter(|&&u| self.g.node(u).inputs.contains(&v));
        let later = users.map(|&u| {
            let node = self.g.node(u);
            match &node.op {
                Op::Reduce(_) => self.stage[&node.outputs[0]] - 1,
                _ => self.needed_in(node.outputs[0]),
            }
        });
        later.max().unwrap_or(0).max(self.stage.get(&v).copied().unwrap_or(0))
    }

    fn point<'p>(&'p self, index: Vec<Val>, lanes: u32, count: Option<Val>, known: &HashMap<ValueId, Val>) -> Point<'p> {
        Point { g: self.g, leaves: &self.leaves, index, lanes, count, known: known.clone() }
    }

    /// Computes the per-row values that are available in pass `s`.
    fn row_values(&self, kb: &mut Kb, s: usize, index: Vec<Val>, lanes: u32, count: Option<Val>, known: &mut HashMap<ValueId, Val>) {
        let mut point = self.point(index, lanes, count, known);
        let mut values: Vec<ValueId> = self.members.iter().flat_map(|&m| self.g.node(m).outputs.clone()).collect();
        values.sort();
        for v in values {
            let reduction = matches!(self.g.value(v).def, Def::Node(n, _) if matches!(self.g.node(n).op, Op::Reduce(_)));
            if !self.is_full(v) && self.stage[&v] <= s && !reduction {
                let x = point.value(kb, v);
                known.insert(v, x);
            }
        }
    }

    /// Everything a pass does at one point; returns the next partial results.
    fn pass_body(&self, kb: &mut Kb, s: usize, point: &mut Point, slot: Val, accs: &[Val], kept: &[Val], red: &[Val]) -> Vec<Val> {
        let (lanes, count) = (point.lanes, point.count);
        for (v, buf) in &self.cached {
            if self.stage[v] < s {
                let x = kb.k.load(*buf, slot, 0, lanes, if self.along { count } else { None });
                point.known.insert(*v, x);
            }
        }
        for (v, buf) in self.cached.iter().filter(|(v, _)| self.stage[v] == s) {
            let x = point.value(kb, *v);
            let x = kb.k.widen(x, lanes);
            kb.k.store(*buf, slot, 0, x, if self.along { count } else { None });
        }
        for e in self.exits.iter().filter(|e| e.full && self.stage[&e.value] == s) {
            let x = point.value(kb, e.value);
            let x = kb.k.convert(x, e.dtype);
            let x = kb.k.widen(x, lanes);
            let a = kb.address(kept, &e.kept);
            let b = kb.address(red, &e.red);
            let at = kb.k.add(a, b);
            let stride = if self.along { e.red.last() } else { e.kept.last() }.cloned().unwrap_or(Dim::ONE);
            kb.store(e.buf, at, &stride, x, count);
        }
        let mut next = Vec::with_capacity(accs.len());
        for (r, &acc) in self.in_pass(s).zip(accs) {
            let x = point.value(kb, r.input);
            let x = kb.k.convert(x, r.dtype);
            let mut x = kb.k.widen(x, lanes);
            if let (true, Some(count)) = (self.along, count) {
                // Lanes past the end must not count.
                let zero = kb.k.constant(Const::int(DType::I32, 0));
                let number = kb.k.iota(zero, lanes);
                let limit = kb.k.convert(count, DType::I32);
                let valid = kb.k.cmp(Pred::Lt, number, limit);
                let none = kb.k.splat_const(neutral(r.f, r.dtype), lanes);
                x = kb.k.select(valid, x, none);
            }
            next.push(kb.k.bin(combine(r.f), acc, x));
        }
        next
    }

    fn in_pass(&self, s: usize) -> impl Iterator<Item = &Reduction> {
        self.reductions.iter().filter(move |r| self.stage[&r.output] == s + 1)
    }

    fn busy(&self, s: usize) -> bool {
        self.in_pass(s).next().is_some()
            || self.exits.iter().any(|e| e.full && self.stage[&e.value] == s)
            || self.cached.iter().any(|(v, _)| self.stage[v] == s)
    }

    fn store_reduced(&self, kb: &mut Kb, kept: &[Val], lanes: u32, count: Option<Val>, known: &HashMap<ValueId, Val>) {
        for e in self.exits.iter().filter(|e| !e.full) {
            let x = kb.k.convert(known[&e.value], e.dtype);
            let x = kb.k.widen(x, lanes);
            let at = kb.address(kept, &e.kept);
            let stride = e.kept.last().cloned().unwrap_or(Dim::ONE);
            kb.store(e.buf, at, if lanes == 1 { &Dim::ONE } else { &stride }, x, count);
        }
    }
}

/// Combines the lanes of a value: the upper half onto the lower half until one is left.
pub fn tree(kb: &mut Kb, f: ReduceFn, mut x: Val) -> Val {
    let mut lanes = kb.k.ty(x).lanes;
    while lanes > 1 {
        lanes /= 2;
        let a = kb.k.slice(x, 0, lanes);
        let b = kb.k.slice(x, lanes, lanes);
        x = kb.k.bin(combine(f), a, b);
    }
    x
}
