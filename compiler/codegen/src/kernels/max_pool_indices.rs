//! Positions of the maxima of windows: one window after the other, element by element, like the op's definition.
//!
//! Limit: a comparison of value and position for every element of every window.

use xlac_ir::dim::Dim;
use xlac_ir::kernel::build::OpenFor;
use xlac_ir::kernel::{BinOp, Buf, Const, LoopHint, Pred, Val};
use xlac_ir::ops::MaxPoolIndices;

use crate::CompileError;
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::map;
use crate::lower::{Cost, Lowering};

/// Lowers the search for the maxima of windows.
pub fn lower(l: &mut Lowering, group: &Group, op: &MaxPoolIndices) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (xv, out) = (node.inputs[0], node.outputs[0]);
    let x = l.access(xv);
    let to = l.place_exit(out);
    let (shape, results) = (l.g.ty(xv).shape.clone(), l.g.ty(out).shape.clone());
    if shape.iter().chain(&results).any(|d| d.is(0)) {
        return Ok(());
    }
    let mut kb = Kb::new(&l.name(group));
    let (src, dst) = (kb.read(&x), kb.write(&to));
    let window: usize = op.kernel.iter().product();
    let search = Search { op, src, x: &x, shape: &shape };
    let tiles = map::nest_sized(&mut kb, &results, 1, l.walk(), window.max(1) as i64, |kb, index, _, count| {
        let position = search.window(kb, &index);
        let at = kb.address(&index, &to.view.strides);
        kb.k.store(dst, at, 0, position, count);
    });
    let flops = &Dim::product(&results) * &Dim::from(window);
    let traffic = &(&Dim::product(&shape) * &Dim::from(x.dtype.size())) + &(&Dim::product(&results) * &Dim::from(8i64));
    let tile_ns = flops.floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &loc);
    Ok(())
}

/// What is searched.
struct Search<'a> {
    op: &'a MaxPoolIndices,
    src: Buf,
    x: &'a Place,
    shape: &'a [Dim],
}

impl Search<'_> {
    /// The position of the first largest element of the window of the result's element `index`.
    fn window(&self, kb: &mut Kb, index: &[Val]) -> Val {
        let zero = kb.k.int(0);
        let nothing = kb.k.constant(Const::number(self.x.dtype.compute(), 0.0));
        let mut carried = vec![nothing, kb.k.int(-1)];
        let mut loops: Vec<OpenFor> = Vec::new();
        for &size in &self.op.kernel {
            let hi = kb.k.int(size as i64);
            let open = kb.k.begin_for((zero, hi, 1), &carried, LoopHint::Plain);
            carried.clone_from(&open.phis);
            loops.push(open);
        }
        let at: Vec<Val> = loops.iter().map(|o| o.var).collect();
        let mut next = self.element(kb, index, &at, carried[0], carried[1]);
        for open in loops.into_iter().rev() {
            next = kb.k.end_for(open, &next);
        }
        next[1]
    }

    /// The best value and its position after one more element of the window.
    fn element(&self, kb: &mut Kb, index: &[Val], at: &[Val], best: Val, position: Val) -> Vec<Val> {
        let zero = kb.k.int(0);
        let mut place = index[..2].to_vec();
        let mut inside = kb.k.constant(Const::bool(true));
        for (axis, &k) in at.iter().enumerate() {
            let start = kb.k.mul_int(index[2 + axis], self.op.strides[axis] as i64);
            let step = kb.k.mul_int(k, self.op.dilations[axis] as i64);
            let before = kb.dim(&self.op.before[axis]);
            let padded = kb.k.add(start, step);
            let p = kb.k.sub(padded, before);
            let size = kb.dim(&self.shape[2 + axis]);
            let ok = kb.within(p, zero, size);
            inside = if axis == 0 { ok } else { kb.k.bin(BinOp::And, inside, ok) };
            place.push(p);
        }
        let one = kb.k.int(1);
        let count = kb.k.select(inside, one, zero);
        let address = kb.address(&place, &self.x.view.strides);
        let x = kb.k.load(self.src, address, 0, 1, Some(count));
        let x = kb.k.convert(x, self.x.dtype.compute());
        let none = kb.k.cmp(Pred::Lt, position, zero);
        let larger = kb.k.cmp(Pred::Gt, x, best);
        let (nan, number) = (kb.k.cmp(Pred::Ne, x, x), kb.k.cmp(Pred::Eq, best, best));
        let first_nan = kb.k.bin(BinOp::And, nan, number);
        let better = kb.k.bin(BinOp::Or, larger, first_nan);
        let better = kb.k.bin(BinOp::Or, none, better);
        let replaces = kb.k.bin(BinOp::And, inside, better);
        let here = self.number(kb, &place);
        vec![kb.k.select(replaces, x, best), kb.k.select(replaces, here, position)]
    }

    /// The number of an element of the operand: over all axes, the spatial ones in the order the op asks for.
    fn number(&self, kb: &mut Kb, place: &[Val]) -> Val {
        let rank = place.len();
        let column: Vec<usize> = [0, 1].into_iter().chain((2..rank).rev()).collect();
        let order = if self.op.column_major { column } else { (0..rank).collect() };
        let mut number = kb.k.int(0);
        for axis in order {
            let size = kb.dim(&self.shape[axis]);
            let scaled = kb.k.mul(number, size);
            number = kb.k.add(scaled, place[axis]);
        }
        number
    }
}
