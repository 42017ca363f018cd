//! The two float formats expansions compute in, and shorthands over [`Arith`].

use super::Arith;
use crate::dtype::DType;
use crate::kernel::{BinOp, Const, Pred, UnOp};

/// What an expansion must know about f32 or f64.
pub(super) struct Format {
    /// The signed integer type of the same width.
    pub int: DType,
    /// Bits of the stored significand.
    pub mantissa: i64,
    /// Exponent bias.
    pub bias: i64,
    /// The sign bit.
    pub sign: u64,
    /// 1.5 * 2^mantissa: adding it rounds a small number to an integer and leaves it in the low bits of the sum.
    pub magic: f64,
    /// Smallest normal number.
    pub min_normal: f64,
    /// The leading bits of ln 2, few enough that their product with an exponent is exact.
    pub ln2_hi: f64,
    /// ln 2 minus `ln2_hi`.
    pub ln2_lo: f64,
}

const F32: Format = Format {
    int: DType::I32,
    mantissa: 23,
    bias: 127,
    sign: 1 << 31,
    magic: 12582912.0,
    min_normal: f32::MIN_POSITIVE as f64,
    ln2_hi: 0.693145751953125,
    ln2_lo: 1.4286068203094173e-6,
};

const F64: Format = Format {
    int: DType::I64,
    mantissa: 52,
    bias: 1023,
    sign: 1 << 63,
    magic: 6755399441055744.0,
    min_normal: f64::MIN_POSITIVE,
    ln2_hi: 0.6931471805598903,
    ln2_lo: 5.497923018708371e-14,
};

/// Shorthands. Numbers are rounded to the type of the value they meet.
pub(super) trait Ops: Arith {
    /// The format of a value, f32 or f64.
    fn format(&self, v: Self::V) -> &'static Format {
        match self.dtype(v) {
            DType::F64 => &F64,
            DType::F32 => &F32,
            t => unreachable!("expansions compute in f32 or f64, not {t}"),
        }
    }
    /// The number for f32 or for f64.
    fn pick<T>(&self, like: Self::V, f32: T, f64: T) -> T {
        if self.dtype(like) == DType::F64 { f64 } else { f32 }
    }
    /// A number, of the type of `like`.
    fn num(&mut self, x: f64, like: Self::V) -> Self::V {
        let dtype = self.dtype(like);
        self.constant(Const::number(dtype, x), like)
    }
    /// An integer, of the type of `like`.
    fn int(&mut self, x: i64, like: Self::V) -> Self::V {
        let dtype = self.dtype(like);
        self.constant(Const::int(dtype, x), like)
    }
    /// Sum.
    fn add(&mut self, x: Self::V, y: Self::V) -> Self::V {
        self.bin(BinOp::Add, x, y)
    }
    /// Difference.
    fn sub(&mut self, x: Self::V, y: Self::V) -> Self::V {
        self.bin(BinOp::Sub, x, y)
    }
    /// Product.
    fn mul(&mut self, x: Self::V, y: Self::V) -> Self::V {
        self.bin(BinOp::Mul, x, y)
    }
    /// Quotient.
    fn div(&mut self, x: Self::V, y: Self::V) -> Self::V {
        self.bin(BinOp::Div, x, y)
    }
    /// Bits in both.
    fn and(&mut self, x: Self::V, y: Self::V) -> Self::V {
        self.bin(BinOp::And, x, y)
    }
    /// Bits in either.
    fn or(&mut self, x: Self::V, y: Self::V) -> Self::V {
        self.bin(BinOp::Or, x, y)
    }
    /// `x + c`.
    fn add_num(&mut self, x: Self::V, c: f64) -> Self::V {
        let c = self.num(c, x);
        self.add(x, c)
    }
    /// `x - c`.
    fn sub_num(&mut self, x: Self::V, c: f64) -> Self::V {
        let c = self.num(c, x);
        self.sub(x, c)
    }
    /// `x * c`.
    fn mul_num(&mut self, x: Self::V, c: f64) -> Self::V {
        let c = self.num(c, x);
        self.mul(x, c)
    }
    /// `x * c + y`.
    fn fma_num(&mut self, x: Self::V, c: f64, y: Self::V) -> Self::V {
        let c = self.num(c, x);
        self.fma(x, c, y)
    }
    /// `min(x, c)`; NaN stays, because the constant comes second.
    fn min_num(&mut self, x: Self::V, c: f64) -> Self::V {
        let c = self.num(c, x);
        self.bin(BinOp::Min, x, c)
    }
    /// `max(x, c)`; NaN stays.
    fn max_num(&mut self, x: Self::V, c: f64) -> Self::V {
        let c = self.num(c, x);
        self.bin(BinOp::Max, x, c)
    }
    /// Compares with a number.
    fn cmp_num(&mut self, pred: Pred, x: Self::V, c: f64) -> Self::V {
        let c = self.num(c, x);
        self.cmp(pred, x, c)
    }
    /// `x op c` for an integer constant.
    fn bin_int(&mut self, op: BinOp, x: Self::V, c: i64) -> Self::V {
        let c = self.int(c, x);
        self.bin(op, x, c)
    }
    /// Absolute value.
    fn abs(&mut self, x: Self::V) -> Self::V {
        self.un(UnOp::Abs, x)
    }
    /// Negation.
    fn neg(&mut self, x: Self::V) -> Self::V {
        self.un(UnOp::Neg, x)
    }
    /// The bits of a float as a signed integer.
    fn bits(&mut self, x: Self::V) -> Self::V {
        let int = self.format(x).int;
        self.bitcast(x, int)
    }
    /// The float with these bits.
    fn float(&mut self, bits: Self::V) -> Self::V {
        let t = if self.dtype(bits) == DType::I64 { DType::F64 } else { DType::F32 };
        self.bitcast(bits, t)
    }
    /// The sign bit of `x`, as an integer.
    fn sign_bit(&mut self, x: Self::V) -> Self::V {
        let sign = self.format(x).sign as i64;
        let bits = self.bits(x);
        self.bin_int(BinOp::And, bits, sign)
    }
    /// `x` with its sign bit flipped where the integer `sign` has it.
    fn xor_sign(&mut self, x: Self::V, sign: Self::V) -> Self::V {
        let bits = self.bits(x);
        let flipped = self.bin(BinOp::Xor, bits, sign);
        self.float(flipped)
    }
    /// The non-negative `x` with the sign of `of`: makes odd functions exactly odd, -0 included.
    fn with_sign(&mut self, x: Self::V, of: Self::V) -> Self::V {
        let sign = self.sign_bit(of);
        self.xor_sign(x, sign)
    }
    /// The polynomial with these coefficients, lowest first, by Horner's rule.
    fn poly(&mut self, coefficients: &[f64], x: Self::V) -> Self::V {
        let (&last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
        let mut sum = self.num(last, x);
        for &c in rest.iter().rev() {
            let c = self.num(c, x);
            sum = self.fma(sum, x, c);
        }
        sum
    }
    /// The rounded sum of two numbers, the first not smaller in magnitude, and what rounding lost.
    fn fast_two_sum(&mut self, x: Self::V, y: Self::V) -> (Self::V, Self::V) {
        let sum = self.add(x, y);
        let back = self.sub(sum, x);
        (sum, self.sub(y, back))
    }
}

impl<A: Arith> Ops for A {}
