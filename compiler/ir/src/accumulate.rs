//! Rows of multiply-adds: what contractions are made of in the reference evaluation.

use crate::dtype::DType;
use crate::kernel::Const;
use crate::scalar;
use crate::tensor::Tensor;

/// A type contractions accumulate in.
pub trait Accumulator: Copy {
    /// What every sum starts from.
    const ZERO: Self;
    /// The elements of a tensor, widened.
    fn load(tensor: &Tensor) -> Vec<Self>;
    /// One sum, rounded or wrapped once to the type of the result.
    fn finish(self, dtype: DType) -> Const;
    /// `sums[i] <- fma(x[i], w, sums[i])` for each `i` that lies in both.
    fn add_scaled(sums: &mut [Self], x: &[Self], w: Self);
}

/// True for operand types `a`, `b` and result type `out` contractions know: floats of one type with a result of that type
/// or f32, or integers that are not wider than the result.
pub fn contracts(a: DType, b: DType, out: DType) -> bool {
    let floats = a.is_float() && a == b && (out == a || out == a.compute());
    let integers = a.is_int() && b.is_int() && out.is_int() && a.bits().max(b.bits()) <= out.bits();
    floats || integers
}

impl Accumulator for f32 {
    const ZERO: f32 = 0.0;

    fn load(tensor: &Tensor) -> Vec<f32> { tensor.to_f32() }

    fn finish(self, dtype: DType) -> Const { scalar::convert(Const::f32(self), dtype) }

    fn add_scaled(sums: &mut [f32], x: &[f32], w: f32) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features.
            unsafe { add_scaled_avx2(sums, x, w) };
            return;
        }
        fused(sums, x, |x, sum| x.mul_add(w, sum));
    }
}

/// The same loop with fused multiply-add as one instruction: without it each one is a call into libm.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_scaled_avx2(sums: &mut [f32], x: &[f32], w: f32) {
    fused(sums, x, |x, sum| x.mul_add(w, sum));
}

impl Accumulator for f64 {
    const ZERO: f64 = 0.0;

    fn load(tensor: &Tensor) -> Vec<f64> { tensor.to_f64() }

    fn finish(self, dtype: DType) -> Const { scalar::convert(Const::f64(self), dtype) }

    fn add_scaled(sums: &mut [f64], x: &[f64], w: f64) {
        fused(sums, x, |x, sum| x.mul_add(w, sum));
    }
}

/// Integers of every width: wrapping at 64 bits first does not change the low bits.
impl Accumulator for i64 {
    const ZERO: i64 = 0;

    fn load(tensor: &Tensor) -> Vec<i64> { tensor.to_i64() }

    fn finish(self, dtype: DType) -> Const { Const::int(dtype, self) }

    fn add_scaled(sums: &mut [i64], x: &[i64], w: i64) {
        fused(sums, x, |x, sum| x.wrapping_mul(w).wrapping_add(sum));
    }
}

/// The loop. Inlined, so that it is compiled with the features of its caller.
#[inline(always)]
fn fused<T: Copy>(sums: &mut [T], x: &[T], step: impl Fn(T, T) -> T) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum = step(x, *sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_side_counts() {
        let mut sums = [1.0f32, 2.0, 3.0];
        f32::add_scaled(&mut sums, &[10.0, 20.0], 2.0);
        f32::add_scaled(&mut sums[..1], &[10.0, 20.0], 2.0);
        assert_eq!(sums, [41.0, 42.0, 3.0]);
    }

    #[test]
    fn rounds_once() {
        // 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: the last bit is lost if the product is rounded.
        let x = 1.0 + f32::powi(2.0, -12);
        let mut sums = [-1.0f32; 9];
        f32::add_scaled(&mut sums, &[x; 9], x);
        assert_eq!(sums, [f32::powi(2.0, -11) + f32::powi(2.0, -24); 9]);
    }

    #[test]
    fn integers_wrap_in_the_result() {
        assert_eq!(300i64.finish(DType::U8), Const::int(DType::U8, 44));
    }

    #[test]
    fn integer_operands_are_not_wider_than_the_result() {
        assert!(contracts(DType::U8, DType::I8, DType::I32));
        assert!(!contracts(DType::I64, DType::I8, DType::I32));
        assert!(contracts(DType::F16, DType::F16, DType::F32));
        assert!(!contracts(DType::F32, DType::F64, DType::F64));
    }
}
