//! Elementwise kernels: every operand is read through an affine view, neighbouring axes that all accesses walk alike are
//! merged, and the fastest axis of the result becomes vector lanes.

mod blocks;
mod border;
mod transposed;

pub use border::border;

use std::collections::{HashMap, HashSet};

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Def, Graph, Loc, NodeId, ValueId};
use xlac_ir::DType;
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};

use crate::CompileError;
use crate::eval::{Leaf, Point};
use crate::group::{self, Group};
use crate::kb::{Kb, Place};
use crate::lower::{Cost, Lowering};
use crate::memory::hint;
use crate::view::coalesce;

/// Elements a tile should have, so that the pool's bookkeeping does not matter.
const TILE_ELEMENTS: i64 = 8192;

/// Lowers an elementwise group.
pub fn lower(l: &mut Lowering, group: &Group) -> Result<(), CompileError> {
    let outputs: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    let (name, members, loc) = (l.name(group), l.members(group), l.loc(group));
    emit(l, &name, &group.space, &outputs, &members, &loc);
    Ok(())
}

/// Values from outside that computing `outputs` from `members` reads.
pub fn operands(g: &Graph, outputs: impl IntoIterator<Item = ValueId>, members: &HashSet<NodeId>) -> Vec<ValueId> {
    let mut stack: Vec<ValueId> = outputs.into_iter().collect();
    let mut seen: HashSet<ValueId> = stack.iter().copied().collect();
    let mut out = Vec::new();
    while let Some(v) = stack.pop() {
        match g.value(v).def {
            Def::Node(n, _) if members.contains(&n) => {
                for &i in &g.node(n).inputs {
                    if seen.insert(i) {
                        stack.push(i);
                    }
                }
            }
            _ => out.push(v),
        }
    }
    out.sort();
    out
}

/// Axes from the slowest to the fastest of a stored value.
pub fn physical_order(place: &Place, shape: &[Dim]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&a| if shape[a].is(1) { i64::MIN } else { -hint(&place.view.strides[a]) });
    order
}

/// A result of a kernel: where it goes, with one stride per loop.
struct Out {
    value: ValueId,
    buf: Buf,
    dtype: DType,
    strides: Vec<Dim>,
}

/// Emits a kernel that computes `outputs`, each of shape `space`, from `members`.
pub fn emit(
    l: &mut Lowering,
    name: &str,
    space: &[Dim],
    outputs: &[(ValueId, Place)],
    members: &HashSet<NodeId>,
    loc: &Loc,
) {
    if space.iter().any(|d| d.is(0)) || outputs.is_empty() {
        return;
    }
    let mut kb = Kb::new(name);
    let order = physical_order(&outputs[0].1, space);
    let shape: Vec<Dim> = order.iter().map(|&a| space[a].clone()).collect();
    let permute = |place: &Place| order.iter().map(|&a| place.view.strides[a].clone()).collect::<Vec<_>>();

    let mut leaves: HashMap<ValueId, Leaf> = HashMap::new();
    let mut accesses: Vec<Vec<Dim>> = outputs.iter().map(|(_, p)| permute(p)).collect();
    let mut read: Vec<(ValueId, Place)> = Vec::new();
    for v in operands(l.g, outputs.iter().map(|o| o.0), members) {
        match l.const_leaf(v) {
            Some(leaf) => _ = leaves.insert(v, leaf),
            None => {
                let place = l.leaf_view(v, space);
                accesses.push(permute(&place));
                read.push((v, place));
            }
        }
    }
    let dims = coalesce(&shape, &mut accesses);
    let mut accesses = accesses.into_iter();
    let outs: Vec<Out> = outputs
        .iter()
        .map(|(value, place)| Out {
            value: *value,
            buf: kb.write(place),
            dtype: place.dtype,
            strides: accesses.next().expect("one access each"),
        })
        .collect();
    for (v, place) in &read {
        let buf = kb.read(place);
        let strides = accesses.next().expect("one access each");
        leaves.insert(*v, Leaf::Buffer { buf, strides, dtype: l.g.ty(*v).dtype });
    }

    let ops: u32 = members.iter().map(|&n| group::cost(&l.g.node(n).op)).sum();
    let cost = |elements: &Dim| elements * &Dim::from(i64::from(ops.max(1)));
    let touched: usize = outs.iter().map(|o| o.dtype.size()).sum::<usize>() + read.iter().map(|r| r.1.dtype.size()).sum::<usize>();
    let elements = Dim::product(&dims);
    let traffic = &elements * &Dim::from(touched);
    let flops = cost(&elements);
    let g = l.g;
    let body = |kb: &mut Kb, index: Vec<Val>, lanes: u32, count: Option<Val>| {
        let mut point = Point { g, leaves: &leaves, index, lanes, count, known: HashMap::new() };
        for out in &outs {
            let x = point.value(kb, out.value);
            let x = kb.k.convert(x, out.dtype);
            let at = kb.address(&point.index, &out.strides);
            let inner = out.strides.last().cloned().unwrap_or(Dim::ONE);
            let x = kb.k.widen(x, lanes);
            kb.store(out.buf, at, &inner, x, count);
        }
    };
    let unit = outs.iter().all(|o| o.strides.last().is_none_or(|s| s.is(1)));
    let lanes = if unit { lanes_for(l, dims.last(), &outs) } else { 1 };
    let squares = if l.target.is_gpu() { transposed::operand_axis(&dims, &leaves, &outs) } else { None };
    let blocks = if l.target.is_gpu() { None } else { blocks::plan(l, &dims, &leaves, &outs, ops) };
    let tiles = match (squares, blocks) {
        (Some(axis), _) => transposed::Squares { g, dims: &dims, leaves: &leaves, outs: &outs, axis }.emit(&mut kb),
        (_, Some(blocks)) => blocks.emit(&mut kb, l.walk()),
        _ => nest(&mut kb, &dims, lanes, l.walk(), body),
    };
    let tile_ns = l.nanoseconds(lanes, &flops, &traffic);
    let tile_ns = if tiles.is(0) { tile_ns } else { tile_ns.floor_div(&tiles.at_least(&Dim::ONE)) };
    l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, loc);
}

