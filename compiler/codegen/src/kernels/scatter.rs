//! Scatters: the data is copied to the result's place, then a second kernel applies the updates to it in order.
//!
//! Updates that may meet are applied by one tile, in row-major order; tiles divide what they cannot meet along: for
//! ScatterElements every axis but the scattered one, for ScatterND the slice a tuple stands for. Limit: memory.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::{Buf, LoopHint, Pred, Val};
use xlac_ir::ops::scatter_elements::ScatterMode;
use xlac_ir::ops::{ScatterElements, ScatterNd};

use crate::CompileError;
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::{CHECK_INDEX, map};
use crate::lower::{Cost, Lowering};
use crate::memory::hint;
use crate::view::coalesce;

/// Updates a tile should apply.
const TILE_UPDATES: i64 = 8192;

/// What both scatters work on.
struct Operands {
    indices: Place,
    updates: Place,
    /// The copy of the data.
    to: Place,
    /// Shapes of data, indices and updates.
    data_shape: Vec<Dim>,
    index_shape: Vec<Dim>,
    update_shape: Vec<Dim>,
    dtype: DType,
}

/// Copies the data and says where everything lies.
fn operands(l: &mut Lowering, group: &Group) -> Result<Operands, CompileError> {
    let node = l.anchor(group);
    let [data, indices, updates] = node.inputs[..] else { unreachable!("a scatter has three operands") };
    let dtype = l.g.ty(data).dtype;
    if !dtype.in_kernels() {
        return Err(l.unsupported(group, &node.op));
    }
    let to = l.place_exit(node.outputs[0]);
    l.copy(data, &to);
    let shape = |v: ValueId| l.g.ty(v).shape.clone();
    let (data_shape, index_shape, update_shape) = (shape(data), shape(indices), shape(updates));
    let (indices, updates) = (l.access(indices), l.access(updates));
    Ok(Operands { indices, updates, to, data_shape, index_shape, update_shape, dtype })
}

/// Lowers ScatterElements.
pub fn elements(l: &mut Lowering, group: &Group, op: &ScatterElements) -> Result<(), CompileError> {
    let o = operands(l, group)?;
    if o.index_shape.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let axis = op.axis;
    let others: Vec<usize> = (0..o.data_shape.len()).filter(|&a| a != axis).collect();
    let pick = |x: &[Dim]| others.iter().map(|&a| x[a].clone()).collect::<Vec<_>>();
    let mut accesses = [&o.to, &o.updates, &o.indices].map(|p| pick(&p.view.strides));
    let mut dims = coalesce(&pick(&o.index_shape), &mut accesses);
    if dims.is_empty() {
        dims.push(Dim::ONE);
        accesses.iter_mut().for_each(|a| a.push(Dim::ZERO));
    }
    let mut kb = Kb::new(&l.name(group));
    let target = Target::new(&mut kb, &o, op.mode);
    for &a in &others {
        check_at_most(&mut kb, &o.index_shape[a], &o.data_shape[a]);
    }
    (0..o.data_shape.len()).for_each(|a| check_equal(&mut kb, &o.index_shape[a], &o.update_shape[a]));
    let chunk = if l.walk().fine { 1 } else { TILE_UPDATES / hint(&o.index_shape[axis]).clamp(1, TILE_UPDATES) };
    let (tiles, outer, (lo, hi)) = chunked(&mut kb, &dims, chunk);
    let n = kb.dim(&o.index_shape[axis]);
    let zero = kb.k.int(0);
    // The loop along the contiguous axis is the inner one.
    let axis_inside = axis + 1 == o.data_shape.len();
    let (first, second) = if axis_inside { ((lo, hi), (zero, n)) } else { ((zero, n), (lo, hi)) };
    let a = kb.k.begin_for((first.0, first.1, 1), &[], LoopHint::Plain);
    let b = kb.k.begin_for((second.0, second.1, 1), &[], LoopHint::Plain);
    let (other, along) = if axis_inside { (a.var, b.var) } else { (b.var, a.var) };
    let place = [&outer[..], &[other, along]].concat();
    let address = |kb: &mut Kb, others: &[Dim], p: &Place| {
        let strides = [others, std::slice::from_ref(&p.view.strides[axis])].concat();
        kb.address(&place, &strides)
    };
    let at = address(&mut kb, &accesses[2], &o.indices);
    let index = kb.k.load(target.indices, at, 0, 1, None);
    let index = checked_index(&mut kb, index, &o.data_shape[axis]);
    let from = address(&mut kb, &accesses[1], &o.updates);
    let to = kb.address(&place[..place.len() - 1], &accesses[0]);
    let shift = kb.address(&[index], std::slice::from_ref(&o.to.view.strides[axis]));
    let to = kb.k.add(to, shift);
    target.apply(&mut kb, to, &Dim::ONE, from, &Dim::ONE, 1, None);
    kb.k.end_for(b, &[]);
    kb.k.end_for(a, &[]);
    finish(l, group, kb, tiles, &o, 4);
    Ok(())
}

