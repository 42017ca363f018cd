//! The loops of a matrix product by Strassen's algorithm.

use super::algorithm::{APART, Algorithm, combine};
use super::*;
use crate::kb::multiple;

/// By how much the sums of squares of two rows that are added may differ. The smaller row takes over the larger one's errors:
/// with this much they stay below the stated bound.
const ALIKE: f32 = 8.0;
/// Between these, a sum of squares tells the size of a row, and sums of two operands are finite.
const SQUARES: [f32; 2] = [1e-30, 1e30];

/// Everything the loops need. Index order of results and operands: row axes, column.
pub(super) struct Emitter<'a> {
    pub g: &'a Graph,
    pub anchor: ValueId,
    pub dtype: DType,
    pub block: Block,
    pub products: Products,
    /// Sizes of the row axes.
    pub rows: Vec<Dim>,
    /// Half of the terms, and of the columns.
    pub terms: i64,
    pub cols: i64,
    pub a: Buf,
    /// Strides of the operand along the row axes.
    pub a_rows: Vec<Dim>,
    /// What the operand's elements are multiplied by, term by term.
    pub term_scales: Option<Buf>,
    /// What the results are multiplied by, column by column.
    pub col_scales: Option<Buf>,
    /// Results of a row before their epilogue, if that is long: `[half][column of a panel]`.
    pub spill: Option<Buf>,
    pub leaves: HashMap<ValueId, Leaf>,
    pub outs: Vec<Out>,
}

/// The pairs of rows of a tile task, and its panels.
struct Task {
    /// The first pair, and how many there are.
    first: Val,
    count: Val,
    /// Register tiles of pairs.
    row_tiles: Val,
    panels: (Val, Val),
}

