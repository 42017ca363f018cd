//! Depthwise convolution on processors: blocks of output pixels in registers, channels in the lanes.
//!
//! A tile task computes a few neighbouring rows of output pixels for a chunk of channels. It walks them in blocks of rows and
//! columns that fit in registers, and for each block over the vectors of channels, so that memory is read along channels,
//! which lie next to each other, from addresses a constant apart. An input vector is loaded once for all the outputs of a
//! block that a row of it takes part in: the second-level cache, not the multipliers, would be the limit otherwise. Every
//! output takes its terms in row-major order of the window, one fused multiply-add each, which both contracts want.
//!
//! Padding along rows is not stored: input rows that do not exist are left out, which saves their multiply-adds too. Those are
//! many where a map is only a few rows high. Padding along columns is stored.
//!
//! Groups may have several outputs: the lanes are output channels then, and input vectors hold each channel as often.

mod size;

use std::collections::hash_map::Entry;

use xlac_ir::graph::Node;
use xlac_ir::ops::Conv;

use super::*;
use crate::pack::{Blob, Pack, Strided};
use crate::plan::Storage;
use crate::view::View;

pub use size::block_size;

/// Bytes of weights that a tile reads again for each block: half of a first-level cache.
const WEIGHT_BYTES: i64 = 16 << 10;
/// Tiles below which rows are cut into chunks of channels, so that there is work for every thread.
const FEW_TILES: i64 = 16;

/// True for convolutions with one input channel per group and constant weights, if their outputs per group fill vectors.
pub fn is_depthwise(l: &Lowering, node: &Node, op: &Conv) -> bool {
    let w = node.inputs[1];
    let Some(shape) = l.g.ty(w).fixed_shape() else { return false };
    let one_input = op.groups > 1 && shape[1] == 1 && l.g.weight(w).is_some() && op.out.is_float();
    let multiple = shape[0] / op.groups.max(1);
    one_input && (multiple == 1 || by_blocks(l, &shape) && (l.target.lanes(op.out) as usize).is_multiple_of(multiple))
}

/// True if a convolution with weights of this shape is computed in blocks of pixels.
fn by_blocks(l: &Lowering, weights: &[usize]) -> bool {
    !l.target.is_gpu() && weights[2..].iter().product::<usize>() <= UNROLL
}

/// The spatial axis whose padding is not stored for a convolution that reads a channels-last input, if there is one.
///
/// A product with a zero of the padding leaves a sum as it is only if its weight is finite.
pub fn axis_left_out(l: &Lowering, node: &Node, op: &Conv) -> Option<usize> {
    let axis = op.strides.len().checked_sub(2)?;
    if op.before[axis].is(0) && op.after[axis].is(0) {
        return None;
    }
    let weight = l.g.weight(node.inputs[1])?;
    let applies = is_depthwise(l, node, op) && by_blocks(l, &l.g.ty(node.inputs[1]).fixed_shape()?);
    (applies && l.weights.get(weight).tensor.to_f64().iter().all(|w| w.is_finite())).then_some(axis)
}

/// The input of a depthwise convolution with its padding, and for each spatial axis the range of padded coordinates that
/// exist; no ranges if all do.
fn input(l: &mut Lowering, node: &Node, op: &Conv) -> (Place, Vec<(Dim, Dim)>) {
    let x = node.inputs[0];
    let is_last = l.access(x).view.strides[1].is(1);
    let Some(axis) = axis_left_out(l, node, op).filter(|_| is_last) else {
        return (contract::padded(l, x, &op.before, &op.after), Vec::new());
    };
    let (mut before, mut after) = (op.before.clone(), op.after.clone());
    (before[axis], after[axis]) = (Dim::ZERO, Dim::ZERO);
    let place = contract::padded(l, x, &before, &after);
    let size = |s: usize| &(&l.g.ty(x).shape[2 + s] + &op.before[s]) + &op.after[s];
    let mut inside: Vec<(Dim, Dim)> = (0..op.strides.len()).map(|s| (Dim::ZERO, size(s))).collect();
    inside[axis] = (op.before[axis].clone(), &op.before[axis] + &l.g.ty(x).shape[2 + axis]);
    (place, inside)
}

