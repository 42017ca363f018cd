//! Products of few rows: the second operand is read once, at the speed of memory.
//!
//! A block takes some columns. A thread has `V` neighbouring ones, as many as fit 16 bytes, and takes every so many groups
//! of terms: for each term it copies a vector of B to a place of its own in shared memory, two groups ahead, and multiplies
//! it with the element of each row of A. Nobody waits for anybody else before the end of the sums. Threads of a warp that
//! share columns add their sums by a tree of exchanges, warps theirs in order through shared memory. The order of additions is fixed, but not the contract's: `fast` only, or integers.
//!
//! Limits: at most [`ROWS`] rows, and neighbouring columns lie next to each other (constants are packed so).

use super::*;
use stage::{and, shr};
use xlac_ir::kernel::Lane;

/// Most rows.
const ROWS: i64 = 8;
/// Threads of a block.
const THREADS: i64 = 256;
/// Terms of a group.
const GROUP: i64 = 4;
/// Places for groups of a thread: all but one are on their way, 32 bytes a thread and term.
const STAGES: i64 = 3;

/// How the columns of a block are laid out over its threads.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    rows: i64,
    /// Columns of a thread, and threads beside each other.
    vector: i64,
    across: i64,
}

/// The plan for a problem, if it is one of few rows.
pub(super) fn plan(l: &Lowering, p: &Problem) -> Option<Plan> {
    let rows = p.m.as_const().filter(|&m| m <= ROWS)?;
    let single = p.a.k.len() == 1 && p.a.lines.len() == 1;
    if (l.exact() && p.acc.is_float()) || !single || hint(&p.k) < 4 * GROUP || hint(&p.n) < 16 {
        return None;
    }
    let vector = (16 / p.b.place.dtype.size() as i64).min(8);
    let packs = p.b.constant(l).is_some() && p.n.as_const().is_some();
    let direct = p.b.k.len() == 1 && p.b.vector_along_lines(vector) == vector && multiple(&p.n, vector);
    if !packs && !direct {
        return None;
    }
    let gpu = l.target.gpu?;
    let batch = hint(&Dim::product(&p.batch)).max(1);
    let blocks = |across: i64| batch * ((hint(&p.n) + across * vector - 1) / (across * vector));
    let across = [32, 16].into_iter().find(|&a| blocks(a) >= 2 * i64::from(gpu.multiprocessors)).unwrap_or(8);
    Some(Plan { rows, vector, across })
}

/// Emits the kernel.
pub(super) fn emit(l: &mut Lowering, p: &Problem, finish: &Finish, plan: Plan) {
    let width = plan.vector * plan.across;
    let b = p.b.packed_if_needed(l, &p.batch, width);
    let mut kb = Kb::new(&p.name);
    kb.k.set_threads(THREADS as u32);
    let columns = p.n.ceil_div(&Dim::from(width));
    let grid = [&p.batch[..], &[columns]].concat();
    let number = kb.k.tile();
    let mut batch = kb.unflatten(number, &grid);
    let tile = batch.pop().expect("columns");
    let thread = kb.k.thread();
    let (x, slice) = (and(&mut kb, thread, plan.across - 1), shr(&mut kb, thread, plan.across.trailing_zeros().into()));
    let column = kb.k.mul_int(x, plan.vector);
    let from = Source::new(&mut kb, p, &b, &batch, tile, column, plan);
    let bound = finish.bind(l.g, &mut kb);
    let sums = from.sum(&mut kb, p, thread, slice, plan);
    let sums = combine(&mut kb, sums, plan);
    store(&mut kb, p, &bound, (&batch, tile, column), sums, plan);
    kb.k.note(format!("gemv {} by {width}", plan.rows));
    let tiles = Dim::product(&grid);
    let cost = p.cost(finish, &tiles, 1);
    l.launch(kb, tiles, cost, &p.loc);
}

/// Where a thread reads.
struct Source {
    a: Buf,
    /// Where each row of A begins.
    rows: Vec<Val>,
    a_stride: Dim,
    /// Terms of A are neighbours and may be read as a vector.
    a_vector: bool,
    b: Buf,
    column: Val,
    b_stride: Dim,
}

