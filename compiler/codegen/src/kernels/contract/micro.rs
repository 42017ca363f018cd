//! The loops of a contraction: tile tasks, register tiles, the sum over k, the epilogue.

use super::*;

/// What a prefetch brings.
pub(super) const CACHE_LINE: i64 = 64;

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
    /// Rows of the tile task before it.
    pub slot: Val,
    /// Row tiles of the tile task before it.
    pub tile: Val,
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
        match self.block_rows {
            Some(_) => self.blocks(kb, row_chunk, (r0, r1), &at),
            None => self.row_tiles(kb, (r0, r1), &|kb, mr, rows| self.micro(kb, mr, rows, &at)),
        }
        kb.k.end_for(panel_loop, &[]);
        Dim::product(&grid)
    }

    /// Number of tiles of the innermost row axis.
    fn inner_tiles(&self) -> Dim { self.rows.last().expect("a row axis").ceil_div(&Dim::from(i64::from(self.tile.mr))) }

    /// Row tiles and panels a tile task walks.
    fn chunks(&self, row_tiles: &Dim, panels: &Dim, k: &Dim) -> (i64, i64) {
        let (t, p, k) = (hint(row_tiles).max(1), hint(panels).max(1), hint(k).max(1));
        let mr = i64::from(self.tile.mr);
        // Window positions share most of what they read.
        let reuse = if self.k.len() > 1 { hint(&self.k[0].0).max(1) } else { 1 };
        let per_tile = (mr * k * 4 / reuse).max(1);
        let mut rows = self.block_rows.map_or(A_BLOCK_BYTES / per_tile, |rows| rows / mr).clamp(1, t);
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

    /// Visits row tiles, or their rows one by one where the innermost row axis has fewer than a tile.
    pub(super) fn row_tiles(&self, kb: &mut Kb, (lo, hi): (Val, Val), visit: &dyn Fn(&mut Kb, u32, &RowSpot)) {
        let open = kb.k.begin_for((lo, hi, 1), &[], LoopHint::Plain);
        let tile = kb.k.sub(open.var, lo);
        let mut outer = kb.unflatten(open.var, &[&self.rows[..self.rows.len() - 1], &[self.inner_tiles()]].concat());
        let t = outer.pop().expect("inner tile");
        let mr = i64::from(self.tile.mr);
        let last = self.rows.last().expect("a row axis");
        let start = kb.k.mul_int(t, mr);
        let slot = kb.k.mul_int(tile, mr);
        let n = kb.dim(last);
        // The last tile overlaps the one before it: the same results are stored twice.
        let limit = kb.k.add_int(n, -mr);
        let row = kb.min(start, limit);
        let whole = RowSpot { outer, row, slot, tile };
        if last.as_const().is_some_and(|n| n >= mr) {
            visit(kb, self.tile.mr, &whole);
        } else {
            let zero = kb.k.int(0);
            let enough = kb.k.cmp(Pred::Ge, limit, zero);
            let mut branch = kb.k.begin_if(enough);
            visit(kb, self.tile.mr, &whole);
            kb.k.begin_else(&mut branch, &[]);
            let each = kb.k.begin_for((start, n, 1), &[], LoopHint::Plain);
            let inside = kb.k.sub(each.var, start);
            let slot = kb.k.add(slot, inside);
            visit(kb, 1, &RowSpot { row: each.var, slot, ..whole });
            kb.k.end_for(each, &[]);
            kb.k.end_if(branch, &[]);
        }
        kb.k.end_for(open, &[]);
    }

    /// The first operand's elements of some rows: the first one's address, and how the others' differ, in part known.
    pub(super) fn a_rows(&self, kb: &mut Kb, mr: u32, rows: &RowSpot, base: Val) -> (Val, Vec<(Val, i64)>) {
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
        self.fetch_epilogue(kb, mr, rows, at);
        let (base, each) = self.a_rows(kb, mr, rows, at.a);
        let zero = kb.k.splat_const(Const::number(self.acc, 0.0), self.tile.lanes);
        let accs = vec![zero; (mr * self.tile.nv) as usize];
        let accs = match self.totals {
            Some(totals) => self.chains(kb, totals, base, at.b, &each, accs),
            None => self.sum(kb, 0, base, at.b, &each, accs),
        };
        self.epilogue(kb, mr, &at.batch, &rows.outer, rows.row, at.panel, &accs);
    }

    /// Fetches what the epilogue of a register tile will read and write, while its sums are made.
    fn fetch_epilogue(&self, kb: &mut Kb, mr: u32, rows: &RowSpot, at: &Spot) {
        let read = self.leaves.iter().filter_map(|(v, leaf)| match leaf {
            Leaf::Buffer { buf, strides, .. } => Some((*v, *buf, strides)),
            Leaf::Const(_) => None,
        });
        let mut all: Vec<(ValueId, Buf, &Vec<Dim>)> = read.chain(self.outs.iter().map(|o| (o.0, o.1, &o.3))).collect();
        all.sort_by_key(|access| access.0);
        let col = kb.k.mul_int(at.panel, self.tile.nr());
        for (_, buf, strides) in all {
            let [.., row, unit] = &strides[..] else { continue };
            if !unit.is(1) || row.is(0) {
                continue;
            }
            let line = CACHE_LINE / kb.k.buf_dtype(buf).size() as i64;
            for r in 0..i64::from(mr) {
                let row = kb.k.add_int(rows.row, r);
                let first = kb.address(&[&at.batch[..], &rows.outer, &[row, col]].concat(), strides);
                (0..self.tile.nr()).step_by(line as usize).for_each(|shift| kb.k.prefetch(buf, first, shift));
            }
        }
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
        let next = if last { self.step(kb, self.a, a, b, rows, &phis) } else { self.sum(kb, level + 1, a, b, rows, phis) };
        kb.k.end_for(open, &next)
    }

    /// One k: `nv` vectors of the panel times every row's element, which is in `from`.
    pub(super) fn step(&self, kb: &mut Kb, from: Buf, a: Val, b: Val, rows: &[(Val, i64)], accs: &[Val]) -> Vec<Val> {
        let lanes = self.tile.lanes;
        let panel: Vec<Val> = (0..self.tile.nv).map(|v| kb.k.load(self.panels.buf, b, i64::from(v * lanes), lanes, None)).collect();
        let mut next = Vec::with_capacity(accs.len());
        for (r, &(extra, offset)) in rows.iter().enumerate() {
            let at = kb.k.add(a, extra);
            let x = kb.k.load(from, at, offset, 1, None);
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
    pub(super) fn epilogue(&self, kb: &mut Kb, mr: u32, batch: &[Val], outer: &[Val], row: Val, panel: Val, accs: &[Val]) {
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
            point.store(kb, &self.outs);
        }
    }
}
