//! Elementwise kernels whose operands run along another axis than their results, on a CPU.
//!
//! A block is a rectangle of the two axes. It is computed along the contiguous axis of the operands, one vector for each
//! row, and turned round in registers before it is stored along the results' own: both sides touch whole lines of memory.
//! Blocks at the end of an axis overlap those before them, which store what both compute. Limit: memory, one read and one
//! write.

use super::*;

/// Length of an axis up to which a block takes all of it, whatever it is.
const SHORT: i64 = 8;
/// Cost of the elementwise ops up to which a block's rows are unrolled.
const CHEAP: u32 = 32;

/// A kernel to be emitted as blocks.
pub(super) struct Blocks<'a> {
    g: &'a Graph,
    /// The axes: those before the last two in any order, that of the rows, that of a row's lanes.
    dims: Vec<Dim>,
    /// Operands with strides for these axes.
    leaves: HashMap<ValueId, Leaf>,
    /// Results with strides for these axes; the rows' is 1.
    outs: Vec<Out>,
    lanes: i64,
    rows: i64,
}

/// The kernel as blocks, if more operands are contiguous along another axis than that of the results than along theirs.
pub(super) fn plan<'a>(
    l: &Lowering<'a>,
    dims: &[Dim],
    leaves: &HashMap<ValueId, Leaf>,
    outs: &[Out],
    ops: u32,
) -> Option<Blocks<'a>> {
    let last = dims.len().checked_sub(1)?;
    let movable = |o: &Out| o.strides[last].is(1) && o.dtype != DType::Bool;
    if ops > CHEAP || !outs.iter().all(movable) {
        return None;
    }
    let along = |a: usize, b: usize| leaves.values().filter(|leaf| runs_along(leaf, a, b)).count();
    let axis = (0..last).find(|&a| along(a, last) > along(last, a))?;
    let widest = outs.iter().map(|o| o.dtype.compute().size() as u32).max().unwrap_or(4).max(4);
    let full = i64::from(l.target.vector_bytes / widest).max(1);
    let below = |n: i64| 1 << full.min(n).max(1).ilog2();
    let lanes = dims[axis].as_const().map_or(full, below);
    let rows = dims[last].as_const().map_or(full, |n| if n <= SHORT { n } else { below(n) });
    if lanes < full.min(4) || lanes < 2 {
        return None;
    }
    let turn = |of: &[Dim]| -> Vec<Dim> { order(of.len(), axis).map(|a| of[a].clone()).collect() };
    let leaves = leaves.iter().map(|(&v, leaf)| (v, match leaf {
        Leaf::Buffer { buf, strides, dtype } => Leaf::Buffer { buf: *buf, strides: turn(strides), dtype: *dtype },
        constant => constant.clone(),
    }));
    let outs = outs.iter().map(|o| Out { strides: turn(&o.strides), ..*o });
    Some(Blocks { g: l.g, dims: turn(dims), leaves: leaves.collect(), outs: outs.collect(), lanes, rows })
}

/// Axes with `axis` behind all others.
fn order(rank: usize, axis: usize) -> impl Iterator<Item = usize> { (0..rank).filter(move |&a| a != axis).chain([axis]) }

/// True if an operand is contiguous along axis `a` and strided along `b`.
fn runs_along(leaf: &Leaf, a: usize, b: usize) -> bool {
    matches!(leaf, Leaf::Buffer { strides, .. } if strides[a].is(1) && !strides[b].is(0) && !strides[b].is(1))
}

