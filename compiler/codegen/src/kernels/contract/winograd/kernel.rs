//! The loops of a convolution by short algorithms.

use super::*;
use crate::kernels::contract::sum::{Start, Sum};

/// Everything the loops need. Index order of results and operands: image, spatial axes, channel.
pub(super) struct Emitter<'a> {
    pub g: &'a Graph,
    pub anchor: ValueId,
    pub dtype: DType,
    pub scheme: Scheme,
    pub batch: Dim,
    /// Sizes of the result's spatial axes.
    pub sizes: Vec<Dim>,
    pub channels: Dim,
    pub cols: Dim,
    pub x: Buf,
    pub x_strides: Vec<Dim>,
    /// Padding before and size of the operand's spatial axes, if tiles reach out of it.
    pub bounds: Option<(Vec<Dim>, Vec<Dim>)>,
    pub filters: Buf,
    pub lanes: u32,
    pub masked: bool,
    pub unroll: u32,
    pub leaves: HashMap<ValueId, Leaf>,
    pub outs: Vec<Out>,
}

/// Scratch memory of a tile task.
struct Scratch {
    /// Transformed operands: `[product][tile][channel]`.
    x: Buf,
    /// Elements from tile to tile, and from product to product.
    x_tile: Dim,
    x_product: Dim,
    /// Products: `[product][tile][column]`.
    y: Buf,
    y_product: i64,
    /// Results of a tile: `[result][column]`.
    tile: Buf,
}

/// A tile of results: image, first result along each spatial axis.
struct Corner {
    image: Val,
    first: Vec<Val>,
}

