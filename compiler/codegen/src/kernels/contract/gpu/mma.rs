//! Contractions by tensor cores: f16 and bf16 with f32 sums, 8-bit integers with i32 sums, and f32 split in parts
//! ([`split`]).
//!
//! A warp computes `wm x wn` results of a tile from fragments of 16 x 8 results. Chunks of both operands lie in shared
//! memory with their pieces exchanged, so that neither the copies nor the reads of fragments meet in a bank: along k if the
//! operand is contiguous along k, else along its lines and transposed when fragments are read (16-bit elements only; the
//! others are turned around on their way). Constant operands are packed as images of the chunks.
//!
//! The epilogue works on 4 neighbouring columns of a row: pairs of threads exchange halves of their fragments. If all
//! results are narrow it works on 8, after another exchange.

use super::*;
use crate::pack::Swizzle;
use model::{Candidate, Plan};
use stage::{At, Order, Shape, Stage, and, shr};
use xlac_ir::kernel::Lane;

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// f16 or bf16.
    Half,
    /// i8 or u8.
    Bytes,
    /// f32 in three parts.
    Split,
}

/// Tile of results: rows and columns of a block and of a warp, and places for chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub bm: i64,
    pub bn: i64,
    pub wm: i64,
    pub wn: i64,
    pub stages: i64,
}

impl Tile {
    pub fn threads(self) -> i64 { self.bm / self.wm * (self.bn / self.wn) * 32 }
}

impl Kind {
    /// How tensor cores can multiply these operands, if they can.
    pub fn of(l: &Lowering, p: &Problem) -> Option<Kind> {
        let (a, b) = (p.a.place.dtype, p.b.place.dtype);
        let byte = |t: DType| matches!(t, DType::I8 | DType::U8);
        match (a, b, p.acc) {
            _ if byte(a) && byte(b) && p.acc == DType::I32 => Some(Kind::Bytes),
            _ if l.exact() => None,
            (DType::F16, DType::F16, DType::F32) | (DType::BF16, DType::BF16, DType::F32) => Some(Kind::Half),
            (DType::F32, DType::F32, DType::F32) => Some(Kind::Split),
            _ => None,
        }
    }

    /// Terms of a chunk.
    fn depth(self) -> i64 { if self == Kind::Bytes { 64 } else { 32 } }

    fn planes(self) -> i64 { if self == Kind::Split { 3 } else { 1 } }

    /// Bytes of an element in shared memory, all its parts together.
    fn bytes(self) -> i64 {
        match self {
            Kind::Half => 2,
            Kind::Bytes => 1,
            Kind::Split => 6,
        }
    }
}

/// Tiles that may serve a problem.
pub(super) fn candidates(l: &Lowering, p: &Problem, kind: Kind) -> Vec<Candidate<Tile>> {
    let shapes = [
        (128, 256, 64, 64), (256, 128, 64, 64), (128, 128, 64, 64), (128, 128, 64, 32), (128, 64, 32, 32), (64, 128, 32, 32), (64, 64, 32, 32), (128, 32, 32, 32), (32, 128, 32, 32),
        (64, 32, 32, 16), (32, 64, 16, 32), (32, 32, 16, 16), (64, 16, 16, 16), (16, 64, 16, 16), (16, 128, 16, 32),
    ];
    let rate = match kind {
        Kind::Half => 1024.0,
        Kind::Bytes => 2048.0,
        Kind::Split => 1024.0 / 6.0,
    };
    let known = |d: &Dim, b: i64| d.as_const().is_none_or(|d| b <= 16 || d > b / 2);
    let depth = kind.depth();
    let most = if kind == Kind::Split { 8 } else { 16 / p.a.place.dtype.size() as i64 };
    let constant = p.b.constant(l).is_some();
    let mut all = Vec::new();
    for (bm, bn, wm, wn) in shapes.into_iter().filter(|s| known(&p.m, s.0) && known(&p.n, s.1)) {
        for stages in if kind == Kind::Split { [2, 2] } else { [3, 4] } {
            let tile = Tile { bm, bn, wm, wn, stages };
            let (sums, parts) = (wm * wn / 32, kind.planes());
            let fragments = parts * (wm / 16 * 4 + wn / 8 * 2);
            let held = if kind == Kind::Split { bm * depth / tile.threads() * 2 } else { 0 };
            let addresses = |o: &Operand, lines: i64| o.address_registers(most, (lines, depth), tile.threads());
            let addresses = addresses(&p.a, bm) + if constant { 2 } else { addresses(&p.b, bn) };
            // Two kinds of sums, and those of a chunk when two thirds of the fragments are done with.
            let (sums, fragments) = match kind {
                Kind::Split => (2 * sums, fragments.max(sums + fragments / 3)),
                _ => (sums, fragments),
            };
            all.push(Candidate {
                tile,
                bm,
                bn,
                threads: tile.threads(),
                depth,
                stages,
                shared: stages * (bm + bn) * depth * kind.bytes(),
                registers: sums + fragments + held + addresses + 40,
                rate: if tile.threads() < 256 { rate * 0.9 } else { rate },
                // First parts are read twice.
                reads: ((bn / wn * bm + bm / wm * bn) * (kind.bytes() + (parts - 1))) as f64,
                staged: ((bm + bn) * kind.bytes()) as f64,
            });
        }
    }
    all
}

