//! The loops of a convolution by short algorithms.

use super::*;
use crate::kernels::contract::products::Products;

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
    pub products: Products,
    /// What the results are multiplied by, column by column.
    pub col_scales: Option<Buf>,
    /// Results of a tile: `[result][column]`.
    pub tile: Buf,
    pub lanes: u32,
    pub masked: bool,
    pub leaves: HashMap<ValueId, Leaf>,
    pub outs: Vec<Out>,
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
        let grid = [std::slice::from_ref(&self.batch), &s.tiles(&self.sizes)].concat();
        let total = Dim::product(&grid);
        let panels = self.cols.ceil_div(&Dim::from(s.block.tile.nr()));
        let chunks = panels.ceil_div(&Dim::from(s.block.panels));
        let blocks = total.ceil_div(&Dim::from(s.block.len()));
        let number = kb.k.tile();
        let index = kb.unflatten(number, &[blocks.clone(), chunks.clone()]);
        let first = kb.k.mul_int(index[0], s.block.len());
        let all = kb.dim(&total);
        let left = kb.k.sub(all, first);
        let block = kb.k.int(s.block.len());
        let count = kb.min(left, block);
        let mr = i64::from(s.block.tile.mr);
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
        self.transform_operand(kb, each.var, &corner);
        kb.k.end_for(each, &[]);

        let odd = self.products.scale_rows(kb, rows);
        let from = kb.k.mul_int(index[1], s.block.panels);
        let to = kb.k.add_int(from, s.block.panels);
        let end = kb.dim(&panels);
        let to = kb.min(to, end);
        let panel = kb.k.begin_for((from, to, 1), &[], LoopHint::Plain);
        match odd {
            Some(odd) => self.products.multiply_scaled(kb, panel.var, row_tiles, odd),
            None => self.products.multiply(kb, panel.var, row_tiles, (s.products(), s.products())),
        }
        let each = kb.k.begin_for((zero, count, 1), &[], LoopHint::Plain);
        let q = kb.k.add(first, each.var);
        let corner = self.corner(kb, q, &grid);
        self.transform_results(kb, each.var, &corner, panel.var);
        kb.k.end_for(each, &[]);
        kb.k.end_for(panel, &[]);
        &blocks * &chunks
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
    fn transform_operand(&self, kb: &mut Kb, row: Val, corner: &Corner) {
        let pitch = kb.dim(&self.products.x_row);
        let to = kb.k.mul(row, pitch);
        let Some((before, sizes)) = &self.bounds else {
            let at = self.first_read(kb, corner, None);
            self.transform_channels(kb, to, |kb, c, lanes, count| self.read_inside(kb, at, c, lanes, count));
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
        self.transform_channels(kb, to, |kb, c, lanes, count| self.read_inside(kb, at, c, lanes, count));
        kb.k.begin_else(&mut open, &[]);
        let edge = self.edge(kb, corner, before, sizes);
        self.transform_channels(kb, to, |kb, c, lanes, count| {
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
                let (at, offset) = Products::along(kb, at, product as i64, &self.products.x_product);
                kb.k.store(self.products.x, at, offset, value, None);
            }
        });
    }

    /// The results of one tile for a panel's columns.
    fn transform_results(&self, kb: &mut Kb, row: Val, corner: &Corner, panel: Val) {
        let s = &self.scheme;
        let lanes = i64::from(s.block.tile.lanes);
        let sizes: Vec<usize> = s.axes.iter().map(|a| a.n()).collect();
        let zero = kb.k.int(0);
        let at = kb.k.mul_int(row, s.block.tile.nr());
        for v in 0..i64::from(s.block.tile.nv) {
            let load = |p: i64| kb.k.load(self.products.y, at, p * self.products.y_product + v * lanes, s.block.tile.lanes, None);
            let values: Vec<Val> = (0..s.products()).map(load).collect();
            let values = along_axes(kb, &sizes, values, |kb, axis, line| s.axes[axis].output(kb, line));
            let scale = self.col_scales.map(|scales| {
                let col = kb.k.mul_int(panel, s.block.tile.nr());
                kb.k.load(scales, col, v * lanes, s.block.tile.lanes, None)
            });
            for (i, value) in values.into_iter().enumerate() {
                let value = scale.map_or(value, |scale| kb.k.mul(value, scale));
                kb.k.store(self.tile, zero, i as i64 * s.block.tile.nr() + v * lanes, value, None);
            }
        }
        let col = kb.k.mul_int(panel, s.block.tile.nr());
        if self.cols.as_const().is_some_and(|n| n % s.block.tile.nr() == 0) {
            self.store_tile(kb, corner, col, None);
            return;
        }
        let n = kb.dim(&self.cols);
        let left = kb.k.sub(n, col);
        let width = kb.k.int(s.block.tile.nr());
        let whole = kb.k.cmp(Pred::Ge, left, width);
        let mut open = kb.k.begin_if(whole);
        self.store_tile(kb, corner, col, None);
        kb.k.begin_else(&mut open, &[]);
        self.store_tile(kb, corner, col, Some(left));
        kb.k.end_if(open, &[]);
    }

    /// Stores the results of a tile that lie inside, with their epilogue.
    fn store_tile(&self, kb: &mut Kb, corner: &Corner, col: Val, left: Option<Val>) {
        let s = &self.scheme;
        let lanes = i64::from(s.block.tile.lanes);
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
        let at = kb.k.mul_int(at, s.block.tile.nr());
        for v in 0..i64::from(s.block.tile.nv) {
            let value = kb.k.load(self.tile, at, v * lanes, s.block.tile.lanes, None);
            let known = HashMap::from([(self.anchor, kb.k.convert(value, self.dtype))]);
            let col = kb.k.add_int(col, v * lanes);
            let count = left.map(|left| kb.k.add_int(left, -v * lanes));
            let index = [&index[..], &[col]].concat();
            let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes: s.block.tile.lanes, count, known };
            point.store(kb, &self.outs);
        }
        kb.end_loops(loops);
    }
}
