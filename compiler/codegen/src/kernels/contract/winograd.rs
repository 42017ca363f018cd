//! Dense convolutions of stride 1 by short algorithms (Winograd): tiles of results take `n` multiplications along an axis where
//! the direct sum takes `m * r`, at the price of linear transformations of operands and results ([`ToomCook`]).
//!
//! A tile task computes some panels of output channels for a block of tiles: it transforms the operands of the block into
//! scratch memory, `[product][tile][channel]`; then, panel by panel, one small matrix product for each of the `n * n` products,
//! tiles by channels times channels by columns, into scratch, and from there the results with their epilogue. Nothing between
//! the operand and the result leaves the caches.
//!
//! Limit: `n * n / (m * m * r * r)` of the multiply-adds of the direct sum, 36 of 144 for 3x3 filters; the transformed filters
//! are `n * n / (r * r)` times as large and stream through once a block.
//!
//! `fast` numerics only. The error against f64 is at most 4 times (root mean square) that of a plain f32 sum.

mod kernel;
mod scheme;

use super::fip::FilterScales;
use super::products::Products;
use super::*;
use crate::kernels::window;
use crate::pack::Filters;
use crate::toom_cook::{ToomCook, along_axes};

pub use scheme::{Scheme, scheme};

/// Lowers a convolution by a scheme, or by the direct sum where there are so few tiles that it is faster.
pub fn conv(l: &mut Lowering, group: &Group, op: &Conv, scheme: &Scheme) -> Result<(), CompileError> {
    let exits: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    if group.space.iter().any(|d| d.is(0)) || exits.is_empty() {
        return Ok(());
    }
    if !scheme.may_be_direct() {
        short(l, group, op, scheme, &exits);
        return Ok(());
    }
    let tiles = &group.space[0] * &Dim::product(&scheme.tiles(&group.space[2..]));
    let enough = tiles.floor_div(&Dim::from(scheme.least)).at_most(&Dim::ONE);
    // What either reads is laid out before, if it has to be.
    l.access(l.anchor(group).inputs[0]);
    l.guarded(&(&Dim::ONE - &enough), |l| direct(l, group, op))?;
    l.guarded(&enough, |l| {
        short(l, group, op, scheme, &exits);
        Ok(())
    })
}

/// A convolution by a scheme.
fn short(l: &mut Lowering, group: &Group, op: &Conv, scheme: &Scheme, exits: &[(ValueId, Place)]) {
    let node = l.anchor(group);
    let (xv, wv, anchor) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let (filters, scales) = filters(l, wv, scheme);
    let (x, inside) = operand_of(l, xv, op, &group.space, scheme);

    let rank = group.space.len();
    let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    let strides = |p: &Place| order.iter().map(|&a| p.view.strides[a].clone()).collect::<Vec<_>>();
    let sizes: Vec<String> = scheme.axes.iter().map(|a| a.m.to_string()).collect();
    let fip = if scheme.block.fip { "_fip" } else { "" };
    let mut kb = Kb::new(&format!("winograd{}{fip}_{}", sizes.join("x"), l.name(group)));
    let (leaves, outs) = window::operands(l, &mut kb, group, exits, &order);
    let x_shape = &l.g.ty(xv).shape;
    let results: usize = scheme.axes.iter().map(|a| a.m).product();
    let (x_buf, weights) = (kb.read(&x), kb.read(&filters));
    let mut products = Products::new(l, &mut kb, &scheme.block, scheme.products(), &x_shape[1], (weights, scheme.products()));
    let col_scales = scales.and_then(|scales| products.scale(l, &mut kb, &scales));
    let e = kernel::Emitter {
        g: l.g,
        anchor,
        dtype: l.g.ty(anchor).dtype,
        scheme: scheme.clone(),
        batch: group.space[0].clone(),
        sizes: group.space[2..].to_vec(),
        channels: x_shape[1].clone(),
        cols: group.space[1].clone(),
        x: x_buf,
        x_strides: strides(&x),
        bounds: (!inside).then(|| (op.before.clone(), x_shape[2..].to_vec())),
        products,
        col_scales,
        tile: kb.scratch("results", DType::F32, &Dim::from(results as i64 * scheme.block.tile.nr())),
        lanes: l.target.lanes(DType::F32),
        masked: l.target.masked_memory,
        leaves,
        outs,
    };
    let tiles = e.emit(&mut kb);
    // The operations of the convolution, not of the algorithm: rates compare with those of other kernels.
    let taps: usize = scheme.axes.iter().map(|a| a.r).product();
    let elements = Dim::product(&group.space);
    let flops = &(&elements * &x_shape[1]) * &Dim::from(2 * taps);
    let traffic = &(&(&elements + &Dim::product(x_shape)) * &Dim::from(4i64)) + &l.plan.buffers[filters.buffer.0 as usize].bytes;
    let rate = i64::from(l.target.vector_bytes.max(16)) * 3;
    let tile_ns = flops.floor_div(&Dim::from(rate)).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops, traffic }, &loc);
}

/// The transformed filters, with their scales if products are fast inner products.
fn filters(l: &mut Lowering, wv: ValueId, scheme: &Scheme) -> (Place, Option<FilterScales>) {
    let plain = l.access(wv);
    let Storage::Blob(index) = l.plan.buffers[plain.buffer.0 as usize].storage else { unreachable!("filters are constant data") };
    let source = l.plan.blobs[index as usize].source.clone();
    let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok()).expect("constant filters have a fixed layout");
    let shape: Vec<usize> = l.g.ty(wv).shape.iter().map(size).collect();
    let strides: Vec<usize> = plain.view.strides.iter().map(size).collect();
    let mut filters = Filters {
        axes: scheme.axes.clone(),
        cols: (shape[0], strides[0]),
        channels: (shape[1], strides[1]),
        taps: strides[2..].to_vec(),
        offset: size(&plain.view.offset),
        width: scheme.block.tile.nr() as usize,
        exponents: None,
    };
    let scales = scheme.block.fip.then(|| FilterScales::new(source.tensor(l.weights), &mut filters));
    let buffer = l.blob(Blob { source, pack: Pack::Filters(filters), dtype: DType::F32 });
    (Place { buffer, view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype: DType::F32 }, scales)
}

/// The operand, and whether all that the tiles read lies inside of it: then its place starts at the first tile's corner.
fn operand_of(l: &mut Lowering, xv: ValueId, op: &Conv, space: &[Dim], scheme: &Scheme) -> (Place, bool) {
    let place = l.access(xv);
    let reach = scheme.reach(op, &l.g.ty(xv).shape[2..], &space[2..]);
    if !place.view.strides[1].is(1) {
        // Its channels are not the lanes yet.
        return (padding::stored(l, xv, &op.before, &reach, Const::number(place.dtype, 0.0)), true);
    }
    if op.before.iter().chain(&reach).all(|p| p.as_const().is_some_and(|p| p == 0)) {
        return (place, true);
    }
    match padding::haloed(l, xv, &place.view, &op.before, &reach) {
        Some(view) => (Place { view, ..place }, true),
        None => (place, false),
    }
}