impl Emitter<'_> {
    /// Emits the kernel; returns the number of tile tasks.
    pub fn emit(&self, kb: &mut Kb) -> Dim {
        let s = &self.scheme;
        let scratch = self.scratch(kb);
        let grid = [std::slice::from_ref(&self.batch), &s.tiles(&self.sizes)].concat();
        let total = Dim::product(&grid);
        let panels = self.cols.ceil_div(&Dim::from(s.tile.nr()));
        let chunks = panels.ceil_div(&Dim::from(s.panels));
        let blocks = total.ceil_div(&Dim::from(s.block()));
        let number = kb.k.tile();
        let index = kb.unflatten(number, &[blocks.clone(), chunks.clone()]);
        let first = kb.k.mul_int(index[0], s.block());
        let all = kb.dim(&total);
        let left = kb.k.sub(all, first);
        let block = kb.k.int(s.block());
        let count = kb.min(left, block);
        let mr = i64::from(s.tile.mr);
        let up = kb.k.add_int(count, mr - 1);
        let mr_value = kb.k.int(mr);
        let row_tiles = kb.k.bin(BinOp::Div, up, mr_value);
        let rows = kb.k.mul_int(row_tiles, mr);
        let zero = kb.k.int(0);

        let each = kb.k.begin_for((zero, rows, 1), &[], LoopHint::Plain);
        // Rows that only fill the last register tile repeat the last tile.
        let q = kb.k.add(first, each.var);
        let last = kb.k.add_int(all, -1);
        let q = kb.min(q, last);
        let corner = self.corner(kb, q, &grid);
        self.transform_operand(kb, &scratch, each.var, &corner);
        kb.k.end_for(each, &[]);

        let from = kb.k.mul_int(index[1], s.panels);
        let to = kb.k.add_int(from, s.panels);
        let end = kb.dim(&panels);
        let to = kb.min(to, end);
        let panel = kb.k.begin_for((from, to, 1), &[], LoopHint::Plain);
        self.multiply(kb, &scratch, panel.var, row_tiles);
        let each = kb.k.begin_for((zero, count, 1), &[], LoopHint::Plain);
        let q = kb.k.add(first, each.var);
        let corner = self.corner(kb, q, &grid);
        self.transform_results(kb, &scratch, each.var, &corner, panel.var);
        kb.k.end_for(each, &[]);
        kb.k.end_for(panel, &[]);
        &blocks * &chunks
    }

    fn scratch(&self, kb: &mut Kb) -> Scratch {
        let s = &self.scheme;
        let lanes = i64::from(self.lanes);
        let results: i64 = s.axes.iter().map(|a| a.m as i64).product();
        // An odd number of vectors from tile to tile: powers of two would meet in few sets of the cache.
        let vectors = self.channels.ceil_div(&Dim::from(lanes));
        let odd = &(&vectors.floor_div(&Dim::from(2i64)) * &Dim::from(2i64)) + &Dim::ONE;
        let x_tile = &odd * &Dim::from(lanes);
        let x_product = &(&x_tile * &Dim::from(s.block())) + &Dim::from(lanes);
        let y_product = s.block() * s.tile.nr() + lanes;
        Scratch {
            x: kb.scratch("operands", DType::F32, &(&x_product * &Dim::from(s.products()))),
            x_tile,
            x_product,
            y: kb.scratch("products", DType::F32, &Dim::from(y_product * s.products())),
            y_product,
            tile: kb.scratch("results", DType::F32, &Dim::from(results * s.tile.nr())),
        }
    }

    fn corner(&self, kb: &mut Kb, q: Val, grid: &[Dim]) -> Corner {
        let index = kb.unflatten(q, grid);
        let mut first = Vec::new();
        for (axis, (&step, &t)) in self.scheme.axes.iter().zip(self.scheme.steps.iter().zip(&index[1..])) {
            // Tiles of a dilated filter interleave.
            let divisor = kb.k.int(step);
            let (span, phase) = (kb.k.bin(BinOp::Div, t, divisor), kb.k.bin(BinOp::Rem, t, divisor));
            let start = kb.k.mul_int(span, axis.m as i64 * step);
            first.push(kb.k.add(start, phase));
        }
        Corner { image: index[0], first }
    }

    /// Transforms the operands of one tile: row `row` of the block.
    fn transform_operand(&self, kb: &mut Kb, scratch: &Scratch, row: Val, corner: &Corner) {
        let pitch = kb.dim(&scratch.x_tile);
        let to = kb.k.mul(row, pitch);
        let Some((before, sizes)) = &self.bounds else {
            let at = self.first_read(kb, corner, None);
            self.transform_channels(kb, scratch, to, |kb, c, lanes, count| self.read_inside(kb, at, c, lanes, count));
            return;
        };
        let mut within = None;
        for (s, &first) in corner.first.iter().enumerate() {
            let lo = kb.dim(&before[s]);
            let reach = (self.scheme.axes[s].n() as i64 - 1) * self.scheme.steps[s];
            let last = &(&sizes[s] + &before[s]) - &Dim::from(reach);
            let hi = kb.dim(&last);
            let here = kb.within(first, lo, hi);
            within = Some(within.map_or(here, |w| kb.k.bin(BinOp::And, w, here)));
        }
        let mut open = kb.k.begin_if(within.expect("a spatial axis"));
        let at = self.first_read(kb, corner, Some(before));
        self.transform_channels(kb, scratch, to, |kb, c, lanes, count| self.read_inside(kb, at, c, lanes, count));
        kb.k.begin_else(&mut open, &[]);
        let edge = self.edge(kb, corner, before, sizes);
        self.transform_channels(kb, scratch, to, |kb, c, lanes, count| {
            let zero = kb.k.splat_const(Const::f32(0.0), lanes);
            let read = |&(at, inside): &(Val, Val)| {
                let at = kb.k.add(at, c);
                let x = kb.k.load(self.x, at, 0, lanes, count);
                let x = kb.k.convert(x, DType::F32);
                kb.k.select(inside, x, zero)
            };
            edge.iter().map(read).collect()
        });
        kb.k.end_if(open, &[]);
    }

    /// Address of the first operand of a tile.
    fn first_read(&self, kb: &mut Kb, corner: &Corner, before: Option<&Vec<Dim>>) -> Val {
        let mut index = vec![corner.image];
        for (s, &first) in corner.first.iter().enumerate() {
            let shift = before.map(|b| kb.dim(&b[s]));
            index.push(shift.map_or(first, |b| kb.k.sub(first, b)));
        }
        kb.address(&index, &self.x_strides)
    }

    /// The operands of a tile that lies inside.
    fn read_inside(&self, kb: &mut Kb, at: Val, c: Val, lanes: u32, count: Option<Val>) -> Vec<Val> {
        let at = kb.k.add(at, c);
        let mut places = vec![(at, 0)];
        for (s, axis) in self.scheme.axes.iter().enumerate() {
            let stride = &self.x_strides[1 + s] * &Dim::from(self.scheme.steps[s]);
            let step = kb.dim(&stride);
            let mut next = Vec::new();
            for &(at, offset) in &places {
                for i in 0..axis.n() as i64 {
                    next.push(match stride.as_const() {
                        Some(stride) => (at, offset + i * stride),
                        None => {
                            let shift = kb.k.mul_int(step, i);
                            (kb.k.add(at, shift), offset)
                        }
                    });
                }
            }
            places = next;
        }
        let mut read = |(at, offset)| {
            let x = kb.k.load(self.x, at, offset, lanes, count);
            kb.k.convert(x, DType::F32)
        };
        places.into_iter().map(&mut read).collect()
    }

    /// Of every operand of a tile at the edge its address, moved inside, and whether it was inside.
    fn edge(&self, kb: &mut Kb, corner: &Corner, before: &[Dim], sizes: &[Dim]) -> Vec<(Val, Val)> {
        let start = kb.address(&[corner.image], &self.x_strides[..1]);
        let always = kb.k.constant(Const::bool(true));
        let mut places = vec![(start, always)];
        let zero = kb.k.int(0);
        for (s, axis) in self.scheme.axes.iter().enumerate() {
            let (pad, size, stride) = (kb.dim(&before[s]), kb.dim(&sizes[s]), kb.dim(&self.x_strides[1 + s]));
            let first = kb.k.sub(corner.first[s], pad);
            let last = kb.k.add_int(size, -1);
            let steps: Vec<(Val, Val)> = (0..axis.n() as i64)
                .map(|i| {
                    let at = kb.k.add_int(first, i * self.scheme.steps[s]);
                    let inside = kb.within(at, zero, size);
                    let at = kb.max(at, zero);
                    let at = kb.min(at, last);
                    (kb.k.mul(at, stride), inside)
                })
                .collect();
            let mut next = Vec::new();
            for &(at, inside) in &places {
                for &(step, here) in &steps {
                    next.push((kb.k.add(at, step), kb.k.bin(BinOp::And, inside, here)));
                }
            }
            places = next;
        }
        places
    }

    /// Transforms all channels of a tile; `read` gives its operands for some lanes of channels.
    fn transform_channels(
        &self,
        kb: &mut Kb,
        scratch: &Scratch,
        to: Val,
        read: impl Fn(&mut Kb, Val, u32, Option<Val>) -> Vec<Val>,
    ) {
        let axes = &self.scheme.axes;
        let sizes: Vec<usize> = axes.iter().map(|a| a.n()).collect();
        let zero = kb.k.int(0);
        let n = kb.dim(&self.channels);
        let exact = self.channels.as_const().is_some_and(|c| c % i64::from(self.lanes) == 0);
        map::vector_loop(kb, (zero, n, exact), self.lanes, self.masked, |kb, c, lanes, count| {
            let values = read(kb, c, lanes, count);
            let values = along_axes(kb, &sizes, values, |kb, axis, line| axes[axis].input(kb, line));
            let at = kb.k.add(to, c);
            for (product, value) in values.into_iter().enumerate() {
                let (at, offset) = self.product_at(kb, at, product as i64, &scratch.x_product);
                kb.k.store(scratch.x, at, offset, value, None);
            }
        });
    }

    fn product_at(&self, kb: &mut Kb, at: Val, product: i64, pitch: &Dim) -> (Val, i64) {
        match pitch.as_const() {
            Some(pitch) => (at, product * pitch),
            None => {
                let pitch = kb.dim(pitch);
                let shift = kb.k.mul_int(pitch, product);
                (kb.k.add(at, shift), 0)
            }
        }
    }

    /// The products of a block with a panel of filters.
    fn multiply(&self, kb: &mut Kb, scratch: &Scratch, panel: Val, row_tiles: Val) {
        let s = &self.scheme;
        let (mr, lanes) = (i64::from(s.tile.mr), i64::from(s.tile.lanes));
        let products = kb.k.int(s.products());
        let zero = kb.k.int(0);
        let filter = kb.dim(&(&self.channels * &Dim::from(s.tile.nr())));
        let (x_product, x_tile) = (kb.dim(&scratch.x_product), kb.dim(&scratch.x_tile));
        let sum = self.sum(scratch);
        let rows: Vec<(Val, i64)> = (0..mr).map(|row| self.product_at(kb, zero, row, &scratch.x_tile)).collect();
        let first = kb.k.mul_int(panel, s.products());
        let product = kb.k.begin_for((zero, products, 1), &[], LoopHint::Plain);
        let number = kb.k.add(first, product.var);
        let b = kb.k.mul(number, filter);
        let a = kb.k.mul(product.var, x_product);
        let y = kb.k.mul_int(product.var, scratch.y_product);
        let row_tile = kb.k.begin_for((zero, row_tiles, 1), &[], LoopHint::Plain);
        let row = kb.k.mul_int(row_tile.var, mr);
        let skip = kb.k.mul(row, x_tile);
        let a = kb.k.add(a, skip);
        let skip = kb.k.mul_int(row, s.tile.nr());
        let y = kb.k.add(y, skip);
        let next = kb.k.add(b, filter);
        let at = Start { rows: a, panel: b, fetch: sum.fetch(kb, (b, next), s.tile.mr, row_tile.var) };
        let accs = sum.emit(kb, at, &rows);
        for (i, acc) in accs.into_iter().enumerate() {
            kb.k.store(scratch.y, y, i as i64 * lanes, acc, None);
        }
        kb.k.end_for(row_tile, &[]);
        kb.k.end_for(product, &[]);
    }

    /// The sums over the channels.
    fn sum(&self, scratch: &Scratch) -> Sum {
        let tile = self.scheme.tile;
        let k = vec![(self.channels.clone(), Dim::ONE)];
        let (from, panels, pitch) = (scratch.x, self.filters, tile.nr());
        Sum { from, panels, tile, acc: DType::F32, k, pitch, unroll: self.unroll, totals: None, far: false, quads: None, matrices: None }
    }

    /// The results of one tile for a panel's columns.
    fn transform_results(&self, kb: &mut Kb, scratch: &Scratch, row: Val, corner: &Corner, panel: Val) {
        let s = &self.scheme;
        let lanes = i64::from(s.tile.lanes);
        let sizes: Vec<usize> = s.axes.iter().map(|a| a.n()).collect();
        let zero = kb.k.int(0);
        let at = kb.k.mul_int(row, s.tile.nr());
        for v in 0..i64::from(s.tile.nv) {
            let load = |p: i64| kb.k.load(scratch.y, at, p * scratch.y_product + v * lanes, s.tile.lanes, None);
            let values: Vec<Val> = (0..s.products()).map(load).collect();
            let values = along_axes(kb, &sizes, values, |kb, axis, line| s.axes[axis].output(kb, line));
            for (i, value) in values.into_iter().enumerate() {
                kb.k.store(scratch.tile, zero, i as i64 * s.tile.nr() + v * lanes, value, None);
            }
        }
        let col = kb.k.mul_int(panel, s.tile.nr());
        if self.cols.as_const().is_some_and(|n| n % s.tile.nr() == 0) {
            self.store_tile(kb, scratch, corner, col, None);
            return;
        }
        let n = kb.dim(&self.cols);
        let left = kb.k.sub(n, col);
        let width = kb.k.int(s.tile.nr());
        let whole = kb.k.cmp(Pred::Ge, left, width);
        let mut open = kb.k.begin_if(whole);
        self.store_tile(kb, scratch, corner, col, None);
        kb.k.begin_else(&mut open, &[]);
        self.store_tile(kb, scratch, corner, col, Some(left));
        kb.k.end_if(open, &[]);
    }

    /// Stores the results of a tile that lie inside, with their epilogue.
    fn store_tile(&self, kb: &mut Kb, scratch: &Scratch, corner: &Corner, col: Val, left: Option<Val>) {
        let s = &self.scheme;
        let lanes = i64::from(s.tile.lanes);
        let zero = kb.k.int(0);
        let mut loops = Vec::new();
        let mut at = zero;
        let mut index = vec![corner.image];
        for (i, axis) in s.axes.iter().enumerate() {
            let (size, step, first) = (&self.sizes[i], s.steps[i], corner.first[i]);
            let n = kb.dim(size);
            let left = kb.k.sub(n, first);
            let left = kb.k.add_int(left, step - 1);
            let divisor = kb.k.int(step);
            let left = kb.k.bin(BinOp::Div, left, divisor);
            let m = kb.k.int(axis.m as i64);
            let whole = size.as_const().is_some_and(|n| n % (axis.m as i64 * step) == 0);
            let end = if whole { m } else { kb.min(left, m) };
            let open = kb.k.begin_for((zero, end, 1), &[], LoopHint::Plain);
            let shift = kb.k.mul_int(open.var, step);
            index.push(kb.k.add(first, shift));
            at = kb.k.mul_int(at, axis.m as i64);
            at = kb.k.add(at, open.var);
            loops.push(open);
        }
        let at = kb.k.mul_int(at, s.tile.nr());
        for v in 0..i64::from(s.tile.nv) {
            let value = kb.k.load(scratch.tile, at, v * lanes, s.tile.lanes, None);
            let known = HashMap::from([(self.anchor, kb.k.convert(value, self.dtype))]);
            let col = kb.k.add_int(col, v * lanes);
            let count = left.map(|left| kb.k.add_int(left, -v * lanes));
            let index = [&index[..], &[col]].concat();
            let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes: s.tile.lanes, count, known };
            point.store(kb, &self.outs);
        }
        kb.end_loops(loops);
    }
}
