//! Recurrent layers: one matrix product over all steps for the inputs, then one kernel for the steps.
//!
//! `x * w` of every step and direction goes through the contraction template. A tile of the second kernel is a direction
//! and a few batch rows; it walks the steps in order. A step has two parts: the sums over the last state, for which the
//! recurrence weights are packed at compile time as `[direction][panel][k][gate][panel width]` and read front to back, and
//! the cell, elementwise over the hidden units. State and sums live in scratch memory in the type the op computes in.
//!
//! On a GPU a tile is a block: its threads divide the hidden units among them and meet at barriers, state and sums are in
//! shared memory, and a panel is as wide as the hidden units, so that neighbouring threads read neighbouring weights.
//!
//! Every sum is one chain of multiply-adds in order, as the op says, so `exact` and `fast` share the kernel. Rows, gates
//! and panel width make at least 8 chains. Limit: the recurrence weights come from the second-level cache once a step for
//! every group of rows.

mod steps;

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::WARP;
use xlac_ir::ops::Rnn;
use xlac_ir::ops::rnn::Cell;
use xlac_ir::ops::rnn::cell::Step;

use crate::CompileError;
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::{contract, map};
use crate::lower::{Cost, Lowering, bytes};
use crate::memory::hint;
use crate::pack::{Blob, Pack, Strided};
use crate::plan::Storage;
use crate::view::{Layout, View};

/// Lowers a recurrent layer.
pub fn lower(l: &mut Lowering, group: &Group, op: &Rnn) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let lstm = op.cell == Cell::Lstm;
    let dtype = l.g.ty(node.inputs[0]).dtype;
    let outputs: Vec<Option<Place>> =
        node.outputs.iter().map(|&v| group.exits.contains(&v).then(|| l.place_exit(v))).collect();
    let [t, n, _] = &l.g.ty(node.inputs[0]).shape.clone()[..] else { unreachable!("x has three axes") };
    if op.hidden == 0 || n.is(0) {
        return Ok(());
    }
    let acc = dtype.compute();
    let shape = Shape::choose(l, op, n, acc);
    let xw = input_products(l, group, op, acc)?;
    let r = packed(l, node.inputs[2], &shape, acc);
    let mut place = |at: usize| l.access(node.inputs[at]);
    let operands = Operands {
        r,
        b: place(3),
        h0: place(4),
        c0: lstm.then(|| place(5)),
        p: lstm.then(|| place(6)),
        lengths: op.lengths.then(|| place(node.inputs.len() - 1)),
        xw,
    };
    let team = team(l, &shape, acc);
    let layer = Layer { op, t: t.clone(), n: n.clone(), dtype, acc, shape, masked: l.target.masked_memory, team };
    let steps: Vec<Step> = (0..op.directions()).map(|d| Step::new(op, d)).collect();
    // Directions with equal activations are tiles of one kernel.
    if steps.iter().all(|s| *s == steps[0]) {
        layer.launch(l, group, &operands, &outputs, &steps[0], None);
    } else {
        for (d, step) in steps.iter().enumerate() {
            layer.launch(l, group, &operands, &outputs, step, Some(d));
        }
    }
    Ok(())
}

/// Sizes of the recurrence.
#[derive(Clone, Copy, Debug)]
struct Shape {
    directions: usize,
    gates: usize,
    hidden: usize,
    lanes: u32,
    /// Vectors of a panel.
    vectors: u32,
    panels: usize,
    /// Batch rows of a tile.
    rows: usize,
}

