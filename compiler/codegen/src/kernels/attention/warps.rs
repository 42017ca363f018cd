//! Attention on tensor cores: each warp has 16 queries, all warps of a tile share blocks of keys and values.
//!
//! ```text
//! stage Q, K of the first block
//! for each block of keys
//!     begin V of this block           while
//!     S = Q K^T, logits, exp(S - max) in registers: a fragment of C is one of A
//!     end V; barrier
//!     begin K of the next block       while
//!     O = O exp(m - m') + P V
//!     end K; barrier
//! ```
//!
//! f32 takes six of the nine products of its parts, smallest first. Tensor cores round sums down: a block's part of O is
//! summed on its own and added in f32, and so are the scores after 128 elements of a head.

use xlac_ir::kernel::{Lane, LoopHint};

use super::logits::Spot;
use super::panel::{self, Panel};
use super::*;

/// Queries of a warp.
const WARP_ROWS: i64 = 16;
/// Steps of 16 along a head after which the sum is added to a total.
const STEPS: i64 = 8;

/// Size of the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Warps.
    warps: i64,
    /// Keys of a block.
    keys: i64,
}

impl Shape {
    /// Queries of a tile.
    pub fn rows(self) -> i64 { self.warps * WARP_ROWS }
    /// Threads of a tile.
    pub fn threads(self) -> u32 { self.warps as u32 * WARP }
}

/// The largest tiles of which more than one has room in a multiprocessor, or one.
pub fn shape(l: &Lowering, b: &Blocked) -> Option<Shape> {
    let gpu = l.target.gpu?;
    if b.acc != DType::F32 {
        return None;
    }
    let tiles = |warps: i64| {
        let queries = hint(&b.a.n_queries);
        hint(&Dim::product(&b.a.batch)).saturating_mul((queries + warps * WARP_ROWS - 1) / (warps * WARP_ROWS))
    };
    let small = hint(&b.a.n_queries) <= 2 * WARP_ROWS || tiles(4) < i64::from(gpu.multiprocessors);
    let most = if panel::planes(b.keys.dtype) == 1 { 64 } else { 32 };
    let warps: &[i64] = if small { &[2] } else { &[4, 2] };
    for room in [i64::from(gpu.shared_bytes) * 3 / 5, i64::from(gpu.shared_bytes)] {
        for &warps in warps {
            for keys in [64, 32, 16] {
                let panels = [(warps * WARP_ROWS, &b.queries), (keys, &b.keys), (keys, &b.values)];
                if keys <= most && panels.iter().map(|(rows, m)| panel::bytes(*rows, m)).sum::<i64>() <= room {
                    return Some(Shape { warps, keys });
                }
            }
        }
    }
    None
}

/// What the steps of a tile have in common.
struct Warps<'a> {
    b: &'a Blocked<'a>,
    shape: Shape,
    tile: &'a Tile,
    q: Panel<'a>,
    k: Panel<'a>,
    v: Panel<'a>,
    /// Where this thread's rows of matrices begin.
    q_at: Val,
    k_at: Val,
    v_at: Val,
    /// This thread's two queries, and the two that are sure to exist.
    rows: [Val; 2],
    inside: [Val; 2],
    /// Its first key of eight.
    key: Val,
}

impl Blocked<'_> {
    /// Emits a tile.
    pub(super) fn warps(&self, kb: &mut Kb, shape: Shape, tile: &Tile) {
        let w = Warps::new(kb, self, shape, tile);
        let pending = w.q.begin(kb, tile.row);
        w.q.end(kb, pending);
        let (zero, n) = (kb.k.int(0), kb.dim(&self.a.n_keys));
        let some = kb.k.cmp(Pred::Lt, zero, n);
        kb.k.barrier();
        let mut open = kb.k.begin_if(some);
        let pending = w.k.begin(kb, zero);
        w.k.end(kb, pending);
        kb.k.barrier();
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
        let start = self.start(kb);
        let none = kb.k.splat_const(Const::f32(0.0), 4);
        let tiles = panel::padded(self.a.width) / 8;
        let mut carried = vec![start.max, start.max, start.sum, start.sum];
        carried.extend((0..tiles).map(|_| none));
        let open = kb.k.begin_for((zero, n, shape.keys), &carried, LoopHint::Plain);
        let (first, phis) = (open.var, open.phis.clone());
        let next = w.block(kb, first, &phis);
        let end = kb.k.end_for(open, &next);
        w.finish(kb, &end);
    }
}

