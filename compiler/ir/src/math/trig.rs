//! Sine, cosine and tangent: NaN for angles beyond 2^22 (f64: 2^50), which a reduction in three steps cannot do
//! justice.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other
//! from the lowest, the rest fitted again each time. The error after each is the weighted error left, relative to the
//! function.

use super::Arith;
use super::format::Ops;
use crate::kernel::{BinOp, Pred};

/// `(sin(r) / r - 1) / r^2` in r^2 for r^2 <= 0.65. Error 2^-32.
const SIN_F32: &[f64] = &[-0.1666666716, 0.00833337754, -0.0001985193667, 2.818024086e-6];

/// The same for f64. Error 2^-62.
const SIN_F64: &[f64] = &[
    -0.16666666666666666,
    0.008333333333333028,
    -0.00019841269840947175,
    2.755731906904685e-6,
    -2.50520706366243e-8,
    1.605440606416689e-10,
    -7.400338249783815e-13,
];

/// `(cos(r) - 1 + r^2 / 2) / r^4` in r^2 for r^2 <= 0.65. Error 2^-37.
const COS_F32: &[f64] = &[0.04166666791, -0.00138889777, 2.482078162e-5, -2.873138385e-7];

/// The same for f64. Error 2^-68.
const COS_F64: &[f64] = &[
    0.041666666666666664,
    -0.0013888888888888371,
    2.4801587301163626e-5,
    -2.7557319055066613e-7,
    2.087672140312442e-9,
    -1.146687941298714e-11,
    4.597481682481686e-14,
];

/// Pi / 2 in three parts of full precision; the products with the quadrant are exact inside a fused multiply-add.
const HALF_PI_F32: [f64; 3] = [1.5707963705062866, -4.371138828673793e-8, -1.7151245100058819e-15];
/// The same for f64.
const HALF_PI_F64: [f64; 3] = [std::f64::consts::FRAC_PI_2, 6.123233995736766e-17, -1.4973849048591698e-33];

/// An angle less a multiple of a quarter turn, and what follows from it.
struct Quarter<V> {
    /// The multiple; only its two low bits mean something.
    quadrant: V,
    /// Sine of what is left.
    sin: V,
    /// Cosine of what is left.
    cos: V,
}

/// Reduces a non-negative angle by Cody and Waite's method and takes sine and cosine of the rest.
///
/// Beyond 2^22 (f64: 2^50) the multiple has too many bits for this; the results are NaN rather than wrong.
fn reduce<A: Arith>(a: &mut A, x: A::V) -> Quarter<A::V> {
    let limit = a.pick(x, 22f64.exp2(), 50f64.exp2());
    let in_range = a.cmp_num(Pred::Le, x, limit);
    let nan = a.num(f64::NAN, x);
    let x = a.select(in_range, x, nan);
    let magic = a.format(x).magic;
    let magic = a.num(magic, x);
    let sum = a.fma_num(x, std::f64::consts::FRAC_2_PI, magic);
    let n = a.sub(sum, magic);
    let mut r = x;
    for part in a.pick(x, HALF_PI_F32, HALF_PI_F64) {
        r = a.fma_num(n, -part, r);
    }
    let z = a.mul(r, r);
    let cube = a.mul(r, z);
    let table = a.pick(x, SIN_F32, SIN_F64);
    let p = a.poly(table, z);
    let sin = a.fma(cube, p, r);
    let table = a.pick(x, COS_F32, COS_F64);
    let p = a.poly(table, z);
    let one = a.num(1.0, x);
    let head = a.fma_num(z, -0.5, one);
    let square = a.mul(z, z);
    let cos = a.fma(square, p, head);
    Quarter { quadrant: a.bits(sum), sin, cos }
}

/// True where the integer has its lowest bit.
fn is_odd<A: Arith>(a: &mut A, n: A::V) -> A::V {
    let bit = a.bin_int(BinOp::And, n, 1);
    let zero = a.int(0, n);
    a.cmp(Pred::Ne, bit, zero)
}

/// Sine or cosine by quadrant: sin, cos, -sin, -cos.
fn by_quadrant<A: Arith>(a: &mut A, q: &Quarter<A::V>, quadrant: A::V) -> A::V {
    let odd = is_odd(a, quadrant);
    let y = a.select(odd, q.cos, q.sin);
    let second = a.bin_int(BinOp::And, quadrant, 2);
    let to_sign = a.format(y).int.bits() as i64 - 2;
    let sign = a.bin_int(BinOp::Shl, second, to_sign);
    a.xor_sign(y, sign)
}

/// Sine, radians. At most 1.6 ulp up to 1e5, 2.1 up to 2^22; f64: 1.5.
pub(super) fn sin<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let q = reduce(a, magnitude);
    let y = by_quadrant(a, &q, q.quadrant);
    a.with_sign(y, x)
}

/// Cosine, radians. At most 1.6 ulp up to 1e5, 2.2 up to 2^22; f64: 1.5.
pub(super) fn cos<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let q = reduce(a, magnitude);
    let next = a.bin_int(BinOp::Add, q.quadrant, 1);
    by_quadrant(a, &q, next)
}

/// Tangent, radians. At most 3.5 ulp; f64: 2.7.
pub(super) fn tan<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let q = reduce(a, magnitude);
    let odd = is_odd(a, q.quadrant);
    let minus = a.neg(q.cos);
    let above = a.select(odd, minus, q.sin);
    let below = a.select(odd, q.sin, q.cos);
    let y = a.div(above, below);
    a.with_sign(y, x)
}
