//! The largest or smallest elements along an axis, on a GPU.
//!
//! A tile is an element: it counts those of its line that come before it in the result, and stores itself there if that
//! is among the first `k`. Equal elements keep their order, so every place is taken once. Limit: a comparison of each
//! element with each other of its line; the threads of a warp compare with the same element, which is read once.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::kernel::{BinOp, LoopHint, Pred, Val};
use xlac_ir::ops::TopK;

use crate::CompileError;
use crate::group::Group;
use crate::kb::Kb;
use crate::kernels::map;
use crate::lower::{Cost, Lowering};

/// Lowers `top_k`.
pub fn lower(l: &mut Lowering, group: &Group, op: &TopK) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let ty = l.g.ty(node.inputs[0]).clone();
    if !ty.dtype.in_kernels() {
        return Err(l.unsupported(group, &node.op));
    }
    let from = l.access(node.inputs[0]);
    let outs = [l.place_exit(node.outputs[0]), l.place_exit(node.outputs[1])];
    if ty.shape.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let mut kb = Kb::new(&l.name(group));
    let (src, values, positions) = (kb.read(&from), kb.write(&outs[0]), kb.write(&outs[1]));
    let compute = if ty.dtype == DType::Bool { DType::U8 } else { ty.dtype.compute() };
    let stride = from.view.strides[op.axis].clone();
    let tiles = map::nest(&mut kb, &ty.shape, 1, l.walk(), |kb, index, _, _| {
        let mut line = index.clone();
        let (zero, n) = (kb.k.int(0), kb.dim(&ty.shape[op.axis]));
        line[op.axis] = zero;
        let line = kb.address(&line, &from.view.strides);
        let at = kb.address(&index, &from.view.strides);
        let own = kb.k.load(src, at, 0, 1, None);
        let x = kb.k.convert(own, compute);
        let here = index[op.axis];
        let open = kb.k.begin_for((zero, n, 1), &[zero], LoopHint::Unroll(4));
        let (other, rank) = (open.var, open.phis[0]);
        let shift = kb.address(&[other], std::slice::from_ref(&stride));
        let there = kb.k.add(line, shift);
        let y = kb.k.load(src, there, 0, 1, None);
        let y = kb.k.convert(y, compute);
        let before = precedes(kb, op.largest, (y, other), (x, here));
        let more = kb.k.convert(before, DType::I64);
        let next = kb.k.add(rank, more);
        let rank = kb.k.end_for(open, &[next])[0];
        let k = kb.dim(&op.k[0]);
        let taken = kb.k.cmp(Pred::Lt, rank, k);
        let mut to = index;
        to[op.axis] = rank;
        let mut open = kb.k.begin_if(taken);
        let shown = kb.k.convert(own, outs[0].dtype);
        let at = kb.address(&to, &outs[0].view.strides);
        kb.k.store(values, at, 0, shown, None);
        let at = kb.address(&to, &outs[1].view.strides);
        kb.k.store(positions, at, 0, here, None);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    });
    let elements = Dim::product(&ty.shape);
    let flops = &elements * &ty.shape[op.axis];
    let traffic = &elements * &Dim::from(ty.dtype.size());
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns: ty.shape[op.axis].clone(), flops, traffic }, &loc);
    Ok(())
}

/// True if `a` comes before `b`: values with their positions. NaN is larger than every number.
fn precedes(kb: &mut Kb, largest: bool, a: (Val, Val), b: (Val, Val)) -> Val {
    let mut before = kb.k.cmp(if largest { Pred::Gt } else { Pred::Lt }, a.0, b.0);
    let mut tie = kb.k.cmp(Pred::Eq, a.0, b.0);
    if kb.k.ty(a.0).dtype.is_float() {
        let (a_nan, b_nan) = (kb.k.cmp(Pred::Ne, a.0, a.0), kb.k.cmp(Pred::Ne, b.0, b.0));
        let both = kb.k.bin(BinOp::And, a_nan, b_nan);
        tie = kb.k.bin(BinOp::Or, tie, both);
        let only = kb.k.cmp(Pred::Ne, a_nan, b_nan);
        let one = kb.k.bin(BinOp::And, only, if largest { a_nan } else { b_nan });
        before = kb.k.bin(BinOp::Or, before, one);
    }
    let nearer = kb.k.cmp(Pred::Lt, a.1, b.1);
    let tie = kb.k.bin(BinOp::And, tie, nearer);
    kb.k.bin(BinOp::Or, before, tie)
}
