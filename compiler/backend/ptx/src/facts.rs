//! What is known of the i64 values that indices are made of: a range, a residue, and a sum of other registers.
//!
//! Kernel IR counts in i64; a GPU's registers have 32 bits. A value whose range fits in 32 bits lives in one register.
//! The residue proves alignment, and equal sums share an address.

use std::rc::Rc;

use xlac_ir::kernel::BinOp;

use crate::asm::{Class, Reg};

/// Facts of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Least value.
    pub lo: i64,
    /// Greatest value.
    pub hi: i64,
    /// The value is `residue` modulo `2^bits`.
    pub bits: u32,
    /// See `bits`; below `2^bits`.
    pub residue: i64,
    /// Registers and factors that sum up, with `add`, to the value modulo 2^64; sorted.
    pub terms: Rc<[(Reg, i64)]>,
    /// Constant part of the sum.
    pub add: i64,
}

/// Terms, and the constant part.
type Sum = (Rc<[(Reg, i64)]>, i64);

/// Most terms of a sum; a longer one starts anew.
const MOST_TERMS: usize = 8;
/// Most known low bits.
const MOST_BITS: u32 = 32;

impl Facts {
    /// A constant.
    pub fn constant(x: i64) -> Facts {
        Facts { lo: x, hi: x, bits: MOST_BITS, residue: low(x, MOST_BITS), terms: [].into(), add: x }
    }

    /// A register of which only a range is known.
    pub fn register(r: Reg, lo: i64, hi: i64) -> Facts {
        Facts { lo, hi, bits: 0, residue: 0, terms: [(r, 1)].into(), add: 0 }
    }

    /// A register of which nothing is known.
    pub fn of(r: Reg) -> Facts {
        match r.class {
            Class::B32 => Facts::register(r, i32::MIN.into(), i32::MAX.into()),
            _ => Facts::register(r, i64::MIN, i64::MAX),
        }
    }

    /// The value, if there is but one.
    pub fn value(&self) -> Option<i64> {
        (self.lo == self.hi).then_some(self.lo)
    }

    /// True if the value fits in a signed register of 32 bits.
    pub fn narrow(&self) -> bool {
        fits32(self.lo, self.hi)
    }

    /// The same with residue `residue` modulo `2^bits`.
    pub fn with_residue(self, bits: u32, residue: i64) -> Facts {
        let bits = bits.min(MOST_BITS);
        Facts { bits, residue: low(residue, bits), ..self }
    }

    /// What is known of either of two.
    pub fn either(&self, other: &Facts) -> Facts {
        let differ = (self.residue ^ other.residue).trailing_zeros();
        let bits = self.bits.min(other.bits).min(differ);
        let same = self.terms == other.terms && self.add == other.add;
        let terms = if same { self.terms.clone() } else { [].into() };
        Facts { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), terms, ..self.clone() }
            .with_residue(bits, self.residue)
    }
}

/// True if all of `lo ..= hi` fits in a signed register of 32 bits.
pub fn fits32(lo: i64, hi: i64) -> bool {
    i32::try_from(lo).is_ok() && i32::try_from(hi).is_ok()
}

fn low(x: i64, bits: u32) -> i64 {
    x & ((1 << bits) - 1)
}

/// Facts of `op a, b`. Unless the value is constant, no terms mean that nothing is known of the sum.
pub fn bin(op: BinOp, a: &Facts, b: &Facts) -> Facts {
    let (lo, hi) = range(op, a, b).unwrap_or((i64::MIN, i64::MAX));
    let (bits, residue) = residue(op, a, b);
    match sum(op, a, b) {
        Some((terms, add)) if terms.is_empty() => Facts::constant(add),
        Some((terms, add)) => Facts { lo, hi, bits: 0, residue: 0, terms, add }.with_residue(bits, residue),
        None => Facts { lo, hi, bits: 0, residue: 0, terms: [].into(), add: 0 }.with_residue(bits, residue),
    }
}

