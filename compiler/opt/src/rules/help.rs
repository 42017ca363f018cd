//! What several rules share.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::elementwise::BinaryFn;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Const;
use xlac_ir::ops::reduce::ReduceFn;
use xlac_ir::ops::{self, Op};
use xlac_ir::tensor::Tensor;

use crate::edit::{Edit, Ref, constant_data};
use crate::rule::{Match, Miss, miss};

/// `0, 1, ..., n - 1`?
pub fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &p)| i == p)
}

/// A reshape to `shape`.
pub fn reshape(shape: &[Dim]) -> Op {
    ops::Reshape { shape: shape.to_vec() }.into()
}

/// True if constant `name` has the number `x` and does not widen the shape of variable `other`.
pub fn is_neutral(m: &Match, name: &str, x: f64, other: &str) -> bool {
    m.number(name) == Some(x) && m.same_type(other)
}

/// A constant power of two whose reciprocal has no rounding error, as that reciprocal.
pub fn exact_reciprocal(c: Const) -> Option<Const> {
    let x = f64::from_bits(xlac_ir::scalar::convert(c, xlac_ir::DType::F64).bits);
    let r = Const::number(c.dtype, 1.0 / x);
    let back = f64::from_bits(xlac_ir::scalar::convert(r, xlac_ir::DType::F64).bits);
    let is_power = x != 0.0 && x.is_finite() && x.to_bits() & ((1 << 52) - 1) == 0;
    (is_power && back == 1.0 / x && back.is_finite() && back != 0.0).then_some(r)
}

/// `f` of two constants; refuses results that are not finite where the operands were.
pub fn combine(m: &Match, f: BinaryFn, a: &Tensor, b: &Tensor) -> Result<Tensor, Miss> {
    let result = m.eval(Op::Binary(f), &[a.clone(), b.clone()])?;
    if a.dtype.is_float() && !is_finite(&result) {
        return miss("the combined constant is not finite");
    }
    Ok(result)
}

/// True if every element is a number.
pub fn is_finite(t: &Tensor) -> bool {
    match t.dtype {
        xlac_ir::DType::F32 => t.data.chunks_exact(4).all(|b| b[3] & 0x7f != 0x7f || b[2] & 0x80 == 0),
        _ => t.to_f64().iter().all(|x| x.is_finite()),
    }
}

/// The constant behind a value, with a message if it has none.
pub fn data_of(m: &Match, value: ValueId) -> Result<Tensor, Miss> {
    constant_data(m.program, value).ok_or_else(|| Miss("an operand is not constant".into()))
}

/// Constant `c` as one number for each of `n` channels on `axis` of a result of `rank` axes, or as one number.
pub fn per_channel(c: &Tensor, axis: usize, n: &Dim, rank: usize) -> Result<Tensor, Miss> {
    if c.len() == 1 && c.shape.len() <= rank {
        return Ok(c.reshaped(vec![1]));
    }
    let aligned = rank.checked_sub(c.shape.len()).ok_or_else(|| Miss("the constant has more axes".into()))?;
    let others_are_one = c.shape.iter().enumerate().all(|(i, &d)| d == 1 || i + aligned == axis);
    if !others_are_one || !n.is(c.len() as i64) {
        return miss("the constant is not one number for each channel");
    }
    Ok(c.reshaped(vec![c.len()]))
}

/// `t` (one number, or one for each channel) shaped to stand along `axis` of `rank` axes.
pub fn along(t: &Tensor, axis: usize, rank: usize) -> Tensor {
    let mut shape = vec![1; rank];
    shape[axis] = t.len();
    t.reshaped(shape)
}

/// True if `value` is a contraction with constant weights that only the match uses, possibly after an addition of a
/// constant: scales and shifts after it belong into the weights.
pub fn is_scalable(m: &Match, value: ValueId) -> bool {
    is_scalable_used(m, value, 1)
}

/// [`is_scalable`] of a value that is used `uses` times by the match.
pub fn is_scalable_used(m: &Match, value: ValueId, uses: u32) -> bool {
    let graph = &m.program.graph;
    let constant = |v: ValueId| graph.producer(v).is_some_and(|n| crate::edit::is_constant(&n.op));
    let (mut at, mut uses) = (value, uses);
    for _ in 0..8 {
        let Some(node) = graph.producer(at).filter(|_| m.uses(at) <= uses) else { return false };
        uses = 1;
        match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => {
                let floats = graph.ty(node.inputs[1]).dtype == graph.ty(at).dtype && graph.ty(at).dtype.is_float();
                return constant(node.inputs[1]) && floats;
            }
            Op::Binary(BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul | BinaryFn::Div) => {
                let [a, b] = node.inputs[..] else { return false };
                at = match (constant(a), constant(b)) {
                    (false, true) => a,
                    (true, false) => b,
                    _ => return false,
                };
            }
            _ => return false,
        }
    }
    false
}

/// True for values that are constants.
pub fn is_constant_value(m: &Match, value: ValueId) -> bool {
    m.program.graph.producer(value).is_some_and(|n| crate::edit::is_constant(&n.op))
}

/// True if no element is NaN.
pub fn is_number(t: &Tensor) -> bool {
    t.to_f64().iter().all(|x| !x.is_nan())
}

