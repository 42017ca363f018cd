//! Arithmetic, comparisons and choices, lane by lane.

use super::*;
use xlac_ir::scalar;

/// Why a kernel made for a processor cannot run here.
const NO_DOT: &str = "sums of 8-bit products are for processors; a team multiplies matrices of them";

/// The same of matrices in the registers of one thread.
pub(super) const NO_MATRIX: &str = "matrices in registers are for processors; a team multiplies fragments of them";

impl Emitter<'_> {
    /// Writes one instruction.
    pub(super) fn instr(&mut self, v: Val, instr: &Instr) -> Result<(), String> {
        let ty = self.kernel.ty(v);
        let t = ty.dtype;
        match *instr {
            Instr::Const(c) => self.set_lanes(v, vec![Opnd::Const(c); ty.lanes as usize]),
            Instr::Tile => {
                let tile = self.tile.expect("tiles are numbered first");
                self.set_lanes(v, vec![tile.into()]);
            }
            Instr::Dim(i) => {
                let dim = self.dims[i as usize];
                self.set_lanes(v, vec![dim.into()]);
            }
            Instr::Un(op, a) => match self.un_words(op, t, a) {
                Some(words) => self.set_words(v, words),
                None => self.each(v, [a], |e, [x]| e.un(op, t, x)),
            },
            Instr::Bin(op, a, b) => match self.bin_words(op, a, b) {
                Some(words) => self.set_words(v, words),
                None => self.each(v, [a, b], |e, [x, y]| e.bin(op, t, x, y)),
            },
            Instr::Fma(a, b, c) => self.each(v, [a, b, c], |e, [x, y, z]| e.fma(t, x, y, z)),
            Instr::Dot4(..) => return Err(NO_DOT.into()),
            Instr::Cmp(pred, a, b) => {
                let from = self.kernel.ty(a).dtype;
                self.each(v, [a, b], |e, [x, y]| e.cmp(pred, from, x, y));
            }
            Instr::Select(c, a, b) => self.choose(v, c, a, b),
            Instr::Convert(a) => self.convert_value(v, a),
            Instr::Bitcast(a) => self.bitcast(v, a),
            Instr::Iota(a) => {
                let base = self.scalar(a);
                let lane = |e: &mut Self, i: u32| e.bin(BinOp::Add, t, base, Opnd::Const(Const::int(t, i.into())));
                let lanes = (0..ty.lanes).map(|i| if i == 0 { base } else { lane(self, i) }).collect();
                self.set_lanes(v, lanes);
            }
            Instr::Splat(_) | Instr::Extract(..) | Instr::Slice(..) | Instr::Concat(..) | Instr::Permute(..) => {
                self.rearrange(v, instr);
            }
            Instr::Load { buf, index, offset, count } => self.load(v, buf, (index, offset), count),
            Instr::LoadStrided { buf, index, offset, stride, count } => {
                self.load_strided(v, buf, (index, offset), stride, count);
            }
            Instr::Gather { buf, index, offset, count } => self.gather(v, buf, (index, offset), count),
            Instr::Matrix(_) => return Err(NO_MATRIX.into()),
            Instr::Team(ref instr) => self.team_instr(v, instr)?,
        }
        Ok(())
    }

    /// Defines `v` lane by lane.
    fn each<const N: usize>(&mut self, v: Val, operands: [Val; N], mut f: impl FnMut(&mut Self, [Opnd; N]) -> Opnd) {
        let operands = operands.map(|a| self.lanes(a));
        let n = operands[0].len();
        let lanes = (0..n).map(|i| f(self, std::array::from_fn(|k| operands[k][i]))).collect();
        self.set_lanes(v, lanes);
    }

    /// Operations on single bits, on whole words.
    fn bin_words(&mut self, op: BinOp, a: Val, b: Val) -> Option<Vec<Reg>> {
        let bits = matches!(op, BinOp::And | BinOp::Or | BinOp::Xor);
        match (bits, self.value(a), self.value(b)) {
            (true, Value::Words(_), _) | (true, _, Value::Words(_)) => {}
            _ => return None,
        }
        let (a, b) = (self.words(a), self.words(b));
        let word = |(&x, &y): (&Reg, &Reg)| self.op(format!("{}.b32", op.name()), Class::B32, [x.into(), y.into()]);
        Some(a.iter().zip(b.iter()).map(word).collect())
    }

    fn un_words(&mut self, op: UnOp, t: DType, a: Val) -> Option<Vec<Reg>> {
        let Value::Words(words) = self.value(a) else { return None };
        let (name, mask) = match (op, class_of(t)) {
            (UnOp::Not, _) => ("xor.b32", -1),
            (UnOp::Neg, Class::B16) => ("xor.b32", 0x8000_8000u32 as i32),
            (UnOp::Abs, Class::B16) => ("and.b32", 0x7fff_7fff),
            _ => return None,
        };
        Some(words.iter().map(|&w| self.op(name, Class::B32, [w.into(), i64::from(mask).into()])).collect())
    }

    fn un(&mut self, op: UnOp, t: DType, a: Opnd) -> Opnd {
        if let Opnd::Const(c) = a
            && let Some(c) = scalar::un(op, c).filter(|c| c.dtype == t)
        {
            return Opnd::Const(c);
        }
        match class_of(t) {
            Class::F32 | Class::F64 => self.float_un(op, t, a),
            Class::B16 => self.half_un(op, t, a),
            Class::Pred => {
                let p = self.reg(a);
                self.op("not.pred", Class::Pred, [p.into()]).into()
            }
            _ if t == DType::I64 => self.int_un(op, a),
            class => {
                let (x, n) = (self.arg(a), t.bits().max(32));
                let r = match op {
                    UnOp::Neg => self.op(format!("neg.s{n}"), class, [x]),
                    UnOp::Not => self.op(format!("not.b{n}"), class, [x]),
                    _ if !t.is_signed() => return a,
                    _ => {
                        let minus = self.op(format!("neg.s{n}"), class, [x.clone()]);
                        self.op(format!("max.s{n}"), class, [x, minus.into()])
                    }
                };
                if op == UnOp::Not && t.is_signed() { r.into() } else { self.wrapped(r, t).into() }
            }
        }
    }

    fn float_un(&mut self, op: UnOp, t: DType, a: Opnd) -> Opnd {
        let x = self.arg(a);
        let name = match op {
            UnOp::Neg | UnOp::Abs => format!("{}.{t}", op.name()),
            UnOp::Sqrt => format!("sqrt.rn.{t}"),
            UnOp::Floor => format!("cvt.rmi.{t}.{t}"),
            UnOp::Ceil => format!("cvt.rpi.{t}.{t}"),
            UnOp::Trunc => format!("cvt.rzi.{t}.{t}"),
            UnOp::Round | UnOp::Not => format!("cvt.rni.{t}.{t}"),
        };
        self.op(name, class_of(t), [x]).into()
    }

    fn half_un(&mut self, op: UnOp, t: DType, a: Opnd) -> Opnd {
        let x = self.arg(a);
        match op {
            UnOp::Neg => self.op("xor.b16", Class::B16, [x, 0x8000.into()]).into(),
            UnOp::Abs => self.op("and.b16", Class::B16, [x, 0x7fff.into()]).into(),
            _ => {
                let wide = self.convert(a, t, DType::F32);
                let wide = self.float_un(op, DType::F32, wide);
                self.convert(wide, DType::F32, t)
            }
        }
    }

    /// `op a, b` of one lane.
    pub(super) fn bin(&mut self, op: BinOp, t: DType, a: Opnd, b: Opnd) -> Opnd {
        if t == DType::I64 {
            return self.int_bin(op, a, b);
        }
        if let (Opnd::Const(x), Opnd::Const(y)) = (a, b)
            && let Some(c) = scalar::bin(op, x, y)
        {
            return Opnd::Const(c);
        }
        match class_of(t) {
            Class::Pred => self.bool_bin(op, a, b),
            Class::F32 | Class::F64 => self.float_bin(op, t, a, b),
            Class::B16 => {
                let (x, y) = (self.convert(a, t, DType::F32), self.convert(b, t, DType::F32));
                let wide = self.float_bin(op, DType::F32, x, y);
                self.convert(wide, DType::F32, t)
            }
            class => self.plain_bin(op, t, class, a, b),
        }
    }

    fn float_bin(&mut self, op: BinOp, t: DType, a: Opnd, b: Opnd) -> Opnd {
        let class = class_of(t);
        let (x, y) = (self.arg(a), self.arg(b));
        match op {
            BinOp::Min | BinOp::Max => self.extreme(op, t, a, b),
            BinOp::Div => self.op(format!("div.rn.{t}"), class, [x, y]).into(),
            _ => self.op(format!("{}.rn.{t}", op.name()), class, [x, y]).into(),
        }
    }

    /// `b` if it is beyond `a` or NaN, else `a`.
    fn extreme(&mut self, op: BinOp, t: DType, a: Opnd, b: Opnd) -> Opnd {
        let class = class_of(t);
        let (x, y) = (self.arg(a), self.arg(b));
        // The hardware's own differs in the sign of zero only.
        let number = |o: Opnd| match o {
            Opnd::Const(c) => scalar::convert(c, DType::Bool).bits != 0 && scalar::cmp(Pred::Eq, c, c),
            Opnd::Reg(_) => false,
        };
        if t == DType::F32 && (number(a) || number(b)) {
            return self.op(format!("{}.NaN.f32", op.name()), class, [x, y]).into();
        }
        let beyond = if op == BinOp::Max { "gt" } else { "lt" };
        let never_nan = matches!(b, Opnd::Const(c) if scalar::cmp(Pred::Eq, c, c));
        let take = if never_nan {
            self.op(format!("setp.{beyond}.{t}"), Class::Pred, [y.clone(), x.clone()])
        } else {
            let nan = self.op(format!("setp.nan.{t}"), Class::Pred, [y.clone(), y.clone()]);
            self.op(format!("setp.{beyond}.or.{t}"), Class::Pred, [y.clone(), x.clone(), nan.into()])
        };
        self.op(format!("selp.{t}"), class, [y, x, take.into()]).into()
    }

    fn bool_bin(&mut self, op: BinOp, a: Opnd, b: Opnd) -> Opnd {
        let (p, q) = (self.reg(a), self.reg(b));
        let name = match op {
            BinOp::Or | BinOp::Max => "or.pred",
            BinOp::Xor => "xor.pred",
            _ => "and.pred",
        };
        self.op(name, Class::Pred, [p.into(), q.into()]).into()
    }

    /// Integers but i64. Those of less than 32 bits are wrapped after what may leave their range.
    fn plain_bin(&mut self, op: BinOp, t: DType, class: Class, a: Opnd, b: Opnd) -> Opnd {
        let (x, y) = (self.arg(a), self.arg(b));
        let (n, sign) = (t.bits().max(32), if t.is_signed() { 's' } else { 'u' });
        let r = match op {
            BinOp::Add | BinOp::Sub => self.op(format!("{}.s{n}", op.name()), class, [x, y]),
            BinOp::Mul => self.op(format!("mul.lo.s{n}"), class, [x, y]),
            BinOp::Div | BinOp::Rem => {
                let known = if let Opnd::Const(c) = b { Some(c.as_i64()) } else { None };
                if known == Some(0) {
                    return Opnd::Const(Const::int(t, 0));
                }
                let signed = t.is_signed();
                let overflow = signed && t.bits() >= 32 && known.is_none_or(|y| y == -1);
                let r = self.divide(op, (class, signed), x, y, known.is_none(), overflow);
                if op == BinOp::Rem || !signed {
                    return r.into();
                }
                r
            }
            BinOp::Min | BinOp::Max => return self.op(format!("{}.{sign}{n}", op.name()), class, [x, y]).into(),
            BinOp::And | BinOp::Or | BinOp::Xor => return self.op(format!("{}.b{n}", op.name()), class, [x, y]).into(),
            BinOp::Shl | BinOp::Shr => {
                let by = match b {
                    Opnd::Const(c) => Arg::Int(c.bits.min(64) as i64),
                    Opnd::Reg(r) if class == Class::B64 => {
                        let r = self.op("min.u64", Class::B64, [r.into(), 64.into()]);
                        self.op("cvt.u32.u64", Class::B32, [r.into()]).into()
                    }
                    Opnd::Reg(r) => r.into(),
                };
                if op == BinOp::Shr {
                    return self.op(format!("shr.{sign}{n}"), class, [x, by]).into();
                }
                self.op(format!("shl.b{n}"), class, [x, by])
            }
        };
        self.wrapped(r, t).into()
    }

    /// Quotient or remainder. `zero`: the divisor may be 0; `overflow`: the quotient may be beyond the type.
    pub(super) fn divide(
        &mut self,
        op: BinOp,
        (class, signed): (Class, bool),
        x: Arg,
        y: Arg,
        zero: bool,
        overflow: bool,
    ) -> Reg {
        let n = if class == Class::B64 { 64 } else { 32 };
        let ty = format!("{}{n}", if signed { 's' } else { 'u' });
        let mut by = y.clone();
        let is_zero = zero.then(|| self.op(format!("setp.eq.s{n}"), Class::Pred, [y.clone(), 0.into()]));
        let mut bad = is_zero;
        if overflow {
            let least = if n == 64 { i64::MIN } else { i32::MIN.into() };
            let minus = self.op(format!("setp.eq.s{n}"), Class::Pred, [y, (-1).into()]);
            let both = self.op(format!("setp.eq.and.s{n}"), Class::Pred, [x.clone(), least.into(), minus.into()]);
            bad = Some(match bad {
                Some(zero) => self.op("or.pred", Class::Pred, [zero.into(), both.into()]),
                None => both,
            });
        }
        if let Some(bad) = bad {
            by = self.op(format!("selp.b{n}"), class, [1.into(), by, bad.into()]).into();
        }
        let r = self.op(format!("{}.{ty}", op.name()), class, [x, by]);
        match is_zero {
            Some(zero) if op == BinOp::Div => self.op(format!("selp.b{n}"), class, [0.into(), r.into(), zero.into()]),
            _ => r,
        }
    }

    /// A 32-bit register as an element of this type, of fewer bits perhaps.
    pub(super) fn wrapped(&mut self, r: Reg, t: DType) -> Reg {
        match t {
            DType::I8 => self.op("cvt.s32.s8", Class::B32, [r.into()]),
            DType::I16 => self.op("cvt.s32.s16", Class::B32, [r.into()]),
            DType::U8 => self.op("and.b32", Class::B32, [r.into(), 0xff.into()]),
            DType::U16 => self.op("and.b32", Class::B32, [r.into(), 0xffff.into()]),
            _ => r,
        }
    }

    fn fma(&mut self, t: DType, a: Opnd, b: Opnd, c: Opnd) -> Opnd {
        if let (Opnd::Const(x), Opnd::Const(y), Opnd::Const(z)) = (a, b, c)
            && let Some(c) = scalar::fma(x, y, z)
        {
            return Opnd::Const(c);
        }
        let (x, y, z) = (self.arg(a), self.arg(b), self.arg(c));
        self.op(format!("fma.rn.{t}"), class_of(t), [x, y, z]).into()
    }

    /// `a pred b` of one lane of type `t`.
    pub(super) fn cmp(&mut self, pred: Pred, t: DType, a: Opnd, b: Opnd) -> Opnd {
        if let (Opnd::Const(x), Opnd::Const(y)) = (a, b) {
            return Opnd::Const(Const::bool(scalar::cmp(pred, x, y)));
        }
        let (n, sign) = (t.bits().max(32), if t.is_signed() { 's' } else { 'u' });
        match class_of(t) {
            _ if t == DType::I64 => self.int_cmp(pred, a, b),
            Class::Pred => self.bool_cmp(pred, a, b),
            Class::B16 => {
                let (x, y) = (self.convert(a, t, DType::F32), self.convert(b, t, DType::F32));
                self.cmp(pred, DType::F32, x, y)
            }
            Class::F32 | Class::F64 => {
                let (x, y) = (self.arg(a), self.arg(b));
                // Only `ne` is true of NaN.
                let name = if pred == Pred::Ne { "neu" } else { pred.name() };
                self.op(format!("setp.{name}.{t}"), Class::Pred, [x, y]).into()
            }
            _ => {
                let (x, y) = (self.arg(a), self.arg(b));
                self.op(format!("setp.{}.{sign}{n}", pred.name()), Class::Pred, [x, y]).into()
            }
        }
    }

    fn bool_cmp(&mut self, pred: Pred, a: Opnd, b: Opnd) -> Opnd {
        let (p, q) = (self.reg(a), self.reg(b));
        let not = |e: &mut Self, p: Reg| e.op("not.pred", Class::Pred, [p.into()]);
        let (name, p, q) = match pred {
            Pred::Ne => ("xor.pred", p, q),
            Pred::Eq => ("xor.pred", not(self, p), q),
            Pred::Lt => ("and.pred", not(self, p), q),
            Pred::Gt => ("and.pred", p, not(self, q)),
            Pred::Le => ("or.pred", not(self, p), q),
            Pred::Ge => ("or.pred", p, not(self, q)),
        };
        self.op(name, Class::Pred, [p.into(), q.into()]).into()
    }

    /// Chooses one of two values.
    pub(super) fn choose(&mut self, v: Val, c: Val, a: Val, b: Val) {
        let t = self.kernel.ty(v).dtype;
        let conds = self.lanes(c);
        if let (&[Opnd::Reg(p)], Value::Words(x), Value::Words(y)) = (&conds[..], self.value(a), self.value(b)) {
            let word = |(&x, &y): (&Reg, &Reg)| self.op("selp.b32", Class::B32, [x.into(), y.into(), p.into()]);
            let words = x.iter().zip(y.iter()).map(word).collect();
            return self.set_words(v, words);
        }
        if let [Opnd::Const(c)] = conds[..] {
            let chosen = self.value(if c.bits != 0 { a } else { b });
            return self.set(v, chosen);
        }
        let (x, y) = (self.lanes(a), self.lanes(b));
        let one = |e: &mut Self, i: usize| e.select(t, conds[if conds.len() == 1 { 0 } else { i }], x[i], y[i]);
        let lanes = (0..x.len()).map(|i| one(self, i)).collect();
        self.set_lanes(v, lanes);
    }

    /// `c ? a : b` of one lane.
    pub(super) fn select(&mut self, t: DType, c: Opnd, a: Opnd, b: Opnd) -> Opnd {
        let p = match c {
            Opnd::Const(c) => return if c.bits != 0 { a } else { b },
            Opnd::Reg(p) => p,
        };
        if a == b {
            return a;
        }
        let class = class_of(t);
        match class {
            _ if t == DType::I64 => self.int_select(p, a, b),
            Class::Pred => {
                let (x, y) = (self.reg(a), self.reg(b));
                let yes = self.op("and.pred", Class::Pred, [p.into(), x.into()]);
                let not = self.op("not.pred", Class::Pred, [p.into()]);
                let no = self.op("and.pred", Class::Pred, [not.into(), y.into()]);
                self.op("or.pred", Class::Pred, [yes.into(), no.into()]).into()
            }
            _ => {
                let (x, y) = (self.arg(a), self.arg(b));
                self.op(format!("selp.{}", class.ty()), class, [x, y, p.into()]).into()
            }
        }
    }

    fn bitcast(&mut self, v: Val, a: Val) {
        let (from, to) = (self.kernel.ty(a).dtype, self.kernel.ty(v).dtype);
        if let Value::Words(words) = self.value(a)
            && from != DType::Bool
        {
            return self.set(v, Value::Words(words));
        }
        self.each(v, [a], |e, [x]| e.bits(x, from, to));
    }

    /// The bits of one lane as another type.
    fn bits(&mut self, a: Opnd, from: DType, to: DType) -> Opnd {
        if let Opnd::Const(c) = a {
            return Opnd::Const(Const { dtype: to, bits: c.bits });
        }
        let (x, class) = (self.full_reg(a, from), class_of(to));
        match (x.class, class) {
            _ if from == DType::I64 && to == DType::I64 => a,
            (Class::B32, Class::B32) => self.wrapped(x, to).into(),
            (Class::B64, Class::B64) | (Class::B16, Class::B16) | (Class::Pred, Class::Pred) => x.into(),
            (Class::Pred, _) => self.op("selp.b32", Class::B32, [1.into(), 0.into(), x.into()]).into(),
            (Class::B16, _) => {
                let r = self.op("cvt.u32.u16", Class::B32, [x.into()]);
                self.wrapped(r, to).into()
            }
            (_, Class::B16) => self.op("cvt.u16.u32", Class::B16, [x.into()]).into(),
            _ => self.op(format!("mov.b{}", to.bits()), class, [x.into()]).into(),
        }
    }
}