/// Lowers ScatterND.
pub fn slices(l: &mut Lowering, group: &Group, op: &ScatterNd) -> Result<(), CompileError> {
    let o = operands(l, group)?;
    if o.update_shape.iter().any(|d| d.is(0)) {
        return Ok(());
    }
    let (last, tuples) = o.index_shape.split_last().expect("the indices have an axis of tuples");
    let width = last.as_const().unwrap_or(0) as usize;
    let mut slice_access = [o.to.view.strides[width..].to_vec(), o.updates.view.strides[tuples.len()..].to_vec()];
    let mut slice = coalesce(&o.data_shape[width..], &mut slice_access);
    if slice.is_empty() {
        slice.push(Dim::ONE);
        slice_access.iter_mut().for_each(|a| a.push(Dim::ONE));
    }
    let mut tuple_access = [&o.indices, &o.updates].map(|p| p.view.strides[..tuples.len()].to_vec());
    let tuple_dims = coalesce(tuples, &mut tuple_access);
    let [to_slice, from_slice] = &slice_access;
    let (to_inner, from_inner) = (to_slice.last().expect("an axis"), from_slice.last().expect("an axis"));

    let mut kb = Kb::new(&l.name(group));
    let target = Target::new(&mut kb, &o, op.mode);
    let expected = tuples.iter().chain(&o.data_shape[width..]);
    expected.zip(&o.update_shape).for_each(|(a, b)| check_equal(&mut kb, a, b));
    let inner = slice.last().expect("an axis");
    let full = (l.target.vector_bytes / o.dtype.compute().size().max(4) as u32).max(1);
    let masked = l.target.masked_memory;
    let lanes = if to_inner.is(1) { map::fit_lanes(full, Some(inner), masked) } else { 1 };
    let chunk = match l.walk().fine {
        true => i64::from(lanes),
        false => (TILE_UPDATES / hint(&Dim::product(tuples)).clamp(1, TILE_UPDATES) + 63) / 64 * 64,
    };
    let (tiles, outer, range) = chunked(&mut kb, &slice, chunk);
    let to_outer = kb.address(&outer, to_slice);
    let from_outer = kb.address(&outer, from_slice);
    let loops = kb.begin_loops(&tuple_dims);
    let tuple: Vec<Val> = loops.iter().map(|o| o.var).collect();
    let at = kb.address(&tuple, &tuple_access[0]);
    let mut to = to_outer;
    for i in 0..width {
        let component = kb.dim(&(&o.indices.view.strides[tuples.len()] * &Dim::from(i)));
        let at = kb.k.add(at, component);
        let index = kb.k.load(target.indices, at, 0, 1, None);
        let index = checked_index(&mut kb, index, &o.data_shape[i]);
        let shift = kb.address(&[index], std::slice::from_ref(&o.to.view.strides[i]));
        to = kb.k.add(to, shift);
    }
    let from = kb.address(&tuple, &tuple_access[1]);
    let from = kb.k.add(from, from_outer);
    let exact = inner.as_const().is_some_and(|n| n % i64::from(lanes) == 0);
    map::vector_loop(&mut kb, (range.0, range.1, exact), lanes, masked, |kb, j, lanes, count| {
        let to_at = kb.address(&[j], std::slice::from_ref(to_inner));
        let to_at = kb.k.add(to_at, to);
        let from_at = kb.address(&[j], std::slice::from_ref(from_inner));
        let from_at = kb.k.add(from_at, from);
        target.apply(kb, to_at, to_inner, from_at, from_inner, lanes, count);
    });
    kb.end_loops(loops);
    finish(l, group, kb, tiles, &o, i64::from(lanes));
    Ok(())
}