/// Bounds that hold without wrapping, or none.
fn range(op: BinOp, a: &Facts, b: &Facts) -> Option<(i64, i64)> {
    let wide = |x: i64| i128::from(x);
    let fit = |lo: i128, hi: i128| Some((i64::try_from(lo).ok()?, i64::try_from(hi).ok()?));
    let hull = |xs: [i128; 4]| fit(*xs.iter().min()?, *xs.iter().max()?);
    let ((al, ah), (bl, bh)) = ((wide(a.lo), wide(a.hi)), (wide(b.lo), wide(b.hi)));
    match op {
        BinOp::Add => fit(al + bl, ah + bh),
        BinOp::Sub => fit(al - bh, ah - bl),
        BinOp::Mul => hull([al * bl, al * bh, ah * bl, ah * bh]),
        BinOp::Min => Some((a.lo.min(b.lo), a.hi.min(b.hi))),
        BinOp::Max => Some((a.lo.max(b.lo), a.hi.max(b.hi))),
        BinOp::Div if bl > 0 => hull([al / bl, al / bh, ah / bl, ah / bh]),
        BinOp::Div => {
            let most = al.abs().max(ah.abs());
            fit(-most, most)
        }
        BinOp::Rem if al >= 0 && bl > 0 => fit(0, ah.min(bh - 1)),
        BinOp::Rem => {
            let most = (bl.abs().max(bh.abs()) - 1).max(0);
            fit((-most).max(al.min(0)), most.min(ah.max(0)).max(0))
        }
        BinOp::And if al >= 0 && bl >= 0 => fit(0, ah.min(bh)),
        BinOp::And if bl >= 0 => fit(0, bh),
        BinOp::And if al >= 0 => fit(0, ah),
        BinOp::Or | BinOp::Xor if al >= 0 && bl >= 0 => fit(0, ((ah | bh) as u128 + 1).next_power_of_two() as i128 - 1),
        BinOp::And | BinOp::Or | BinOp::Xor if fits32(a.lo, a.hi) && fits32(b.lo, b.hi) => {
            Some((i32::MIN.into(), i32::MAX.into()))
        }
        BinOp::Shl => {
            let by = u32::try_from(b.value()?).ok().filter(|&s| s < 63)?;
            fit(al << by, ah << by)
        }
        BinOp::Shr => match b.value() {
            Some(by) if (0..64).contains(&by) => Some((a.lo >> by, a.hi >> by)),
            _ => Some((a.lo.min(0), a.hi.max(-1))),
        },
        _ => None,
    }
}

/// Known low bits and their value.
fn residue(op: BinOp, a: &Facts, b: &Facts) -> (u32, i64) {
    let zeros = |x: &Facts| x.residue.trailing_zeros().min(x.bits);
    let both = a.bits.min(b.bits);
    match op {
        BinOp::Add => (both, a.residue.wrapping_add(b.residue)),
        BinOp::Sub => (both, a.residue.wrapping_sub(b.residue)),
        // (x 2^m + r)(y 2^n + s): each product but r s is a multiple of a known power of two.
        BinOp::Mul => {
            let bits = (a.bits + zeros(b)).min(b.bits + zeros(a)).min(a.bits + b.bits);
            (bits, a.residue.wrapping_mul(b.residue))
        }
        BinOp::And => (both, a.residue & b.residue),
        BinOp::Or => (both, a.residue | b.residue),
        BinOp::Xor => (both, a.residue ^ b.residue),
        BinOp::Shl => match b.value() {
            Some(by @ 0..32) => (a.bits + by as u32, a.residue << by),
            _ => (0, 0),
        },
        BinOp::Shr => match b.value() {
            Some(by @ 0..32) => (a.bits.saturating_sub(by as u32), a.residue >> by),
            _ => (0, 0),
        },
        // The sign's side: x - (x / b) b, with b a multiple of a power of two.
        BinOp::Rem => match b.value() {
            Some(by) if by != 0 => (a.bits.min(by.trailing_zeros()), a.residue),
            _ => (0, 0),
        },
        BinOp::Min | BinOp::Max => {
            let joined = a.either(b);
            (joined.bits, joined.residue)
        }
        BinOp::Div => (0, 0),
    }
}