impl Shape {
    fn choose(l: &Lowering, op: &Rnn, n: &Dim, acc: DType) -> Shape {
        if l.target.is_gpu() {
            return Shape::of_blocks(l, op, n);
        }
        let full = l.target.lanes(acc) as usize;
        let (directions, gates, hidden) = (op.directions(), op.cell.gates(), op.hidden);
        let lanes = if hidden < full { hidden.next_power_of_two() } else { full };
        // A few tiles for the pool come first, then rows that share the weights in registers.
        let rows = n.as_const().map_or(1, |n| (n as usize * directions).div_ceil(4).clamp(1, 4).min(n as usize));
        let budget = (l.target.vector_registers as usize).saturating_sub(4).max(1);
        let at_once = two_parts(op).map_or(gates, |(first, _)| first.len());
        let count = hidden.div_ceil(lanes);
        let most = (budget / (rows * at_once)).clamp(1, 8).min(count);
        let waste = |v: usize| count.div_ceil(v) * v;
        // Among the widths that waste least, those with 8 chains first.
        let enough = |v: usize| (v * rows * at_once).min(8);
        let vectors = (1..=most).max_by_key(|&v| (enough(v), std::cmp::Reverse(waste(v)), v)).unwrap_or(1);
        let panels = count.div_ceil(vectors);
        Shape { directions, gates, hidden, lanes: lanes as u32, vectors: vectors as u32, panels, rows }
    }

    /// For blocks of threads: one panel, and as few rows as make enough blocks. No row is that of two tiles, which would
    /// both store its results.
    fn of_blocks(l: &Lowering, op: &Rnn, n: &Dim) -> Shape {
        let (directions, gates, hidden) = (op.directions(), op.cell.gates(), op.hidden);
        let blocks = l.target.gpu.map_or(1, |g| g.multiprocessors as usize);
        let most = n.as_const().map_or(1, |n| (n as usize * directions).div_ceil(blocks).clamp(1, 4));
        let rows = (1..=most).rev().find(|rows| n.as_const().is_some_and(|n| n as usize % rows == 0)).unwrap_or(1);
        Shape { directions, gates, hidden, lanes: 1, vectors: hidden as u32, panels: 1, rows }
    }

    /// Hidden units of a panel.
    fn width(&self) -> usize { self.lanes as usize * self.vectors as usize }

    /// Hidden units with the padding of the last panel.
    fn padded(&self) -> usize { self.panels * self.width() }
}

/// Threads of a tile on a GPU, if the state and the sums of its rows fit into shared memory.
fn team(l: &Lowering, shape: &Shape, acc: DType) -> Option<u32> {
    let bytes = shape.rows * shape.hidden * (3 + shape.gates) * acc.size() + 4 * 128;
    let fits = l.target.gpu.is_some_and(|g| bytes <= g.shared_bytes as usize);
    fits.then(|| (shape.hidden as u32).next_multiple_of(WARP).min(512))
}

/// The gates before and after the reset of a GRU's state, where that comes before the matrix product.
fn two_parts(op: &Rnn) -> Option<([usize; 2], [usize; 1])> {
    (op.cell == Cell::Gru && !op.linear_before_reset).then_some(([0, 1], [2]))
}

/// `x * w` of all steps: `[D, T, N, G*H]`, one product for each direction. Steps and batch lie in memory as they do in `x`, so
/// that they are one axis of rows: either may be of one.
fn input_products(l: &mut Lowering, group: &Group, op: &Rnn, acc: DType) -> Result<Place, CompileError> {
    let node = l.anchor(group);
    let (x, w) = (l.access(node.inputs[0]), l.access(node.inputs[1]));
    let x_shape = l.g.ty(node.inputs[0]).shape.clone();
    let cols = Dim::from(op.cell.gates() * op.hidden);
    let batch_first = hint(&x.view.strides[1]) > hint(&x.view.strides[0]);
    let order = if batch_first { [1, 0] } else { [0, 1] };
    let rows = order.map(|axis| x_shape[axis].clone());
    let shape = [Dim::from(op.directions()), rows[0].clone(), rows[1].clone(), cols.clone()];
    let buffer = l.buffer(Storage::Temp, bytes(&shape, acc));
    let whole = Place { buffer, view: View::dense(&shape, Layout::RowMajor), dtype: acc };
    let operand = Place { view: x.view.transpose(&[order[0], order[1], 2]), ..x };
    for d in 0..op.directions() {
        let part = |place: &Place| View {
            offset: &place.view.offset + &(&place.view.strides[0] * &Dim::from(d)),
            strides: place.view.strides[1..].to_vec(),
        };
        let to = Place { view: part(&whole), ..whole.clone() };
        let weights = part(&w);
        // Axes of the second operand: k, then the columns.
        let strides = vec![weights.strides[1].clone(), weights.strides[0].clone()];
        let weights = Place { view: View { strides, ..weights }, ..w.clone() };
        contract::product(l, group, (&rows, &x_shape[2], &cols), operand.clone(), weights, to)?;
    }
    Ok(Place { view: whole.view.transpose(&[0, 1 + order[0], 1 + order[1], 3]), ..whole })
}

