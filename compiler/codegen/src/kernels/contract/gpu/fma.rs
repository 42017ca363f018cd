//! Contractions by multiply-adds of the ordinary kind: every sum has one accumulator that takes its terms in order, one
//! fused multiply-add each. This is the `exact` contract, for every element type; in `fast` it serves what tensor cores do
//! not, and sums that are long start anew with every chunk, whose sums are added to totals: shorter chains round less.
//!
//! A tile's threads stand in a grid; each has `tm x tn` sums, whose rows and vectors of columns are interleaved with those
//! of its neighbours. A is staged line by line, B term by term: for 4 terms a thread reads `tm` vectors of A and `tn` of B
//! (of 4 elements of 4 bytes) for `4 tm tn` multiply-adds. Lines of A have a gap of 16 bytes, so that those the threads of a
//! warp read at once lie in different banks.

use super::*;
use model::{Candidate, Plan, guess};
use pipeline::Span;
use stage::{Order, Shape, Stage, and, shr};

/// Tile of results: rows and columns of a block and of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub bm: i64,
    pub bn: i64,
    pub tm: i64,
    pub tn: i64,
    /// Places for chunks.
    pub stages: i64,
}

/// Terms of a chunk.
const DEPTH: i64 = 16;

impl Tile {
    pub fn threads(self) -> i64 { self.bm / self.tm * (self.bn / self.tn) }

    /// Bytes of shared memory for elements of this size.
    pub fn shared_bytes(self, size: i64) -> i64 { self.stages * size * (self.bm * (DEPTH + gap(size)) + self.bn * DEPTH) }
}

fn gap(size: i64) -> i64 { (16 / size).max(1) }

/// True if the sum of each chunk is added to a total: long sums of floats, unless the order of terms is prescribed.
fn in_pieces(l: &Lowering, p: &Problem) -> bool { !l.exact() && p.acc.is_float() && guess(&p.k) >= CHAIN }

/// Tiles that may serve a problem.
pub(super) fn candidates(l: &Lowering, p: &Problem) -> Vec<Candidate<Tile>> {
    let sets = if in_pieces(l, p) { 2 } else { 1 };
    let size = p.acc.size() as i64;
    // Small tiles have few bytes on their way: more chunks of them.
    let tile = |(bm, bn, tm, tn)| Tile { bm, bn, tm, tn, stages: (24 << 10) / ((bm + bn) * DEPTH * size) };
    let tile = |t| Tile { stages: tile(t).stages.clamp(2, 10), ..tile(t) };
    let all = [
        (128, 128, 8, 8), (128, 64, 8, 8), (64, 128, 8, 8), (64, 64, 8, 4), (128, 32, 8, 4), (32, 128, 4, 8), (64, 32, 4, 4),
        (32, 64, 4, 4), (32, 32, 4, 4), (128, 16, 8, 4), (16, 128, 4, 4), (16, 64, 4, 4), (256, 8, 8, 4), (8, 128, 2, 4),
        (8, 64, 2, 4), (128, 4, 4, 4), (4, 128, 1, 4), (4, 32, 1, 4), (8, 32, 1, 4), (128, 8, 2, 4), (64, 8, 2, 4), (128, 4, 1, 4),
        (64, 4, 1, 4),
    ];
    let known = |d: &Dim, b: i64| d.as_const().is_none_or(|d| b <= 8 || d > b / 2);
    let rate = match p.acc {
        DType::F64 => 32.0,
        t if t.is_float() => 128.0,
        _ => 64.0,
    };
    let width = 16 / size.max(p.a.place.dtype.size() as i64);
    let constant = p.b.constant(l).is_some();
    let addresses = |t: Tile| {
        let b = if constant { 2 } else { p.b.address_registers(width, (t.bn, DEPTH), t.threads()) };
        p.a.address_registers(width, (t.bm, DEPTH), t.threads()) + b
    };
    let all = all.into_iter().map(tile).filter(|t| t.tm * t.tn * size <= 256 && known(&p.m, t.bm) && known(&p.n, t.bn) || t.bm == 8 && t.bn == 64).map(|tile| Candidate {
        tile,
        bm: tile.bm,
        bn: tile.bn,
        threads: tile.threads(),
        depth: DEPTH,
        stages: tile.stages,
        shared: tile.shared_bytes(size),
        registers: (sets * tile.tm * tile.tn + 4 * tile.tm + tile.tn) * size.max(4) / 4 + addresses(tile) + 40,
        // Reads of shared memory take turns with multiply-adds.
        rate: rate * 0.9 * (tile.tm * tile.tn) as f64 / (tile.tm * tile.tn + (tile.tm + tile.tn) / 2) as f64,
        reads: ((tile.tm + tile.tn) * size * tile.threads()) as f64 / 2.0,
        staged: ((tile.bm + tile.bn) * size) as f64,
    });
    let mut all: Vec<Candidate<Tile>> = all.collect();
    // Operands that are staged element by element want more registers than there are of any tile: the least then spills.
    let limit = l.target.gpu.map_or(255, |g| i64::from(g.thread_registers));
    if all.iter().all(|c| c.registers > limit) {
        all.sort_by_key(|c| c.registers);
        all.truncate(1);
        all[0].registers = limit;
    }
    all
}

