//! Elementwise functions expanded into kernel arithmetic: once for every target and for the reference interpreter.
//!
//! An expansion is written against [`Arith`], the scalar instruction set of kernels. [`KernelBuilder`] implements it by
//! emitting instructions on vectors of any number of lanes, [`Eval`] by computing with [`crate::scalar`]; both perform
//! the same operations in the same order, so every engine gets the same bits (the payload of a NaN excepted).
//!
//! - f16 and bf16 operands are converted to f32, computed there and rounded back once.
//! - f32 is computed in f32 alone; no target falls back to f64 or to its own approximations.
//! - There are no branches: both sides of a `select` are evaluated, and no operation can trap.
//! - Each function's doc states its largest error in units in the last place, as measured by `math/tests.rs`.
//!   Results in the subnormal range are as good as the others: nothing is flushed to zero.

use crate::dtype::DType;
use crate::elementwise::{BinaryFn, UnaryFn};
use crate::kernel::{BinOp, Const, KernelBuilder, Pred, UnOp, Val};
use crate::scalar;

mod erf;
mod exp;
mod format;
mod int;
mod inverse_trig;
mod log;
mod pow;
mod remainder;
mod trig;

#[cfg(test)]
mod tests;

use format::Ops;

/// The instruction set expansions are written in. Operands of one instruction have equal types.
pub trait Arith {
    /// A value: one element, or a vector of them.
    type V: Copy;
    /// Element type of a value.
    fn dtype(&self, v: Self::V) -> DType;
    /// A constant in as many lanes as `like` has.
    fn constant(&mut self, c: Const, like: Self::V) -> Self::V;
    /// `op a`.
    fn un(&mut self, op: UnOp, a: Self::V) -> Self::V;
    /// `op a, b`.
    fn bin(&mut self, op: BinOp, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(&mut self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Compares; the result is bool.
    fn cmp(&mut self, pred: Pred, a: Self::V, b: Self::V) -> Self::V;
    /// `cond ? a : b`.
    fn select(&mut self, cond: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Converts to another element type.
    fn convert(&mut self, a: Self::V, to: DType) -> Self::V;
    /// Reinterprets the bits as another type of the same width.
    fn bitcast(&mut self, a: Self::V, to: DType) -> Self::V;
}

impl Arith for KernelBuilder {
    type V = Val;
    fn dtype(&self, v: Val) -> DType {
        self.ty(v).dtype
    }
    fn constant(&mut self, c: Const, like: Val) -> Val {
        let lanes = self.ty(like).lanes;
        self.splat_const(c, lanes)
    }
    fn un(&mut self, op: UnOp, a: Val) -> Val {
        KernelBuilder::un(self, op, a)
    }
    fn bin(&mut self, op: BinOp, a: Val, b: Val) -> Val {
        KernelBuilder::bin(self, op, a, b)
    }
    fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        KernelBuilder::fma(self, a, b, c)
    }
    fn cmp(&mut self, pred: Pred, a: Val, b: Val) -> Val {
        KernelBuilder::cmp(self, pred, a, b)
    }
    fn select(&mut self, cond: Val, a: Val, b: Val) -> Val {
        KernelBuilder::select(self, cond, a, b)
    }
    fn convert(&mut self, a: Val, to: DType) -> Val {
        KernelBuilder::convert(self, a, to)
    }
    fn bitcast(&mut self, a: Val, to: DType) -> Val {
        KernelBuilder::bitcast(self, a, to)
    }
}

/// Computes at once, on single elements: the reference.
pub struct Eval;

/// What a wrongly typed expansion dies of.
const TYPED: &str = "an expansion applies an operation to a type that has it";

impl Arith for Eval {
    type V = Const;
    fn dtype(&self, v: Const) -> DType {
        v.dtype
    }
    fn constant(&mut self, c: Const, _like: Const) -> Const {
        c
    }
    fn un(&mut self, op: UnOp, a: Const) -> Const {
        scalar::un(op, a).expect(TYPED)
    }
    fn bin(&mut self, op: BinOp, a: Const, b: Const) -> Const {
        scalar::bin(op, a, b).expect(TYPED)
    }
    fn fma(&mut self, a: Const, b: Const, c: Const) -> Const {
        scalar::fma(a, b, c).expect(TYPED)
    }
    fn cmp(&mut self, pred: Pred, a: Const, b: Const) -> Const {
        Const::bool(scalar::cmp(pred, a, b))
    }
    fn select(&mut self, cond: Const, a: Const, b: Const) -> Const {
        if cond.bits != 0 { a } else { b }
    }
    fn convert(&mut self, a: Const, to: DType) -> Const {
        scalar::convert(a, to)
    }
    fn bitcast(&mut self, a: Const, to: DType) -> Const {
        Const { dtype: to, bits: a.bits }
    }
}

/// `f(x)`, of element type `f.result(dtype of x)`. `f` must accept the type of `x`.
pub fn unary<A: Arith>(a: &mut A, f: UnaryFn, x: A::V) -> A::V {
    let t = a.dtype(x);
    assert!(f.accepts(t), "{} does not apply to {t}", f.name());
    if t.is_float() {
        let wide = a.convert(x, t.compute());
        let y = unary_float(a, f, wide);
        return a.convert(y, f.result(t));
    }
    match f {
        UnaryFn::Neg => a.un(UnOp::Neg, x),
        UnaryFn::Abs => a.un(UnOp::Abs, x),
        UnaryFn::Not => a.un(UnOp::Not, x),
        UnaryFn::Sign => int::sign(a, x),
        _ => unreachable!("{} applies to floats only", f.name()),
    }
}

/// `f(x, y)`; both operands and the result have one type, which `f` must accept.
pub fn binary<A: Arith>(a: &mut A, f: BinaryFn, x: A::V, y: A::V) -> A::V {
    let t = a.dtype(x);
    assert!(f.accepts(t), "{} does not apply to {t}", f.name());
    assert_eq!(t, a.dtype(y), "operands of {} differ in type", f.name());
    if let Some(op) = instruction(f) {
        let wide = (a.convert(x, t.compute()), a.convert(y, t.compute()));
        let z = a.bin(op, wide.0, wide.1);
        return a.convert(z, t);
    }
    if t.is_float() {
        let wide = (a.convert(x, t.compute()), a.convert(y, t.compute()));
        let z = match f {
            BinaryFn::Mod => remainder::floored(a, wide.0, wide.1),
            BinaryFn::Fmod => remainder::truncated(a, wide.0, wide.1),
            _ => pow::pow(a, wide.0, wide.1),
        };
        return a.convert(z, t);
    }
    match f {
        BinaryFn::Mod => int::floored_remainder(a, x, y),
        BinaryFn::Fmod => a.bin(BinOp::Rem, x, y),
        _ => int::pow(a, x, y),
    }
}

/// The instruction that is all of `f`.
fn instruction(f: BinaryFn) -> Option<BinOp> {
    Some(match f {
        BinaryFn::Add => BinOp::Add,
        BinaryFn::Sub => BinOp::Sub,
        BinaryFn::Mul => BinOp::Mul,
        BinaryFn::Div => BinOp::Div,
        BinaryFn::Min => BinOp::Min,
        BinaryFn::Max => BinOp::Max,
        BinaryFn::And => BinOp::And,
        BinaryFn::Or => BinOp::Or,
        BinaryFn::Xor => BinOp::Xor,
        BinaryFn::Shl => BinOp::Shl,
        BinaryFn::Shr => BinOp::Shr,
        BinaryFn::Mod | BinaryFn::Fmod | BinaryFn::Pow => return None,
    })
}

/// `f(x)` for f32 and f64.
fn unary_float<A: Arith>(a: &mut A, f: UnaryFn, x: A::V) -> A::V {
    match f {
        UnaryFn::Neg => a.un(UnOp::Neg, x),
        UnaryFn::Abs => a.un(UnOp::Abs, x),
        UnaryFn::Sign => sign(a, x),
        UnaryFn::Floor => a.un(UnOp::Floor, x),
        UnaryFn::Ceil => a.un(UnOp::Ceil, x),
        UnaryFn::Round => a.un(UnOp::Round, x),
        UnaryFn::Sqrt => a.un(UnOp::Sqrt, x),
        UnaryFn::Reciprocal => {
            let one = a.num(1.0, x);
            a.div(one, x)
        }
        UnaryFn::Exp => exp::exp(a, x),
        UnaryFn::Sinh => exp::sinh(a, x),
        UnaryFn::Cosh => exp::cosh(a, x),
        UnaryFn::Tanh => exp::tanh(a, x),
        UnaryFn::Sigmoid => exp::sigmoid(a, x),
        UnaryFn::Softplus => exp::softplus(a, x),
        UnaryFn::Log => log::log(a, x),
        UnaryFn::Asinh => log::asinh(a, x),
        UnaryFn::Acosh => log::acosh(a, x),
        UnaryFn::Atanh => log::atanh(a, x),
        UnaryFn::Sin => trig::sin(a, x),
        UnaryFn::Cos => trig::cos(a, x),
        UnaryFn::Tan => trig::tan(a, x),
        UnaryFn::Asin => inverse_trig::asin(a, x),
        UnaryFn::Acos => inverse_trig::acos(a, x),
        UnaryFn::Atan => inverse_trig::atan(a, x),
        UnaryFn::Erf => erf::erf(a, x),
        UnaryFn::IsNan => a.cmp(Pred::Ne, x, x),
        UnaryFn::IsPosInf => a.cmp_num(Pred::Eq, x, f64::INFINITY),
        UnaryFn::IsNegInf => a.cmp_num(Pred::Eq, x, f64::NEG_INFINITY),
        UnaryFn::Not => unreachable!("not does not apply to floats"),
    }
}

/// -1, 0 or 1; 0 for -0.
fn sign<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let (zero, one, minus) = (a.num(0.0, x), a.num(1.0, x), a.num(-1.0, x));
    let positive = a.cmp(Pred::Gt, x, zero);
    let negative = a.cmp(Pred::Lt, x, zero);
    // Adding 0 turns -0 into 0 and keeps NaN.
    let rest = a.add(x, zero);
    let below = a.select(negative, minus, rest);
    a.select(positive, one, below)
}
