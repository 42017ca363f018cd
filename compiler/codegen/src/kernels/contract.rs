//! Contractions: matrix products and dense convolutions on one register-tiled microkernel.
//!
//! Every contraction is brought to the same form: output elements are numbered by batch axes (along which the second
//! operand changes), row axes and one column axis; the sum runs over one or more nested k axes, each a stride in the first
//! operand, in the contract's order. The second operand is packed in panels of `nr` columns, `[batch][panel][k][nr]`, at
//! compile time if it is constant. The microkernel keeps `mr x nr` accumulators in registers: for each k, `nr` columns of
//! the panel are loaded and multiplied with `mr` broadcast elements of the first operand. Since every accumulator takes its
//! terms in order with one fused multiply-add each, `exact` and `fast` share it.
//!
//! Limit: one vector multiply-add per cycle and accumulator vector; panels come from the second-level cache at
//! `4 * nr` bytes per `mr * nr` multiply-adds.

use std::collections::{HashMap, HashSet};

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Graph, Loc, NodeId, ValueId};
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};
use xlac_ir::ops::{Conv, ConvTranspose, MatMul};
use xlac_ir::DType;

use crate::CompileError;
use crate::eval::{Leaf, Point};
use crate::group::{self, Group};
use crate::kb::{Kb, Place};
use crate::kernels::map;
use crate::lower::{Cost, Lowering, bytes, storage_dtype};
use crate::memory::hint;
use crate::pack::{Blob, Pack, Strided};
use crate::plan::Storage;
use crate::view::{Layout, View, coalesce};

/// Bytes of the first operand a tile may walk, so that they stay in the second-level cache with a panel.
const A_BLOCK_BYTES: i64 = 256 << 10;
/// Multiply-adds a tile should have at least.
const TILE_MACS: i64 = 1 << 20;
/// Terms after which `fast` adds the running sum to a total and starts anew: shorter chains of additions round less.
const CHAIN: i64 = 128;
/// Elementwise work per output vector above which the epilogue becomes a loop over a tile in scratch memory.
const INLINE_EPILOGUE: u32 = 12;

/// What an axis of the (split) output is to the contraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Batch,
    Row,
    Col,
}

/// An axis of the output, or a part of one.
#[derive(Clone, Debug)]
struct Axis {
    role: Role,
    size: Dim,
    /// Axis of the output value.
    axis: usize,
    /// Elements of that axis per step.
    step: Dim,
    /// Stride in the first operand.
    a: Dim,
}

/// A contraction in the common form.
struct Contraction {
    axes: Vec<Axis>,
    /// Nested sum axes, outermost first: size and stride in the first operand.
    k: Vec<(Dim, Dim)>,
    a: Place,
    b: Second,
    /// Element type of the accumulators.
    acc: DType,
    /// Only the outputs at these starts and steps, per axis of the output.
    part: Option<(Vec<Dim>, Vec<i64>)>,
}

/// The second operand before its panel width is known.
enum Second {
    /// Element of batch `i`, sum index `k`, column `n` at `sum batch[i] + sum k + n` strides of a place.
    View { place: Place, batch: Vec<Dim>, k: Vec<Dim>, n: Dim },
}

/// The second operand in its final form.
struct Panels {
    buf: Buf,
    /// Stride per batch axis.
    batch: Vec<Dim>,
    /// Elements from panel to panel.
    panel: Dim,
    /// Elements from k to k.
    k: i64,
}

/// Register tile: rows, vectors of columns, lanes of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows.
    pub mr: u32,
    /// Vectors per row.
    pub nv: u32,
    /// Lanes per vector.
    pub lanes: u32,
}

impl Tile {
    fn nr(self) -> i64 { i64::from(self.nv * self.lanes) }
}

/// Lowers a matrix product with its epilogue.
pub fn matmul(l: &mut Lowering, group: &Group, op: &MatMul) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (av, bv, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let shape = l.g.ty(out).shape.clone();
    let rank = shape.len();
    let (a, b) = (operand(l, av, &shape[..rank - 2]), operand(l, bv, &shape[..rank - 2]));
    let a_shape = &l.g.ty(av).shape;
    let k = a_shape[a_shape.len() - if op.trans_a { 2 } else { 1 }].clone();
    let last = |view: &View, back: usize| view.strides[view.strides.len() - back].clone();
    let (a_m, a_k) = if op.trans_a { (last(&a.view, 1), last(&a.view, 2)) } else { (last(&a.view, 2), last(&a.view, 1)) };
    let (b_k, b_n) = if op.trans_b { (last(&b.view, 1), last(&b.view, 2)) } else { (last(&b.view, 2), last(&b.view, 1)) };
    let mut axes = Vec::new();
    let mut b_batch = Vec::new();
    for i in 0..rank - 2 {
        let role = if b.view.strides[i].is(0) { Role::Row } else { Role::Batch };
        if role == Role::Batch {
            b_batch.push(b.view.strides[i].clone());
        }
        axes.push(Axis { role, size: shape[i].clone(), axis: i, step: Dim::ONE, a: a.view.strides[i].clone() });
    }
    axes.push(Axis { role: Role::Row, size: shape[rank - 2].clone(), axis: rank - 2, step: Dim::ONE, a: a_m });
    axes.push(Axis { role: Role::Col, size: shape[rank - 1].clone(), axis: rank - 1, step: Dim::ONE, a: Dim::ZERO });
    let second = Second::View { place: b, batch: b_batch, k: vec![b_k], n: b_n };
    let c = Contraction { axes, k: vec![(k, a_k)], a, b: second, acc: op.out.compute(), part: None };
    emit(l, group, c)
}

/// A matrix operand whose batch axes are broadcast to those of the result.
fn operand(l: &mut Lowering, v: ValueId, batch: &[Dim]) -> Place {
    let shape = l.g.ty(v).shape.clone();
    let place = l.access(v);
    let matrix = &shape[shape.len() - 2..];
    let to = [batch, matrix].concat();
    Place { view: place.view.broadcast(&shape, &to), ..place }
}

