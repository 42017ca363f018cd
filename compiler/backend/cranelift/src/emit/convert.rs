//! Conversions between element types.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::Const;

use super::rep::{Rep, int_type, scalar_type};
use super::{Emitter, Result};

impl Emitter<'_> {
    /// `a` converted to elements of type `to`.
    pub fn convert(&mut self, a: &Rep, to: DType) -> Result<Rep> {
        let from = a.ty.dtype;
        if from == to {
            return Ok(a.clone());
        }
        if let Some(bits) = a.bits {
            let c = xlac_ir::scalar::convert(Const { dtype: from, bits }, to);
            return Ok(Rep::constant(a.ty.with(to), c.bits));
        }
        let via = |e: &mut Self, middle: DType| {
            let x = e.convert(a, middle)?;
            e.convert(&x, to)
        };
        Ok(match (from, to) {
            (_, DType::Bool) => self.bool_of(a),
            (DType::Bool, _) => self.number_of_bool(a, to),
            (DType::F16 | DType::BF16, DType::F32) => self.float_of_half(a),
            (DType::F16 | DType::BF16, _) => return via(self, DType::F32),
            (DType::F32, DType::F16 | DType::BF16) => self.half_of(a, to),
            (DType::F64, DType::F16 | DType::BF16) => {
                let odd = self.each_lane(DType::F32, &[a], |e, x| e.round_to_odd(x[0]));
                self.half_of(&odd, to)
            }
            (_, DType::F16 | DType::BF16) => return via(self, DType::F32),
            (DType::F32, DType::F64) => self.promote(a),
            (DType::F64, DType::F32) => self.demote(a),
            _ if from.is_float() => self.float_to_int(a, to),
            _ if to.is_float() => self.int_to_float(a, to),
            _ => self.int_to_int(a, to),
        })
    }

    fn bool_of(&mut self, a: &Rep) -> Rep {
        let t = a.ty.dtype;
        let chunks = self
            .chunks(a)
            .into_iter()
            .map(|x| match t {
                DType::F32 | DType::F64 => {
                    let zero = self.float_like(x, 0.0);
                    self.ins().fcmp(FloatCC::NotEqual, x, zero)
                }
                _ => {
                    let sign = self.int_like(x, 0x7fff);
                    let x = if t.is_float() { self.ins().band(x, sign) } else { x };
                    let zero = self.int_like(x, 0);
                    self.ins().icmp(IntCC::NotEqual, x, zero)
                }
            })
            .collect();
        Rep::wide(a.ty.with(DType::Bool), if a.is_scalar() { 1 } else { a.width }, chunks)
    }

    fn float_like(&mut self, x: Value, v: f64) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let double = ty.lane_type() == types::F64;
        let bits = if double { v.to_bits() } else { u64::from((v as f32).to_bits()) };
        if ty.is_vector() {
            return self.int_lanes(ty, bits);
        }
        self.scalar_constant(if double { DType::F64 } else { DType::F32 }, bits)
    }

    fn number_of_bool(&mut self, a: &Rep, to: DType) -> Rep {
        let one = Const::number(to, 1.0).bits;
        if a.is_scalar() {
            let x = self.chunk(a, 0);
            let (yes, no) = (self.scalar_constant(to, one), self.scalar_constant(to, 0));
            let v = self.ins().select(x, yes, no);
            return Rep::scalar(to, v);
        }
        let a = self.mask_width(a, to.size() as u32);
        let shape = Rep::constant(a.ty.with(to), 0);
        let chunks = a
            .chunks
            .iter()
            .map(|&m| {
                let one = self.int_like(m, one);
                let v = self.ins().band(m, one);
                self.cast(shape.clif(), v)
            })
            .collect();
        Rep::new(shape.ty, chunks)
    }

    fn float_of_half(&mut self, a: &Rep) -> Rep {
        let from = a.ty.dtype;
        if a.is_scalar() {
            let bits = self.chunk(a, 0);
            let word = self.ins().uextend(types::I32, bits);
            let v = self.ins().scalar_to_vector(types::I32X4, word);
            let v = self.widen_half(from, v);
            let x = self.ins().extractlane(v, 0);
            return Rep::scalar(DType::F32, x);
        }
        let words = self.widen_step(a, false);
        let chunks = words.chunks.iter().map(|&w| self.widen_half(from, w)).collect();
        Rep::new(a.ty.with(DType::F32), chunks)
    }

    fn half_of(&mut self, a: &Rep, to: DType) -> Rep {
        if a.is_scalar() {
            let x = self.chunk(a, 0);
            let v = self.ins().scalar_to_vector(types::F32X4, x);
            let v = self.narrow_half(to, v);
            let word = self.ins().extractlane(v, 0);
            let bits = self.ins().ireduce(types::I16, word);
            return Rep::scalar(to, bits);
        }
        let chunks = a.chunks.iter().map(|&x| self.narrow_half(to, x)).collect();
        let words = Rep { chunks, ..a.relabel(DType::U32) };
        // The lanes are below 2^16, so saturation does nothing.
        let out = self.narrow_pairs(&words, |e, x, y, _| e.ins().unarrow(x, y));
        Rep::new(a.ty.with(to), out.chunks)
    }

    fn promote(&mut self, a: &Rep) -> Rep {
        let ty = a.ty.with(DType::F64);
        if a.is_scalar() {
            let x = self.chunk(a, 0);
            let v = self.ins().fpromote(types::F64, x);
            return Rep::scalar(DType::F64, v);
        }
        let n = super::rep::count(a.lanes(), 8);
        let chunks = (0..n)
            .map(|i| {
                let mut x = a.chunks[i / 2];
                if i % 2 == 1 {
                    x = self.shuffle(x, x, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15]);
                }
                self.ins().fvpromote_low(x)
            })
            .collect();
        Rep::new(ty, chunks)
    }

    fn demote(&mut self, a: &Rep) -> Rep {
        if a.is_scalar() {
            let x = self.chunk(a, 0);
            let v = self.ins().fdemote(types::F32, x);
            return Rep::scalar(DType::F32, v);
        }
        let out = self.narrow_pairs(a, |e, x, y, _| {
            let (x, y) = (e.ins().fvdemote(x), e.ins().fvdemote(y));
            e.shuffle(x, y, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23])
        });
        Rep::new(a.ty.with(DType::F32), out.chunks)
    }

    fn int_to_int(&mut self, a: &Rep, to: DType) -> Rep {
        let (signed, size) = (a.ty.dtype.is_signed(), to.size() as u32);
        if a.is_scalar() {
            let x = self.chunk(a, 0);
            let v = self.resize(x, size, signed);
            return Rep::scalar(to, v);
        }
        let mut out = a.clone();
        while out.width < size {
            out = self.widen_step(&out, signed);
        }
        while out.width > size {
            out = self.narrow_step(&out);
        }
        Rep::new(a.ty.with(to), out.chunks)
    }

    fn int_to_float(&mut self, a: &Rep, to: DType) -> Rep {
        let from = a.ty.dtype;
        if from.size() < 4 {
            let a = self.int_to_int(a, DType::I32);
            return self.int_to_float(&a, to);
        }
        let clif = scalar_type(to);
        if a.is_scalar() || from.size() == 8 || to == DType::F64 {
            return self.each_lane(to, &[a], |e, x| match from.is_signed() {
                true => e.ins().fcvt_from_sint(clif, x[0]),
                false => e.ins().fcvt_from_uint(clif, x[0]),
            });
        }
        let chunks = a
            .chunks
            .iter()
            .map(|&x| match from.is_signed() {
                true => self.ins().fcvt_from_sint(types::F32X4, x),
                false => self.ins().fcvt_from_uint(types::F32X4, x),
            })
            .collect();
        Rep::new(a.ty.with(to), chunks)
    }

    fn float_to_int(&mut self, a: &Rep, to: DType) -> Rep {
        if a.is_scalar() || a.ty.dtype == DType::F64 || to.size() == 8 {
            return self.each_lane(to, &[a], |e, x| e.float_to_int_scalar(x[0], to));
        }
        let chunks = a
            .chunks
            .iter()
            .map(|&x| match to {
                DType::U32 => self.ins().fcvt_to_uint_sat(types::I32X4, x),
                _ => self.ins().fcvt_to_sint_sat(types::I32X4, x),
            })
            .collect();
        let mut out = Rep { chunks, ..a.relabel(to) };
        let target = to.size() as u32;
        while out.width > target {
            // Only the last step may forget the sign: the one before keeps it for the clamp at zero.
            let unsigned = !to.is_signed() && out.width == 2 * target;
            out = self.narrow_pairs(&out, |e, x, y, _| match unsigned {
                true => e.ins().unarrow(x, y),
                false => e.ins().snarrow(x, y),
            });
        }
        Rep::new(a.ty.with(to), out.chunks)
    }

    fn float_to_int_scalar(&mut self, x: Value, to: DType) -> Value {
        let wide = int_type(to.size().max(4) as u32);
        let v = match to.is_signed() {
            true => self.ins().fcvt_to_sint_sat(wide, x),
            false => self.ins().fcvt_to_uint_sat(wide, x),
        };
        if to.size() >= 4 {
            return v;
        }
        let bits = to.bits();
        let v = if to.is_signed() {
            let high = self.ins().iconst(wide, (1 << (bits - 1)) - 1);
            let low = self.ins().iconst(wide, i64::from((-1i32 << (bits - 1)) as u32));
            let v = self.ins().smin(v, high);
            self.ins().smax(v, low)
        } else {
            let high = self.ins().iconst(wide, (1 << bits) - 1);
            self.ins().umin(v, high)
        };
        self.ins().ireduce(int_type(to.size() as u32), v)
    }
}
