//! Contractions: matrix products and dense convolutions on one register-tiled microkernel.
//!
//! Every contraction is brought to the same form: output elements are numbered by batch axes (along which the second
//! operand changes), row axes and one column axis; the sum runs over one or more nested k axes, each a stride in the first
//! operand, in the contract's order. The second operand is packed in panels of `nr` columns, `[batch][panel][k][nr]`, at
//! compile time if it is constant. The microkernel keeps `mr x nr` accumulators in registers: for each k, `nr` columns of
//! the panel are loaded and multiplied with `mr` broadcast elements of the first operand. Since every accumulator takes its
//! terms in order with one fused multiply-add each, `exact` and `fast` share it.
//!
//! With `fast` numerics some take fewer multiplications: see `winograd`, `fip` and `strassen`.
//!
//! Products of 8-bit integers take four terms a step: see `quads`; where registers hold matrices, sixty-four: see `matrices`.
//!
//! Limit: one vector multiply-add per cycle and accumulator vector; panels come from the second-level cache at
//! `4 * nr` bytes per `mr * nr` multiply-adds.
//!
//! All this is for CPUs; on GPUs the common form is computed by the kernels of `gpu`.

mod direct;
mod fip;
mod form;
mod gpu;
mod matrices;
mod micro;
mod padding;
mod panels;
mod products;
mod quads;
mod strassen;
mod sum;
mod tile;
mod transposed;
mod weights;
pub mod winograd;

pub use padding::{padded, padded_with};
pub use transposed::conv_transpose;

use std::collections::{HashMap, HashSet};

use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{Graph, Loc, NodeId, ValueId};
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, UnOp, Val};
use xlac_ir::ops::{Conv, ConvTranspose, MatMul};
use xlac_ir::DType;

use crate::CompileError;
use crate::eval::{Leaf, Out, Point};
use crate::group::{self, Group};
use crate::kb::{Kb, Place};
use crate::kernels::map;
use crate::lower::{Cost, Lowering, bytes};
use crate::memory::{hint, hint_of_one};
use crate::pack::{Blob, Pack, Strided};
use crate::plan::Storage;
use crate::view::{Layout, View, coalesce};
use direct::{DirectPlan, Emitter};
use form::{EpilogueAccess, Form, epilogue_access};
use matrices::Matrices;
use panels::pack_second;
use quads::{Extra, Quads};
use tile::{choose_tile, row_count, row_heights, rows_meet, unroll};

/// Bytes of the first operand a tile may walk, so that they stay in the second-level cache with a panel.
const A_BLOCK_BYTES: i64 = 256 << 10;
/// Multiply-adds a tile should have at least.
const TILE_MACS: i64 = 1 << 20;
/// Rows a multiple of so many bytes apart lie in one or two sets of a first-level cache.
const MEETING_BYTES: i64 = 2048;
/// Ways of a first-level cache; a panel takes one.
const WAYS: f64 = 8.0;
/// Terms of a sum from which on `fast` makes it in chains, and the most of a chain: shorter chains of additions round less.
const CHAIN: i64 = 256;
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
    // Each element is read for every panel: what is stored narrow is widened once.
    let place = if l.is_narrow(&place) { l.whole_buffer(v) } else { place };
    let matrix = &shape[shape.len() - 2..];
    let to = [batch, matrix].concat();
    Place { view: place.view.broadcast(&shape, &to), ..place }
}

/// Lowers a dense or grouped convolution with its epilogue.
pub fn conv(l: &mut Lowering, group: &Group, op: &Conv) -> Result<(), CompileError> {
    match winograd::scheme(l, group.anchor, op) {
        Some(scheme) => winograd::conv(l, group, op, &scheme),
        None => direct(l, group, op),
    }
}

/// A convolution as one sum over the window and its channels.
fn direct(l: &mut Lowering, group: &Group, op: &Conv) -> Result<(), CompileError> {
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

fn emit_parts(l: &mut Lowering, c: Contraction, mut epilogue: Epilogue) -> Result<(), CompileError> {
    if epilogue.space.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    if l.target.is_gpu() {
        gpu::emit(l, c, epilogue);
        return Ok(());
    }
    let (leaves, read) = operands_of(l, &c, &mut epilogue);
    let form = Form::new(l, &c, epilogue, leaves, read);
    let plan = DirectPlan::new(l, &c, &form);
    if let Some(product) = fip::Product::of(l, &c, &form.rows, plan.tile) {
        let Some(least) = product.least_rows() else {
            product.emit(l, &c.a, &form);
            return Ok(());
        };
        let enough = Dim::product(&form.rows).floor_div(&Dim::from(least)).at_most(&Dim::ONE);
        l.guarded(&(&Dim::ONE - &enough), |l| {
            plan.emit(l, &c, &form);
            Ok(())
        })?;
        return l.guarded(&enough, |l| {
            product.emit(l, &c.a, &form);
            Ok(())
        });
    }
    match strassen::Product::of(l, &c, &form.rows, plan.tile) {
        Some(product) => product.emit(l, &c.a, &form),
        None => plan.emit(l, &c, &form),
    }
    Ok(())
}

/// Operands of an epilogue: constants, and values with their places. Results and operands of a part of the outputs are cut
/// down to it.
fn operands_of(l: &mut Lowering, c: &Contraction, epilogue: &mut Epilogue) -> (HashMap<ValueId, Leaf>, Vec<(ValueId, Place)>) {
    let Epilogue { anchor, space, members, exits, .. } = epilogue;
    let mut leaves: HashMap<ValueId, Leaf> = HashMap::new();
    let mut read: Vec<(ValueId, Place)> = Vec::new();
    for v in map::operands(l.g, exits.iter().map(|e| e.0), members).into_iter().filter(|v| v != anchor) {
        match l.const_leaf(v) {
            Some(leaf) => _ = leaves.insert(v, leaf),
            None => read.push((v, l.leaf_view(v, space))),
        }
    }
    if let Some((starts, steps)) = &c.part {
        exits.iter_mut().chain(&mut read).for_each(|(_, p)| p.view = p.view.slice(starts, steps));
    }
    (leaves, read)
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