/// Lowers a depthwise convolution with its epilogue.
pub fn depthwise(l: &mut Lowering, group: &Group, op: &Conv) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let shape = l.g.ty(node.inputs[1]).fixed_shape().expect("constant weights have a fixed shape");
    let (x, inside) = input(l, node, op);
    let plain = l.access(node.inputs[1]);
    let Storage::Blob(index) = l.plan.buffers[plain.buffer.0 as usize].storage else {
        unreachable!("weights are constant data")
    };
    let source = l.plan.blobs[index as usize].source.clone();
    let kernel = shape[2..].to_vec();
    let positions: usize = kernel.iter().product();
    let pack = if by_blocks(l, &shape) {
        blocked(shape[0], positions, l.target.lanes(op.out) as usize)
    } else {
        Strided { shape: vec![positions, shape[0]], strides: vec![1, positions], offset: 0, limits: Vec::new() }
    };
    let buffer = l.blob(Blob { source, pack: Pack::Strided(pack), dtype: op.out.compute() });
    let weights = Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype: op.out.compute() };
    let spec = Spec {
        combine: Combine::Weighted,
        kernel,
        strides: op.strides.clone(),
        dilations: op.dilations.clone(),
        x,
        weights: Some(weights),
        bounds: Vec::new(),
        inside,
        multiple: (shape[0] / op.groups) as i64,
    };
    emit(l, group, spec)
}

/// Weights as `[vector of channels][position][lane]`, with zeros beyond the last channel: those of a vector lie in few cache
/// lines next to each other. At the distance of the channels, often a power of two, they would share sets of the cache with
/// each other and with the input.
fn blocked(channels: usize, positions: usize, lanes: usize) -> Strided {
    Strided {
        shape: vec![channels.div_ceil(lanes), positions, lanes],
        strides: vec![lanes * positions, 1, positions],
        offset: 0,
        limits: vec![(0, 2, channels)],
    }
}

/// Everything the loops need.
pub(super) struct Block<'a> {
    pub g: &'a Graph,
    pub anchor: ValueId,
    pub spec: Spec,
    pub acc: DType,
    pub dtype: DType,
    /// Batch and spatial axes, in order.
    pub space: Vec<Dim>,
    pub channels: Dim,
    pub x: Buf,
    pub w: Buf,
    pub leaves: HashMap<ValueId, Leaf>,
    pub outs: Vec<Out>,
    pub lanes: u32,
    /// Lanes of a whole vector.
    pub full: i64,
    pub masked: bool,
    /// Rows and columns of a block.
    pub size: (i64, i64),
}

/// The outputs computed at once: the first row and column, and how many of each.
#[derive(Clone, Copy)]
struct Part {
    at: (Val, Val),
    size: (i64, i64),
    input: Rows,
}

/// The input rows of a block that exist.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    /// All.
    All,
    /// Those from the first to before the second of the block.
    Known(i64, i64),
    /// To be found when the kernel runs.
    Some,
}

/// A vector of output channels: the first, the lanes, and how many are valid.
#[derive(Clone, Copy)]
struct Lanes {
    first: Val,
    n: u32,
    count: Option<Val>,
}

