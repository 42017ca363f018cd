//! Constants, arithmetic, comparison, selection and lane shuffles.

use xlac_ir::DType;
use xlac_ir::kernel::*;

use super::{Emitter, elem, int, suffix, vector};

/// A constant in every lane, as operand text.
pub(super) fn constant(c: Const, lanes: u32) -> String {
    let one = match c.dtype {
        // LLVM writes floats as the bits of the f64 of the same value.
        DType::F32 => format!("0x{:016X}", widen_bits(c.bits as u32)),
        DType::F64 => format!("0x{:016X}", c.bits),
        DType::Bool => (c.bits != 0).to_string(),
        DType::F16 | DType::BF16 => c.bits.to_string(),
        _ => c.as_i64().to_string(),
    };
    if lanes == 1 { one } else { format!("splat ({} {one})", elem(c.dtype)) }
}

/// Bits of the f64 with the value of an f32; NaNs keep sign and payload.
fn widen_bits(bits: u32) -> u64 {
    let x = f32::from_bits(bits);
    if x.is_nan() {
        let (sign, mantissa) = (u64::from(bits >> 31), u64::from(bits & 0x7f_ffff));
        return sign << 63 | 0x7ff << 52 | mantissa << 29;
    }
    f64::from(x).to_bits()
}

/// True for a float NaN.
pub(super) fn is_nan(c: Const) -> bool {
    match c.dtype {
        DType::F64 => f64::from_bits(c.bits).is_nan(),
        DType::F32 => f32::from_bits(c.bits as u32).is_nan(),
        DType::F16 => c.bits & 0x7fff > 0x7c00,
        DType::BF16 => c.bits & 0x7fff > 0x7f80,
        _ => false,
    }
}

/// True for a zero of either sign.
fn is_zero(c: Const) -> bool { c.dtype.is_float() && c.bits << (65 - c.dtype.bits()) == 0 }

fn computes(dtype: DType) -> bool { matches!(dtype, DType::F32 | DType::F64) }

