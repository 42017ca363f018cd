//! Decodes arithmetic on f16 and bf16, single and in pairs.

use super::arith::uniform;
use super::{Builder, Decoded, Suffixes};
use crate::exec::half;
use crate::instr::{LaneFn, Mods, Op};
use crate::parse::Statement;
use crate::types::Ty;

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    let (f, n): (LaneFn, usize) = match s.words[0] {
        "add" => (half::add, 2),
        "sub" => (half::sub, 2),
        "mul" => (half::mul, 2),
        "fma" => (half::fma, 3),
        "min" => (half::min, 2),
        "max" => (half::max, 2),
        "abs" => (half::abs, 1),
        "neg" => (half::neg, 1),
        "ex2" => (half::ex2, 1),
        "tanh" => (half::tanh, 1),
        _ => return Ok(None),
    };
    let mut x = Suffixes::new(s);
    x.skip(|w| matches!(w, "rn" | "approx"));
    let (ftz, nan) = (x.accept("ftz"), x.accept("NaN"));
    let (sat, relu) = (x.accept("sat"), x.accept("relu"));
    let ty = x.ty()?;
    x.end()?;
    if !matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2) {
        return Err(format!("type {ty:?} is not known here"));
    }
    uniform(b, s, f, Mods { ftz, sat, nan, relu, ..Mods::of(ty) }, n).map(Some)
}
