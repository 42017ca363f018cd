//! The exponential of numbers that are not positive.

use xlac_ir::elementwise::UnaryFn;
use xlac_ir::kernel::KernelBuilder;
use xlac_ir::math;

use super::*;

/// `2^f` for f in -0.5..0.5. Error 2^-29.
const EXP2: &[f64] =
    &[1.0, 0.693147205737, 0.240226468904, 0.0555032877717, 0.00961848898783, 0.00133999311534, 0.000153458037439];

/// The same for weights that are rounded to a narrow float. Error 2^-18.
const EXP2_NARROW: &[f64] = &[0.999999261374, 0.693121814876, 0.240247450655, 0.0559178595738, 0.00957009229002];

/// `log2 e` as an f32, and the rest.
const LOG2_E: [f64; 2] = [1.4426950216293335, 1.92596298909109e-8];

/// `e^x` for x at most 0, or NaN; 0 where it is below the smallest normal number. `narrow` is the type it is rounded to.
///
/// Unlike the general function it needs no second factor, and its power of two is 0 by itself where the result is.
pub fn exp(k: &mut KernelBuilder, x: Val, to: DType) -> Val {
    let ty = k.ty(x);
    if ty.dtype != DType::F32 {
        return math::unary(k, UnaryFn::Exp, x);
    }
    let table = if to.size() == 2 { EXP2_NARROW } else { EXP2 };
    let number = |k: &mut KernelBuilder, x: f64| k.splat_const(Const::number(DType::F32, x), ty.lanes);
    // The operand that is NaN is the second one, which stays.
    let low = number(k, -88.0);
    let x = k.bin(BinOp::Max, low, x);
    // The sum is so large that its last bit counts ones; its low bits hold the biased exponent, 0 at the lowest.
    let (magic, log2_e, rest) = (number(k, 12_582_912.0 + 127.0), number(k, LOG2_E[0]), number(k, LOG2_E[1]));
    let sum = k.fma(x, log2_e, magic);
    let n = k.bin(BinOp::Sub, sum, magic);
    let minus_n = k.un(UnOp::Neg, n);
    let f = k.fma(x, log2_e, minus_n);
    let f = k.fma(x, rest, f);
    let (&last, others) = table.split_last().expect("a polynomial has coefficients");
    let mut p = number(k, last);
    for &c in others.iter().rev() {
        let c = number(k, c);
        p = k.fma(p, f, c);
    }
    let bits = k.bitcast(sum, DType::I32);
    let shift = k.splat_const(Const::int(DType::I32, 23), ty.lanes);
    let power = k.bin(BinOp::Shl, bits, shift);
    let power = k.bitcast(power, DType::F32);
    k.bin(BinOp::Mul, p, power)
}