impl Emitter<'_> {
    /// Emits the kernel; returns the number of tile tasks.
    pub fn emit(&self, kb: &mut Kb) -> Dim {
        let pairs = Dim::product(&self.rows).ceil_div(&Dim::from(2i64));
        let panels = Dim::from(self.block.panels_of(self.cols));
        let blocks = pairs.ceil_div(&Dim::from(self.block.len()));
        let chunks = panels.ceil_div(&Dim::from(self.block.panels));
        let number = kb.k.tile();
        let index = kb.unflatten(number, &[blocks.clone(), chunks.clone()]);
        let first = kb.k.mul_int(index[0], self.block.len());
        let all = kb.dim(&pairs);
        let left = kb.k.sub(all, first);
        let length = kb.k.int(self.block.len());
        let count = kb.min(left, length);
        let mr = i64::from(self.block.tile.mr);
        let up = kb.k.add_int(count, mr - 1);
        let divisor = kb.k.int(mr);
        let row_tiles = kb.k.bin(BinOp::Div, up, divisor);
        let from = kb.k.mul_int(index[1], self.block.panels);
        let to = kb.k.add_int(from, self.block.panels);
        let end = kb.dim(&panels);
        let task = Task { first, count, row_tiles, panels: (from, kb.min(to, end)) };

        let alike = self.operands(kb, &PAIRED, &task);
        let mut open = kb.k.begin_if(alike);
        self.panels(kb, &PAIRED, &task);
        kb.k.begin_else(&mut open, &[]);
        self.operands(kb, &APART, &task);
        self.panels(kb, &APART, &task);
        kb.k.end_if(open, &[]);
        &blocks * &chunks
    }

    /// Combines the operands of all pairs. True if the rows of each are alike.
    fn operands(&self, kb: &mut Kb, algorithm: &Algorithm, task: &Task) -> Val {
        let mr = i64::from(self.block.tile.mr);
        let rows = kb.k.mul_int(task.row_tiles, mr);
        let zero = kb.k.int(0);
        let all = kb.k.constant(Const::bool(true));
        let last = kb.dim(&(&Dim::product(&self.rows) - &Dim::ONE));
        let each = kb.k.begin_for((zero, rows, 1), &[all], LoopHint::Plain);
        // Pairs that only fill the last register tile repeat the last row.
        let q = kb.k.add(task.first, each.var);
        let row = kb.k.mul_int(q, 2);
        let row = kb.min(row, last);
        let partner = kb.k.add_int(row, 1);
        let partner = kb.min(partner, last);
        let at = [row, partner].map(|row| {
            let index = kb.unflatten(row, &self.rows);
            kb.address(&index, &self.a_rows)
        });
        let pitch = kb.dim(&self.products.x_row);
        let to = kb.k.mul(each.var, pitch);
        let squares = self.pair(kb, algorithm, at, to);
        let alike = self.alike(kb, squares);
        let alike = kb.k.bin(BinOp::And, each.phis[0], alike);
        kb.k.end_for(each, &[alike])[0]
    }

    /// Combines the operands of a pair, whose rows begin at two addresses; returns each row's sum of squares.
    fn pair(&self, kb: &mut Kb, algorithm: &Algorithm, at: [Val; 2], to: Val) -> [Val; 2] {
        let lanes = self.block.tile.lanes;
        let whole = self.terms / i64::from(lanes) * i64::from(lanes);
        let (zero, end) = (kb.k.int(0), kb.k.int(whole));
        let none = kb.k.splat_const(Const::f32(0.0), lanes);
        let open = kb.k.begin_for((zero, end, i64::from(lanes)), &[none; 4], LoopHint::Plain);
        let phis = open.phis.clone();
        let squares = self.vector(kb, algorithm, (at, open.var, to), None, &phis);
        let mut squares = kb.k.end_for(open, &squares);
        if whole < self.terms {
            let count = kb.k.int(self.terms - whole);
            squares = self.vector(kb, algorithm, (at, end, to), Some(count), &squares);
        }
        [0, 2].map(|i| {
            let row = kb.k.add(squares[i], squares[i + 1]);
            kb.across(BinOp::Add, row)
        })
    }

    /// Combines a vector of the operands of a pair, from term `term` of a half on, and adds to the sums of their squares.
    fn vector(&self, kb: &mut Kb, algorithm: &Algorithm, (at, term, to): ([Val; 2], Val, Val), count: Option<Val>, squares: &[Val]) -> Vec<Val> {
        let lanes = self.block.tile.lanes;
        let scales = self.term_scales.map(|scales| [0, self.terms].map(|half| kb.k.load(scales, term, half, lanes, count)));
        let mut halves = Vec::new();
        for at in at {
            let at = kb.k.add(at, term);
            for half in 0..2 {
                let x = kb.k.load(self.a, at, half * self.terms, lanes, count);
                let x = kb.k.convert(x, DType::F32);
                halves.push(scales.map_or(x, |s| kb.k.mul(x, s[half as usize])));
            }
        }
        let to = kb.k.add(to, term);
        for (i, combination) in (0..).zip(algorithm.operands) {
            let sum = combine(kb, combination, &halves);
            let (to, offset) = Products::along(kb, to, i, &self.products.x_product);
            kb.k.store(self.products.x, to, offset, sum, count);
        }
        squares.iter().zip(&halves).map(|(&sum, &x)| kb.k.fma(x, x, sum)).collect()
    }

    /// True if two rows are of a size, by their sums of squares. False for infinities and what is not a number.
    fn alike(&self, kb: &mut Kb, squares: [Val; 2]) -> Val {
        let (least, most) = (kb.min(squares[0], squares[1]), kb.max(squares[0], squares[1]));
        let [low, high] = SQUARES.map(|x| kb.k.constant(Const::f32(x)));
        let factor = kb.k.constant(Const::f32(ALIKE));
        let limit = kb.k.mul(least, factor);
        let tests = [kb.k.cmp(Pred::Le, most, limit), kb.k.cmp(Pred::Ge, least, low), kb.k.cmp(Pred::Le, most, high)];
        tests.into_iter().reduce(|a, b| kb.k.bin(BinOp::And, a, b)).expect("three tests")
    }

    /// Multiplies with the task's panels and stores the results.
    fn panels(&self, kb: &mut Kb, algorithm: &Algorithm, task: &Task) {
        let zero = kb.k.int(0);
        let panel = kb.k.begin_for((task.panels.0, task.panels.1, 1), &[], LoopHint::Plain);
        self.products.multiply(kb, panel.var, task.row_tiles, (algorithm.operands.len() as i64, algorithm.period as i64));
        let col = kb.k.mul_int(panel.var, self.block.tile.nr());
        let each = kb.k.begin_for((zero, task.count, 1), &[], LoopHint::Plain);
        let q = kb.k.add(task.first, each.var);
        self.results(kb, algorithm, each.var, q, col);
        kb.k.end_for(each, &[]);
        kb.k.end_for(panel, &[]);
    }

    /// The results of pair `q`, which is number `pair` of its block, for the columns from `col` of each half on.
    fn results(&self, kb: &mut Kb, algorithm: &Algorithm, pair: Val, q: Val, col: Val) {
        let nr = self.block.tile.nr();
        if self.cols % nr == 0 {
            return self.columns(kb, algorithm, pair, q, (col, None));
        }
        let n = kb.k.int(self.cols);
        let left = kb.k.sub(n, col);
        let width = kb.k.int(nr);
        let whole = kb.k.cmp(Pred::Ge, left, width);
        let mut open = kb.k.begin_if(whole);
        self.columns(kb, algorithm, pair, q, (col, None));
        kb.k.begin_else(&mut open, &[]);
        self.columns(kb, algorithm, pair, q, (col, Some(left)));
        kb.k.end_if(open, &[]);
    }

    /// [`Emitter::results`] for `left` of the columns, or all.
    fn columns(&self, kb: &mut Kb, algorithm: &Algorithm, pair: Val, q: Val, (col, left): (Val, Option<Val>)) {
        let (tile, products) = (self.block.tile, &self.products);
        let at = kb.k.mul_int(pair, tile.nr());
        let mut sums: [Vec<Val>; 4] = Default::default();
        for v in 0..i64::from(tile.nv) {
            let load = |i: i64| kb.k.load(products.y, at, i * products.y_product + v * i64::from(tile.lanes), tile.lanes, None);
            let values: Vec<Val> = (0..algorithm.operands.len() as i64).map(load).collect();
            sums.iter_mut().zip(algorithm.results).for_each(|(sums, result)| sums.push(combine(kb, result, &values)));
        }
        let row = kb.k.mul_int(q, 2);
        self.row(kb, row, (col, left), &sums[..2]);
        let partner = kb.k.add_int(row, 1);
        let rows = Dim::product(&self.rows);
        if multiple(&rows, 2) {
            return self.row(kb, partner, (col, left), &sums[2..]);
        }
        let end = kb.dim(&rows);
        let exists = kb.k.cmp(Pred::Lt, partner, end);
        let mut open = kb.k.begin_if(exists);
        self.row(kb, partner, (col, left), &sums[2..]);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }

    /// Stores a row's results in both halves of the columns, with their epilogue.
    fn row(&self, kb: &mut Kb, row: Val, (col, left): (Val, Option<Val>), sums: &[Vec<Val>]) {
        let tile = self.block.tile;
        let index = kb.unflatten(row, &self.rows);
        let all: Vec<(i64, Val)> = (0..).zip(sums).flat_map(|(half, sums)| {
            sums.iter().enumerate().map(move |(v, &sum)| (half * self.cols + v as i64 * i64::from(tile.lanes), sum))
        }).collect();
        let Some(spill) = self.spill else {
            for (shift, sum) in all {
                let count = left.map(|left| kb.k.add_int(left, -(shift % self.cols)));
                let col = kb.k.add_int(col, shift);
                self.store(kb, &index, col, count, sum);
            }
            return;
        };
        let zero = kb.k.int(0);
        let (lanes, vectors) = (i64::from(tile.lanes), kb.k.int(i64::from(tile.nv)));
        (0..).zip(&all).for_each(|(i, (_, sum))| kb.k.store(spill, zero, i * lanes, *sum, None));
        let two = kb.k.int(2);
        let half = kb.k.begin_for((zero, two, 1), &[], LoopHint::Plain);
        let skip = kb.k.mul_int(half.var, self.cols);
        let col = kb.k.add(col, skip);
        let at = kb.k.mul_int(half.var, tile.nr());
        let vector = kb.k.begin_for((zero, vectors, 1), &[], LoopHint::Plain);
        let shift = kb.k.mul_int(vector.var, lanes);
        let at = kb.k.add(at, shift);
        let sum = kb.k.load(spill, at, 0, tile.lanes, None);
        let count = left.map(|left| kb.k.sub(left, shift));
        let col = kb.k.add(col, shift);
        self.store(kb, &index, col, count, sum);
        kb.k.end_for(vector, &[]);
        kb.k.end_for(half, &[]);
    }

    /// Stores a vector of results with their epilogue.
    fn store(&self, kb: &mut Kb, row: &[Val], col: Val, count: Option<Val>, mut sum: Val) {
        let lanes = self.block.tile.lanes;
        if let Some(scales) = self.col_scales {
            let scale = kb.k.load(scales, col, 0, lanes, count);
            sum = kb.k.mul(sum, scale);
        }
        let known = HashMap::from([(self.anchor, kb.k.convert(sum, self.dtype))]);
        let index = [row, &[col]].concat();
        let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes, count, known };
        point.store(kb, &self.outs);
    }
}