fn finish(l: &mut Lowering, group: &Group, kb: Kb, tiles: Dim, o: &Operands, rate: i64) {
    let updates = Dim::product(&o.update_shape);
    let traffic = &updates * &Dim::from(8 + 3 * o.to.dtype.size());
    let tile_ns = (&updates * &Dim::from(8i64)).floor_div(&Dim::from(rate)).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops: updates, traffic }, &loc);
}

/// One tile for each index of the outer axes and each chunk of the innermost: the number of tiles, this tile's outer index
/// and its range of the innermost axis.
fn chunked(kb: &mut Kb, dims: &[Dim], chunk: i64) -> (Dim, Vec<Val>, (Val, Val)) {
    let (inner, outer) = dims.split_last().expect("an axis");
    let grid = [outer, &[inner.ceil_div(&Dim::from(chunk))]].concat();
    let tile = kb.k.tile();
    let mut index = kb.unflatten(tile, &grid);
    let at = index.pop().expect("a chunk");
    let lo = kb.k.mul_int(at, chunk);
    let end = kb.k.add_int(lo, chunk);
    let n = kb.dim(inner);
    let hi = kb.min(end, n);
    (Dim::product(&grid), index, (lo, hi))
}

/// What is written and how.
struct Target {
    indices: Buf,
    updates: Buf,
    to: Buf,
    mode: ScatterMode,
    dtype: DType,
    stored: DType,
}

impl Target {
    fn new(kb: &mut Kb, o: &Operands, mode: ScatterMode) -> Target {
        let (indices, updates) = (kb.read(&o.indices), kb.read(&o.updates));
        let to = if mode == ScatterMode::Set { kb.write(&o.to) } else { kb.update(&o.to) };
        Target { indices, updates, to, mode, dtype: o.dtype, stored: o.to.dtype }
    }

    /// Applies the updates at `from` to the elements at `to`.
    #[allow(clippy::too_many_arguments)]
    fn apply(&self, kb: &mut Kb, to: Val, to_step: &Dim, from: Val, from_step: &Dim, lanes: u32, count: Option<Val>) {
        let stride = kb.dim(from_step);
        let new = kb.k.load_strided(self.updates, from, stride, lanes, count);
        let result = match self.mode.op() {
            None => new,
            Some(op) => {
                let stride = kb.dim(to_step);
                let old = kb.k.load_strided(self.to, to, stride, lanes, count);
                let compute = self.dtype.compute();
                let (old, new) = (kb.k.convert(old, compute), kb.k.convert(new, compute));
                let sum = kb.k.bin(op, old, new);
                // Rounded after every write, even if it is stored wider.
                kb.k.convert(sum, self.dtype)
            }
        };
        let result = kb.k.convert(result, self.stored);
        kb.store(self.to, to, to_step, result, count);
    }
}

/// An index as an element number: negative ones count from the end, those out of range fail the launch.
pub fn checked_index(kb: &mut Kb, index: Val, size: &Dim) -> Val {
    let n = kb.dim(size);
    let zero = kb.k.int(0);
    let wrapped = kb.k.add(index, n);
    let negative = kb.k.cmp(Pred::Lt, index, zero);
    let index = kb.k.select(negative, wrapped, index);
    let ok = kb.within(index, zero, n);
    kb.k.check(ok, CHECK_INDEX);
    index
}

/// Fails the launch if `a > b`: nothing is written beyond the data, whatever the sizes are.
fn check_at_most(kb: &mut Kb, a: &Dim, b: &Dim) {
    if a != b {
        let (a, b) = (kb.dim(a), kb.dim(b));
        let ok = kb.k.cmp(Pred::Le, a, b);
        kb.k.check(ok, CHECK_INDEX);
    }
}

/// Fails the launch if two sizes differ.
fn check_equal(kb: &mut Kb, a: &Dim, b: &Dim) {
    if a != b {
        let (a, b) = (kb.dim(a), kb.dim(b));
        let ok = kb.k.cmp(Pred::Eq, a, b);
        kb.k.check(ok, CHECK_INDEX);
    }
}
