//! The loops of a product by fast inner products.

use super::rows::Rows;
use super::*;
use crate::kernels::contract::form;

/// Rows of a register tile below which they are summed directly.
pub(super) const FEW_ROWS: i64 = 13;
/// Rows that are summed directly at once: as many as a multiply-add takes cycles.
pub(super) const ROWS_AT_ONCE: i64 = 4;

/// Everything the loops need.
pub(super) struct Emitter<'a> {
    pub g: &'a Graph,
    pub anchor: ValueId,
    pub dtype: DType,
    pub scheme: Scheme,
    pub terms: i64,
    pub cols: i64,
    pub rows: Rows,
    /// What rows are scaled to: a power of two that their sums of squares shall be near.
    pub square: i64,
    pub sums: Sums,
    /// Strides of results and operands along the row axes, each once, and where the task's rows lie by them: `[strides][row]`.
    pub strides: Vec<Vec<Dim>>,
    pub places: Buf,
    /// What the results are multiplied by, column by column.
    pub col_scales: Option<Buf>,
    /// Results of a register tile before their epilogue, if that is long.
    pub spill: Option<Buf>,
    /// Index order: each of `strides`, column.
    pub leaves: HashMap<ValueId, Leaf>,
    pub outs: Vec<Out>,
}

/// A register tile.
struct Spot {
    /// Its first row among the task's.
    row: Val,
    /// First element of the panel, first column, and how many there are, if not a whole panel's.
    panel: Val,
    col: Val,
    count: Option<Val>,
    /// A row is to be summed directly.
    odd: Val,
}

