//! ConstantOfShape: one value in every element of a shape.

use crate::fail::ensure;
use crate::ops::OnnxOp;
use crate::tensor_data;
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("ConstantOfShape", (1, 1), |n, b| {
    let shape = b.dims_of(n.input(0)?, "the shape")?;
    let value = match n.tensor("value")? {
        None => Tensor::scalar(Const::f32(0.0)),
        Some(t) => tensor_data::tensor(t, &mut b.external, b.options.limits.tensor_bytes)?,
    };
    ensure!(value.len() == 1, ATTRIBUTE_VALUE, "`value` has {} elements, expected one", value.len());
    let scalar = b.constant(value.reshaped(Vec::new()));
    Ok(vec![b.broadcast(scalar, &shape)?])
})
.attrs(&["value"])];
