//! Position of the largest or smallest element along an axis.
//!
//! Lanes run along a kept axis where that is the contiguous one, else along the axis itself: every lane finds the extreme
//! of its positions, and the lanes are compared at the end. What is compared is a pair of value and position, so that the
//! order of comparisons does not matter. Limit: memory.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::kernel::{BinOp, Buf, LoopHint, Pred, Val};
use xlac_ir::ops::ArgReduce;

use crate::CompileError;
use crate::group::Group;
use crate::kb::Kb;
use crate::kernels::map;
use crate::lower::{Cost, Lowering};
use crate::memory::hint;
use crate::view::coalesce;

/// Lowers an arg-max or arg-min.
pub fn lower(l: &mut Lowering, group: &Group, op: &ArgReduce) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (xv, out) = (node.inputs[0], node.outputs[0]);
    let ty = l.g.ty(xv).clone();
    if !ty.dtype.in_kernels() {
        return Err(l.unsupported(group, &node.op));
    }
    let from = l.access(xv);
    let to = l.place_exit(out);
    if ty.shape.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let others: Vec<usize> = (0..ty.rank()).filter(|&a| a != op.axis).collect();
    let pick = |strides: &[Dim]| others.iter().map(|&a| strides[a].clone()).collect::<Vec<_>>();
    let mut accesses = [pick(&to.view.strides), pick(&from.view.strides)];
    let sizes: Vec<Dim> = others.iter().map(|&a| ty.shape[a].clone()).collect();
    let dims = coalesce(&sizes, &mut accesses);
    let [to_others, from_others] = accesses;
    let inner = |strides: &[Dim]| strides.last().cloned().unwrap_or(Dim::ONE);
    let (from_inner, to_inner) = (inner(&from_others), inner(&to_others));

    let mut kb = Kb::new(&l.name(group));
    let (src, dst) = (kb.read(&from), kb.write(&to));
    let line = Line {
        op,
        src,
        n: ty.shape[op.axis].clone(),
        stride: from.view.strides[op.axis].clone(),
        // Truth values are compared as numbers.
        compute: if ty.dtype == DType::Bool { DType::U8 } else { ty.dtype.compute() },
    };
    // Positions are 8 bytes: half as many lanes as of f32 would be two registers of them.
    let full = l.target.lanes(line.compute).min(16);
    let across = to_inner.is(1) && from_inner.is(1) && !dims.is_empty();
    let lanes = if across { map::fit_lanes(full, dims.last(), l.target.masked_memory) } else { 1 };
    let along = !across && line.stride.is(1) && line.n.as_const().is_some_and(|n| n >= 2 * i64::from(full));
    let walk = l.walk();
    let tiles = map::nest_sized(&mut kb, &dims, lanes, walk, hint(&line.n), |kb, index, lanes, count| {
        let base = kb.address(&index, &from_others);
        let position = if along { line.along(kb, base, full) } else { line.across(kb, base, &from_inner, lanes, count) };
        let write = kb.address(&index, &to_others);
        kb.store(dst, write, &to_inner, position, count);
    });
    let elements = Dim::product(&ty.shape);
    let traffic = &elements * &Dim::from(from.dtype.size());
    let width = if along { full } else { lanes };
    let tile_ns = elements.floor_div(&Dim::from(i64::from(width))).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops: elements, traffic }, &loc);
    Ok(())
}

/// What is searched.
struct Line<'a> {
    op: &'a ArgReduce,
    src: Buf,
    n: Dim,
    stride: Dim,
    compute: DType,
}

