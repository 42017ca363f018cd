//! MeanVarianceNormalization: `(x - mean) / (sqrt(mean(x^2) - mean^2) + 1e-9)`.

use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("MeanVarianceNormalization", (1, 1), |n, b| {
    let x = n.input(0)?;
    let axes = b.axes(n.ints("axes")?.unwrap_or(&[0, 2, 3]), b.rank(x))?;
    let mean = b.mean(x, &axes, true)?;
    let square = b.mul(x, x)?;
    let mean_of_squares = b.mean(square, &axes, true)?;
    let square_of_mean = b.mul(mean, mean)?;
    let variance = b.sub(mean_of_squares, square_of_mean)?;
    let deviation = b.sqrt(variance)?;
    let deviation = b.add_scalar(deviation, 1e-9)?;
    let centered = b.sub(x, mean)?;
    Ok(vec![b.div(centered, deviation)?])
})
.attrs(&["axes"])];
