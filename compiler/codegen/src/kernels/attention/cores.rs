//! Attention on processors: a tile task takes up to [`CHUNK`] queries of a head, a register tile of them at a time.
//!
//! The scores of a register tile's queries stay in scratch memory from the first product over the softmax to the second, so
//! that no running maximum is needed. Keys are packed across, `[vector of keys][element][key]`, and values in panels,
//! `[panel][key][element]`, once for all queries of the task. Where there are fewer queries than a register tile has, each
//! reads keys and values where they lie. Limit: one vector multiply-add a cycle; for a single query, reading keys and
//! values once.

use xlac_ir::kernel::LoopHint;
use xlac_ir::ops::reduce::ReduceFn;

use super::logits::Spot;
use super::*;
use crate::kernels::rows::tree;

/// Queries of a tile task, at most.
pub const CHUNK: i64 = 128;

/// Vectors of values a single query sums up at once.
const SINGLE_VECTORS: i64 = 8;

/// Register tiles: queries, and vectors of keys.
#[derive(Clone, Copy)]
pub struct Registers {
    rows: i64,
    vectors: i64,
    lanes: i64,
}

impl Registers {
    /// What the target's registers hold.
    pub fn new(l: &Lowering, b: &Blocked) -> Registers {
        // One for a broadcast element; Cranelift's allocator wants some room besides.
        let room = if l.target.vector_bytes <= 16 { 4 } else { 1 };
        let registers = i64::from(l.target.vector_registers) - room;
        let vectors = if registers >= 27 { 3 } else { 2 };
        Registers { rows: ((registers - vectors) / vectors).clamp(1, 8), vectors, lanes: i64::from(l.target.lanes(b.acc)) }
    }
}

/// Scratch memory of a tile task.
struct Room {
    keys: Buf,
    values: Buf,
    /// Scores, then weights, of a register tile.
    scores: Buf,
    /// Largest logit and sum of each of its queries.
    states: Buf,
    /// Elements from query to query of the scores: the number of keys, filled up to whole vectors.
    stride: Dim,
}

/// A tile task under construction.
struct Cores<'a> {
    b: &'a Blocked<'a>,
    registers: Registers,
    tile: &'a Tile,
    room: Room,
    /// Elements of the matrices of this tile's batch with row 0.
    q: Val,
    k: Val,
    v: Val,
}

impl Blocked<'_> {
    /// Emits a tile task.
    pub(super) fn cores(&self, kb: &mut Kb, registers: Registers, tile: &Tile) {
        let few = self.a.n_queries.as_const().map(|n| n < registers.rows);
        let at_once = if few == Some(true) { 1 } else { registers.rows };
        let stride = &self.a.n_keys.ceil_div(&Dim::from(registers.lanes)) * &Dim::from(registers.lanes);
        let packed = |width: i64| if few == Some(true) { Dim::ONE } else { &stride * &Dim::from(width) };
        let width = (self.a.width + registers.lanes - 1) / registers.lanes * registers.lanes;
        let room = Room {
            keys: kb.scratch("keys", self.acc, &packed(self.a.head)),
            values: kb.scratch("values", self.acc, &packed(width)),
            scores: kb.scratch("scores", self.acc, &(&stride * &Dim::from(at_once))),
            states: kb.scratch("states", self.acc, &Dim::from(2 * at_once)),
            stride,
        };
        let (q, k, v) = (
            kb.address(&tile.batch, &self.queries.batch),
            kb.address(&tile.batch, &self.keys.batch),
            kb.address(&tile.batch, &self.values.batch),
        );
        let n = kb.dim(&self.a.n_queries);
        let end = kb.k.add_int(tile.row, CHUNK);
        let end = kb.min(end, n);
        let cores = Cores { b: self, registers, tile, room, q, k, v };
        match few {
            Some(true) => cores.singles(kb, end),
            Some(false) => cores.blocks(kb, n, end),
            None => {
                let limit = kb.k.int(registers.rows);
                let enough = kb.k.cmp(Pred::Ge, n, limit);
                let mut open = kb.k.begin_if(enough);
                cores.blocks(kb, n, end);
                kb.k.begin_else(&mut open, &[]);
                cores.singles(kb, end);
                kb.k.end_if(open, &[]);
            }
        }
    }
}

