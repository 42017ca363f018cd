//! Ops that move, pick and place elements.

use super::pointwise::ordered;
use super::{Generator, Step};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::ValueId;
use crate::ops;
use crate::ops::pad::PadMode;
use crate::ops::scatter_elements::ScatterMode;
use crate::tensor::Tensor;

/// The steps, as often as they shall be taken.
pub(super) const STEPS: &[Step] = &[
    transpose, transpose, reshape, reshape, reshape, slice, slice, concat, concat, broadcast, pad, pad, gather, gather,
    gather_elements, gather_nd, scatter_elements, scatter_nd, top_k, iota, dims, non_zero,
];

/// A value with axes, and one of them.
fn with_axis(g: &mut Generator) -> Option<(ValueId, usize)> {
    let x = g.value(|t| t.rank() > 0)?;
    let rank = g.ty(x).rank();
    Some((x, g.random.below(rank)))
}

fn transpose(g: &mut Generator) -> Option<()> {
    let x = g.value(|t| t.rank() > 1)?;
    let mut perm: Vec<usize> = (0..g.ty(x).rank()).collect();
    for i in (1..perm.len()).rev() {
        perm.swap(i, g.random.below(i + 1));
    }
    g.apply(ops::Transpose { perm }, &[x]).map(drop)
}

/// Merges two axes, splits one, or adds one.
fn reshape(g: &mut Generator) -> Option<()> {
    let (x, axis) = with_axis(g)?;
    let mut shape = g.ty(x).shape;
    match g.random.below(3) {
        0 if axis > 0 => {
            let merged = &shape[axis - 1] * &shape[axis];
            shape.splice(axis - 1..=axis, [merged]);
        }
        1 => {
            let size = shape[axis].as_const()?;
            let factor = [2, 3].into_iter().find(|f| size % f == 0)?;
            shape.splice(axis..=axis, [Dim::from(factor), Dim::from(size / factor)]);
        }
        _ => shape.insert(axis, Dim::ONE),
    }
    if shape.len() > 6 {
        return None;
    }
    g.apply(ops::Reshape { shape }, &[x]).map(drop)
}

