//! The kernel of a recurrent layer's steps.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};
use xlac_ir::ops::rnn::cell::{self, Step};
use xlac_ir::ops::rnn::{Cell, Direction};

use super::{Layer, Operands, two_parts};
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::{CHECK_INDEX, map};
use crate::lower::{Cost, Lowering};

/// A buffer of the kernel with the strides of its axes.
#[derive(Clone)]
struct Access {
    buf: Buf,
    strides: Vec<Dim>,
    dtype: DType,
}

impl Access {
    fn read(kb: &mut Kb, place: &Place) -> Access {
        Access { buf: kb.read(place), strides: place.view.strides.clone(), dtype: place.dtype }
    }

    fn write(kb: &mut Kb, place: &Place) -> Access {
        Access { buf: kb.write(place), strides: place.view.strides.clone(), dtype: place.dtype }
    }
}

impl Layer<'_> {
    /// Working memory of a tile.
    fn state(&self, kb: &mut Kb, name: &str, len: usize) -> Buf {
        match self.team {
            Some(_) => kb.k.shared(name, self.acc, len as u64),
            None => kb.scratch(name, self.acc, &Dim::from(len)),
        }
    }

    /// True if sums are made unit by unit: every thread of a GPU has units of its own.
    fn walk_units(&self) -> bool { self.shape.lanes == 1 && self.shape.vectors as usize == self.shape.hidden }

    /// Emits the kernel of all directions, or of one.
    pub(super) fn launch(&self, l: &mut Lowering, group: &Group, o: &Operands, outputs: &[Option<Place>], step: &Step, only: Option<usize>) {
        let mut kb = Kb::new(&l.name(group));
        let (s, rows) = (&self.shape, self.shape.rows);
        let directions = if only.is_some() { 1 } else { s.directions };
        let groups = self.n.ceil_div(&Dim::from(rows));
        let grid = [Dim::from(directions), groups];
        let tile = kb.k.tile();
        let index = kb.unflatten(tile, &grid);
        let direction = kb.k.add_int(index[0], only.unwrap_or(0) as i64);
        let start = kb.k.mul_int(index[1], rows as i64);
        let n = kb.dim(&self.n);
        // The last rows may be those of the tile before: the same results are stored twice.
        let limit = kb.k.add_int(n, -(rows as i64));
        let first = kb.min(start, limit);
        let sums = rows * s.gates * s.padded();
        kb.k.set_threads(self.team.unwrap_or(1));
        let gru = two_parts(self.op).is_some();
        let e = Emitter {
            layer: self,
            step,
            direction,
            first,
            xw: Access::read(&mut kb, &o.xw),
            r: kb.read(&o.r),
            b: Access::read(&mut kb, &o.b),
            h0: Access::read(&mut kb, &o.h0),
            c0: o.c0.as_ref().map(|p| Access::read(&mut kb, p)),
            p: o.p.as_ref().map(|p| Access::read(&mut kb, p)),
            lengths: o.lengths.as_ref().map(|p| Access::read(&mut kb, p)),
            outputs: outputs.iter().map(|p| p.as_ref().map(|p| Access::write(&mut kb, p))).collect(),
            h: self.state(&mut kb, "h", rows * s.hidden),
            c: o.c0.is_some().then(|| self.state(&mut kb, "c", rows * s.hidden)),
            reset: gru.then(|| self.state(&mut kb, "reset", rows * s.hidden)),
            sums: self.state(&mut kb, "sums", sums),
        };
        e.emit(&mut kb);
        let tiles = Dim::product(&grid);
        let weights = Dim::from(s.gates * s.hidden * s.hidden);
        let steps = &(&self.t * &self.n) * &Dim::from(directions);
        let flops = &(&steps * &weights) * &Dim::from(2i64);
        let traffic = &(&steps * &Dim::from(s.gates * s.hidden)) * &Dim::from(8i64);
        let rate = i64::from(l.target.vector_bytes.max(16)) / 2;
        let tile_ns = flops.floor_div(&Dim::from(rate)).floor_div(&tiles.at_least(&Dim::ONE));
        let loc = l.loc(group);
        l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &loc);
    }
}

/// The kernel of the steps.
struct Emitter<'a> {
    layer: &'a Layer<'a>,
    step: &'a Step,
    direction: Val,
    /// First batch row of the tile.
    first: Val,
    xw: Access,
    r: Buf,
    b: Access,
    h0: Access,
    c0: Option<Access>,
    p: Option<Access>,
    lengths: Option<Access>,
    /// y, yh and for LSTM yc, where they are used.
    outputs: Vec<Option<Access>>,
    h: Buf,
    c: Option<Buf>,
    /// A GRU's state after the reset.
    reset: Option<Buf>,
    /// Sums over the state, `[row][gate][padded hidden]`.
    sums: Buf,
}

