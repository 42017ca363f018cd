//! GridSample: elements read at places that a grid gives, between -1 and 1 on every axis.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::GatherElements;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] =
    &[OnnxOp::new("GridSample", (2, 2), import).attrs(&["align_corners", "mode", "padding_mode"]).opsets(16, i64::MAX)];

/// What lies outside of the input.
#[derive(Clone, Copy, PartialEq)]
enum Padding { Zeros, Border, Reflection }

/// One element that a place is made of, along one axis.
#[derive(Clone, Copy)]
struct Tap {
    /// Index, which may lie outside.
    index: ValueId,
    weight: Option<ValueId>,
}

/// One spatial axis: its size, and its ends for reflection.
struct Axis {
    size: ValueId,
    last: ValueId,
    low: ValueId,
    range: ValueId,
}

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, grid) = (n.input(0)?, n.input(1)?);
    let (shape, places) = (b.shape(x), b.shape(grid));
    let rank = shape.len().saturating_sub(2);
    ensure!(rank >= 1 && places.len() == rank + 2, TYPES, "input and grid have {} and {} axes", shape.len(), places.len());
    b.equal(&places[rank + 1], &Dim::from(rank), "one coordinate for each spatial axis")?;
    b.equal(&shape[0], &places[0], "batches of input and grid")?;
    let align = n.flag("align_corners", false)?;
    let padding = match n.word("padding_mode", "zeros")? {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => bail!(ATTRIBUTE_VALUE, "`padding_mode` cannot be `{other}`"),
    };
    let t = b.dtype(x);
    let wide = if t == DType::F64 { DType::F64 } else { DType::F32 };
    let grid = b.cast(grid, wide)?;
    let (mut axes, mut taps) = (Vec::new(), Vec::new());
    for s in 0..rank {
        let axis = axis(b, &shape[2 + s], wide, align)?;
        // The last coordinate belongs to the first axis.
        let g = b.pick(grid, rank + 1, (rank - 1 - s) as i64)?;
        let place = place(b, g, &axis, align)?;
        let place = if padding == Padding::Zeros { place } else { padded(b, place, &axis, padding)? };
        taps.push(axis_taps(n, b, place)?);
        axes.push(axis);
    }
    let y = sum(b, x, &axes, &taps, padding, wide)?;
    let mut out = shape[..2].to_vec();
    out.extend(places[1..=rank].iter().cloned());
    let y = b.cast(y, t)?;
    Ok(vec![b.reshape(y, &out)?])
}

fn axis(b: &mut Builder, dim: &Dim, t: DType, align: bool) -> Res<Axis> {
    let size = b.dim_scalar(t, dim)?;
    let last = b.add_scalar(size, -1.0)?;
    let low = b.scalar(t, if align { 0.0 } else { -0.5 });
    Ok(Axis { size, last, low, range: if align { last } else { size } })
}

/// The index a coordinate means.
fn place(b: &mut Builder, g: ValueId, axis: &Axis, align: bool) -> Res<ValueId> {
    let from_zero = b.add_scalar(g, 1.0)?;
    let scaled = b.mul(from_zero, if align { axis.last } else { axis.size })?;
    let shifted = if align { scaled } else { b.add_scalar(scaled, -1.0)? };
    b.mul_scalar(shifted, 0.5)
}

/// A place or index brought inside.
fn padded(b: &mut Builder, place: ValueId, axis: &Axis, padding: Padding) -> Res<ValueId> {
    let mut place = place;
    if padding == Padding::Reflection {
        // There and back again: the distance from the low end, modulo twice the range.
        let distance = b.sub(place, axis.low)?;
        let twice = b.mul_scalar(axis.range, 2.0)?;
        let around = b.rem(distance, twice)?;
        let back = b.sub(twice, around)?;
        let nearer = b.min(around, back)?;
        let folded = b.add(nearer, axis.low)?;
        let single = b.compare_scalar(Pred::Eq, axis.range, 0.0)?;
        let zero = b.scalar(b.dtype(place), 0.0);
        place = b.select(single, zero, folded)?;
    }
    let place = b.max_scalar(place, 0.0)?;
    b.min(place, axis.last)
}

