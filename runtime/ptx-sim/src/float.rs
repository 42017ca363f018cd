//! Floating-point formats and exact rounding into them.
//!
//! Every rounding starts from an f64 that is exact, or made odd where the exact value lies between two of them
//! ([`odd_sum`]): an odd last bit marks "inexact", and f64 has bits to spare over each target format, so that the one
//! rounding in [`Format::encode`] is right in every mode.

/// Rounding mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Round {
    /// To nearest, ties to even.
    Even,
    Zero,
    Down,
    Up,
    /// To nearest, ties away from zero.
    Away,
}

impl Round {
    /// The mode stored as a number by `as u32`.
    pub fn from_code(code: u32) -> Round {
        match code {
            1 => Round::Zero,
            2 => Round::Down,
            3 => Round::Up,
            4 => Round::Away,
            _ => Round::Even,
        }
    }
}

/// A binary format of sign, exponent and mantissa.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    /// Explicit bits of the mantissa.
    mantissa: u32,
    /// Bits of the exponent.
    exponent: u32,
    /// Bits below the format in its register (tf32 lives in the upper bits of 32).
    padding: u32,
    /// The canonical NaN.
    nan: u64,
}

pub(crate) const F16: Format = Format { mantissa: 10, exponent: 5, padding: 0, nan: 0x7fff };
pub(crate) const BF16: Format = Format { mantissa: 7, exponent: 8, padding: 0, nan: 0x7fff };
pub(crate) const TF32: Format = Format { mantissa: 10, exponent: 8, padding: 13, nan: 0x7fff_ffff };
pub(crate) const F32: Format = Format { mantissa: 23, exponent: 8, padding: 0, nan: 0x7fff_ffff };

impl Format {
    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn infinity(self) -> u64 {
        ((1u64 << self.exponent) - 1) << self.mantissa
    }

    /// `x` rounded to this format.
    pub fn encode(self, x: f64, round: Round) -> u64 {
        if x.is_nan() {
            return self.nan;
        }
        let negative = x.is_sign_negative();
        let sign = u64::from(negative) << (self.mantissa + self.exponent);
        let magnitude = match x {
            _ if x.is_infinite() => self.infinity(),
            0.0 => 0,
            _ => self.round_magnitude(x.abs(), round, negative),
        };
        (sign | magnitude) << self.padding
    }

    fn round_magnitude(self, x: f64, round: Round, negative: bool) -> u64 {
        let bits = x.to_bits();
        let field = (bits >> 52) as i32;
        let implicit = u64::from(field > 0) << 52;
        let mantissa = (bits & ((1 << 52) - 1)) | implicit;
        let exponent = field.max(1) - 1023;
        let target = exponent.max(1 - self.bias());
        // The value is `mantissa * 2^(exponent - 52)`; one unit of the target is `2^(target - self.mantissa)`.
        let drop = ((target - self.mantissa as i32) - (exponent - 52)).min(60) as u32;
        let (kept, rest, half) = (mantissa >> drop, mantissa & ((1 << drop) - 1), (1u64 << drop) >> 1);
        let up = match round {
            Round::Even => rest > half || (rest == half && rest > 0 && kept & 1 == 1),
            Round::Away => rest >= half && rest > 0,
            Round::Zero => false,
            Round::Down => negative && rest > 0,
            Round::Up => !negative && rest > 0,
        };
        let biased = (target + self.bias()) as u64;
        let result = ((biased - 1) << self.mantissa) + kept + u64::from(up);
        if result < self.infinity() {
            return result;
        }
        let saturates = match round {
            Round::Even | Round::Away => false,
            Round::Zero => true,
            Round::Down => !negative,
            Round::Up => negative,
        };
        self.infinity() - u64::from(saturates)
    }

    /// The value of `bits`.
    pub fn decode(self, bits: u64) -> f64 {
        let bits = bits >> self.padding;
        let sign = if bits >> (self.mantissa + self.exponent) & 1 == 1 { -1.0 } else { 1.0 };
        let field = (bits >> self.mantissa) & ((1 << self.exponent) - 1);
        let fraction = bits & ((1 << self.mantissa) - 1);
        if field == (1 << self.exponent) - 1 {
            return if fraction == 0 { sign * f64::INFINITY } else { f64::NAN };
        }
        let implicit = u64::from(field > 0) << self.mantissa;
        let exponent = field.max(1) as i32 - self.bias() - self.mantissa as i32;
        sign * (fraction | implicit) as f64 * power_of_two(exponent)
    }

    /// `bits`, or a zero of the same sign if they are subnormal.
    pub fn flush(self, bits: u64) -> u64 {
        let field = bits >> (self.padding + self.mantissa) & ((1 << self.exponent) - 1);
        let sign = 1 << (self.padding + self.mantissa + self.exponent);
        if field == 0 { bits & sign } else { bits }
    }
}

/// `2^exponent` for exponents of normal f64 numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `a + b` rounded to odd: exact, or with an odd last bit.
pub(crate) fn odd_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() {
        return sum;
    }
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    make_odd(sum, error)
}

/// `value`, rounded to odd given the sign of `exact - value`.
pub(crate) fn make_odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || value.to_bits() & 1 == 1 || !value.is_finite() {
        value
    } else if error > 0.0 {
        value.next_up()
    } else {
        value.next_down()
    }
}

/// The f32 that `half` stands for; without branches, so that loops over lanes vectorise.
#[inline(always)]
pub(crate) fn f16_to_f32(half: u32) -> f32 {
    let magnitude = (half & 0x7fff) << 13;
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let finite = if magnitude >= 0x0f80_0000 { magnitude | 0x7f80_0000 } else { scaled };
    f32::from_bits(finite | (half & 0x8000) << 16)
}

/// `x` rounded to the nearest f16.
#[inline]
pub(crate) fn f32_to_f16(x: f32) -> u32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    if (0x3880_0000..0x477f_f000).contains(&magnitude) {
        let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        return ((rounded >> 13) - (112 << 10)) | (bits >> 16 & 0x8000);
    }
    F16.encode(f64::from(x), Round::Even) as u32
}

/// `x` rounded to the nearest bf16.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    if x.is_nan() { 0x7fff } else { rounded }
}

/// `x`, or the canonical NaN.
#[inline(always)]
pub(crate) fn canonical(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}
