//! Evaluates the plan's expressions: top to bottom once per shape, and the dependents of one symbol after a bind.
//!
//! A value that is not known yet, or that overflowed, is [`UNKNOWN`], and so is everything computed from it. Whether
//! that is an error is decided where a value is used, so that a branch not taken may divide by zero in peace.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::plan::{Expr, ExprId, Plan, SymbolId, SymbolSource};

/// Stands for a value that is not known or does not fit; no expression may have it as its value.
pub(crate) const UNKNOWN: i64 = i64::MIN;
/// Most run-time symbols one expression may depend on.
const MAX_SET: usize = 256;
/// Most entries of all dependency lists together.
const MAX_ENTRIES: usize = 1 << 24;

/// Values of all symbols and expressions of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    symbols: Vec<i64>,
    exprs: Vec<i64>,
}

impl Values {
    /// Nothing is known but the constants.
    pub(crate) fn new(plan: &Plan) -> Values {
        let mut values = Values { symbols: vec![UNKNOWN; plan.symbols.len()], exprs: vec![UNKNOWN; plan.exprs.len()] };
        values.eval_all(&plan.exprs);
        values
    }

    /// Sets a symbol without evaluating anything; tells whether its value changed.
    pub(crate) fn set_symbol(&mut self, symbol: SymbolId, value: i64) -> bool {
        std::mem::replace(&mut self.symbols[symbol as usize], value) != value
    }

    /// Evaluates the whole table.
    pub(crate) fn eval_all(&mut self, exprs: &[Expr]) {
        for (id, expr) in exprs.iter().enumerate() {
            self.exprs[id] = self.eval(*expr);
        }
    }

    /// Evaluates some expressions, given in dependency order.
    pub(crate) fn eval_some(&mut self, exprs: &[Expr], ids: &[ExprId]) {
        for &id in ids {
            self.exprs[id as usize] = self.eval(exprs[id as usize]);
        }
    }

    /// Value of an expression.
    pub(crate) fn get(&self, id: ExprId) -> Result<i64> {
        match self.exprs[id as usize] {
            UNKNOWN => Err(Error::Overflow(format!("expression {id} of the plan"))),
            value => Ok(value),
        }
    }

    /// Value of an expression, if it is known.
    pub(crate) fn try_get(&self, id: ExprId) -> Option<i64> {
        let value = self.exprs[id as usize];
        (value != UNKNOWN).then_some(value)
    }

    /// Value of an expression that is a size or an offset.
    pub(crate) fn size(&self, id: ExprId) -> Result<usize> {
        let value = self.get(id)?;
        let size = usize::try_from(value).ok().filter(|&size| size <= isize::MAX as usize);
        size.ok_or_else(|| Error::Overflow(format!("size {value} (expression {id} of the plan)")))
    }

    fn eval(&self, expr: Expr) -> i64 {
        let value = |id: ExprId| self.exprs[id as usize];
        match expr {
            Expr::Const(constant) => constant,
            Expr::Symbol(symbol) => self.symbols[symbol as usize],
            Expr::Add(a, b) => known(value(a), value(b), i64::checked_add),
            Expr::Mul(a, b) => known(value(a), value(b), i64::checked_mul),
            Expr::FloorDiv(a, b) => known(value(a), value(b), floor_div),
            Expr::Mod(a, b) => known(value(a), value(b), floor_mod),
            Expr::Min(a, b) => known(value(a), value(b), |a, b| Some(a.min(b))),
            Expr::Max(a, b) => known(value(a), value(b), |a, b| Some(a.max(b))),
        }
    }
}

fn known(a: i64, b: i64, operation: impl Fn(i64, i64) -> Option<i64>) -> i64 {
    if a == UNKNOWN || b == UNKNOWN { UNKNOWN } else { operation(a, b).unwrap_or(UNKNOWN) }
}

fn floor_div(a: i64, b: i64) -> Option<i64> {
    // With a positive divisor, the Euclidean quotient is the floor.
    if b > 0 { a.checked_div_euclid(b) } else { None }
}

fn floor_mod(a: i64, b: i64) -> Option<i64> {
    let remainder = a.checked_rem(b)?;
    Some(if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder })
}

/// Which run-time symbols ([`SymbolSource::Step`]) each expression depends on, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    set_of_expr: Vec<u32>,
    /// Distinct sets, each sorted; the first is empty.
    sets: Vec<Vec<SymbolId>>,
    /// For each symbol the expressions to evaluate after it is bound, in order; empty for input symbols.
    dependents: Vec<Vec<ExprId>>,
}

