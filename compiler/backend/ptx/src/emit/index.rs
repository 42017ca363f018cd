//! Arithmetic on i64, the type of indices: in 32-bit registers where the range allows.

use super::*;
use crate::facts;
use xlac_ir::scalar;

/// An i64 constant.
pub(super) fn int(x: i64) -> Opnd {
    Opnd::Const(Const::i64(x))
}

impl Emitter<'_> {
    /// What is known of an i64 operand.
    pub(super) fn facts_of(&self, o: Opnd) -> Facts {
        match o {
            Opnd::Const(c) => Facts::constant(c.as_i64()),
            Opnd::Reg(r) => self.facts[r.id as usize].clone().unwrap_or_else(|| Facts::of(r)),
        }
    }

    /// The low 32 bits of an i64 operand.
    pub(super) fn low(&mut self, o: Opnd) -> Arg {
        match o {
            Opnd::Const(c) => Arg::Int(i64::from(c.bits as i32)),
            Opnd::Reg(r) if r.class == Class::B64 => self.op("cvt.u32.u64", Class::B32, [r.into()]).into(),
            Opnd::Reg(r) => r.into(),
        }
    }

    /// All 64 bits of an i64 operand.
    pub(super) fn wide(&mut self, o: Opnd) -> Arg {
        match o {
            Opnd::Reg(r) if r.class == Class::B32 => self.extended(r).into(),
            _ => self.arg(o),
        }
    }

    /// Gives the register of a value its facts; it becomes its own term where its sum is unknown.
    fn know(&mut self, r: Reg, mut facts: Facts) -> Opnd {
        if facts.terms.is_empty() {
            facts.terms = [(r, 1)].into();
            facts.add = 0;
        }
        self.set_facts(r, facts);
        r.into()
    }

    /// A value computed in a 64-bit register, moved to a 32-bit one if it fits.
    fn settle(&mut self, r: Reg, facts: Facts) -> Opnd {
        if facts.narrow() && r.class == Class::B64 {
            let low = self.op("cvt.u32.u64", Class::B32, [r.into()]);
            return self.know(low, facts);
        }
        self.know(r, facts)
    }

    /// `op a, b` of i64.
    pub(super) fn int_bin(&mut self, op: BinOp, a: Opnd, b: Opnd) -> Opnd {
        if let (Opnd::Const(x), Opnd::Const(y)) = (a, b) {
            return Opnd::Const(scalar::bin(op, x, y).expect("integers have every operation but those of floats"));
        }
        let (fa, fb) = (self.facts_of(a), self.facts_of(b));
        let facts = facts::bin(op, &fa, &fb);
        if let Some(x) = facts.value() {
            return int(x);
        }
        if let Some(same) = identity(op, (a, &fa), (b, &fb)) {
            return same;
        }
        match op {
            BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::And | BinOp::Or | BinOp::Xor => {
                self.int_ring(op, (a, &fa), (b, &fb), facts)
            }
            BinOp::Div | BinOp::Rem => self.int_divide(op, (a, &fa), (b, &fb), facts),
            BinOp::Min | BinOp::Max => {
                if fa.narrow() && fb.narrow() {
                    let (x, y) = (self.low(a), self.low(b));
                    let r = self.op(format!("{}.s32", op.name()), Class::B32, [x, y]);
                    return self.know(r, facts);
                }
                let (x, y) = (self.wide(a), self.wide(b));
                let r = self.op(format!("{}.s64", op.name()), Class::B64, [x, y]);
                self.settle(r, facts)
            }
            BinOp::Shl | BinOp::Shr => {
                let by = self.shift_amount(b);
                let left = op == BinOp::Shl;
                if facts.narrow() && fa.narrow() {
                    let x = self.low(a);
                    let r = self.op(if left { "shl.b32" } else { "shr.s32" }, Class::B32, [x, by]);
                    return self.know(r, facts);
                }
                let x = self.wide(a);
                let r = self.op(if left { "shl.b64" } else { "shr.s64" }, Class::B64, [x, by]);
                self.settle(r, facts)
            }
        }
    }

    /// An amount of i64 that shifts: as 32 bits, those out of range still out of range. Shifts take it unsigned and stop at
    /// the width.
    fn shift_amount(&mut self, b: Opnd) -> Arg {
        match b {
            Opnd::Const(c) => Arg::Int(c.bits.min(64) as i64),
            Opnd::Reg(r) if r.class == Class::B32 => r.into(),
            Opnd::Reg(r) => {
                let r = self.op("min.u64", Class::B64, [r.into(), 64.into()]);
                self.op("cvt.u32.u64", Class::B32, [r.into()]).into()
            }
        }
    }

    /// Operations whose low bits depend on low bits only.
    fn int_ring(&mut self, op: BinOp, (a, fa): (Opnd, &Facts), (b, fb): (Opnd, &Facts), facts: Facts) -> Opnd {
        let logic = matches!(op, BinOp::And | BinOp::Or | BinOp::Xor);
        let name = if op == BinOp::Mul { "mul.lo" } else { op.name() };
        if facts.narrow() {
            let (x, y) = (self.low(a), self.low(b));
            let r = self.op(format!("{name}.{}", if logic { "b32" } else { "s32" }), Class::B32, [x, y]);
            return self.know(r, facts);
        }
        if op == BinOp::Mul && fa.narrow() && fb.narrow() {
            let (x, y) = (self.low(a), self.low(b));
            let r = self.op("mul.wide.s32", Class::B64, [x, y]);
            return self.know(r, facts);
        }
        let (x, y) = (self.wide(a), self.wide(b));
        let r = self.op(format!("{name}.{}", if logic { "b64" } else { "s64" }), Class::B64, [x, y]);
        self.know(r, facts)
    }

    fn int_divide(&mut self, op: BinOp, (a, fa): (Opnd, &Facts), (b, fb): (Opnd, &Facts), facts: Facts) -> Opnd {
        if let Some(by) = fb.value().filter(|&by| fa.lo >= 0 && by > 0 && by.count_ones() == 1) {
            return match op {
                BinOp::Div => self.int_bin(BinOp::Shr, a, int(by.trailing_zeros().into())),
                _ => self.int_bin(BinOp::And, a, int(by - 1)),
            };
        }
        let narrow = fa.narrow() && fb.narrow() && facts.narrow();
        let natural = fa.lo >= 0 && fb.lo >= 0;
        let zero = fb.lo <= 0 && fb.hi >= 0;
        let least = if narrow { i64::from(i32::MIN) } else { i64::MIN };
        let overflow = fa.lo == least && fb.lo <= -1 && fb.hi >= -1;
        let (x, y, class) = match narrow {
            true => (self.low(a), self.low(b), Class::B32),
            false => (self.wide(a), self.wide(b), Class::B64),
        };
        let r = self.divide(op, (class, !natural), x, y, zero, overflow);
        self.settle(r, facts)
    }

    /// `op a` of i64.
    pub(super) fn int_un(&mut self, op: UnOp, a: Opnd) -> Opnd {
        match op {
            UnOp::Neg => self.int_bin(BinOp::Sub, int(0), a),
            UnOp::Not => self.int_bin(BinOp::Sub, int(-1), a),
            _ => {
                let minus = self.int_bin(BinOp::Sub, int(0), a);
                self.int_bin(BinOp::Max, a, minus)
            }
        }
    }

    /// The outcome of a comparison of i64, if the ranges decide it.
    pub(super) fn int_cmp(&mut self, pred: Pred, a: Opnd, b: Opnd) -> Opnd {
        let (fa, fb) = (self.facts_of(a), self.facts_of(b));
        let decided = match pred {
            Pred::Lt => decide(fa.hi < fb.lo, fa.lo >= fb.hi),
            Pred::Le => decide(fa.hi <= fb.lo, fa.lo > fb.hi),
            Pred::Gt => decide(fa.lo > fb.hi, fa.hi <= fb.lo),
            Pred::Ge => decide(fa.lo >= fb.hi, fa.hi < fb.lo),
            Pred::Eq => decide(fa.value().is_some() && fa.value() == fb.value(), fa.hi < fb.lo || fa.lo > fb.hi),
            Pred::Ne => decide(fa.hi < fb.lo || fa.lo > fb.hi, fa.value().is_some() && fa.value() == fb.value()),
        };
        if let Some(known) = decided {
            return Opnd::Const(Const::bool(known));
        }
        let narrow = fa.narrow() && fb.narrow();
        let (x, y, ty) = match narrow {
            true => (self.low(a), self.low(b), "s32"),
            false => (self.wide(a), self.wide(b), "s64"),
        };
        self.op(format!("setp.{}.{ty}", pred.name()), Class::Pred, [x, y]).into()
    }

    /// An i64 that is `a` or `b`.
    pub(super) fn int_select(&mut self, p: Reg, a: Opnd, b: Opnd) -> Opnd {
        let facts = self.facts_of(a).either(&self.facts_of(b));
        if facts.narrow() {
            let (x, y) = (self.low(a), self.low(b));
            let r = self.op("selp.b32", Class::B32, [x, y, p.into()]);
            return self.know(r, facts);
        }
        let (x, y) = (self.wide(a), self.wide(b));
        let r = self.op("selp.b64", Class::B64, [x, y, p.into()]);
        self.know(r, facts)
    }
}

fn decide(yes: bool, no: bool) -> Option<bool> {
    match (yes, no) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// The operand that is the result, if one is.
fn identity(op: BinOp, (a, fa): (Opnd, &Facts), (b, fb): (Opnd, &Facts)) -> Option<Opnd> {
    let (x, y) = (fa.value(), fb.value());
    match op {
        BinOp::Add if x == Some(0) => Some(b),
        BinOp::Mul if x == Some(1) => Some(b),
        BinOp::Add | BinOp::Sub | BinOp::Shl | BinOp::Shr | BinOp::Or | BinOp::Xor if y == Some(0) => Some(a),
        BinOp::Mul | BinOp::Div if y == Some(1) => Some(a),
        BinOp::Rem if fa.lo >= 0 && fa.hi < fb.lo => Some(a),
        BinOp::Div if fa.lo >= 0 && fa.hi < fb.lo => Some(int(0)),
        BinOp::Min if fa.hi <= fb.lo => Some(a),
        BinOp::Min if fb.hi <= fa.lo => Some(b),
        BinOp::Max if fa.lo >= fb.hi => Some(a),
        BinOp::Max if fb.lo >= fa.hi => Some(b),
        _ => None,
    }
}