/// Lowers a dense or grouped convolution with its epilogue.
pub fn conv(l: &mut Lowering, group: &Group, op: &Conv) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (xv, wv, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let shape = l.g.ty(out).shape.clone();
    let w_shape = l.g.ty(wv).shape.clone();
    let x = padded(l, xv, &op.before, &op.after);
    let w = l.access(wv);
    let spatial = op.strides.len();
    let groups = Dim::from(op.groups);
    let per_group = shape[1].floor_div(&groups);
    let channels = w_shape[1].clone();
    let stride = |a: usize| x.view.strides[a].clone();
    let times = |d: &Dim, n: usize| d * &Dim::from(n);
    let mut axes = vec![Axis { role: Role::Row, size: shape[0].clone(), axis: 0, step: Dim::ONE, a: stride(0) }];
    let mut b_batch = Vec::new();
    if op.groups > 1 {
        b_batch.push(&w.view.strides[0] * &per_group);
        let a = &channels * &stride(1);
        axes.push(Axis { role: Role::Batch, size: groups, axis: 1, step: per_group.clone(), a });
    }
    for s in 0..spatial {
        let a = times(&stride(2 + s), op.strides[s]);
        axes.push(Axis { role: Role::Row, size: shape[2 + s].clone(), axis: 2 + s, step: Dim::ONE, a });
    }
    axes.push(Axis { role: Role::Col, size: per_group, axis: 1, step: Dim::ONE, a: Dim::ZERO });
    let mut k: Vec<(Dim, Dim)> =
        (0..spatial).map(|s| (w_shape[2 + s].clone(), times(&stride(2 + s), op.dilations[s]))).collect();
    k.push((channels, stride(1)));
    let mut b_k: Vec<Dim> = (0..spatial).map(|s| w.view.strides[2 + s].clone()).collect();
    b_k.push(w.view.strides[1].clone());
    let n = w.view.strides[0].clone();
    let second = Second::View { place: w, batch: b_batch, k: b_k, n };
    let c = Contraction { axes, k, a: x, b: second, acc: op.out.compute(), part: None };
    emit(l, group, c)
}

/// Lowers a transposed convolution: for every residue of the output position modulo the stride, the kernel positions that
/// hit it form an ordinary convolution over the input, walked backwards.
pub fn conv_transpose(l: &mut Lowering, group: &Group, op: &ConvTranspose) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (xv, wv, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let shape = l.g.ty(out).shape.clone();
    let w_shape = l.g.ty(wv).shape.clone();
    let spatial = op.strides.len();
    // Enough zeros on both sides that every kernel position reads something.
    let margin: Vec<Dim> = (0..spatial)
        .map(|s| {
            let reach = &(&w_shape[2 + s] - &Dim::ONE) * &Dim::from(op.dilations[s]);
            &reach.floor_div(&Dim::from(op.strides[s])) + &Dim::ONE
        })
        .collect();
    let after: Vec<Dim> = (0..spatial)
        .map(|s| {
            // The last output reads at most input position (out - 1 + before) / stride.
            let last = (&(&shape[2 + s] - &Dim::ONE) + &op.before[s]).floor_div(&Dim::from(op.strides[s]));
            let size = &l.g.ty(xv).shape[2 + s];
            (&(&last - size) + &Dim::ONE).at_least(&Dim::ZERO)
        })
        .collect();
    let kernel: Option<Vec<i64>> = w_shape[2..].iter().map(Dim::as_const).collect();
    let before: Option<Vec<i64>> = op.before.iter().map(Dim::as_const).collect();
    let (Some(kernel), Some(before)) = (kernel, before) else {
        return Err(CompileError { reason: "the kernel or padding of a transposed convolution is symbolic".into(), loc: l.loc(group) });
    };
    let x = padded(l, xv, &margin, &after);
    let w = l.access(wv);
    let phases: Vec<usize> = op.strides.clone();
    let mut result = Ok(());
    xlac_ir::tensor::for_each_index(&phases, |phase| {
        if result.is_ok() {
            let c = transposed_phase(l, group, op, phase, &kernel, &before, &margin, &x, &w, &shape);
            result = c.map_or(Ok(()), |c| emit(l, group, c));
        }
    });
    result
}

/// The contraction for the outputs whose position is `phase` modulo the strides; none if there is no such output.
#[allow(clippy::too_many_arguments)]
fn transposed_phase(
    l: &Lowering,
    group: &Group,
    op: &ConvTranspose,
    phase: &[usize],
    kernel: &[i64],
    before: &[i64],
    margin: &[Dim],
    x: &Place,
    w: &Place,
    shape: &[Dim],
) -> Option<Contraction> {
    let w_shape = &l.g.ty(l.anchor(group).inputs[1]).shape;
    let per_group = w_shape[1].clone();
    let channels = w_shape[0].floor_div(&Dim::from(op.groups));
    let mut axes = vec![Axis { role: Role::Row, size: shape[0].clone(), axis: 0, step: Dim::ONE, a: x.view.strides[0].clone() }];
    let mut b_batch = Vec::new();
    if op.groups > 1 {
        b_batch.push(&w.view.strides[0] * &channels);
        let a = &channels * &x.view.strides[1];
        axes.push(Axis { role: Role::Batch, size: Dim::from(op.groups), axis: 1, step: per_group.clone(), a });
    }
    let mut starts = vec![Dim::ZERO; shape.len()];
    let mut steps = vec![1; shape.len()];
    let (mut a_offset, mut b_offset) = (x.view.offset.clone(), w.view.offset.clone());
    let (mut k, mut b_k) = (Vec::new(), Vec::new());
    for s in 0..phase.len() {
        let (stride, dilation) = (op.strides[s] as i64, op.dilations[s] as i64);
        let (x_stride, w_stride) = (&x.view.strides[2 + s], &w.view.strides[2 + s]);
        // Kernel positions that hit: they recur with a period, the stride over its common divisor with the dilation.
        let target = phase[s] as i64 + before[s];
        let hits: Vec<i64> = (0..kernel[s]).filter(|j| (target - j * dilation).rem_euclid(stride) == 0).collect();
        let first = hits.first().copied().unwrap_or(0);
        let period = hits.get(1).map_or(1, |second| second - first);
        let from = (target - first * dilation).div_euclid(stride);
        a_offset = &a_offset + &(x_stride * &(&margin[s] + &Dim::from(from)));
        b_offset = &b_offset + &(w_stride * &Dim::from(first));
        k.push((Dim::from(hits.len()), x_stride * &Dim::from(-(period * dilation / stride))));
        b_k.push(w_stride * &Dim::from(period));
        let count = (&shape[2 + s] - &Dim::from(phase[s])).ceil_div(&Dim::from(stride));
        if count.as_const().is_some_and(|c| c <= 0) {
            return None;
        }
        starts[2 + s] = Dim::from(phase[s]);
        steps[2 + s] = stride;
        axes.push(Axis { role: Role::Row, size: count, axis: 2 + s, step: Dim::ONE, a: x_stride.clone() });
    }
    axes.push(Axis { role: Role::Col, size: per_group, axis: 1, step: Dim::ONE, a: Dim::ZERO });
    k.push((channels, x.view.strides[1].clone()));
    b_k.push(w.view.strides[0].clone());
    let a = Place { view: View { offset: a_offset, ..x.view.clone() }, ..x.clone() };
    let place = Place { view: View { offset: b_offset, ..w.view.clone() }, ..w.clone() };
    let b = Second::View { place, batch: b_batch, k: b_k, n: w.view.strides[1].clone() };
    let acc = l.g.ty(l.anchor(group).outputs[0]).dtype.compute();
    Some(Contraction { axes, k, a, b, acc, part: Some((starts, steps)) })
}