impl Dependencies {
    /// Analyzes a table whose indices are already checked.
    pub(crate) fn new(plan: &Plan) -> Result<Dependencies> {
        let mut sets = Interner::default();
        let empty = sets.intern(Vec::new())?;
        let mut dependencies =
            Dependencies { dependents: vec![Vec::new(); plan.symbols.len()], ..Dependencies::default() };
        let mut entries = 0;
        for (id, expr) in plan.exprs.iter().enumerate() {
            let of = |id: ExprId| dependencies.set_of_expr[id as usize];
            let set = match *expr {
                Expr::Const(_) => empty,
                Expr::Symbol(symbol) => match plan.symbols[symbol as usize].source {
                    SymbolSource::Input { .. } => empty,
                    SymbolSource::Step => sets.intern(vec![symbol])?,
                },
                Expr::Add(a, b)
                | Expr::Mul(a, b)
                | Expr::FloorDiv(a, b)
                | Expr::Mod(a, b)
                | Expr::Min(a, b)
                | Expr::Max(a, b) => sets.union(of(a), of(b))?,
            };
            dependencies.set_of_expr.push(set);
            for &symbol in &sets.sets[set as usize] {
                dependencies.dependents[symbol as usize].push(id as ExprId);
                entries += 1;
            }
            if entries > MAX_ENTRIES {
                return Err(Error::BadPlan("the expressions depend on too many run-time symbols".into()));
            }
        }
        dependencies.sets = sets.sets;
        Ok(dependencies)
    }

    /// Run-time symbols an expression depends on.
    pub(crate) fn of(&self, id: ExprId) -> &[SymbolId] {
        &self.sets[self.set_of_expr[id as usize] as usize]
    }

    /// Whether an expression is known as soon as the shapes of the inputs are.
    pub(crate) fn is_static(&self, id: ExprId) -> bool {
        self.of(id).is_empty()
    }

    /// Expressions to evaluate, in order, after `symbol` is bound by a step.
    pub(crate) fn dependents(&self, symbol: SymbolId) -> &[ExprId] {
        &self.dependents[symbol as usize]
    }
}

/// Distinct sets of symbols by number, so that large tables with few symbols stay small.
#[derive(Default)]
struct Interner {
    sets: Vec<Vec<SymbolId>>,
    known: HashMap<Vec<SymbolId>, u32>,
    unions: HashMap<(u32, u32), u32>,
}

impl Interner {
    fn intern(&mut self, set: Vec<SymbolId>) -> Result<u32> {
        if set.len() > MAX_SET {
            return Err(Error::BadPlan(format!("an expression depends on more than {MAX_SET} run-time symbols")));
        }
        if let Some(&number) = self.known.get(&set) {
            return Ok(number);
        }
        let number = self.sets.len() as u32;
        self.known.insert(set.clone(), number);
        self.sets.push(set);
        Ok(number)
    }

    fn union(&mut self, a: u32, b: u32) -> Result<u32> {
        if a == b || self.sets[b as usize].is_empty() {
            return Ok(a);
        }
        if let Some(&number) = self.unions.get(&(a, b)) {
            return Ok(number);
        }
        let mut both = self.sets[a as usize].clone();
        both.extend_from_slice(&self.sets[b as usize]);
        both.sort_unstable();
        both.dedup();
        let number = self.intern(both)?;
        self.unions.insert((a, b), number);
        Ok(number)
    }
}

/// Deepest nesting shown by [`describe`]; what lies below is an ellipsis.
const SHOWN_DEPTH: usize = 16;
/// About the longest text of [`describe`].
const SHOWN_LENGTH: usize = 2000;

/// An expression as people write it, such as `64*N + 128`; very large ones are cut short.
pub fn describe(plan: &Plan, id: ExprId) -> String {
    let mut text = String::new();
    write_expr(plan, id, 0, SHOWN_DEPTH, &mut text);
    text
}

/// A shape as people write it, such as `[N, 3, 2*H]`.
pub fn describe_shape(plan: &Plan, shape: &[ExprId]) -> String {
    let dims: Vec<String> = shape.iter().map(|&dim| describe(plan, dim)).collect();
    format!("[{}]", dims.join(", "))
}

