//! Symbolic dims: integer polynomials over symbols, with floor division, remainder, minimum and maximum as atoms.
//!
//! Every constructor normalizes, so two dims that are equal as polynomials compare equal. Symbols stand for sizes and
//! are never negative.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::lex;

/// Name of a symbolic dim; the ONNX `dim_param` where there is one. Names are unique in a graph.
pub type Symbol = Arc<str>;

/// A size, or an integer computed from sizes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    Poly(Arc<Poly>),
}

/// `constant + sum of coefficient * product of atoms`, with at least one term and no zero coefficient.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Poly {
    constant: i64,
    terms: BTreeMap<Vec<Atom>, i64>,
}

/// What polynomials are made of.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    /// A symbol.
    Sym(Symbol),
    /// Quotient rounded towards negative infinity; the divisor is positive.
    FloorDiv(Dim, Dim),
    /// Remainder of [`Atom::FloorDiv`].
    Mod(Dim, Dim),
    /// Smaller of two.
    Min(Dim, Dim),
    /// Larger of two.
    Max(Dim, Dim),
}

impl Dim {
    /// Zero.
    pub const ZERO: Dim = Dim(Repr::Const(0));
    /// One.
    pub const ONE: Dim = Dim(Repr::Const(1));

    /// A symbol.
    pub fn sym(name: &str) -> Dim { Dim::atom(Atom::Sym(name.into())) }

    /// A single atom, as it is.
    fn atom(atom: Atom) -> Dim { Dim::from_parts(0, BTreeMap::from([(vec![atom], 1)])) }

    fn from_parts(constant: i64, mut terms: BTreeMap<Vec<Atom>, i64>) -> Dim {
        terms.retain(|_, c| *c != 0);
        if terms.is_empty() { Dim::from(constant) } else { Dim(Repr::Poly(Arc::new(Poly { constant, terms }))) }
    }