impl Block<'_> {
    /// Emits the whole kernel; returns the number of tiles.
    pub(super) fn emit(&self, kb: &mut Kb) -> Dim {
        let (outer, rows) = self.split();
        let row_blocks = rows.map_or(Dim::ONE, |n| n.ceil_div(&Dim::from(self.size.0)));
        let chunk = self.chunk(&(&Dim::product(outer) * &row_blocks));
        let chunks = self.channels.ceil_div(&Dim::from(chunk));
        // Rows first, as in other kernels: a thread then finds most of its input where it wrote it.
        let grid = [outer, &[row_blocks, chunks]].concat();
        let number = kb.k.tile();
        let mut index = kb.unflatten(number, &grid);
        let part = index.pop().expect("a chunk of channels");
        let row = index.pop().expect("a block of rows");
        let row = kb.k.mul_int(row, self.size.0);
        let from = kb.k.mul_int(part, chunk);
        let channels = kb.dim(&self.channels);
        let to = kb.k.add_int(from, chunk);
        let to = kb.min(to, channels);
        self.rows(kb, &index, row, (from, to));
        Dim::product(&grid)
    }

    /// Axes that tiles number, and the axis of rows if there is more than one spatial axis.
    fn split(&self) -> (&[Dim], Option<&Dim>) {
        let (_, outer) = self.space.split_last().expect("a spatial axis");
        match outer {
            [_] => (outer, None),
            [outer @ .., rows] => (outer, Some(rows)),
            [] => unreachable!("there is a batch axis"),
        }
    }

    /// Channels a tile computes.
    fn chunk(&self, tiles: &Dim) -> i64 {
        let lanes = i64::from(self.lanes);
        let positions = self.spec.kernel.iter().product::<usize>() as i64;
        let channels = hint(&self.channels).max(1);
        let fits = WEIGHT_BYTES / (positions * self.acc.size() as i64);
        let most = channels / (FEW_TILES / hint_of_one(tiles, self.space[0].as_symbol()).max(1)).max(1);
        let vectors = fits.min(most).max(4 * lanes).min(channels).max(1);
        // Chunks of about the same size.
        let chunks = (channels + vectors - 1) / vectors;
        ((channels + chunks - 1) / chunks + lanes - 1) / lanes * lanes
    }

    /// A block of rows from `row` on, for a range of channels.
    fn rows(&self, kb: &mut Kb, outer: &[Val], row: Val, channels: (Val, Val)) {
        let (_, rows) = self.split();
        let one = Dim::ONE;
        let (rows, columns) = (rows.unwrap_or(&one), self.space.last().expect("a spatial axis"));
        let fits = |d: &Dim, n: i64| n == 1 || d.as_const().is_some_and(|d| d >= n);
        if fits(rows, self.size.0) && fits(columns, self.size.1) {
            self.blocks(kb, outer, row, (rows, columns), channels);
            return;
        }
        let (height, width) = (kb.dim(rows), kb.dim(columns));
        let (least_rows, least_columns) = (kb.k.int(self.size.0), kb.k.int(self.size.1));
        let high = kb.k.cmp(Pred::Ge, height, least_rows);
        let wide = kb.k.cmp(Pred::Ge, width, least_columns);
        let enough = kb.k.bin(BinOp::And, high, wide);
        let mut open = kb.k.begin_if(enough);
        self.blocks(kb, outer, row, (rows, columns), channels);
        kb.k.begin_else(&mut open, &[]);
        let zero = kb.k.int(0);
        let end = kb.k.add_int(row, self.size.0);
        let end = kb.min(end, height);
        let input = if self.range_of_rows().is_some() { Rows::Some } else { Rows::All };
        let each_row = kb.k.begin_for((row, end, 1), &[], LoopHint::Plain);
        let each = kb.k.begin_for((zero, width, 1), &[], LoopHint::Plain);
        self.channels(kb, outer, Part { at: (each_row.var, each.var), size: (1, 1), input }, channels);
        kb.k.end_for(each, &[]);
        kb.k.end_for(each_row, &[]);
        kb.k.end_if(open, &[]);
    }

    /// Whole blocks: the last ones overlap those before them.
    fn blocks(&self, kb: &mut Kb, outer: &[Val], row: Val, (rows, columns): (&Dim, &Dim), channels: (Val, Val)) {
        let height = kb.dim(rows);
        let limit = kb.k.add_int(height, -self.size.0);
        let row = kb.min(row, limit);
        let Some((lo, hi)) = self.range_of_rows() else {
            return self.columns(kb, outer, (row, Rows::All), columns, channels);
        };
        let span = self.span(self.size.0);
        if let (true, Some(lo), Some(hi)) = (rows.is(self.size.0), lo.as_const(), hi.as_const()) {
            let known = if lo <= 0 && span <= hi { Rows::All } else { Rows::Known(lo, hi) };
            return self.columns(kb, outer, (row, known), columns, channels);
        }
        let first = kb.k.mul_int(row, self.step().0);
        let end = kb.k.add_int(first, span);
        let (lo, hi) = (kb.dim(lo), kb.dim(hi));
        let (starts, ends) = (kb.k.cmp(Pred::Ge, first, lo), kb.k.cmp(Pred::Le, end, hi));
        let all = kb.k.bin(BinOp::And, starts, ends);
        let mut open = kb.k.begin_if(all);
        self.columns(kb, outer, (row, Rows::All), columns, channels);
        kb.k.begin_else(&mut open, &[]);
        self.columns(kb, outer, (row, Rows::Some), columns, channels);
        kb.k.end_if(open, &[]);
    }

    /// The blocks of some rows, and which of their input exist.
    fn columns(&self, kb: &mut Kb, outer: &[Val], (row, input): (Val, Rows), columns: &Dim, channels: (Val, Val)) {
        let (width, zero) = (kb.dim(columns), kb.k.int(0));
        let limit = kb.k.add_int(width, -self.size.1);
        let open = kb.k.begin_for((zero, width, self.size.1), &[], LoopHint::Plain);
        let column = kb.min(open.var, limit);
        self.channels(kb, outer, Part { at: (row, column), size: self.size, input }, channels);
        kb.k.end_for(open, &[]);
    }

    /// The padded coordinates of the input rows that exist, if not all do.
    fn range_of_rows(&self) -> Option<&(Dim, Dim)> { self.spec.inside.get(self.spec.kernel.len().checked_sub(2)?) }

    /// Stride and dilation of rows.
    fn step(&self) -> (i64, i64) {
        let axis = self.spec.kernel.len() - 2;
        (self.spec.strides[axis] as i64, self.spec.dilations[axis] as i64)
    }

    /// Input rows from the first to the last that so many rows of outputs read.
    fn span(&self, rows: i64) -> i64 {
        let (step, dilation) = self.step();
        (rows - 1) * step + (self.spec.kernel[self.spec.kernel.len() - 2] as i64 - 1) * dilation + 1
    }

    /// One block for every vector of a range of channels.
    fn channels(&self, kb: &mut Kb, outer: &[Val], part: Part, (from, to): (Val, Val)) {
        let exact = self.channels.as_const().is_some_and(|c| c % i64::from(self.lanes) == 0);
        map::vector_loop(kb, (from, to, exact), self.lanes, self.masked, |kb, first, n, count| {
            let lanes = Lanes { first, n, count };
            let accs = self.sums(kb, outer, part, lanes);
            self.finish(kb, outer, part, lanes, &accs);
        });
    }

    /// The sums of a block, row by row.
    fn sums(&self, kb: &mut Kb, outer: &[Val], part: Part, lanes: Lanes) -> Vec<Val> {
        let spatial = self.spec.kernel.len();
        let base = self.base(kb, outer, part, lanes);
        let mut accs = vec![kb.k.splat_const(Const::number(self.acc, 0.0), lanes.n); (part.size.0 * part.size.1) as usize];
        if spatial == 1 {
            self.input_row(kb, base, &[(0, 0)], part.size.1, lanes, &mut accs);
            return accs;
        }
        let (height, width) = (self.spec.kernel[spatial - 2] as i64, self.spec.kernel[spatial - 1] as i64);
        let (step, dilation) = self.step();
        let outermost = self.spec.kernel[..spatial - 2].to_vec();
        let mut first = 0;
        xlac_ir::tensor::for_each_index(&outermost, |index| {
            let mut plane = base;
            for (axis, &k) in index.iter().enumerate() {
                plane = self.along(kb, plane, axis, (k * self.spec.dilations[axis]) as i64);
            }
            for row in 0..self.span(part.size.0) {
                // Output rows this input row takes part in, and where the window's row it is to them begins.
                let into = |o: i64| (row - o * step) / dilation;
                let users: Vec<(i64, i64)> = (0..part.size.0)
                    .filter(|&o| (row - o * step) % dilation == 0 && (0..height).contains(&into(o)))
                    .map(|o| (o, first + into(o) * width))
                    .collect();
                if !users.is_empty() {
                    let at = self.along(kb, plane, spatial - 2, row);
                    self.row_if_any(kb, (part, row), &mut accs, |kb, accs| {
                        self.input_row(kb, at, &users, part.size.1, lanes, accs);
                    });
                }
            }
            first += height * width;
        });
        accs
    }

    /// Adds what `body` adds for an input row of a block if there is that row.
    fn row_if_any(&self, kb: &mut Kb, (part, row): (Part, i64), accs: &mut Vec<Val>, body: impl FnOnce(&mut Kb, &mut [Val])) {
        let (lo, hi) = match part.input {
            Rows::All => return body(kb, accs),
            Rows::Known(lo, hi) if (lo..hi).contains(&row) => return body(kb, accs),
            Rows::Known(..) => return,
            Rows::Some => self.range_of_rows().expect("rows are left out"),
        };
        let first = kb.k.mul_int(part.at.0, self.step().0);
        let at = kb.k.add_int(first, row);
        let (lo, hi) = (kb.dim(lo), kb.dim(hi));
        let is_there = kb.within(at, lo, hi);
        let before = accs.clone();
        let mut open = kb.k.begin_if(is_there);
        body(kb, accs);
        kb.k.begin_else(&mut open, accs);
        *accs = kb.k.end_if(open, &before);
    }

    /// Adds the products of an input row to the output rows that use it: `(output row, first position of the window)`.
    fn input_row(&self, kb: &mut Kb, at: Val, users: &[(i64, i64)], width: i64, lanes: Lanes, accs: &mut [Val]) {
        let last = self.spec.kernel.len() - 1;
        let (step, dilation) = (self.spec.strides[last] as i64, self.spec.dilations[last] as i64);
        let mut columns: HashMap<i64, Val> = HashMap::new();
        for k in 0..self.spec.kernel[last] as i64 {
            for t in 0..width {
                let column = t * step + k * dilation;
                if let Entry::Vacant(slot) = columns.entry(column) {
                    let at = self.along(kb, at, last, column);
                    slot.insert(self.input(kb, at, lanes));
                }
            }
            for &(row, first) in users {
                let w = self.weight(kb, first + k, lanes);
                for t in 0..width {
                    let acc = &mut accs[(row * width + t) as usize];
                    *acc = kb.k.fma(columns[&(t * step + k * dilation)], w, *acc);
                }
            }
        }
    }

    /// Address of the first input element of a block.
    fn base(&self, kb: &mut Kb, outer: &[Val], part: Part, lanes: Lanes) -> Val {
        let s = &self.spec.x.view.strides;
        let spatial = self.spec.kernel.len();
        let mut strides = vec![s[0].clone()];
        strides.extend((0..spatial).map(|i| &s[2 + i] * &Dim::from(self.spec.strides[i])));
        strides.push(s[1].clone());
        let group = self.group(kb, lanes.first);
        let index = [&self.pixel(outer, part.at)[..], &[group]].concat();
        let at = kb.address(&index, &strides);
        // Padded coordinates count from the padding.
        let padding = self.spec.inside.iter().zip(&s[2..]).fold(Dim::ZERO, |sum, ((before, _), s)| &sum + &(before * s));
        let padding = kb.dim(&padding);
        kb.k.sub(at, padding)
    }

    /// Index of a pixel: without rows there is one spatial axis only.
    fn pixel(&self, outer: &[Val], (row, column): (Val, Val)) -> Vec<Val> {
        if self.spec.kernel.len() == 1 { [outer, &[column]].concat() } else { [outer, &[row, column]].concat() }
    }

    /// The group of an output channel.
    fn group(&self, kb: &mut Kb, channel: Val) -> Val {
        if self.spec.multiple == 1 {
            return channel;
        }
        let multiple = kb.k.int(self.spec.multiple);
        kb.k.bin(BinOp::Div, channel, multiple)
    }

    /// An address `n` input elements further along a spatial axis.
    fn along(&self, kb: &mut Kb, at: Val, axis: usize, n: i64) -> Val {
        let stride = kb.dim(&self.spec.x.view.strides[2 + axis]);
        let shift = kb.k.mul_int(stride, n);
        kb.k.add(at, shift)
    }

    /// Input elements for a vector of output channels.
    fn input(&self, kb: &mut Kb, at: Val, lanes: Lanes) -> Val {
        if lanes.n == 1 {
            let x = kb.k.load(self.x, at, 0, 1, None);
            return kb.k.convert(x, self.acc);
        }
        let stride = kb.dim(&self.spec.x.view.strides[1]);
        let count = lanes.count.map(|n| self.group(kb, n));
        let x = kb.k.load_strided(self.x, at, stride, lanes.n / self.spec.multiple as u32, count);
        let x = kb.k.convert(x, self.acc);
        repeat(kb, x, self.spec.multiple as u32)
    }

    /// Weights of a vector of output channels, which are laid out by [`blocked`].
    fn weight(&self, kb: &mut Kb, position: i64, lanes: Lanes) -> Val {
        let (width, positions) = (self.full, self.spec.kernel.iter().product::<usize>() as i64);
        let at = if i64::from(lanes.n) == width {
            kb.k.mul_int(lanes.first, positions)
        } else {
            let full = kb.k.int(width);
            let lane = kb.k.bin(BinOp::Rem, lanes.first, full);
            let vector = kb.k.sub(lanes.first, lane);
            let vector = kb.k.mul_int(vector, positions);
            kb.k.add(vector, lane)
        };
        let at = kb.k.add_int(at, position * width);
        kb.k.load(self.w, at, 0, lanes.n, lanes.count)
    }

    /// Stores the results of a block.
    fn finish(&self, kb: &mut Kb, outer: &[Val], part: Part, lanes: Lanes, accs: &[Val]) {
        let (_, width) = part.size;
        for (i, &acc) in accs.iter().enumerate() {
            let i = i as i64;
            let at = (kb.k.add_int(part.at.0, i / width), kb.k.add_int(part.at.1, i % width));
            let index = [&self.pixel(outer, at)[..], &[lanes.first]].concat();
            let known = HashMap::from([(self.anchor, kb.k.convert(acc, self.dtype))]);
            let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes: lanes.n, count: lanes.count, known };
            point.store(kb, &self.outs);
        }
    }
}

/// Every lane `times` times in a row.
fn repeat(kb: &mut Kb, x: Val, times: u32) -> Val {
    if times == 1 {
        return x;
    }
    let mut parts: Vec<Val> = (0..kb.k.ty(x).lanes)
        .map(|lane| {
            let one = kb.k.extract(x, lane);
            kb.k.widen(one, times)
        })
        .collect();
    while parts.len() > 1 {
        parts = parts.chunks(2).map(|pair| if let [a, b] = *pair { kb.k.concat(a, b) } else { pair[0] }).collect();
    }
    parts[0]
}
