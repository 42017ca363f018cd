//! Positions of the elements that are not zero, on a GPU.
//!
//! The elements are cut into one segment for each thread of a block. A first kernel counts them and adds up, so that
//! each segment knows where its positions begin and the host learns how many there are; a second one writes them. Limit:
//! memory, twice, and the strided reads of segments.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::kernel::{LoopHint, Pred, Val};
use xlac_ir::ops::NonZero;
use xlac_ir::types::Type;

use crate::CompileError;
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::lower::{Cost, Lowering};
use crate::plan::Step;

/// Segments, and threads of the block that counts them.
const SEGMENTS: u32 = 1024;

/// Lowers `non_zero`.
pub fn lower(l: &mut Lowering, group: &Group, op: &NonZero) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let from = l.access(node.inputs[0]);
    let shape = l.g.ty(node.inputs[0]).shape.clone();
    // Where the positions of each segment end; the last one is the number of all.
    let ends = l.temp(&Type::new(DType::I64, [Dim::from(i64::from(SEGMENTS))]));
    count(l, group, &from, &shape, &ends);
    for symbol in &op.count {
        l.step(Step::Bind { symbol: symbol.clone(), from: ends.buffer, index: SEGMENTS - 1 });
    }
    let to = l.temp(l.g.ty(node.outputs[0]));
    if !shape.is_empty() {
        write(l, group, &from, &shape, &ends, &to);
    }
    l.set_place(node.outputs[0], to);
    Ok(())
}

/// The elements of a segment, and whether one is not zero.
struct Segment<'a> {
    from: &'a Place,
    shape: &'a [Dim],
    bounds: (Val, Val),
}

impl<'a> Segment<'a> {
    fn new(kb: &mut Kb, number: Val, from: &'a Place, shape: &'a [Dim]) -> Segment<'a> {
        let n = Dim::product(shape);
        let length = kb.dim(&n.ceil_div(&Dim::from(i64::from(SEGMENTS))));
        let n = kb.dim(&n);
        let lo = kb.k.mul(number, length);
        let hi = kb.k.add(lo, length);
        let hi = kb.min(hi, n);
        Segment { from, shape, bounds: (lo, hi) }
    }

    /// A loop that carries a count, which grows with each element that is not zero; `found` gets the count before it and
    /// the element's index.
    fn walk(&self, kb: &mut Kb, start: Val, mut found: impl FnMut(&mut Kb, Val, &[Val])) -> Val {
        let src = kb.read(self.from);
        let open = kb.k.begin_for((self.bounds.0, self.bounds.1, 1), &[start], LoopHint::Plain);
        let (i, count) = (open.var, open.phis[0]);
        let index = if self.shape.is_empty() { Vec::new() } else { kb.unflatten(i, self.shape) };
        let at = kb.address(&index, &self.from.view.strides);
        let x = kb.k.load(src, at, 0, 1, None);
        let some = kb.k.convert(x, DType::Bool);
        let mut branch = kb.k.begin_if(some);
        found(kb, count, &index);
        kb.k.begin_else(&mut branch, &[]);
        kb.k.end_if(branch, &[]);
        let more = kb.k.convert(some, DType::I64);
        let next = kb.k.add(count, more);
        kb.k.end_for(open, &[next])[0]
    }
}

/// Counts the segments and adds their counts up, each thread onto the ones `distance` before it, twice as far each time.
fn count(l: &mut Lowering, group: &Group, from: &Place, shape: &[Dim], ends: &Place) {
    let mut kb = Kb::new("count_non_zero");
    kb.k.set_threads(SEGMENTS);
    let to = kb.write(ends);
    let sums = kb.k.shared("sums", DType::I64, u64::from(SEGMENTS));
    let me = kb.k.thread();
    let segment = Segment::new(&mut kb, me, from, shape);
    let zero = kb.k.int(0);
    let mut sum = segment.walk(&mut kb, zero, |_, _, _| {});
    let mut distance = 1;
    while distance < SEGMENTS {
        kb.k.store(sums, me, 0, sum, None);
        kb.k.barrier();
        let other = kb.k.add_int(me, -i64::from(distance));
        let exists = kb.k.cmp(Pred::Ge, other, zero);
        let one = kb.k.convert(exists, DType::I64);
        let other = kb.max(other, zero);
        let before = kb.k.load(sums, other, 0, 1, None);
        let before = kb.k.mul(before, one);
        kb.k.barrier();
        sum = kb.k.add(sum, before);
        distance *= 2;
    }
    kb.k.store(to, me, 0, sum, None);
    let traffic = &Dim::product(shape) * &Dim::from(from.dtype.size());
    let loc = l.loc(group);
    l.launch(kb, Dim::ONE, Cost { tile_ns: Dim::product(shape), flops: Dim::product(shape), traffic }, &loc);
}

/// Writes the positions of each segment behind those of the segments before it.
fn write(l: &mut Lowering, group: &Group, from: &Place, shape: &[Dim], ends: &Place, to: &Place) {
    let mut kb = Kb::new(&l.name(group));
    let (starts, dst) = (kb.read(ends), kb.write(to));
    let me = kb.k.tile();
    let zero = kb.k.int(0);
    let some = kb.k.cmp(Pred::Gt, me, zero);
    let one = kb.k.convert(some, DType::I64);
    // The first segment begins at 0, the others where the one before ends.
    let start = kb.k.load(starts, me, -1, 1, Some(one));
    let segment = Segment::new(&mut kb, me, from, shape);
    segment.walk(&mut kb, start, |kb, at, index| {
        for (axis, &position) in index.iter().enumerate() {
            let row = kb.dim(&(&to.view.strides[0] * &Dim::from(axis)));
            let there = kb.k.add(row, at);
            kb.k.store(dst, there, 0, position, None);
        }
    });
    let traffic = &Dim::product(shape) * &Dim::from(from.dtype.size());
    let loc = l.loc(group);
    let tiles = Dim::from(i64::from(SEGMENTS));
    l.launch(kb, tiles, Cost { tile_ns: Dim::ONE, flops: Dim::product(shape), traffic }, &loc);
}
