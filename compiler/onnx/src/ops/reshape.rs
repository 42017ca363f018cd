//! Reshape: 0 copies a size, -1 takes what is left.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Reshape", (1, 2), |n, b| {
    let x = n.input(0)?;
    let allow_zero = n.flag("allowzero", false)?;
    let shape = wanted(n, b, x, allow_zero)?;
    Ok(vec![b.reshape(x, &resolve(b, x, shape, allow_zero)?)?])
})
.attrs(&["allowzero", "consumed_inputs", "shape"])];

/// The shape as it is asked for: with 0 and -1, unless it is data.
fn wanted(n: &Node, b: &mut Builder, x: ValueId, allow_zero: bool) -> Res<Vec<Dim>> {
    if n.opset < 5 && n.has("shape") {
        return Ok(n.ints_required("shape")?.iter().map(|&d| Dim::from(d)).collect());
    }
    let shape = n.input(1)?;
    ensure!(b.rank(shape) == 1, TYPES, "the shape has {} axes, expected one", b.rank(shape));
    if b.known(shape).is_some() {
        return b.dims_of(shape, "the shape");
    }
    // Symbols are sizes, so what 0 and -1 mean is computed before the shape is bound.
    let wanted = b.cast(shape, DType::I64)?;
    let filled = if allow_zero { wanted } else { copied_sizes(b, x, wanted)? };
    let total = b.ty(x).elements();
    let total = b.dim_scalar(DType::I64, &total)?;
    let product = b.reduce(ReduceFn::Prod, filled, &[0], false)?;
    let others = b.neg(product)?;
    let others = b.max_scalar(others, 1.0)?;
    let rest = b.div(total, others)?;
    let open = b.compare_scalar(Pred::Lt, filled, 0.0)?;
    let sizes = b.select(open, rest, filled)?;
    b.dims_of(sizes, "the shape")
}

fn copied_sizes(b: &mut Builder, x: ValueId, wanted: ValueId) -> Res<ValueId> {
    let count = b.constant_len(wanted, "the shape")?;
    let mut own = b.shape(x);
    own.resize(count, Dim::ZERO);
    let own = b.dims_value(DType::I64, &[count], &own)?;
    let zero = b.compare_scalar(Pred::Eq, wanted, 0.0)?;
    b.select(zero, own, wanted)
}

/// 0 and -1 replaced.
fn resolve(b: &Builder, x: ValueId, mut shape: Vec<Dim>, allow_zero: bool) -> Res<Vec<Dim>> {
    let own = b.shape(x);
    for (axis, d) in shape.iter_mut().enumerate() {
        if d.is(0) && !allow_zero {
            ensure!(axis < own.len(), TYPES, "size 0 at axis {axis} copies from an input of rank {}", own.len());
            *d = own[axis].clone();
        }
    }
    let open: Vec<usize> = (0..shape.len()).filter(|&a| shape[a].is(-1)).collect();
    let negative = shape.iter().filter_map(Dim::as_const).find(|&d| d < -1);
    ensure!(negative.is_none(), TYPES, "the shape holds {}", negative.unwrap_or(0));
    ensure!(open.len() <= 1, TYPES, "the shape holds -1 more than once");
    if let [axis] = open[..] {
        let others = Dim::product(shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, d)| d));
        let total = Dim::product(&own);
        ensure!(!others.is(0) || total.is(0), TYPES, "-1 cannot be found beside a size of 0");
        ensure!(!others.is(0) || !allow_zero, TYPES, "the shape holds both 0 and -1");
        if let (Some(t), Some(o)) = (total.as_const(), others.as_const()) {
            ensure!(o == 0 || t % o == 0, TYPES, "{t} elements do not fit into {shape:?}");
        }
        shape[axis] = total.floor_div(&others);
    }
    Ok(shape)
}
