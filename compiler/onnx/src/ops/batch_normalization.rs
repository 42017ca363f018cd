//! BatchNormalization: by the given statistics, or by those of the batch in training mode; and InstanceNormalization.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::norm::{deviation, moments, normalize, scale_along};
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("BatchNormalization", (5, 5), batch).attrs(&[
        "consumed_inputs", "epsilon", "is_test", "momentum", "spatial", "training_mode",
    ]),
    OnnxOp::new("InstanceNormalization", (3, 3), |n, b| {
        let x = n.input(0)?;
        let axes: Vec<usize> = (2..b.rank(x)).collect();
        ensure!(!axes.is_empty(), TYPES, "the input has {} axes, expected at least 3", b.rank(x));
        let y = normalize(b, x, &axes, n.float("epsilon", 1e-5)?)?.y;
        Ok(vec![scale_along(b, y, n.input(1)?, n.input(2)?, 1)?])
    })
    .attrs(&["consumed_inputs", "epsilon"]),
];

fn batch(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let t = b.dtype(x);
    ensure!(b.rank(x) >= 2, TYPES, "the input has {} axes, expected at least 2", b.rank(x));
    ensure!(n.flag("spatial", true)?, ATTRIBUTE_VALUE, "`spatial` = 0 is not supported");
    let epsilon = n.float("epsilon", 1e-5)?;
    // Statistics may have another float type since opset 14: then everything is computed in the wider one.
    let params: Vec<ValueId> = (1..5).map(|i| n.input(i)).collect::<Res<_>>()?;
    let wide = if params.iter().all(|&p| b.dtype(p) == t) { t } else { DType::F32.max_precision(t, &params, b) };
    let x = b.cast(x, wide)?;
    let params: Vec<ValueId> = params.into_iter().map(|p| b.cast(p, wide)).collect::<Res<_>>()?;
    let channels = b.shape(x)[1].clone();
    for &p in &params {
        let size = b.ty(p).elements();
        b.equal(&channels, &size, "channels of input and statistics")?;
    }
    let [scale, bias, mean, variance] = params[..] else { return Ok(Vec::new()) };
    if n.opset >= 14 && n.flag("training_mode", false)? {
        return training(n, b, x, [scale, bias, mean, variance], t);
    }
    let deviation = deviation(b, variance, epsilon)?;
    let factor = b.div(scale, deviation)?;
    let shift = b.mul(mean, factor)?;
    let shift = b.sub(bias, shift)?;
    let y = scale_along(b, x, factor, shift, 1)?;
    Ok(vec![b.cast(y, t)?])
}

/// By the statistics of the batch; also gives the running ones.
fn training(n: &Node, b: &mut Builder, x: ValueId, params: [ValueId; 4], t: DType) -> Res<Vec<ValueId>> {
    let [scale, bias, mean, variance] = params;
    let axes: Vec<usize> = (0..b.rank(x)).filter(|&a| a != 1).collect();
    let (batch_mean, centered, batch_variance) = moments(b, x, &axes)?;
    let deviation = deviation(b, batch_variance, n.float("epsilon", 1e-5)?)?;
    let y = b.div(centered, deviation)?;
    let y = scale_along(b, y, scale, bias, 1)?;
    let momentum = f64::from(n.float("momentum", 0.9)?);
    let mut outputs = vec![b.cast(y, t)?];
    for (running, batch) in [(mean, batch_mean), (variance, batch_variance)] {
        let flat: Vec<Dim> = b.shape(running);
        let batch = b.reshape(batch, &flat)?;
        let old = b.mul_scalar(running, momentum)?;
        let new = b.mul_scalar(batch, 1.0 - momentum)?;
        outputs.push(b.add(old, new)?);
    }
    Ok(outputs)
}

/// Choice among float types.
trait Widest {
    fn max_precision(self, t: DType, params: &[ValueId], b: &Builder) -> DType;
}

impl Widest for DType {
    fn max_precision(self, t: DType, params: &[ValueId], b: &Builder) -> DType {
        params.iter().map(|&p| b.dtype(p)).chain([t, self]).max_by_key(|d| d.bits()).unwrap_or(self)
    }
}
