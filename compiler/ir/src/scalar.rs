//! Kernel instructions on single elements: the meaning every backend, the interpreter and constant folding share.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::kernel::{BinOp, Const, Pred, UnOp};

/// A number decoded from a constant's bits.
#[derive(Clone, Copy, Debug)]
enum Num { F32(f32), F64(f64), Int(i64), UInt(u64), Bool(bool) }

fn decode(c: Const) -> Num {
    match c.dtype {
        DType::F32 => Num::F32(f32::from_bits(c.bits as u32)),
        DType::F64 => Num::F64(f64::from_bits(c.bits)),
        DType::F16 => Num::F32(f16::from_bits(c.bits as u16).to_f32()),
        DType::BF16 => Num::F32(bf16::from_bits(c.bits as u16).to_f32()),
        DType::Bool => Num::Bool(c.bits != 0),
        t if t.is_signed() => Num::Int(c.as_i64()),
        _ => Num::UInt(c.bits),
    }
}

/// `op a`; none if the operation does not apply to the type.
pub fn un(op: UnOp, a: Const) -> Option<Const> {
    let t = a.dtype;
    Some(match (op, decode(a)) {
        // Sign operations act on the bits, so that they keep the payload of a NaN as hardware does.
        (UnOp::Neg, Num::F32(_) | Num::F64(_)) => Const { dtype: t, bits: a.bits ^ (1 << (t.bits() - 1)) },
        (UnOp::Abs, Num::F32(_) | Num::F64(_)) => Const { dtype: t, bits: a.bits & !(1 << (t.bits() - 1)) },
        (UnOp::Sqrt, Num::F32(x)) => Const::f32(x.sqrt()),
        (UnOp::Sqrt, Num::F64(x)) => Const::f64(x.sqrt()),
        (UnOp::Floor, Num::F32(x)) => Const::f32(x.floor()),
        (UnOp::Floor, Num::F64(x)) => Const::f64(x.floor()),
        (UnOp::Ceil, Num::F32(x)) => Const::f32(x.ceil()),
        (UnOp::Ceil, Num::F64(x)) => Const::f64(x.ceil()),
        (UnOp::Trunc, Num::F32(x)) => Const::f32(x.trunc()),
        (UnOp::Trunc, Num::F64(x)) => Const::f64(x.trunc()),
        (UnOp::Round, Num::F32(x)) => Const::f32(x.round_ties_even()),
        (UnOp::Round, Num::F64(x)) => Const::f64(x.round_ties_even()),
        (UnOp::Neg, Num::Int(x)) => Const::int(t, x.wrapping_neg()),
        (UnOp::Neg, Num::UInt(x)) => Const::int(t, (x as i64).wrapping_neg()),
        (UnOp::Abs, Num::Int(x)) => Const::int(t, x.wrapping_abs()),
        (UnOp::Abs, Num::UInt(_)) => a,
        (UnOp::Not, Num::Int(x)) => Const::int(t, !x),
        (UnOp::Not, Num::UInt(x)) => Const::int(t, !(x as i64)),
        (UnOp::Not, Num::Bool(x)) => Const::bool(!x),
        _ => return None,
    })
}

/// `op a, b`; none if the operation does not apply to the type.
pub fn bin(op: BinOp, a: Const, b: Const) -> Option<Const> {
    debug_assert_eq!(a.dtype, b.dtype);
    let t = a.dtype;
    match (decode(a), decode(b)) {
        (Num::F32(x), Num::F32(y)) if t == DType::F32 => float(op, x, y, |x| Const::f32(x)),
        (Num::F64(x), Num::F64(y)) => float(op, x, y, |x| Const::f64(x)),
        (Num::Int(x), Num::Int(y)) => signed(op, x, y, t.bits() as u32).map(|x| Const::int(t, x)),
        (Num::UInt(x), Num::UInt(y)) => unsigned(op, x, y, t.bits() as u32).map(|x| Const::int(t, x as i64)),
        (Num::Bool(x), Num::Bool(y)) => match op {
            BinOp::And | BinOp::Min | BinOp::Mul => Some(Const::bool(x & y)),
            BinOp::Or | BinOp::Max => Some(Const::bool(x | y)),
            BinOp::Xor => Some(Const::bool(x ^ y)),
            _ => None,
        },
        _ => None,
    }
}

fn float<T>(op: BinOp, x: T, y: T, to: impl Fn(T) -> Const) -> Option<Const>
where
    T: Copy
        + PartialOrd
        + std::ops::Add<Output = T>
        + std::ops::Sub<Output = T>
        + std::ops::Mul<Output = T>
        + std::ops::Div<Output = T>,
{
    #[allow(clippy::eq_op)]
    let nan = y != y;
    Some(to(match op {
        BinOp::Add => x + y,
        BinOp::Sub => x - y,
        BinOp::Mul => x * y,
        BinOp::Div => x / y,
        BinOp::Min => if y < x || nan { y } else { x },
        BinOp::Max => if y > x || nan { y } else { x },
        _ => return None,
    }))
}

