//! Windows over spatial axes, channels in the lanes: pooling, and depthwise convolution on GPUs or with large windows; others
//! are computed in blocks ([`depthwise`]).
//!
//! A tile task computes rows of output pixels. For a block of channels, a few neighbouring pixels are kept in registers at
//! once, so that a weight vector is loaded once for all of them and an input vector that several windows share only once.
//! Padding is stored around the input beforehand, so the windows have no bounds to check; on a CPU pooling reads its input
//! in place instead, and the few windows that reach beyond it go over the part of theirs that is inside.
//! Pooling has no weights to keep in registers: it goes over the channels of a few pixels before the next ones, so that
//! memory is read in order.

pub mod across;
mod depthwise;

pub use depthwise::{axis_left_out, depthwise, is_depthwise};

use std::collections::{HashMap, HashSet};

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Graph, NodeId, ValueId};
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};
use xlac_ir::ops::pool::PoolFn;
use xlac_ir::ops::Pool;
use xlac_ir::DType;

use crate::CompileError;
use crate::eval::{Leaf, Out, Point};
use crate::group::{self, Group};
use crate::kb::{Kb, Place};
use crate::kernels::{contract, map};
use crate::lower::{Cost, Lowering};
use crate::memory::{hint, hint_of_one};

/// Window positions up to which a window is unrolled.
const UNROLL: usize = 64;
/// The same for threads of a GPU, whose registers hold little more than a row of what a window reads.
const FEW: usize = 9;
/// Positions of a window's row up to which it is unrolled there.
const LONGEST_ROW: usize = 16;

/// Elements of neighbouring pixels that pooling takes at once: few enough that memory is still read in order.
const NEAR: i64 = 32;

/// How a window's elements combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combine {
    Max,
    Sum,
    /// Sum, then division by the number of elements within the bounds.
    Mean,
    /// Multiply-add with a weight per position and channel.
    Weighted,
}

/// A window op in the common form.
struct Spec {
    combine: Combine,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// The input with its padding stored.
    x: Place,
    weights: Option<Place>,
    /// For means: per spatial axis, the range of padded coordinates that count.
    bounds: Vec<(Dim, Dim)>,
    /// Outputs per input channel.
    multiple: i64,
    /// If `x` has no padding stored and windows reach beyond it: per spatial axis, the range of padded coordinates that
    /// exist.
    inside: Vec<(Dim, Dim)>,
}

impl Spec {
    /// True if there is one channel and the windows have one column: the last spatial axis can be the channels.
    fn is_flat(&self, space: &[Dim]) -> bool {
        let last = self.kernel.len() - 1;
        let n = &space[2 + last];
        let plain = [&self.bounds, &self.inside].iter().filter_map(|r| r.get(last)).all(|(lo, hi)| lo.is(0) && hi == n);
        last > 0 && space[1].is(1) && self.weights.is_none() && self.kernel[last] == 1 && self.strides[last] == 1 && plain
    }

    /// Takes the last spatial axis for the channels, and the one channel for that axis.
    fn exchange_channels(&mut self) {
        let last = self.kernel.len() - 1;
        self.x.view.strides.swap(1, 2 + last);
        for ranges in [&mut self.bounds, &mut self.inside] {
            ranges.iter_mut().skip(last).for_each(|r| *r = (Dim::ZERO, Dim::ONE));
        }
    }
}

