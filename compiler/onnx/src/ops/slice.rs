//! Slice: bounds as attributes before opset 10, as inputs since; counted from the end if negative, and clamped.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::Slice;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Slice", (1, 5), import).attrs(&["axes", "ends", "starts"])];

/// Steps are bounded by this, far beyond any size.
const FAR: i64 = 1 << 40;
/// Bounds from here on mean `to the end`: exporters write 2^31 - 1, 2^63 - 1 or a round number.
const END: i64 = 1_000_000_000;

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let shape = b.shape(x);
    let rank = shape.len();
    let (starts, ends, axes, steps) = match n.opset {
        ..10 => {
            let (starts, ends) = (n.ints_required("starts")?, n.ints_required("ends")?);
            let (starts, ends) = (b.ints(starts), b.ints(ends));
            (starts, ends, n.ints("axes")?.map(<[i64]>::to_vec), None)
        }
        _ => {
            let constants = |i: usize, what: &str| n.opt(i).map(|v| b.constant_ints(v, what)).transpose();
            let (axes, steps) = (constants(3, "the input `axes`")?, constants(4, "the input `steps`")?);
            (n.input(1)?, n.input(2)?, axes, steps)
        }
    };
    let count = b.constant_len(starts, "the input `starts`")?;
    let axes = axes.unwrap_or_else(|| (0..count as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; count]);
    ensure!(b.constant_len(ends, "the input `ends`")? == count, TYPES, "numbers of starts and ends differ");
    ensure!(axes.len() == count && steps.len() == count, TYPES, "numbers of starts, axes and steps differ");
    let axes = b.axes(&axes, rank)?;
    let mut op = Slice { starts: vec![Dim::ZERO; rank], steps: vec![1; rank], sizes: shape.clone() };
    for (i, &axis) in axes.iter().enumerate() {
        let (step, size) = (steps[i], &shape[axis]);
        ensure!(step != 0, BAD_SIZE, "the step of axis {axis} is 0");
        // Walking backwards, a slice starts at the last element at most, and ends before the first at least.
        let (low, high) = if step > 0 { (Dim::ZERO, size.clone()) } else { (Dim::from(-1i64), size - &Dim::ONE) };
        let start = bound(b, starts, i, size, &Dim::ZERO, &high)?;
        let end = bound(b, ends, i, size, &low, &high)?;
        let way = if step > 0 { &end - &start } else { &start - &end };
        let stride = Dim::from(step.checked_abs().unwrap_or(i64::MAX).min(FAR));
        op.sizes[axis] = way.ceil_div(&stride).at_least(&Dim::ZERO);
        op.starts[axis] = if op.sizes[axis].is(0) { Dim::ZERO } else { start };
        op.steps[axis] = step.clamp(-FAR, FAR);
    }
    if op.steps.iter().all(|&s| s == 1) && op.sizes == shape && op.starts.iter().all(|s| s.is(0)) {
        return Ok(vec![x]);
    }
    Ok(vec![b.op(op, &[x])?])
}

/// Element `i` of a list of bounds: counted from the start, and clamped.
fn bound(b: &mut Builder, list: ValueId, i: usize, size: &Dim, low: &Dim, high: &Dim) -> Res<Dim> {
    let Some(known) = b.known(list) else { return data_bound(b, list, i, size, low, high) };
    let d = &known[i];
    let place = match d.as_const() {
        Some(c) if c.unsigned_abs() >= END as u64 => {
            b.at_most(size, &Dim::from(c.saturating_abs()), "an axis ends before a bound that means its end")?;
            return Ok(if c < 0 { low.clone() } else { high.clone() });
        }
        Some(c) if c < 0 => d + size,
        Some(_) => d.clone(),
        None if (&Dim::ZERO - d).lower_bound().is_some_and(|x| x >= 0) => d + size,
        None => {
            b.at_most(&Dim::ZERO, d, "a bound of a slice is not negative")?;
            d.clone()
        }
    };
    Ok(place.at_least(low).at_most(high))
}

/// A bound that is data: clamped by the program, then bound to a symbol.
fn data_bound(b: &mut Builder, list: ValueId, i: usize, size: &Dim, low: &Dim, high: &Dim) -> Res<Dim> {
    let list = b.cast(list, DType::I64)?;
    let count = b.constant_len(list, "bounds")?;
    let list = b.reshape(list, &[Dim::from(count)])?;
    let element = b.pick(list, 0, i as i64)?;
    let size = b.dim_scalar(DType::I64, size)?;
    let negative = b.compare_scalar(Pred::Lt, element, 0.0)?;
    let wrapped = b.add(element, size)?;
    let place = b.select(negative, wrapped, element)?;
    let (lowest, highest) = (b.dim_scalar(DType::I64, low)?, b.dim_scalar(DType::I64, high)?);
    let place = b.max(place, lowest)?;
    let place = b.min(place, highest)?;
    // Counted from the lowest, because symbols are not negative.
    let above = b.sub(place, lowest)?;
    Ok(&b.dim_of(above, "a bound of a slice")? + low)
}
