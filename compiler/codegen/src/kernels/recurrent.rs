//! Recurrent layers: one matrix product over all steps for the inputs, then one kernel for the steps.
//!
//! `x * w` of every step and direction goes through the contraction template. A tile of the second kernel is a direction
//! and a few batch rows; it walks the steps in order. A step has two parts: the sums over the last state, for which the
//! recurrence weights are packed at compile time as `[direction][panel][k][gate][panel width]` and read front to back, and
//! the cell, elementwise over the hidden units. State and sums live in scratch memory in the type the op computes in.
//!
//! Every sum is one chain of multiply-adds in order, as the op says, so `exact` and `fast` share the kernel. Rows, gates
//! and panel width make at least 8 chains. Limit: the recurrence weights come from the second-level cache once a step for
//! every group of rows.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};
use xlac_ir::ops::Rnn;
use xlac_ir::ops::rnn::cell::{self, Step};
use xlac_ir::ops::rnn::{Cell, Direction};

use crate::CompileError;
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::{CHECK_INDEX, contract, map};
use crate::lower::{Cost, Lowering, bytes};
use crate::pack::{Blob, Pack, Strided};
use crate::plan::Storage;
use crate::view::{Layout, View};

/// Lowers a recurrent layer.
pub fn lower(l: &mut Lowering, group: &Group, op: &Rnn) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let lstm = op.cell == Cell::Lstm;
    let dtype = l.g.ty(node.inputs[0]).dtype;
    let outputs: Vec<Option<Place>> =
        node.outputs.iter().map(|&v| group.exits.contains(&v).then(|| l.place_exit(v))).collect();
    let [t, n, _] = &l.g.ty(node.inputs[0]).shape.clone()[..] else { unreachable!("x has three axes") };
    if op.hidden == 0 || n.is(0) {
        return Ok(());
    }
    let acc = dtype.compute();
    let shape = Shape::choose(l, op, n, acc);
    let xw = input_products(l, group, op, acc)?;
    let r = packed(l, node.inputs[2], &shape, acc);
    let mut place = |at: usize| l.access(node.inputs[at]);
    let operands = Operands {
        r,
        b: place(3),
        h0: place(4),
        c0: lstm.then(|| place(5)),
        p: lstm.then(|| place(6)),
        lengths: op.lengths.then(|| place(node.inputs.len() - 1)),
        xw,
    };
    let layer = Layer { op, t: t.clone(), n: n.clone(), dtype, acc, shape, masked: l.target.masked_memory };
    let steps: Vec<Step> = (0..op.directions()).map(|d| Step::new(op, d)).collect();
    // Directions with equal activations are tiles of one kernel.
    if steps.iter().all(|s| *s == steps[0]) {
        layer.launch(l, group, &operands, &outputs, &steps[0], None);
    } else {
        for (d, step) in steps.iter().enumerate() {
            layer.launch(l, group, &operands, &outputs, step, Some(d));
        }
    }
    Ok(())
}

/// Sizes of the recurrence.
#[derive(Clone, Copy, Debug)]
struct Shape {
    directions: usize,
    gates: usize,
    hidden: usize,
    lanes: u32,
    /// Vectors of a panel.
    vectors: u32,
    panels: usize,
    /// Batch rows of a tile.
    rows: usize,
}

impl Shape {
    fn choose(l: &Lowering, op: &Rnn, n: &Dim, acc: DType) -> Shape {
        let full = l.target.lanes(acc) as usize;
        let (directions, gates, hidden) = (op.directions(), op.cell.gates(), op.hidden);
        let lanes = if hidden < full { hidden.next_power_of_two() } else { full };
        // A few tiles for the pool come first, then rows that share the weights in registers.
        let rows = n.as_const().map_or(1, |n| (n as usize * directions).div_ceil(4).clamp(1, 4).min(n as usize));
        let budget = (l.target.vector_registers as usize).saturating_sub(4).max(1);
        let at_once = two_parts(op).map_or(gates, |(first, _)| first.len());
        let count = hidden.div_ceil(lanes);
        let most = (budget / (rows * at_once)).clamp(1, 8).min(count);
        let waste = |v: usize| count.div_ceil(v) * v;
        // Among the widths that waste least, those with 8 chains first.
        let enough = |v: usize| (v * rows * at_once).min(8);
        let vectors = (1..=most).max_by_key(|&v| (enough(v), std::cmp::Reverse(waste(v)), v)).unwrap_or(1);
        let panels = count.div_ceil(vectors);
        Shape { directions, gates, hidden, lanes: lanes as u32, vectors: vectors as u32, panels, rows }
    }

