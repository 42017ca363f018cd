//! By how much each axis is resized: from scales, sizes or attributes.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;

/// One axis that is resized.
pub struct Factor {
    pub axis: usize,
    /// Size of the result.
    pub size: Dim,
    /// f32 scalar: size of the result over that of the input, as given or as computed.
    pub scale: ValueId,
    /// f32 scalar: size of the result before it was rounded down.
    pub exact: ValueId,
    /// f32 scalars: the part of the axis that is read, for `tf_crop_and_resize`.
    pub roi: Option<(ValueId, ValueId)>,
}

/// The axes a node resizes.
pub fn factors(n: &Node, b: &mut Builder, x: ValueId) -> Res<Vec<Factor>> {
    let shape = b.shape(x);
    let rank = shape.len();
    let axes = match n.ints("axes")? {
        Some(a) => b.axes(a, rank)?,
        None => (0..rank).collect(),
    };
    let legacy = n.proto.op_type == "Upsample" || n.opset < 11;
    let (scales, sizes) = match (legacy, n.opset) {
        (true, ..9) => {
            let given = n.floats("scales")?.unwrap_or(&[]);
            (Some(b.constant(xlac_ir::tensor::Tensor::from_f32(vec![given.len()], given))), None)
        }
        (true, _) => (Some(n.input(1)?), None),
        (false, _) => (n.opt(2).filter(|&v| !b.shape(v).iter().any(|d| d.is(0))), n.opt(3).filter(|&v| !b.shape(v).iter().any(|d| d.is(0)))),
    };
    let crop = !legacy && n.word("coordinate_transformation_mode", "half_pixel")? == "tf_crop_and_resize";
    let mut factors = match (scales, sizes) {
        (_, Some(sizes)) => from_sizes(n, b, &shape, &axes, sizes)?,
        (Some(scales), None) => from_scales(b, &shape, &axes, scales)?,
        (None, None) => bail!(ARITY, "one of the inputs `scales` and `sizes` is required"),
    };
    if crop {
        let roi = b.cast(n.input(1)?, DType::F32)?;
        ensure!(b.constant_len(roi, "the input `roi`")? == 2 * axes.len(), TYPES, "`roi` does not fit {} axes", axes.len());
        for (i, f) in factors.iter_mut().enumerate() {
            f.roi = Some((b.pick(roi, 0, i as i64)?, b.pick(roi, 0, (axes.len() + i) as i64)?));
        }
    }
    // Axes that stay as they are; with a region of interest even these may move.
    factors.retain(|f| crop || f.size != shape[f.axis] || !b.tensor(f.scale).is_none_or(|s| s.to_f64() == [1.0]));
    Ok(factors)
}

fn from_scales(b: &mut Builder, shape: &[Dim], axes: &[usize], scales: ValueId) -> Res<Vec<Factor>> {
    let scales = b.cast(scales, DType::F32)?;
    ensure!(b.constant_len(scales, "the input `scales`")? == axes.len(), TYPES, "`scales` does not fit {} axes", axes.len());
    let known = b.tensor(scales).map(|t| t.to_f32());
    let mut out = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let scale = b.pick(scales, 0, i as i64)?;
        let size = match known.as_ref().map(|k| k[i]) {
            Some(s) => scaled_size(b, &shape[axis], s, scale)?,
            None => size_from_data(b, &shape[axis], scale)?,
        };
        let old = b.dim_scalar(DType::F32, &shape[axis])?;
        let exact = b.mul(old, scale)?;
        out.push(Factor { axis, size, scale, exact, roi: None });
    }
    Ok(out)
}

/// `floor(size * scale)` for a known scale.
fn scaled_size(b: &mut Builder, size: &Dim, scale: f32, value: ValueId) -> Res<Dim> {
    ensure!(scale > 0.0 && scale < 1e9, BAD_SIZE, "a scale of {scale}");
    let (up, down) = (scale.round(), (1.0 / scale).round());
    Ok(match size.as_const() {
        Some(d) => Dim::from((d as f32 * scale).floor() as i64),
        None if up == scale => size * &Dim::from(up as i64),
        None if 1.0 / down == scale => size.floor_div(&Dim::from(down as i64)),
        None => size_from_data(b, size, value)?,
    })
}

fn size_from_data(b: &mut Builder, size: &Dim, scale: ValueId) -> Res<Dim> {
    let size = b.dim_scalar(DType::F32, size)?;
    let size = b.mul(size, scale)?;
    let size = b.floor(size)?;
    let size = b.cast(size, DType::I64)?;
    b.dim_of(size, "a scaled size")
}

fn from_sizes(n: &Node, b: &mut Builder, shape: &[Dim], axes: &[usize], sizes: ValueId) -> Res<Vec<Factor>> {
    let mut sizes = b.dims_of(sizes, "the input `sizes`")?;
    ensure!(sizes.len() == axes.len(), TYPES, "`sizes` has {} elements for {} axes", sizes.len(), axes.len());
    let policy = n.word("keep_aspect_ratio_policy", "stretch")?;
    let mut common = None;
    if policy != "stretch" {
        let mut ratios = Vec::new();
        for (&axis, size) in axes.iter().zip(&sizes) {
            let (Some(old), Some(new)) = (shape[axis].as_const(), size.as_const()) else {
                bail!(UNSUPPORTED_FORM, "`keep_aspect_ratio_policy` = `{policy}` needs sizes known at import")
            };
            ratios.push((old as f64, new as f64 / old as f64));
        }
        let pick = match policy {
            "not_larger" => f64::min,
            "not_smaller" => f64::max,
            _ => bail!(ATTRIBUTE_VALUE, "`keep_aspect_ratio_policy` cannot be `{policy}`"),
        };
        let ratio = ratios.iter().map(|r| r.1).reduce(pick).unwrap_or(1.0);
        sizes = ratios.iter().map(|(old, _)| Dim::from((old * ratio + 0.5).floor() as i64)).collect();
        common = Some(b.scalar(DType::F32, ratio));
    }
    let mut out = Vec::new();
    for (&axis, size) in axes.iter().zip(sizes) {
        let exact = b.dim_scalar(DType::F32, &size)?;
        let scale = match common {
            Some(s) => s,
            None => {
                let old = b.dim_scalar(DType::F32, &shape[axis])?;
                b.div(exact, old)?
            }
        };
        out.push(Factor { axis, size, scale, exact, roi: None });
    }
    Ok(out)
}
