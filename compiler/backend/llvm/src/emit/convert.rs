//! Conversions between element types. The narrow floats are done in integers where the target has no instruction, so
//! that LLVM never calls a helper.
//!
//! Narrowing from f64 rounds once: it goes through an f32 rounded to odd, whose last bit says whether anything was
//! lost. The payload of a NaN is not part of the meaning and may differ from the interpreter's.

use xlac_ir::DType;
use xlac_ir::kernel::{Const, VType, Val};

use super::arith::constant;
use super::{Emitter, elem, int, suffix, vector};

impl Emitter<'_> {
    pub(super) fn convert(&mut self, a: Val, to: DType) -> String {
        let (t, x) = (self.kernel.ty(a), self.val(a));
        if t.dtype == to {
            return x;
        }
        match t.dtype {
            DType::F16 | DType::BF16 => {
                let wide = self.narrow_to_f32(&x, t);
                self.float_to(&wide, t.with(DType::F32), to)
            }
            DType::F32 | DType::F64 => self.float_to(&x, t, to),
            _ => self.int_to(&x, t, to),
        }
    }

    fn float_to(&mut self, x: &str, t: VType, to: DType) -> String {
        let (from_ty, to_ty) = (vector(elem(t.dtype), t.lanes), vector(elem(to), t.lanes));
        match to {
            _ if t.dtype == to => x.into(),
            DType::F64 => self.op(format!("fpext {from_ty} {x} to {to_ty}")),
            DType::F32 => self.op(format!("fptrunc {from_ty} {x} to {to_ty}")),
            DType::F16 | DType::BF16 => {
                let single = if t.dtype == DType::F64 { self.round_to_odd(x, t.lanes) } else { x.into() };
                if to == DType::F16 { self.f32_to_f16(&single, t.lanes) } else { self.f32_to_bf16(&single, t.lanes) }
            }
            DType::Bool => self.op(format!("fcmp une {from_ty} {x}, {}", zero(t.dtype, t.lanes))),
            _ if to.bits() <= 16 && t.lanes > 1 => self.float_to_narrow(x, t, to),
            _ => {
                let name = if to.is_signed() { "fptosi" } else { "fptoui" };
                let (a, b) = (suffix(to, t.lanes), suffix(t.dtype, t.lanes));
                self.op(format!("call {to_ty} @llvm.{name}.sat.{a}.{b}({from_ty} {x})"))
            }
        }
    }

    /// Vectors of floats to integers of 8 or 16 bits: LLVM's saturating conversion takes them lane by lane. Floats hold the
    /// limits exactly, so that they are cut before.
    fn float_to_narrow(&mut self, x: &str, t: VType, to: DType) -> String {
        let (ty, mask) = (vector(elem(t.dtype), t.lanes), vector("i1", t.lanes));
        let span = 1i64 << to.bits();
        let (low, high) = if to.is_signed() { (-span / 2, span / 2 - 1) } else { (0, span - 1) };
        let [low, high] = [low, high].map(|limit| constant(Const::number(t.dtype, limit as f64), t.lanes));
        // No NaN passes the first test, nor the last.
        let above = self.op(format!("fcmp ogt {ty} {x}, {low}"));
        let cut = self.op(format!("select {mask} {above}, {ty} {x}, {ty} {low}"));
        let below = self.op(format!("fcmp olt {ty} {cut}, {high}"));
        let cut = self.op(format!("select {mask} {below}, {ty} {cut}, {ty} {high}"));
        let number = self.op(format!("fcmp ord {ty} {x}, {x}"));
        let cut = self.op(format!("select {mask} {number}, {ty} {cut}, {ty} {}", zero(t.dtype, t.lanes)));
        let words = vector("i32", t.lanes);
        let wide = self.op(format!("fptosi {ty} {cut} to {words}"));
        self.op(format!("trunc {words} {wide} to {}", vector(elem(to), t.lanes)))
    }

    fn int_to(&mut self, x: &str, t: VType, to: DType) -> String {
        let (from_ty, to_ty) = (vector(elem(t.dtype), t.lanes), vector(elem(to), t.lanes));
        match to {
            DType::F32 | DType::F64 => {
                let name = if t.dtype.is_signed() { "sitofp" } else { "uitofp" };
                self.op(format!("{name} {from_ty} {x} to {to_ty}"))
            }
            DType::F16 | DType::BF16 => {
                let wide = self.int_to(x, t, DType::F32);
                self.float_to(&wide, t.with(DType::F32), to)
            }
            DType::Bool => self.op(format!("icmp ne {from_ty} {x}, {}", zero(t.dtype, t.lanes))),
            _ if t.dtype == DType::Bool || to.bits() > t.dtype.bits() => {
                let name = if t.dtype.is_signed() { "sext" } else { "zext" };
                self.op(format!("{name} {from_ty} {x} to {to_ty}"))
            }
            _ if to.bits() < t.dtype.bits() => self.op(format!("trunc {from_ty} {x} to {to_ty}")),
            _ => x.into(),
        }
    }

    pub(super) fn bitcast(&mut self, a: Val, to: DType) -> String {
        let (t, x) = (self.kernel.ty(a), self.val(a));
        let (from_ty, to_ty) = (vector(elem(t.dtype), t.lanes), vector(elem(to), t.lanes));
        match (t.dtype, to) {
            _ if from_ty == to_ty => x,
            (DType::Bool, _) => self.op(format!("zext {from_ty} {x} to {to_ty}")),
            (_, DType::Bool) => self.op(format!("icmp ne {from_ty} {x}, {}", zero(t.dtype, t.lanes))),
            _ => self.op(format!("bitcast {from_ty} {x} to {to_ty}")),
        }
    }

    /// A narrow float as f32; exact.
    pub(super) fn narrow_to_f32(&mut self, x: &str, t: VType) -> String {
        let n = t.lanes;
        let (half, i16s, i32s, float) = (vector("half", n), vector("i16", n), vector("i32", n), vector("float", n));
        if t.dtype == DType::F16 && self.isa.f16 {
            let h = self.op(format!("bitcast {i16s} {x} to {half}"));
            return self.op(format!("fpext {half} {h} to {float}"));
        }
        let wide = self.op(format!("zext {i16s} {x} to {i32s}"));
        if t.dtype == DType::BF16 {
            let bits = self.op(format!("shl {i32s} {wide}, {}", int32(16, n)));
            return self.op(format!("bitcast {i32s} {bits} to {float}"));
        }
        self.f16_to_f32_by_bits(&wide, n)
    }

    /// Moves the fields into place, corrects the exponent, and lets one subtraction normalise what was subnormal.
    fn f16_to_f32_by_bits(&mut self, wide: &str, n: u32) -> String {
        let (bools, i32s, float) = (vector("i1", n), vector("i32", n), vector("float", n));
        let sign = self.op(format!("and {i32s} {wide}, {}", int32(0x8000, n)));
        let sign = self.op(format!("shl {i32s} {sign}, {}", int32(16, n)));
        let rest = self.op(format!("and {i32s} {wide}, {}", int32(0x7fff, n)));
        let moved = self.op(format!("shl {i32s} {rest}, {}", int32(13, n)));
        let normal = self.op(format!("add {i32s} {moved}, {}", int32((127 - 15) << 23, n)));
        let special = self.op(format!("add {i32s} {moved}, {}", int32((255 - 31) << 23, n)));
        let is_special = self.op(format!("icmp uge {i32s} {rest}, {}", int32(0x7c00, n)));
        let magic = int32((127 - 14) << 23, n);
        let tiny = self.op(format!("add {i32s} {moved}, {magic}"));
        let tiny = self.op(format!("bitcast {i32s} {tiny} to {float}"));
        let magic = self.op(format!("bitcast {i32s} {magic} to {float}"));
        let tiny = self.op(format!("fsub {float} {tiny}, {magic}"));
        let tiny = self.op(format!("bitcast {float} {tiny} to {i32s}"));
        let is_tiny = self.op(format!("icmp ult {i32s} {rest}, {}", int32(0x0400, n)));
        let bits = self.op(format!("select {bools} {is_special}, {i32s} {special}, {i32s} {normal}"));
        let bits = self.op(format!("select {bools} {is_tiny}, {i32s} {tiny}, {i32s} {bits}"));
        let bits = self.op(format!("or {i32s} {bits}, {sign}"));
        self.op(format!("bitcast {i32s} {bits} to {float}"))
    }

    /// f32 to the bits of f16, to nearest even.
    fn f32_to_f16(&mut self, x: &str, n: u32) -> String {
        let (half, i16s, float) = (vector("half", n), vector("i16", n), vector("float", n));
        if self.isa.f16 {
            let h = self.op(format!("fptrunc {float} {x} to {half}"));
            return self.op(format!("bitcast {half} {h} to {i16s}"));
        }
        let (bools, i32s) = (vector("i1", n), vector("i32", n));
        let bits = self.op(format!("bitcast {float} {x} to {i32s}"));
        let rest = self.op(format!("and {i32s} {bits}, {}", int32(0x7fff_ffff, n)));
        let sign = self.op(format!("lshr {i32s} {bits}, {}", int32(16, n)));
        let sign = self.op(format!("and {i32s} {sign}, {}", int32(0x8000, n)));
        // Normal: rebias and round by adding just under half, plus the last bit kept.
        let odd = self.op(format!("lshr {i32s} {rest}, {}", int32(13, n)));
        let odd = self.op(format!("and {i32s} {odd}, {}", int32(1, n)));
        let normal = self.op(format!("add {i32s} {rest}, {}", int32(((15 - 127) << 23) + 0xfff, n)));
        let normal = self.op(format!("add {i32s} {normal}, {odd}"));
        let normal = self.op(format!("lshr {i32s} {normal}, {}", int32(13, n)));
        // Subnormal: adding this power of two aligns the last bit, and the addition rounds.
        let magic_bits = int32(((127 - 15) + (23 - 10) + 1) << 23, n);
        let magic = self.op(format!("bitcast {i32s} {magic_bits} to {float}"));
        let tiny = self.op(format!("bitcast {i32s} {rest} to {float}"));
        let tiny = self.op(format!("fadd {float} {tiny}, {magic}"));
        let tiny = self.op(format!("bitcast {float} {tiny} to {i32s}"));
        let tiny = self.op(format!("sub {i32s} {tiny}, {magic_bits}"));
        let is_tiny = self.op(format!("icmp ult {i32s} {rest}, {}", int32((127 - 14) << 23, n)));
        let is_huge = self.op(format!("icmp uge {i32s} {rest}, {}", int32((127 + 16) << 23, n)));
        let is_nan = self.op(format!("icmp ugt {i32s} {rest}, {}", int32(0x7f80_0000, n)));
        let (nan, infinity) = (int32(0x7e00, n), int32(0x7c00, n));
        let huge = self.op(format!("select {bools} {is_nan}, {i32s} {nan}, {i32s} {infinity}"));
        let out = self.op(format!("select {bools} {is_tiny}, {i32s} {tiny}, {i32s} {normal}"));
        let out = self.op(format!("select {bools} {is_huge}, {i32s} {huge}, {i32s} {out}"));
        let out = self.op(format!("or {i32s} {out}, {sign}"));
        self.op(format!("trunc {i32s} {out} to {i16s}"))
    }

    /// f32 to the bits of bf16, to nearest even; subnormals are kept, which `vcvtneps2bf16` would not do.
    fn f32_to_bf16(&mut self, x: &str, n: u32) -> String {
        let (bools, i16s, i32s, float) = (vector("i1", n), vector("i16", n), vector("i32", n), vector("float", n));
        let bits = self.op(format!("bitcast {float} {x} to {i32s}"));
        let nan = self.op(format!("fcmp uno {float} {x}, {x}"));
        let odd = self.op(format!("lshr {i32s} {bits}, {}", int32(16, n)));
        let odd = self.op(format!("and {i32s} {odd}, {}", int32(1, n)));
        let rounded = self.op(format!("add {i32s} {bits}, {}", int32(0x7fff, n)));
        let rounded = self.op(format!("add {i32s} {rounded}, {odd}"));
        let quiet = self.op(format!("or {i32s} {bits}, {}", int32(0x40_0000, n)));
        let out = self.op(format!("select {bools} {nan}, {i32s} {quiet}, {i32s} {rounded}"));
        let out = self.op(format!("lshr {i32s} {out}, {}", int32(16, n)));
        self.op(format!("trunc {i32s} {out} to {i16s}"))
    }

    /// f64 to f32 towards zero, with the last bit set if anything was lost.
    fn round_to_odd(&mut self, x: &str, n: u32) -> String {
        let (bools, i32s) = (vector("i1", n), vector("i32", n));
        let (float, double) = (vector("float", n), vector("double", n));
        let near = self.op(format!("fptrunc {double} {x} to {float}"));
        let back = self.op(format!("fpext {float} {near} to {double}"));
        let lost = self.op(format!("fcmp one {double} {back}, {x}"));
        let abs = |v: &str| format!("call {double} @llvm.fabs.{}({double} {v})", suffix(DType::F64, n));
        let (abs_back, abs_x) = (self.op(abs(&back)), self.op(abs(x)));
        let away = self.op(format!("fcmp ogt {double} {abs_back}, {abs_x}"));
        let away = self.op(format!("zext {bools} {away} to {i32s}"));
        let lost = self.op(format!("zext {bools} {lost} to {i32s}"));
        let bits = self.op(format!("bitcast {float} {near} to {i32s}"));
        let bits = self.op(format!("sub {i32s} {bits}, {away}"));
        let bits = self.op(format!("or {i32s} {bits}, {lost}"));
        self.op(format!("bitcast {i32s} {bits} to {float}"))
    }
}

fn int32(x: i64, lanes: u32) -> String { constant(Const::int(DType::I32, x), lanes) }

fn zero(dtype: DType, lanes: u32) -> String {
    if dtype.is_float() || int(dtype.bits()) == elem(dtype) {
        return constant(Const { dtype, bits: 0 }, lanes);
    }
    constant(Const::bool(false), lanes)
}