    /// Hidden units of a panel.
    fn width(&self) -> usize { self.lanes as usize * self.vectors as usize }

    /// Hidden units with the padding of the last panel.
    fn padded(&self) -> usize { self.panels * self.width() }
}

/// The gates before and after the reset of a GRU's state, where that comes before the matrix product.
fn two_parts(op: &Rnn) -> Option<([usize; 2], [usize; 1])> {
    (op.cell == Cell::Gru && !op.linear_before_reset).then_some(([0, 1], [2]))
}

/// `x * w` of all steps: `[D, T, N, G*H]`, one product for each direction.
fn input_products(l: &mut Lowering, group: &Group, op: &Rnn, acc: DType) -> Result<Place, CompileError> {
    let node = l.anchor(group);
    let (x, w) = (l.access(node.inputs[0]), l.access(node.inputs[1]));
    let x_shape = l.g.ty(node.inputs[0]).shape.clone();
    let cols = Dim::from(op.cell.gates() * op.hidden);
    let shape = [Dim::from(op.directions()), x_shape[0].clone(), x_shape[1].clone(), cols.clone()];
    let buffer = l.buffer(Storage::Temp, bytes(&shape, acc));
    let whole = Place { buffer, view: View::dense(&shape, Layout::RowMajor), dtype: acc };
    for d in 0..op.directions() {
        let part = |place: &Place| View {
            offset: &place.view.offset + &(&place.view.strides[0] * &Dim::from(d)),
            strides: place.view.strides[1..].to_vec(),
        };
        let to = Place { view: part(&whole), ..whole.clone() };
        let weights = part(&w);
        // Axes of the second operand: k, then the columns.
        let strides = vec![weights.strides[1].clone(), weights.strides[0].clone()];
        let weights = Place { view: View { strides, ..weights }, ..w.clone() };
        contract::product(l, group, (&x_shape[..2], &x_shape[2], &cols), x.clone(), weights, to)?;
    }
    Ok(whole)
}

/// The recurrence weights as `[direction][panel][k][gate][width]`, zeros beyond the hidden units.
fn packed(l: &mut Lowering, r: ValueId, shape: &Shape, acc: DType) -> Place {
    let place = l.access(r);
    let dims = [shape.directions, shape.panels, shape.hidden, shape.gates, shape.width()];
    let (s, h) = (&place.view.strides, Dim::from(shape.hidden));
    let strides = [s[0].clone(), &s[1] * &Dim::from(shape.width()), s[2].clone(), &s[1] * &h, s[1].clone()];
    let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok());
    let constant = match l.plan.buffers[place.buffer.0 as usize].storage {
        Storage::Blob(index) => strides.iter().map(size).collect::<Option<Vec<_>>>().zip(size(&place.view.offset)).map(
            |(strides, offset)| Blob {
                source: l.plan.blobs[index as usize].source.clone(),
                pack: Pack::Strided(Strided { shape: dims.to_vec(), strides, offset, limit: Some((1, 4, shape.hidden)) }),
                dtype: acc,
            },
        ),
        _ => None,
    };
    let view = View { offset: Dim::ZERO, strides: Vec::new() };
    if let Some(blob) = constant {
        return Place { buffer: l.blob(blob), view, dtype: acc };
    }
    let dims = dims.map(Dim::from);
    let buffer = l.buffer(Storage::Temp, bytes(&dims, acc));
    let to = Place { buffer, view, dtype: acc };
    pack_kernel(l, &place, &strides, &to, &dims, shape);
    to
}

