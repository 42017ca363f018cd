//! Resizing one axis.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::tensor::Tensor;

use super::factors::Factor;
use super::{Mode, Settings};
use crate::builder::Builder;
use crate::fail::{Res, bail};

/// `x` with one axis resized; `outside` collects where elements lie outside of the input.
pub fn resize(b: &mut Builder, x: ValueId, f: &Factor, s: &Settings, outside: &mut Option<ValueId>) -> Res<ValueId> {
    let place = place(b, x, f, s)?;
    let old = b.shape(x)[f.axis].clone();
    if s.coordinates == "tf_crop_and_resize" {
        mark_outside(b, x, f, place, outside)?;
    }
    if s.antialias && s.mode != Mode::Nearest {
        return antialiased(b, x, f, s, place);
    }
    match s.mode {
        Mode::Nearest => {
            let index = rounded(b, place, s.rounding)?;
            take(b, x, index, &old, f.axis)
        }
        Mode::Linear => {
            let low = b.floor(place)?;
            let high = b.add_scalar(low, 1.0)?;
            let weight = b.sub(place, low)?;
            let one = b.scalar(DType::F32, 1.0);
            let rest = b.sub(one, weight)?;
            weighted(b, x, f.axis, &old, &[(low, rest), (high, weight)])
        }
        Mode::Cubic => {
            let taps = cubic_taps(b, place, &old, s)?;
            weighted(b, x, f.axis, &old, &taps)
        }
    }
}

/// f32 vector: where each output element lies in the input.
fn place(b: &mut Builder, x: ValueId, f: &Factor, s: &Settings) -> Res<ValueId> {
    let i = b.iota(&f.size, DType::F32)?;
    let old = b.dim_scalar(DType::F32, &b.shape(x)[f.axis].clone())?;
    let new = b.dim_scalar(DType::F32, &f.size)?;
    match s.coordinates {
        "asymmetric" => b.div(i, f.scale),
        "align_corners" => {
            let (last_old, last_new) = (b.add_scalar(old, -1.0)?, b.add_scalar(f.exact, -1.0)?);
            let scaled = b.mul(i, last_old)?;
            let place = b.div(scaled, last_new)?;
            let zero = b.scalar(DType::F32, 0.0);
            unless_single(b, f.exact, place, zero)
        }
        "pytorch_half_pixel" => {
            let place = half_pixel(b, i, f.scale)?;
            let zero = b.scalar(DType::F32, 0.0);
            unless_single(b, f.exact, place, zero)
        }
        "tf_half_pixel_for_nn" => {
            let half = b.add_scalar(i, 0.5)?;
            b.div(half, f.scale)
        }
        "tf_crop_and_resize" => cropped(b, i, f, old, new),
        "half_pixel_symmetric" => {
            let adjustment = b.div(new, f.exact)?;
            let center = b.mul_scalar(old, 0.5)?;
            let one = b.scalar(DType::F32, 1.0);
            let rest = b.sub(one, adjustment)?;
            let offset = b.mul(center, rest)?;
            let place = half_pixel(b, i, f.scale)?;
            b.add(offset, place)
        }
        _ => half_pixel(b, i, f.scale),
    }
}

/// `(i + 0.5) / scale - 0.5`
fn half_pixel(b: &mut Builder, i: ValueId, scale: ValueId) -> Res<ValueId> {
    let half = b.add_scalar(i, 0.5)?;
    let place = b.div(half, scale)?;
    b.add_scalar(place, -0.5)
}

fn cropped(b: &mut Builder, i: ValueId, f: &Factor, old: ValueId, new: ValueId) -> Res<ValueId> {
    let Some((start, end)) = f.roi else { bail!(ARITY, "the input `roi` is required") };
    let last = b.add_scalar(old, -1.0)?;
    let sum = b.add(start, end)?;
    let middle = b.mul_scalar(sum, 0.5)?;
    let middle = b.mul(middle, last)?;
    let first = b.mul(start, last)?;
    let width = b.sub(end, start)?;
    let width = b.mul(width, last)?;
    let steps = b.add_scalar(new, -1.0)?;
    let scaled = b.mul(i, width)?;
    let scaled = b.div(scaled, steps)?;
    let place = b.add(first, scaled)?;
    unless_single(b, new, place, middle)
}

/// `place`, but `other` if the result has a single element: then nothing is between its first and last.
fn unless_single(b: &mut Builder, size: ValueId, place: ValueId, other: ValueId) -> Res<ValueId> {
    let several = b.compare_scalar(Pred::Gt, size, 1.0)?;
    b.select(several, place, other)
}

fn mark_outside(b: &mut Builder, x: ValueId, f: &Factor, place: ValueId, outside: &mut Option<ValueId>) -> Res<()> {
    let last = b.dim_scalar(DType::F32, &(&b.shape(x)[f.axis].clone() - &Dim::ONE))?;
    let below = b.compare_scalar(Pred::Lt, place, 0.0)?;
    let above = b.gt(place, last)?;
    let either = b.or(below, above)?;
    let either = b.along(either, f.axis, b.rank(x))?;
    *outside = Some(match *outside {
        Some(o) => b.or(o, either)?,
        None => either,
    });
    Ok(())
}

fn rounded(b: &mut Builder, place: ValueId, rounding: &str) -> Res<ValueId> {
    match rounding {
        "floor" => b.floor(place),
        "ceil" => b.ceil(place),
        "round_prefer_floor" => {
            let lower = b.add_scalar(place, -0.5)?;
            b.ceil(lower)
        }
        _ => {
            let upper = b.add_scalar(place, 0.5)?;
            b.floor(upper)
        }
    }
}

