//! Attention for few queries: threads take dot products with keys as they come from memory.
//!
//! A group of threads reads a key or value, 16 bytes each; the groups of all warps take keys in turn, a few at once, each
//! with running results of its own. At the end those of a warp's groups are combined by shuffles and those of the warps
//! through shared memory, always in the same order. Limit: reading every key and value once.

use xlac_ir::kernel::{Lane, LoopHint};
use xlac_ir::ops::reduce::ReduceFn;

use super::logits::Spot;
use super::*;
use crate::kernels::rows::tree;

/// Threads of a tile that has no other schedule.
pub const THREADS: u32 = 256;
/// Queries at once, if there are so many.
pub const ROWS: i64 = 4;
/// Keys a group has under way.
const UNROLL: i64 = 4;
/// Bytes a thread reads at once.
const LOAD_BYTES: i64 = 16;

/// Who does what.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Queries at once.
    rows: i64,
    /// Queries of a tile.
    block: i64,
    warps: i64,
    /// Elements of a load.
    lanes: i64,
    /// Threads of a group.
    group: i64,
    /// Loads of a key and of a value.
    key_loads: i64,
    value_loads: i64,
}

impl Plan {
    /// For tiles of `block` queries, `rows` of them at once.
    pub fn new(b: &Blocked, rows: i64, block: i64, threads: u32) -> Plan {
        let size = b.keys.dtype.size().max(b.values.dtype.size());
        let lanes = LOAD_BYTES / size as i64;
        let loads = |n: i64, group: i64| (n + lanes * group - 1) / (lanes * group);
        let group = (loads(b.a.head.max(b.a.width), 1) as u64).next_power_of_two().min(u64::from(WARP)) as i64;
        let (key_loads, value_loads) = (loads(b.a.head, group), loads(b.a.width, group));
        Plan { rows, block, warps: i64::from(threads / WARP), lanes, group, key_loads, value_loads }
    }

    /// Groups of all warps.
    fn groups(&self) -> i64 { self.warps * i64::from(WARP) / self.group }
}

/// What one pass over the keys has in common.
struct Pass<'a> {
    b: &'a Blocked<'a>,
    plan: Plan,
    tile: &'a Tile,
    thread: Val,
    /// Number of this thread in its group, and of the group.
    me: Val,
    group: Val,
    /// Queries, not beyond the last.
    rows: Vec<Val>,
    /// Elements of the matrices of this tile's batch with row 0.
    q: Val,
    k: Val,
    v: Val,
}

/// Running results of a query: its state and this thread's elements of the weighted values.
#[derive(Clone)]
struct Running {
    state: State,
    values: Vec<Val>,
}

/// Where the warps meet.
struct Exchange {
    states: Buf,
    values: Buf,
}

impl Blocked<'_> {
    /// Emits a tile.
    pub(super) fn lanes(&self, kb: &mut Kb, plan: Plan, tile: &Tile) {
        let slots = plan.warps * plan.rows;
        let exchange = Exchange {
            states: kb.k.shared("states", self.acc, (2 * slots) as u64),
            values: kb.k.shared("sums", self.acc, (slots * plan.row_slots()) as u64),
        };
        let thread = kb.k.thread();
        let by = kb.k.int(plan.group);
        let (group, me) = (kb.k.bin(BinOp::Div, thread, by), kb.k.bin(BinOp::Rem, thread, by));
        let n = kb.dim(&self.a.n_queries);
        let end = kb.k.add_int(tile.row, plan.block);
        let end = kb.min(end, n);
        let (q, k, v) = (
            kb.address(&tile.batch, &self.queries.batch),
            kb.address(&tile.batch, &self.keys.batch),
            kb.address(&tile.batch, &self.values.batch),
        );
        let open = kb.k.begin_for((tile.row, end, plan.rows), &[], LoopHint::Plain);
        let last = kb.k.add_int(n, -1);
        let rows = (0..plan.rows).map(|r| {
            let row = kb.k.add_int(open.var, r);
            kb.min(row, last)
        });
        let rows = rows.collect();
        let pass = Pass { b: self, plan, tile, thread, me, group, rows, q, k, v };
        let running = pass.keys(kb);
        let running = pass.gather_warp(kb, running);
        pass.send(kb, &exchange, &running);
        kb.k.barrier();
        pass.finish(kb, &exchange, open.var, n);
        kb.k.barrier();
        kb.k.end_for(open, &[]);
    }
}

