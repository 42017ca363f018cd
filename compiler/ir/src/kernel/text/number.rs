//! Constants in the text form: decimal where that reads back as the same bits, else the bits.

use super::*;
use crate::lex::{Token, Tokens};

/// The text of a constant; its type stands elsewhere.
pub(super) fn print(c: Const) -> String {
    let decimal = match c.dtype {
        DType::Bool if c.bits < 2 => (c.bits == 1).to_string(),
        DType::F64 => float(f64::from_bits(c.bits), |x| format!("{x:?}")),
        DType::F32 => float(f64::from(f32::from_bits(c.bits as u32)), |x| format!("{:?}", x as f32)),
        DType::F16 => float(half::f16::from_bits(c.bits as u16).to_f64(), |x| format!("{:?}", x as f32)),
        DType::BF16 => float(half::bf16::from_bits(c.bits as u16).to_f64(), |x| format!("{:?}", x as f32)),
        t if t.is_signed() => c.as_i64().to_string(),
        _ => c.bits.to_string(),
    };
    if parse_text(&decimal, c.dtype) == Some(c) { decimal } else { format!("0x{:x}", c.bits) }
}

fn float(x: f64, finite: impl Fn(f64) -> String) -> String {
    match x {
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        x if x.is_nan() => "nan".into(),
        x => finite(x),
    }
}

/// Takes the text of a constant, to be read with [`parse_text`] once the type is known.
pub(super) fn take(t: &mut Tokens) -> Result<String, ParseError> {
    let sign = if t.eat("-") { "-" } else { "" };
    match t.peek().clone() {
        Token::Number(s) | Token::Ident(s) => {
            t.next();
            Ok(format!("{sign}{s}"))
        }
        _ => t.expected("a number"),
    }
}

/// The constant of this type that a text stands for.
pub(super) fn parse_text(text: &str, dtype: DType) -> Option<Const> {
    if let Some(hex) = text.strip_prefix("0x") {
        let bits = u64::from_str_radix(hex, 16).ok()?;
        return Some(Const { dtype, bits });
    }
    match dtype {
        DType::Bool => text.parse().ok().map(Const::bool),
        DType::F64 => text.parse().ok().map(Const::f64),
        DType::F32 => text.parse().ok().map(Const::f32),
        // Printed as the f32 it is exactly.
        t if t.is_float() => text.parse::<f32>().ok().map(|x| Const::number(t, f64::from(x))),
        t => integer(text, t),
    }
}

fn integer(text: &str, dtype: DType) -> Option<Const> {
    let x: i128 = text.parse().ok()?;
    let bits = dtype.bits();
    let half = 1i128 << (bits - 1);
    let range = if dtype.is_signed() { -half..half } else { 0..2 * half };
    range.contains(&x).then(|| Const::int(dtype, x as i64))
}