/// Writes an expression; parenthesizes what binds less tightly than `level`: 0 sum, 1 product, 2 atom.
fn write_expr(plan: &Plan, id: ExprId, level: usize, depth: usize, text: &mut String) {
    if depth == 0 || text.len() > SHOWN_LENGTH {
        text.push('…');
        return;
    }
    let (a, operator, b, own) = match plan.exprs[id as usize] {
        Expr::Const(constant) => return text.push_str(&constant.to_string()),
        Expr::Symbol(symbol) => return text.push_str(&plan.symbols[symbol as usize].name),
        Expr::Min(a, b) => return write_call(plan, "min", a, b, depth, text),
        Expr::Max(a, b) => return write_call(plan, "max", a, b, depth, text),
        Expr::Add(a, b) => (a, " + ", b, 0),
        Expr::Mul(a, b) => (a, "*", b, 1),
        Expr::FloorDiv(a, b) => (a, "/", b, 1),
        Expr::Mod(a, b) => (a, " mod ", b, 1),
    };
    if own < level {
        text.push('(');
    }
    // Sums and products chain to the left; a quotient or remainder on the right needs its parentheses.
    write_expr(plan, a, own, depth - 1, text);
    text.push_str(operator);
    write_expr(plan, b, own + 1, depth - 1, text);
    if own < level {
        text.push(')');
    }
}

fn write_call(plan: &Plan, name: &str, a: ExprId, b: ExprId, depth: usize, text: &mut String) {
    text.push_str(name);
    text.push('(');
    write_expr(plan, a, 0, depth - 1, text);
    text.push_str(", ");
    write_expr(plan, b, 0, depth - 1, text);
    text.push(')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Symbol;

    fn plan() -> Plan {
        let symbol = |name: &str, source| Symbol { name: name.into(), source, range: (0, 1000) };
        Plan {
            symbols: vec![symbol("N", SymbolSource::Input { input: 0, axis: 0 }), symbol("k", SymbolSource::Step)],
            exprs: vec![
                Expr::Const(64),
                Expr::Symbol(0),
                Expr::Symbol(1),
                Expr::Mul(0, 1),
                Expr::Add(3, 2),
                Expr::FloorDiv(4, 0),
                Expr::Mod(4, 0),
                Expr::Mul(4, 5),
                Expr::Max(1, 0),
            ],
            ..Plan::default()
        }
    }

    #[test]
    fn unknown_spreads_and_binds_reach_their_dependents() {
        let plan = plan();
        let dependencies = Dependencies::new(&plan).unwrap();
        let mut values = Values::new(&plan);
        values.set_symbol(0, 3);
        values.eval_all(&plan.exprs);
        assert_eq!(values.get(3).unwrap(), 192);
        assert_eq!(values.get(8).unwrap(), 64);
        assert!(values.get(4).is_err());
        assert_eq!(dependencies.dependents(1), [2, 4, 5, 6, 7]);
        assert!(dependencies.is_static(3) && !dependencies.is_static(7));
        values.set_symbol(1, -200);
        values.eval_some(&plan.exprs, dependencies.dependents(1));
        assert_eq!((values.get(4).unwrap(), values.get(5).unwrap(), values.get(6).unwrap()), (-8, -1, 56));
        assert_eq!(values.size(4).unwrap_err().code(), "R0201");
    }

    #[test]
    fn overflow_is_an_error_where_it_is_used() {
        let plan = Plan {
            exprs: vec![Expr::Const(i64::MAX), Expr::Const(0), Expr::Mul(0, 0), Expr::FloorDiv(0, 1), Expr::Mod(0, 1)],
            ..Plan::default()
        };
        let values = Values::new(&plan);
        assert!((2..5).all(|id| values.get(id).is_err()));
        assert_eq!((floor_mod(-7, 3), floor_mod(7, -3), floor_div(-7, 3)), (Some(2), Some(-2), Some(-3)));
    }

    #[test]
    fn expressions_are_readable() {
        assert_eq!(describe(&plan(), 7), "(64*N + k)*((64*N + k)/64)");
        assert_eq!(describe_shape(&plan(), &[1, 8]), "[N, max(N, 64)]");
        let chain = (0..100_000).map(|id| if id == 0 { Expr::Const(1) } else { Expr::Add(id - 1, id - 1) });
        let deep = Plan { exprs: chain.collect(), ..Plan::default() };
        assert!(describe(&deep, 99_999).len() < 100_000);
    }
}
