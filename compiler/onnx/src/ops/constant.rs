//! Constant: a value in one of several forms.

use xlac_ir::DType;
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;

use crate::fail::bail;
use crate::ops::OnnxOp;
use crate::tensor_data;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Constant", (0, 0), |n, b| {
    let budget = b.options.limits.tensor_bytes;
    let tensor = if let Some(t) = n.tensor("value")? {
        tensor_data::tensor(t, &mut b.external, budget)?
    } else if let Some(t) = n.sparse_tensor("sparse_value")? {
        tensor_data::sparse(t, &mut b.external, budget)?
    } else if let Some(x) = n.float_opt("value_float")? {
        Tensor::scalar(Const::f32(x))
    } else if let Some(x) = n.floats("value_floats")? {
        Tensor::from_f32(vec![x.len()], x)
    } else if let Some(x) = n.int_opt("value_int")? {
        Tensor::scalar(Const::i64(x))
    } else if let Some(x) = n.ints("value_ints")? {
        Tensor::from_i64(vec![x.len()], x)
    } else if n.has("value_string") || n.has("value_strings") {
        bail!(DTYPE, "element type {} is not supported", DType::String)
    } else {
        bail!(MISSING_ATTRIBUTE, "a constant without a value")
    };
    let name = n.proto.output.first().map_or("const", String::as_str);
    Ok(vec![b.named_constant(&crate::node::clean(name), tensor)])
})
.attrs(&["sparse_value", "value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"])];