/// Lanes for the innermost loop.
fn lanes_for(l: &Lowering, inner: Option<&Dim>, outs: &[Out]) -> u32 {
    let widest = outs.iter().map(|o| o.dtype.compute().size() as u32).max().unwrap_or(4).max(4);
    let full = (l.target.vector_bytes / widest).max(1);
    fit_lanes(full, inner, l.target.masked_memory)
}

/// At most `full` lanes, and not more than a short axis can use.
pub fn fit_lanes(full: u32, inner: Option<&Dim>, masked: bool) -> u32 {
    match inner.and_then(Dim::as_const) {
        None => if inner.is_some() { full } else { 1 },
        Some(n) if n >= i64::from(full) => full,
        Some(n) if masked => (n.max(1) as u32).next_power_of_two(),
        Some(n) => 1 << (n.max(1) as u32).ilog2(),
    }
}

/// How a target walks an iteration space.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// A vector of which only some lanes are valid costs about as much as a whole one.
    pub masked: bool,
    /// A tile is one vector, which a thread of a GPU computes; else it is large enough to hide the pool's bookkeeping.
    pub fine: bool,
}

/// Emits the loops of a kernel over `dims` around `body`, which gets the index (that of lane 0 last), the number of lanes
/// and the number of valid ones. Returns the number of tiles.
pub fn nest(
    kb: &mut Kb,
    dims: &[Dim],
    lanes: u32,
    walk: Walk,
    body: impl FnMut(&mut Kb, Vec<Val>, u32, Option<Val>),
) -> Dim {
    nest_sized(kb, dims, lanes, walk, 1, body)
}