/// Emits the kernel.
pub(super) fn emit(l: &mut Lowering, p: &Problem, kind: Kind, finish: &Finish, plan: &Plan<Tile>) {
    let (tile, depth, planes) = (plan.tile, kind.depth(), kind.planes());
    let dtype = |o: &Operand| if kind == Kind::Split { DType::BF16 } else { o.place.dtype };
    let (ta, tb) = (dtype(&p.a), dtype(&p.b));
    let b = p.b.images(l, &p.batch, (tile.bn, depth), tb, planes).unwrap_or_else(|| p.b.clone());
    let mut kb = Kb::new(&p.name);
    kb.k.set_threads(tile.threads() as u32);
    let grid = Grid::new(p, tile.bm, tile.bn, plan.splits);
    let at = grid.open(&mut kb);
    let shape = |o: &Operand, dtype: DType, lines: i64| {
        let transposed = kind != Kind::Bytes && !o.image && o.lines_are_unit() && !o.k_is_unit();
        let swizzle = |row: i64| Swizzle::new(dtype, row as usize);
        let order = if transposed { Order::SwizzledTerms(swizzle(lines)) } else { Order::SwizzledLines(swizzle(depth)) };
        Shape { lines, depth, stages: tile.stages, threads: tile.threads(), order, size: lines * depth, dtype, planes }
    };
    let (shape_a, shape_b) = (shape(&p.a, ta, tile.bm), shape(&b, tb, tile.bn));
    let sa = Stage::new(&mut kb, "a", &p.a, &p.k, &shape_a);
    let sb = Stage::new(&mut kb, "b", &b, &p.k, &shape_b);
    let units = (sa.units(&mut kb, &at.batch, at.m), sb.units(&mut kb, &at.batch, at.n));
    let operands = [(&sa, units.0), (&sb, units.1)];
    let bound = finish.bind(l.g, &mut kb);
    let span = at.span(&mut kb, p, depth, plan.splits);
    let span = Span { whole: span.staged, ..span };
    let warps = Warps::new(&mut kb, tile, kind, &sa, &sb);
    let zero = kb.k.splat_const(Const::number(p.acc, 0.0), 4);
    let zeros = vec![zero; (tile.wm / 16 * (tile.wn / 8)) as usize];
    let sums = if kind == Kind::Split {
        // Totals of the products of first parts, and sums of the others.
        let (sums, _) = pipeline::run(&mut kb, &operands, tile.stages, depth, &span, &[&zeros[..], &zeros].concat(), |kb, slot, sums| {
            let (totals, small) = sums.split_at(zeros.len());
            let small = warps.chunk(kb, (&sa, &sb), slot, small.to_vec(), &split::SMALL);
            let large = warps.chunk(kb, (&sa, &sb), slot, zeros.clone(), &[(0, 0)]);
            let totals = totals.iter().zip(large).map(|(&total, sum)| kb.k.add(total, sum));
            totals.chain(small).collect()
        });
        let (totals, small) = sums.split_at(zeros.len());
        let sums = totals.iter().zip(small).map(|(&total, &sum)| kb.k.add(total, sum)).collect();
        repair(&mut kb, tile, sums, |kb| {
            let run = pipeline::run(kb, &operands, tile.stages, depth, &span, &zeros, |kb, slot, sums| {
                warps.chunk(kb, (&sa, &sb), slot, sums.to_vec(), &[(0, 0)])
            });
            run.0
        })
    } else {
        let run = pipeline::run(&mut kb, &operands, tile.stages, depth, &span, &zeros, |kb, slot, sums| {
            warps.chunk(kb, (&sa, &sb), slot, sums.to_vec(), &[(0, 0)])
        });
        run.0
    };
    let edges = Edges::of(&p.m, &p.n, tile.bm, tile.bn);
    warps.finish(&mut kb, &bound, &at, &sums, edges);
    let name = match kind {
        Kind::Half => "half",
        Kind::Bytes => "bytes",
        Kind::Split => "split",
    };
    kb.k.note(format!("{name} {}x{} by {}x{}, {} parts", tile.bm, tile.bn, tile.wm, tile.wn, plan.splits));
    let cost = p.cost(finish, &grid.tiles(), plan.splits);
    l.launch(kb, grid.tiles(), cost, &p.loc);
}

