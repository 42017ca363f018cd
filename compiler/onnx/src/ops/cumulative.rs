//! CumSum and CumProd.

use xlac_ir::graph::ValueId;
use xlac_ir::ops::Cumulate;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::Res;
use crate::node::Node;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("CumProd", (2, 2), |n, b| cumulate(n, b, ReduceFn::Prod)).attrs(&["exclusive", "reverse"]),
    OnnxOp::new("CumSum", (2, 2), |n, b| cumulate(n, b, ReduceFn::Sum)).attrs(&["exclusive", "reverse"]),
];

fn cumulate(n: &Node, b: &mut Builder, f: ReduceFn) -> Res<Vec<ValueId>> {
    let x = n.input(0)?;
    let axis = b.axis(b.constant_int(n.input(1)?, "the input `axis`")?, b.rank(x))?;
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    Ok(vec![b.op(Cumulate { f, axis, exclusive, reverse }, &[x])?])
}
