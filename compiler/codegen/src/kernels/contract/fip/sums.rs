//! The sums of a register tile of scaled rows with a panel.

use super::*;
use crate::kernels::contract::sum::{Start, Sum};

/// What sums need.
pub(in crate::kernels::contract) struct Sums {
    pub tile: Tile,
    pub terms: i64,
    /// Elements from row to row.
    x_row: i64,
    /// What the pairs of rows add, and the opposite of what those of columns do; NaN for a row that is to be summed directly.
    own: Buf,
    of_columns: Buf,
    /// What the sums of a row are multiplied by.
    inverses: Buf,
    /// The sum over whole steps, and the direct one.
    steps: Sum,
    direct: Sum,
}

impl Sums {
    /// Of rows with panels. `totals` makes room for the sums of chains.
    pub fn new(
        tile: Tile,
        (terms, x_row): (i64, i64),
        (from, panels): (Buf, Buf),
        (own, inverses, of_columns): (Buf, Buf, Buf),
        totals: impl FnOnce(i64) -> Buf,
    ) -> Sums {
        let sum = |step: i64| Sum {
            from,
            panels,
            tile,
            acc: DType::F32,
            k: vec![(Dim::from(terms / step), Dim::from(step))],
            pitch: step * tile.nr(),
            unroll: 1,
            totals: None,
            far: false,
            quads: None,
            matrices: None,
            fip: step > 1,
        };
        let sums = [sum(STEP), sum(1)];
        let totals = sums.iter().any(Sum::is_long).then(|| totals(i64::from(tile.mr) * tile.nr()));
        let [steps, direct] = sums.map(|sum| Sum { totals: totals.filter(|_| sum.is_long()), ..sum });
        Sums { tile, terms, x_row, own, of_columns, inverses, steps, direct }
    }

    /// The sums of a register tile whose first row begins at an element and has a number, with a panel and its columns, which
    /// begin at an element of what is known of them. They are those of scaled rows.
    pub fn tile(&self, kb: &mut Kb, (x, row): (Val, Val), (panel, columns): (Val, Val)) -> Vec<Val> {
        let (mr, lanes) = (i64::from(self.tile.mr), i64::from(self.tile.lanes));
        let next = kb.k.add_int(panel, self.terms * lanes);
        let start = Start { rows: x, panel, fetch: Some(self.steps.fetch_whole(next)) };
        let zero = kb.k.int(0);
        let each: Vec<(Val, i64)> = (0..mr).map(|r| (zero, r * self.x_row)).collect();
        let column = kb.k.load(self.of_columns, columns, 0, self.tile.lanes, None);
        let before = (0..mr).map(|r| {
            let own = kb.k.load(self.own, row, r, 1, None);
            kb.k.sub(column, own)
        }).collect();
        let mut sums = self.steps.add_to(kb, start, &each, before);
        let sixes = self.terms / SIX;
        if sixes % 2 == 1 {
            // Half a step.
            let term = (sixes - 1) * SIX;
            let at = Start { rows: kb.k.add_int(x, term), panel: kb.k.add_int(panel, term * lanes), fetch: None };
            sums = self.steps.six_terms(kb, at, &each, &sums, 0);
        }
        for term in sixes * SIX..self.terms {
            let line = kb.k.load(self.steps.panels, panel, term * lanes, self.tile.lanes, None);
            for (sum, r) in sums.iter_mut().zip(0..) {
                let x = kb.k.load(self.steps.from, x, r * self.x_row + term, 1, None);
                *sum = kb.k.fma(x, line, *sum);
            }
        }
        sums
    }

    /// The sums of rows that begin at some elements, term by term.
    pub fn directly(&self, kb: &mut Kb, rows: &[Val], panel: Val) -> Vec<Val> {
        let zero = kb.k.int(0);
        let each: Vec<(Val, i64)> = rows.iter().map(|&row| (row, 0)).collect();
        self.direct.emit(kb, Start { rows: zero, panel, fetch: None }, &each)
    }

    /// True if a row is to be summed directly.
    pub fn is_odd(&self, kb: &mut Kb, row: Val) -> Val {
        let own = kb.k.load(self.own, row, 0, 1, None);
        kb.k.cmp(Pred::Ne, own, own)
    }

    /// The sums of a row that those of the scaled row are.
    pub fn scaled_back(&self, kb: &mut Kb, row: Val, sum: Val) -> Val {
        let inverse = kb.k.load(self.inverses, row, 0, 1, None);
        kb.k.mul(sum, inverse)
    }
}

impl Sum {
    /// Twelve terms.
    pub(in crate::kernels::contract) fn fip_step(&self, kb: &mut Kb, at: Start, rows: &[(Val, i64)], accs: &[Val]) -> Vec<Val> {
        (0..STEP / SIX).fold(accs.to_vec(), |accs, six| self.six_terms(kb, at, rows, &accs, six))
    }

    /// Six terms of a step: two pairs of opposite sign, and two directly.
    fn six_terms(&self, kb: &mut Kb, at: Start, rows: &[(Val, i64)], accs: &[Val], six: i64) -> Vec<Val> {
        let lanes = self.tile.lanes;
        let mut accs = accs.to_vec();
        let line = |kb: &mut Kb, i: i64| kb.k.load(self.panels, at.panel, (six * SIX + i) * i64::from(lanes), lanes, None);
        let element = |kb: &mut Kb, &(extra, offset): &(Val, i64), i: i64| {
            let at = kb.k.add(at.rows, extra);
            let x = kb.k.load(self.from, at, offset + six * SIX + i, 1, None);
            kb.k.widen(x, lanes)
        };
        for (pair, (first, second)) in PAIRS.into_iter().enumerate() {
            let single = 4 + pair as i64;
            let [y1, y2, y] = [first, second, single].map(|i| line(kb, i));
            for (sum, row) in accs.iter_mut().zip(rows) {
                let [x1, x2] = [first, second].map(|i| element(kb, row, i));
                let [a, b] = if is_opposite(pair, six) {
                    let a = kb.k.sub(y2, x1);
                    [kb.k.un(UnOp::Neg, a), kb.k.sub(y1, x2)]
                } else {
                    [kb.k.add(y2, x1), kb.k.add(y1, x2)]
                };
                *sum = kb.k.fma(a, b, *sum);
                let x = element(kb, row, single);
                *sum = kb.k.fma(x, y, *sum);
            }
        }
        accs
    }
}
