//! LRN: each element divided by the size of its neighbours across channels.

use xlac_ir::dim::Dim;
use xlac_ir::ops::Pool;
use xlac_ir::ops::pool::PoolFn;

use crate::fail::ensure;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("LRN", (1, 1), |n, b| {
    let x = n.input(0)?;
    let shape = b.shape(x);
    ensure!(shape.len() >= 2, TYPES, "the input has {} axes, expected at least 2", shape.len());
    n.int_required("size")?;
    let size = n.size("size", 1)?;
    let square = b.mul(x, x)?;
    // Channels as a spatial axis: the sum over neighbours is a pool.
    let rest = Dim::product(&shape[2..]);
    let plane = b.reshape(square, &[shape[0].clone(), Dim::ONE, shape[1].clone(), rest.clone()])?;
    let pool = Pool {
        f: PoolFn::Sum,
        kernel: vec![size, 1],
        strides: vec![1, 1],
        before: vec![Dim::from((size - 1) / 2), Dim::ZERO],
        after: vec![Dim::from(size / 2), Dim::ZERO],
        dilations: vec![1, 1],
        sizes: vec![shape[1].clone(), rest],
    };
    let sum = b.op(pool, &[plane])?;
    let sum = b.reshape(sum, &shape)?;
    let scaled = b.mul_scalar(sum, f64::from(n.float("alpha", 1e-4)?) / size as f64)?;
    let base = b.add_scalar(scaled, f64::from(n.float("bias", 1.0)?))?;
    let beta = b.scalar(b.dtype(x), f64::from(n.float("beta", 0.75)?));
    let divisor = b.pow(base, beta)?;
    Ok(vec![b.div(x, divisor)?])
})
.attrs(&["alpha", "beta", "bias", "size"])];