impl Emitter<'_> {
    /// Calls an intrinsic overloaded on the type of its operands, which is also its result's.
    fn intrinsic(&mut self, name: &str, t: VType, operands: &[&str], tail: &str) -> String {
        let ty = vector(elem(t.dtype), t.lanes);
        let operands: Vec<String> = operands.iter().map(|o| format!("{ty} {o}")).collect();
        let suffix = suffix(t.dtype, t.lanes);
        self.op(format!("call {ty} @llvm.{name}.{suffix}({}{tail})", operands.join(", ")))
    }

    pub(super) fn un(&mut self, op: UnOp, a: Val) -> Result<String, String> {
        let (t, ty, x) = (self.kernel.ty(a), self.ty(a), self.val(a));
        let float = computes(t.dtype);
        let narrow = t.dtype.is_float() && !float;
        let text = match op {
            UnOp::Neg if float => self.op(format!("fneg {ty} {x}")),
            UnOp::Abs if float => self.intrinsic("fabs", t, &[&x], ""),
            UnOp::Neg if narrow => {
                let sign = constant(Const { dtype: t.dtype, bits: 0x8000 }, t.lanes);
                self.op(format!("xor {ty} {x}, {sign}"))
            }
            UnOp::Abs if narrow => {
                let rest = constant(Const { dtype: t.dtype, bits: 0x7fff }, t.lanes);
                self.op(format!("and {ty} {x}, {rest}"))
            }
            UnOp::Neg if t.dtype.is_int() => {
                let zero = constant(Const::int(t.dtype, 0), t.lanes);
                self.op(format!("sub {ty} {zero}, {x}"))
            }
            UnOp::Abs if t.dtype.is_signed() => self.intrinsic("abs", t, &[&x], ", i1 false"),
            UnOp::Abs if t.dtype.is_int() => x,
            UnOp::Not if !t.dtype.is_float() => {
                let ones = if t.dtype == DType::Bool { Const::bool(true) } else { Const::int(t.dtype, -1) };
                self.op(format!("xor {ty} {x}, {}", constant(ones, t.lanes)))
            }
            UnOp::Sqrt if float => self.intrinsic("sqrt", t, &[&x], ""),
            UnOp::Floor if float => self.intrinsic("floor", t, &[&x], ""),
            UnOp::Ceil if float => self.intrinsic("ceil", t, &[&x], ""),
            UnOp::Trunc if float => self.intrinsic("trunc", t, &[&x], ""),
            UnOp::Round if float => self.intrinsic("roundeven", t, &[&x], ""),
            _ => return Err(format!("`{}` does not apply to {}", op.name(), t.dtype)),
        };
        Ok(text)
    }

    pub(super) fn bin(&mut self, op: BinOp, a: Val, b: Val) -> Result<String, String> {
        let t = self.kernel.ty(a);
        let text = match t.dtype {
            DType::F32 | DType::F64 => self.bin_float(op, a, b),
            DType::Bool => self.bin_bool(op, a, b),
            _ if t.dtype.is_int() => Some(self.bin_int(op, a, b)),
            _ => None,
        };
        text.ok_or_else(|| format!("`{}` does not apply to {}", op.name(), t.dtype))
    }

    fn bin_float(&mut self, op: BinOp, a: Val, b: Val) -> Option<String> {
        let (ty, x, y) = (self.ty(a), self.val(a), self.val(b));
        let name = match op {
            BinOp::Add => "fadd",
            BinOp::Sub => "fsub",
            BinOp::Mul => "fmul",
            BinOp::Div => "fdiv",
            BinOp::Min => return Some(self.min_max("olt", a, b)),
            BinOp::Max => return Some(self.min_max("ogt", a, b)),
            _ => return None,
        };
        Some(self.op(format!("{name} {ty} {x}, {y}")))
    }

    /// `b` if `b wins a` or `b` is NaN, else `a`. The one-compare forms become `vminps` and friends.
    fn min_max(&mut self, wins: &str, a: Val, b: Val) -> String {
        let (t, ty, x, y) = (self.kernel.ty(a), self.ty(a), self.val(a), self.val(b));
        let bool_ty = vector("i1", t.lanes);
        if self.nan_free(b) {
            let b_wins = self.op(format!("fcmp {wins} {ty} {y}, {x}"));
            return self.op(format!("select {bool_ty} {b_wins}, {ty} {y}, {ty} {x}"));
        }
        if let Some(c) = self.known[a.0 as usize].filter(|&c| !is_nan(c)) {
            // The test fails for NaN, which picks `b`. Equal operands differ in bits only if they are zeros.
            let strict = if is_zero(c) { wins.replace('t', "e") } else { wins.into() };
            let a_stays = self.op(format!("fcmp {strict} {ty} {x}, {y}"));
            return self.op(format!("select {bool_ty} {a_stays}, {ty} {x}, {ty} {y}"));
        }
        let b_wins = self.op(format!("fcmp {wins} {ty} {y}, {x}"));
        let best = self.op(format!("select {bool_ty} {b_wins}, {ty} {y}, {ty} {x}"));
        let nan = self.op(format!("fcmp uno {ty} {y}, {y}"));
        self.op(format!("select {bool_ty} {nan}, {ty} {y}, {ty} {best}"))
    }

    fn bin_bool(&mut self, op: BinOp, a: Val, b: Val) -> Option<String> {
        let name = match op {
            BinOp::And | BinOp::Min | BinOp::Mul => "and",
            BinOp::Or | BinOp::Max => "or",
            BinOp::Xor => "xor",
            _ => return None,
        };
        let (ty, x, y) = (self.ty(a), self.val(a), self.val(b));
        Some(self.op(format!("{name} {ty} {x}, {y}")))
    }

    fn bin_int(&mut self, op: BinOp, a: Val, b: Val) -> String {
        let (t, ty, x, y) = (self.kernel.ty(a), self.ty(a), self.val(a), self.val(b));
        let signed = t.dtype.is_signed();
        let name = match op {
            BinOp::Add => "add",
            BinOp::Sub => "sub",
            BinOp::Mul => "mul",
            BinOp::And => "and",
            BinOp::Or => "or",
            BinOp::Xor => "xor",
            BinOp::Min => return self.intrinsic(if signed { "smin" } else { "umin" }, t, &[&x, &y], ""),
            BinOp::Max => return self.intrinsic(if signed { "smax" } else { "umax" }, t, &[&x, &y], ""),
            BinOp::Div | BinOp::Rem => return self.div_rem(op, a, b),
            BinOp::Shl | BinOp::Shr => return self.shift(op, a, b),
        };
        self.op(format!("{name} {ty} {x}, {y}"))
    }

    fn div_rem(&mut self, op: BinOp, a: Val, b: Val) -> String {
        let (t, ty, x, y) = (self.kernel.ty(a), self.ty(a), self.val(a), self.val(b));
        let signed = t.dtype.is_signed();
        let int = |n: i64| constant(Const::int(t.dtype, n), t.lanes);
        let name = match (op, signed) {
            (BinOp::Div, true) => "sdiv",
            (BinOp::Div, false) => "udiv",
            (_, true) => "srem",
            (_, false) => "urem",
        };
        match self.known_int(b) {
            Some(0) => return int(0),
            Some(-1) if signed && op == BinOp::Div => return self.op(format!("sub {ty} {}, {x}", int(0))),
            Some(-1) if signed => return int(0),
            Some(_) => return self.op(format!("{name} {ty} {x}, {y}")),
            None => {}
        }
        // Divide by 1 where the hardware would trap: that is already right but for the quotient by zero.
        let bool_ty = vector("i1", t.lanes);
        let by_zero = self.op(format!("icmp eq {ty} {y}, {}", int(0)));
        let mut bad = by_zero.clone();
        if signed {
            let least = self.op(format!("icmp eq {ty} {x}, {}", int(1 << (t.dtype.bits() - 1))));
            let by_minus = self.op(format!("icmp eq {ty} {y}, {}", int(-1)));
            let overflows = self.op(format!("and {bool_ty} {least}, {by_minus}"));
            bad = self.op(format!("or {bool_ty} {by_zero}, {overflows}"));
        }
        let safe = self.op(format!("select {bool_ty} {bad}, {ty} {}, {ty} {y}", int(1)));
        let result = self.op(format!("{name} {ty} {x}, {safe}"));
        if op == BinOp::Rem {
            return result;
        }
        self.op(format!("select {bool_ty} {by_zero}, {ty} {}, {ty} {result}", int(0)))
    }

    fn shift(&mut self, op: BinOp, a: Val, b: Val) -> String {
        let (t, ty, x, y) = (self.kernel.ty(a), self.ty(a), self.val(a), self.val(b));
        let bits = t.dtype.bits() as i64;
        let int = |n: i64| constant(Const::int(t.dtype, n), t.lanes);
        let keeps_sign = op == BinOp::Shr && t.dtype.is_signed();
        let name = match op {
            BinOp::Shl => "shl",
            _ if keeps_sign => "ashr",
            _ => "lshr",
        };
        if self.known_int(b).is_some_and(|n| (0..bits).contains(&n)) {
            return self.op(format!("{name} {ty} {x}, {y}"));
        }
        let bool_ty = vector("i1", t.lanes);
        let fits = self.op(format!("icmp ult {ty} {y}, {}", int(bits)));
        let amount = self.op(format!("select {bool_ty} {fits}, {ty} {y}, {ty} {}", int(bits - 1)));
        let shifted = self.op(format!("{name} {ty} {x}, {amount}"));
        if keeps_sign {
            return shifted;
        }
        self.op(format!("select {bool_ty} {fits}, {ty} {shifted}, {ty} {}", int(0)))
    }

    pub(super) fn fma(&mut self, a: Val, b: Val, c: Val) -> Result<String, String> {
        let t = self.kernel.ty(a);
        if !computes(t.dtype) {
            return Err(format!("`fma` does not apply to {}", t.dtype));
        }
        if !self.isa.fma {
            return Err("the target has no fused multiply-add (feature `fma`)".into());
        }
        let (a, b, c) = (self.val(a), self.val(b), self.val(c));
        Ok(self.intrinsic("fma", t, &[&a, &b, &c], ""))
    }

    pub(super) fn cmp(&mut self, pred: Pred, a: Val, b: Val) -> String {
        let t = self.kernel.ty(a);
        let (mut ty, mut x, mut y) = (self.ty(a), self.val(a), self.val(b));
        if t.dtype.is_float() {
            if !computes(t.dtype) {
                (x, y) = (self.narrow_to_f32(&x, t), self.narrow_to_f32(&y, t));
                ty = vector("float", t.lanes);
            }
            let pred = match pred {
                Pred::Eq => "oeq",
                Pred::Ne => "une",
                Pred::Lt => "olt",
                Pred::Le => "ole",
                Pred::Gt => "ogt",
                Pred::Ge => "oge",
            };
            return self.op(format!("fcmp {pred} {ty} {x}, {y}"));
        }
        let sign = match pred {
            Pred::Eq | Pred::Ne => "",
            _ if t.dtype.is_signed() => "s",
            _ => "u",
        };
        self.op(format!("icmp {sign}{} {ty} {x}, {y}", pred.name()))
    }

    pub(super) fn select(&mut self, cond: Val, a: Val, b: Val) -> String {
        let (cond_ty, cond) = (self.ty(cond), self.val(cond));
        let (ty, a, b) = (self.ty(a), self.val(a), self.val(b));
        self.op(format!("select {cond_ty} {cond}, {ty} {a}, {ty} {b}"))
    }

    /// A scalar in every lane.
    pub(super) fn splat(&mut self, x: &str, elem: &str, lanes: u32) -> String {
        if lanes == 1 {
            return x.into();
        }
        let ty = vector(elem, lanes);
        let first = self.op(format!("insertelement {ty} poison, {elem} {x}, i64 0"));
        self.op(format!("shufflevector {ty} {first}, {ty} poison, <{lanes} x i32> zeroinitializer"))
    }

    pub(super) fn iota(&mut self, base: Val, lanes: u32) -> String {
        let elem = int(self.kernel.ty(base).dtype.bits());
        let x = self.val(base);
        if lanes == 1 {
            return x;
        }
        let all = match self.known[base.0 as usize] {
            Some(c) => constant(c, lanes),
            None => self.splat(&x, elem, lanes),
        };
        self.op(format!("add {} {all}, {}", vector(elem, lanes), count_up(elem, lanes)))
    }

    pub(super) fn slice(&mut self, a: Val, first: u32, lanes: u32) -> String {
        let (t, ty, x) = (self.kernel.ty(a), self.ty(a), self.val(a));
        match (t.lanes, lanes) {
            (1, _) => x,
            (_, 1) => self.op(format!("extractelement {ty} {x}, i64 {first}")),
            _ => self.shuffle(&x, &ty, first..first + lanes),
        }
    }

    /// The lanes of `x` in this range; those past its end are undefined.
    pub(super) fn shuffle(&mut self, x: &str, ty: &str, lanes: std::ops::Range<u32>) -> String {
        let n = lanes.len();
        let picks: Vec<String> = lanes.map(|i| format!("i32 {i}")).collect();
        self.op(format!("shufflevector {ty} {x}, {ty} poison, <{n} x i32> <{}>", picks.join(", ")))
    }

    /// A vector of `to` lanes that begins with the lanes of `x`.
    pub(super) fn resize(&mut self, x: &str, elem: &str, from: u32, to: u32) -> String {
        let ty = vector(elem, from);
        match (from, to) {
            _ if from == to => x.into(),
            (1, _) => self.op(format!("insertelement {} poison, {elem} {x}, i64 0", vector(elem, to))),
            (_, 1) => self.op(format!("extractelement {ty} {x}, i64 0")),
            _ => {
                let pick = |i| if i < from { format!("i32 {i}") } else { "i32 poison".into() };
                let picks: Vec<String> = (0..to).map(pick).collect();
                self.op(format!("shufflevector {ty} {x}, {ty} poison, <{to} x i32> <{}>", picks.join(", ")))
            }
        }
    }

    pub(super) fn concat(&mut self, a: Val, b: Val) -> String {
        let (ta, tb) = (self.kernel.ty(a), self.kernel.ty(b));
        let (x, y, elem) = (self.val(a), self.val(b), elem(ta.dtype));
        let (n, wide) = (ta.lanes + tb.lanes, ta.lanes.max(tb.lanes).max(2));
        let x = self.resize(&x, elem, ta.lanes, wide);
        let y = self.resize(&y, elem, tb.lanes, wide);
        let ty = vector(elem, wide);
        let picks: Vec<String> =
            (0..n).map(|i| format!("i32 {}", if i < ta.lanes { i } else { wide + i - ta.lanes })).collect();
        self.op(format!("shufflevector {ty} {x}, {ty} {y}, <{n} x i32> <{}>", picks.join(", ")))
    }

    pub(super) fn permute(&mut self, a: Val, b: Val, picks: &[u32]) -> String {
        let t = self.kernel.ty(a);
        let (x, y, elem) = (self.val(a), self.val(b), elem(t.dtype));
        let repeated = t.lanes == 4 && t.dtype.bits() == 8 && picks.iter().zip(0..).all(|(&p, i)| p == i % 4);
        if repeated && picks.len().is_multiple_of(4) {
            // Bytes that repeat in fours are one word in every lane: a broadcast from memory, whatever follows.
            let (n, word) = (picks.len() as u32, self.op(format!("bitcast <4 x i8> {x} to i32")));
            let words = self.splat(&word, "i32", n / 4);
            return self.op(format!("bitcast {} {words} to {}", vector("i32", n / 4), vector("i8", n)));
        }
        let wide = t.lanes.max(2);
        let x = self.resize(&x, elem, t.lanes, wide);
        let y = self.resize(&y, elem, t.lanes, wide);
        let at = |p: u32| if p < t.lanes { p } else { wide + p - t.lanes };
        if let [pick] = *picks {
            let (from, lane) = if pick < t.lanes { (x, pick) } else { (y, pick - t.lanes) };
            return self.op(format!("extractelement {} {from}, i64 {lane}", vector(elem, wide)));
        }
        let (ty, n) = (vector(elem, wide), picks.len());
        let picks: Vec<String> = picks.iter().map(|&p| format!("i32 {}", at(p))).collect();
        self.op(format!("shufflevector {ty} {x}, {ty} {y}, <{n} x i32> <{}>", picks.join(", ")))
    }
}

/// `<0, 1, 2, ...>`.
pub(super) fn count_up(elem: &str, lanes: u32) -> String {
    if lanes == 1 {
        return "0".into();
    }
    let lanes: Vec<String> = (0..lanes).map(|i| format!("{elem} {i}")).collect();
    format!("<{}>", lanes.join(", "))
}