/// [`nest`] for bodies that do the work of `weight` elements.
pub fn nest_sized(
    kb: &mut Kb,
    dims: &[Dim],
    lanes: u32,
    walk: Walk,
    weight: i64,
    mut body: impl FnMut(&mut Kb, Vec<Val>, u32, Option<Val>),
) -> Dim {
    let target = (TILE_ELEMENTS / weight).max(1);
    let Some((inner, outer)) = dims.split_last() else {
        body(kb, Vec::new(), 1, None);
        return Dim::ONE;
    };
    if walk.fine {
        let (tiles, index, count) = vector_of_tile(kb, dims, lanes);
        body(kb, index, lanes, count);
        return tiles;
    }
    let masked = walk.masked;
    let tile = kb.k.tile();
    if outer.is_empty() {
        // A multiple of every number of lanes.
        let chunk = (target + 63) / 64 * 64;
        let tiles = inner.ceil_div(&Dim::from(chunk));
        let n = kb.dim(inner);
        let lo = kb.k.mul_int(tile, chunk);
        let end = kb.k.add_int(lo, chunk);
        let hi = kb.min(end, n);
        let exact = inner.as_const().is_some_and(|n| n % i64::from(lanes) == 0);
        vector_loop(kb, (lo, hi, exact), lanes, masked, |kb, j, lanes, count| body(kb, vec![j], lanes, count));
        return tiles;
    }
    // Outer axes become tiles as long as what is left inside is large enough.
    let mut inside = hint(inner);
    let mut split = outer.len();
    while split > 0 && inside.saturating_mul(hint(&outer[split - 1]).max(1)) <= target {
        split -= 1;
        inside = inside.saturating_mul(hint(&outer[split]).max(1));
    }
    let tiles = Dim::product(&outer[..split]);
    let mut index = if split == 0 { Vec::new() } else { kb.unflatten(tile, &outer[..split]) };
    let loops = kb.begin_loops(&outer[split..]);
    index.extend(loops.iter().map(|o| o.var));
    let zero = kb.k.int(0);
    let n = kb.dim(inner);
    let exact = inner.as_const().is_some_and(|n| n % i64::from(lanes) == 0);
    vector_loop(kb, (zero, n, exact), lanes, masked, |kb, j, lanes, count| {
        let mut index = index.clone();
        index.push(j);
        body(kb, index, lanes, count);
    });
    kb.end_loops(loops);
    tiles
}

/// One tile for each vector of `lanes` along the last of `dims`: the number of tiles, the index of lane 0 and the number of
/// valid lanes.
pub fn vector_of_tile(kb: &mut Kb, dims: &[Dim], lanes: u32) -> (Dim, Vec<Val>, Option<Val>) {
    let width = i64::from(lanes);
    let (inner, outer) = dims.split_last().expect("an axis");
    let grid = [outer, &[inner.ceil_div(&Dim::from(width))]].concat();
    let tile = kb.k.tile();
    let mut index = kb.unflatten(tile, &grid);
    let at = index.pop().expect("a vector");
    let first = kb.k.mul_int(at, width);
    index.push(first);
    let whole = lanes == 1 || inner.as_const().is_some_and(|n| n % width == 0);
    let count = (!whole).then(|| {
        let n = kb.dim(inner);
        kb.k.sub(n, first)
    });
    (Dim::product(&grid), index, count)
}

/// A loop over `lo..hi` in steps of `lanes` with its tail; `exact` says that the length is a multiple of the lanes.
pub fn vector_loop(
    kb: &mut Kb,
    (lo, hi, exact): (Val, Val, bool),
    lanes: u32,
    masked: bool,
    mut body: impl FnMut(&mut Kb, Val, u32, Option<Val>),
) {
    if lanes == 1 || exact {
        let open = kb.k.begin_for((lo, hi, i64::from(lanes)), &[], LoopHint::Plain);
        body(kb, open.var, lanes, None);
        kb.k.end_for(open, &[]);
        return;
    }
    let n = kb.k.sub(hi, lo);
    let step = kb.k.int(i64::from(lanes));
    let rest = kb.k.bin(BinOp::Rem, n, step);
    let main = kb.k.sub(hi, rest);
    let short = kb.k.known(n).is_some_and(|n| n.as_i64() < i64::from(lanes));
    if !short {
        let open = kb.k.begin_for((lo, main, i64::from(lanes)), &[], LoopHint::Plain);
        body(kb, open.var, lanes, None);
        kb.k.end_for(open, &[]);
    }
    if kb.k.known(rest) == Some(Const::i64(0)) {
        return;
    }
    if masked {
        let zero = kb.k.int(0);
        let some = kb.k.cmp(Pred::Gt, rest, zero);
        let known = kb.k.known(some).is_some();
        if known {
            body(kb, main, lanes, Some(rest));
        } else {
            let mut open = kb.k.begin_if(some);
            body(kb, main, lanes, Some(rest));
            kb.k.begin_else(&mut open, &[]);
            kb.k.end_if(open, &[]);
        }
    } else {
        let open = kb.k.begin_for((main, hi, 1), &[], LoopHint::Plain);
        body(kb, open.var, 1, None);
        kb.k.end_for(open, &[]);
    }
}
