//! Half-precision floats by integer arithmetic on lanes of 32 bits: to nearest even, subnormals and NaN included.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use xlac_ir::dtype::DType;

use super::Emitter;

impl Emitter<'_> {
    fn word_lanes(&mut self, x: u64) -> Value { self.int_lanes(types::I32X4, x) }

    fn shift_words(&mut self, x: Value, left: i64) -> Value {
        let n = self.ins().iconst(types::I32, left.abs());
        if left > 0 { self.ins().ishl(x, n) } else { self.ins().ushr(x, n) }
    }

    fn above(&mut self, x: Value, limit: u64) -> Value {
        let limit = self.word_lanes(limit);
        self.ins().icmp(IntCC::SignedGreaterThan, x, limit)
    }

    /// f32 lanes from the bits of half-precision lanes, zero-extended.
    pub fn widen_half(&mut self, from: DType, h: Value) -> Value {
        if from == DType::BF16 {
            let x = self.shift_words(h, 16);
            return self.cast(types::F32X4, x);
        }
        let mask = self.word_lanes(0x7fff);
        let magnitude = self.ins().band(h, mask);
        let sign = self.ins().bxor(h, magnitude);
        let sign = self.shift_words(sign, 16);
        let shifted = self.shift_words(magnitude, 13);
        let rebias = self.word_lanes(112 << 23);
        let normal = self.ins().iadd(shifted, rebias);
        // Infinity and NaN: the exponent once more, and a NaN becomes quiet.
        let special = self.above(magnitude, 0x7bff);
        let nan = self.above(magnitude, 0x7c00);
        let (more, quiet) = (self.word_lanes(112 << 23), self.word_lanes(0x0040_0000));
        let (more, quiet) = (self.ins().band(special, more), self.ins().band(nan, quiet));
        let normal = self.ins().iadd(normal, more);
        let normal = self.ins().bor(normal, quiet);
        // Subnormals: 2^-14 (1 + m / 2^10) - 2^-14 is exact.
        let tiny = self.word_lanes(113 << 23);
        let raised = self.ins().iadd(shifted, tiny);
        let (raised, tiny) = (self.cast(types::F32X4, raised), self.cast(types::F32X4, tiny));
        let small = self.ins().fsub(raised, tiny);
        let small = self.cast(types::I32X4, small);
        let is_normal = self.above(magnitude, 0x3ff);
        let x = self.blend(is_normal, normal, small);
        let x = self.ins().bor(x, sign);
        self.cast(types::F32X4, x)
    }

    /// Bits of half-precision lanes, zero-extended, from f32 lanes.
    pub fn narrow_half(&mut self, to: DType, x: Value) -> Value {
        let x = self.cast(types::I32X4, x);
        if to == DType::BF16 { self.narrow_bf16(x) } else { self.narrow_f16(x) }
    }

    fn narrow_bf16(&mut self, x: Value) -> Value {
        let high = self.shift_words(x, -16);
        let one = self.word_lanes(1);
        let odd = self.ins().band(high, one);
        let bias = self.word_lanes(0x7fff);
        let rounded = self.ins().iadd(x, bias);
        let rounded = self.ins().iadd(rounded, odd);
        let rounded = self.shift_words(rounded, -16);
        let quiet = self.word_lanes(0x40);
        let nan = self.ins().bor(high, quiet);
        let mask = self.word_lanes(0x7fff_ffff);
        let magnitude = self.ins().band(x, mask);
        let is_nan = self.above(magnitude, 0x7f80_0000);
        self.blend(is_nan, nan, rounded)
    }

    fn narrow_f16(&mut self, x: Value) -> Value {
        let mask = self.word_lanes(0x7fff_ffff);
        let magnitude = self.ins().band(x, mask);
        let sign = self.ins().bxor(x, magnitude);
        let sign = self.shift_words(sign, -16);
        // Normal: rebias, round half to even by adding one less than half and the last kept bit.
        let kept = self.shift_words(magnitude, -13);
        let one = self.word_lanes(1);
        let odd = self.ins().band(kept, one);
        let bias = self.word_lanes(0xc800_0fff);
        let normal = self.ins().iadd(magnitude, bias);
        let normal = self.ins().iadd(normal, odd);
        let normal = self.shift_words(normal, -13);
        // Subnormal: adding 1/2 lets the float adder round at the right bit.
        let half = self.word_lanes(0x3f00_0000);
        let (m, h) = (self.cast(types::F32X4, magnitude), self.cast(types::F32X4, half));
        let small = self.ins().fadd(m, h);
        let small = self.cast(types::I32X4, small);
        let small = self.ins().isub(small, half);
        let is_normal = self.above(magnitude, 0x387f_ffff);
        let finite = self.blend(is_normal, normal, small);
        // Too large, infinite or NaN.
        let infinity = self.word_lanes(0x7c00);
        let large = self.above(magnitude, 0x477f_ffff);
        let out = self.blend(large, infinity, finite);
        let quiet = self.word_lanes(0x7e00);
        let payload_mask = self.word_lanes(0x3ff);
        let payload = self.ins().band(kept, payload_mask);
        let nan = self.ins().bor(payload, quiet);
        let is_nan = self.above(magnitude, 0x7f80_0000);
        let out = self.blend(is_nan, nan, out);
        self.ins().bor(out, sign)
    }

    /// An f64 scalar as f32, rounded to odd: rounding that once more to fewer bits rounds correctly.
    pub fn round_to_odd(&mut self, x: Value) -> Value {
        let flags = MemFlagsData::new();
        let near = self.ins().fdemote(types::F32, x);
        let back = self.ins().fpromote(types::F64, near);
        let bits = self.ins().bitcast(types::I32, flags, near);
        let (a, b) = (self.ins().fabs(back), self.ins().fabs(x));
        let above = self.ins().fcmp(FloatCC::GreaterThan, a, b);
        let above = self.ins().uextend(types::I32, above);
        let inexact = self.ins().fcmp(FloatCC::NotEqual, back, x);
        let inexact = self.ins().uextend(types::I32, inexact);
        let toward_zero = self.ins().isub(bits, above);
        let odd = self.ins().bor(toward_zero, inexact);
        self.ins().bitcast(types::F32, flags, odd)
    }
}
