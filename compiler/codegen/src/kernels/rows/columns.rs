//! Rows on a GPU whose reduced elements lie apart, when there are too few of them to give every thread one.
//!
//! A tile is a block for 32 neighbouring columns. Thread `(x, y)` takes elements `y`, `y + 32`, ... of column `x`: these are
//! the 32 strided partial results of the contract, which the block combines in shared memory in the order of its tree.
//! Limit: memory, one read for each pass and one write.

use xlac_ir::kernel::WARP;

use super::*;

/// Columns of a tile, and partial results of each.
const COLUMNS: i64 = WARP as i64;
/// Elements of a column from which dividing it pays.
const TALL: i64 = 32;
/// Columns that keep a GPU busy with a thread each.
const MANY: i64 = 1 << 15;

/// Where a thread works.
struct Seat {
    column: Val,
    way: Val,
    /// The reductions' partial results.
    partial: Vec<Buf>,
}

impl Rows<'_> {
    /// True if columns should be divided among threads.
    pub(super) fn has_tall_columns(&self) -> bool {
        let columns = hint(&Dim::product(&self.kept));
        hint(&Dim::product(&self.red)) >= TALL && columns / i64::from(self.lanes) < MANY
    }

    pub(super) fn emit_columns(&self, kb: &mut Kb) -> Dim {
        let one = [Dim::ONE];
        let dims = if self.kept.is_empty() { &one[..] } else { &self.kept[..] };
        let (inner, outer) = dims.split_last().expect("an axis");
        let grid = [outer, &[inner.ceil_div(&Dim::from(COLUMNS))]].concat();
        kb.k.set_threads((COLUMNS * COLUMNS) as u32);
        let tile = kb.k.tile();
        let mut index = kb.unflatten(tile, &grid);
        let thread = kb.k.thread();
        let side = kb.k.int(COLUMNS);
        let (x, y) = (kb.k.bin(BinOp::Rem, thread, side), kb.k.bin(BinOp::Div, thread, side));
        let first = index.pop().expect("columns");
        let first = kb.k.mul_int(first, COLUMNS);
        let column = kb.k.add(first, x);
        // Threads beyond the last column work on it too, and store nothing.
        let n = kb.dim(inner);
        let last = kb.k.add_int(n, -1);
        let valid = kb.k.sub(n, column);
        index.push(kb.min(column, last));
        let partial = self.reductions.iter().enumerate();
        let partial = partial.map(|(i, r)| kb.k.shared(format!("partial{i}"), r.dtype, (COLUMNS * COLUMNS) as u64));
        let place = Seat { column: x, way: y, partial: partial.collect() };
        self.tall_column(kb, &index, valid, &place);
        Dim::product(&grid)
    }

    fn tall_column(&self, kb: &mut Kb, index: &[Val], valid: Val, place: &Seat) {
        let kept: Vec<Val> = if self.kept.is_empty() { Vec::new() } else { index.to_vec() };
        let (outer, inner) = index.split_at(index.len() - 1);
        let full_index = |red: &[Val]| [outer, red, inner].concat();
        let zero = kb.k.int(0);
        let zeros = vec![zero; self.red.len()];
        let n = kb.dim(&Dim::product(&self.red));
        let mut known = HashMap::new();
        for s in 0..self.passes {
            self.row_values(kb, s, full_index(&zeros), 1, None, &mut known);
            if !self.busy(s) {
                continue;
            }
            let reduces: Vec<&Reduction> = self.in_pass(s).collect();
            let init: Vec<Val> = reduces.iter().map(|r| kb.k.constant(neutral(r.f, r.dtype))).collect();
            let open = kb.k.begin_for((place.way, n, COLUMNS), &init, LoopHint::Plain);
            let (i, accs) = (open.var, open.phis.clone());
            let red = if self.red.is_empty() { Vec::new() } else { kb.unflatten(i, &self.red) };
            let mut point = self.point(full_index(&red), 1, Some(valid), &known);
            let next = self.pass_body(kb, s, &mut point, i, &accs, &kept, &red);
            let found = kb.k.end_for(open, &next);
            for (r, x) in reduces.iter().zip(found) {
                let x = self.combine_ways(kb, place, r, x);
                let x = kb.k.convert(x, self.g.ty(r.output).dtype);
                known.insert(r.output, x);
            }
        }
        self.row_values(kb, self.passes, full_index(&zeros), 1, None, &mut known);
        let first = kb.k.cmp(Pred::Eq, place.way, zero);
        let mut open = kb.k.begin_if(first);
        self.store_reduced(kb, &kept, 1, Some(valid), &known);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }

    /// The combination of a column's partial results, known to all its threads.
    fn combine_ways(&self, kb: &mut Kb, place: &Seat, r: &Reduction, x: Val) -> Val {
        let number = self.reductions.iter().position(|other| std::ptr::eq(other, r)).expect("one of them");
        let partial = place.partial[number];
        let row = kb.k.mul_int(place.way, COLUMNS);
        let at = kb.k.add(row, place.column);
        kb.k.store(partial, at, 0, x, None);
        kb.k.barrier();
        let mut distance = COLUMNS / 2;
        while distance > 0 {
            let limit = kb.k.int(distance);
            let lower = kb.k.cmp(Pred::Lt, place.way, limit);
            let mut open = kb.k.begin_if(lower);
            let a = kb.k.load(partial, at, 0, 1, None);
            let b = kb.k.load(partial, at, distance * COLUMNS, 1, None);
            let sum = kb.k.bin(combine(r.f), a, b);
            kb.k.store(partial, at, 0, sum, None);
            kb.k.begin_else(&mut open, &[]);
            kb.k.end_if(open, &[]);
            kb.k.barrier();
            distance /= 2;
        }
        kb.k.load(partial, place.column, 0, 1, None)
    }
}