fn signed(op: BinOp, x: i64, y: i64, bits: u32) -> Option<i64> {
    let shift = u32::try_from(y).ok().filter(|&s| s < bits);
    Some(match op {
        BinOp::Add => x.wrapping_add(y),
        BinOp::Sub => x.wrapping_sub(y),
        BinOp::Mul => x.wrapping_mul(y),
        BinOp::Div => if y == 0 { 0 } else { x.wrapping_div(y) },
        BinOp::Rem => if y == 0 { 0 } else { x.wrapping_rem(y) },
        BinOp::Min => x.min(y),
        BinOp::Max => x.max(y),
        BinOp::And => x & y,
        BinOp::Or => x | y,
        BinOp::Xor => x ^ y,
        BinOp::Shl => shift.map_or(0, |s| x << s),
        BinOp::Shr => x >> shift.unwrap_or(63),
    })
}

fn unsigned(op: BinOp, x: u64, y: u64, bits: u32) -> Option<u64> {
    let shift = u32::try_from(y).ok().filter(|&s| s < bits);
    Some(match op {
        BinOp::Add => x.wrapping_add(y),
        BinOp::Sub => x.wrapping_sub(y),
        BinOp::Mul => x.wrapping_mul(y),
        BinOp::Div => x.checked_div(y).unwrap_or(0),
        BinOp::Rem => x.checked_rem(y).unwrap_or(0),
        BinOp::Min => x.min(y),
        BinOp::Max => x.max(y),
        BinOp::And => x & y,
        BinOp::Or => x | y,
        BinOp::Xor => x ^ y,
        BinOp::Shl => shift.map_or(0, |s| x << s),
        BinOp::Shr => shift.map_or(0, |s| x >> s),
    })
}

/// `a * b + c` rounded once; floats of 32 and 64 bits.
pub fn fma(a: Const, b: Const, c: Const) -> Option<Const> {
    match (decode(a), decode(b), decode(c)) {
        (Num::F32(x), Num::F32(y), Num::F32(z)) if a.dtype == DType::F32 => Some(Const::f32(x.mul_add(y, z))),
        (Num::F64(x), Num::F64(y), Num::F64(z)) => Some(Const::f64(x.mul_add(y, z))),
        _ => None,
    }
}

/// Compares two elements of the same type.
pub fn cmp(pred: Pred, a: Const, b: Const) -> bool {
    let order = match (decode(a), decode(b)) {
        (Num::F32(x), Num::F32(y)) => x.partial_cmp(&y),
        (Num::F64(x), Num::F64(y)) => x.partial_cmp(&y),
        (Num::Int(x), Num::Int(y)) => Some(x.cmp(&y)),
        (Num::UInt(x), Num::UInt(y)) => Some(x.cmp(&y)),
        (Num::Bool(x), Num::Bool(y)) => Some(x.cmp(&y)),
        _ => None,
    };
    match pred {
        Pred::Eq => order.is_some_and(|o| o.is_eq()),
        Pred::Ne => order.is_none_or(|o| o.is_ne()),
        Pred::Lt => order.is_some_and(|o| o.is_lt()),
        Pred::Le => order.is_some_and(|o| o.is_le()),
        Pred::Gt => order.is_some_and(|o| o.is_gt()),
        Pred::Ge => order.is_some_and(|o| o.is_ge()),
    }
}

/// Converts between element types: see the module text of [`crate::kernel`].
pub fn convert(a: Const, to: DType) -> Const {
    if a.dtype == to {
        return a;
    }
    match decode(a) {
        Num::F32(x) => from_f32(x, to),
        Num::F64(x) => from_f64(x, to),
        Num::Int(x) => from_int(i128::from(x), to),
        Num::UInt(x) => from_int(i128::from(x), to),
        Num::Bool(x) => from_int(i128::from(x), to),
    }
}

fn from_f32(x: f32, to: DType) -> Const {
    match to {
        DType::F16 => Const { dtype: to, bits: u64::from(f16::from_f32(x).to_bits()) },
        DType::BF16 => Const { dtype: to, bits: u64::from(bf16::from_f32(x).to_bits()) },
        DType::F32 => Const::f32(x),
        _ => from_f64(f64::from(x), to),
    }
}

fn from_f64(x: f64, to: DType) -> Const {
    match to {
        DType::F64 => Const::f64(x),
        DType::F32 => Const::f32(x as f32),
        DType::F16 => Const { dtype: to, bits: u64::from(f16::from_f64(x).to_bits()) },
        DType::BF16 => Const { dtype: to, bits: u64::from(bf16::from_f64(x).to_bits()) },
        DType::Bool => Const::bool(x != 0.0),
        DType::I64 => Const::i64(x as i64),
        DType::I32 => Const::int(to, i64::from(x as i32)),
        DType::I16 => Const::int(to, i64::from(x as i16)),
        DType::I8 => Const::int(to, i64::from(x as i8)),
        DType::U64 => Const { dtype: to, bits: x as u64 },
        DType::U32 => Const::int(to, i64::from(x as u32)),
        DType::U16 => Const::int(to, i64::from(x as u16)),
        DType::U8 => Const::int(to, i64::from(x as u8)),
        _ => unreachable!("{to} is not a kernel type"),
    }
}

fn from_int(x: i128, to: DType) -> Const {
    match to {
        DType::F64 => Const::f64(x as f64),
        DType::F32 => Const::f32(x as f32),
        // Through f32: what every target can do; 64-bit integers that large are infinite in f16 anyway.
        DType::F16 | DType::BF16 => from_f32(x as f32, to),
        DType::Bool => Const::bool(x != 0),
        _ => Const::int(to, x as i64),
    }
}