/// The recurrence weights as `[direction][panel][k][gate][width]`, zeros beyond the hidden units.
fn packed(l: &mut Lowering, r: ValueId, shape: &Shape, acc: DType) -> Place {
    let place = l.access(r);
    let dims = [shape.directions, shape.panels, shape.hidden, shape.gates, shape.width()];
    let (s, h) = (&place.view.strides, Dim::from(shape.hidden));
    let strides = [s[0].clone(), &s[1] * &Dim::from(shape.width()), s[2].clone(), &s[1] * &h, s[1].clone()];
    let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok());
    let constant = match l.plan.buffers[place.buffer.0 as usize].storage {
        Storage::Blob(index) => strides.iter().map(size).collect::<Option<Vec<_>>>().zip(size(&place.view.offset)).map(
            |(strides, offset)| Blob {
                source: l.plan.blobs[index as usize].source.clone(),
                pack: Pack::Strided(Strided { shape: dims.to_vec(), strides, offset, limits: vec![(1, 4, shape.hidden)] }),
                dtype: acc,
            },
        ),
        _ => None,
    };
    let view = View { offset: Dim::ZERO, strides: Vec::new() };
    if let Some(blob) = constant {
        return Place { buffer: l.blob(blob), view, dtype: acc };
    }
    let dims = dims.map(Dim::from);
    let buffer = l.buffer(Storage::Temp, bytes(&dims, acc));
    let to = Place { buffer, view, dtype: acc };
    pack_kernel(l, &place, &strides, &to, &dims, shape);
    to
}

/// Packs computed recurrence weights.
fn pack_kernel(l: &mut Lowering, from: &Place, strides: &[Dim], to: &Place, dims: &[Dim], shape: &Shape) {
    let mut kb = Kb::new("rnn_pack");
    let (src, dst) = (kb.read(from), kb.write(to));
    let dense = View::dense(dims, Layout::RowMajor).strides;
    let tiles = map::nest(&mut kb, dims, 1, l.walk(), |kb, index, _, _| {
        let first = kb.k.mul_int(index[1], shape.width() as i64);
        let unit = kb.k.add(first, index[4]);
        let hidden = kb.k.int(shape.hidden as i64);
        // None to read beyond the hidden units.
        let left = kb.k.sub(hidden, unit);
        let at = kb.address(&index, strides);
        let x = kb.k.load(src, at, 0, 1, Some(left));
        let x = kb.k.convert(x, to.dtype);
        let there = kb.address(&index, &dense);
        kb.k.store(dst, there, 0, x, None);
    });
    let traffic = &Dim::product(dims) * &Dim::from(8i64);
    let tile_ns = traffic.floor_div(&Dim::from(4i64)).floor_div(&tiles.at_least(&Dim::ONE));
    l.launch(kb, tiles, Cost { tile_ns, flops: Dim::ZERO, traffic }, &Default::default());
}

/// Where the operands of the recurrence lie.
struct Operands {
    /// `[D, T, N, G*H]`.
    xw: Place,
    /// Packed.
    r: Place,
    b: Place,
    h0: Place,
    c0: Option<Place>,
    p: Option<Place>,
    lengths: Option<Place>,
}

/// A layer to be built.
struct Layer<'a> {
    op: &'a Rnn,
    t: Dim,
    n: Dim,
    /// Element type of the operands and results.
    dtype: DType,
    /// Type it is computed in.
    acc: DType,
    shape: Shape,
    masked: bool,
    /// Threads of a tile, if more than one.
    team: Option<u32>,
}
