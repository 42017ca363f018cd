//! Resize and Upsample: for each axis the places to read from, computed from counts, and weighted sums of what is there.

mod axis;
mod factors;

use xlac_ir::DType;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub use axis::cubic_weight;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("Resize", (1, 4), import).attrs(&[
        "antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value",
        "keep_aspect_ratio_policy", "mode", "nearest_mode",
    ]),
    OnnxOp::new("Upsample", (1, 2), import).attrs(&["height_scale", "mode", "scales", "width_scale"]),
];

/// How elements between places are made.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode { Nearest, Linear, Cubic }

/// What the attributes ask for.
pub struct Settings<'m> {
    pub mode: Mode,
    /// Where an output element lies in the input.
    pub coordinates: &'m str,
    /// How places are rounded for the nearest element.
    pub rounding: &'m str,
    pub cubic_a: f32,
    pub exclude_outside: bool,
    pub extrapolation: f32,
    pub antialias: bool,
}

fn import<'m>(n: &Node<'m>, b: &mut Builder<'m>) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let t = b.dtype(x);
    let settings = settings(n)?;
    let factors = factors::factors(n, b, x)?;
    let exact = settings.mode == Mode::Nearest && settings.coordinates != "tf_crop_and_resize";
    // Weighted sums of integers and narrow floats are made in f32 and rounded once.
    let wide = if exact || t == DType::F64 { t } else { DType::F32 };
    let mut y = b.cast(x, wide)?;
    let mut outside: Option<ValueId> = None;
    for factor in factors {
        y = axis::resize(b, y, &factor, &settings, &mut outside)?;
    }
    if let Some(outside) = outside {
        let value = b.scalar(wide, f64::from(settings.extrapolation));
        y = b.select(outside, value, y)?;
    }
    Ok(vec![b.cast(y, t)?])
}

fn settings<'m>(n: &Node<'m>) -> Res<Settings<'m>> {
    let mode = match n.word("mode", "nearest")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        other => bail!(ATTRIBUTE_VALUE, "`mode` cannot be `{other}`"),
    };
    let legacy = n.proto.op_type == "Upsample" || n.opset < 11;
    let coordinates = if legacy { "asymmetric" } else { n.word("coordinate_transformation_mode", "half_pixel")? };
    let known = [
        "align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "tf_crop_and_resize",
        "tf_half_pixel_for_nn",
    ];
    ensure!(known.contains(&coordinates), ATTRIBUTE_VALUE, "`coordinate_transformation_mode` cannot be `{coordinates}`");
    let rounding = if legacy { "floor" } else { n.word("nearest_mode", "round_prefer_floor")? };
    ensure!(
        ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"].contains(&rounding),
        ATTRIBUTE_VALUE, "`nearest_mode` cannot be `{rounding}`"
    );
    Ok(Settings {
        mode,
        coordinates,
        rounding,
        cubic_a: n.float("cubic_coeff_a", -0.75)?,
        exclude_outside: n.flag("exclude_outside", false)?,
        extrapolation: n.float("extrapolation_value", 0.0)?,
        antialias: n.flag("antialias", false)?,
    })
}