impl Emitter<'_> {
    /// Emits the kernel; returns the number of tile tasks.
    pub fn emit(&self, kb: &mut Kb) -> Dim {
        let (mr, nr) = (i64::from(self.scheme.tile.mr), self.scheme.tile.nr());
        let total = Dim::product(&self.rows.rows);
        let panels = Dim::from((self.cols + nr - 1) / nr);
        let blocks = total.ceil_div(&Dim::from(self.scheme.len()));
        let chunks = panels.ceil_div(&Dim::from(self.scheme.panels));
        let number = kb.k.tile();
        let index = kb.unflatten(number, &[blocks.clone(), chunks.clone()]);
        let first = kb.k.mul_int(index[0], self.scheme.len());
        let all = kb.dim(&total);
        let left = kb.k.sub(all, first);
        let length = kb.k.int(self.scheme.len());
        let count = kb.min(left, length);
        let up = kb.k.add_int(count, mr - 1);
        let height = kb.k.int(mr);
        let tiles = kb.k.bin(BinOp::Div, up, height);
        let padded = kb.k.mul_int(tiles, mr);
        let odd = self.rows.prepare(kb, (first, padded), self.square, &|kb, row, index| {
            for (i, strides) in (0..).zip(&self.strides) {
                let place = kb.address(index, strides);
                kb.k.store(self.places, row, i * self.scheme.len(), place, None);
            }
        });

        let from = kb.k.mul_int(index[1], self.scheme.panels);
        let to = kb.k.add_int(from, self.scheme.panels);
        let end = kb.dim(&panels);
        let to = kb.min(to, end);
        let zero = kb.k.int(0);
        let panel_loop = kb.k.begin_for((from, to, 1), &[], LoopHint::Plain);
        let panel = kb.k.mul_int(panel_loop.var, self.terms * nr);
        let col = kb.k.mul_int(panel_loop.var, nr);
        let columns = (self.cols % nr != 0).then(|| {
            let n = kb.k.int(self.cols);
            let left = kb.k.sub(n, col);
            let width = kb.k.int(nr);
            kb.min(left, width)
        });
        let tile = kb.k.begin_for((zero, tiles, 1), &[], LoopHint::Plain);
        let row = kb.k.mul_int(tile.var, mr);
        let at = Spot { row, panel, col, count: columns, odd };
        self.tile(kb, &total, count, &at);
        kb.k.end_for(tile, &[]);
        kb.k.end_for(panel_loop, &[]);
        &blocks * &chunks
    }

    /// A register tile, or its rows directly, some at once, if they are few.
    fn tile(&self, kb: &mut Kb, total: &Dim, count: Val, at: &Spot) {
        let mr = i64::from(self.scheme.tile.mr);
        if total.as_const().is_some_and(|n| n % mr == 0 || n % mr >= FEW_ROWS) {
            return self.sums(kb, at);
        }
        let left = kb.k.sub(count, at.row);
        let few = kb.k.int(FEW_ROWS);
        let enough = kb.k.cmp(Pred::Ge, left, few);
        let mut open = kb.k.begin_if(enough);
        self.sums(kb, at);
        kb.k.begin_else(&mut open, &[]);
        let zero = kb.k.int(0);
        let each = kb.k.begin_for((zero, left, ROWS_AT_ONCE), &[], LoopHint::Plain);
        let last = kb.k.add_int(left, -1);
        let rows: Vec<Val> = (0..ROWS_AT_ONCE).map(|i| {
            let row = kb.k.add_int(each.var, i);
            let row = kb.min(row, last);
            kb.k.add(at.row, row)
        }).collect();
        self.directly(kb, at, &rows);
        kb.k.end_for(each, &[]);
        kb.k.end_if(open, &[]);
    }

    /// A register tile from its first term to its epilogue.
    fn sums(&self, kb: &mut Kb, at: &Spot) {
        let (mr, lanes) = (i64::from(self.scheme.tile.mr), i64::from(self.scheme.tile.lanes));
        self.fetch_epilogue(kb, at);
        let x = kb.k.mul_int(at.row, self.rows.x_row);
        let sums = self.sums.tile(kb, (x, at.row), (at.panel, at.col));
        let zero = kb.k.int(0);
        match self.spill {
            None => (0..mr).zip(sums).for_each(|(r, sum)| {
                let row = kb.k.add_int(at.row, r);
                self.finish(kb, at, row, sum);
            }),
            Some(spill) => {
                (0..).zip(sums).for_each(|(r, sum)| kb.k.store(spill, zero, r * lanes, sum, None));
                let end = kb.k.int(mr);
                let each = kb.k.begin_for((zero, end, 1), &[], LoopHint::Plain);
                let slot = kb.k.mul_int(each.var, lanes);
                let sum = kb.k.load(spill, slot, 0, lanes as u32, None);
                let row = kb.k.add(at.row, each.var);
                self.finish(kb, at, row, sum);
                kb.k.end_for(each, &[]);
            }
        }
        let mut open = kb.k.begin_if(at.odd);
        self.odd_rows(kb, at);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }

    /// Sums those rows of a tile directly that have to be.
    fn odd_rows(&self, kb: &mut Kb, at: &Spot) {
        let (zero, height) = (kb.k.int(0), kb.k.int(i64::from(self.scheme.tile.mr)));
        let each = kb.k.begin_for((zero, height, 1), &[], LoopHint::Plain);
        let row = kb.k.add(at.row, each.var);
        let is_odd = self.sums.is_odd(kb, row);
        let mut open = kb.k.begin_if(is_odd);
        self.directly(kb, at, &[row]);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
        kb.k.end_for(each, &[]);
    }

    /// Sums some rows directly.
    fn directly(&self, kb: &mut Kb, at: &Spot, rows: &[Val]) {
        let x: Vec<Val> = rows.iter().map(|&row| kb.k.mul_int(row, self.rows.x_row)).collect();
        let sums = self.sums.directly(kb, &x, at.panel);
        rows.iter().zip(sums).for_each(|(&row, sum)| self.finish(kb, at, row, sum));
    }

    /// Stores the results of a row, whose number is given in the task, with their epilogue.
    fn finish(&self, kb: &mut Kb, at: &Spot, row: Val, sum: Val) {
        let lanes = self.scheme.tile.lanes;
        let mut value = self.sums.scaled_back(kb, row, sum);
        if let Some(scales) = self.col_scales {
            let scale = kb.k.load(scales, at.col, 0, lanes, None);
            value = kb.k.mul(value, scale);
        }
        let known = HashMap::from([(self.anchor, kb.k.convert(value, self.dtype))]);
        let index = self.index(kb, at, row);
        let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes, count: at.count, known };
        point.store(kb, &self.outs);
    }

    /// Where the results of a row of the task lie.
    fn index(&self, kb: &mut Kb, at: &Spot, row: Val) -> Vec<Val> {
        let place = |i: usize| kb.k.load(self.places, row, i as i64 * self.scheme.len(), 1, None);
        (0..self.strides.len()).map(place).chain([at.col]).collect()
    }

    /// Fetches what the epilogue of a register tile will read and write, while its sums are made.
    fn fetch_epilogue(&self, kb: &mut Kb, at: &Spot) {
        let mut lines = form::lines(&self.leaves, &self.outs);
        lines.retain(|(_, strides)| strides.iter().rev().skip(1).any(|s| !s.is(0)));
        for r in 0..i64::from(self.scheme.tile.mr) {
            let row = kb.k.add_int(at.row, r);
            let index = self.index(kb, at, row);
            for &(buf, strides) in &lines {
                let first = kb.address(&index, strides);
                form::fetch(kb, buf, first, self.scheme.tile.nr());
            }
        }
    }
}