    /// The constant it is, if it is one.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(c) => Some(c),
            Repr::Poly(_) => None,
        }
    }

    /// True for the constant `x`.
    pub fn is(&self, x: i64) -> bool { self.as_const() == Some(x) }

    /// The symbol it is, if it is just one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        let Repr::Poly(p) = &self.0 else { return None };
        match p.terms.iter().next() {
            Some((atoms, 1)) if p.terms.len() == 1 && p.constant == 0 => match atoms.as_slice() {
                [Atom::Sym(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// The constant part, and the terms as (coefficient, atoms).
    pub fn parts(&self) -> (i64, Vec<(i64, &[Atom])>) {
        match &self.0 {
            Repr::Const(c) => (*c, Vec::new()),
            Repr::Poly(p) => (p.constant, p.terms.iter().map(|(a, c)| (*c, a.as_slice())).collect()),
        }
    }

    /// `self / other` rounded down; `other` must not be zero or negative.
    pub fn floor_div(&self, other: &Dim) -> Dim {
        if other.is(1) || self.is(0) {
            return self.clone();
        }
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return Dim::from(if b == 0 { 0 } else { a.div_euclid(b) - i64::from(b < 0 && a.rem_euclid(b) != 0) });
        }
        let (quotient, rest) = self.split_multiple(other);
        if rest.is(0) {
            return quotient;
        }
        if let Some(b) = other.as_const().filter(|&b| b > 0) {
            // (b*q + r) / b = q + r / b; and 0 <= r < b vanishes.
            if rest.as_const().is_some_and(|r| (0..b).contains(&r)) {
                return quotient;
            }
            return &quotient + &Dim::atom(Atom::FloorDiv(rest, other.clone()));
        }
        Dim::atom(Atom::FloorDiv(self.clone(), other.clone()))
    }

    /// `self / other` rounded up.
    pub fn ceil_div(&self, other: &Dim) -> Dim { (&(self + other) - &Dim::ONE).floor_div(other) }

    /// `self - other * (self / other)`.
    pub fn rem(&self, other: &Dim) -> Dim {
        if other.is(1) {
            return Dim::ZERO;
        }
        let (_, rest) = self.split_multiple(other);
        match (rest.as_const(), other.as_const()) {
            (Some(r), Some(b)) if b > 0 => Dim::from(r.rem_euclid(b)),
            (Some(0), _) => Dim::ZERO,
            _ => Dim::atom(Atom::Mod(rest, other.clone())),
        }
    }

    /// Splits into a multiple of `divisor` (returned divided) and a rest, term by term.
    fn split_multiple(&self, divisor: &Dim) -> (Dim, Dim) {
        if self == divisor {
            return (Dim::ONE, Dim::ZERO);
        }
        let (constant, terms) = self.parts();
        let (dc, dt) = divisor.parts();
        let (factor, atoms): (i64, &[Atom]) = match (dc, dt.as_slice()) {
            (c, []) => (c, &[]),
            (0, [(f, atoms)]) => (*f, atoms),
            _ => return (Dim::ZERO, self.clone()),
        };
        if factor == 0 {
            return (Dim::ZERO, self.clone());
        }
        let mut quotient = BTreeMap::new();
        let mut rest = BTreeMap::new();
        for (c, a) in terms {
            match remove_atoms(a, atoms) {
                Some(left) if c % factor == 0 => _ = quotient.insert(left, c / factor),
                _ => _ = rest.insert(a.to_vec(), c),
            }
        }
        let (mut qc, mut rc) = (0, constant);
        if atoms.is_empty() {
            qc = constant.div_euclid(factor);
            rc = constant.rem_euclid(factor);
        }
        let mut q = Dim::from(qc);
        for (a, c) in quotient {
            q = &q + &Dim::monomial(a, c);
        }
        (q, Dim::from_parts(rc, rest))
    }

    fn monomial(atoms: Vec<Atom>, coefficient: i64) -> Dim {
        if atoms.is_empty() {
            Dim::from(coefficient)
        } else {
            Dim::from_parts(0, BTreeMap::from([(atoms, coefficient)]))
        }
    }

    /// The smaller of the two.
    pub fn at_most(&self, other: &Dim) -> Dim {
        let difference = self - other;
        match (difference.lower_bound(), (other - self).lower_bound()) {
            (_, Some(x)) if x >= 0 => self.clone(),
            (Some(x), _) if x >= 0 => other.clone(),
            _ => Dim::ordered(self, other, Atom::Min),
        }
    }

    /// The larger of the two.
    pub fn at_least(&self, other: &Dim) -> Dim {
        let difference = self - other;
        match (difference.lower_bound(), (other - self).lower_bound()) {
            (Some(x), _) if x >= 0 => self.clone(),
            (_, Some(x)) if x >= 0 => other.clone(),
            _ => Dim::ordered(self, other, Atom::Max),
        }
    }

    fn ordered(a: &Dim, b: &Dim, atom: fn(Dim, Dim) -> Atom) -> Dim {
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        Dim::atom(atom(a.clone(), b.clone()))
    }

    /// A number it is never below, if one is known; symbols are at least 0.
    pub fn lower_bound(&self) -> Option<i64> {
        let (constant, terms) = self.parts();
        let mut bound = constant;
        for (c, atoms) in terms {
            let mut low = 1i64;
            for a in atoms {
                low = low.checked_mul(a.lower_bound().filter(|&x| x >= 0)?)?;
            }
            if c < 0 {
                return None;
            }
            bound = bound.checked_add(c.checked_mul(low)?)?;
        }
        Some(bound)
    }

    /// Its value when the symbols have these values; none if one is missing, on overflow and on division by zero.
    pub fn eval(&self, env: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        let (constant, terms) = self.parts();
        let mut sum = constant;
        for (c, atoms) in terms {
            let mut product = c;
            for a in atoms {
                product = product.checked_mul(a.eval(env)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// The same with symbols replaced.
    pub fn substitute(&self, map: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        let (constant, terms) = self.parts();
        let mut sum = Dim::from(constant);
        for (c, atoms) in terms {
            let mut product = Dim::from(c);
            for a in atoms {
                product = &product * &a.substitute(map);
            }
            sum = &sum + &product;
        }
        sum
    }

    /// Adds the symbols it uses to `out`.
    pub fn symbols(&self, out: &mut BTreeSet<Symbol>) {
        for (_, atoms) in self.parts().1 {
            for a in atoms {
                match a {
                    Atom::Sym(s) => _ = out.insert(s.clone()),
                    Atom::FloorDiv(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => {
                        x.symbols(out);
                        y.symbols(out);
                    }
                }
            }
        }
    }

    /// Product of dims.
    pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        dims.into_iter().fold(Dim::ONE, |a, b| &a * b)
    }
}

/// `atoms` without one occurrence of each of `remove`; none if one is missing.
fn remove_atoms(atoms: &[Atom], remove: &[Atom]) -> Option<Vec<Atom>> {
    let mut left = atoms.to_vec();
    for r in remove {
        let at = left.iter().position(|a| a == r)?;
        left.remove(at);
    }
    Some(left)
}

impl Atom {
    fn lower_bound(&self) -> Option<i64> {
        match self {
            Atom::Sym(_) | Atom::Mod(..) => Some(0),
            Atom::FloorDiv(a, _) => a.lower_bound().filter(|&x| x >= 0).map(|_| 0),
            Atom::Min(a, b) => Some(a.lower_bound()?.min(b.lower_bound()?)),
            Atom::Max(a, b) => match (a.lower_bound(), b.lower_bound()) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            },
        }
    }

    fn eval(&self, env: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        match self {
            Atom::Sym(s) => env(s),
            Atom::FloorDiv(a, b) => floor_div(a.eval(env)?, b.eval(env)?),
            Atom::Mod(a, b) => {
                let (a, b) = (a.eval(env)?, b.eval(env)?);
                a.checked_sub(floor_div(a, b)?.checked_mul(b)?)
            }
            Atom::Min(a, b) => Some(a.eval(env)?.min(b.eval(env)?)),
            Atom::Max(a, b) => Some(a.eval(env)?.max(b.eval(env)?)),
        }
    }

    fn substitute(&self, map: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Atom::Sym(s) => map(s).unwrap_or_else(|| Dim::sym(s)),
            Atom::FloorDiv(a, b) => a.substitute(map).floor_div(&b.substitute(map)),
            Atom::Mod(a, b) => a.substitute(map).rem(&b.substitute(map)),
            Atom::Min(a, b) => Dim::at_most(&a.substitute(map), &b.substitute(map)),
            Atom::Max(a, b) => Dim::at_least(&a.substitute(map), &b.substitute(map)),
        }
    }
}

/// Quotient rounded down; none for a zero divisor and on overflow.
pub fn floor_div(a: i64, b: i64) -> Option<i64> {
    let q = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
}

impl From<i64> for Dim {
    fn from(x: i64) -> Dim { Dim(Repr::Const(x)) }
}

impl From<i32> for Dim {
    fn from(x: i32) -> Dim { Dim::from(i64::from(x)) }
}

impl From<usize> for Dim {
    fn from(x: usize) -> Dim { Dim(Repr::Const(i64::try_from(x).unwrap_or(i64::MAX))) }
}

impl std::ops::Add for &Dim {
    type Output = Dim;
    fn add(self, other: &Dim) -> Dim {
        let (ca, ta) = self.parts();
        let (cb, tb) = other.parts();
        let mut terms: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for (c, a) in ta.into_iter().chain(tb) {
            let sum = terms.entry(a.to_vec()).or_insert(0);
            *sum = sum.saturating_add(c);
        }
        Dim::from_parts(ca.saturating_add(cb), terms)
    }
}

impl std::ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, other: &Dim) -> Dim {
        let (ca, ta) = self.parts();
        let (cb, tb) = other.parts();
        let mut terms: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        let mut add = |atoms: Vec<Atom>, c: i64| {
            let sum = terms.entry(atoms).or_insert(0);
            *sum = sum.saturating_add(c);
        };
        for (c, a) in &ta {
            add(a.to_vec(), c.saturating_mul(cb));
        }
        for (c, b) in &tb {
            add(b.to_vec(), c.saturating_mul(ca));
        }
        for (x, a) in &ta {
            for (y, b) in &tb {
                let mut atoms = [*a, *b].concat();
                atoms.sort();
                add(atoms, x.saturating_mul(*y));
            }
        }
        Dim::from_parts(ca.saturating_mul(cb), terms)
    }
}

impl std::ops::Sub for &Dim {
    type Output = Dim;
    fn sub(self, other: &Dim) -> Dim { self + &(other * &Dim::from(-1)) }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (constant, terms) = self.parts();
        let mut first = true;
        for (c, atoms) in &terms {
            let sign = if *c < 0 { "-" } else { "+" };
            match (first, *c < 0) {
                (true, true) => f.write_str("-")?,
                (true, false) => {}
                (false, _) => write!(f, " {sign} ")?,
            }
            first = false;
            if c.unsigned_abs() != 1 {
                write!(f, "{}*", c.unsigned_abs())?;
            }
            for (i, a) in atoms.iter().enumerate() {
                if i > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{a}")?;
            }
        }
        match (first, constant) {
            (true, c) => write!(f, "{c}"),
            (false, 0) => Ok(()),
            (false, c) if c < 0 => write!(f, " - {}", c.unsigned_abs()),
            (false, c) => write!(f, " + {c}"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Atom::Sym(s) if is_plain(s) => f.write_str(s),
            Atom::Sym(s) => f.write_str(&lex::quote(s)),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

/// True for names the text form writes without quotes.
fn is_plain(s: &str) -> bool {
    lex::is_ident(s) && !matches!(s, "floordiv" | "mod" | "min" | "max" | "inf" | "nan" | "true" | "false")
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { write!(f, "{self}") }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { write!(f, "{self}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_polynomials_are_equal() {
        let (n, h) = (Dim::sym("N"), Dim::sym("H"));
        assert_eq!(&(&n + &h) * &Dim::from(2), &(&h * &Dim::from(2)) + &(&n + &n));
        assert_eq!(&(&n + &h) - &h, n);
    }

    #[test]
    fn division_takes_out_multiples() {
        let (n, h) = (Dim::sym("N"), Dim::sym("H"));
        assert_eq!((&(&n * &h) * &Dim::from(6)).floor_div(&(&n * &Dim::from(3))), &h * &Dim::from(2));
        assert_eq!((&(&n * &Dim::from(4)) + &Dim::from(7)).floor_div(&Dim::from(4)), &n + &Dim::ONE);
        assert_eq!((&h + &Dim::ONE).floor_div(&Dim::from(2)).to_string(), "floordiv(H + 1, 2)");
    }

    #[test]
    fn bounds_decide_min_and_max() {
        let n = Dim::sym("N");
        assert_eq!(Dim::at_least(&n, &Dim::ZERO), n);
        assert_eq!(Dim::at_most(&(&n + &Dim::ONE), &n), n);
        assert_eq!(Dim::at_most(&n, &Dim::from(5)).eval(&|_| Some(7)), Some(5));
    }
}