impl Cores<'_> {
    fn lanes(&self) -> u32 { self.registers.lanes as u32 }

    fn zero(&self, kb: &mut Kb) -> Val { kb.k.splat_const(Const::number(self.b.acc, 0.0), self.lanes()) }

    /// Some elements of a matrix, one to a lane, `along` its rows or its columns.
    fn load(&self, kb: &mut Kb, (m, base): (&Matrix, Val), (row, col): (Val, Val), along: &Dim, count: Option<Val>) -> Val {
        let at = kb.address(&[row, col], &[m.row.clone(), m.col.clone()]);
        let at = kb.k.add(at, base);
        let stride = kb.dim(along);
        let x = kb.k.load_strided(m.buf, at, stride, self.lanes(), count);
        kb.k.convert(x, self.b.acc)
    }

    /// An element of a matrix.
    fn element(&self, kb: &mut Kb, (m, base): (&Matrix, Val), row: Val, col: Val) -> Val {
        let at = kb.address(&[row, col], &[m.row.clone(), m.col.clone()]);
        let at = kb.k.add(at, base);
        let x = kb.k.load(m.buf, at, 0, 1, None);
        kb.k.convert(x, self.b.acc)
    }

    /// `n - at`, if that may be fewer than all lanes.
    fn left(&self, kb: &mut Kb, n: &Dim, at: Val) -> Option<Val> {
        (!crate::kb::multiple(n, self.registers.lanes)).then(|| {
            let n = kb.dim(n);
            kb.k.sub(n, at)
        })
    }

    /// Register tiles of queries.
    fn blocks(&self, kb: &mut Kb, n: Val, end: Val) {
        self.pack_keys(kb);
        self.pack_values(kb);
        let rows = self.registers.rows;
        let last = kb.k.add_int(n, -rows);
        let open = kb.k.begin_for((self.tile.row, end, rows), &[], LoopHint::Plain);
        // The last one overlaps the one before it: the same results are stored twice.
        let row = kb.min(open.var, last);
        self.scores(kb, row);
        let (zero, all) = (kb.k.int(0), kb.k.int(rows));
        let each = kb.k.begin_for((zero, all, 1), &[], LoopHint::Plain);
        let stride = kb.dim(&self.room.stride);
        let at = kb.k.mul(each.var, stride);
        let state = self.soften(kb, at);
        let slot = kb.k.mul_int(each.var, 2);
        kb.k.store(self.room.states, slot, 0, state.max, None);
        kb.k.store(self.room.states, slot, 1, state.sum, None);
        kb.k.end_for(each, &[]);
        self.weigh(kb, row);
        kb.k.end_for(open, &[]);
    }

    fn pack_keys(&self, kb: &mut Kb) {
        let lanes = self.registers.lanes;
        let (zero, n, head) = (kb.k.int(0), kb.dim(&self.b.a.n_keys), kb.k.int(self.b.a.head));
        let open = kb.k.begin_for((zero, n, lanes), &[], LoopHint::Plain);
        let first = kb.k.mul(open.var, head);
        let count = self.left(kb, &self.b.a.n_keys, open.var);
        let each = kb.k.begin_for((zero, head, 1), &[], LoopHint::Plain);
        let keys = &self.b.keys;
        let x = self.load(kb, (keys, self.k), (open.var, each.var), &keys.row.clone(), count);
        let at = kb.k.mul_int(each.var, lanes);
        let at = kb.k.add(first, at);
        kb.k.store(self.room.keys, at, 0, x, None);
        kb.k.end_for(each, &[]);
        kb.k.end_for(open, &[]);
    }

    /// Vectors of values in a panel: as many as the register tile has, if panels of as many fill a value.
    fn panel_vectors(&self) -> i64 {
        let vectors = (self.b.a.width + self.registers.lanes - 1) / self.registers.lanes;
        (1..=self.registers.vectors).rev().find(|v| vectors % v == 0).unwrap_or(1)
    }

    fn pack_values(&self, kb: &mut Kb) {
        let lanes = self.registers.lanes;
        let span = self.panel_vectors() * lanes;
        let (zero, n, width) = (kb.k.int(0), kb.dim(&self.b.a.n_keys), kb.k.int(self.b.a.width));
        let open = kb.k.begin_for((zero, width, span), &[], LoopHint::Plain);
        let first = kb.k.mul(open.var, n);
        let each = kb.k.begin_for((zero, n, 1), &[], LoopHint::Plain);
        let at = kb.k.mul_int(each.var, span);
        let at = kb.k.add(first, at);
        for shift in (0..span).step_by(lanes as usize) {
            let col = kb.k.add_int(open.var, shift);
            let count = self.left(kb, &Dim::from(self.b.a.width), col);
            let values = &self.b.values;
            let x = self.load(kb, (values, self.v), (each.var, col), &values.col.clone(), count);
            kb.k.store(self.room.values, at, shift, x, None);
        }
        kb.k.end_for(each, &[]);
        kb.k.end_for(open, &[]);
    }

    /// The logits of a register tile: as many vectors of keys at once as it has, then one by one.
    fn scores(&self, kb: &mut Kb, row: Val) {
        let span = self.registers.vectors * self.registers.lanes;
        let (zero, n) = (kb.k.int(0), kb.dim(&self.b.a.n_keys));
        let by = kb.k.int(span);
        let whole = kb.k.bin(BinOp::Div, n, by);
        let whole = kb.k.mul_int(whole, span);
        let open = kb.k.begin_for((zero, whole, span), &[], LoopHint::Plain);
        self.scores_of(kb, row, open.var, self.registers.vectors, None);
        kb.k.end_for(open, &[]);
        if crate::kb::multiple(&self.b.a.n_keys, span) {
            return;
        }
        let open = kb.k.begin_for((whole, n, self.registers.lanes), &[], LoopHint::Plain);
        let count = self.left(kb, &self.b.a.n_keys, open.var);
        self.scores_of(kb, row, open.var, 1, count);
        kb.k.end_for(open, &[]);
    }

    fn scores_of(&self, kb: &mut Kb, row: Val, key: Val, vectors: i64, count: Option<Val>) {
        let lanes = self.registers.lanes;
        let (zero, head) = (kb.k.int(0), kb.k.int(self.b.a.head));
        let init = vec![self.zero(kb); (self.registers.rows * vectors) as usize];
        let first = kb.k.mul(key, head);
        let open = kb.k.begin_for((zero, head, 1), &init, LoopHint::Unroll(2));
        let at = kb.k.mul_int(open.var, lanes);
        let at = kb.k.add(first, at);
        let keys: Vec<Val> = (0..vectors).map(|v| kb.k.load(self.room.keys, at, v * lanes * self.b.a.head, lanes as u32, None)).collect();
        let mut next = Vec::new();
        for r in 0..self.registers.rows {
            let row = kb.k.add_int(row, r);
            let x = self.element(kb, (&self.b.queries, self.q), row, open.var);
            next.extend(keys.iter().zip(&open.phis[(r * vectors) as usize..]).map(|(&k, &sum)| kb.k.fma(x, k, sum)));
        }
        let sums = kb.k.end_for(open, &next);
        for (i, &sum) in (0i64..).zip(&sums) {
            let (r, key) = (i / vectors, kb.k.add_int(key, i % vectors * lanes));
            let row = kb.k.add_int(row, r);
            self.store_logits(kb, (row, r), key, sum, count);
        }
    }

    /// Stores the logits of the `r`-th query of a register tile for a vector of keys; those past the last count for nothing.
    fn store_logits(&self, kb: &mut Kb, (row, r): (Val, i64), key: Val, scores: Val, count: Option<Val>) {
        let index = [&self.tile.batch[..], &[row, key]].concat();
        let mut x = self.b.logit(kb, Spot::new(index, self.lanes(), count, &[]), scores);
        if let Some(count) = count {
            let zero = kb.k.constant(Const::int(DType::I32, 0));
            let number = kb.k.iota(zero, self.lanes());
            let limit = kb.k.convert(count, DType::I32);
            let real = kb.k.cmp(Pred::Lt, number, limit);
            let none = kb.k.splat_const(Const::number(self.b.acc, f64::NEG_INFINITY), self.lanes());
            x = kb.k.select(real, x, none);
        }
        let at = kb.dim(&(&self.room.stride * &Dim::from(r)));
        let at = kb.k.add(at, key);
        kb.k.store(self.room.scores, at, 0, x, None);
    }

    /// Makes weights of the logits from `first` on, not yet divided by their sum.
    fn soften(&self, kb: &mut Kb, first: Val) -> State {
        let lanes = self.lanes();
        let (zero, n) = (kb.k.int(0), kb.dim(&self.b.a.n_keys));
        let low = kb.k.splat_const(Const::number(self.b.acc, f64::NEG_INFINITY), lanes);
        let open = kb.k.begin_for((zero, n, i64::from(lanes)), &[low], LoopHint::Unroll(4));
        let at = kb.k.add(first, open.var);
        let x = kb.k.load(self.room.scores, at, 0, lanes, None);
        let max = kb.k.bin(BinOp::Max, open.phis[0], x);
        let max = kb.k.end_for(open, &[max])[0];
        let max = tree(kb, ReduceFn::Max, max);
        let shift = self.b.shift(kb, max);
        let none = self.zero(kb);
        let open = kb.k.begin_for((zero, n, i64::from(lanes)), &[none], LoopHint::Unroll(4));
        let at = kb.k.add(first, open.var);
        let x = kb.k.load(self.room.scores, at, 0, lanes, None);
        let x = kb.k.bin(BinOp::Sub, x, shift);
        let p = exp::exp(&mut kb.k, x, self.b.acc);
        kb.k.store(self.room.scores, at, 0, p, None);
        let sum = kb.k.bin(BinOp::Add, open.phis[0], p);
        let sum = kb.k.end_for(open, &[sum])[0];
        State { max, sum: tree(kb, ReduceFn::Sum, sum) }
    }

    /// Sums up a register tile's values with their weights, and stores the results.
    fn weigh(&self, kb: &mut Kb, row: Val) {
        let lanes = self.registers.lanes;
        let vectors = self.panel_vectors();
        let (zero, n, width) = (kb.k.int(0), kb.dim(&self.b.a.n_keys), kb.k.int(self.b.a.width));
        let panel = kb.k.begin_for((zero, width, vectors * lanes), &[], LoopHint::Plain);
        let first = kb.k.mul(panel.var, n);
        let init = vec![self.zero(kb); (self.registers.rows * vectors) as usize];
        let open = kb.k.begin_for((zero, n, 1), &init, LoopHint::Unroll(2));
        let at = kb.k.mul_int(open.var, vectors * lanes);
        let at = kb.k.add(first, at);
        let values: Vec<Val> = (0..vectors).map(|v| kb.k.load(self.room.values, at, v * lanes, lanes as u32, None)).collect();
        let mut next = Vec::new();
        for r in 0..self.registers.rows {
            let weights = kb.dim(&(&self.room.stride * &Dim::from(r)));
            let weight = kb.k.add(weights, open.var);
            let p = kb.k.load(self.room.scores, weight, 0, 1, None);
            next.extend(values.iter().zip(&open.phis[(r * vectors) as usize..]).map(|(&v, &sum)| kb.k.fma(p, v, sum)));
        }
        let sums = kb.k.end_for(open, &next);
        for (r, sums) in (0i64..).zip(sums.chunks(vectors as usize)) {
            let max = kb.k.load(self.room.states, zero, 2 * r, 1, None);
            let sum = kb.k.load(self.room.states, zero, 2 * r + 1, 1, None);
            let row = kb.k.add_int(row, r);
            self.finish(kb, row, panel.var, State { max, sum }, sums);
        }
        kb.k.end_for(panel, &[]);
    }

    fn finish(&self, kb: &mut Kb, row: Val, col: Val, state: State, sums: &[Val]) {
        let lanes = self.registers.lanes;
        let end = self.b.finish(kb, self.tile, row, state);
        for (v, &x) in (0i64..).zip(sums) {
            let col = kb.k.add_int(col, v * lanes);
            self.b.store(kb, self.tile, (row, col, lanes), x, end);
        }
    }

    /// Queries one by one.
    fn singles(&self, kb: &mut Kb, end: Val) {
        let open = kb.k.begin_for((self.tile.row, end, 1), &[], LoopHint::Plain);
        if self.b.keys.row.is(1) { self.single_across(kb, open.var) } else { self.single_dots(kb, open.var) }
        let zero = kb.k.int(0);
        let state = self.soften(kb, zero);
        self.single_values(kb, open.var, state);
        kb.k.end_for(open, &[]);
    }

    /// A query's logits, a vector of keys at a time.
    fn single_across(&self, kb: &mut Kb, row: Val) {
        let (zero, n, head) = (kb.k.int(0), kb.dim(&self.b.a.n_keys), kb.k.int(self.b.a.head));
        let keys = kb.k.begin_for((zero, n, self.registers.lanes), &[], LoopHint::Plain);
        let count = self.left(kb, &self.b.a.n_keys, keys.var);
        let none = self.zero(kb);
        let open = kb.k.begin_for((zero, head, 1), &[none], LoopHint::Unroll(4));
        let x = self.element(kb, (&self.b.queries, self.q), row, open.var);
        let k = self.load(kb, (&self.b.keys, self.k), (keys.var, open.var), &Dim::ONE, count);
        let sum = kb.k.fma(x, k, open.phis[0]);
        let sum = kb.k.end_for(open, &[sum])[0];
        self.store_logits(kb, (row, 0), keys.var, sum, count);
        kb.k.end_for(keys, &[]);
    }

    /// A query's logits, a key at a time: vectors of elements.
    fn single_dots(&self, kb: &mut Kb, row: Val) {
        let (zero, n) = (kb.k.int(0), kb.dim(&self.b.a.n_keys));
        let keys = &self.b.keys;
        let vector = |kb: &mut Kb, (m, base): (&Matrix, Val), row: Val, shift: i64| {
            let col = kb.k.int(shift);
            let count = self.left(kb, &Dim::from(self.b.a.head), col);
            self.load(kb, (m, base), (row, col), &m.col.clone(), count)
        };
        let shifts: Vec<i64> = (0..self.b.a.head).step_by(self.registers.lanes as usize).collect();
        let q: Vec<Val> = shifts.iter().map(|&s| vector(kb, (&self.b.queries, self.q), row, s)).collect();
        let open = kb.k.begin_for((zero, n, 1), &[], LoopHint::Unroll(4));
        let mut sum = self.zero(kb);
        for (&s, &q) in shifts.iter().zip(&q) {
            let k = vector(kb, (keys, self.k), open.var, s);
            sum = kb.k.fma(q, k, sum);
        }
        let score = tree(kb, ReduceFn::Sum, sum);
        let index = [&self.tile.batch[..], &[row, open.var]].concat();
        let x = self.b.logit(kb, Spot::new(index, 1, None, &[]), score);
        kb.k.store(self.room.scores, open.var, 0, x, None);
        kb.k.end_for(open, &[]);
        if crate::kb::multiple(&self.b.a.n_keys, self.registers.lanes) {
            return;
        }
        let low = kb.k.constant(Const::number(self.b.acc, f64::NEG_INFINITY));
        let stride = kb.dim(&self.room.stride);
        let open = kb.k.begin_for((n, stride, 1), &[], LoopHint::Plain);
        kb.k.store(self.room.scores, open.var, 0, low, None);
        kb.k.end_for(open, &[]);
    }

    fn single_values(&self, kb: &mut Kb, row: Val, state: State) {
        let lanes = self.registers.lanes;
        let (zero, n) = (kb.k.int(0), kb.dim(&self.b.a.n_keys));
        let shifts: Vec<i64> = (0..self.b.a.width).step_by(lanes as usize).collect();
        for shifts in shifts.chunks(SINGLE_VECTORS as usize) {
            let init = vec![self.zero(kb); shifts.len()];
            let open = kb.k.begin_for((zero, n, 1), &init, LoopHint::Unroll(4));
            let p = kb.k.load(self.room.scores, open.var, 0, 1, None);
            let mut next = Vec::new();
            for (&shift, &sum) in shifts.iter().zip(&open.phis.clone()) {
                let col = kb.k.int(shift);
                let count = self.left(kb, &Dim::from(self.b.a.width), col);
                let values = &self.b.values;
                let v = self.load(kb, (values, self.v), (open.var, col), &values.col.clone(), count);
                next.push(kb.k.fma(p, v, sum));
            }
            let sums = kb.k.end_for(open, &next);
            let col = kb.k.int(shifts[0]);
            self.finish(kb, row, col, state, &sums);
        }
    }
}