/// The operand of a window with its zeros stored around it, channels last.
pub fn padded(l: &mut Lowering, v: ValueId, before: &[Dim], after: &[Dim]) -> Place {
    let dtype = storage_dtype(l.g.ty(v).dtype);
    padded_with(l, v, before, after, Const::number(dtype, 0.0))
}

/// [`padded`] with another value than zero.
pub fn padded_with(l: &mut Lowering, v: ValueId, before: &[Dim], after: &[Dim], value: Const) -> Place {
    let place = l.access(v);
    if before.iter().chain(after).all(|p| p.is(0)) {
        return place;
    }
    if let Some(view) = haloed(l, v, &place.view, before, after).filter(|_| value.bits == 0) {
        return Place { view, ..place };
    }
    let (room_before, room_after): (Vec<Dim>, Vec<Dim>) = before.iter().zip(after).map(|(b, a)| (room(b), room(a))).unzip();
    let shift = |view: &View, by: &dyn Fn(usize) -> Dim| {
        let offset = (0..before.len()).fold(view.offset.clone(), |sum, i| &sum + &(&by(i) * &view.strides[2 + i]));
        View { offset, strides: view.strides.clone() }
    };
    // Negative padding cuts: the windows start inside.
    let cut = |view: &View| shift(view, &|i| &room_before[i] - &before[i]);
    if room_before.iter().chain(&room_after).all(|p| p.is(0)) {
        return Place { view: cut(&place.view), ..place };
    }
    let ty = l.g.ty(v).clone();
    let mut shape = ty.shape.clone();
    for (i, (b, a)) in room_before.iter().zip(&room_after).enumerate() {
        shape[2 + i] = &(&shape[2 + i] + b) + a;
    }
    let dtype = storage_dtype(ty.dtype);
    let buffer = l.buffer(Storage::Temp, bytes(&shape, dtype));
    let whole = Place { buffer, view: View::dense(&shape, Layout::ChannelsLast), dtype };
    map::fill(l, &shape, &whole, value);
    let inside = shift(&whole.view, &|i| room_before[i].clone());
    l.copy(v, &Place { view: inside, ..whole.clone() });
    Place { view: cut(&whole.view), ..whole }
}

/// The elements to store for a padding: none for one that cuts.
fn room(padding: &Dim) -> Dim {
    if padding.as_const().is_some_and(|p| p < 0) { Dim::ZERO } else { padding.clone() }
}

/// The view of a value whose place already has enough zeros around it.
fn haloed(l: &Lowering, v: ValueId, view: &View, before: &[Dim], after: &[Dim]) -> Option<View> {
    let halo = l.halo(v)?;
    let enough = |want: &[Dim], have: &[i64]| want.iter().zip(have).all(|(w, &h)| w.as_const().is_some_and(|w| w <= h));
    if !enough(before, &halo.before) || !enough(after, &halo.after) {
        return None;
    }
    let mut offset = view.offset.clone();
    for (s, b) in before.iter().enumerate() {
        offset = &offset - &(b * &view.strides[2 + s]);
    }
    Some(View { offset, strides: view.strides.clone() })
}

/// A value read or written by the epilogue: strides along batch axes, row axes and the column axis.
struct EpilogueAccess {
    batch: Vec<Dim>,
    rows: Vec<Dim>,
    col: Dim,
}

fn epilogue_access(axes: &[Axis], view: &View) -> EpilogueAccess {
    let of = |role: Role| axes.iter().filter(move |x| x.role == role).map(|x| &view.strides[x.axis] * &x.step);
    EpilogueAccess { batch: of(Role::Batch).collect(), rows: of(Role::Row).collect(), col: of(Role::Col).next().expect("one column axis") }
}

/// Everything the loops need.
struct Emitter<'a> {
    g: &'a Graph,
    anchor: ValueId,
    batch: Vec<Dim>,
    rows: Vec<Dim>,
    cols: Dim,
    k: Vec<(Dim, Dim)>,
    a: Buf,
    a_batch: Vec<Dim>,
    a_rows: Vec<Dim>,
    panels: Panels,
    acc: DType,
    dtype: DType,
    tile: Tile,
    leaves: HashMap<ValueId, Leaf>,
    outs: Vec<(ValueId, Buf, DType, Vec<Dim>)>,
    spill: Option<Buf>,
    /// Scratch memory for totals, if long sums are split into chains.
    totals: Option<Buf>,
    unroll: u32,
}

/// What becomes of the elements of a contraction.
struct Epilogue {
    /// Stands for an element of the contraction itself.
    anchor: ValueId,
    /// Element type it is rounded to.
    dtype: DType,
    /// Shape of the results.
    space: Vec<Dim>,
    /// Elementwise nodes that follow.
    members: HashSet<NodeId>,
    /// Results and where they go.
    exits: Vec<(ValueId, Place)>,
    name: String,
    loc: Loc,
}

