//! Accuracy of the expansions against f64, special cases, and the exact functions.

use super::*;

mod accuracy;
mod exact;

/// The f32 result of a function.
fn f32_of(f: UnaryFn, x: f32) -> f32 {
    f32::from_bits(unary(&mut Eval, f, Const::f32(x)).bits as u32)
}

/// The f64 result of a function.
fn f64_of(f: UnaryFn, x: f64) -> f64 {
    f64::from_bits(unary(&mut Eval, f, Const::f64(x)).bits)
}

/// The f32 result of a function of two operands.
fn f32_of2(f: BinaryFn, x: f32, y: f32) -> f32 {
    f32::from_bits(binary(&mut Eval, f, Const::f32(x), Const::f32(y)).bits as u32)
}

/// The f64 result of a function of two operands.
fn f64_of2(f: BinaryFn, x: f64, y: f64) -> f64 {
    f64::from_bits(binary(&mut Eval, f, Const::f64(x), Const::f64(y)).bits)
}

/// A small generator of random bits: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