/// Emits the kernel.
pub(super) fn emit(l: &mut Lowering, p: &Problem, finish: &Finish, plan: &Plan<Tile>) {
    let tile = plan.tile;
    let b = p.b.packed_if_needed(l, &p.batch, tile.bn);
    let mut kb = Kb::new(&p.name);
    kb.k.set_threads(tile.threads() as u32);
    let grid = Grid::new(p, tile.bm, tile.bn, plan.splits);
    let at = grid.open(&mut kb);
    let shape = |lines: i64, order: Order, size: i64| Shape {
        lines,
        depth: DEPTH,
        stages: tile.stages,
        threads: tile.threads(),
        order,
        size,
        dtype: p.acc,
        planes: 1,
    };
    let pitch = DEPTH + gap(p.acc.size() as i64);
    let sa = Stage::new(&mut kb, "a", &p.a, &p.k, &shape(tile.bm, Order::Lines(pitch), tile.bm * pitch));
    let sb = Stage::new(&mut kb, "b", &b, &p.k, &shape(tile.bn, Order::Terms(tile.bn), tile.bn * DEPTH));
    let units = (sa.units(&mut kb, &at.batch, at.m), sb.units(&mut kb, &at.batch, at.n));
    let operands = [(&sa, units.0), (&sb, units.1)];
    let bound = finish.bind(l.g, &mut kb);
    let threads = Threads::new(&mut kb, tile, p.acc);
    let span = at.span(&mut kb, p, DEPTH, plan.splits);
    let zero = kb.k.splat_const(Const::number(p.acc, 0.0), threads.lanes);
    let sums = vec![zero; (tile.tm * threads.vectors) as usize];
    let pieces = in_pieces(l, p);
    let zeros = sums.clone();
    let (sums, slot) = pipeline::run(&mut kb, &operands, tile.stages, DEPTH, &span, &sums, |kb, slot, totals| {
        let at = threads.places(kb, &sa, &sb, slot);
        let mut sums = if pieces { zeros.clone() } else { totals.to_vec() };
        for k in (0..DEPTH).step_by(threads.group as usize) {
            threads.terms(kb, (&sa, &sb), at, k, threads.group, &mut sums);
        }
        if pieces {
            sums = totals.iter().zip(sums).map(|(&total, sum)| kb.k.add(total, sum)).collect();
        }
        sums
    });
    let sums = threads.rest(&mut kb, (&sa, &sb), p, &span, slot, sums);
    let edges = Edges::of(&p.m, &p.n, tile.bm, tile.bn);
    let (m0, n0) = (kb.k.mul_int(at.m, tile.bm), kb.k.mul_int(at.n, tile.bn));
    for i in 0..tile.tm {
        let row = kb.k.add(m0, threads.row);
        let row = kb.k.add_int(row, i * tile.bm / tile.tm);
        let columns = (0..threads.vectors).map(|j| {
            let col = kb.k.add(n0, threads.column);
            let col = kb.k.add_int(col, j * tile.bn / threads.vectors);
            (col, sums[(i * threads.vectors + j) as usize])
        });
        let columns: Vec<(Val, Val)> = columns.collect();
        bound.row(&mut kb, &at.batch_out, row, &columns, edges);
    }
    kb.k.note(format!("fma {}x{} by {}x{}, {} parts", tile.bm, tile.bn, tile.tm, tile.tn, plan.splits));
    let cost = p.cost(finish, &grid.tiles(), plan.splits);
    l.launch(kb, grid.tiles(), cost, &p.loc);
}

/// The threads of a tile.
struct Threads {
    tile: Tile,
    /// First row and column of this thread.
    row: Val,
    column: Val,
    /// Lanes of a vector of sums, and their number in a row.
    lanes: u32,
    vectors: i64,
    /// Terms multiplied at once.
    group: i64,
    float: bool,
}