fn emit(l: &mut Lowering, group: &Group, c: Contraction) -> Result<(), CompileError> {
    let anchor = l.anchor(group).outputs[0];
    let exits: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    // Operands of the epilogue, without those of the contraction itself.
    let members: HashSet<NodeId> = group.members.iter().copied().filter(|&m| m != group.anchor).collect();
    let (dtype, space) = (l.g.ty(anchor).dtype, group.space.clone());
    let (name, loc) = (l.name(group), l.loc(group));
    emit_parts(l, c, Epilogue { anchor, dtype, space, members, exits, name, loc })
}

/// Stores the unrounded matrix product of `a`, whose axes are `rows` and one of size `k`, and `w`, whose axes are k and the
/// columns, in `out`, whose axes are the rows and the columns. For the node of `group`.
pub fn product(
    l: &mut Lowering,
    group: &Group,
    (rows, k, cols): (&[Dim], &Dim, &Dim),
    a: Place,
    w: Place,
    out: Place,
) -> Result<(), CompileError> {
    let (a_rows, a_k) = a.view.strides.split_at(rows.len());
    let (a_k, acc) = (a_k[0].clone(), out.dtype);
    let row = |i: usize| Axis { role: Role::Row, size: rows[i].clone(), axis: i, step: Dim::ONE, a: a_rows[i].clone() };
    let mut axes: Vec<Axis> = (0..rows.len()).map(row).collect();
    axes.push(Axis { role: Role::Col, size: cols.clone(), axis: rows.len(), step: Dim::ONE, a: Dim::ZERO });
    let (b_k, n) = (vec![w.view.strides[0].clone()], w.view.strides[1].clone());
    let b = Second::View { place: w, batch: Vec::new(), k: b_k, n };
    let anchor = l.anchor(group).outputs[0];
    let space = [rows, std::slice::from_ref(cols)].concat();
    let (name, loc) = (format!("{}_product", l.name(group)), l.loc(group));
    let epilogue = Epilogue { anchor, dtype: acc, space, members: HashSet::new(), exits: vec![(anchor, out)], name, loc };
    emit_parts(l, Contraction { axes, k: vec![(k.clone(), a_k)], a, b, acc, part: None }, epilogue)
}

fn emit_parts(l: &mut Lowering, c: Contraction, epilogue: Epilogue) -> Result<(), CompileError> {
    let Epilogue { anchor, dtype, space, members, exits, name, loc } = epilogue;
    if space.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let mut leaves: HashMap<ValueId, Leaf> = HashMap::new();
    let mut read: Vec<(ValueId, Place)> = Vec::new();
    for v in map::operands(l.g, exits.iter().map(|e| e.0), &members).into_iter().filter(|&v| v != anchor) {
        match l.const_leaf(v) {
            Some(leaf) => _ = leaves.insert(v, leaf),
            None => read.push((v, l.leaf_view(v, &space))),
        }
    }
    let mut exits = exits;
    if let Some((starts, steps)) = &c.part {
        exits.iter_mut().chain(&mut read).for_each(|(_, p)| p.view = p.view.slice(starts, steps));
    }
    let size = |role: Role| c.axes.iter().filter(move |x| x.role == role).map(|x| x.size.clone()).collect::<Vec<_>>();
    let (batch, cols) = (size(Role::Batch), size(Role::Col)[0].clone());
    let views = exits.iter().map(|e| &e.1.view).chain(read.iter().map(|r| &r.1.view));
    let access: Vec<EpilogueAccess> = views.map(|v| epilogue_access(&c.axes, v)).collect();
    let a_of = |role: Role| c.axes.iter().filter(move |x| x.role == role).map(|x| x.a.clone()).collect::<Vec<_>>();
    let mut row_access: Vec<Vec<Dim>> = std::iter::once(a_of(Role::Row)).chain(access.iter().map(|a| a.rows.clone())).collect();
    let mut rows = coalesce(&size(Role::Row), &mut row_access);
    if rows.is_empty() {
        rows.push(Dim::ONE);
        row_access.iter_mut().for_each(|a| a.push(Dim::ZERO));
    }
    let k = merge_k(&c.k);
    let k_total = Dim::product(c.k.iter().map(|k| &k.0));
    let tile = choose_tile(l, rows.last().expect("at least one"), &cols, &k_total, c.acc);

    let (b_place, b_batch, b_panel, b_k) = pack_second(l, &c.b, &c.k, &cols, tile, &batch, c.acc);
    let mut kb = Kb::new(&name);
    let a = kb.read(&c.a);
    let panels = Panels { buf: kb.read(&b_place), batch: b_batch, panel: b_panel, k: b_k };
    let loops = |a: &EpilogueAccess, rows: &[Dim]| [&a.batch[..], rows, std::slice::from_ref(&a.col)].concat();
    let outs = exits.iter().enumerate().map(|(i, (v, place))| {
        (*v, kb.write(place), place.dtype, loops(&access[i], &row_access[1 + i]))
    }).collect();
    for ((v, place), i) in read.iter().zip(exits.len()..) {
        let strides = loops(&access[i], &row_access[1 + i]);
        let buf = kb.read(place);
        leaves.insert(*v, Leaf::Buffer { buf, strides, dtype: l.g.ty(*v).dtype });
    }
    let work: u32 = members.iter().map(|&n| group::cost(&l.g.node(n).op)).sum();
    let spill = (work > INLINE_EPILOGUE && tile.mr > 1)
        .then(|| kb.scratch("tile", c.acc, &Dim::from(i64::from(tile.mr) * tile.nr())));
    let long = hint(&k_total) >= 2 * CHAIN && c.acc.is_float() && !l.exact();
    let totals = long.then(|| kb.scratch("totals", c.acc, &Dim::from(i64::from(tile.mr) * tile.nr())));
    let e = Emitter {
        g: l.g,
        anchor,
        batch,
        rows,
        cols,
        k,
        a,
        a_batch: a_of(Role::Batch),
        a_rows: row_access[0].clone(),
        panels,
        acc: c.acc,
        dtype,
        tile,
        leaves,
        outs,
        spill,
        totals,
        unroll: if l.target.vector_bytes <= 16 { 8 } else { 2 },
    };
    let elements = Dim::product(c.axes.iter().map(|x| &x.size));
    let macs = &elements * &k_total;
    let tiles = e.emit(&mut kb, &k_total);
    let flops = &macs * &Dim::from(2i64);
    let traffic = &(&elements * &Dim::from(4 * (exits.len() + read.len()))) + &operand_bytes(&e, &k_total);
    // About 16 multiply-adds a nanosecond for every 16 bytes of vector.
    let rate = i64::from(l.target.vector_bytes.max(16)) * 3 / 4;
    let tile_ns = macs.floor_div(&Dim::from(rate)).floor_div(&tiles.at_least(&Dim::ONE));
    l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &loc);
    Ok(())
}

