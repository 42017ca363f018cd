//! Long sums: a panel is cut into blocks of [`CHAIN`] terms, and all row tiles of a task walk over a block before the next.
//!
//! A block stays in the first-level cache meanwhile; what the sums of the row tiles come to waits in scratch memory. With
//! `exact` numerics each sum goes on from there, term after term; with `fast` the sums of the blocks are added up.
//!
//! Rows that lie a multiple of a page apart meet in few sets of that cache. Their part of a block is copied next to each other
//! first.

use super::micro::{CACHE_LINE, RowSpot, Spot};
use super::*;

/// Distance of rows, in bytes, from which on they meet: the size of a way of a first-level cache.
const WAY: i64 = 4096;

/// Where a row tile's terms of a block are.
struct Terms {
    buf: Buf,
    /// First term of the first row.
    first: Val,
    /// Elements from term to term.
    step: Dim,
    /// How the rows' addresses differ.
    rows: Vec<(Val, i64)>,
}

impl Emitter<'_> {
    /// All row tiles `rows` of a panel, at most `most` of them.
    pub(super) fn blocks(&self, kb: &mut Kb, most: i64, rows: (Val, Val), at: &Spot) {
        let (lanes, nr) = (self.tile.lanes, self.tile.nr());
        let totals = kb.scratch("totals", self.acc, &Dim::from(most * i64::from(self.tile.mr) * nr));
        let (zero, k) = (kb.k.int(0), kb.dim(&self.k[0].0));
        let count = kb.k.sub(rows.1, rows.0);
        let count = kb.k.mul_int(count, i64::from(self.tile.mr) * nr);
        let none = kb.k.splat_const(Const::number(self.acc, 0.0), lanes);
        let clear = kb.k.begin_for((zero, count, i64::from(lanes)), &[], LoopHint::Plain);
        kb.k.store(totals, clear.var, 0, none, None);
        kb.k.end_for(clear, &[]);

        let pitch = CHAIN + i64::from(lanes);
        let copied = self.rows_meet().then(|| {
            let dtype = kb.k.buf_dtype(self.a);
            kb.scratch("rows", dtype, &Dim::from(i64::from(self.tile.mr) * pitch))
        });
        let block = kb.k.begin_for((zero, k, CHAIN), &[], LoopHint::Plain);
        let end = kb.k.add_int(block.var, CHAIN);
        let end = kb.min(end, k);
        self.row_tiles(kb, rows, &|kb, mr, rows| {
            let slot = kb.k.mul_int(rows.slot, nr);
            let terms = self.terms(kb, mr, rows, at.a, block.var);
            let terms = match copied.filter(|_| mr == self.tile.mr) {
                Some(to) => self.copy_rows(kb, &terms, (block.var, end), to, pitch),
                None => terms,
            };
            let start = if self.exact { self.load_totals(kb, totals, slot, mr) } else { vec![none; (mr * self.tile.nv) as usize] };
            let sums = self.block_sum(kb, (block.var, end), &terms, (at.b, rows.tile), &start);
            let old = if self.exact { Vec::new() } else { self.load_totals(kb, totals, slot, mr) };
            for (i, &sum) in sums.iter().enumerate() {
                let total = old.get(i).map_or(sum, |&old| kb.k.add(old, sum));
                kb.k.store(totals, slot, i as i64 * i64::from(lanes), total, None);
            }
        });
        kb.k.end_for(block, &[]);

        self.row_tiles(kb, rows, &|kb, mr, rows| {
            let slot = kb.k.mul_int(rows.slot, nr);
            let sums = self.load_totals(kb, totals, slot, mr);
            self.epilogue(kb, mr, &at.batch, &rows.outer, rows.row, at.panel, &sums);
        });
    }

    /// True if the rows of a tile lie so that they push each other out of the first-level cache.
    fn rows_meet(&self) -> bool {
        let way = WAY / self.acc.size() as i64;
        let apart = self.a_rows.last().and_then(Dim::as_const).is_some_and(|s| s > 0 && s % way == 0);
        let whole = self.k[0].0.as_const().is_some_and(|k| k % i64::from(self.tile.lanes) == 0);
        apart && whole && self.k[0].1.is(1) && self.tile.mr > 4
    }

    fn terms(&self, kb: &mut Kb, mr: u32, rows: &RowSpot, a: Val, lo: Val) -> Terms {
        let (base, rows) = self.a_rows(kb, mr, rows, a);
        let step = self.k[0].1.clone();
        let skip = kb.dim(&step);
        let skip = kb.k.mul(lo, skip);
        Terms { buf: self.a, first: kb.k.add(base, skip), step, rows }
    }

    /// Copies a row tile's terms of a block next to each other.
    fn copy_rows(&self, kb: &mut Kb, from: &Terms, (lo, hi): (Val, Val), to: Buf, pitch: i64) -> Terms {
        let lanes = self.tile.lanes;
        let zero = kb.k.int(0);
        let n = kb.k.sub(hi, lo);
        let open = kb.k.begin_for((zero, n, i64::from(lanes)), &[], LoopHint::Plain);
        let at = kb.k.add(from.first, open.var);
        for (r, &(extra, offset)) in (0..).zip(&from.rows) {
            let at = kb.k.add(at, extra);
            let x = kb.k.load(from.buf, at, offset, lanes, None);
            kb.k.store(to, open.var, r * pitch, x, None);
        }
        kb.k.end_for(open, &[]);
        let rows = (0..from.rows.len() as i64).map(|r| (zero, r * pitch)).collect();
        Terms { buf: to, first: zero, step: Dim::ONE, rows }
    }

    /// Adds a block's terms to `sums`. Each of the first row tiles fetches a part of the block that follows in memory.
    fn block_sum(&self, kb: &mut Kb, (lo, hi): (Val, Val), terms: &Terms, (b, tile): (Val, Val), sums: &[Val]) -> Vec<Val> {
        let line = CACHE_LINE / self.acc.size() as i64;
        let dense = self.panels.k == self.tile.nr() && terms.rows.len() > 1;
        let last_part = kb.k.int(((self.tile.nr() + line - 1) / line - 1).max(0));
        let part = kb.min(tile, last_part);
        let part = kb.k.mul_int(part, CHAIN * line);
        let next = kb.k.mul_int(hi, self.panels.k);
        let next = kb.k.add(next, part);
        let next = kb.k.add(next, b);
        let step = kb.dim(&terms.step);
        let open = kb.k.begin_for((lo, hi, 1), sums, LoopHint::Unroll(self.unroll));
        let (i, phis) = (open.var, open.phis.clone());
        let number = kb.k.sub(i, lo);
        let (a_step, b_step) = (kb.k.mul(number, step), kb.k.mul_int(i, self.panels.k));
        let (a_at, b_at) = (kb.k.add(terms.first, a_step), kb.k.add(b, b_step));
        if dense {
            let ahead = kb.k.mul_int(number, line);
            let ahead = kb.k.add(next, ahead);
            kb.k.prefetch(self.panels.buf, ahead, 0);
        }
        let sums = self.step(kb, terms.buf, a_at, b_at, &terms.rows, &phis);
        kb.k.end_for(open, &sums)
    }

    fn load_totals(&self, kb: &mut Kb, totals: Buf, slot: Val, mr: u32) -> Vec<Val> {
        let lanes = self.tile.lanes;
        (0..i64::from(mr * self.tile.nv)).map(|i| kb.k.load(totals, slot, i * i64::from(lanes), lanes, None)).collect()
    }
}