impl Plan {
    /// Elements a warp sends for a query.
    fn row_slots(&self) -> i64 { self.value_loads * self.group * self.lanes }
}

impl Pass<'_> {
    /// Walks over this group's keys.
    fn keys(&self, kb: &mut Kb) -> Vec<Running> {
        let (q, loads) = (&self.b.queries, self.plan.key_loads);
        let queries: Vec<Vec<Val>> = self.rows.iter().map(|&row| self.load(kb, q, self.q, row, loads)).collect();
        let start = self.b.start(kb);
        let none = kb.k.splat_const(Const::number(self.b.acc, 0.0), self.plan.lanes as u32);
        let mut carried = Vec::new();
        for _ in &self.rows {
            carried.extend([start.max, start.sum]);
            carried.extend((0..self.plan.value_loads).map(|_| none));
        }
        let (zero, n) = (kb.k.int(0), kb.dim(&self.b.a.n_keys));
        let open = kb.k.begin_for((zero, n, self.plan.groups() * UNROLL), &carried, LoopHint::Plain);
        let next = self.some_keys(kb, open.var, &queries, &self.unpack(&open.phis));
        let end = kb.k.end_for(open, &pack(&next));
        self.unpack(&end)
    }

    fn unpack(&self, carried: &[Val]) -> Vec<Running> {
        let one = |x: &[Val]| Running { state: State { max: x[0], sum: x[1] }, values: x[2..].to_vec() };
        carried.chunks(2 + self.plan.value_loads as usize).map(one).collect()
    }

    /// This thread's elements of a row.
    fn load(&self, kb: &mut Kb, m: &Matrix, base: Val, row: Val, loads: i64) -> Vec<Val> {
        let lanes = self.plan.lanes;
        let first = kb.k.mul_int(self.me, lanes);
        let stride = kb.dim(&m.col);
        let one = |i: i64| {
            let col = kb.k.add_int(first, i * self.plan.group * lanes);
            let at = kb.address(&[row, col], &[m.row.clone(), m.col.clone()]);
            let at = kb.k.add(at, base);
            let whole = m.cols % (lanes * self.plan.group) == 0;
            let count = (!whole).then(|| {
                let cols = kb.k.int(m.cols);
                kb.k.sub(cols, col)
            });
            let x = kb.k.load_strided(m.buf, at, stride, lanes as u32, count);
            kb.k.convert(x, self.b.acc)
        };
        (0..loads).map(one).collect()
    }

    /// A few keys for every query.
    fn some_keys(&self, kb: &mut Kb, first: Val, queries: &[Vec<Val>], old: &[Running]) -> Vec<Running> {
        let n = kb.dim(&self.b.a.n_keys);
        let last = kb.k.add_int(n, -1);
        let mine = kb.k.add(first, self.group);
        let whole = self.b.a.n_keys.as_const().is_some_and(|n| n % (self.plan.groups() * UNROLL) == 0);
        let mut numbers = Vec::new();
        for u in 0..UNROLL {
            let key = kb.k.add_int(mine, u * self.plan.groups());
            let real = (!whole).then(|| kb.k.cmp(Pred::Lt, key, n));
            numbers.push((if whole { key } else { kb.min(key, last) }, real));
        }
        // All loads are under way before the first is needed.
        let mut load = |m: &Matrix, base: Val, loads: i64| -> Vec<Vec<Val>> {
            numbers.iter().map(|&(key, _)| self.load(kb, m, base, key, loads)).collect()
        };
        let keys = load(&self.b.keys, self.k, self.plan.key_loads);
        let values = load(&self.b.values, self.v, self.plan.value_loads);
        let low = kb.k.constant(Const::number(self.b.acc, f64::NEG_INFINITY));
        let mut next = Vec::new();
        for ((q, old), &row) in queries.iter().zip(old).zip(&self.rows) {
            let mut logits = Vec::new();
            for (k, &(key, real)) in keys.iter().zip(&numbers) {
                let score = self.dot(kb, q, k);
                let index = [&self.tile.batch[..], &[row, key]].concat();
                let x = self.b.logit(kb, Spot::new(index, 1, None, &[]), score);
                logits.push(real.map_or(x, |real| kb.k.select(real, x, low)));
            }
            next.push(self.soften(kb, old, &logits, &values));
        }
        next
    }

    /// The dot product of the group's elements, known to all of its threads.
    fn dot(&self, kb: &mut Kb, q: &[Val], k: &[Val]) -> Val {
        let mut sum = kb.k.bin(BinOp::Mul, q[0], k[0]);
        for (&a, &b) in q.iter().zip(k).skip(1) {
            sum = kb.k.fma(a, b, sum);
        }
        let mut sum = tree(kb, ReduceFn::Sum, sum);
        let mut distance = self.plan.group / 2;
        while distance > 0 {
            let other = kb.k.shuffle(Lane::Xor(distance as u32), sum);
            sum = kb.k.bin(BinOp::Add, sum, other);
            distance /= 2;
        }
        sum
    }

    fn soften(&self, kb: &mut Kb, old: &Running, logits: &[Val], values: &[Vec<Val>]) -> Running {
        let mut max = old.state.max;
        for &x in logits {
            max = kb.k.bin(BinOp::Max, max, x);
        }
        let shift = self.b.shift(kb, max);
        let scale = self.relative(kb, old.state.max, shift);
        let mut sum = kb.k.bin(BinOp::Mul, old.state.sum, scale);
        let mut sums: Vec<Val> = old.values.iter().map(|&x| kb.k.bin(BinOp::Mul, x, scale)).collect();
        for (&x, v) in logits.iter().zip(values) {
            let p = self.relative(kb, x, shift);
            sum = kb.k.bin(BinOp::Add, sum, p);
            sums = sums.iter().zip(v).map(|(&s, &v)| kb.k.fma(p, v, s)).collect();
        }
        Running { state: State { max, sum }, values: sums }
    }

    /// `exp(x - shift)`.
    fn relative(&self, kb: &mut Kb, x: Val, shift: Val) -> Val {
        let x = kb.k.bin(BinOp::Sub, x, shift);
        exp::exp(&mut kb.k, x, self.b.acc)
    }

    /// Combines the results of a warp's groups.
    fn gather_warp(&self, kb: &mut Kb, mut running: Vec<Running>) -> Vec<Running> {
        let mut distance = self.plan.group;
        while distance < i64::from(WARP) {
            let shuffle = |kb: &mut Kb, x: Val| kb.k.shuffle(Lane::Xor(distance as u32), x);
            for r in &mut running {
                let other = State { max: shuffle(kb, r.state.max), sum: shuffle(kb, r.state.sum) };
                let max = kb.k.bin(BinOp::Max, r.state.max, other.max);
                let shift = self.b.shift(kb, max);
                let (a, b) = (self.relative(kb, r.state.max, shift), self.relative(kb, other.max, shift));
                let join = |kb: &mut Kb, x: Val, y: Val| {
                    let y = kb.k.bin(BinOp::Mul, y, b);
                    kb.k.fma(x, a, y)
                };
                let sum = join(kb, r.state.sum, other.sum);
                let values = std::mem::take(&mut r.values);
                for x in values {
                    let pieces = (0..self.plan.lanes as u32).map(|i| {
                        let x = kb.k.extract(x, i);
                        shuffle(kb, x)
                    });
                    let pieces: Vec<Val> = pieces.collect();
                    let y = pieces.into_iter().reduce(|x, y| kb.k.concat(x, y)).expect("a load has lanes");
                    r.values.push(join(kb, x, y));
                }
                r.state = State { max, sum };
            }
            distance *= 2;
        }
        running
    }

    /// The first group of each warp tells what its warp has found.
    fn send(&self, kb: &mut Kb, exchange: &Exchange, running: &[Running]) {
        let size = kb.k.int(i64::from(WARP));
        let (warp, lane) = (kb.k.bin(BinOp::Div, self.thread, size), kb.k.bin(BinOp::Rem, self.thread, size));
        let (zero, limit) = (kb.k.int(0), kb.k.int(self.plan.group));
        let slot = kb.k.mul_int(warp, self.plan.rows);
        let one = kb.k.cmp(Pred::Eq, lane, zero);
        let mut open = kb.k.begin_if(one);
        let at = kb.k.mul_int(slot, 2);
        for (r, x) in (0i64..).zip(running) {
            kb.k.store(exchange.states, at, 2 * r, x.state.max, None);
            kb.k.store(exchange.states, at, 2 * r + 1, x.state.sum, None);
        }
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
        let first = kb.k.cmp(Pred::Lt, lane, limit);
        let mut open = kb.k.begin_if(first);
        let (at, mine) = (kb.k.mul_int(slot, self.plan.row_slots()), kb.k.mul_int(self.me, self.plan.lanes));
        let at = kb.k.add(at, mine);
        for (r, x) in (0i64..).zip(running) {
            for (i, &v) in (0i64..).zip(&x.values) {
                let part = r * self.plan.row_slots() + i * self.plan.group * self.plan.lanes;
                kb.k.store(exchange.values, at, part, v, None);
            }
        }
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }

    /// Combines the results of the warps and stores them: the threads take vectors of all queries in turn.
    fn finish(&self, kb: &mut Kb, exchange: &Exchange, first: Val, n: Val) {
        let lanes = self.plan.lanes;
        let vectors = (self.b.a.width + lanes - 1) / lanes;
        let total = kb.k.int(self.plan.rows * vectors);
        let open = kb.k.begin_for((self.thread, total, self.plan.warps * i64::from(WARP)), &[], LoopHint::Plain);
        let by = kb.k.int(vectors);
        let (r, col) = (kb.k.bin(BinOp::Div, open.var, by), kb.k.bin(BinOp::Rem, open.var, by));
        let col = kb.k.mul_int(col, lanes);
        let row = kb.k.add(first, r);
        let real = kb.k.cmp(Pred::Lt, row, n);
        let mut inside = kb.k.begin_if(real);
        let (state, x) = self.received(kb, exchange, r, col);
        let end = self.b.finish(kb, self.tile, row, state);
        self.b.store(kb, self.tile, (row, col, lanes), x, end);
        kb.k.begin_else(&mut inside, &[]);
        kb.k.end_if(inside, &[]);
        kb.k.end_for(open, &[]);
    }

    fn received(&self, kb: &mut Kb, exchange: &Exchange, r: Val, col: Val) -> (State, Val) {
        let mut parts = Vec::new();
        for warp in 0..self.plan.warps {
            let slot = kb.k.add_int(r, warp * self.plan.rows);
            let at = kb.k.mul_int(slot, 2);
            let max = kb.k.load(exchange.states, at, 0, 1, None);
            let sum = kb.k.load(exchange.states, at, 1, 1, None);
            let at = kb.k.mul_int(slot, self.plan.row_slots());
            let at = kb.k.add(at, col);
            parts.push((State { max, sum }, kb.k.load(exchange.values, at, 0, self.plan.lanes as u32, None)));
        }
        let max = parts.iter().map(|p| p.0.max).reduce(|a, b| kb.k.bin(BinOp::Max, a, b)).expect("a tile has warps");
        let shift = self.b.shift(kb, max);
        let mut sum = kb.k.constant(Const::number(self.b.acc, 0.0));
        let mut x = kb.k.splat_const(Const::number(self.b.acc, 0.0), self.plan.lanes as u32);
        for (state, part) in parts {
            let scale = self.relative(kb, state.max, shift);
            sum = kb.k.fma(state.sum, scale, sum);
            x = kb.k.fma(part, scale, x);
        }
        (State { max, sum }, x)
    }
}

fn pack(running: &[Running]) -> Vec<Val> {
    running.iter().flat_map(|r| [r.state.max, r.state.sum].into_iter().chain(r.values.iter().copied())).collect()
}