impl Threads {
    fn new(kb: &mut Kb, tile: Tile, acc: DType) -> Threads {
        let width = (16 / acc.size() as i64).min(4);
        let lanes = tile.tn.min(width);
        // A warp has up to 8 threads along the columns.
        let (across, down) = (tile.bn / tile.tn, tile.bm / tile.tm);
        let warp_across = across.min(8).max(32 / down);
        let thread = kb.k.thread();
        let (lane, warp) = (and(kb, thread, 31), shr(kb, thread, 5));
        let warps = across / warp_across;
        let (wx, wy) = (and(kb, warp, warps - 1), shr(kb, warp, warps.trailing_zeros().into()));
        let (x, y) = (and(kb, lane, warp_across - 1), shr(kb, lane, warp_across.trailing_zeros().into()));
        let (wx, wy) = (kb.k.mul_int(wx, warp_across), kb.k.mul_int(wy, 32 / warp_across));
        let (column, row) = (kb.k.add(wx, x), kb.k.add(wy, y));
        let column = kb.k.mul_int(column, lanes);
        Threads { tile, row, column, lanes: lanes as u32, vectors: tile.tn / lanes, group: width, float: acc.is_float() }
    }

    /// Where this thread's lines of A and columns of B begin in a stage.
    fn places(&self, kb: &mut Kb, a: &Stage, b: &Stage, slot: Val) -> (Val, Val) {
        let (sa, sb) = (kb.k.mul_int(slot, a.size), kb.k.mul_int(slot, b.size));
        let zero = kb.k.int(0);
        let line = a.order.at(kb, (self.row, 0), (zero, 0), true).0;
        let column = b.order.at(kb, (self.column, 0), (zero, 0), true).0;
        (kb.k.add(sa, line), kb.k.add(sb, column))
    }

    /// Adds `count` terms from term `k` of a chunk on.
    fn terms(&self, kb: &mut Kb, (a, b): (&Stage, &Stage), (at_a, at_b): (Val, Val), k: i64, count: i64, sums: &mut [Val]) {
        let (Order::Lines(pa), Order::Terms(pb)) = (a.order, b.order) else { unreachable!("chosen in this file") };
        let step = self.tile.bm / self.tile.tm;
        let lines: Vec<Val> =
            (0..self.tile.tm).map(|i| kb.k.load(a.to, at_a, i * step * pa + k, count as u32, None)).collect();
        for t in 0..count {
            let columns = (0..self.vectors)
                .map(|j| kb.k.load(b.to, at_b, (k + t) * pb + j * self.tile.bn / self.vectors, self.lanes, None));
            let columns: Vec<Val> = columns.collect();
            for (i, &line) in lines.iter().enumerate() {
                let x = kb.k.extract(line, t as u32);
                for (j, &y) in columns.iter().enumerate() {
                    let sum = &mut sums[i * self.vectors as usize + j];
                    *sum = if self.float {
                        kb.k.fma(x, y, *sum)
                    } else {
                        let product = kb.k.mul(x, y);
                        kb.k.add(product, *sum)
                    };
                }
            }
        }
    }

    /// Adds the terms of the last chunk, if it is not whole, one at a time.
    fn rest(&self, kb: &mut Kb, (a, b): (&Stage, &Stage), p: &Problem, span: &Span, slot: Val, sums: Vec<Val>) -> Vec<Val> {
        if p.k.as_const().is_some_and(|k| k % DEPTH == 0) {
            return sums;
        }
        kb.k.copy_wait(0);
        kb.k.barrier();
        let (at_a, at_b) = self.places(kb, a, b, slot);
        let Order::Terms(pitch) = b.order else { unreachable!("chosen in this file") };
        let (zero, depth) = (kb.k.int(0), kb.k.int(DEPTH));
        // Terms that are left: none in a span that ends before the last chunk.
        let k = kb.dim(&p.k);
        let rest = kb.k.bin(BinOp::Rem, k, depth);
        let any = kb.k.cmp(Pred::Lt, span.whole, span.staged);
        let rest = kb.k.select(any, rest, zero);
        let open = kb.k.begin_for((zero, rest, 1), &sums, LoopHint::Plain);
        let (term, mut sums) = (open.var, open.phis.clone());
        let skip = kb.k.mul_int(term, pitch);
        let at = (kb.k.add(at_a, term), kb.k.add(at_b, skip));
        self.terms(kb, (a, b), at, 0, 1, &mut sums);
        kb.k.end_for(open, &sums)
    }
}
