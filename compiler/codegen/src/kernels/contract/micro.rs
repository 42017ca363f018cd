//! The loops of a contraction: tile tasks, register tiles, the sum over k, the epilogue.

use super::sum::Start;
use super::*;

/// Height of row tiles for rows that are too few for matrices.
const FEW_ROWS: u32 = 4;

/// A panel: its batch, its number, and where its part of the operands begins.
pub(super) struct Spot {
    pub batch: Vec<Val>,
    pub panel: Val,
    pub a: Val,
    pub b: Val,
}

/// A row tile, or a row where there are too few for one.
pub(super) struct RowSpot {
    /// Index along all row axes but the innermost.
    pub outer: Vec<Val>,
    /// First row along the innermost.
    pub row: Val,
    /// Row tiles of the tile task before it.
    pub tile: Val,
}

impl RowSpot {
    fn at_row(&self, row: Val) -> RowSpot { RowSpot { outer: self.outer.clone(), row, tile: self.tile } }
}

impl Emitter<'_> {
    /// Emits the whole kernel; returns the number of tiles.
    pub(super) fn emit(&self, kb: &mut Kb, k_total: &Dim) -> Dim {
        let outer = &self.rows[..self.rows.len() - 1];
        let row_tiles = &Dim::product(outer) * &self.inner_tiles();
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
        let at = Spot { batch, panel, a: a_base, b: b_base };
        self.row_tiles(kb, (r0, r1), &|kb, mr, rows| self.micro(kb, mr, rows, &at));
        kb.k.end_for(panel_loop, &[]);
        Dim::product(&grid)
    }

    /// Number of tiles of the innermost row axis.
    fn inner_tiles(&self) -> Dim { self.rows.last().expect("a row axis").ceil_div(&Dim::from(i64::from(self.tile.mr))) }

    /// Row tiles and panels a tile task walks.
    fn chunks(&self, row_tiles: &Dim, panels: &Dim, k: &Dim) -> (i64, i64) {
        // Rows that are a batch alone are as many as others of unknown number.
        let sole = self.sole.as_ref().filter(|&s| hint_of_one(row_tiles, Some(s)) > 1);
        let hint = |d: &Dim| hint_of_one(d, sole);
        let (t, p, k) = (hint(row_tiles).max(1), hint(panels).max(1), hint(k).max(1));
        // Matrices multiply faster, and their elements are as narrow as they were.
        let (size, least) = if self.sum.matrices.is_some() { (1, 8 * TILE_MACS) } else { (4, TILE_MACS) };
        let mr = i64::from(self.tile.mr);
        // Window positions share most of what they read.
        let reuse = if self.sum.k.len() > 1 { hint(&self.sum.k[0].0).max(1) } else { 1 };
        let per_tile = (mr * k * size / reuse).max(1);
        let mut rows = (A_BLOCK_BYTES / per_tile).clamp(1, t);
        let macs = |rows: i64, panels: i64| rows * mr * panels * self.tile.nr() * k;
        let mut cols = (least / macs(rows, 1).max(1)).clamp(1, p);
        // Enough tiles for the pool, as long as they are worth their dispatch.
        let batch = hint(&Dim::product(&self.batch)).max(1);
        let tiles = |rows: i64, cols: i64| batch * ((t + rows - 1) / rows) * ((p + cols - 1) / cols);
        while tiles(rows, cols) < 8 && macs(rows, cols) > least / 8 && rows.max(cols) > 1 {
            if cols > 1 { cols = (cols + 1) / 2 } else { rows = (rows + 1) / 2 }
        }
        (rows, cols)
    }

    /// Visits row tiles `lo` to `hi`.
    fn row_tiles(&self, kb: &mut Kb, (lo, hi): (Val, Val), visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let open = kb.k.begin_for((lo, hi, 1), &[], LoopHint::Plain);
        let tile = kb.k.sub(open.var, lo);
        let mut outer = kb.unflatten(open.var, &[&self.rows[..self.rows.len() - 1], &[self.inner_tiles()]].concat());
        let t = outer.pop().expect("inner tile");
        let mr = i64::from(self.tile.mr);
        let row = kb.k.mul_int(t, mr);
        let spot = RowSpot { outer, row, tile };
        match self.rows.last().expect("a row axis").as_const() {
            Some(n) if n >= mr && self.sum.matrices.is_some() => self.block_rows(kb, &Dim::from(n), &spot, visit),
            Some(n) if n >= mr => self.known_rows(kb, n, t, spot, visit),
            _ => self.unknown_rows(kb, t, spot, visit),
        }
        kb.k.end_for(open, &[]);
    }

    /// Visits row tile `t` of an axis of `n` rows. The last ones have a row less; or the last overlaps the one before it, and
    /// the same results are stored twice.
    fn known_rows(&self, kb: &mut Kb, n: i64, t: Val, spot: RowSpot, visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let mr = self.tile.mr;
        let (tall, short) = row_heights(n, i64::from(mr));
        if short == 0 {
            let limit = kb.k.int(n - i64::from(mr));
            let row = kb.min(spot.row, limit);
            return visit(kb, mr, &spot.at_row(row));
        }
        let count = kb.k.int(tall);
        let is_tall = kb.k.cmp(Pred::Lt, t, count);
        let mut branch = kb.k.begin_if(is_tall);
        visit(kb, mr, &spot);
        kb.k.begin_else(&mut branch, &[]);
        let short_before = kb.k.sub(t, count);
        let row = kb.k.sub(spot.row, short_before);
        visit(kb, mr - 1, &spot.at_row(row));
        kb.k.end_if(branch, &[]);
    }

    /// Visits a block of an axis of `n` rows, at least one block's. The last overlaps the one before it, with half the height
    /// where that is enough.
    fn block_rows(&self, kb: &mut Kb, n: &Dim, spot: &RowSpot, visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let mr = self.tile.mr;
        let half = mr / 2;
        let rest = n.as_const().map(|n| n % i64::from(mr));
        let low = self.sum.matrices.as_ref().is_some_and(|m| m.take(half)) && rest.is_none_or(|r| (1..=i64::from(half)).contains(&r));
        let n = kb.dim(n);
        let limit = kb.k.add_int(n, -i64::from(mr));
        let row = kb.min(spot.row, limit);
        if !low {
            return visit(kb, mr, &spot.at_row(row));
        }
        let left = kb.k.sub(n, spot.row);
        let few = kb.k.int(i64::from(half));
        let is_low = kb.k.cmp(Pred::Le, left, few);
        let mut branch = kb.k.begin_if(is_low);
        let last = kb.k.add_int(n, -i64::from(half));
        visit(kb, half, &spot.at_row(last));
        kb.k.begin_else(&mut branch, &[]);
        visit(kb, mr, &spot.at_row(row));
        kb.k.end_if(branch, &[]);
    }

    /// Visits row tile `t` of an axis whose size is known when the model runs. If it has fewer rows than a tile, tiles of half
    /// the height are visited, and of even fewer each row alone.
    fn unknown_rows(&self, kb: &mut Kb, t: Val, spot: RowSpot, visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let n = kb.dim(self.rows.last().expect("a row axis"));
        let mr = self.tile.mr;
        let half = Some(mr.div_ceil(2)).filter(|&half| 1 < half && half < mr);
        // What matrices leave is summed without them.
        let few = self.sum.matrices.as_ref().map(|_| FEW_ROWS);
        let mut open = Vec::new();
        for height in [Some(mr), half, few].into_iter().flatten() {
            let limit = kb.k.add_int(n, -i64::from(height));
            let zero = kb.k.int(0);
            let enough = kb.k.cmp(Pred::Ge, limit, zero);
            let mut branch = kb.k.begin_if(enough);
            if height == mr && self.sum.matrices.is_some() {
                self.block_rows(kb, self.rows.last().expect("a row axis"), &spot, visit);
            } else if height == mr {
                self.enough_rows(kb, (n, limit), t, &spot, visit);
            } else {
                self.each_row(kb, &spot, (n, height, limit), visit);
            }
            kb.k.begin_else(&mut branch, &[]);
            open.push(branch);
        }
        let last = kb.k.add_int(n, -1);
        self.each_row(kb, &spot, (n, 1, last), visit);
        open.into_iter().rev().for_each(|branch| _ = kb.k.end_if(branch, &[]));
    }

    /// Visits row tile `t` of `n` rows, none of which begins after `limit`: as [`Emitter::known_rows`] does, with two heights
    /// wherever they make up `n`.
    fn enough_rows(&self, kb: &mut Kb, (n, limit): (Val, Val), t: Val, spot: &RowSpot, visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let mr = self.tile.mr;
        let overlapping = kb.min(spot.row, limit);
        if mr == 1 {
            return visit(kb, mr, &spot.at_row(overlapping));
        }
        let tiles = kb.dim(&self.inner_tiles());
        let room = kb.k.mul_int(tiles, i64::from(mr));
        let short = kb.k.sub(room, n);
        let tall = kb.k.sub(tiles, short);
        // Fewer short tiles would have to be shorter still: then the last tall one overlaps.
        let zero = kb.k.int(0);
        let all_tall = kb.k.cmp(Pred::Lt, tall, zero);
        let is_tall = kb.k.cmp(Pred::Lt, t, tall);
        let is_tall = kb.k.bin(BinOp::Or, all_tall, is_tall);
        let mut branch = kb.k.begin_if(is_tall);
        visit(kb, mr, &spot.at_row(overlapping));
        kb.k.begin_else(&mut branch, &[]);
        let short_before = kb.k.sub(t, tall);
        let row = kb.k.sub(spot.row, short_before);
        visit(kb, mr - 1, &spot.at_row(row));
        kb.k.end_if(branch, &[]);
    }

    /// Visits the rows up to `n` in tiles of a height, none of which begins after `limit`.
    fn each_row(&self, kb: &mut Kb, spot: &RowSpot, (n, height, limit): (Val, u32, Val), visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let each = kb.k.begin_for((spot.row, n, i64::from(height)), &[], LoopHint::Plain);
        let row = kb.min(each.var, limit);
        visit(kb, height, &spot.at_row(row));
        kb.k.end_for(each, &[]);
    }

    /// The first operand's elements of some rows: the first one's address, and how the others' differ, in part known.
    fn a_rows(&self, kb: &mut Kb, mr: u32, rows: &RowSpot, base: Val) -> (Val, Vec<(Val, i64)>) {
        let outer = kb.address(&rows.outer, &self.a_rows);
        let base = kb.k.add(base, outer);
        let stride = self.a_rows.last().cloned().unwrap_or(Dim::ZERO);
        let step = kb.dim(&stride);
        let shift = kb.k.mul(rows.row, step);
        let base = kb.k.add(base, shift);
        // Rows a constant stride apart share one address; others get one each.
        let each = (0..i64::from(mr)).map(|r| match stride.as_const() {
            Some(s) => (kb.k.int(0), r * s),
            None => (kb.k.mul_int(step, r), 0),
        });
        (base, each.collect())
    }

    /// A register tile from its first term to its epilogue.
    fn micro(&self, kb: &mut Kb, mr: u32, rows: &RowSpot, at: &Spot) {
        if let Some(matrices) = self.sum.matrices.as_ref().filter(|m| m.take(mr)) {
            return self.micro_by_matrices(kb, matrices, mr, rows, at);
        }
        self.fetch_epilogue(kb, mr, rows, at);
        let (first, each) = self.a_rows(kb, mr, rows, at.a);
        let panel = kb.dim(&self.panels.panel);
        let next_panel = kb.k.add(at.b, panel);
        let fetch = self.sum.fetch(kb, (at.b, next_panel), mr, rows.tile);
        let accs = self.sum.emit(kb, Start { rows: first, panel: at.b, fetch }, &each);
        self.epilogue(kb, mr, &at.batch, &rows.outer, rows.row, at.panel, &accs);
    }

    /// [`Emitter::micro`] of a block that is summed by matrices. Its results are too many to be fetched one after the other.
    fn micro_by_matrices(&self, kb: &mut Kb, matrices: &Matrices, mr: u32, rows: &RowSpot, at: &Spot) {
        let (first, _) = self.a_rows(kb, 1, rows, at.a);
        let stride = kb.dim(self.a_rows.last().unwrap_or(&Dim::ZERO));
        let panel = kb.dim(&self.panels.panel);
        let next_panel = kb.k.add(at.b, panel);
        let fetch = self.sum.fetch(kb, (at.b, next_panel), mr, rows.tile);
        let spill = self.spill.expect("sums of matrices go to scratch memory");
        self.sum.emit_matrices(kb, matrices, Start { rows: first, panel: at.b, fetch }, (mr, stride), spill);
        self.epilogue(kb, mr, &at.batch, &rows.outer, rows.row, at.panel, &[]);
    }

    /// Fetches what the epilogue of a register tile will read and write, while its sums are made.
    fn fetch_epilogue(&self, kb: &mut Kb, mr: u32, rows: &RowSpot, at: &Spot) {
        let col = kb.k.mul_int(at.panel, self.tile.nr());
        for (buf, strides) in form::lines(&self.leaves, &self.outs) {
            if strides.len() < 2 || strides[strides.len() - 2].is(0) {
                continue;
            }
            for r in 0..i64::from(mr) {
                let row = kb.k.add_int(rows.row, r);
                let first = kb.address(&[&at.batch[..], &rows.outer, &[row, col]].concat(), strides);
                form::fetch(kb, buf, first, self.tile.nr());
            }
        }
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

    /// Finishes a tile whose sums are `accs`, or in scratch memory already if there are none.
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
            point.store(kb, &self.outs);
        }
    }
}