fn operand_bytes(e: &Emitter, k: &Dim) -> Dim {
    let four = Dim::from(4i64);
    let batch = Dim::product(&e.batch);
    let a = &Dim::product(&e.rows) * k;
    let b = &e.cols * k;
    &(&batch * &(&a + &b)) * &four
}

/// Merges nested sum axes that are one contiguous walk.
fn merge_k(k: &[(Dim, Dim)]) -> Vec<(Dim, Dim)> {
    let mut out: Vec<(Dim, Dim)> = Vec::new();
    for (size, stride) in k {
        match out.last_mut() {
            _ if size.is(1) && k.len() > 1 => {}
            Some((n, s)) if *s == size * stride => {
                *n = &*n * size;
                *s = stride.clone();
            }
            _ => out.push((size.clone(), stride.clone())),
        }
    }
    if out.is_empty() {
        out.push((Dim::ONE, Dim::ZERO));
    }
    out
}

/// The register tile of least estimated time.
fn choose_tile(l: &Lowering, row: &Dim, cols: &Dim, k: &Dim, acc: DType) -> Tile {
    let full = l.target.lanes(acc);
    let n = cols.as_const().unwrap_or(1024).max(1);
    // Narrow results do not fill a vector.
    let lanes = if n < i64::from(full) { (n as u32).next_power_of_two() } else { full };
    let rows = row.as_const().unwrap_or(64).max(1);
    let k = k.as_const().unwrap_or(256).max(1) as f64;
    // One register each for a broadcast element and for the panel's vectors in flight.
    // Cranelift's multiply-add overwrites a factor and its allocator wants some room besides.
    let room = if l.target.vector_bytes <= 16 { 4 } else { 1 };
    let registers = i64::from(l.target.vector_registers) - room;
    let mut best = (f64::INFINITY, Tile { mr: 1, nv: 1, lanes });
    for nv in 1..=8i64 {
        for mr in 1..=registers {
            if mr * nv + nv > registers || mr > rows || (nv > 1 && (nv - 1) * i64::from(lanes) >= n) {
                continue;
            }
            let tiles = ((rows + mr - 1) / mr * ((n + nv * i64::from(lanes) - 1) / (nv * i64::from(lanes)))) as f64;
            let (m, v) = (mr as f64, nv as f64);
            // Multiply-adds, loads at two a cycle, and the latency of a dependent chain.
            let step = (m * v).max((m + v) * 0.6).max(4.0) + 0.15 * (m + v);
            let time = tiles * (step * k + 20.0 + 2.0 * m * v);
            if time < best.0 {
                best = (time, Tile { mr: mr as u32, nv: nv as u32, lanes });
            }
        }
    }
    best.1
}

/// Brings the second operand into panels: at compile time if it is constant, else with a kernel, unless it can be read
/// in place. Returns its place, batch strides, panel stride and k stride.
fn pack_second(
    l: &mut Lowering,
    second: &Second,
    ks: &[(Dim, Dim)],
    cols: &Dim,
    tile: Tile,
    batch: &[Dim],
    acc: DType,
) -> (Place, Vec<Dim>, Dim, i64) {
    let Second::View { place, batch: b_batch, k: b_k, n } = second;
    let nr = tile.nr();
    let k_sizes: Vec<Dim> = ks.iter().map(|k| k.0.clone()).collect();
    let k_total = Dim::product(&k_sizes);
    let panels = cols.ceil_div(&Dim::from(nr));
    let panel = &k_total * &Dim::from(nr);
    let batch_strides = |batch: &[Dim]| {
        let mut strides = vec![Dim::ZERO; batch.len()];
        let mut s = &panels * &panel;
        for i in (0..batch.len()).rev() {
            strides[i] = s.clone();
            s = &s * &batch[i];
        }
        strides
    };
    if let Some(blob) = packed_blob(l, place, b_batch, b_k, n, &k_sizes, cols, nr, batch, acc) {
        let buffer = l.blob(blob);
        let view = View { offset: Dim::ZERO, strides: Vec::new() };
        return (Place { buffer, view, dtype: acc }, batch_strides(batch), panel, nr);
    }
    let whole = cols.as_const().is_some_and(|c| c % nr == 0);
    if let ([k], true, true, Some(step)) = (&b_k[..], n.is(1), whole && place.dtype == acc, b_k[0].as_const()) {
        let _ = k;
        return (place.clone(), b_batch.clone(), Dim::from(nr), step);
    }
    let dims = [batch, &[panels.clone()], &k_sizes].concat();
    let buffer = l.buffer(Storage::Temp, &bytes(&dims, acc) * &Dim::from(nr));
    let packed = Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype: acc };
    pack_kernel(l, place, b_batch, b_k, n, &packed, &dims, batch.len(), cols, tile, acc);
    (packed, batch_strides(batch), panel, nr)
}

