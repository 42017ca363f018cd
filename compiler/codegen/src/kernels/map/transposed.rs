//! Elementwise kernels whose operands run along another axis than their results, on a GPU.
//!
//! A tile is a square of the two axes. Its threads first read such operands along their own contiguous axis into shared
//! memory and, after a barrier, compute along that of the results: both sides touch whole lines of memory. Rows of the
//! square are one element longer than it, so that a column lies in different banks. Limit: memory, one read and one write.

use super::*;

/// Side of the square.
const SIDE: i64 = 32;
/// Threads of a tile; each has `SIDE * SIDE / THREADS` elements.
const THREADS: i64 = 256;

/// A kernel to be emitted as squares.
pub(super) struct Squares<'a> {
    pub(super) g: &'a Graph,
    pub(super) dims: &'a [Dim],
    pub(super) leaves: &'a HashMap<ValueId, Leaf>,
    pub(super) outs: &'a [Out],
    /// The contiguous axis of the operands; that of the results is the last one.
    pub(super) axis: usize,
}

/// The axis along which some operand is contiguous while no result is, if squares are worth it.
pub(super) fn operand_axis(dims: &[Dim], leaves: &HashMap<ValueId, Leaf>, outs: &[Out]) -> Option<usize> {
    let last = dims.len().checked_sub(1)?;
    let large = |a: usize| hint(&dims[a]) >= SIDE / 2;
    let unit = |strides: &[Dim], a: usize| strides[a].is(1);
    if !large(last) || !outs.iter().all(|o| unit(&o.strides, last)) {
        return None;
    }
    (0..last).filter(|&a| large(a)).find(|&a| leaves.values().any(|leaf| runs_along(leaf, a, last)))
}

/// True if an operand is contiguous along axis `a` and strided along the last one.
fn runs_along(leaf: &Leaf, a: usize, last: usize) -> bool {
    matches!(leaf, Leaf::Buffer { strides, .. } if strides[a].is(1) && !strides[last].is(0) && !strides[last].is(1))
}

impl Squares<'_> {
    /// Emits the kernel; returns the number of tiles.
    pub(super) fn emit(&self, kb: &mut Kb) -> Dim {
        let last = self.dims.len() - 1;
        let side = Dim::from(SIDE);
        let squares = |a: usize| self.dims[a].ceil_div(&side);
        let grid: Vec<Dim> =
            (0..self.dims.len()).map(|a| if a == last || a == self.axis { squares(a) } else { self.dims[a].clone() }).collect();
        kb.k.set_threads(THREADS as u32);
        let tile = kb.k.tile();
        let mut index = kb.unflatten(tile, &grid);
        for a in [self.axis, last] {
            index[a] = kb.k.mul_int(index[a], SIDE);
        }
        let thread = kb.k.thread();
        let side = kb.k.int(SIDE);
        let (x, y) = (kb.k.bin(BinOp::Rem, thread, side), kb.k.bin(BinOp::Div, thread, side));
        let staged = self.stage(kb, &index, (x, y));
        kb.k.barrier();
        self.each(kb, &index, (x, y), (last, self.axis), |kb, place, (column, row)| {
            let known = staged.iter().map(|&(v, buf, dtype)| {
                let at = kb.k.mul_int(column, SIDE + 1);
                let at = kb.k.add(at, row);
                let value = kb.k.load(buf, at, 0, 1, None);
                (v, kb.k.convert(value, dtype))
            });
            let known = known.collect();
            let mut point = Point { g: self.g, leaves: self.leaves, index: place, lanes: 1, count: None, known };
            for out in self.outs {
                let value = point.value(kb, out.value);
                let value = kb.k.convert(value, out.dtype);
                let at = kb.address(&point.index, &out.strides);
                kb.k.store(out.buf, at, 0, value, None);
            }
        });
        Dim::product(&grid)
    }

    /// Reads the operands that run along the other axis into shared memory.
    fn stage(&self, kb: &mut Kb, index: &[Val], (x, y): (Val, Val)) -> Vec<(ValueId, Buf, DType)> {
        let last = self.dims.len() - 1;
        let mut values: Vec<ValueId> = self.leaves.keys().copied().collect();
        values.sort();
        let mut staged = Vec::new();
        for v in values {
            let Leaf::Buffer { buf, strides, dtype } = &self.leaves[&v] else { continue };
            if !runs_along(&self.leaves[&v], self.axis, last) {
                continue;
            }
            let square = kb.k.shared(format!("square{}", staged.len()), kb.k.buf_dtype(*buf), (SIDE * (SIDE + 1)) as u64);
            self.each(kb, index, (x, y), (self.axis, last), |kb, place, (column, row)| {
                let at = kb.address(&place, strides);
                let value = kb.k.load(*buf, at, 0, 1, None);
                let to = kb.k.mul_int(row, SIDE + 1);
                let to = kb.k.add(to, column);
                kb.k.store(square, to, 0, value, None);
            });
            staged.push((v, square, *dtype));
        }
        staged
    }

    /// Visits this thread's elements of the square, neighbouring threads next to each other along `columns`: their index,
    /// column and row.
    fn each(
        &self,
        kb: &mut Kb,
        index: &[Val],
        (x, y): (Val, Val),
        (columns, rows): (usize, usize),
        mut body: impl FnMut(&mut Kb, Vec<Val>, (Val, Val)),
    ) {
        let mut place = index.to_vec();
        place[columns] = kb.k.add(index[columns], x);
        let n = kb.dim(&self.dims[columns]);
        let inside = kb.k.cmp(Pred::Lt, place[columns], n);
        let limit = kb.dim(&self.dims[rows]);
        for i in 0..SIDE * SIDE / THREADS {
            let row = kb.k.add_int(y, i * THREADS / SIDE);
            place[rows] = kb.k.add(index[rows], row);
            let below = kb.k.cmp(Pred::Lt, place[rows], limit);
            let valid = kb.k.bin(BinOp::And, inside, below);
            let mut open = kb.k.begin_if(valid);
            body(kb, place.clone(), (x, row));
            kb.k.begin_else(&mut open, &[]);
            kb.k.end_if(open, &[]);
        }
    }
}