/// Packs computed recurrence weights.
fn pack_kernel(l: &mut Lowering, from: &Place, strides: &[Dim], to: &Place, dims: &[Dim], shape: &Shape) {
    let mut kb = Kb::new("rnn_pack");
    let (src, dst) = (kb.read(from), kb.write(to));
    let dense = View::dense(dims, Layout::RowMajor).strides;
    let tiles = map::nest(&mut kb, dims, 1, false, |kb, index, _, _| {
        let first = kb.k.mul_int(index[1], shape.width() as i64);
        let unit = kb.k.add(first, index[4]);
        let hidden = kb.k.int(shape.hidden as i64);
        // None to read beyond the hidden units.
        let left = kb.k.sub(hidden, unit);
        let at = kb.address(&index, strides);
        let x = kb.k.load(src, at, 0, 1, Some(left));
        let x = kb.k.convert(x, to.dtype);
        let there = kb.address(&index, &dense);
        kb.k.store(dst, there, 0, x, None);
    });
    let traffic = &Dim::product(dims) * &Dim::from(8i64);
    let tile_ns = traffic.floor_div(&Dim::from(4i64)).floor_div(&tiles.at_least(&Dim::ONE));
    l.launch(kb, tiles, Cost { tile_ns, flops: Dim::ZERO, traffic }, &Default::default());
}

/// Where the operands of the recurrence lie.
struct Operands {
    /// `[D, T, N, G*H]`.
    xw: Place,
    /// Packed.
    r: Place,
    b: Place,
    h0: Place,
    c0: Option<Place>,
    p: Option<Place>,
    lengths: Option<Place>,
}

/// A layer to be built.
struct Layer<'a> {
    op: &'a Rnn,
    t: Dim,
    n: Dim,
    /// Element type of the operands and results.
    dtype: DType,
    /// Type it is computed in.
    acc: DType,
    shape: Shape,
    masked: bool,
}

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
    /// Emits the kernel of all directions, or of one.
    fn launch(&self, l: &mut Lowering, group: &Group, o: &Operands, outputs: &[Option<Place>], step: &Step, only: Option<usize>) {
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
        let len = |x: usize| Dim::from(x);
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
            h: kb.scratch("h", self.acc, &len(rows * s.hidden)),
            c: o.c0.is_some().then(|| kb.scratch("c", self.acc, &len(rows * s.hidden))),
            reset: gru.then(|| kb.scratch("reset", self.acc, &len(rows * s.hidden))),
            sums: kb.scratch("sums", self.acc, &len(sums)),
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
    fn emit(&self, kb: &mut Kb) {
        self.each_row(kb, |kb, local, row| {
            self.copy_state(kb, (&self.h0, self.h), local, row);
            if let (Some(c0), Some(c)) = (&self.c0, self.c) {
                self.copy_state(kb, (c0, c), local, row);
            }
        });
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
        let exact = self.hidden() % i64::from(lanes) == 0;
        map::vector_loop(kb, (zero, hi, exact), lanes, self.layer.masked, body);
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

    /// The number of steps of a row.
    fn length(&self, kb: &mut Kb, row: Val) -> Val {
        let steps = kb.dim(&self.layer.t);
        let Some(lengths) = &self.lengths else { return steps };
        let at = kb.address(&[row], &lengths.strides);
        let length = kb.k.load(lengths.buf, at, 0, 1, None);
        kb.k.convert(length, DType::I64)
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
            let length = self.length(kb, row);
            let ok = kb.within(length, zero, past);
            kb.k.check(ok, CHECK_INDEX);
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
                self.accumulate(kb, reset, &after);
            }
            _ => self.accumulate(kb, self.h, &all),
        }
        self.each_row(kb, |kb, local, row| {
            let row = self.row(kb, s, local, row);
            self.each_unit(kb, |kb, j, lanes, count| self.unit(kb, &row, (j, lanes, count)));
        });
    }

    /// Sums of some gates over a state, for every row and hidden unit.
    fn accumulate(&self, kb: &mut Kb, state: Buf, gates: &[usize]) {
        let s = self.layer.shape;
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
