//! Loops, branches and checks.
//!
//! A carried value keeps its register from before the loop to after it. A loop is a guard, its body and a test; unrolled
//! by a factor, it is followed by a loop over the trips that are left.

use super::*;
use crate::facts::fits32;

/// Most statements a loop may become when it is unrolled completely without being asked.
const SMALL: u64 = 64;
/// Most statements of any unrolled loop.
const LARGE: u64 = 20_000;

/// Longest way a counter goes in the trips of an unrolled loop.
const FAR: i64 = 1 << 30;

/// A loop being written.
struct Counter {
    var: Reg,
    /// Exclusive bound, as wide as `var`.
    hi: Arg,
    /// Range and residue of the first value and the bound.
    lo_facts: Facts,
    hi_facts: Facts,
}

impl Counter {
    fn ty(&self, sign: char) -> String {
        format!("{sign}{}", if self.var.class == Class::B32 { 32 } else { 64 })
    }
}

impl Emitter<'_> {
    pub(super) fn for_loop(&mut self, f: &For) -> Result<(), String> {
        let (lo, hi) = (self.scalar(f.lo), self.scalar(f.hi));
        let (lo_facts, hi_facts) = (self.facts_of(lo), self.facts_of(hi));
        let trips = match (lo_facts.value(), hi_facts.value()) {
            (Some(lo), Some(hi)) => Some((i128::from(hi) - i128::from(lo)).max(0) as u64),
            _ if hi_facts.hi <= lo_facts.lo => Some(0),
            _ => None,
        };
        let trips = trips.map(|distance| distance.div_ceil(f.step as u64));
        let each = size(&f.body).max(1);
        match trips {
            Some(n) if unrolls(n, each, f.hint) => self.straight(f, lo_facts.lo, n),
            _ => {
                let factor = match f.hint {
                    LoopHint::Unroll(n) => u64::from(n).min(LARGE / each).min(trips.unwrap_or(u64::MAX)).max(1) as i64,
                    LoopHint::Plain => 1,
                };
                let factor = if f.step.saturating_mul(factor) > FAR { 1 } else { factor };
                self.counted(f, (lo, lo_facts), (hi, hi_facts), factor, trips)
            }
        }
    }

    /// Every trip one after the other.
    fn straight(&mut self, f: &For, lo: i64, trips: u64) -> Result<(), String> {
        let mut carried: Vec<Value> = f.carried.iter().map(|c| self.value(c.init)).collect();
        for trip in 0..trips {
            let i = lo + trip as i64 * f.step;
            self.set_lanes(f.var, vec![Opnd::Const(Const::i64(i))]);
            carried = self.trip(f, carried)?;
        }
        for (c, value) in f.carried.iter().zip(carried) {
            self.set(c.result, value);
        }
        Ok(())
    }

    /// One trip with these values carried into it; gives those carried out.
    fn trip(&mut self, f: &For, carried: Vec<Value>) -> Result<Vec<Value>, String> {
        for (c, value) in f.carried.iter().zip(carried) {
            self.set(c.phi, value);
        }
        self.stmts(&f.body)?;
        Ok(f.carried.iter().map(|c| self.value(c.next)).collect())
    }

    fn counted(
        &mut self,
        f: &For,
        (lo, lo_facts): (Opnd, Facts),
        (hi, hi_facts): (Opnd, Facts),
        factor: i64,
        trips: Option<u64>,
    ) -> Result<(), String> {
        let most = self.most_trips(f, &lo_facts, &hi_facts);
        self.loops.push(self.facts.len() as u32);
        let mut phis = Vec::new();
        for c in &f.carried {
            let (value, regs) = self.carrier(f, c, most);
            let init = self.parts(c.init, matches!(value, Value::Words(_)));
            regs.iter().zip(init).for_each(|(&to, from)| self.copy_to(to, from));
            phis.push((value, regs));
        }
        let done = self.label("loop_done");
        if let Opnd::Reg(none) = self.int_cmp(Pred::Ge, lo, hi) {
            self.branch_if(none, true, done);
        }
        let stride = f.step * factor;
        let narrow = fits32(lo_facts.lo, hi_facts.hi.saturating_add(stride));
        let var = self.fresh(if narrow { Class::B32 } else { Class::B64 });
        self.copy_to(var, lo);
        let hi = if narrow { self.low(hi) } else { self.wide(hi) };
        let counter = Counter { var, hi, lo_facts, hi_facts };
        let rest = self.label("rest");
        let whole = trips.is_some_and(|n| n.is_multiple_of(factor as u64));
        let partial = factor > 1 && !whole;
        if partial {
            let left = self.left(&counter);
            let few =
                self.op(format!("setp.le.{}", counter.ty('u')), Class::Pred, [left.into(), (stride - f.step).into()]);
            self.branch_if(few, true, rest);
        }
        let again = self.label("loop");
        self.place_label(again);
        self.trips(f, &counter, factor, &phis)?;
        if partial {
            let left = self.left(&counter);
            self.advance(&counter, stride);
            let enough = stride + (stride - f.step);
            let more = self.op(format!("setp.gt.{}", counter.ty('u')), Class::Pred, [left.into(), enough.into()]);
            self.branch_if(more, true, again);
            let none = self.op(format!("setp.le.{}", counter.ty('u')), Class::Pred, [left.into(), stride.into()]);
            self.branch_if(none, true, done);
            self.place_label(rest);
            self.trips(f, &counter, 1, &phis)?;
            self.test(&counter, f.step, rest);
        } else {
            self.test(&counter, stride, again);
        }
        self.place_label(done);
        self.loops.pop();
        for (c, (value, _)) in f.carried.iter().zip(phis) {
            self.set(c.result, value);
        }
        Ok(())
    }

    /// What is left to count, as an unsigned number; there is something.
    fn left(&mut self, counter: &Counter) -> Reg {
        self.op(format!("sub.{}", counter.ty('s')), counter.var.class, [counter.hi.clone(), counter.var.into()])
    }

    fn advance(&mut self, counter: &Counter, by: i64) {
        self.ins(format!("add.{}", counter.ty('s')), 1, [counter.var.into(), counter.var.into(), by.into()]);
    }

    /// Advances, and goes back if there is a trip left.
    fn test(&mut self, counter: &Counter, by: i64, again: Label) {
        let most = if counter.var.class == Class::B32 { i32::MAX.into() } else { i64::MAX };
        let more = if counter.hi_facts.hi <= most - by {
            self.advance(counter, by);
            self.op(format!("setp.lt.{}", counter.ty('s')), Class::Pred, [counter.var.into(), counter.hi.clone()])
        } else {
            // The counter may pass the end of its type.
            let left = self.left(counter);
            self.advance(counter, by);
            self.op(format!("setp.gt.{}", counter.ty('u')), Class::Pred, [left.into(), by.into()])
        };
        self.branch_if(more, true, again);
    }

    /// `factor` trips in a row, and the registers of what is carried written for the next.
    fn trips(&mut self, f: &For, counter: &Counter, factor: i64, phis: &[(Value, Vec<Reg>)]) -> Result<(), String> {
        self.known.push(HashMap::new());
        let (lo, hi) = (&counter.lo_facts, &counter.hi_facts);
        let bits = lo.bits.min((f.step * factor).trailing_zeros());
        let facts = Facts::register(counter.var, lo.lo, (hi.hi - 1).max(lo.lo)).with_residue(bits, lo.residue);
        self.set_facts(counter.var, facts.clone());
        let mut carried: Vec<Value> = phis.iter().map(|p| p.0.clone()).collect();
        for trip in 0..factor {
            let mut var = counter.var;
            if trip > 0 {
                let add = trip * f.step;
                var = self.op(format!("add.{}", counter.ty('s')), var.class, [var.into(), add.into()]);
                let facts = Facts { add, ..facts.clone() }.with_residue(bits, lo.residue.wrapping_add(add));
                self.set_facts(var, facts);
            }
            self.set_lanes(f.var, vec![var.into()]);
            carried = self.trip(f, carried)?;
        }
        let mut moves = Vec::new();
        for ((value, regs), c) in phis.iter().zip(&f.carried) {
            let next = self.parts(c.next, matches!(value, Value::Words(_)));
            moves.extend(regs.iter().copied().zip(next));
        }
        self.move_all(moves);
        self.known.pop();
        Ok(())
    }

    /// Writes registers all at once: what is read before it is overwritten goes through others.
    fn move_all(&mut self, mut moves: Vec<(Reg, Opnd)>) {
        moves.retain(|&(to, from)| from != Opnd::Reg(to));
        let written: std::collections::HashSet<Reg> = moves.iter().map(|m| m.0).collect();
        for (_, from) in &mut moves {
            if let Opnd::Reg(r) = *from
                && written.contains(&r)
            {
                let copy = self.fresh(r.class);
                self.copy_to(copy, r.into());
                *from = copy.into();
            }
        }
        moves.into_iter().for_each(|(to, from)| self.copy_to(to, from));
    }

    /// Words or lanes of a value.
    fn parts(&mut self, v: Val, words: bool) -> Vec<Opnd> {
        if words { self.words(v).iter().map(|&r| r.into()).collect() } else { self.lanes(v).to_vec() }
    }

    /// Registers for a carried value.
    fn carrier(&mut self, f: &For, c: &Carried, most: Option<i64>) -> (Value, Vec<Reg>) {
        let ty = self.kernel.ty(c.phi);
        let range = if ty == VType::scalar(DType::I64) { self.carried_range(f, c, most) } else { None };
        let facts = range.map(|(lo, hi)| (lo, hi, fits32(lo, hi)));
        let (value, regs) = self.registers(ty, facts.is_some_and(|f| f.2));
        if let (Some((lo, hi, _)), &[r]) = (facts, &regs[..]) {
            self.set_facts(r, Facts::register(r, lo, hi));
        }
        (value, regs)
    }

    /// New registers for a value that is written in several places.
    fn registers(&mut self, ty: VType, narrow: bool) -> (Value, Vec<Reg>) {
        if value::packs(ty) && ty.dtype != DType::Bool {
            let n = ty.lanes as usize * ty.dtype.size() / 4;
            let regs: Vec<Reg> = (0..n).map(|_| self.fresh(Class::B32)).collect();
            return (Value::Words(regs.clone().into()), regs);
        }
        let class = if narrow { Class::B32 } else { class_of(ty.dtype) };
        let regs: Vec<Reg> = (0..ty.lanes).map(|_| self.fresh(class)).collect();
        (Value::Lanes(regs.iter().map(|&r| r.into()).collect()), regs)
    }

    /// A bound of the number of trips.
    fn most_trips(&self, f: &For, lo: &Facts, hi: &Facts) -> Option<i64> {
        let distance = hi.hi.checked_sub(lo.lo)?.max(0);
        (distance / f.step).checked_add(1)
    }

    /// The range of a carried index that grows by a bounded amount each trip.
    fn carried_range(&mut self, f: &For, c: &Carried, most: Option<i64>) -> Option<(i64, i64)> {
        let init = self.scalar(c.init);
        let init = self.facts_of(init);
        if c.next == c.phi {
            return Some((init.lo, init.hi));
        }
        if let Some(range) = self.cycle(f, c, &init) {
            return Some(range);
        }
        let (lo, hi) = self.growth(f, c)?;
        let most = most?;
        let (lo, hi) = (lo.min(0).checked_mul(most)?, hi.max(0).checked_mul(most)?);
        Some((init.lo.checked_add(lo)?, init.hi.checked_add(hi)?))
    }

    /// The range of a carried index that counts up to a constant and begins again: the number of a stage.
    fn cycle(&mut self, f: &For, c: &Carried, init: &Facts) -> Option<(i64, i64)> {
        let &Instr::Select(cond, first, up) = definition(f, c.next)? else { return None };
        let &Instr::Cmp(Pred::Eq, x, last) = definition(f, cond)? else { return None };
        let &Instr::Bin(BinOp::Add, a, b) = definition(f, up)? else { return None };
        let counts = a == c.phi && self.constant(f, b) == Some(1) || b == c.phi && self.constant(f, a) == Some(1);
        let (first, last) = (self.constant(f, first)?, self.constant(f, last)?);
        let most = match x {
            _ if x == c.phi => last,
            _ if x == up => last.checked_sub(1)?,
            _ => return None,
        };
        (counts && init.hi <= most && first <= most).then_some((init.lo.min(first), most))
    }

    /// The value of a constant, of the top of the body or from outside.
    fn constant(&self, f: &For, v: Val) -> Option<i64> {
        match definition(f, v) {
            Some(Instr::Const(x)) => Some(x.as_i64()),
            Some(_) => None,
            None => match self.values[v.0 as usize].as_ref() {
                Some(Value::Lanes(lanes)) if !self.inside(&f.body, v) => match lanes[0] {
                    Opnd::Const(x) => Some(x.as_i64()),
                    Opnd::Reg(_) => None,
                },
                _ => None,
            },
        }
    }

    /// What the body adds to a carried index.
    fn growth(&mut self, f: &For, c: &Carried) -> Option<(i64, i64)> {
        let definition = |v: Val| definition(f, v);
        let (other, minus) = match *definition(c.next)? {
            Instr::Bin(BinOp::Add, a, b) if a == c.phi => (b, false),
            Instr::Bin(BinOp::Add, a, b) if b == c.phi => (a, false),
            Instr::Bin(BinOp::Sub, a, b) if a == c.phi => (b, true),
            _ => return None,
        };
        let (lo, hi) = match definition(other) {
            Some(Instr::Const(x)) => (x.as_i64(), x.as_i64()),
            Some(_) => return None,
            None => {
                // Not defined at the top of the body: outside, or nowhere yet.
                let Some(Value::Lanes(lanes)) = self.values[other.0 as usize].clone() else { return None };
                if other == f.var || f.carried.iter().any(|c| c.phi == other) || self.inside(&f.body, other) {
                    return None;
                }
                let facts = self.facts_of(lanes[0]);
                (facts.lo, facts.hi)
            }
        };
        if minus { Some((hi.checked_neg()?, lo.checked_neg()?)) } else { Some((lo, hi)) }
    }

    /// True if a statement inside defines the value.
    fn inside(&self, block: &Block, v: Val) -> bool {
        block.0.iter().any(|s| match s {
            Stmt::Let(at, _) => *at == v,
            Stmt::For(f) => {
                f.var == v || f.carried.iter().any(|c| c.phi == v || c.result == v) || self.inside(&f.body, v)
            }
            Stmt::If(i) => i.results.iter().any(|r| r.0 == v) || self.inside(&i.then, v) || self.inside(&i.els, v),
            _ => false,
        })
    }

    pub(super) fn branch(&mut self, i: &If) -> Result<(), String> {
        let p = match self.scalar(i.cond) {
            Opnd::Reg(p) => p,
            Opnd::Const(c) => {
                let taken = c.bits != 0;
                self.stmts(if taken { &i.then } else { &i.els })?;
                for &(result, a, b) in &i.results {
                    let value = self.value(if taken { a } else { b });
                    self.set(result, value);
                }
                return Ok(());
            }
        };
        if i.then.0.is_empty() && i.els.0.is_empty() {
            for &(result, a, b) in &i.results {
                self.choose(result, i.cond, a, b);
            }
            return Ok(());
        }
        let before = std::mem::take(&mut self.lines);
        let (then, a) = self.side(&i.then, i, |r| r.1)?;
        let (els, b) = self.side(&i.els, i, |r| r.2)?;
        let mut moves = [Vec::new(), Vec::new()];
        for (n, &(result, ..)) in i.results.iter().enumerate() {
            let ty = self.kernel.ty(result);
            let facts: Vec<Facts> = match ty.dtype {
                DType::I64 => {
                    a[n].iter().zip(&b[n]).map(|(&x, &y)| self.facts_of(x).either(&self.facts_of(y))).collect()
                }
                _ => Vec::new(),
            };
            let narrow = !facts.is_empty() && facts.iter().all(Facts::narrow);
            let (value, regs) = self.registers(ty, narrow);
            for (&r, f) in regs.iter().zip(facts) {
                self.set_facts(r, Facts { terms: [(r, 1)].into(), add: 0, ..f });
            }
            moves[0].extend(regs.iter().copied().zip(a[n].iter().copied()));
            moves[1].extend(regs.iter().copied().zip(b[n].iter().copied()));
            self.set(result, value);
        }
        let [to_then, to_els] = moves;
        self.lines = before;
        let (other, done) = (self.label("else"), self.label("endif"));
        let alone = els.is_empty() && to_els.is_empty();
        self.branch_if(p, false, if alone { done } else { other });
        self.lines.extend(then);
        to_then.into_iter().for_each(|(to, from)| self.copy_to(to, from));
        if !alone {
            self.jump(done);
            self.place_label(other);
            self.lines.extend(els);
            to_els.into_iter().for_each(|(to, from)| self.copy_to(to, from));
        }
        self.place_label(done);
        Ok(())
    }

    /// Lines of one side of a branch, and the parts of its results.
    #[allow(clippy::type_complexity)]
    fn side(
        &mut self,
        block: &Block,
        i: &If,
        pick: impl Fn(&(Val, Val, Val)) -> Val,
    ) -> Result<(Vec<Line>, Vec<Vec<Opnd>>), String> {
        self.known.push(HashMap::new());
        self.stmts(block)?;
        let parts = |r: &(Val, Val, Val)| {
            let ty = self.kernel.ty(r.0);
            self.parts(pick(r), value::packs(ty) && ty.dtype != DType::Bool)
        };
        let results = i.results.iter().map(parts).collect();
        self.known.pop();
        Ok((std::mem::take(&mut self.lines), results))
    }

    /// Leaves a code and stops, in a team without stopping: the others wait at barriers.
    pub(super) fn check(&mut self, cond: Val, code: u32) {
        let cond = self.scalar(cond);
        if matches!(cond, Opnd::Const(c) if c.bits != 0) {
            return;
        }
        let p = self.reg(cond);
        if self.kernel.threads == 1 {
            let failed = self.failure(code);
            return self.branch_if(p, false, failed);
        }
        let status = self.status();
        let code = self.op("mov.b32", Class::B32, [i64::from(code).into()]);
        self.guarded((p, false), "st.global.b32", 0, [Arg::Mem(Base::Reg(status), 0), code.into()]);
    }

    fn status(&mut self) -> Reg {
        if let Some(status) = self.status {
            return status;
        }
        let status = self.first("ld.param.u64", Class::B64, [Arg::Mem(Base::Symbol("status".into()), 0)]);
        self.status = Some(status);
        status
    }

    /// Where a thread goes to leave a code and stop.
    pub(super) fn failure(&mut self, code: u32) -> Label {
        if let Some(found) = self.failures.iter().find(|f| f.0 == code) {
            return found.1;
        }
        let label = self.label("failed");
        self.failures.push((code, label));
        let status = self.status();
        self.cold(|e| {
            e.place_label(label);
            let code = e.op("mov.b32", Class::B32, [i64::from(code as i32).into()]);
            e.ins("st.global.b32", 0, [Arg::Mem(Base::Reg(status), 0), code.into()]);
            e.ins("ret", 0, []);
        });
        label
    }
}

/// What defines a value at the top of a loop's body.
fn definition(f: &For, v: Val) -> Option<&Instr> {
    f.body.0.iter().find_map(|s| match s {
        Stmt::Let(at, instr) if *at == v => Some(instr),
        _ => None,
    })
}

/// True if all trips of a loop are written out.
fn unrolls(trips: u64, statements: u64, hint: LoopHint) -> bool {
    let all = trips.saturating_mul(statements);
    match hint {
        LoopHint::Unroll(n) => trips <= u64::from(n).max(1) && all <= LARGE,
        LoopHint::Plain => trips <= 1 || all <= SMALL,
    }
}

/// Statements of a block.
fn size(block: &Block) -> u64 {
    let inner = |s: &Stmt| match s {
        Stmt::For(f) => 1 + size(&f.body),
        Stmt::If(i) => 1 + size(&i.then) + size(&i.els),
        _ => 1,
    };
    block.0.iter().map(inner).sum()
}