/// True if every element is finite and neither zero nor so small that it has lost digits.
pub fn is_normal(t: &Tensor) -> bool {
    let smallest = if t.dtype == xlac_ir::DType::F16 { 6.2e-5 } else { 1.2e-38 };
    t.to_f64().iter().all(|x| x.is_finite() && x.abs() >= smallest)
}

/// True if the matched value has the type that a labelled node gives.
pub fn keeps_shape(m: &Match, label: &str) -> bool {
    m.program.graph.ty(m.node(label).outputs[0]) == m.root_ty()
}

/// True if a pad leaves batch and channels alone and removes nothing.
pub fn pads_spatial_axes(m: &Match, pad: &ops::Pad) -> bool {
    let all = || pad.before.iter().enumerate().chain(pad.after.iter().enumerate());
    all().all(|(axis, d)| if axis < 2 { d.is(0) } else { m.at_least(d) >= 0 })
}

/// `perm` with the last two axes exchanged, if that puts the innermost axis back in its place.
pub fn without_last_swap(perm: &[usize]) -> Option<Vec<usize>> {
    let last = perm.len().checked_sub(1).filter(|&l| l > 0)?;
    let mut swapped = perm.to_vec();
    swapped.swap(last - 1, last);
    (swapped[last] == last).then_some(swapped)
}

/// True if node `cast` makes an integer that holds every value of the 8-bit integer `x`.
pub fn widens_byte(m: &Match, x: &str, cast: &str) -> bool {
    let to = m.program.graph.ty(m.node(cast).outputs[0]).dtype;
    let signs = match m.ty(x).dtype {
        DType::I8 => to.is_signed(),
        DType::U8 => true,
        _ => false,
    };
    signs && to.is_int() && to.bits() > 8 && to.bits() <= m.root_ty().dtype.bits()
}

/// Axis of the constant second operand `w` of contraction `k` that is that of the result's columns or channels.
pub fn column_axis(m: &Match) -> usize {
    match &m.node("k").op {
        Op::MatMul(product) => m.ty("w").rank() - if product.trans_b { 2 } else { 1 },
        _ => 0,
    }
}

/// The axis of the result of contraction `k` that it becomes.
pub fn result_axis(m: &Match) -> usize {
    match &m.node("k").op {
        Op::MatMul(_) => m.root_ty().rank() - 1,
        _ => 1,
    }
}

/// True if contraction `k` sums products of neighbouring elements, so that 8-bit ones are taken four at a time: not along
/// columns of the first operand, and for windows along enough channels. Its weights are a matrix or filters.
pub fn terms_lie_together(m: &Match) -> bool {
    let shape = m.shape("w");
    match &m.node("k").op {
        Op::MatMul(product) => !product.trans_a && shape.len() == 2,
        _ => m.at_least(&shape[1]) >= 8,
    }
}

/// What the weights `w` of contraction `k` add up to for each column or channel, shaped to stand along that axis of the result.
pub fn sums_of_weights(m: &Match) -> Result<Tensor, Miss> {
    let (columns, dtype) = (column_axis(m), m.root_ty().dtype);
    let wide = m.eval(ops::Cast { to: dtype }, &[m.data("w")?])?;
    let axes = (0..wide.shape.len()).filter(|&a| a != columns).collect();
    let sums = m.eval(ops::Reduce { f: ReduceFn::Sum, axes }, &[wide])?;
    Ok(along(&sums, result_axis(m), m.root_ty().rank()))
}

/// The square root of a scale that is one positive number.
pub fn root_of_scale(m: &Match, c: &str) -> Result<f64, Miss> {
    match m.number(c).map(f64::sqrt) {
        Some(s) if s.is_normal() => Ok(s),
        _ => miss("the scale is not one positive number"),
    }
}

/// `scale * x * clamp(scale * x + by * a, by * lo, by * hi)` of the variables `x`, `a`, `lo` and `hi`, of which all but the first
/// repeat one number.
pub fn gate(m: &Match, scale: f64, by: f64) -> Result<Edit, Miss> {
    let dtype = m.root_ty().dtype;
    let mut edit = Edit::new();
    let number = |edit: &mut Edit, x: f64| edit.constant(Tensor::scalar(Const::number(dtype, x)), "gate");
    let constant = |name: &str| m.number(name).map(|x| x * by).ok_or_else(|| Miss(format!("`{name}` is not one number")));
    let (a, lo, hi) = (constant("a")?, constant("lo")?, constant("hi")?);
    let then = |edit: &mut Edit, f: BinaryFn, x: Ref, y: f64| {
        let y = number(edit, y);
        edit.op(Op::Binary(f), &[x, y])
    };
    let x = then(&mut edit, BinaryFn::Mul, m.v("x"), scale);
    let shifted = then(&mut edit, BinaryFn::Add, x, a);
    let bounded = then(&mut edit, BinaryFn::Max, shifted, lo);
    let clamped = then(&mut edit, BinaryFn::Min, bounded, hi);
    let gated = edit.op(Op::Binary(BinaryFn::Mul), &[x, clamped]);
    Ok(edit.give(gated))
}
