//! Normalization to mean 0 and variance 1, shared by the operators that do it.

use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::Res;

/// A normalized tensor and its statistics, which keep the reduced axes.
pub struct Normalized {
    pub y: ValueId,
    pub mean: ValueId,
    /// `1 / sqrt(variance + epsilon)`, made only if asked for.
    pub deviation: ValueId,
}

/// `(x - mean) / sqrt(variance + epsilon)` over `axes`.
pub fn normalize(b: &mut Builder, x: ValueId, axes: &[usize], epsilon: f32) -> Res<Normalized> {
    let (mean, centered, variance) = moments(b, x, axes)?;
    let deviation = deviation(b, variance, epsilon)?;
    Ok(Normalized { y: b.div(centered, deviation)?, mean, deviation })
}

/// Mean, `x - mean`, and variance over `axes`, which stay.
pub fn moments(b: &mut Builder, x: ValueId, axes: &[usize]) -> Res<(ValueId, ValueId, ValueId)> {
    let mean = b.mean(x, axes, true)?;
    let centered = b.sub(x, mean)?;
    let square = b.mul(centered, centered)?;
    let variance = b.mean(square, axes, true)?;
    Ok((mean, centered, variance))
}

/// `sqrt(variance + epsilon)`
pub fn deviation(b: &mut Builder, variance: ValueId, epsilon: f32) -> Res<ValueId> {
    let sum = b.add_scalar(variance, f64::from(epsilon))?;
    b.sqrt(sum)
}

/// `x * scale + bias`, with vectors along `axis`.
pub fn scale_along(b: &mut Builder, x: ValueId, scale: ValueId, bias: ValueId, axis: usize) -> Res<ValueId> {
    let rank = b.rank(x);
    let (scale, bias) = (b.along(scale, axis, rank)?, b.along(bias, axis, rank)?);
    let y = b.mul(x, scale)?;
    b.add(y, bias)
}
