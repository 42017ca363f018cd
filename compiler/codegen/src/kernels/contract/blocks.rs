//! Long sums: a panel is cut into blocks of [`CHAIN`] terms, and all row tiles of a task walk over a block before the next.
//!
//! A block stays in the first-level cache meanwhile; what the sums of the row tiles come to waits in scratch memory. With
//! `exact` numerics each sum goes on from there, term after term; with `fast` the sums of the blocks are added up.

use super::micro::Spot;
use super::*;

/// What a prefetch brings.
const CACHE_LINE: i64 = 64;

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

        let block = kb.k.begin_for((zero, k, CHAIN), &[], LoopHint::Plain);
        let end = kb.k.add_int(block.var, CHAIN);
        let terms = (block.var, kb.min(end, k));
        self.row_tiles(kb, rows, &|kb, mr, rows| {
            let slot = kb.k.mul_int(rows.slot, nr);
            let (base, each) = self.a_rows(kb, mr, rows, at.a);
            let start = if self.exact { self.load_totals(kb, totals, slot, mr) } else { vec![none; (mr * self.tile.nv) as usize] };
            let sums = self.block_sum(kb, terms, (base, &each), (at.b, rows.tile), &start);
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

    /// Adds a block's terms to `sums`. Each of the first row tiles fetches a part of the block that follows in memory.
    fn block_sum(&self, kb: &mut Kb, (lo, hi): (Val, Val), a: (Val, &[(Val, i64)]), (b, tile): (Val, Val), sums: &[Val]) -> Vec<Val> {
        let line = CACHE_LINE / self.acc.size() as i64;
        let dense = self.panels.k == self.tile.nr() && a.1.len() > 1;
        let last_part = kb.k.int(((self.tile.nr() + line - 1) / line - 1).max(0));
        let part = kb.min(tile, last_part);
        let part = kb.k.mul_int(part, CHAIN * line);
        let next = kb.k.mul_int(hi, self.panels.k);
        let next = kb.k.add(next, part);
        let next = kb.k.add(next, b);
        let a_stride = kb.dim(&self.k[0].1);
        let open = kb.k.begin_for((lo, hi, 1), sums, LoopHint::Unroll(self.unroll));
        let (i, phis) = (open.var, open.phis.clone());
        let (a_step, b_step) = (kb.k.mul(i, a_stride), kb.k.mul_int(i, self.panels.k));
        let (a_at, b_at) = (kb.k.add(a.0, a_step), kb.k.add(b, b_step));
        if dense {
            let number = kb.k.sub(i, lo);
            let ahead = kb.k.mul_int(number, line);
            let ahead = kb.k.add(next, ahead);
            kb.k.prefetch(self.panels.buf, ahead, 0);
        }
        let sums = self.step(kb, a_at, b_at, a.1, &phis);
        kb.k.end_for(open, &sums)
    }

    fn load_totals(&self, kb: &mut Kb, totals: Buf, slot: Val, mr: u32) -> Vec<Val> {
        let lanes = self.tile.lanes;
        (0..i64::from(mr * self.tile.nv)).map(|i| kb.k.load(totals, slot, i * i64::from(lanes), lanes, None)).collect()
    }
}