impl Blocks<'_> {
    /// Emits the kernel; returns the number of tiles.
    pub(super) fn emit(&self, kb: &mut Kb, walk: Walk) -> Dim {
        let outer = self.dims.len() - 2;
        let (rows, lanes) = (&self.dims[outer], &self.dims[outer + 1]);
        let several = rows.as_const() != Some(self.rows);
        let mut grid = self.dims[..outer].to_vec();
        if several {
            grid.push(rows.ceil_div(&Dim::from(self.rows)));
        }
        grid.push(lanes.ceil_div(&Dim::from(self.lanes)));
        nest_sized(kb, &grid, 1, walk, self.rows * self.lanes, |kb, index, _, _| {
            let row = if several { kb.k.mul_int(index[outer], self.rows) } else { kb.k.int(0) };
            let lane = kb.k.mul_int(index[index.len() - 1], self.lanes);
            self.guarded(kb, &index[..outer], row, lane);
        })
    }

    /// The block that begins at `row` and `lane`; where an axis may be shorter than a block, element by element then.
    fn guarded(&self, kb: &mut Kb, outer: &[Val], row: Val, lane: Val) {
        let rank = self.dims.len();
        let (n, m) = (kb.dim(&self.dims[rank - 2]), kb.dim(&self.dims[rank - 1]));
        let (last_row, last_lane) = (kb.k.add_int(n, -self.rows), kb.k.add_int(m, -self.lanes));
        let block = |kb: &mut Kb| {
            let (row, lane) = (kb.min(row, last_row), kb.min(lane, last_lane));
            self.block(kb, outer, row, lane);
        };
        let zero = kb.k.int(0);
        let shorter = kb.min(last_row, last_lane);
        let fits = kb.k.cmp(Pred::Ge, shorter, zero);
        if kb.k.known(fits).is_some() {
            block(kb);
            return;
        }
        let mut open = kb.k.begin_if(fits);
        block(kb);
        kb.k.begin_else(&mut open, &[]);
        self.elements(kb, outer, (row, n), (lane, m));
        kb.k.end_if(open, &[]);
    }

    fn elements(&self, kb: &mut Kb, outer: &[Val], (row, n): (Val, Val), (lane, m): (Val, Val)) {
        let (row_end, lane_end) = (kb.k.add_int(row, self.rows), kb.k.add_int(lane, self.lanes));
        let (row_end, lane_end) = (kb.min(row_end, n), kb.min(lane_end, m));
        let each_row = kb.k.begin_for((row, row_end, 1), &[], LoopHint::Plain);
        let each = kb.k.begin_for((lane, lane_end, 1), &[], LoopHint::Plain);
        let mut point = self.point([outer, &[each_row.var, each.var]].concat(), 1);
        for out in &self.outs {
            let x = point.value(kb, out.value);
            let x = kb.k.convert(x, out.dtype);
            let at = kb.address(&point.index, &out.strides);
            kb.k.store(out.buf, at, 0, x, None);
        }
        kb.k.end_for(each, &[]);
        kb.k.end_for(each_row, &[]);
    }

    fn point(&self, index: Vec<Val>, lanes: u32) -> Point<'_> {
        Point { g: self.g, leaves: &self.leaves, index, lanes, count: None, known: HashMap::new() }
    }

    fn block(&self, kb: &mut Kb, outer: &[Val], row: Val, lane: Val) {
        let lanes = self.lanes as u32;
        let mut computed = vec![Vec::new(); self.outs.len()];
        for i in 0..self.rows {
            let at = kb.k.add_int(row, i);
            let mut point = self.point([outer, &[at, lane]].concat(), lanes);
            for (out, rows) in self.outs.iter().zip(&mut computed) {
                let x = point.value(kb, out.value);
                let x = kb.k.convert(x, out.dtype);
                rows.push(kb.k.widen(x, lanes));
            }
        }
        for (out, rows) in self.outs.iter().zip(&computed) {
            let at = kb.address(&[outer, &[row, lane]].concat(), &out.strides);
            let columns = interleave(kb, rows);
            self.store(kb, out, at, &columns);
        }
    }

    /// Stores what [`interleave`] made: the lanes of column 0, then those of column 1 and so on.
    fn store(&self, kb: &mut Kb, out: &Out, at: Val, columns: &[Val]) {
        let apart = &out.strides[self.dims.len() - 1];
        if apart.as_const() == Some(self.rows) {
            columns.iter().zip(0..).for_each(|(&x, i)| kb.k.store(out.buf, at, i * self.lanes, x, None));
            return;
        }
        for column in 0..self.lanes {
            let x = consecutive(kb, columns, column * self.rows, self.rows);
            let step = kb.dim(&(apart * &Dim::from(column)));
            let at = kb.k.add(at, step);
            kb.k.store(out.buf, at, 0, x, None);
        }
    }
}

/// The lanes of some vectors in turn: lane 0 of each, then lane 1 of each and so on, in as many vectors.
fn interleave(kb: &mut Kb, rows: &[Val]) -> Vec<Val> {
    match rows.len() {
        0 | 1 => rows.to_vec(),
        n if n % 2 == 1 => (0..n).map(|i| collect(kb, rows, i)).collect(),
        _ => {
            let half = |first: usize| rows.iter().copied().skip(first).step_by(2).collect::<Vec<_>>();
            let (even, odd) = (interleave(kb, &half(0)), interleave(kb, &half(1)));
            let lanes = kb.k.ty(rows[0]).lanes;
            let pairs = |first: u32| (0..lanes).map(|i| (first + i) / 2 + (first + i) % 2 * lanes).collect::<Vec<_>>();
            even.iter().zip(&odd).flat_map(|(&a, &b)| [0, lanes].map(|first| kb.k.permute(a, b, &pairs(first)))).collect()
        }
    }
}

/// Vector `i` of [`interleave`], one row after the other.
fn collect(kb: &mut Kb, rows: &[Val], i: usize) -> Val {
    let lanes = kb.k.ty(rows[0]).lanes;
    let numbers = i as u32 * lanes..(i as u32 + 1) * lanes;
    let count = rows.len() as u32;
    (1..count).fold(rows[0], |all, row| {
        let picks: Vec<u32> = numbers.clone().zip(0..).map(|(number, lane)| match number % count {
            r if r == row => lanes + number / count,
            0 if row == 1 => number / count,
            _ => lane,
        }).collect();
        kb.k.permute(all, rows[row as usize], &picks)
    })
}

/// `n` lanes from number `first` on of some vectors laid end to end.
fn consecutive(kb: &mut Kb, vectors: &[Val], first: i64, n: i64) -> Val {
    let lanes = i64::from(kb.k.ty(vectors[0]).lanes);
    let (mut at, end) = (first, first + n);
    let mut all = None;
    while at < end {
        let (vector, lane) = (vectors[(at / lanes) as usize], at % lanes);
        let taken = (lanes - lane).min(end - at);
        let part = kb.k.slice(vector, lane as u32, taken as u32);
        all = Some(match all {
            None => part,
            Some(before) => kb.k.concat(before, part),
        });
        at += taken;
    }
    all.expect("at least one lane")
}
