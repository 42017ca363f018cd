//! Decodes `mma` and `ldmatrix`.

use super::{Builder, Decoded, Suffixes, count};
use crate::instr::{Element, LoadMatrix, Mma, Op};
use crate::parse::{Operand, Statement};
use crate::regs::Slot;
use crate::types::{Space, Ty};

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    match s.words[0] {
        "ldmatrix" => load_matrix(b, s).map(Some),
        "mma" => mma(b, s).map(Some),
        _ => Ok(None),
    }
}

fn slots<'a>(b: &mut Builder<'a>, operand: &Operand<'a>, n: usize, ty: Ty) -> Decoded<Vec<Slot>> {
    let parts = match operand {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if parts.len() != n {
        return Err(format!("{n} registers expected, {} found", parts.len()));
    }
    parts.iter().map(|p| b.destination(p, ty).map(|r| r.slot)).collect()
}

fn load_matrix<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if !(x.accept("sync") && x.accept("aligned") && x.accept("m8n8")) {
        return Err("`ldmatrix.sync.aligned.m8n8` expected".to_owned());
    }
    let n = x.need(|w| ["x1", "x2", "x4"].iter().position(|v| *v == w))?;
    let transposed = x.accept("trans");
    let space = x.find(Space::parse).unwrap_or(Space::Generic);
    if x.ty()? != Ty::B16 || !matches!(space, Space::Shared | Space::Generic) {
        return Err("`ldmatrix` loads `.b16` from shared memory".to_owned());
    }
    x.end()?;
    count(s, 2)?;
    let to = slots(b, &s.operands[0], 1 << n, Ty::B32)?;
    let address = b.address(&s.operands[1], space)?;
    Ok(Op::LoadMatrix(Box::new(LoadMatrix { to, address, transposed, space })))
}

fn element(word: &str) -> Option<Element> {
    Some(match word {
        "f16" => Element::F16,
        "bf16" => Element::Bf16,
        "tf32" => Element::Tf32,
        "s8" => Element::S8,
        "u8" => Element::U8,
        _ => return None,
    })
}

impl Element {
    /// Bits of one element in a register.
    pub fn bits(self) -> usize {
        match self {
            Element::F16 | Element::Bf16 => 16,
            Element::Tf32 => 32,
            Element::S8 | Element::U8 => 8,
        }
    }

    /// Whether elements are integers.
    pub fn is_integer(self) -> bool {
        self.bits() == 8
    }
}

fn shape(word: &str) -> Option<(usize, usize)> {
    let (m, rest) = word.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    (n == "8").then_some((m.parse().ok()?, k.parse().ok()?))
}

fn mma<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    if !(x.accept("sync") && x.accept("aligned")) {
        return Err("`mma.sync.aligned` expected".to_owned());
    }
    let (rows, depth) = x.need(shape)?;
    if !(x.accept("row") && x.accept("col")) {
        return Err("`.row.col` expected".to_owned());
    }
    let satfinite = x.accept("satfinite");
    let d_type = x.ty()?;
    let (a_type, b_type) = (x.need(element)?, x.need(element)?);
    let c_type = x.ty()?;
    x.end()?;
    count(s, 4)?;
    let accumulator = match a_type {
        Element::S8 | Element::U8 => d_type == Ty::S32,
        Element::F16 => matches!(d_type, Ty::F16 | Ty::F32) && !satfinite,
        _ => d_type == Ty::F32 && !satfinite,
    };
    let same = a_type == b_type || a_type.is_integer() && b_type.is_integer();
    let known = match a_type.bits() {
        16 => rows == 16 && matches!(depth, 8 | 16),
        32 => rows == 16 && matches!(depth, 4 | 8),
        _ => matches!((rows, depth), (8, 16) | (16, 16) | (16, 32)),
    };
    if !(accumulator && same && known) || c_type != d_type {
        return Err("this combination of shape and types is not supported".to_owned());
    }
    let half = d_type == Ty::F16;
    // Registers of a lane: elements of the fragment, over 32 lanes, at so many to a register.
    let per_register = 32 / a_type.bits();
    let (a_count, b_count) = (rows * depth / 32 / per_register, 8 * depth / 32 / per_register);
    let c_count = rows * 8 / 32 / if half { 2 } else { 1 };
    let c_reg = if half { Ty::B32 } else { d_type };
    let o = &s.operands;
    Ok(Op::Mma(Box::new(Mma {
        rows,
        depth,
        a_type,
        b_type,
        half,
        satfinite,
        d: slots(b, &o[0], c_count, c_reg)?,
        a: slots(b, &o[1], a_count, Ty::B32)?,
        b: slots(b, &o[2], b_count, Ty::B32)?,
        c: slots(b, &o[3], c_count, c_reg)?,
    })))
}
