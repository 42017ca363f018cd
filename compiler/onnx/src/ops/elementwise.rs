//! Operators that are one expression of their input: activations, unary and binary functions, comparisons, logic.

use xlac_ir::DType;
use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::OnnxOp;

macro_rules! unary { ($name:literal $f:ident) => { OnnxOp::new($name, (1, 1), |n, b| one(b.unary(UnaryFn::$f, n.input(0)?))) }; }
macro_rules! binary {
    ($name:literal $f:ident) => {
        OnnxOp::new($name, (2, 2), |n, b| { let (x, y) = operands(n, b)?; one(b.binary(BinaryFn::$f, x, y)) }).attrs(LEGACY)
    };
}
macro_rules! compare {
    ($name:literal $p:ident) => {
        OnnxOp::new($name, (2, 2), |n, b| { let (x, y) = operands(n, b)?; one(b.compare(Pred::$p, x, y)) }).attrs(LEGACY)
    };
}

/// Broadcasting of opset 6 and before.
const LEGACY: &[&str] = &["axis", "broadcast", "consumed_inputs"];

pub const OPS: &[OnnxOp] = &[
    unary!("Abs" Abs), unary!("Acos" Acos), unary!("Acosh" Acosh), unary!("Asin" Asin), unary!("Asinh" Asinh),
    unary!("Atan" Atan), unary!("Atanh" Atanh), unary!("BitwiseNot" Not), unary!("Ceil" Ceil), unary!("Cos" Cos),
    unary!("Cosh" Cosh), unary!("Erf" Erf), unary!("Exp" Exp), unary!("Floor" Floor), unary!("IsNaN" IsNan),
    unary!("Log" Log), unary!("Neg" Neg), unary!("Not" Not), unary!("Reciprocal" Reciprocal), unary!("Round" Round),
    unary!("Sigmoid" Sigmoid), unary!("Sign" Sign), unary!("Sin" Sin), unary!("Sinh" Sinh), unary!("Softplus" Softplus),
    unary!("Sqrt" Sqrt), unary!("Tan" Tan), unary!("Tanh" Tanh),
    binary!("Add" Add), binary!("And" And), binary!("BitwiseAnd" And), binary!("BitwiseOr" Or), binary!("BitwiseXor" Xor),
    binary!("Div" Div), binary!("Mul" Mul), binary!("Or" Or), binary!("Sub" Sub), binary!("Xor" Xor),
    compare!("Equal" Eq), compare!("Greater" Gt), compare!("GreaterOrEqual" Ge), compare!("Less" Lt),
    compare!("LessOrEqual" Le),
    OnnxOp::new("Identity", (1, 1), |n, _| one(n.input(0))),
    OnnxOp::new("Relu", (1, 1), |n, b| one(b.max_scalar(n.input(0)?, 0.0))),
    OnnxOp::new("LeakyRelu", (1, 1), |n, b| {
        let (x, alpha) = (float(n, b)?, f64::from(n.float("alpha", 0.01)?));
        let scaled = b.mul_scalar(x, alpha)?;
        negative(b, x, scaled, x)
    }).attrs(&["alpha", "consumed_inputs"]),
    OnnxOp::new("PRelu", (2, 2), prelu).attrs(&["consumed_inputs"]),
    OnnxOp::new("Elu", (1, 1), |n, b| { let a = n.float("alpha", 1.0)?; elu(n, b, a, 1.0) }).attrs(&["alpha", "consumed_inputs"]),
    OnnxOp::new("Selu", (1, 1), |n, b| {
        let (a, g) = (n.float("alpha", 1.673_263_2)?, n.float("gamma", 1.050_701)?);
        elu(n, b, a, g)
    }).attrs(&["alpha", "gamma", "consumed_inputs"]),
    OnnxOp::new("Celu", (1, 1), celu).attrs(&["alpha"]),
    OnnxOp::new("HardSigmoid", (1, 1), |n, b| {
        let (x, alpha, beta) = (float(n, b)?, n.float("alpha", 0.2)?, n.float("beta", 0.5)?);
        one(hard_sigmoid(b, x, f64::from(alpha), f64::from(beta)))
    }).attrs(&["alpha", "beta", "consumed_inputs"]),
    OnnxOp::new("HardSwish", (1, 1), |n, b| {
        let x = float(n, b)?;
        let gate = hard_sigmoid(b, x, 1.0 / 6.0, 0.5)?;
        one(b.mul(x, gate))
    }),
    OnnxOp::new("Mish", (1, 1), |n, b| {
        let x = float(n, b)?;
        let s = b.softplus(x)?;
        let t = b.tanh(s)?;
        one(b.mul(x, t))
    }),
    OnnxOp::new("Swish", (1, 1), |n, b| { let a = n.float("alpha", 1.0)?; swish(n, b, a) }).attrs(&["alpha"]),
    OnnxOp::new("QuickGelu", (1, 1), |n, b| { let a = n.float("alpha", 1.702)?; swish(n, b, a) }).attrs(&["alpha"]).domain("com.microsoft"),
    OnnxOp::new("Softsign", (1, 1), |n, b| {
        let x = float(n, b)?;
        let a = b.abs(x)?;
        let d = b.add_scalar(a, 1.0)?;
        one(b.div(x, d))
    }),
    OnnxOp::new("ThresholdedRelu", (1, 1), |n, b| {
        let (x, alpha) = (float(n, b)?, f64::from(n.float("alpha", 1.0)?));
        let above = b.compare_scalar(Pred::Gt, x, alpha)?;
        let zero = b.scalar(b.dtype(x), 0.0);
        one(b.select(above, x, zero))
    }).attrs(&["alpha"]),
    OnnxOp::new("Shrink", (1, 1), shrink).attrs(&["lambd", "bias"]),
];