fn axis_taps(n: &Node, b: &mut Builder, place: ValueId) -> Res<Vec<Tap>> {
    match n.word("mode", "linear")? {
        "nearest" => Ok(vec![Tap { index: b.round(place)?, weight: None }]),
        "linear" | "bilinear" => {
            let low = b.floor(place)?;
            let high = b.add_scalar(low, 1.0)?;
            let weight = b.sub(place, low)?;
            let rest = b.sub(high, place)?;
            Ok(vec![Tap { index: low, weight: Some(rest) }, Tap { index: high, weight: Some(weight) }])
        }
        "cubic" | "bicubic" => {
            let low = b.floor(place)?;
            let mut taps = Vec::new();
            for k in -1i64..=2 {
                let index = b.add_scalar(low, k as f64)?;
                let distance = b.sub(place, index)?;
                let distance = b.abs(distance)?;
                let weight = super::resize::cubic_weight(b, distance, -0.75, k == 0 || k == 1)?;
                taps.push(Tap { index, weight: Some(weight) });
            }
            Ok(taps)
        }
        other => bail!(ATTRIBUTE_VALUE, "`mode` cannot be `{other}`"),
    }
}

/// The weighted sum over every combination of taps, as [batch, channels, places].
fn sum(b: &mut Builder, x: ValueId, axes: &[Axis], taps: &[Vec<Tap>], padding: Padding, wide: DType) -> Res<ValueId> {
    let shape = b.shape(x);
    let flat = b.reshape(x, &[shape[0].clone(), shape[1].clone(), Dim::product(&shape[2..])])?;
    let flat = b.cast(flat, wide)?;
    let count: usize = taps.iter().map(Vec::len).product();
    let mut total = None;
    for mut number in 0..count {
        let mut chosen = Vec::new();
        for axis in taps {
            chosen.push(axis[number % axis.len()]);
            number /= axis.len();
        }
        let part = term(b, flat, &shape, axes, &chosen, padding)?;
        total = Some(match total {
            None => part,
            Some(sum) => b.add(sum, part)?,
        });
    }
    total.map_or_else(|| Ok(flat), Ok)
}

fn term(b: &mut Builder, flat: ValueId, shape: &[Dim], axes: &[Axis], taps: &[Tap], padding: Padding) -> Res<ValueId> {
    let t = b.dtype(flat);
    let (mut at, mut weight, mut inside) = (None, None, None);
    for ((axis, tap), size) in axes.iter().zip(taps).zip(&shape[2..]) {
        if padding == Padding::Zeros {
            let (low, high) = (b.compare_scalar(Pred::Ge, tap.index, 0.0)?, b.le(tap.index, axis.last)?);
            let both = b.and(low, high)?;
            inside = Some(inside.map_or(Ok(both), |i| b.and(i, both))?);
        }
        let kind = if padding == Padding::Reflection { Padding::Reflection } else { Padding::Border };
        let index = padded(b, tap.index, axis, kind)?;
        let index = b.cast(index, DType::I64)?;
        let size = b.dim_scalar(DType::I64, size)?;
        at = Some(match at {
            None => index,
            Some(before) => {
                let scaled = b.mul(before, size)?;
                b.add(scaled, index)?
            }
        });
        if let Some(w) = tap.weight {
            weight = Some(weight.map_or(Ok(w), |v| b.mul(v, w))?);
        }
    }
    let Some(at) = at else { return Ok(flat) };
    let places = b.shape(at);
    let count = Dim::product(&places[1..]);
    let row = [places[0].clone(), Dim::ONE, count.clone()];
    let at = b.reshape(at, &row)?;
    let at = b.broadcast(at, &[shape[0].clone(), shape[1].clone(), count])?;
    let mut y = b.op(GatherElements { axis: 2 }, &[flat, at])?;
    if let Some(inside) = inside {
        let inside = b.reshape(inside, &row)?;
        let zero = b.scalar(t, 0.0);
        y = b.select(inside, y, zero)?;
    }
    match weight {
        None => Ok(y),
        Some(w) => {
            let w = b.reshape(w, &row)?;
            b.mul(y, w)
        }
    }
}
