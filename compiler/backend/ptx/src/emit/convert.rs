//! Conversions between element types.

use super::*;
use xlac_ir::scalar;

impl Emitter<'_> {
    /// Converts every lane; halves are made and taken in pairs.
    pub(super) fn convert_value(&mut self, v: Val, a: Val) {
        let (from, ty) = (self.kernel.ty(a).dtype, self.kernel.ty(v));
        let to = ty.dtype;
        if from == to {
            let same = self.value(a);
            return self.set(v, same);
        }
        if let (Value::Words(words), DType::BF16, DType::F32) = (self.value(a), from, to) {
            let lanes = words.iter().flat_map(|&w| self.two_floats(w)).collect();
            return self.set_lanes(v, lanes);
        }
        let lanes = self.lanes(a);
        if class_of(to) == Class::B16 && value::packs(ty) && !matches!(from, DType::F16 | DType::BF16 | DType::F64) {
            let words = lanes.chunks(2).map(|pair| self.two_halves(pair, from, to)).collect();
            return self.set_words(v, words);
        }
        let lanes = lanes.iter().map(|&x| self.convert(x, from, to)).collect();
        self.set_lanes(v, lanes);
    }

    /// A word of two bf16 as f32.
    fn two_floats(&mut self, word: Reg) -> [Opnd; 2] {
        let low = self.op("shl.b32", Class::B32, [word.into(), 16.into()]);
        let high = self.op("and.b32", Class::B32, [word.into(), i64::from(0xffff_0000u32 as i32).into()]);
        [low, high].map(|r| self.op("mov.b32", Class::F32, [r.into()]).into())
    }

    fn two_halves(&mut self, pair: &[Opnd], from: DType, to: DType) -> Reg {
        if pair.iter().all(|x| matches!(x, Opnd::Const(_))) {
            let halves = [self.convert(pair[0], from, to), self.convert(pair[1], from, to)];
            return self.pack(&halves, to);
        }
        let floats = [0, 1].map(|i| {
            let x = self.convert(pair[i], from, DType::F32);
            Arg::from(self.reg(x))
        });
        let [low, high] = floats;
        let name = if to == DType::F16 { "cvt.rn.f16x2.f32" } else { "cvt.rn.bf16x2.f32" };
        self.op(name, Class::B32, [high, low])
    }

    /// Converts one lane.
    pub(super) fn convert(&mut self, a: Opnd, from: DType, to: DType) -> Opnd {
        if from == to {
            return a;
        }
        // The reference may round f64 to halves twice.
        let twice = from == DType::F64 && class_of(to) == Class::B16;
        if let (Opnd::Const(c), false) = (a, twice) {
            return Opnd::Const(scalar::convert(c, to));
        }
        match (class_of(from), class_of(to)) {
            (Class::Pred, _) => self.bool_to(a, to),
            (Class::B16, Class::F32) => self.half_to_float(a, from),
            (Class::B16, _) => {
                let wide = self.half_to_float(a, from);
                self.convert(wide, DType::F32, to)
            }
            (Class::F32 | Class::F64, _) => self.float_to(a, from, to),
            (_, Class::Pred) => self.cmp(Pred::Ne, from, a, Opnd::Const(Const::int(from, 0))),
            (_, Class::F32 | Class::F64) => self.int_to_float(a, from, to),
            (_, Class::B16) => {
                let wide = self.int_to_float(a, from, DType::F32);
                self.convert(wide, DType::F32, to)
            }
            _ => self.int_to_int(a, from, to),
        }
    }

    fn bool_to(&mut self, a: Opnd, to: DType) -> Opnd {
        let p = self.reg(a);
        if to == DType::I64 {
            let r = self.op("selp.b32", Class::B32, [1.into(), 0.into(), p.into()]);
            self.set_facts(r, Facts::register(r, 0, 1));
            return r.into();
        }
        let class = class_of(to);
        let [one, zero] = [1.0, 0.0].map(|x| self.arg(Opnd::Const(Const::number(to, x))));
        self.op(format!("selp.{}", class.ty()), class, [one, zero, p.into()]).into()
    }

    fn half_to_float(&mut self, a: Opnd, from: DType) -> Opnd {
        let h = self.reg(a);
        if from == DType::F16 {
            return self.op("cvt.f32.f16", Class::F32, [h.into()]).into();
        }
        let bits = self.op("cvt.u32.u16", Class::B32, [h.into()]);
        let bits = self.op("shl.b32", Class::B32, [bits.into(), 16.into()]);
        self.op("mov.b32", Class::F32, [bits.into()]).into()
    }

    fn float_to(&mut self, a: Opnd, from: DType, to: DType) -> Opnd {
        let x = Arg::from(self.reg(a));
        match to {
            DType::F64 => self.op("cvt.f64.f32", Class::F64, [x]).into(),
            DType::F32 => self.op("cvt.rn.f32.f64", Class::F32, [x]).into(),
            DType::F16 => self.op(format!("cvt.rn.f16.{from}"), Class::B16, [x]).into(),
            DType::BF16 if from == DType::F32 => self.op("cvt.rn.bf16.f32", Class::B16, [x]).into(),
            DType::BF16 => {
                let odd = self.round_to_odd(x);
                self.op("cvt.rn.bf16.f32", Class::B16, [odd.into()]).into()
            }
            DType::Bool => {
                let zero = self.arg(Opnd::Const(Const::number(from, 0.0)));
                self.op(format!("setp.neu.{from}"), Class::Pred, [x, zero]).into()
            }
            _ => self.float_to_int(x, from, to),
        }
    }

    /// An f64 as the f32 next to zero from it, its last bit set if they differ: rounded further, it is as if rounded once.
    fn round_to_odd(&mut self, x: Arg) -> Reg {
        let near = self.op("cvt.rz.f32.f64", Class::F32, [x.clone()]);
        let back = self.op("cvt.f64.f32", Class::F64, [near.into()]);
        let differ = self.op("setp.neu.f64", Class::Pred, [back.into(), x]);
        let last = self.op("selp.b32", Class::B32, [1.into(), 0.into(), differ.into()]);
        let bits = self.op("mov.b32", Class::B32, [near.into()]);
        let bits = self.op("or.b32", Class::B32, [bits.into(), last.into()]);
        self.op("mov.b32", Class::F32, [bits.into()])
    }

    /// Truncates and saturates, NaN becomes 0: `cvt` does all of it for f32 and 32 bits only.
    fn float_to_int(&mut self, x: Arg, from: DType, to: DType) -> Opnd {
        let class = class_of(to);
        let sign = if to.is_signed() { 's' } else { 'u' };
        let n = to.bits().max(32);
        let mut r = self.op(format!("cvt.rzi.{sign}{n}.{from}"), class, [x.clone()]);
        if from == DType::F64 || n == 64 {
            let nan = self.op(format!("setp.nan.{from}"), Class::Pred, [x.clone(), x]);
            r = self.op(format!("selp.b{n}"), class, [0.into(), r.into(), nan.into()]);
        }
        if to.bits() < 32 {
            let bits = to.bits() as u32 - u32::from(to.is_signed());
            let most = (1i64 << bits) - 1;
            r = self.op(format!("min.{sign}32"), Class::B32, [r.into(), most.into()]);
            if to.is_signed() {
                r = self.op("max.s32", Class::B32, [r.into(), (-most - 1).into()]);
            }
        }
        r.into()
    }

    fn int_to_float(&mut self, a: Opnd, from: DType, to: DType) -> Opnd {
        let x = self.reg(a);
        let n = if x.class == Class::B64 { 64 } else { 32 };
        let sign = if from.is_signed() { 's' } else { 'u' };
        self.op(format!("cvt.rn.{to}.{sign}{n}"), class_of(to), [x.into()]).into()
    }

    fn int_to_int(&mut self, a: Opnd, from: DType, to: DType) -> Opnd {
        let x = self.reg(a);
        match (from, to) {
            (DType::I64, DType::U64) => self.full_reg(a, to).into(),
            (DType::U64, DType::I64) => a,
            (DType::U32, DType::I64 | DType::U64) => {
                let r = self.op("cvt.u64.u32", Class::B64, [x.into()]);
                self.set_facts(r, Facts::register(r, 0, u32::MAX.into()));
                r.into()
            }
            (_, DType::I64) => {
                if self.facts[x.id as usize].is_none() {
                    let shift = 32 - from.bits() as u32;
                    let (lo, hi) = match from.is_signed() {
                        true => (i32::MIN >> shift, i32::MAX >> shift),
                        false => (0, (u32::MAX >> shift) as i32),
                    };
                    self.set_facts(x, Facts::register(x, lo.into(), hi.into()));
                }
                x.into()
            }
            (_, DType::U64) if from.is_signed() => self.op("cvt.s64.s32", Class::B64, [x.into()]).into(),
            (_, DType::U64) => self.op("cvt.u64.u32", Class::B64, [x.into()]).into(),
            _ => {
                let low = match x.class {
                    Class::B64 => self.op("cvt.u32.u64", Class::B32, [x.into()]),
                    _ => x,
                };
                let fits = to.bits() >= from.bits() && (from.is_signed() == to.is_signed() || to.bits() == 32)
                    || (!from.is_signed() && to.bits() > from.bits());
                let same = fits && from.bits() <= 32;
                let r = if same { low } else { self.wrapped(low, to) };
                r.into()
            }
        }
    }
}