fn one(v: Res<ValueId>) -> Res<Vec<ValueId>> { Ok(vec![v?]) }

/// The input, which must be of a floating-point type.
fn float(n: &Node, b: &Builder) -> Res<ValueId> {
    let x = n.input(0)?;
    ensure!(b.dtype(x).is_float(), DTYPE, "does not apply to {}", b.dtype(x));
    Ok(x)
}

/// Both operands; before opset 7 the second is aligned at `axis` if `broadcast` is set.
fn operands(n: &Node, b: &mut Builder) -> Res<(ValueId, ValueId)> {
    let (x, y) = (n.input(0)?, n.input(1)?);
    let (dx, dy) = (b.dtype(x), b.dtype(y));
    ensure!(dx == dy, TYPES, "operands have different element types: {dx} and {dy}");
    if n.opset >= 7 {
        ensure!(!n.has("axis") && !n.has("broadcast"), UNKNOWN_ATTRIBUTE, "attribute `axis` or `broadcast` ended with opset 6");
        return Ok((x, y));
    }
    let (rank, small) = (b.rank(x), b.rank(y));
    match n.int_opt("axis")? {
        Some(axis) if n.flag("broadcast", false)? && small > 0 => {
            let axis = b.axis(axis, rank)?;
            ensure!(axis + small <= rank, AXIS, "operand of rank {small} does not fit at axis {axis} of rank {rank}");
            let mut shape = b.shape(y);
            shape.resize(rank - axis, xlac_ir::dim::Dim::ONE);
            Ok((x, b.reshape(y, &shape)?))
        }
        _ => Ok((x, y)),
    }
}

/// `x < 0 ? below : above`.
fn negative(b: &mut Builder, x: ValueId, below: ValueId, above: ValueId) -> Res<Vec<ValueId>> {
    let is_negative = b.compare_scalar(Pred::Lt, x, 0.0)?;
    one(b.select(is_negative, below, above))
}

fn prelu(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, mut slope) = (n.input(0)?, n.input(1)?);
    // Opset 6 and before: one slope for each channel.
    if n.opset < 7 && b.rank(slope) == 1 && b.rank(x) > 1 {
        slope = b.along(slope, 1, b.rank(x))?;
        if b.shape(slope)[1].is(1) {
            slope = b.reshape(slope, &[])?;
        }
    }
    let scaled = b.mul(x, slope)?;
    negative(b, x, scaled, x)
}

/// `gamma * (x < 0 ? alpha * (exp(x) - 1) : x)`.
fn elu(n: &Node, b: &mut Builder, alpha: f32, gamma: f32) -> Res<Vec<ValueId>> {
    let x = float(n, b)?;
    let e = b.exp(x)?;
    let e = b.add_scalar(e, -1.0)?;
    let below = b.mul_scalar(e, f64::from(alpha * gamma))?;
    let above = if gamma == 1.0 { x } else { b.mul_scalar(x, f64::from(gamma))? };
    negative(b, x, below, above)
}

fn celu(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, alpha) = (float(n, b)?, f64::from(n.float("alpha", 1.0)?));
    ensure!(alpha != 0.0, ATTRIBUTE_VALUE, "`alpha` must not be 0");
    let scaled = b.div_scalar(x, alpha)?;
    let e = b.exp(scaled)?;
    let e = b.add_scalar(e, -1.0)?;
    let below = b.mul_scalar(e, alpha)?;
    negative(b, x, below, x)
}

fn hard_sigmoid(b: &mut Builder, x: ValueId, alpha: f64, beta: f64) -> Res<ValueId> {
    let y = b.mul_scalar(x, alpha)?;
    let y = b.add_scalar(y, beta)?;
    let y = b.max_scalar(y, 0.0)?;
    b.min_scalar(y, 1.0)
}

fn swish(n: &Node, b: &mut Builder, alpha: f32) -> Res<Vec<ValueId>> {
    let x = float(n, b)?;
    let scaled = if alpha == 1.0 { x } else { b.mul_scalar(x, f64::from(alpha))? };
    let gate = b.sigmoid(scaled)?;
    one(b.mul(x, gate))
}

fn shrink(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, lambda, bias) = (n.input(0)?, f64::from(n.float("lambd", 0.5)?), f64::from(n.float("bias", 0.0)?));
    let t = b.dtype(x);
    if t == DType::Bool {
        bail!(DTYPE, "does not apply to bool");
    }
    let zero = b.scalar(t, 0.0);
    let (up, down) = (b.add_scalar(x, bias)?, b.add_scalar(x, -bias)?);
    let below = b.compare_scalar(Pred::Lt, x, -lambda)?;
    let above = b.compare_scalar(Pred::Gt, x, lambda)?;
    let rest = b.select(above, down, zero)?;
    one(b.select(below, up, rest))
}
