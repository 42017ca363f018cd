//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("DequantizeLinear", (2, 3), import_dequantize).attrs(&["axis", "block_size", "output_dtype"]),
    OnnxOp::new("DynamicQuantizeLinear", (1, 1), dynamic),
    OnnxOp::new("QuantizeLinear", (2, 3), import_quantize).attrs(&["axis", "block_size", "output_dtype", "precision", "saturate"]),
    OnnxOp::new("DequantizeLinear", (2, 3), import_dequantize).attrs(&["axis"]).domain("com.microsoft"),
    OnnxOp::new("QuantizeLinear", (2, 3), import_quantize).attrs(&["axis"]).domain("com.microsoft"),
];

/// Least and largest value of an integer type.
pub fn limits(t: DType) -> Res<(f64, f64)> {
    ensure!(t.is_int() && t.bits() <= 32, DTYPE, "quantization to {t} is not supported");
    let span = 2f64.powi(t.bits() as i32);
    Ok(if t.is_signed() { (-span / 2.0, span / 2.0 - 1.0) } else { (0.0, span - 1.0) })
}

/// `saturate(round(x / scale) + zero_point)`; scale and zero point broadcast against `x`.
pub fn quantize(b: &mut Builder, x: ValueId, scale: ValueId, zero: Option<ValueId>, to: DType) -> Res<ValueId> {
    let (low, high) = limits(to)?;
    let y = b.div(x, scale)?;
    let mut y = b.round(y)?;
    // 32-bit limits are beyond what f32 counts exactly, but so are the values that reach them.
    if let Some(zero) = zero {
        let wide = b.dtype(y);
        let zero = b.cast(zero, wide)?;
        y = b.add(y, zero)?;
    }
    let y = b.max_scalar(y, low)?;
    let y = b.min_scalar(y, high)?;
    b.cast(y, to)
}

/// `(x - zero_point) * scale`, with elements of the scale's type.
pub fn dequantize(b: &mut Builder, x: ValueId, scale: ValueId, zero: Option<ValueId>) -> Res<ValueId> {
    let t = b.dtype(scale);
    let x = match zero {
        Some(zero) if b.dtype(x).is_int() => {
            let (x, zero) = (b.cast(x, DType::I32)?, b.cast(zero, DType::I32)?);
            b.sub(x, zero)?
        }
        _ => x,
    };
    let x = b.cast(x, t)?;
    b.mul(x, scale)
}

fn import_quantize(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let to = match n.opt(2) {
        Some(zero) => b.dtype(zero),
        None => n.dtype("output_dtype", DType::U8)?,
    };
    let scale = spread(n, b, x, scale)?;
    let zero = n.opt(2).map(|z| spread(n, b, x, z)).transpose()?;
    let wide = match n.int("precision", 0)? {
        0 if b.dtype(x).is_float() => b.dtype(scale),
        0 => DType::F32,
        code => crate::node::supported(crate::tensor_data::dtype(code as i32)?)?,
    };
    let (x, scale) = (b.cast(x, wide)?, b.cast(scale, wide)?);
    if to.is_float() {
        ensure!(n.flag("saturate", true)?, ATTRIBUTE_VALUE, "`saturate` = 0 is not supported");
        let y = b.div(x, scale)?;
        return Ok(vec![b.cast(y, to)?]);
    }
    Ok(vec![quantize(b, x, scale, zero, to)?])
}

fn import_dequantize(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let scale = spread(n, b, x, scale)?;
    let zero = n.opt(2).map(|z| spread(n, b, x, z)).transpose()?;
    let y = dequantize(b, x, scale, zero)?;
    let to = n.dtype("output_dtype", b.dtype(y))?;
    Ok(vec![b.cast(y, to)?])
}

/// A scale or zero point in a form that broadcasts against `x`: one for all, for each slice of an axis, or for each block.
fn spread(n: &Node, b: &mut Builder, x: ValueId, p: ValueId) -> Res<ValueId> {
    let (shape, own) = (b.shape(x), b.shape(p));
    if own.is_empty() || (own.len() == 1 && own[0].is(1)) {
        return b.reshape(p, &[]);
    }
    let axis = b.axis(n.int("axis", 1)?, shape.len())?;
    let block = n.int("block_size", 0)?;
    if block == 0 {
        ensure!(own.len() == 1, TYPES, "the scale has {} axes, expected one", own.len());
        b.equal(&own[0], &shape[axis], "one scale for each slice of the axis")?;
        return b.along(p, axis, shape.len());
    }
    ensure!(block > 0 && own.len() == shape.len(), TYPES, "blocks of {block} with a scale of {} axes", own.len());
    let mut split = own.clone();
    split.insert(axis + 1, Dim::ONE);
    let p = b.reshape(p, &split)?;
    split[axis + 1] = Dim::from(block);
    let p = b.broadcast(p, &split)?;
    let mut joined = own;
    joined[axis] = &joined[axis] * &Dim::from(block);
    let p = b.reshape(p, &joined)?;
    // The last block may be cut short.
    b.slice(p, axis, &Dim::ZERO, &shape[axis])
}

fn dynamic(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    if b.dtype(x) != DType::F32 {
        bail!(DTYPE, "does not apply to {}", b.dtype(x));
    }
    let axes: Vec<usize> = (0..b.rank(x)).collect();
    let high = b.reduce(ReduceFn::Max, x, &axes, false)?;
    let low = b.reduce(ReduceFn::Min, x, &axes, false)?;
    let (high, low) = (b.max_scalar(high, 0.0)?, b.min_scalar(low, 0.0)?);
    let range = b.sub(high, low)?;
    let scale = b.div_scalar(range, 255.0)?;
    let shift = b.neg(low)?;
    let zero = b.div(shift, scale)?;
    let zero = b.max_scalar(zero, 0.0)?;
    let zero = b.min_scalar(zero, 255.0)?;
    let zero = b.round(zero)?;
    let zero = b.cast(zero, DType::U8)?;
    let y = quantize(b, x, scale, Some(zero), DType::U8)?;
    Ok(vec![y, scale, zero])
}