impl Source {
    fn new(kb: &mut Kb, p: &Problem, b: &Operand, batch: &[Val], tile: Val, column: Val, plan: Plan) -> Source {
        let (buf_a, buf_b) = (kb.read(&p.a.place), kb.read(&b.place));
        let start = kb.address(batch, &p.a.batch);
        let stride = kb.dim(&p.a.lines[0].1);
        let rows = (0..plan.rows).map(|r| {
            let skip = kb.k.mul_int(stride, r);
            kb.k.add(start, skip)
        });
        let rows = rows.collect();
        let start = kb.address(batch, &b.batch);
        let column = match &b.tile {
            Some(tile_stride) => {
                let stride = kb.dim(tile_stride);
                let skip = kb.k.mul(tile, stride);
                kb.k.add(skip, column)
            }
            None => {
                // Vectors past the end repeat the last one.
                let first = kb.k.mul_int(tile, plan.vector * plan.across);
                let column = kb.k.add(first, column);
                let n = kb.dim(&p.n);
                let last = kb.k.add_int(n, -plan.vector);
                kb.min(column, last)
            }
        };
        let column = kb.k.add(start, column);
        let a_vector = p.a.vector_along_k(GROUP) == GROUP;
        Source { a: buf_a, rows, a_stride: p.a.k[0].1.clone(), a_vector, b: buf_b, column, b_stride: b.k[0].1.clone() }
    }

    /// The sums of this thread's terms, for each row.
    fn sum(&self, kb: &mut Kb, p: &Problem, thread: Val, slice: Val, plan: Plan) -> Vec<Val> {
        let step = THREADS / plan.across * GROUP;
        let ring = kb.k.shared("b", kb.k.buf_dtype(self.b), (STAGES * GROUP * THREADS * plan.vector) as u64);
        let place = kb.k.mul_int(thread, plan.vector);
        let (first, zero) = (kb.k.mul_int(slice, GROUP), kb.k.int(0));
        let steps = kb.dim(&p.k.ceil_div(&Dim::from(step)));
        let copy = |kb: &mut Kb, number: Val| {
            let exists = kb.k.cmp(Pred::Lt, number, steps);
            when(kb, exists, |kb| {
                let start = kb.k.mul_int(number, step);
                let start = kb.k.add(start, first);
                let slot = self.slot(kb, number, place, plan);
                self.copy(kb, p, start, (ring, slot), step, plan);
            });
            kb.k.copy_commit();
        };
        for ahead in 0..STAGES - 1 {
            let number = kb.k.int(ahead);
            copy(kb, number);
        }
        let sum = kb.k.splat_const(Const::number(p.acc, 0.0), plan.vector as u32);
        let open = kb.k.begin_for((zero, steps, 1), &vec![sum; plan.rows as usize], LoopHint::Plain);
        let number = open.var;
        kb.k.copy_wait((STAGES - 2) as u32);
        let next = kb.k.add_int(number, STAGES - 1);
        copy(kb, next);
        let start = kb.k.mul_int(number, step);
        let start = kb.k.add(start, first);
        let elements = self.elements(kb, p, start, step);
        let slot = self.slot(kb, number, place, plan);
        let vectors = (0..GROUP).map(|i| {
            let x = kb.k.load(ring, slot, i * THREADS * plan.vector, plan.vector as u32, None);
            kb.k.convert(x, p.acc)
        });
        let vectors = vectors.collect();
        let next = multiply(kb, p.acc, open.phis.clone(), (elements, vectors));
        kb.k.end_for(open, &next)
    }

    /// Where a thread's vectors of a step lie.
    fn slot(&self, kb: &mut Kb, number: Val, place: Val, plan: Plan) -> Val {
        let stages = kb.k.int(STAGES);
        let stage = kb.k.bin(BinOp::Rem, number, stages);
        let skip = kb.k.mul_int(stage, GROUP * THREADS * plan.vector);
        kb.k.add(skip, place)
    }

    /// Begins to copy the vectors of B of a group of terms.
    fn copy(&self, kb: &mut Kb, p: &Problem, start: Val, (ring, slot): (Buf, Val), step: i64, plan: Plan) {
        let stride = kb.dim(&self.b_stride);
        let at = kb.k.mul(start, stride);
        let at = kb.k.add(self.column, at);
        let known = self.b_stride.as_const();
        for i in 0..GROUP {
            let (at, offset) = match known {
                Some(stride) => (at, i * stride),
                None => {
                    let skip = kb.k.mul_int(stride, i);
                    (kb.k.add(at, skip), 0)
                }
            };
            let count = (!multiple(&p.k, step)).then(|| {
                let (k, zero, all) = (kb.dim(&p.k), kb.k.int(0), kb.k.int(plan.vector));
                let term = kb.k.add_int(start, i);
                let exists = kb.k.cmp(Pred::Lt, term, k);
                kb.k.select(exists, all, zero)
            });
            kb.k.copy_async((ring, slot, i * THREADS * plan.vector), (self.b, at, offset), plan.vector as u32, count);
        }
    }