/// The recipe for a constant second operand.
#[allow(clippy::too_many_arguments)]
fn packed_blob(
    l: &Lowering,
    place: &Place,
    b_batch: &[Dim],
    b_k: &[Dim],
    n: &Dim,
    k_sizes: &[Dim],
    cols: &Dim,
    nr: i64,
    batch: &[Dim],
    acc: DType,
) -> Option<Blob> {
    let Storage::Blob(index) = l.plan.buffers[place.buffer.0 as usize].storage else { return None };
    let source = l.plan.blobs[index as usize].source.clone();
    let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok());
    let cols = size(cols)?;
    let (nr, panels) = (nr as usize, cols.div_ceil(nr as usize));
    let mut shape: Vec<usize> = batch.iter().map(size).collect::<Option<_>>()?;
    let mut strides: Vec<usize> = b_batch.iter().map(size).collect::<Option<_>>()?;
    let n = size(n)?;
    let panel_axis = shape.len();
    shape.push(panels);
    strides.push(n * nr);
    shape.extend(k_sizes.iter().map(size).collect::<Option<Vec<_>>>()?);
    strides.extend(b_k.iter().map(size).collect::<Option<Vec<_>>>()?);
    let lane_axis = shape.len();
    shape.push(nr);
    strides.push(n);
    let offset = size(&place.view.offset)?;
    let pack = Pack::Strided(Strided { shape, strides, offset, limit: Some((panel_axis, lane_axis, cols)) });
    Some(Blob { source, pack, dtype: acc })
}

/// Packs a computed second operand.
#[allow(clippy::too_many_arguments)]
fn pack_kernel(
    l: &mut Lowering,
    place: &Place,
    b_batch: &[Dim],
    b_k: &[Dim],
    n: &Dim,
    packed: &Place,
    dims: &[Dim],
    batch: usize,
    cols: &Dim,
    tile: Tile,
    acc: DType,
) {
    let nr = tile.nr();
    let mut kb = Kb::new("pack");
    let from = kb.read(place);
    let to = kb.write(packed);
    let strides: Vec<Dim> = b_batch.iter().cloned().chain([n * &Dim::from(nr)]).chain(b_k.iter().cloned()).collect();
    let dense = View::dense(dims, Layout::RowMajor).strides;
    let dense: Vec<Dim> = dense.iter().map(|s| s * &Dim::from(nr)).collect();
    // A tile packs a panel: one index over batch and panel.
    let outer = &dims[..batch + 1];
    let number = kb.k.tile();
    let mut index = kb.unflatten(number, outer);
    let first = kb.k.mul_int(index[batch], nr);
    let cols = kb.dim(cols);
    let valid = kb.k.sub(cols, first);
    let loops = kb.begin_loops(&dims[batch + 1..]);
    index.extend(loops.iter().map(|o| o.var));
    let at = kb.address(&index, &strides);
    let stride = kb.dim(n);
    for v in 0..i64::from(tile.nv) {
        let shift = v * i64::from(tile.lanes);
        let skip = kb.k.mul_int(stride, shift);
        let at = kb.k.add(at, skip);
        let count = kb.k.add_int(valid, -shift);
        let x = kb.k.load_strided(from, at, stride, tile.lanes, Some(count));
        let x = kb.k.convert(x, acc);
        let there = kb.address(&index, &dense);
        kb.k.store(to, there, shift, x, None);
    }
    kb.end_loops(loops);
    let tiles = Dim::product(outer);
    let traffic = &(&Dim::product(dims) * &Dim::from(nr)) * &Dim::from(8i64);
    let tile_ns = traffic.floor_div(&Dim::from(8i64)).floor_div(&tiles.at_least(&Dim::ONE));
    l.launch(kb, tiles, Cost { tile_ns, flops: Dim::ZERO, traffic }, &Default::default());
}