/// Sums with their NaNs replaced by those of `again`, which runs if any thread of the tile has one.
fn repair(kb: &mut Kb, tile: Tile, sums: Vec<Val>, again: impl FnOnce(&mut Kb) -> Vec<Val>) -> Vec<Val> {
    // A sum of all is NaN if one is, or if they overflow, which does no harm.
    let mut sum = sums[0];
    for &x in &sums[1..] {
        sum = kb.k.add(sum, x);
    }
    let lanes: Vec<Val> = (0..4).map(|i| kb.k.extract(sum, i)).collect();
    let sum = lanes.into_iter().reduce(|a, b| kb.k.add(a, b)).expect("four lanes");
    let nan = kb.k.cmp(Pred::Ne, sum, sum);
    let mut flag = kb.k.convert(nan, DType::I32);
    for step in [16, 8, 4, 2, 1] {
        let other = kb.k.shuffle(Lane::Xor(step), flag);
        flag = kb.k.bin(BinOp::Or, flag, other);
    }
    let warps = tile.threads() / 32;
    let flags = kb.k.shared("nan", DType::I32, warps as u64);
    let thread = kb.k.thread();
    let (lane, warp) = (and(kb, thread, 31), shr(kb, thread, 5));
    let zero = kb.k.int(0);
    let first = kb.k.cmp(Pred::Eq, lane, zero);
    when(kb, first, |kb| kb.k.store(flags, warp, 0, flag, None));
    // The chunks' places are free for another run as well.
    kb.k.copy_wait(0);
    kb.k.barrier();
    let all: Vec<Val> = (0..warps).map(|w| kb.k.load(flags, zero, w, 1, None)).collect();
    let any = all.into_iter().reduce(|a, b| kb.k.bin(BinOp::Or, a, b)).expect("a warp");
    let none = kb.k.constant(Const::int(DType::I32, 0));
    let any = kb.k.cmp(Pred::Ne, any, none);
    let mut open = kb.k.begin_if(any);
    let new = again(kb);
    let mended = sums.iter().zip(new).map(|(&old, new)| {
        let number = kb.k.cmp(Pred::Eq, old, old);
        kb.k.select(number, old, new)
    });
    let mended: Vec<Val> = mended.collect();
    kb.k.begin_else(&mut open, &mended);
    kb.k.end_if(open, &sums)
}

/// Where the fragments of a warp lie in a chunk.
struct Warps {
    tile: Tile,
    /// First row and column of this warp.
    row: Val,
    column: Val,
    lane: Val,
    /// Fragments of A by step of k and row, pairs of fragments of B by step and column.
    a: Vec<Vec<At>>,
    b: Vec<Vec<At>>,
    transposed: [bool; 2],
}