/// Lowers a pooling window with its epilogue.
pub fn pool(l: &mut Lowering, group: &Group, op: &Pool) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let x = node.inputs[0];
    if across::applies(l, node, op) && l.access(x).view.strides[2].is(1) {
        return across::lower(l, group, op);
    }
    let ty = l.g.ty(x).clone();
    let mut after = op.after.clone();
    let mut bounds = Vec::new();
    for s in 0..op.kernel.len() {
        // Windows may reach beyond the padding when sizes are rounded up.
        let extent = Dim::from((op.kernel[s] - 1) * op.dilations[s] + 1);
        let reach = &(&(&op.sizes[s] - &Dim::ONE) * &Dim::from(op.strides[s])) + &extent;
        let inside = &ty.shape[2 + s] + &op.before[s];
        after[s] = op.after[s].at_least(&(&reach - &inside));
        bounds.push(match op.f {
            PoolFn::MeanPadded => (Dim::ZERO, &inside + &op.after[s]),
            _ => (op.before[s].clone(), inside),
        });
    }
    let plain = op.before.iter().chain(&after).all(|p| p.is(0));
    let combine = match op.f {
        PoolFn::Max => Combine::Max,
        PoolFn::Sum => Combine::Sum,
        PoolFn::Mean | PoolFn::MeanPadded => Combine::Mean,
    };
    let dtype = ty.dtype.compute();
    let fill = if combine == Combine::Max { lowest(dtype) } else { Const::number(dtype, 0.0) };
    let in_place = !plain && !l.target.is_gpu();
    let inside = op.before.iter().zip(&ty.shape[2..]).map(|(before, n)| (before.clone(), before + n));
    let inside = if in_place { inside.collect() } else { Vec::new() };
    let spec = Spec {
        combine,
        kernel: op.kernel.clone(),
        strides: op.strides.clone(),
        dilations: op.dilations.clone(),
        x: if in_place { l.access(x) } else { contract::padded_with(l, x, &op.before, &after, fill) },
        weights: None,
        bounds: if plain { Vec::new() } else { bounds },
        multiple: 1,
        inside,
    };
    emit(l, group, spec)
}

/// What a maximum starts from.
fn lowest(dtype: DType) -> Const { super::rows::neutral(xlac_ir::ops::reduce::ReduceFn::Max, dtype) }

/// Emits the innermost loop's body: from an address and what the loops carry to what they carry on.
type Body<'a> = &'a mut dyn FnMut(&mut Kb, Val, Vec<Val>) -> Vec<Val>;

/// Everything the loops need.
struct Emitter<'a> {
    g: &'a Graph,
    anchor: ValueId,
    spec: Spec,
    acc: DType,
    dtype: DType,
    /// Row axes: batch and spatial axes but the last.
    rows: Vec<Dim>,
    pixels: Dim,
    channels: Dim,
    x: Buf,
    w: Option<Buf>,
    leaves: HashMap<ValueId, Leaf>,
    outs: Vec<Out>,
    lanes: u32,
    walk: map::Walk,
    /// Pixels in registers at once.
    width: i64,
}

