//! Running sums and products along an axis: tiles over the other axes, lanes along the fastest of them.
//!
//! Limit: one combination after the other along the axis; memory otherwise.

use xlac_ir::dim::Dim;
use xlac_ir::kernel::{LoopHint, Val};
use xlac_ir::ops::Cumulate;

use crate::CompileError;
use crate::group::Group;
use crate::kb::Kb;
use crate::kernels::map;
use crate::lower::{Cost, Lowering};
use crate::memory::hint;
use crate::view::coalesce;

/// Lowers a running reduction.
pub fn lower(l: &mut Lowering, group: &Group, op: &Cumulate) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (xv, out) = (node.inputs[0], node.outputs[0]);
    let ty = l.g.ty(xv).clone();
    let from = l.access(xv);
    let to = l.place_exit(out);
    if ty.shape.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let n = &ty.shape[op.axis];
    let others: Vec<usize> = (0..ty.rank()).filter(|&a| a != op.axis).collect();
    let pick = |strides: &[Dim]| others.iter().map(|&a| strides[a].clone()).collect::<Vec<_>>();
    let mut accesses = [pick(&to.view.strides), pick(&from.view.strides)];
    let sizes: Vec<Dim> = others.iter().map(|&a| ty.shape[a].clone()).collect();
    let dims = coalesce(&sizes, &mut accesses);
    let [to_others, from_others] = accesses;
    let compute = ty.dtype.compute();
    let unit = to_others.last().is_some_and(|s| s.is(1));
    let lanes = if unit { map::fit_lanes(l.target.lanes(compute).min(16), dims.last(), l.target.masked_memory) } else { 1 };

    let mut kb = Kb::new(&l.name(group));
    let (src, dst) = (kb.read(&from), kb.write(&to));
    let (from_axis, to_axis) = (from.view.strides[op.axis].clone(), to.view.strides[op.axis].clone());
    let inner = |strides: &[Dim]| strides.last().cloned().unwrap_or(Dim::ONE);
    let (from_inner, to_inner) = (inner(&from_others), inner(&to_others));
    let walk = l.walk();
    let tiles = map::nest_sized(&mut kb, &dims, lanes, walk, hint(n), |kb, index, lanes, count| {
        let read = kb.address(&index, &from_others);
        let write = kb.address(&index, &to_others);
        let start = kb.k.splat_const(op.f.neutral(compute), lanes);
        let (zero, hi, lane_step) = (kb.k.int(0), kb.dim(n), kb.dim(&from_inner));
        carry(kb, (zero, hi), start, |kb, step, sum| {
            let at = if op.reverse { mirrored(kb, hi, step) } else { step };
            let read_at = offset(kb, read, at, &from_axis);
            let x = kb.k.load_strided(src, read_at, lane_step, lanes, count);
            let x = kb.k.convert(x, compute);
            let next = kb.k.bin(op.f.op(), sum, x);
            let shown = kb.k.convert(if op.exclusive { sum } else { next }, ty.dtype);
            let shown = kb.k.convert(shown, to.dtype);
            let write_at = offset(kb, write, at, &to_axis);
            kb.store(dst, write_at, &to_inner, shown, count);
            next
        });
    });
    let elements = Dim::product(&ty.shape);
    let traffic = &elements * &Dim::from(2 * to.dtype.size());
    let tile_ns = elements.floor_div(&Dim::from(i64::from(lanes))).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops: elements, traffic }, &loc);
    Ok(())
}

/// A loop that carries one value.
fn carry(kb: &mut Kb, (lo, hi): (Val, Val), start: Val, body: impl FnOnce(&mut Kb, Val, Val) -> Val) -> Val {
    let open = kb.k.begin_for((lo, hi, 1), &[start], LoopHint::Plain);
    let (step, phi) = (open.var, open.phis[0]);
    let next = body(kb, step, phi);
    kb.k.end_for(open, &[next])[0]
}

/// `n - 1 - i`.
fn mirrored(kb: &mut Kb, n: Val, i: Val) -> Val {
    let last = kb.k.add_int(n, -1);
    kb.k.sub(last, i)
}

/// `base + i * stride`.
fn offset(kb: &mut Kb, base: Val, i: Val, stride: &Dim) -> Val {
    let shift = kb.address(&[i], std::slice::from_ref(stride));
    kb.k.add(base, shift)
}