impl Warps {
    fn new(kb: &mut Kb, tile: Tile, kind: Kind, a: &Stage, b: &Stage) -> Warps {
        let thread = kb.k.thread();
        let (lane, warp) = (and(kb, thread, 31), shr(kb, thread, 5));
        let across = tile.bn / tile.wn;
        let (x, y) = (and(kb, warp, across - 1), shr(kb, warp, across.trailing_zeros().into()));
        let (row, column) = (kb.k.mul_int(y, tile.wm), kb.k.mul_int(x, tile.wn));
        // Of the four matrices an instruction reads, this thread gives a row of number `low + 2 high`.
        let (r, low, high) = (and(kb, lane, 7), shr(kb, lane, 3), shr(kb, lane, 4));
        let low = and(kb, low, 1);
        let piece = if kind == Kind::Bytes { 16 } else { 8 };
        let step = 2 * piece;
        let (low_8, high_8) = (kb.k.mul_int(low, 8), kb.k.mul_int(high, 8));
        let (low_k, high_k) = (kb.k.mul_int(low, piece), kb.k.mul_int(high, piece));
        let lines = a.order.along_k();
        // A: rows 0 and 8, then the same of the upper half of k.
        let (line, k) = (kb.k.add(row, low_8), high_k);
        let (line, k) = if lines { (kb.k.add(line, r), k) } else { (line, kb.k.add(k, r)) };
        let steps = kind.depth() / step;
        let mut table = |order: Order, line: Val, k: Val, count: i64| -> Vec<Vec<At>> {
            (0..steps).map(|s| (0..count).map(|i| order.at(kb, (line, i * 16), (k, s * step), true)).collect()).collect()
        };
        let at_a = table(a.order, line, k, tile.wm / 16);
        // B: the halves of k of columns 0 to 7, then of 8 to 15.
        let straight = b.order.along_k();
        let (line, k) = (kb.k.add(column, high_8), low_k);
        let (line, k) = if straight { (kb.k.add(line, r), k) } else { (line, kb.k.add(k, r)) };
        let mut table = |order: Order, line: Val, k: Val, count: i64| -> Vec<Vec<At>> {
            (0..steps).map(|s| (0..count).map(|i| order.at(kb, (line, i * 16), (k, s * step), true)).collect()).collect()
        };
        let at_b = table(b.order, line, k, tile.wn / 16);
        Warps { tile, row, column, lane, a: at_a, b: at_b, transposed: [!lines, !straight] }
    }

    /// Adds the products of these parts of a chunk to sums.
    fn chunk(&self, kb: &mut Kb, (a, b): (&Stage, &Stage), slot: Val, mut sums: Vec<Val>, products: &[(usize, usize)]) -> Vec<Val> {
        let (slot_a, slot_b) = (kb.k.mul_int(slot, a.size), kb.k.mul_int(slot, b.size));
        let columns = (self.tile.wn / 8) as usize;
        let used = |part: usize, side: fn(&(usize, usize)) -> usize| products.iter().any(|p| side(p) == part);
        for step in 0..self.a.len() {
            let read = |kb: &mut Kb, s: &Stage, slot: Val, places: &[At], part: usize, transposed: bool| -> Vec<Val> {
                let plane = part as i64 * s.size / s.planes;
                places.iter().map(|p| {
                    let at = kb.k.add(slot, p.0);
                    kb.k.load_matrix(s.to, at, p.1 + plane, 4, transposed)
                }).collect()
            };
            let parts = |kb: &mut Kb, s: &Stage, slot: Val, places: &[At], side: fn(&(usize, usize)) -> usize, transposed: bool| {
                (0..s.planes as usize)
                    .map(|part| if used(part, side) { read(kb, s, slot, places, part, transposed) } else { Vec::new() })
                    .collect::<Vec<Vec<Val>>>()
            };
            let left = parts(kb, a, slot_a, &self.a[step], |p| p.0, self.transposed[0]);
            let right = parts(kb, b, slot_b, &self.b[step], |p| p.1, self.transposed[1]);
            for &(pa, pb) in products {
                for (i, &x) in left[pa].iter().enumerate() {
                    for j in 0..columns {
                        let pair = right[pb][j / 2];
                        let lanes = kb.k.ty(pair).lanes / 2;
                        let y = kb.k.slice(pair, (j % 2) as u32 * lanes, lanes);
                        let sum = &mut sums[i * columns + j];
                        *sum = kb.k.mma(x, y, *sum);
                    }
                }
            }
        }
        sums
    }