/// The elements at these places, the nearest where they lie outside.
fn take(b: &mut Builder, x: ValueId, index: ValueId, size: &Dim, axis: usize) -> Res<ValueId> {
    let index = b.cast(index, DType::I64)?;
    let last = b.dim_scalar(DType::I64, &(size - &Dim::ONE))?;
    let index = b.max_scalar(index, 0.0)?;
    let index = b.min(index, last)?;
    b.gather(x, index, axis)
}

fn weighted(b: &mut Builder, x: ValueId, axis: usize, size: &Dim, taps: &[(ValueId, ValueId)]) -> Res<ValueId> {
    let (rank, t) = (b.rank(x), b.dtype(x));
    let mut sum = None;
    for &(index, weight) in taps {
        let part = take(b, x, index, size, axis)?;
        let weight = b.cast(weight, t)?;
        let weight = b.along(weight, axis, rank)?;
        let part = b.mul(part, weight)?;
        sum = Some(match sum {
            None => part,
            Some(s) => b.add(s, part)?,
        });
    }
    sum.map_or_else(|| Ok(x), Ok)
}

/// The four neighbours of each place and their weights.
fn cubic_taps(b: &mut Builder, place: ValueId, size: &Dim, s: &Settings) -> Res<Vec<(ValueId, ValueId)>> {
    let base = b.floor(place)?;
    let t = b.sub(place, base)?;
    let last = b.dim_scalar(DType::F32, &(size - &Dim::ONE))?;
    let zero = b.scalar(DType::F32, 0.0);
    let mut taps = Vec::new();
    for k in -1i64..=2 {
        let index = b.add_scalar(base, k as f64)?;
        let distance = b.add_scalar(t, -k as f64)?;
        let distance = b.abs(distance)?;
        let mut weight = cubic_weight(b, distance, f64::from(s.cubic_a), k == 0 || k == 1)?;
        if s.exclude_outside {
            let below = b.compare_scalar(Pred::Lt, index, 0.0)?;
            let above = b.gt(index, last)?;
            let out = b.or(below, above)?;
            weight = b.select(out, zero, weight)?;
        }
        taps.push((index, weight));
    }
    if s.exclude_outside {
        let mut sum = taps[0].1;
        for tap in &taps[1..] {
            sum = b.add(sum, tap.1)?;
        }
        for tap in &mut taps {
            tap.1 = b.div(tap.1, sum)?;
        }
    }
    Ok(taps)
}

/// Keys' kernel: `(a+2)d^3 - (a+3)d^2 + 1` up to distance 1, `a d^3 - 5a d^2 + 8a d - 4a` up to 2.
pub fn cubic_weight(b: &mut Builder, d: ValueId, a: f64, near: bool) -> Res<ValueId> {
    let (c3, c2, c1, c0) = if near { (a + 2.0, -(a + 3.0), 0.0, 1.0) } else { (a, -5.0 * a, 8.0 * a, -4.0 * a) };
    let y = b.mul_scalar(d, c3)?;
    let y = b.add_scalar(y, c2)?;
    let y = b.mul(y, d)?;
    let y = b.add_scalar(y, c1)?;
    let y = b.mul(y, d)?;
    b.add_scalar(y, c0)
}

/// With a kernel widened by the scale: a product with a matrix of weights, made here because its support is not fixed.
fn antialiased(b: &mut Builder, x: ValueId, f: &Factor, s: &Settings, place: ValueId) -> Res<ValueId> {
    let old = b.shape(x)[f.axis].as_const().and_then(|d| usize::try_from(d).ok());
    let (Some(old), Some(places), Some(scale)) = (old, b.tensor(place), b.tensor(f.scale)) else {
        bail!(UNSUPPORTED_FORM, "`antialias` needs sizes known at import")
    };
    let stretch = scale.to_f64()[0].min(1.0);
    let a = f64::from(s.cubic_a);
    let support = if s.mode == Mode::Linear { 1.0 } else { 2.0 };
    let kernel = |d: f64| match (s.mode, d.abs()) {
        (Mode::Linear, d) => (1.0 - d).max(0.0),
        (_, d) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        (_, d) if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        _ => 0.0,
    };
    let mut matrix = Vec::with_capacity(old.saturating_mul(places.len()));
    for place in places.to_f64() {
        let mut row = vec![0.0; old];
        let reach = (support / stretch).ceil() as i64 + 1;
        for k in place.floor() as i64 - reach..=place.floor() as i64 + reach {
            let weight = kernel((k as f64 - place) * stretch);
            let inside = (0..old as i64).contains(&k);
            if inside || !s.exclude_outside {
                row[k.clamp(0, old as i64 - 1) as usize] += weight;
            }
        }
        let sum: f64 = row.iter().sum();
        matrix.extend(row.iter().map(|w| (w / sum) as f32));
    }
    let weights = b.constant(Tensor::from_f32(vec![places.len(), old], &matrix));
    let weights = b.cast(weights, b.dtype(x))?;
    let last = b.rank(x) - 1;
    let moved = b.move_axis(x, f.axis, last)?;
    let lead = b.shape(moved)[..last].to_vec();
    let flat = b.reshape(moved, &[Dim::product(&lead), Dim::from(old)])?;
    let product = b.matmul(flat, weights, true)?;
    let shape: Vec<Dim> = lead.into_iter().chain([f.size.clone()]).collect();
    let y = b.reshape(product, &shape)?;
    b.move_axis(y, last, f.axis)
}
