//! The error function.
//!
//! Coefficients: minimax polynomials by Remez exchange (mpmath, 110 digits), rounded to the format one after the other
//! from the lowest, the rest fitted again each time (`LARGE_F64`: rounded together). The error after each is the
//! weighted error left, relative to the function.

use super::Arith;
use super::exp::exp_clamped;
use super::format::Ops;
use crate::dtype::DType;
use crate::kernel::Pred;

/// `erf(x) / x - 1` in x^2 for  Error 2^-29.
const SMALL_F32: &[f64] =
    &[0.1283791661, -0.3761262894, 0.1128361821, -0.0268551223, 0.005190717056, -0.0008030521567, 7.919262862e-5];

/// The same for f64. Error 2^-56.
const SMALL_F64: &[f64] = &[
    0.1283791670955126,
    -0.37612638903184037,
    0.11283791670968367,
    -0.026866170648050292,
    0.005223977660536354,
    -0.0008548329545849409,
    0.000120554486280832,
    -1.492917539513817e-5,
    1.6535132298544857e-6,
    -1.7397966668340117e-7,
    2.460757528403133e-8,
    -7.20720726265279e-9,
    2.2097241972136853e-9,
    -3.3608323431824645e-10,
];

/// `erfc(x)^(1/8)` for x in 0.99..3.93. Error 2^-27.
const LARGE_F32: &[f64] = &[
    1.000356674,
    -0.1428642273,
    -0.06566741318,
    -0.006916249171,
    0.01017452776,
    -0.001473067678,
    -4.620337495e-5,
    1.614632856e-5,
];

/// `log(erfc(x)) + x^2` in `(x - 2) / (x + 2)` for x in 0.99..6. Error 2^-56.
const LARGE_F64: &[f64] = &[
    -1.3649412646166375,
    -1.6726432239776297,
    -0.45265669315801227,
    -0.2864377231193892,
    -0.25987268954224224,
    -0.20882493657682913,
    -0.16490770128784787,
    -0.14051133405880528,
    -0.12514803184328224,
    -0.11179116694307469,
    -0.1000616567629718,
    -0.09050069754718609,
    -0.08316732486908111,
    -0.07957545936836771,
    -0.07816711179979123,
    -0.06394325521271632,
    -0.027722912994925568,
];

/// Error function. At most 2.1 ulp; f64: 1.0.
pub(super) fn erf<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let magnitude = a.abs(x);
    let square = a.mul(x, x);
    let table = a.pick(x, SMALL_F32, SMALL_F64);
    let p = a.poly(table, square);
    let small = a.fma(magnitude, p, magnitude);
    let tail = if a.dtype(x) == DType::F64 { tail_f64(a, magnitude) } else { tail_f32(a, magnitude) };
    let one = a.num(1.0, x);
    let large = a.sub(one, tail);
    let is_small = a.cmp_num(Pred::Lt, magnitude, 1.0);
    let y = a.select(is_small, small, large);
    a.with_sign(y, x)
}

/// `erfc(x)` for x at least 1, good enough to be taken from 1: the eighth power of a polynomial needs no exponential.
fn tail_f32<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let x = a.min_num(x, 3.93);
    let root = a.poly(LARGE_F32, x);
    let square = a.mul(root, root);
    let fourth = a.mul(square, square);
    a.mul(fourth, fourth)
}

/// The same for f64: `exp(p(t) - x^2)`.
fn tail_f64<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let x = a.min_num(x, 6.0);
    let above = a.sub_num(x, 2.0);
    let below = a.add_num(x, 2.0);
    let t = a.div(above, below);
    let p = a.poly(LARGE_F64, t);
    let minus = a.neg(x);
    let log = a.fma(minus, x, p);
    exp_clamped(a, log, None, 0)
}