/// A batch row at a step.
struct Row {
    /// Within the tile.
    local: Val,
    /// In the batch.
    row: Val,
    /// False once the row has ended; none if it cannot end before the others.
    live: Option<Val>,
    /// Element of the sequence.
    at: Val,
}

impl Emitter<'_> {
    /// Waits for the other threads of the tile, if there are any.
    fn sync(&self, kb: &mut Kb) {
        if self.layer.team.is_some() {
            kb.k.barrier();
        }
    }

    fn emit(&self, kb: &mut Kb) {
        self.each_row(kb, |kb, local, row| {
            self.copy_state(kb, (&self.h0, self.h), local, row);
            if let (Some(c0), Some(c)) = (&self.c0, self.c) {
                self.copy_state(kb, (c0, c), local, row);
            }
        });
        self.sync(kb);
        let zero = kb.k.int(0);
        let longest = self.longest(kb);
        let steps = kb.k.begin_for((zero, longest, 1), &[], LoopHint::Plain);
        self.advance(kb, steps.var);
        kb.k.end_for(steps, &[]);
        if self.lengths.is_some() {
            self.pad(kb, longest);
        }
        self.each_row(kb, |kb, local, row| {
            self.store_state(kb, &self.outputs[1], self.h, local, row);
            if let Some(c) = self.c {
                self.store_state(kb, &self.outputs[2], c, local, row);
            }
        });
    }

    fn hidden(&self) -> i64 { self.layer.shape.hidden as i64 }

    /// A loop over the rows of the tile.
    fn each_row(&self, kb: &mut Kb, body: impl FnOnce(&mut Kb, Val, Val)) {
        let zero = kb.k.int(0);
        if self.layer.shape.rows == 1 {
            return body(kb, zero, self.first);
        }
        let hi = kb.k.int(self.layer.shape.rows as i64);
        let open = kb.k.begin_for((zero, hi, 1), &[], LoopHint::Plain);
        let row = kb.k.add(self.first, open.var);
        body(kb, open.var, row);
        kb.k.end_for(open, &[]);
    }

    /// A loop over the hidden units, in vectors.
    fn each_unit(&self, kb: &mut Kb, body: impl FnMut(&mut Kb, Val, u32, Option<Val>)) {
        let lanes = self.layer.shape.lanes;
        let (zero, hi) = (kb.k.int(0), kb.k.int(self.hidden()));
        if let Some(threads) = self.layer.team {
            return self.each_own_unit(kb, hi, threads, body);
        }
        let exact = self.hidden() % i64::from(lanes) == 0;
        map::vector_loop(kb, (zero, hi, exact), lanes, self.layer.masked, body);
    }

    /// A loop over the hidden units of this thread.
    fn each_own_unit(&self, kb: &mut Kb, hi: Val, threads: u32, mut body: impl FnMut(&mut Kb, Val, u32, Option<Val>)) {
        let me = kb.k.thread();
        let open = kb.k.begin_for((me, hi, i64::from(threads)), &[], LoopHint::Plain);
        body(kb, open.var, 1, None);
        kb.k.end_for(open, &[]);
    }

    /// Loads hidden units from `j` on, in the type the layer computes in. The last axis of `from` is theirs.
    fn load(&self, kb: &mut Kb, from: &Access, index: &[Val], (j, lanes, count): (Val, u32, Option<Val>)) -> Val {
        let at = kb.address(&[index, &[j]].concat(), &from.strides);
        let stride = kb.dim(from.strides.last().expect("an axis"));
        let x = kb.k.load_strided(from.buf, at, stride, lanes, count);
        kb.k.convert(x, self.layer.acc)
    }

    /// Stores hidden units, rounded to the element type of the results.
    fn store(&self, kb: &mut Kb, to: &Access, index: &[Val], j: Val, x: Val, count: Option<Val>) {
        let x = kb.k.convert(x, self.layer.dtype);
        let x = kb.k.convert(x, to.dtype);
        let at = kb.address(&[index, &[j]].concat(), &to.strides);
        kb.store(to.buf, at, to.strides.last().expect("an axis"), x, count);
    }

    /// Index of unit `j` of a row's state.
    fn state(&self, kb: &mut Kb, local: Val, j: Val) -> Val {
        let base = kb.k.mul_int(local, self.hidden());
        kb.k.add(base, j)
    }

    fn copy_state(&self, kb: &mut Kb, (from, to): (&Access, Buf), local: Val, row: Val) {
        self.each_unit(kb, |kb, j, lanes, count| {
            let x = self.load(kb, from, &[self.direction, row], (j, lanes, count));
            let at = self.state(kb, local, j);
            kb.k.store(to, at, 0, x, count);
        });
    }

    fn store_state(&self, kb: &mut Kb, to: &Option<Access>, from: Buf, local: Val, row: Val) {
        let Some(to) = to else { return };
        self.each_unit(kb, |kb, j, lanes, count| {
            let at = self.state(kb, local, j);
            let x = kb.k.load(from, at, 0, lanes, count);
            self.store(kb, to, &[self.direction, row], j, x, count);
        });
    }

    /// The number of steps of a row as it is given.
    fn given_length(&self, kb: &mut Kb, row: Val) -> Option<Val> {
        let lengths = self.lengths.as_ref()?;
        let at = kb.address(&[row], &lengths.strides);
        let length = kb.k.load(lengths.buf, at, 0, 1, None);
        Some(kb.k.convert(length, DType::I64))
    }

    /// The number of steps of a row.
    fn length(&self, kb: &mut Kb, row: Val) -> Val {
        let steps = kb.dim(&self.layer.t);
        let Some(length) = self.given_length(kb, row) else { return steps };
        if self.layer.team.is_none() {
            return length;
        }
        // A failed check does not stop a team: what it goes on with must do no harm.
        let zero = kb.k.int(0);
        let length = kb.max(length, zero);
        kb.min(length, steps)
    }

    /// The number of steps of the tile's longest row. Lengths out of range fail the launch.
    fn longest(&self, kb: &mut Kb) -> Val {
        let steps = kb.dim(&self.layer.t);
        if self.lengths.is_none() {
            return steps;
        }
        let zero = kb.k.int(0);
        let past = kb.k.add_int(steps, 1);
        let mut longest = zero;
        for r in 0..self.layer.shape.rows {
            let row = kb.k.add_int(self.first, r as i64);
            if let Some(given) = self.given_length(kb, row) {
                let ok = kb.within(given, zero, past);
                kb.k.check(ok, CHECK_INDEX);
            }
            let length = self.length(kb, row);
            longest = kb.max(longest, length);
        }
        longest
    }

    /// The row at step `s`.
    fn row(&self, kb: &mut Kb, s: Val, local: Val, row: Val) -> Row {
        let length = self.length(kb, row);
        let last = kb.k.add_int(length, -1);
        let back = kb.k.sub(last, s);
        let at = match self.layer.op.direction {
            Direction::Forward => s,
            Direction::Reverse => back,
            Direction::Both => {
                let zero = kb.k.int(0);
                let forward = kb.k.cmp(Pred::Eq, self.direction, zero);
                kb.k.select(forward, s, back)
            }
        };
        // The only row of a tile ends with the loop over the steps.
        if self.lengths.is_none() || self.layer.shape.rows == 1 {
            return Row { local, row, live: None, at };
        }
        let live = kb.k.cmp(Pred::Lt, s, length);
        let at = kb.k.select(live, at, s);
        Row { local, row, live: Some(live), at }
    }

    /// One step of every row of the tile.
    fn advance(&self, kb: &mut Kb, s: Val) {
        let all: Vec<usize> = (0..self.layer.shape.gates).collect();
        match (two_parts(self.layer.op), self.reset) {
            (Some((before, after)), Some(reset)) => {
                self.accumulate(kb, self.h, &before);
                self.each_row(kb, |kb, local, row| self.reset_state(kb, reset, s, local, row));
                self.sync(kb);
                self.accumulate(kb, reset, &after);
            }
            _ => self.accumulate(kb, self.h, &all),
        }
        // The state may change when every thread has read it.
        self.sync(kb);
        self.each_row(kb, |kb, local, row| {
            let row = self.row(kb, s, local, row);
            self.each_unit(kb, |kb, j, lanes, count| self.unit(kb, &row, (j, lanes, count)));
        });
        self.sync(kb);
    }

    /// Sums of some gates over a state, for every row and hidden unit.
    fn accumulate(&self, kb: &mut Kb, state: Buf, gates: &[usize]) {
        let s = self.layer.shape;
        if self.layer.walk_units() {
            return self.each_unit(kb, |kb, j, _, _| self.accumulate_unit(kb, state, gates, j));
        }
        let (width, lanes) = (s.width() as i64, i64::from(s.lanes));
        let per_k = s.gates as i64 * width;
        let (zero, panels, hidden) = (kb.k.int(0), kb.k.int(s.panels as i64), kb.k.int(self.hidden()));
        let panel = kb.k.begin_for((zero, panels, 1), &[], LoopHint::Plain);
        let base = kb.k.mul_int(self.direction, s.panels as i64);
        let base = kb.k.add(base, panel.var);
        let base = kb.k.mul_int(base, self.hidden() * per_k);
        let nothing = kb.k.splat_const(Const::number(self.layer.acc, 0.0), s.lanes);
        let start = vec![nothing; s.rows * gates.len() * s.vectors as usize];
        let sum = kb.k.begin_for((zero, hidden, 1), &start, LoopHint::Unroll(2));
        let (k, accs) = (sum.var, sum.phis.clone());
        let shift = kb.k.mul_int(k, per_k);
        let at = kb.k.add(base, shift);
        let mut weights = Vec::new();
        for &gate in gates {
            for v in 0..i64::from(s.vectors) {
                weights.push(kb.k.load(self.r, at, gate as i64 * width + v * lanes, s.lanes, None));
            }
        }
        let mut next = Vec::with_capacity(accs.len());
        for row in 0..s.rows {
            let x = kb.k.load(state, k, row as i64 * self.hidden(), 1, None);
            for (i, &w) in weights.iter().enumerate() {
                next.push(kb.k.fma(x, w, accs[row * weights.len() + i]));
            }
        }
        let done = kb.k.end_for(sum, &next);
        let to = kb.k.mul_int(panel.var, width);
        let mut done = done.into_iter();
        for row in 0..s.rows {
            for &gate in gates {
                let line = ((row * s.gates + gate) * s.padded()) as i64;
                for v in 0..i64::from(s.vectors) {
                    kb.k.store(self.sums, to, line + v * lanes, done.next().expect("a sum for each"), None);
                }
            }
        }
        kb.k.end_for(panel, &[]);
    }

    /// [`Emitter::accumulate`] for one hidden unit of the only panel.
    fn accumulate_unit(&self, kb: &mut Kb, state: Buf, gates: &[usize], unit: Val) {
        let s = self.layer.shape;
        let (width, per_k) = (self.hidden(), s.gates as i64 * self.hidden());
        let base = kb.k.mul_int(self.direction, self.hidden() * per_k);
        let base = kb.k.add(base, unit);
        let (zero, hidden) = (kb.k.int(0), kb.k.int(self.hidden()));
        let start = vec![kb.k.constant(Const::number(self.layer.acc, 0.0)); s.rows * gates.len()];
        let sum = kb.k.begin_for((zero, hidden, 1), &start, LoopHint::Unroll(4));
        let (k, accs) = (sum.var, sum.phis.clone());
        let shift = kb.k.mul_int(k, per_k);
        let at = kb.k.add(base, shift);
        let weights: Vec<Val> = gates.iter().map(|&g| kb.k.load(self.r, at, g as i64 * width, 1, None)).collect();
        let mut next = Vec::with_capacity(accs.len());
        for row in 0..s.rows {
            let x = kb.k.load(state, k, row as i64 * self.hidden(), 1, None);
            next.extend(weights.iter().enumerate().map(|(i, &w)| kb.k.fma(x, w, accs[row * gates.len() + i])));
        }
        let done = kb.k.end_for(sum, &next);
        for (i, x) in done.into_iter().enumerate() {
            let line = (i / gates.len() * s.gates + gates[i % gates.len()]) * s.padded();
            kb.k.store(self.sums, unit, line as i64, x, None);
        }
    }

    /// The two sums of a gate: over the input and over the state.
    fn sums(&self, kb: &mut Kb, row: &Row, gate: usize, (j, lanes, count): (Val, u32, Option<Val>)) -> [Val; 2] {
        let s = self.layer.shape;
        let column = kb.k.add_int(j, gate as i64 * self.hidden());
        let xw = self.load(kb, &self.xw, &[self.direction, row.at, row.row], (column, lanes, count));
        let line = kb.k.mul_int(row.local, (s.gates * s.padded()) as i64);
        let at = kb.k.add(line, j);
        [xw, kb.k.load(self.sums, at, (gate * s.padded()) as i64, lanes, count)]
    }

    /// The two biases of a gate.
    fn biases(&self, kb: &mut Kb, gate: usize, (j, lanes, count): (Val, u32, Option<Val>)) -> [Val; 2] {
        [gate, self.layer.shape.gates + gate].map(|g| {
            let at = kb.k.add_int(j, g as i64 * self.hidden());
            self.load(kb, &self.b, &[self.direction], (at, lanes, count))
        })
    }

    fn pre_activation(&self, kb: &mut Kb, row: &Row, gate: usize, at: (Val, u32, Option<Val>)) -> Val {
        let (sums, biases) = (self.sums(kb, row, gate, at), self.biases(kb, gate, at));
        cell::pre_activation(&mut kb.k, sums, biases)
    }

    /// A GRU's state after the reset of one row.
    fn reset_state(&self, kb: &mut Kb, to: Buf, s: Val, local: Val, row: Val) {
        let row = self.row(kb, s, local, row);
        self.each_unit(kb, |kb, j, lanes, count| {
            let pre = self.pre_activation(kb, &row, 1, (j, lanes, count));
            let r = cell::gru_reset(&mut kb.k, self.step, pre);
            let at = self.state(kb, row.local, j);
            let h = kb.k.load(self.h, at, 0, lanes, count);
            let x = kb.k.bin(BinOp::Mul, r, h);
            kb.k.store(to, at, 0, x, count);
        });
    }

    /// The cell of some hidden units of a row: the next state and the result of the step.
    fn unit(&self, kb: &mut Kb, row: &Row, at: (Val, u32, Option<Val>)) {
        let (j, lanes, count) = at;
        let place = self.state(kb, row.local, j);
        let old_h = kb.k.load(self.h, place, 0, lanes, count);
        let mut h = match self.layer.op.cell {
            Cell::Plain => {
                let pre = self.pre_activation(kb, row, 0, at);
                cell::plain_cell(&mut kb.k, self.step, pre)
            }
            Cell::Gru => self.gru(kb, row, at, old_h),
            Cell::Lstm => self.lstm(kb, row, at, place),
        };
        let mut shown = h;
        if let Some(live) = row.live {
            let zero = kb.k.splat_const(Const::number(self.layer.acc, 0.0), lanes);
            shown = kb.k.select(live, h, zero);
            h = kb.k.select(live, h, old_h);
        }
        kb.k.store(self.h, place, 0, h, count);
        if let Some(y) = &self.outputs[0] {
            self.store(kb, y, &[row.at, self.direction, row.row], j, shown, count);
        }
    }

    fn gru(&self, kb: &mut Kb, row: &Row, at: (Val, u32, Option<Val>), h: Val) -> Val {
        let pre_z = self.pre_activation(kb, row, 0, at);
        let pre_h = if self.layer.op.linear_before_reset {
            let pre_r = self.pre_activation(kb, row, 1, at);
            let r = cell::gru_reset(&mut kb.k, self.step, pre_r);
            let (sums, biases) = (self.sums(kb, row, 2, at), self.biases(kb, 2, at));
            cell::gru_linear(&mut kb.k, r, sums, biases)
        } else {
            self.pre_activation(kb, row, 2, at)
        };
        cell::gru_cell(&mut kb.k, self.step, pre_z, pre_h, h)
    }

    /// Stores the next `c` and gives the next `h`.
    fn lstm(&self, kb: &mut Kb, row: &Row, at: (Val, u32, Option<Val>), place: Val) -> Val {
        let (j, lanes, count) = at;
        let (Some(peepholes), Some(state)) = (&self.p, self.c) else { unreachable!("an LSTM has peepholes and c") };
        let pre = [0, 1, 2, 3].map(|gate| self.pre_activation(kb, row, gate, at));
        let p = [0, 1, 2].map(|gate| {
            let at = kb.k.add_int(j, gate * self.hidden());
            self.load(kb, peepholes, &[self.direction], (at, lanes, count))
        });
        let old = kb.k.load(state, place, 0, lanes, count);
        let [h, c] = cell::lstm_cell(&mut kb.k, self.step, self.layer.op.input_forget, pre, p, old);
        let c = row.live.map_or(c, |live| kb.k.select(live, c, old));
        kb.k.store(state, place, 0, c, count);
        h
    }

    /// Zeros after the last step of the tile's longest row.
    fn pad(&self, kb: &mut Kb, longest: Val) {
        let Some(y) = &self.outputs[0] else { return };
        let steps = kb.dim(&self.layer.t);
        let open = kb.k.begin_for((longest, steps, 1), &[], LoopHint::Plain);
        let s = open.var;
        self.each_row(kb, |kb, _, row| {
            self.each_unit(kb, |kb, j, lanes, count| {
                let zero = kb.k.splat_const(Const::number(self.layer.acc, 0.0), lanes);
                self.store(kb, y, &[s, self.direction, row], j, zero, count);
            });
        });
        kb.k.end_for(open, &[]);
    }
}