impl Line<'_> {
    /// Lines next to each other, one in every lane.
    fn across(&self, kb: &mut Kb, base: Val, lane_stride: &Dim, lanes: u32, count: Option<Val>) -> Val {
        let (n, stride, lane_stride) = (kb.dim(&self.n), kb.dim(&self.stride), kb.dim(lane_stride));
        let (zero, one) = (kb.k.int(0), kb.k.int(1));
        // A line without elements gives 0 and reads nothing.
        let first_count = if self.n.as_const().is_some() { count } else { Some(some(kb, n, lanes, count)) };
        let first = kb.k.load_strided(self.src, base, lane_stride, lanes, first_count);
        let first = kb.k.convert(first, self.compute);
        let start = kb.k.widen(zero, lanes);
        let open = kb.k.begin_for((one, n, 1), &[first, start], LoopHint::Plain);
        let (j, best, position) = (open.var, open.phis[0], open.phis[1]);
        let shift = kb.k.mul(j, stride);
        let at = kb.k.add(base, shift);
        let x = kb.k.load_strided(self.src, at, lane_stride, lanes, count);
        let x = kb.k.convert(x, self.compute);
        let here = kb.k.widen(j, lanes);
        let next = self.later(kb, (best, position), (x, here));
        kb.k.end_for(open, &[next.0, next.1])[1]
    }

    /// One contiguous line, `lanes` positions at a time.
    fn along(&self, kb: &mut Kb, base: Val, lanes: u32) -> Val {
        let n = self.n.as_const().unwrap_or(0);
        let width = i64::from(lanes);
        let whole = n / width * width;
        let zero = kb.k.int(0);
        let load = |kb: &mut Kb, at: Val, lanes: u32| {
            let x = kb.k.load(self.src, at, 0, lanes, None);
            kb.k.convert(x, self.compute)
        };
        let first = load(kb, base, lanes);
        let start = kb.k.iota(zero, lanes);
        let (lo, main, hi) = (kb.k.int(width), kb.k.int(whole), kb.k.int(n));
        let open = kb.k.begin_for((lo, main, width), &[first, start], LoopHint::Plain);
        let (j, best) = (open.var, (open.phis[0], open.phis[1]));
        let at = kb.k.add(base, j);
        let x = load(kb, at, lanes);
        let here = kb.k.iota(j, lanes);
        let next = self.later(kb, best, (x, here));
        let found = kb.k.end_for(open, &[next.0, next.1]);
        let lane = |kb: &mut Kb, i: u32| (kb.k.extract(found[0], i), kb.k.extract(found[1], i));
        let mut best = lane(kb, 0);
        for i in 1..lanes {
            let other = lane(kb, i);
            best = self.either(kb, best, other);
        }
        let open = kb.k.begin_for((main, hi, 1), &[best.0, best.1], LoopHint::Plain);
        let (j, best) = (open.var, (open.phis[0], open.phis[1]));
        let at = kb.k.add(base, j);
        let x = load(kb, at, 1);
        let next = self.later(kb, best, (x, j));
        kb.k.end_for(open, &[next.0, next.1])[1]
    }

    /// The better of two, the second one of a higher position.
    fn later(&self, kb: &mut Kb, best: (Val, Val), new: (Val, Val)) -> (Val, Val) {
        let wins = match (self.op.largest, self.op.last) {
            (true, false) => Pred::Gt,
            (true, true) => Pred::Ge,
            (false, false) => Pred::Lt,
            (false, true) => Pred::Le,
        };
        let mut replaces = kb.k.cmp(wins, new.0, best.0);
        if self.compute.is_float() {
            let mut nan = kb.k.cmp(Pred::Ne, new.0, new.0);
            if !self.op.last {
                let number = kb.k.cmp(Pred::Eq, best.0, best.0);
                nan = kb.k.bin(BinOp::And, nan, number);
            }
            replaces = kb.k.bin(BinOp::Or, replaces, nan);
        }
        (kb.k.select(replaces, new.0, best.0), kb.k.select(replaces, new.1, best.1))
    }

    /// The better of two of any positions.
    fn either(&self, kb: &mut Kb, a: (Val, Val), b: (Val, Val)) -> (Val, Val) {
        let wins = if self.op.largest { Pred::Gt } else { Pred::Lt };
        let mut better = kb.k.cmp(wins, b.0, a.0);
        let mut tie = kb.k.cmp(Pred::Eq, b.0, a.0);
        if self.compute.is_float() {
            let (a_nan, b_nan) = (kb.k.cmp(Pred::Ne, a.0, a.0), kb.k.cmp(Pred::Ne, b.0, b.0));
            let both = kb.k.bin(BinOp::And, a_nan, b_nan);
            tie = kb.k.bin(BinOp::Or, tie, both);
            let number = kb.k.cmp(Pred::Eq, a.0, a.0);
            let only = kb.k.bin(BinOp::And, b_nan, number);
            better = kb.k.bin(BinOp::Or, better, only);
        }
        let nearer = kb.k.cmp(if self.op.last { Pred::Gt } else { Pred::Lt }, b.1, a.1);
        let tie = kb.k.bin(BinOp::And, tie, nearer);
        let replaces = kb.k.bin(BinOp::Or, better, tie);
        (kb.k.select(replaces, b.0, a.0), kb.k.select(replaces, b.1, a.1))
    }
}

/// The number of lanes to read of a line of `n` elements: none if there are none.
fn some(kb: &mut Kb, n: Val, lanes: u32, count: Option<Val>) -> Val {
    let zero = kb.k.int(0);
    let all = count.unwrap_or_else(|| kb.k.int(i64::from(lanes)));
    let any = kb.k.cmp(Pred::Gt, n, zero);
    kb.k.select(any, all, zero)
}
