//! LpNormalization: divides by the 1-norm or 2-norm along an axis; what has norm 0 stays 0.

use xlac_ir::kernel::Pred;
use xlac_ir::ops::reduce::ReduceFn;

use crate::fail::bail;
use crate::ops::OnnxOp;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("LpNormalization", (1, 1), |n, b| {
    let x = n.input(0)?;
    let axis = b.axis(n.int("axis", -1)?, b.rank(x))?;
    let norm = match n.int("p", 2)? {
        1 => {
            let a = b.abs(x)?;
            b.reduce(ReduceFn::Sum, a, &[axis], true)?
        }
        2 => {
            let square = b.mul(x, x)?;
            let sum = b.reduce(ReduceFn::Sum, square, &[axis], true)?;
            b.sqrt(sum)?
        }
        p => bail!(ATTRIBUTE_VALUE, "`p` cannot be {p}: 1 and 2 are possible"),
    };
    let y = b.div(x, norm)?;
    let zero = b.compare_scalar(Pred::Eq, norm, 0.0)?;
    let nothing = b.scalar(b.dtype(x), 0.0);
    Ok(vec![b.select(zero, nothing, y)?])
})
.attrs(&["axis", "p"])];