fn emit(l: &mut Lowering, group: &Group, mut spec: Spec) -> Result<(), CompileError> {
    let exits: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    if group.space.iter().any(|d| d.is(0)) || exits.is_empty() {
        return Ok(());
    }
    // Loop order: batch, spatial axes, channels.
    let rank = group.space.len();
    let mut order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    if !l.target.is_gpu() && spec.is_flat(&group.space) {
        spec.exchange_channels();
        order.swap(rank - 2, rank - 1);
    }
    let mut kb = Kb::new(&l.name(group));
    let anchor = l.anchor(group).outputs[0];
    let (leaves, outs) = operands(l, &mut kb, group, &exits, &order);
    let dtype = l.g.ty(anchor).dtype;
    let sizes: Vec<Dim> = order.iter().map(|&a| group.space[a].clone()).collect();
    let positions: usize = spec.kernel.iter().product();
    let full = l.target.lanes(dtype);
    let unit = outs.iter().all(|o| o.3[rank - 1].is(1));
    let lanes = if unit { map::fit_lanes(full, sizes.last(), l.target.masked_memory) } else { 1 };
    let x = kb.read(&spec.x);
    let w = spec.weights.as_ref().map(|w| kb.read(w));
    let (acc, walk) = (dtype.compute(), l.walk());
    if let Some(w) = w.filter(|_| !walk.fine && positions <= UNROLL) {
        let space = sizes[..rank - 1].to_vec();
        let work = work(l, group);
        let size = depthwise::block_size(l, &spec, (space[1..].iter().rev().nth(1), &space[rank - 2]), work);
        let (channels, masked) = (sizes[rank - 1].clone(), walk.masked);
        let full = i64::from(full);
        let b = depthwise::Block { g: l.g, anchor, acc, dtype, space, channels, x, w, leaves, outs, lanes, full, masked, size, spec };
        let tiles = b.emit(&mut kb);
        launch(l, group, kb, tiles, positions);
        return Ok(());
    }
    let mut e = Emitter {
        g: l.g,
        anchor,
        acc,
        dtype,
        rows: sizes[..rank - 2].to_vec(),
        pixels: sizes[rank - 2].clone(),
        channels: sizes[rank - 1].clone(),
        x,
        w,
        leaves,
        outs,
        lanes,
        walk,
        width: 1,
        spec,
    };
    let whole = e.whole().map(|(lo, hi)| &hi - &lo);
    e.width = width(l, whole.as_ref().unwrap_or(&e.pixels), positions);
    if e.w.is_none() && !l.target.is_gpu() {
        e.width = e.width.min(NEAR / hint(&e.channels).max(1)).max(1);
    }
    let tiles = e.emit(&mut kb);
    launch(l, group, kb, tiles, positions);
    Ok(())
}

/// What a group reads besides its window, and its results, with strides for loops over the axes in `order`.
pub fn operands(
    l: &mut Lowering,
    kb: &mut Kb,
    group: &Group,
    exits: &[(ValueId, Place)],
    order: &[usize],
) -> (HashMap<ValueId, Leaf>, Vec<Out>) {
    let anchor = l.anchor(group).outputs[0];
    let members = epilogue(group);
    let strides = |p: &Place| order.iter().map(|&a| p.view.strides[a].clone()).collect::<Vec<_>>();
    let mut leaves: HashMap<ValueId, Leaf> = HashMap::new();
    for v in map::operands(l.g, group.exits.iter().copied(), &members).into_iter().filter(|&v| v != anchor) {
        let leaf = match l.const_leaf(v) {
            Some(leaf) => leaf,
            None => {
                let place = l.leaf_view(v, &group.space);
                Leaf::Buffer { buf: kb.read(&place), strides: strides(&place), dtype: l.g.ty(v).dtype }
            }
        };
        leaves.insert(v, leaf);
    }
    let outs = exits.iter().map(|(v, p)| (*v, kb.write(p), p.dtype, strides(p))).collect();
    (leaves, outs)
}

/// Nodes of a group besides its window.
fn epilogue(group: &Group) -> HashSet<NodeId> { group.members.iter().copied().filter(|&m| m != group.anchor).collect() }

/// Cost of what follows the window, for each element.
fn work(l: &Lowering, group: &Group) -> u32 { epilogue(group).iter().map(|&n| group::cost(&l.g.node(n).op)).sum() }

/// Launches a kernel of windows of so many positions.
fn launch(l: &mut Lowering, group: &Group, kb: Kb, tiles: Dim, positions: usize) {
    let elements = Dim::product(&group.space);
    let (sums, rest) = (&elements * &Dim::from(2 * positions), &elements * &Dim::from(i64::from(work(l, group))));
    let (flops, traffic) = (&sums + &rest, &elements * &Dim::from(12i64));
    // Multiply-adds take a third of the time of other operations, of which they are two.
    let operations = &sums.floor_div(&Dim::from(3i64)) + &rest;
    let tile_ns = l.nanoseconds(l.target.lanes(DType::F32), &operations, &traffic).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &loc);
}