impl Emitter<'_> {
    /// Emits the whole kernel; returns the number of tiles.
    fn emit(&self, kb: &mut Kb, k_total: &Dim) -> Dim {
        let (outer, inner) = self.rows.split_at(self.rows.len() - 1);
        let mr = i64::from(self.tile.mr);
        let inner_tiles = inner[0].ceil_div(&Dim::from(mr));
        let row_tiles = &Dim::product(outer) * &inner_tiles;
        let panels = self.cols.ceil_div(&Dim::from(self.tile.nr()));
        let (row_chunk, panel_chunk) = self.chunks(&row_tiles, &panels, k_total);
        let row_chunks = row_tiles.ceil_div(&Dim::from(row_chunk));
        let panel_chunks = panels.ceil_div(&Dim::from(panel_chunk));
        let grid = [&self.batch[..], &[row_chunks, panel_chunks]].concat();
        let number = kb.k.tile();
        let mut index = kb.unflatten(number, &grid);
        let pc = index.pop().expect("panel chunk");
        let rc = index.pop().expect("row chunk");
        let batch = index;
        let a_base = kb.address(&batch, &self.a_batch);
        let b_base = kb.address(&batch, &self.panels.batch);
        let range = |kb: &mut Kb, chunk: i64, at: Val, end: &Dim| {
            let lo = kb.k.mul_int(at, chunk);
            let hi = kb.k.add_int(lo, chunk);
            let end = kb.dim(end);
            let hi = kb.min(hi, end);
            (lo, hi)
        };
        let (p0, p1) = range(kb, panel_chunk, pc, &panels);
        let (r0, r1) = range(kb, row_chunk, rc, &row_tiles);
        let panel_loop = kb.k.begin_for((p0, p1, 1), &[], LoopHint::Plain);
        let panel = panel_loop.var;
        let stride = kb.dim(&self.panels.panel);
        let shift = kb.k.mul(panel, stride);
        let b_base = kb.k.add(b_base, shift);
        let row_loop = kb.k.begin_for((r0, r1, 1), &[], LoopHint::Plain);
        let mut place = kb.unflatten(row_loop.var, &[outer, &[inner_tiles]].concat());
        let t = place.pop().expect("inner tile");
        self.row_tile(kb, &batch, &place, t, panel, a_base, b_base);
        kb.k.end_for(row_loop, &[]);
        kb.k.end_for(panel_loop, &[]);
        Dim::product(&grid)
    }

    /// Row tiles and panels a tile task walks.
    fn chunks(&self, row_tiles: &Dim, panels: &Dim, k: &Dim) -> (i64, i64) {
        let (t, p, k) = (hint(row_tiles).max(1), hint(panels).max(1), hint(k).max(1));
        let mr = i64::from(self.tile.mr);
        // Window positions share most of what they read.
        let reuse = if self.k.len() > 1 { hint(&self.k[0].0).max(1) } else { 1 };
        let per_tile = (mr * k * 4 / reuse).max(1);
        let mut rows = (A_BLOCK_BYTES / per_tile).clamp(1, t);
        let macs = |rows: i64, panels: i64| rows * mr * panels * self.tile.nr() * k;
        let mut cols = (TILE_MACS / macs(rows, 1).max(1)).clamp(1, p);
        // Enough tiles for the pool, as long as they are worth their dispatch.
        let batch = hint(&Dim::product(&self.batch)).max(1);
        let tiles = |rows: i64, cols: i64| batch * ((t + rows - 1) / rows) * ((p + cols - 1) / cols);
        while tiles(rows, cols) < 8 && macs(rows, cols) > TILE_MACS / 8 && rows.max(cols) > 1 {
            if cols > 1 { cols = (cols + 1) / 2 } else { rows = (rows + 1) / 2 }
        }
        (rows, cols)
    }

    /// One row tile of one panel: the rows of the innermost row axis from `t * mr` on.
    fn row_tile(&self, kb: &mut Kb, batch: &[Val], outer: &[Val], t: Val, panel: Val, a_base: Val, b_base: Val) {
        let mr = i64::from(self.tile.mr);
        let last = self.rows.last().expect("a row axis");
        let a_outer = kb.address(outer, &self.a_rows);
        let a_base = kb.k.add(a_base, a_outer);
        let start = kb.k.mul_int(t, mr);
        let n = kb.dim(last);
        // The last tile overlaps the one before it: the same results are stored twice.
        let limit = kb.k.add_int(n, -mr);
        let from = kb.min(start, limit);
        let known = last.as_const();
        if known.is_some_and(|n| n >= mr) {
            self.micro(kb, self.tile.mr, batch, outer, from, panel, a_base, b_base);
            return;
        }
        let zero = kb.k.int(0);
        let enough = kb.k.cmp(Pred::Ge, limit, zero);
        let mut open = kb.k.begin_if(enough);
        self.micro(kb, self.tile.mr, batch, outer, from, panel, a_base, b_base);
        kb.k.begin_else(&mut open, &[]);
        let each = kb.k.begin_for((start, n, 1), &[], LoopHint::Plain);
        self.micro(kb, 1, batch, outer, each.var, panel, a_base, b_base);
        kb.k.end_for(each, &[]);
        kb.k.end_if(open, &[]);
    }

    #[allow(clippy::too_many_arguments)]
    fn micro(&self, kb: &mut Kb, mr: u32, batch: &[Val], outer: &[Val], row: Val, panel: Val, a_base: Val, b_base: Val) {
        let stride = self.a_rows.last().cloned().unwrap_or(Dim::ZERO);
        let step = kb.dim(&stride);
        let shift = kb.k.mul(row, step);
        let base = kb.k.add(a_base, shift);
        // Rows a constant stride apart share one address; others get one each.
        let rows: Vec<(Val, i64)> = (0..i64::from(mr))
            .map(|r| match stride.as_const() {
                Some(s) => (kb.k.int(0), r * s),
                None => (kb.k.mul_int(step, r), 0),
            })
            .collect();
        let zero = kb.k.splat_const(Const::number(self.acc, 0.0), self.tile.lanes);
        let accs = vec![zero; (mr * self.tile.nv) as usize];
        let accs = match self.totals {
            Some(totals) => self.chains(kb, totals, base, b_base, &rows, accs),
            None => self.sum(kb, 0, base, b_base, &rows, accs),
        };
        self.epilogue(kb, mr, batch, outer, row, panel, &accs);
    }

    /// The sum as chains of about [`CHAIN`] terms: the outermost loop whose trips are short enough is cut into pieces.
    fn chains(&self, kb: &mut Kb, totals: Buf, a: Val, b: Val, rows: &[(Val, i64)], zeros: Vec<Val>) -> Vec<Val> {
        let lanes = i64::from(self.tile.lanes);
        let zero = kb.k.int(0);
        for (i, &x) in zeros.iter().enumerate() {
            kb.k.store(totals, zero, i as i64 * lanes, x, None);
        }
        self.chain_level(kb, 0, totals, a, b, rows, &zeros);
        (0..zeros.len() as i64).map(|i| kb.k.load(totals, zero, i * lanes, self.tile.lanes, None)).collect()
    }

    #[allow(clippy::too_many_arguments)]
    fn chain_level(&self, kb: &mut Kb, level: usize, totals: Buf, a: Val, b: Val, rows: &[(Val, i64)], zeros: &[Val]) {
        let (size, stride) = &self.k[level];
        let inner: Dim = Dim::product(self.k[level + 1..].iter().map(|k| &k.0));
        let (zero, hi) = (kb.k.int(0), kb.dim(size));
        let (a_stride, b_stride) = (kb.dim(stride), kb.dim(&(&inner * &Dim::from(self.panels.k))));
        if hint(&inner) >= 2 * CHAIN {
            let open = kb.k.begin_for((zero, hi, 1), &[], LoopHint::Plain);
            let (a_step, b_step) = (kb.k.mul(open.var, a_stride), kb.k.mul(open.var, b_stride));
            let (a, b) = (kb.k.add(a, a_step), kb.k.add(b, b_step));
            self.chain_level(kb, level + 1, totals, a, b, rows, zeros);
            kb.k.end_for(open, &[]);
            return;
        }
        let piece = (CHAIN / hint(&inner).max(1)).max(1);
        let outer = kb.k.begin_for((zero, hi, piece), &[], LoopHint::Plain);
        let end = kb.k.add_int(outer.var, piece);
        let end = kb.min(end, hi);
        let accs = self.sum_range(kb, level, (outer.var, end), a, b, rows, zeros.to_vec());
        let lanes = i64::from(self.tile.lanes);
        for (i, acc) in accs.into_iter().enumerate() {
            let total = kb.k.load(totals, zero, i as i64 * lanes, self.tile.lanes, None);
            let total = kb.k.add(total, acc);
            kb.k.store(totals, zero, i as i64 * lanes, total, None);
        }
        kb.k.end_for(outer, &[]);
    }

    /// The loops over k from level `level` on.
    fn sum(&self, kb: &mut Kb, level: usize, a: Val, b: Val, rows: &[(Val, i64)], accs: Vec<Val>) -> Vec<Val> {
        let zero = kb.k.int(0);
        let hi = kb.dim(&self.k[level].0);
        self.sum_range(kb, level, (zero, hi), a, b, rows, accs)
    }

    /// [`Emitter::sum`] over a part of the outermost axis.
    #[allow(clippy::too_many_arguments)]
    fn sum_range(&self, kb: &mut Kb, level: usize, (lo, hi): (Val, Val), a: Val, b: Val, rows: &[(Val, i64)], accs: Vec<Val>) -> Vec<Val> {
        let stride = &self.k[level].1;
        let inner: Dim = Dim::product(self.k[level + 1..].iter().map(|k| &k.0));
        let last = level + 1 == self.k.len();
        let hint = if last { LoopHint::Unroll(self.unroll) } else { LoopHint::Plain };
        let open = kb.k.begin_for((lo, hi, 1), &accs, hint);
        let (i, phis) = (open.var, open.phis.clone());
        let stride = kb.dim(stride);
        let a_step = kb.k.mul(i, stride);
        let a = kb.k.add(a, a_step);
        let b_stride = kb.dim(&(&inner * &Dim::from(self.panels.k)));
        let b_step = kb.k.mul(i, b_stride);
        let b = kb.k.add(b, b_step);
        let next = if last { self.step(kb, a, b, rows, &phis) } else { self.sum(kb, level + 1, a, b, rows, phis) };
        kb.k.end_for(open, &next)
    }

    /// One k: `nv` vectors of the panel times every row's element.
    fn step(&self, kb: &mut Kb, a: Val, b: Val, rows: &[(Val, i64)], accs: &[Val]) -> Vec<Val> {
        let lanes = self.tile.lanes;
        let panel: Vec<Val> = (0..self.tile.nv).map(|v| kb.k.load(self.panels.buf, b, i64::from(v * lanes), lanes, None)).collect();
        let mut next = Vec::with_capacity(accs.len());
        for (r, &(extra, offset)) in rows.iter().enumerate() {
            let at = kb.k.add(a, extra);
            let x = kb.k.load(self.a, at, offset, 1, None);
            let x = kb.k.convert(x, self.acc);
            for (v, &y) in panel.iter().enumerate() {
                let acc = accs[r * self.tile.nv as usize + v];
                next.push(if self.acc.is_float() {
                    kb.k.fma(x, y, acc)
                } else {
                    let product = kb.k.bin(BinOp::Mul, x, y);
                    kb.k.add(product, acc)
                });
            }
        }
        next
    }

    #[allow(clippy::too_many_arguments)]
    fn epilogue(&self, kb: &mut Kb, mr: u32, batch: &[Val], outer: &[Val], row: Val, panel: Val, accs: &[Val]) {
        let nr = self.tile.nr();
        let col = kb.k.mul_int(panel, nr);
        if self.cols.as_const().is_some_and(|n| n % nr == 0) {
            self.finish_tile(kb, mr, batch, outer, row, col, accs, None);
            return;
        }
        let n = kb.dim(&self.cols);
        let left = kb.k.sub(n, col);
        if self.cols.as_const().is_some_and(|n| n < nr) {
            self.finish_tile(kb, mr, batch, outer, row, col, accs, Some(left));
            return;
        }
        let width = kb.k.int(nr);
        let whole = kb.k.cmp(Pred::Ge, left, width);
        let mut open = kb.k.begin_if(whole);
        self.finish_tile(kb, mr, batch, outer, row, col, accs, None);
        kb.k.begin_else(&mut open, &[]);
        self.finish_tile(kb, mr, batch, outer, row, col, accs, Some(left));
        kb.k.end_if(open, &[]);
    }

    #[allow(clippy::too_many_arguments)]
    fn finish_tile(&self, kb: &mut Kb, mr: u32, batch: &[Val], outer: &[Val], row: Val, col: Val, accs: &[Val], left: Option<Val>) {
        let (nv, lanes) = (self.tile.nv as usize, self.tile.lanes);
        let Some(spill) = self.spill.filter(|_| mr > 1) else {
            for r in 0..mr as usize {
                let at = kb.k.add_int(row, r as i64);
                self.finish_row(kb, batch, outer, at, col, &accs[r * nv..][..nv], left);
            }
            return;
        };
        let zero = kb.k.int(0);
        for (i, &acc) in accs.iter().enumerate() {
            kb.k.store(spill, zero, i as i64 * i64::from(lanes), acc, None);
        }
        let hi = kb.k.int(i64::from(mr));
        let open = kb.k.begin_for((zero, hi, 1), &[], LoopHint::Plain);
        let at = kb.k.add(row, open.var);
        let slot = kb.k.mul_int(open.var, self.tile.nr());
        let accs: Vec<Val> = (0..nv).map(|v| kb.k.load(spill, slot, v as i64 * i64::from(lanes), lanes, None)).collect();
        self.finish_row(kb, batch, outer, at, col, &accs, left);
        kb.k.end_for(open, &[]);
    }

    #[allow(clippy::too_many_arguments)]
    fn finish_row(&self, kb: &mut Kb, batch: &[Val], outer: &[Val], row: Val, col: Val, accs: &[Val], left: Option<Val>) {
        let lanes = self.tile.lanes;
        for (v, &acc) in accs.iter().enumerate() {
            let shift = v as i64 * i64::from(lanes);
            let col = kb.k.add_int(col, shift);
            let count = left.map(|left| kb.k.add_int(left, -shift));
            let index = [batch, outer, &[row, col]].concat();
            let value = kb.k.convert(acc, self.dtype);
            let known = HashMap::from([(self.anchor, value)]);
            let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes, count, known };
            for (v, buf, dtype, strides) in &self.outs {
                let x = point.value(kb, *v);
                let x = kb.k.convert(x, *dtype);
                let x = kb.k.widen(x, lanes);
                let at = kb.address(&point.index, strides);
                kb.store(*buf, at, strides.last().expect("a column"), x, count);
            }
        }
    }
}
