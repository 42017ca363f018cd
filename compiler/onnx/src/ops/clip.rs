//! Clip: bounds as attributes (before opset 11) or as optional inputs.

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Clip", (1, 3), |n, b| {
    let mut x = n.input(0)?;
    let t = b.dtype(x);
    let (low, high) = match n.opset {
        ..11 => {
            // The defaults are the whole range: leaving them out changes nothing, not even for NaN.
            let low = n.float_opt("min")?.filter(|&v| v > f32::MIN);
            let high = n.float_opt("max")?.filter(|&v| v < f32::MAX);
            (low.map(|v| b.scalar(t, f64::from(v))), high.map(|v| b.scalar(t, f64::from(v))))
        }
        _ => {
            ensure!(!n.has("min") && !n.has("max"), UNKNOWN_ATTRIBUTE, "`min` and `max` are inputs since opset 11");
            (n.opt(1), n.opt(2))
        }
    };
    if let Some(low) = low {
        let low = b.reshape(low, &[])?;
        x = b.max(x, low)?;
    }
    if let Some(high) = high {
        let high = b.reshape(high, &[])?;
        x = b.min(x, high)?;
    }
    Ok(vec![x])
})
.attrs(&["min", "max", "consumed_inputs"])];
