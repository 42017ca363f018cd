//! FusedConv of onnxruntime: a convolution, a bias, a summand and an activation.

use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, bail};
use crate::node::Node;
use crate::ops::{OnnxOp, conv};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("FusedConv", (2, 4), |n, b| {
    let x = n.input(0)?;
    let y = conv::convolution(n, b, x, n.input(1)?, b.dtype(x))?;
    let mut y = conv::bias(b, y, n.opt(2))?;
    if let Some(z) = n.opt(3) {
        y = b.add(y, z)?;
    }
    Ok(vec![activation(n, b, y)?])
})
.attrs(&["activation", "activation_params", "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])
.domain("com.microsoft")];

fn activation(n: &Node, b: &mut Builder, x: ValueId) -> Res<ValueId> {
    let params: Vec<f64> = n.floats("activation_params")?.unwrap_or(&[]).iter().map(|&p| f64::from(p)).collect();
    let x = match (n.word("activation", "")?, params.as_slice()) {
        ("", _) => x,
        ("Relu", _) => b.max_scalar(x, 0.0)?,
        ("Tanh", _) => b.tanh(x)?,
        ("Sigmoid", _) => b.sigmoid(x)?,
        ("LeakyRelu", [alpha]) => {
            let scaled = b.mul_scalar(x, *alpha)?;
            let negative = b.compare_scalar(xlac_ir::kernel::Pred::Lt, x, 0.0)?;
            b.select(negative, scaled, x)?
        }
        ("Clip", [low, high]) => {
            let y = b.max_scalar(x, *low)?;
            b.min_scalar(y, *high)?
        }
        ("HardSigmoid", [alpha, beta]) => {
            let y = b.mul_scalar(x, *alpha)?;
            let y = b.add_scalar(y, *beta)?;
            let y = b.max_scalar(y, 0.0)?;
            b.min_scalar(y, 1.0)?
        }
        (name, _) => bail!(ATTRIBUTE_VALUE, "activation `{name}` with {} parameters is not supported", params.len()),
    };
    Ok(x)
}