impl<'a> Warps<'a> {
    fn new(kb: &mut Kb, b: &'a Blocked, shape: Shape, tile: &'a Tile) -> Warps<'a> {
        let q = Panel::new(kb, "queries", &b.queries, shape.rows(), &tile.batch);
        let k = Panel::new(kb, "keys", &b.keys, shape.keys, &tile.batch);
        let v = Panel::new(kb, "values", &b.values, shape.keys, &tile.batch);
        let thread = kb.k.thread();
        let bits = |kb: &mut Kb, shift: i64, mask: i64| {
            let (shift, mask) = (kb.k.int(shift), kb.k.int(mask));
            let x = kb.k.bin(BinOp::Shr, thread, shift);
            kb.k.bin(BinOp::And, x, mask)
        };
        let warp = {
            let shift = kb.k.int(5);
            kb.k.bin(BinOp::Shr, thread, shift)
        };
        let (row16, row8) = (bits(kb, 0, 15), bits(kb, 0, 7));
        let (bit3, bit4) = (bits(kb, 3, 1), bits(kb, 4, 1));
        let place = |kb: &mut Kb, row: Val, col: Val, pitch: i64| {
            let (row, col) = (kb.k.mul_int(row, pitch), kb.k.mul_int(col, 8));
            kb.k.add(row, col)
        };
        let first = kb.k.mul_int(warp, WARP_ROWS);
        let q_row = kb.k.add(first, row16);
        let upper = kb.k.mul_int(bit4, 8);
        let k_row = kb.k.add(row8, upper);
        let q_at = place(kb, q_row, bit4, q.pitch);
        let k_at = place(kb, k_row, bit3, k.pitch);
        let v_at = place(kb, row16, bit4, v.pitch);
        let group = bits(kb, 2, 7);
        let row = kb.k.add(tile.row, first);
        let row = kb.k.add(row, group);
        let rows = [row, kb.k.add_int(row, 8)];
        let last = kb.dim(&b.a.n_queries);
        let last = kb.k.add_int(last, -1);
        let inside = rows.map(|r| kb.min(r, last));
        let pair = bits(kb, 0, 3);
        let key = kb.k.mul_int(pair, 2);
        Warps { b, shape, tile, q, k, v, q_at, k_at, v_at, rows, inside, key }
    }

    /// One block of keys: the next running results from the last ones.
    fn block(&self, kb: &mut Kb, first: Val, carried: &[Val]) -> Vec<Val> {
        let pending = self.v.begin(kb, first);
        let scores = self.scores(kb);
        let logits = self.logits(kb, first, &scores);
        let mut next = Vec::new();
        let (mut weights, mut scales) = (Vec::new(), Vec::new());
        let mut sums = Vec::new();
        for half in 0..2 {
            let state = State { max: carried[half], sum: carried[2 + half] };
            let (state, scale, p) = self.soften(kb, state, &logits[half]);
            next.push(state.max);
            sums.push(state.sum);
            scales.push(scale);
            weights.push(p);
        }
        next.extend(sums);
        let weights = self.fragments(kb, &weights);
        self.v.end(kb, pending);
        kb.k.barrier();
        let following = kb.k.add_int(first, self.shape.keys);
        let pending = self.k.begin(kb, following);
        let (low, high) = (kb.k.widen(scales[0], 2), kb.k.widen(scales[1], 2));
        let scale = kb.k.concat(low, high);
        for (pair, old) in carried[4..].chunks(2).enumerate() {
            let parts = self.weighted(kb, pair as i64, &weights);
            for (&old, part) in old.iter().zip(parts) {
                next.push(kb.k.fma(old, scale, part));
            }
        }
        self.k.end(kb, pending);
        kb.k.barrier();
        next
    }

    /// Products of the warp's queries and the block's keys: a fragment for every eight keys.
    fn scores(&self, kb: &mut Kb) -> Vec<Val> {
        let none = kb.k.splat_const(Const::f32(0.0), 4);
        let n = (self.shape.keys / 8) as usize;
        let mut totals: Option<Vec<Val>> = None;
        let mut sums = vec![none; n];
        let steps = panel::padded(self.b.a.head) / 16;
        for step in 0..steps {
            let q: Vec<Val> = (0..self.q.planes)
                .map(|p| kb.k.load_matrix(self.q.buf, self.q_at, p * self.q.plane + step * 16, 4, false))
                .collect();
            for pair in 0..n / 2 {
                let at = pair as i64 * 16 * self.k.pitch + step * 16;
                let k: Vec<Val> = (0..self.k.planes)
                    .map(|p| kb.k.load_matrix(self.k.buf, self.k_at, p * self.k.plane + at, 4, false))
                    .collect();
                for half in 0..2 {
                    let i = 2 * pair + half;
                    sums[i] = products(kb, &q, &k, half as u32, sums[i]);
                }
            }
            if self.q.planes > 1 && (step + 1) % STEPS == 0 && step + 1 < steps {
                totals = Some(match totals {
                    Some(t) => t.iter().zip(&sums).map(|(&t, &s)| kb.k.bin(BinOp::Add, t, s)).collect(),
                    None => sums,
                });
                sums = vec![none; n];
            }
        }
        match totals {
            Some(t) => t.iter().zip(&sums).map(|(&t, &s)| kb.k.bin(BinOp::Add, t, s)).collect(),
            None => sums,
        }
    }

    /// The logits of this thread's two queries, two keys a vector; minus infinity beyond the last key.
    fn logits(&self, kb: &mut Kb, first: Val, scores: &[Val]) -> [Vec<Val>; 2] {
        let whole = self.b.a.n_keys.as_const().is_some_and(|n| n % self.shape.keys == 0);
        let mine = kb.k.add(first, self.key);
        let n = kb.dim(&self.b.a.n_keys);
        let left = kb.k.sub(n, mine);
        let limit = kb.k.convert(left, DType::I32);
        let low = kb.k.constant(Const::f32(f32::NEG_INFINITY));
        let mut out = [Vec::new(), Vec::new()];
        for (tile, &score) in (0i64..).zip(scores) {
            let key = kb.k.add_int(mine, tile * 8);
            let count = (!whole).then(|| kb.k.add_int(left, -tile * 8));
            let valid = (!whole).then(|| {
                let at = kb.k.constant(Const::int(DType::I32, tile * 8));
                let number = kb.k.iota(at, 2);
                kb.k.cmp(Pred::Lt, number, limit)
            });
            for half in 0..2 {
                let x = kb.k.slice(score, half as u32 * 2, 2);
                let index = [&self.tile.batch[..], &[self.inside[half], key]].concat();
                let x = self.b.logit(kb, Spot::new(index, 2, count, &[]), x);
                out[half].push(valid.map_or(x, |valid| kb.k.select(valid, x, low)));
            }
        }
        out
    }

    /// A query's new running results, what the old ones are worth, and the weights of this thread's keys.
    fn soften(&self, kb: &mut Kb, old: State, logits: &[Val]) -> (State, Val, Vec<Val>) {
        let mut most = logits[0];
        for &x in &logits[1..] {
            most = kb.k.bin(BinOp::Max, most, x);
        }
        let (a, b) = (kb.k.extract(most, 0), kb.k.extract(most, 1));
        let most = kb.k.bin(BinOp::Max, a, b);
        let most = quad(kb, BinOp::Max, most);
        let max = kb.k.bin(BinOp::Max, old.max, most);
        let shift = self.b.shift(kb, max);
        let dtype = self.b.values.dtype;
        let scale = kb.k.bin(BinOp::Sub, old.max, shift);
        let scale = exp::exp(&mut kb.k, scale, DType::F32);
        let mut sum: Option<Val> = None;
        let mut weights = Vec::new();
        for &x in logits {
            let x = kb.k.bin(BinOp::Sub, x, shift);
            let p = exp::exp(&mut kb.k, x, dtype);
            sum = Some(sum.map_or(p, |s| kb.k.bin(BinOp::Add, s, p)));
            weights.push(p);
        }
        let sum = sum.expect("a block has keys");
        let (a, b) = (kb.k.extract(sum, 0), kb.k.extract(sum, 1));
        let sum = kb.k.bin(BinOp::Add, a, b);
        (State { max, sum: kb.k.fma(old.sum, scale, sum) }, scale, weights)
    }

    /// The weights as left factors, of sixteen keys each, in the parts of the values' type.
    fn fragments(&self, kb: &mut Kb, weights: &[Vec<Val>]) -> Vec<Vec<Val>> {
        let mut out = Vec::new();
        for step in 0..self.shape.keys as usize / 16 {
            let both = |kb: &mut Kb, i: usize| kb.k.concat(weights[0][i], weights[1][i]);
            let (a, b) = (both(kb, 2 * step), both(kb, 2 * step + 1));
            let x = kb.k.concat(a, b);
            out.push(match self.v.planes {
                1 => vec![kb.k.convert(x, self.b.values.dtype)],
                _ => panel::split(kb, x),
            });
        }
        out
    }

    /// The block's weighted values of sixteen elements, as two fragments.
    fn weighted(&self, kb: &mut Kb, pair: i64, weights: &[Vec<Val>]) -> [Val; 2] {
        let none = kb.k.splat_const(Const::f32(0.0), 4);
        let mut sums = [none; 2];
        for (step, p) in (0i64..).zip(weights) {
            let at = step * 16 * self.v.pitch + pair * 16;
            let v: Vec<Val> = (0..self.v.planes)
                .map(|i| kb.k.load_matrix(self.v.buf, self.v_at, i * self.v.plane + at, 4, true))
                .collect();
            for half in 0..2 {
                sums[half] = products(kb, p, &v, half as u32, sums[half]);
            }
        }
        sums
    }

    fn finish(&self, kb: &mut Kb, end: &[Val]) {
        for half in 0..2 {
            let sum = quad(kb, BinOp::Add, end[2 + half]);
            let state = State { max: end[half], sum };
            let limit = kb.dim(&self.b.a.n_queries);
            let real = kb.k.cmp(Pred::Lt, self.rows[half], limit);
            let mut open = kb.k.begin_if(real);
            let scale = self.b.finish(kb, self.tile, self.rows[half], state);
            let tiles = (self.b.a.width + 7) / 8;
            for (tile, &o) in (0..tiles).zip(&end[4..]) {
                let x = kb.k.slice(o, half as u32 * 2, 2);
                let col = kb.k.add_int(self.key, tile * 8);
                self.b.store(kb, self.tile, (self.rows[half], col, 8), x, scale);
            }
            kb.k.begin_else(&mut open, &[]);
            kb.k.end_if(open, &[]);
        }
    }
}

/// Combines what the four threads that share a row have.
fn quad(kb: &mut Kb, op: BinOp, mut x: Val) -> Val {
    for lane in [1, 2] {
        let other = kb.k.shuffle(Lane::Xor(lane), x);
        x = kb.k.bin(op, x, other);
    }
    x
}

/// Adds the products of two matrices' parts, smallest first; `half` says which half of the right fragments.
fn products(kb: &mut Kb, left: &[Val], right: &[Val], half: u32, mut sum: Val) -> Val {
    let most = left.len().max(right.len());
    for order in (0..most).rev() {
        for i in (0..=order).rev().filter(|&i| i < left.len() && order - i < right.len()) {
            let b = kb.k.slice(right[order - i], half * 4, 4);
            sum = kb.k.mma(left[i], b, sum);
        }
    }
    sum
}