/// Pixels kept in registers: few enough to fit, and dividing the row with little waste.
fn width(l: &Lowering, pixels: &Dim, positions: usize) -> i64 {
    if positions > UNROLL {
        return 1;
    }
    let n = hint(pixels).max(1);
    let most = i64::from(l.target.vector_registers / 4).clamp(2, 8);
    (1..=most)
        .filter(|&w| w <= n)
        .min_by_key(|&w| ((n + w - 1) / w) * (w * 10 + 8))
        .unwrap_or(1)
}

impl Emitter<'_> {
    fn emit(&self, kb: &mut Kb) -> Dim {
        if self.walk.fine {
            return self.emit_fine(kb);
        }
        let number = kb.k.tile();
        let rows = kb.unflatten(number, &self.rows);
        if self.w.is_none() {
            self.row(kb, &rows, |kb, first, width| self.channels(kb, |kb, c, lanes, count| {
                self.pixels(kb, &rows, (first, None), width, c, lanes, count);
            }));
        } else {
            self.channels(kb, |kb, c, lanes, count| self.row(kb, &rows, |kb, first, width| {
                self.pixels(kb, &rows, (first, None), width, c, lanes, count);
            }));
        }
        Dim::product(&self.rows)
    }

    /// `body` for each vector of channels: the first, the lanes, and the number of valid ones.
    fn channels(&self, kb: &mut Kb, body: impl FnMut(&mut Kb, Val, u32, Option<Val>)) {
        let zero = kb.k.int(0);
        let n = kb.dim(&self.channels);
        let exact = self.channels.as_const().is_some_and(|c| c % i64::from(self.lanes) == 0);
        map::vector_loop(kb, (zero, n, exact), self.lanes, self.walk.masked, body);
    }

    /// A tile is a few neighbouring pixels of one vector of channels.
    fn emit_fine(&self, kb: &mut Kb) -> Dim {
        let groups = self.pixels.ceil_div(&Dim::from(self.width));
        let grid = [&self.rows[..], &[groups, self.channels.clone()]].concat();
        let (tiles, mut index, count) = map::vector_of_tile(kb, &grid, self.lanes);
        let c = index.pop().expect("channels");
        let group = index.pop().expect("a group of pixels");
        let first = kb.k.mul_int(group, self.width);
        let n = kb.dim(&self.pixels);
        if self.pixels.as_const().is_some_and(|n| n >= self.width) || self.width == 1 {
            // The last group overlaps the one before it, which stores what both compute.
            let limit = kb.k.add_int(n, -self.width);
            let from = kb.min(first, limit);
            let overlaps = self.pixels.as_const().is_none_or(|n| n % self.width != 0);
            self.pixels(kb, &index, (from, overlaps.then_some(first)), self.width, c, self.lanes, count);
        } else {
            let end = kb.k.add_int(first, self.width);
            let end = kb.min(end, n);
            let each = kb.k.begin_for((first, end, 1), &[], LoopHint::Plain);
            self.pixels(kb, &index, (each.var, None), 1, c, self.lanes, count);
            kb.k.end_for(each, &[]);
        }
        tiles
    }

    /// `body` for each group of pixels of a row: the first, and how many.
    fn row(&self, kb: &mut Kb, rows: &[Val], mut body: impl FnMut(&mut Kb, Val, i64)) {
        let zero = kb.k.int(0);
        let n = kb.dim(&self.pixels);
        let Some((lo, hi)) = self.whole() else {
            self.groups(kb, (zero, n), &self.pixels, body);
            return;
        };
        // Windows that reach beyond the input come one by one.
        let (lo_at, hi_at) = (kb.dim(&lo), kb.dim(&hi));
        self.groups(kb, (lo_at, hi_at), &(&hi - &lo), &mut body);
        for ends in [(zero, lo_at), (hi_at, n)] {
            let each = kb.k.begin_for((ends.0, ends.1, 1), &[], LoopHint::Plain);
            self.border(kb, rows, each.var);
            kb.k.end_for(each, &[]);
        }
    }

    /// The pixels of a row whose windows lie inside the input along the last axis, if not all do.
    fn whole(&self) -> Option<(Dim, Dim)> {
        let last = self.spec.kernel.len() - 1;
        let (before, end) = self.spec.inside.get(last)?;
        let stride = Dim::from(self.spec.strides[last]);
        let reach = Dim::from((self.spec.kernel[last] - 1) * self.spec.dilations[last] + 1);
        let lo = before.ceil_div(&stride).at_most(&self.pixels);
        let hi = (&(end - &reach).floor_div(&stride) + &Dim::ONE).at_most(&self.pixels).at_least(&lo);
        Some((lo, hi))
    }

    /// `body` for each group of the pixels `lo..hi`, of which there are `count`: the first, and how many.
    fn groups(&self, kb: &mut Kb, (lo, hi): (Val, Val), count: &Dim, mut body: impl FnMut(&mut Kb, Val, i64)) {
        let limit = kb.k.add_int(hi, -self.width);
        let mut wide = |kb: &mut Kb| {
            let open = kb.k.begin_for((lo, hi, self.width), &[], LoopHint::Plain);
            // The last step overlaps the one before it.
            let from = kb.min(open.var, limit);
            body(kb, from, self.width);
            kb.k.end_for(open, &[]);
        };
        if self.width == 1 || count.as_const().is_some_and(|n| n >= self.width) {
            wide(kb);
            return;
        }
        let enough = kb.k.cmp(Pred::Ge, limit, lo);
        let mut open = kb.k.begin_if(enough);
        wide(kb);
        kb.k.begin_else(&mut open, &[]);
        let each = kb.k.begin_for((lo, hi, 1), &[], LoopHint::Plain);
        body(kb, each.var, 1);
        kb.k.end_for(each, &[]);
        kb.k.end_if(open, &[]);
    }

    /// A pixel whose window may reach beyond the input.
    fn border(&self, kb: &mut Kb, rows: &[Val], pixel: Val) {
        self.channels(kb, |kb, c, lanes, count| {
            let base = self.base(kb, rows, pixel, c);
            let at = [&rows[1..], &[pixel]].concat();
            let init = vec![kb.k.splat_const(self.start(), lanes)];
            let accs = self.clipped(kb, &at, 0, base, init, &mut |kb, at, accs| {
                let x = self.load(kb, at, lanes, count);
                vec![self.combine(kb, accs[0], x, None)]
            });
            self.finish_and_store(kb, rows, (pixel, None), accs, c, (lanes, count));
        });
    }

    /// Loops over the positions of a window inside of the input along each axis that `pixel` has; `body` gets the address
    /// and what the loops carry.
    fn clipped(
        &self,
        kb: &mut Kb,
        pixel: &[Val],
        axis: usize,
        at: Val,
        accs: Vec<Val>,
        body: Body,
    ) -> Vec<Val> {
        if axis == pixel.len() {
            return body(kb, at, accs);
        }
        let (lo, hi) = &self.spec.inside[axis];
        let (first, end) = self.within(kb, axis, pixel[axis], lo, hi);
        let open = kb.k.begin_for((first, end, 1), &accs, LoopHint::Plain);
        let (i, phis) = (open.var, open.phis.clone());
        let step = kb.dim(&(&self.spec.x.view.strides[2 + axis] * &Dim::from(self.spec.dilations[axis])));
        let shift = kb.k.mul(i, step);
        let at = kb.k.add(at, shift);
        let next = self.clipped(kb, pixel, axis + 1, at, phis, body);
        kb.k.end_for(open, &next)
    }

    /// What a window's elements are combined with first.
    fn start(&self) -> Const {
        match self.spec.combine {
            Combine::Max => lowest(self.acc),
            _ => Const::number(self.acc, 0.0),
        }
    }

    /// Pixels from `first` on; those before `own` are not stored.
    #[allow(clippy::too_many_arguments)]
    fn pixels(&self, kb: &mut Kb, rows: &[Val], (first, own): (Val, Option<Val>), width: i64, c: Val, lanes: u32, count: Option<Val>) {
        let init = vec![kb.k.splat_const(self.start(), lanes); width as usize];
        let base = self.base(kb, rows, first, c);
        let positions: usize = self.spec.kernel.iter().product();
        let accs = if !self.spec.inside.is_empty() {
            let zero = kb.k.int(0);
            self.clipped(kb, &rows[1..], 0, base, init, &mut |kb, at, accs| {
                self.last_axis(kb, at, zero, width, c, (lanes, count), accs)
            })
        } else if self.walk.fine && positions > FEW && self.spec.kernel.last().is_some_and(|&k| k <= LONGEST_ROW) {
            let zero = kb.k.int(0);
            self.by_rows(kb, 0, base, zero, width, c, (lanes, count), init)
        } else if positions <= UNROLL {
            self.unrolled(kb, base, width, c, lanes, count, init)
        } else {
            let zero = kb.k.int(0);
            self.looped(kb, 0, base, zero, c, lanes, count, init)
        };
        self.finish_and_store(kb, rows, (first, own), accs, c, (lanes, count));
    }

    /// The row of a window along the last axis, unrolled if it is short.
    #[allow(clippy::too_many_arguments)]
    fn last_axis(&self, kb: &mut Kb, at: Val, position: Val, width: i64, c: Val, (lanes, count): (u32, Option<Val>), accs: Vec<Val>) -> Vec<Val> {
        let last = self.spec.kernel.len() - 1;
        if width > 1 || self.spec.kernel[last] <= LONGEST_ROW {
            return self.window_row(kb, at, position, width, c, (lanes, count), accs);
        }
        self.looped(kb, last, at, position, c, lanes, count, accs)
    }

    /// Completes and stores pixels from `first` on; those before `own` are not stored.
    fn finish_and_store(&self, kb: &mut Kb, rows: &[Val], (first, own): (Val, Option<Val>), accs: Vec<Val>, c: Val, (lanes, count): (u32, Option<Val>)) {
        for (t, acc) in accs.into_iter().enumerate() {
            let pixel = kb.k.add_int(first, t as i64);
            let x = self.finish(kb, rows, pixel, acc);
            let known = HashMap::from([(self.anchor, kb.k.convert(x, self.dtype))]);
            let index = [rows, &[pixel, c]].concat();
            let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes, count, known };
            let Some(own) = own else {
                point.store(kb, &self.outs);
                continue;
            };
            let owned = kb.k.cmp(Pred::Ge, pixel, own);
            let mut open = kb.k.begin_if(owned);
            point.store(kb, &self.outs);
            kb.k.begin_else(&mut open, &[]);
            kb.k.end_if(open, &[]);
        }
    }

    /// Address of the first element of the first pixel's window.
    fn base(&self, kb: &mut Kb, rows: &[Val], first: Val, c: Val) -> Val {
        let s = &self.spec.x.view.strides;
        let mut strides = vec![s[0].clone()];
        for (i, step) in self.spec.strides.iter().enumerate() {
            strides.push(&s[2 + i] * &Dim::from(*step));
        }
        strides.push(s[1].clone());
        let at = kb.address(&[rows, &[first, c]].concat(), &strides);
        let padding = self.spec.inside.iter().zip(&s[2..]).fold(Dim::ZERO, |sum, ((before, _), s)| &sum + &(before * s));
        let padding = kb.dim(&padding);
        kb.k.sub(at, padding)
    }

    fn load(&self, kb: &mut Kb, at: Val, lanes: u32, count: Option<Val>) -> Val {
        let stride = self.spec.x.view.strides[1].clone();
        let x = if lanes == 1 {
            kb.k.load(self.x, at, 0, 1, None)
        } else {
            let stride = kb.dim(&stride);
            kb.k.load_strided(self.x, at, stride, lanes, count)
        };
        kb.k.convert(x, self.acc)
    }

    fn weight(&self, kb: &mut Kb, position: Val, c: Val, lanes: u32, count: Option<Val>) -> Option<Val> {
        let w = self.w?;
        let n = kb.dim(&self.channels);
        let row = kb.k.mul(position, n);
        let at = kb.k.add(row, c);
        Some(kb.k.load(w, at, 0, lanes, count))
    }

    fn combine(&self, kb: &mut Kb, acc: Val, x: Val, w: Option<Val>) -> Val {
        match (self.spec.combine, w) {
            (Combine::Weighted, Some(w)) => kb.k.fma(x, w, acc),
            (Combine::Max, _) => kb.k.bin(BinOp::Max, acc, x),
            _ => kb.k.add(acc, x),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn unrolled(&self, kb: &mut Kb, base: Val, width: i64, c: Val, lanes: u32, count: Option<Val>, mut accs: Vec<Val>) -> Vec<Val> {
        let s = &self.spec.x.view.strides;
        let spatial = self.spec.kernel.len();
        let mut number = 0;
        let outer: Vec<usize> = self.spec.kernel[..spatial - 1].to_vec();
        xlac_ir::tensor::for_each_index(&outer, |index| {
            let mut row = base;
            for (i, &k) in index.iter().enumerate() {
                let step = kb.dim(&(&s[2 + i] * &Dim::from(k * self.spec.dilations[i])));
                row = kb.k.add(row, step);
            }
            let first = kb.k.int(number);
            number += self.spec.kernel[spatial - 1] as i64;
            let before = std::mem::take(&mut accs);
            accs = self.window_row(kb, row, first, width, c, (lanes, count), before);
        });
        accs
    }

    /// The positions of a window's last axis, the first of which is number `first` and lies at `row` for the first pixel.
    #[allow(clippy::too_many_arguments)]
    fn window_row(&self, kb: &mut Kb, row: Val, first: Val, width: i64, c: Val, (lanes, count): (u32, Option<Val>), mut accs: Vec<Val>) -> Vec<Val> {
        let last = self.spec.kernel.len() - 1;
        let stride = &self.spec.x.view.strides[2 + last];
        // Windows of neighbouring pixels share columns: load each once.
        let mut columns: HashMap<i64, Val> = HashMap::new();
        for k in 0..self.spec.kernel[last] {
            let position = kb.k.add_int(first, k as i64);
            let w = self.weight(kb, position, c, lanes, count);
            for t in 0..width {
                let column = t * self.spec.strides[last] as i64 + (k * self.spec.dilations[last]) as i64;
                let x = match columns.get(&column) {
                    Some(&x) => x,
                    None => {
                        let step = kb.dim(&(stride * &Dim::from(column)));
                        let at = kb.k.add(row, step);
                        self.load(kb, at, lanes, count)
                    }
                };
                columns.insert(column, x);
                accs[t as usize] = self.combine(kb, accs[t as usize], x, w);
            }
        }
        accs
    }

    /// Loops over all but the last axis of the window, around its unrolled rows.
    #[allow(clippy::too_many_arguments)]
    fn by_rows(&self, kb: &mut Kb, axis: usize, at: Val, position: Val, width: i64, c: Val, (lanes, count): (u32, Option<Val>), accs: Vec<Val>) -> Vec<Val> {
        let spatial = self.spec.kernel.len();
        let size = self.spec.kernel[axis] as i64;
        if axis + 1 == spatial {
            let first = kb.k.mul_int(position, size);
            return self.window_row(kb, at, first, width, c, (lanes, count), accs);
        }
        let (zero, hi) = (kb.k.int(0), kb.k.int(size));
        let open = kb.k.begin_for((zero, hi, 1), &accs, LoopHint::Plain);
        let (i, phis) = (open.var, open.phis.clone());
        let step = kb.dim(&(&self.spec.x.view.strides[2 + axis] * &Dim::from(self.spec.dilations[axis])));
        let shift = kb.k.mul(i, step);
        let at = kb.k.add(at, shift);
        let position = kb.k.mul_int(position, size);
        let position = kb.k.add(position, i);
        let next = self.by_rows(kb, axis + 1, at, position, width, c, (lanes, count), phis);
        kb.k.end_for(open, &next)
    }

    #[allow(clippy::too_many_arguments)]
    fn looped(&self, kb: &mut Kb, axis: usize, at: Val, position: Val, c: Val, lanes: u32, count: Option<Val>, accs: Vec<Val>) -> Vec<Val> {
        if axis == self.spec.kernel.len() {
            let w = self.weight(kb, position, c, lanes, count);
            let x = self.load(kb, at, lanes, count);
            return vec![self.combine(kb, accs[0], x, w)];
        }
        let size = self.spec.kernel[axis] as i64;
        let (zero, hi) = (kb.k.int(0), kb.k.int(size));
        let open = kb.k.begin_for((zero, hi, 1), &accs, LoopHint::Plain);
        let (i, phis) = (open.var, open.phis.clone());
        let step = kb.dim(&(&self.spec.x.view.strides[2 + axis] * &Dim::from(self.spec.dilations[axis])));
        let shift = kb.k.mul(i, step);
        let at = kb.k.add(at, shift);
        let position = kb.k.mul_int(position, size);
        let position = kb.k.add(position, i);
        let next = self.looped(kb, axis + 1, at, position, c, lanes, count, phis);
        kb.k.end_for(open, &next)
    }

    /// Divides a mean by the number of elements of its window that count.
    fn finish(&self, kb: &mut Kb, rows: &[Val], pixel: Val, acc: Val) -> Val {
        if self.spec.combine != Combine::Mean {
            return acc;
        }
        let mut total = kb.k.int(1);
        let at: Vec<Val> = rows[1..].iter().copied().chain([pixel]).collect();
        for (s, &kernel) in self.spec.kernel.iter().enumerate() {
            let n = match self.spec.bounds.get(s) {
                None => kb.k.int(kernel as i64),
                Some((lo, hi)) => self.counted(kb, s, at[s], lo, hi),
            };
            total = kb.k.mul(total, n);
        }
        let total = kb.k.convert(total, self.acc);
        kb.k.bin(BinOp::Div, acc, total)
    }

    /// Number of positions of a window along one axis that lie in `lo..hi`.
    fn counted(&self, kb: &mut Kb, s: usize, at: Val, lo: &Dim, hi: &Dim) -> Val {
        let (first, end) = self.within(kb, s, at, lo, hi);
        let zero = kb.k.int(0);
        let n = kb.k.sub(end, first);
        kb.max(n, zero)
    }

    /// The positions of a window along one axis that lie in `lo..hi`: the first, and the end of them.
    fn within(&self, kb: &mut Kb, s: usize, at: Val, lo: &Dim, hi: &Dim) -> (Val, Val) {
        let start = kb.k.mul_int(at, self.spec.strides[s] as i64);
        let (lo, hi) = (kb.dim(lo), kb.dim(hi));
        let dilation = self.spec.dilations[s] as i64;
        let zero = kb.k.int(0);
        // Positions j with lo <= start + j * dilation < hi.
        let first = kb.k.sub(lo, start);
        let first = kb.max(first, zero);
        let first = kb.k.add_int(first, dilation - 1);
        let d = kb.k.int(dilation);
        let first = kb.k.bin(BinOp::Div, first, d);
        let end = kb.k.sub(hi, start);
        let end = kb.max(end, zero);
        let end = kb.k.add_int(end, dilation - 1);
        let end = kb.k.bin(BinOp::Div, end, d);
        let size = kb.k.int(self.spec.kernel[s] as i64);
        (first, kb.min(end, size))
    }
}