    /// Stores the results: of every fragment, an even thread takes four columns of a row, an odd one those of the row eight
    /// below.
    fn finish(&self, kb: &mut Kb, bound: &finish::Bound, at: &super::Tile, sums: &[Val], edges: Edges) {
        let columns = (self.tile.wn / 8) as usize;
        let (m0, n0) = (kb.k.mul_int(at.m, self.tile.bm), kb.k.mul_int(at.n, self.tile.bn));
        let (row, column) = (kb.k.add(m0, self.row), kb.k.add(n0, self.column));
        let (g, low, high) = (shr(kb, self.lane, 2), and(kb, self.lane, 1), shr(kb, self.lane, 1));
        let high = and(kb, high, 1);
        let (below, right) = (kb.k.mul_int(low, 8), kb.k.mul_int(high, 4));
        let row = kb.k.add(row, g);
        let row = kb.k.add(row, below);
        let column = kb.k.add(column, right);
        let zero = kb.k.int(0);
        let odd = kb.k.cmp(Pred::Ne, low, zero);
        for (i, sums) in sums.chunks(columns).enumerate() {
            let mut found = Vec::new();
            for (j, &sum) in sums.iter().enumerate() {
                let col = kb.k.add_int(column, 8 * j as i64);
                found.push((col, exchange(kb, sum, odd)));
            }
            if bound.narrow() {
                found = found.chunks(2).map(|pair| self.widen(kb, pair)).collect();
            }
            let row = kb.k.add_int(row, 16 * i as i64);
            bound.row(kb, &at.batch_out, row, &found, edges);
        }
    }
}

impl Warps {
    /// Eight neighbouring columns out of four of each of two fragments, of which threads two apart have the halves.
    fn widen(&self, kb: &mut Kb, pair: &[(Val, Val)]) -> (Val, Val) {
        let [(first, a), (second, b)] = *pair else { unreachable!("fragments of B are read in pairs") };
        let (two, zero) = (and(kb, self.lane, 2), kb.k.int(0));
        let high = kb.k.cmp(Pred::Ne, two, zero);
        let given = kb.k.select(high, a, b);
        let other = (0..4).map(|i| {
            let x = kb.k.extract(given, i);
            kb.k.shuffle(Lane::Xor(2), x)
        });
        let other: Vec<Val> = other.collect();
        let other = other.into_iter().reduce(|a, b| kb.k.concat(a, b)).expect("four lanes");
        let (low, top) = (kb.k.concat(a, other), kb.k.concat(other, b));
        // The upper half of a fragment is four columns to the right.
        let second = kb.k.add_int(second, -4);
        (kb.k.select(high, second, first), kb.k.select(high, top, low))
    }
}

/// Four neighbouring columns out of two columns of two rows.
fn exchange(kb: &mut Kb, sum: Val, odd: Val) -> Val {
    let c: Vec<Val> = (0..4).map(|i| kb.k.extract(sum, i)).collect();
    let mut other = |a: Val, b: Val| {
        let given = kb.k.select(odd, a, b);
        kb.k.shuffle(Lane::Xor(1), given)
    };
    let (x, y) = (other(c[0], c[2]), other(c[1], c[3]));
    let four = [(x, c[0]), (y, c[1]), (c[2], x), (c[3], y)].map(|(a, b)| kb.k.select(odd, a, b));
    let (low, high) = (kb.k.concat(four[0], four[1]), kb.k.concat(four[2], four[3]));
    kb.k.concat(low, high)
}