/// The sum modulo 2^64, if `op` makes one that is short.
fn sum(op: BinOp, a: &Facts, b: &Facts) -> Option<Sum> {
    let scale = |x: &Facts, by: i64| {
        let terms = x.terms.iter().map(|&(r, f)| (r, f.wrapping_mul(by))).filter(|t| t.1 != 0);
        (terms.collect(), x.add.wrapping_mul(by))
    };
    match op {
        BinOp::Add => plus(a, b, 1),
        BinOp::Sub => plus(a, b, -1),
        BinOp::Mul => match (a.value(), b.value()) {
            (_, Some(by)) => Some(scale(a, by)),
            (Some(by), _) => Some(scale(b, by)),
            _ => None,
        },
        BinOp::Shl => match b.value() {
            Some(by @ 0..63) => Some(scale(a, 1 << by)),
            _ => None,
        },
        _ => None,
    }
}

fn plus(a: &Facts, b: &Facts, factor: i64) -> Option<Sum> {
    let mut terms: Vec<(Reg, i64)> = a.terms.to_vec();
    for &(r, f) in b.terms.iter() {
        let f = f.wrapping_mul(factor);
        match terms.iter_mut().find(|t| t.0 == r) {
            Some(t) => t.1 = t.1.wrapping_add(f),
            None => terms.push((r, f)),
        }
    }
    terms.retain(|t| t.1 != 0);
    terms.sort();
    let add = a.add.wrapping_add(b.add.wrapping_mul(factor));
    (terms.len() <= MOST_TERMS).then(|| (terms.into(), add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlac_ir::kernel::Const;
    use xlac_ir::scalar;

    fn facts(lo: i64, hi: i64, bits: u32, residue: i64) -> Facts {
        Facts::register(Reg { class: Class::B64, id: 0 }, lo, hi).with_residue(bits, residue)
    }

    /// Every operation on every value of small ranges lies within its facts.
    #[test]
    fn facts_hold() {
        let big = [facts(i64::MIN, i64::MAX, 0, 0), facts(i64::MAX - 4, i64::MAX, 0, 0), facts(i64::MIN, -3, 0, 0)];
        let small = (-9..9).flat_map(|lo| (0..3).map(move |n| (lo, lo + 7 * n)));
        let mut all: Vec<Facts> =
            small.flat_map(|(lo, hi)| [(0, 0), (1, lo), (2, lo), (3, lo)].map(|(b, r)| facts(lo, hi, b, r))).collect();
        all.extend(big);
        all.extend([0, 1, 5, 8, 31, 32, 63, 64].map(Facts::constant));
        let sample = |f: &Facts| -> Vec<i64> {
            let ends = [f.lo, f.lo.saturating_add(8).min(f.hi), f.hi.saturating_sub(16).max(f.lo), f.hi];
            let fits = |x: &i64| low(*x ^ f.residue, f.bits) == 0;
            ends.into_iter().filter(fits).collect()
        };
        for a in &all {
            for b in &all {
                for &op in BinOp::ALL {
                    let other = Reg { class: Class::B64, id: 1 };
                    let terms = b.terms.iter().map(|t| (other, t.1)).collect();
                    let f = bin(op, a, &Facts { terms, ..b.clone() });
                    for (x, y) in sample(a).into_iter().flat_map(|x| sample(b).into_iter().map(move |y| (x, y))) {
                        let z = scalar::bin(op, Const::i64(x), Const::i64(y)).expect("integers have it").as_i64();
                        assert!((f.lo..=f.hi).contains(&z), "{} {x} {y} = {z} in {f:?}", op.name());
                        assert_eq!(low(z ^ f.residue, f.bits), 0, "{} {x} {y} = {z} in {f:?}", op.name());
                    }
                }
            }
        }
    }

    #[test]
    fn sums_cancel() {
        let (a, b) = (Facts::of(Reg { class: Class::B32, id: 1 }), Facts::of(Reg { class: Class::B32, id: 2 }));
        let scaled = bin(BinOp::Mul, &bin(BinOp::Add, &a, &Facts::constant(3)), &Facts::constant(64));
        assert_eq!((scaled.terms[0].1, scaled.add), (64, 192));
        let both = bin(BinOp::Add, &scaled, &b);
        assert_eq!(bin(BinOp::Sub, &both, &scaled).terms, b.terms);
    }
}