/// Constant axes are cut to any regular part, symbolic ones are reversed or cut at the front.
fn slice(g: &mut Generator) -> Option<()> {
    let (x, _) = with_axis(g)?;
    let (mut starts, mut steps, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for dim in g.ty(x).shape {
        let (start, step, size) = match dim.as_const() {
            Some(n) if g.random.once_in(2) => {
                let (start, step) = (g.random.between(0, n - 1), g.random.pick(&[1, 1, 2, 3, -1, -2]));
                let room = if step > 0 { n - 1 - start } else { start };
                (Dim::from(start), step, Dim::from(g.random.between(1, room / i64::abs(step) + 1)))
            }
            None if g.random.once_in(3) => (&dim - &Dim::ONE, -1, dim),
            None if g.random.once_in(3) => (Dim::ONE, 1, &dim - &Dim::ONE),
            _ => (Dim::ZERO, 1, dim),
        };
        starts.push(start);
        steps.push(step);
        sizes.push(size);
    }
    g.apply(ops::Slice { starts, steps, sizes }, &[x]).map(drop)
}

fn concat(g: &mut Generator) -> Option<()> {
    let (x, axis) = with_axis(g)?;
    let ty = g.ty(x);
    let mut parts = vec![x];
    for _ in 0..g.random.below(3) {
        let fits = |t: &crate::types::Type| {
            let same = |a: usize| a == axis || t.shape[a] == ty.shape[a];
            t.dtype == ty.dtype && t.rank() == ty.rank() && (0..ty.rank()).all(same)
        };
        parts.push(g.value(fits)?);
    }
    if let Some(mut shape) = ty.fixed_shape() {
        shape[axis] = 1 + g.random.below(3);
        let constant = g.constant(ty.dtype, &shape);
        let at = g.random.below(parts.len() + 1);
        parts.insert(at, constant);
    }
    g.apply(ops::Concat { axis }, &parts).map(drop)
}

fn broadcast(g: &mut Generator) -> Option<()> {
    let x = g.value(|t| t.rank() < 4)?;
    let mut shape = g.ty(x).shape;
    for dim in shape.iter_mut().filter(|d| d.is(1)) {
        *dim = g.dim();
    }
    if g.random.once_in(2) {
        let dim = g.dim();
        shape.insert(0, dim);
    }
    g.apply(ops::Broadcast { shape }, &[x]).map(drop)
}

fn pad(g: &mut Generator) -> Option<()> {
    let (x, _) = with_axis(g)?;
    let ty = g.ty(x);
    let mode = g.random.pick(&[PadMode::Constant, PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap]);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for dim in &ty.shape {
        // Mirroring needs one element more than it adds.
        let most = match (mode, dim.as_const()) {
            (PadMode::Reflect | PadMode::Wrap, Some(n)) => i64::min(2, n - 1),
            (PadMode::Reflect | PadMode::Wrap, None) => 0,
            _ => 2,
        };
        let least = if mode == PadMode::Constant && dim.as_const().is_some_and(|n| n > 3) { -1 } else { 0 };
        before.push(Dim::from(g.random.between(least, most)));
        after.push(Dim::from(g.random.between(least, most)));
    }
    let mut operands = vec![x];
    if mode == PadMode::Constant {
        operands.push(g.constant(ty.dtype, &[]));
    }
    g.apply(ops::Pad { before, after, mode }, &operands).map(drop)
}

/// Indices in range for an axis, of this shape. Symbolic axes have at least one element.
fn indices(g: &mut Generator, size: &Dim, shape: &[usize]) -> Tensor {
    let n = size.as_const().unwrap_or(1);
    let count: usize = shape.iter().product();
    let elements: Vec<i64> = (0..count).map(|_| g.random.between(-n, n - 1)).collect();
    Tensor::from_i64(shape.to_vec(), &elements)
}

fn gather(g: &mut Generator) -> Option<()> {
    let (x, axis) = with_axis(g)?;
    let size = g.ty(x).shape[axis].clone();
    let shape = g.random.pick(&[vec![], vec![1], vec![3], vec![2, 2]]);
    let indices = indices(g, &size, &shape);
    let indices = g.constant_of(indices);
    g.apply(ops::Gather { axis }, &[x, indices]).map(drop)
}

/// A fixed value with axes, one of them, and indices for it of the same rank, no larger on other axes.
fn element_indices(g: &mut Generator) -> Option<(ValueId, usize, Vec<usize>, Tensor)> {
    let x = g.value(|t| t.rank() > 0 && t.fixed_shape().is_some())?;
    let shape = g.ty(x).fixed_shape()?;
    let axis = g.random.below(shape.len());
    let mut picked: Vec<usize> = shape.iter().map(|&n| if g.random.once_in(3) { 1 } else { n }).collect();
    picked[axis] = 1 + g.random.below(shape[axis]);
    let indices = indices(g, &Dim::from(shape[axis]), &picked);
    Some((x, axis, picked, indices))
}

fn gather_elements(g: &mut Generator) -> Option<()> {
    let (x, axis, _, indices) = element_indices(g)?;
    let indices = g.constant_of(indices);
    g.apply(ops::GatherElements { axis }, &[x, indices]).map(drop)
}

/// A way to combine that applies to an element type.
fn scatter_mode(g: &mut Generator, dtype: DType) -> ScatterMode {
    if dtype == DType::Bool { ScatterMode::Set } else { g.random.pick(ScatterMode::ALL) }
}

fn scatter_elements(g: &mut Generator) -> Option<()> {
    let (x, axis, shape, indices) = element_indices(g)?;
    let dtype = g.ty(x).dtype;
    let indices = g.constant_of(indices);
    let updates = g.constant(dtype, &shape);
    let mode = scatter_mode(g, dtype);
    g.apply(ops::ScatterElements { axis, mode }, &[x, indices, updates]).map(drop)
}

/// Three index tuples over the first axes.
fn tuples(g: &mut Generator, shape: &[Dim]) -> (usize, ValueId) {
    let depth = 1 + g.random.below(shape.len());
    let mut elements = Vec::new();
    for _ in 0..3 {
        for dim in &shape[..depth] {
            let n = dim.as_const().unwrap_or(1);
            elements.push(g.random.between(-n, n - 1));
        }
    }
    (depth, g.constant_of(Tensor::from_i64(vec![3, depth], &elements)))
}

fn gather_nd(g: &mut Generator) -> Option<()> {
    let (x, _) = with_axis(g)?;
    let (_, indices) = tuples(g, &g.ty(x).shape);
    g.apply(ops::GatherNd { batch_dims: 0 }, &[x, indices]).map(drop)
}

fn scatter_nd(g: &mut Generator) -> Option<()> {
    let (x, _) = with_axis(g)?;
    let ty = g.ty(x);
    let fixed = ty.fixed_shape()?;
    let (depth, indices) = tuples(g, &ty.shape);
    let updates = g.constant(ty.dtype, &[&[3], &fixed[depth..]].concat());
    let mode = scatter_mode(g, ty.dtype);
    g.apply(ops::ScatterNd { mode }, &[x, indices, updates]).map(drop)
}

fn top_k(g: &mut Generator) -> Option<()> {
    let (x, axis) = ordered(g)?;
    let n = g.ty(x).shape[axis].as_const().unwrap_or(1);
    let k = vec![Dim::from(g.random.between(1, n))];
    let largest = g.random.once_in(2);
    g.add(ops::TopK { k, axis, largest }, &[x]).map(drop)
}

fn iota(g: &mut Generator) -> Option<()> {
    let (n, dtype) = (vec![g.dim()], g.random.pick(&g.options.dtypes));
    g.apply(ops::Iota { n, dtype }, &[]).map(drop)
}

fn dims(g: &mut Generator) -> Option<()> {
    let dims = vec![g.dim(), g.dim()];
    g.apply(ops::Dims { dims, scalar: false }, &[]).map(drop)
}

/// Positions and one elementwise op on them; both are outputs, and nothing else uses what may be empty.
fn non_zero(g: &mut Generator) -> Option<()> {
    if !g.options.data_dependent || g.region != crate::graph::BODY {
        return None;
    }
    let gentle = g.options.well_conditioned;
    let x = g.value(|t| t.rank() > 0 && !(gentle && t.dtype.is_float()))?;
    let count = g.program.graph.fresh_symbol();
    let loc = g.loc();
    let region = g.region;
    let found = g.program.graph.apply(region, ops::NonZero { count: vec![count] }, &[x], &loc).ok()?;
    let cast = g.program.graph.apply(region, ops::Cast { to: DType::F32 }, &[found], &loc).ok()?;
    g.outputs.extend([found, cast]);
    Some(())
}