    /// The elements of A of a group of terms, by row.
    fn elements(&self, kb: &mut Kb, p: &Problem, start: Val, step: i64) -> Vec<Vec<Val>> {
        let stride = kb.dim(&self.a_stride);
        let at = kb.k.mul(start, stride);
        let left = (!multiple(&p.k, step)).then(|| {
            let k = kb.dim(&p.k);
            kb.k.sub(k, start)
        });
        let mut elements = Vec::new();
        for &row in &self.rows {
            let at = kb.k.add(row, at);
            if self.a_vector {
                let x = kb.k.load(self.a, at, 0, GROUP as u32, left);
                let x = kb.k.convert(x, p.acc);
                elements.push((0..GROUP as u32).map(|i| kb.k.extract(x, i)).collect());
                continue;
            }
            let each = (0..GROUP).map(|i| {
                let skip = kb.k.mul_int(stride, i);
                let at = kb.k.add(at, skip);
                let left = left.map(|left| kb.k.add_int(left, -i));
                let x = kb.k.load(self.a, at, 0, 1, left);
                kb.k.convert(x, p.acc)
            });
            elements.push(each.collect());
        }
        elements
    }
}

fn multiply(kb: &mut Kb, acc: DType, sums: Vec<Val>, (elements, vectors): (Vec<Vec<Val>>, Vec<Val>)) -> Vec<Val> {
    let add = |kb: &mut Kb, sum: Val, x: Val, y: Val| {
        if acc.is_float() {
            return kb.k.fma(x, y, sum);
        }
        let product = kb.k.mul(x, y);
        kb.k.add(product, sum)
    };
    let row = |(sum, elements): (Val, &Vec<Val>)| elements.iter().zip(&vectors).fold(sum, |sum, (&x, &y)| add(kb, sum, x, y));
    sums.into_iter().zip(&elements).map(row).collect()
}

/// Adds the sums of the threads of a warp that have the same columns.
fn combine(kb: &mut Kb, sums: Vec<Val>, plan: Plan) -> Vec<Val> {
    let mut sums = sums;
    let mut distance = 16;
    while distance >= plan.across {
        for sum in &mut sums {
            let lanes = (0..plan.vector as u32).map(|i| {
                let x = kb.k.extract(*sum, i);
                kb.k.shuffle(Lane::Xor(distance as u32), x)
            });
            let lanes: Vec<Val> = lanes.collect();
            let other = lanes.into_iter().reduce(|a, b| kb.k.concat(a, b)).expect("a lane");
            *sum = kb.k.add(*sum, other);
        }
        distance /= 2;
    }
    sums
}

/// Adds the sums of the warps in order and stores the results.
fn store(kb: &mut Kb, p: &Problem, bound: &finish::Bound, (batch, tile, column): (&[Val], Val, Val), sums: Vec<Val>, plan: Plan) {
    let (width, warps) = (plan.vector * plan.across, THREADS / 32);
    let shared = kb.k.shared("sums", p.acc, (warps * plan.rows * width) as u64);
    let thread = kb.k.thread();
    let (lane, warp) = (and(kb, thread, 31), shr(kb, thread, 5));
    let across = kb.k.int(plan.across);
    let first = kb.k.cmp(Pred::Lt, lane, across);
    let at = kb.k.mul_int(warp, plan.rows * width);
    let at = kb.k.add(at, column);
    when(kb, first, |kb| {
        for (r, &sum) in (0..).zip(&sums) {
            kb.k.store(shared, at, r * width, sum, None);
        }
    });
    kb.k.barrier();
    // A thread finishes `lanes` columns of a row.
    let lanes = plan.vector.min(4);
    let groups = width / lanes;
    let items = kb.k.int(plan.rows * groups);
    let skip = kb.k.mul_int(tile, width);
    let body = |kb: &mut Kb, item: Val| {
        let (group, row) = (and(kb, item, groups - 1), shr(kb, item, groups.trailing_zeros().into()));
        let at = kb.k.mul_int(item, lanes);
        let parts = (0..warps).map(|w| kb.k.load(shared, at, w * plan.rows * width, lanes as u32, None));
        let parts: Vec<Val> = parts.collect();
        let sum = parts.into_iter().reduce(|a, b| kb.k.add(a, b)).expect("a warp");
        let col = kb.k.mul_int(group, lanes);
        let col = kb.k.add(skip, col);
        bound.row(kb, batch, row, &[(col, sum)], Edges { rows: false, columns: !multiple(&p.n, width) });
    };
    if plan.rows * groups <= THREADS {
        let some = kb.k.cmp(Pred::Lt, thread, items);
        when(kb, some, |kb| body(kb, thread));
    } else {
        let each = kb.k.begin_for((thread, items, THREADS), &[], LoopHint::Plain);
        body(kb, each.var);
        kb.k.end_for(each, &[]);
    }
}
