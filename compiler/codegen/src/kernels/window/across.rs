//! Sums over neighbouring channels of a channels-last value, as local response normalization has them.
//!
//! The lanes run along the channels, which the windows move along too: the elements of a window are as many loads, each one
//! element further. What lies before the first channel or after the last counts as zero.

use super::*;
use crate::layout::stored_last;
use xlac_ir::graph::Node;
use xlac_ir::ops::Op;

/// True for a sum over neighbouring channels, shown as places of one channel, of a value that is stored channels-last.
pub fn applies(l: &Lowering, node: &Node, op: &Pool) -> bool {
    let shape = &l.g.ty(node.inputs[0]).shape;
    let plain = op.f == PoolFn::Sum && op.kernel.len() == 2 && op.kernel[1] == 1 && op.strides == [1, 1];
    if l.target.is_gpu() || !plain || !shape[1].is(1) || op.sizes != shape[2..] {
        return false;
    }
    let known = op.before[0].as_const().is_some_and(|b| b >= 0) && op.before[1].is(0);
    let viewed = l.g.producer(node.inputs[0]).filter(|view| matches!(view.op, Op::Reshape(_)));
    known && viewed.is_some_and(|view| l.g.ty(view.inputs[0]).shape.get(1) == Some(&shape[2]) && stored_last(l, view.inputs[0]))
}

/// Lowers such a sum with its epilogue.
pub fn lower(l: &mut Lowering, group: &Group, op: &Pool) -> Result<(), CompileError> {
    let exits: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    if group.space.iter().any(|d| d.is(0)) || exits.is_empty() {
        return Ok(());
    }
    let mut kb = Kb::new(&l.name(group));
    let order = [0, 3, 2];
    let (leaves, outs) = operands(l, &mut kb, group, &exits, &order);
    let node = l.anchor(group);
    let (anchor, dtype) = (node.outputs[0], l.g.ty(node.outputs[0]).dtype);
    let x = l.access(node.inputs[0]);
    let strides = order.map(|a| x.view.strides[a].clone());
    let dims = order.map(|a| group.space[a].clone());
    let unit = outs.iter().all(|o| o.3[2].is(1));
    let lanes = if unit { map::fit_lanes(l.target.lanes(dtype), dims.last(), l.target.masked_memory) } else { 1 };
    let before = op.before[0].as_const().expect("windows whose place is known");
    let shifts = (0..op.kernel[0]).map(|k| (k * op.dilations[0]) as i64 - before).collect();
    let sum = Neighbours { x: kb.read(&x), acc: dtype.compute(), channels: dims[2].clone(), shifts };
    let g = l.g;
    let tiles = map::nest(&mut kb, &dims, lanes, l.walk(), |kb, index, lanes, count| {
        let base = kb.address(&index[..2], &strides[..2]);
        let total = sum.emit(kb, base, index[2], lanes, count);
        let known = HashMap::from([(anchor, kb.k.convert(total, dtype))]);
        Point { g, leaves: &leaves, index, lanes, count, known }.store(kb, &outs);
    });
    launch(l, group, kb, tiles, op.kernel[0]);
    Ok(())
}

/// The sum over a window of channels.
struct Neighbours {
    x: Buf,
    acc: DType,
    channels: Dim,
    /// Distances of a window's elements from its channel.
    shifts: Vec<i64>,
}

impl Neighbours {
    /// The sums for the channels from `c` on of the place whose first channel lies at `base`.
    fn emit(&self, kb: &mut Kb, base: Val, c: Val, lanes: u32, count: Option<Val>) -> Val {
        // Only the first vector may reach beyond the first channel, and by less than all of its lanes.
        if lanes == 1 || self.shifts.iter().any(|&s| -s >= i64::from(lanes)) {
            return self.one_by_one(kb, base, c, lanes);
        }
        let zero = kb.k.int(0);
        let leads = kb.k.cmp(Pred::Eq, c, zero);
        let mut open = kb.k.begin_if(leads);
        let first = self.total(kb, lanes, |kb, shift| self.leading(kb, base, shift, lanes));
        kb.k.begin_else(&mut open, &[first]);
        let at = kb.k.add(base, c);
        let others = self.total(kb, lanes, |kb, shift| self.following(kb, at, c, shift, (lanes, count)));
        kb.k.end_if(open, &[others])[0]
    }

    fn total(&self, kb: &mut Kb, lanes: u32, mut part: impl FnMut(&mut Kb, i64) -> Val) -> Val {
        let zero = kb.k.splat_const(Const::number(self.acc, 0.0), lanes);
        self.shifts.iter().fold(zero, |sum, &shift| {
            let x = part(kb, shift);
            let x = kb.k.convert(x, self.acc);
            kb.k.add(sum, x)
        })
    }

    /// The elements `shift` after each of the first channels.
    fn leading(&self, kb: &mut Kb, base: Val, shift: i64, lanes: u32) -> Val {
        let n = kb.dim(&self.channels);
        let left = kb.k.add_int(n, -shift.max(0));
        let x = kb.k.load(self.x, base, shift.max(0), lanes, Some(left));
        let missing = (-shift).max(0) as u32;
        let none = kb.k.splat_const(Const::number(kb.k.ty(x).dtype, 0.0), lanes);
        let picks: Vec<u32> = (0..lanes).map(|i| if i < missing { i } else { lanes + i - missing }).collect();
        if missing == 0 { x } else { kb.k.permute(none, x, &picks) }
    }

    /// The elements `shift` after each of the channels from `c` on, which lie at `at`.
    fn following(&self, kb: &mut Kb, at: Val, c: Val, shift: i64, (lanes, count): (u32, Option<Val>)) -> Val {
        let n = kb.dim(&self.channels);
        let left = kb.k.sub(n, c);
        let left = kb.k.add_int(left, -shift);
        let partial = shift > 0 || count.is_some();
        kb.k.load(self.x, at, shift, lanes, partial.then_some(left))
    }

    /// The sums for single channels, as many as there are lanes; those past the last channel are 0.
    fn one_by_one(&self, kb: &mut Kb, base: Val, c: Val, lanes: u32) -> Val {
        let (n, zero) = (kb.dim(&self.channels), kb.k.int(0));
        let nothing = kb.k.constant(Const::number(self.acc, 0.0));
        let mut sums = (0..i64::from(lanes)).map(|lane| {
            self.total(kb, 1, |kb, shift| {
                let at = kb.k.add_int(c, lane + shift);
                let inside = kb.within(at, zero, n);
                let mut open = kb.k.begin_if(inside);
                let at = kb.k.add(base, at);
                let x = kb.k.load(self.x, at, 0, 1, None);
                let x = kb.k.convert(x, self.acc);
                kb.k.begin_else(&mut open, &[x]);
                kb.k.end_if(open, &[nothing])[0]
            })
        }).collect::<Vec<_>>().into_iter();
        let first = sums.next().expect("a lane");
        sums.fold(first, |all, x| kb.k.concat(all, x))
    }
}
