//! Largest errors of the approximated functions, in units in the last place.
//!
//! `measure` (ignored; run it in release with `--nocapture`) prints what the docs of the functions state.

use std::f64::consts;

use super::*;
use UnaryFn::*;

/// A function with its reference and the errors it may have.
struct Case {
    f: UnaryFn,
    /// The function in f64, at most an ulp or two of f64 wrong.
    reference: fn(f64) -> f64,
    /// Largest error for f32.
    f32_ulp: f64,
    /// Largest error for f64, that of the reference included.
    f64_ulp: f64,
    /// Where something happens: samples are dense from minus this to this.
    range: f64,
    /// Largest magnitude the bound holds for.
    limit: f64,
}

const fn case(f: UnaryFn, reference: fn(f64) -> f64, f32_ulp: f64, f64_ulp: f64, range: f64) -> Case {
    Case { f, reference, f32_ulp, f64_ulp, range, limit: f64::INFINITY }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    // The f64 references are themselves up to two ulp off.
    case(Exp, f64::exp, 1.1, 2.0, 110.0),
    case(Log, f64::ln, 1.0, 2.0, 4.0),
    case(Sinh, f64::sinh, 1.7, 3.0, 92.0),
    case(Cosh, f64::cosh, 1.5, 3.0, 92.0),
    case(Tanh, f64::tanh, 2.3, 4.0, 12.0),
    case(Asinh, asinh, 2.2, 4.0, 8.0),
    case(Acosh, acosh, 1.5, 4.0, 8.0),
    case(Atanh, atanh, 1.4, 4.0, 1.1),
    case(Asin, f64::asin, 1.9, 3.0, 1.1),
    case(Acos, f64::acos, 1.3, 3.0, 1.1),
    case(Atan, f64::atan, 2.1, 3.0, 8.0),
    Case { limit: 4194304.0, ..case(Sin, f64::sin, 2.1, 3.0, 4194304.0) },
    Case { limit: 4194304.0, ..case(Cos, f64::cos, 2.2, 3.0, 4194304.0) },
    Case { limit: 4194304.0, ..case(Tan, f64::tan, 3.6, 4.0, 4194304.0) },
    case(Erf, erf, 2.1, 5.0, 4.5),
    case(Sigmoid, sigmoid, 2.4, 4.0, 110.0),
    case(Softplus, softplus, 1.7, 4.0, 110.0),
];

fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

// The three of std lose digits or overflow at the ends.
fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let y = if a > 1e9 { a.ln() + std::f64::consts::LN_2 } else { (a + a * a / (1.0 + a.hypot(1.0))).ln_1p() };
    y.copysign(x)
}

fn acosh(x: f64) -> f64 {
    let t = x - 1.0;
    if x < 1.0 {
        return f64::NAN;
    }
    if x > 1e9 { x.ln() + std::f64::consts::LN_2 } else { (t + (2.0 * t + t * t).sqrt()).ln_1p() }
}

fn atanh(x: f64) -> f64 {
    let a = x.abs();
    (0.5 * (2.0 * a / (1.0 - a)).ln_1p()).copysign(x)
}

/// By the series of positive terms `2/sqrt(pi) exp(-x^2) sum (2x^2)^n x / (2n+1)!!`, and above 3/4 by erfc's continued
/// fraction.
fn erf(x: f64) -> f64 {
    if x.abs() > 0.75 {
        let a = x.abs().min(6.0);
        let below = (1..600).rev().fold(a, |below, n| a + f64::from(n) / 2.0 / below);
        let erfc = (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / below;
        return (1.0 - erfc).copysign(x);
    }
    if x.is_nan() {
        return x;
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    // The square in two parts keeps the exponential exact to the last bits.
    let square = x * x;
    let lost = x.mul_add(x, -square);
    std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * (1.0 - lost) * sum
}

/// The spacing of f32 or f64 around a number.
fn spacing(x: f64, t: DType) -> f64 {
    let (mantissa, least) = if t == DType::F32 { (23, -126) } else { (52, -1022) };
    let exponent = ((x.abs().to_bits() >> 52) as i32 - 1023).max(least);
    f64::from(exponent - mantissa).exp2()
}

/// Error of `got` in units in the last place; infinite if one is NaN or infinite and the other is not.
fn error(got: f64, want: f64, t: DType) -> f64 {
    let largest = if t == DType::F32 { f64::from(f32::MAX) } else { f64::MAX };
    let rounded = if t == DType::F32 { f64::from(want as f32) } else { want };
    if got.is_nan() && want.is_nan() || got.is_infinite() && got == rounded {
        return 0.0;
    }
    // One step across the largest number.
    let got = if got.is_infinite() { got.signum() * (largest + spacing(largest, t)) } else { got };
    if got.is_nan() || want.is_nan() || want.is_infinite() {
        return f64::INFINITY;
    }
    (got - want).abs() / spacing(want, t)
}

/// Numbers to try: random bits, a uniform range, and everything close to where functions change their ways.
fn samples(case: &Case, t: DType, count: u64) -> impl Iterator<Item = f64> {
    let mut random = Random(7);
    let (range, limit) = (case.range, case.limit);
    let narrow = t == DType::F32;
    let of_bits = move |b: u64| if narrow { f64::from(f32::from_bits(b as u32)) } else { f64::from_bits(b) };
    let to_bits = move |x: &f64| if narrow { u64::from((*x as f32).to_bits()) } else { x.to_bits() };
    let edges: Vec<u64> = EDGES.iter().map(to_bits).collect();
    let near = edges.into_iter().flat_map(move |bits| (0..400).map(move |i| of_bits((bits + i).saturating_sub(200))));
    let near = near.flat_map(|x| [x, -x]);
    let wide = if narrow { 1.0 } else { 7.0 };
    let drawn = (0..count).map(move |i| match i % 4 {
        0 => of_bits(random.next()),
        1 => (random.unit() * 2.0 - 1.0) * range * wide,
        2 => (random.unit() * 2.0 - 1.0) * range.min(2.0),
        _ => (random.unit() * 2.0 - 1.0) * range.min(12.0),
    });
    let rounded = near.chain(drawn).map(move |x| if narrow { f64::from(x as f32) } else { x });
    rounded.filter(move |x| x.abs() <= limit)
}

/// Where expansions choose between two forms, or results reach the ends of the format.
#[rustfmt::skip]
const EDGES: &[f64] = &[
    0.0, 1.2e-38, 2.3e-308, 0.3466, 0.4142135, 0.5, consts::LN_2, consts::FRAC_1_SQRT_2,
    consts::FRAC_PI_4, 1.0, 1.0397, 1.3333333, consts::SQRT_2,
    consts::FRAC_PI_2, 2.0, 2.4142135, consts::PI, 3.92, 3.93, 6.0, 9.01, 10.0, 19.0, 20.0, 87.33654, 88.72284, 89.4159,
    103.27893, 103.97208, 708.39641, 709.78271, 710.47586, 744.44007, 745.13321, 8192.0,
    1.0737418e9, 1.8446744e19, 3.4028235e38,
    f64::MAX, f64::INFINITY,
];

fn worst(case: &Case, t: DType, count: u64) -> (f64, f64) {
    let mut worst = (0.0, 0.0);
    for x in samples(case, t, count) {
        let want = (case.reference)(x);
        let got = if t == DType::F32 { f64::from(f32_of(case.f, x as f32)) } else { f64_of(case.f, x) };
        let e = error(got, want, t);
        if e > worst.0 {
            worst = (e, x);
        }
    }
    worst
}

#[test]
fn f32_errors() {
    for case in CASES {
        let (e, x) = worst(case, DType::F32, 100_000);
        assert!(e <= case.f32_ulp, "{}({x:e}) is {e} ulp off: {:e}", case.f.name(), f32_of(case.f, x as f32));
    }
}

#[test]
fn f64_errors() {
    for case in CASES {
        let (e, x) = worst(case, DType::F64, 50_000);
        assert!(e <= case.f64_ulp, "{}({x:e}) is {e} ulp off: {:e}", case.f.name(), f64_of(case.f, x));
    }
}

#[test]
#[ignore = "prints the errors that the docs state"]
fn measure() {
    for case in CASES {
        let (e, x) = worst(case, DType::F32, 4_000_000);
        let (e64, x64) = worst(case, DType::F64, 1_000_000);
        println!("{:10} f32 {e:.3} at {x:e}   f64 {e64:.3} at {x64:e}", case.f.name());
    }
    let mut pow = (0.0, 0.0, 0.0);
    let mut pow64 = (0.0, 0.0, 0.0);
    for (x, y) in powers(4_000_000) {
        let (x, y) = (f64::from(x as f32), f64::from(y as f32));
        let e = error(f64::from(f32_of2(BinaryFn::Pow, x as f32, y as f32)), x.powf(y), DType::F32);
        if e > pow.0 {
            pow = (e, x, y);
        }
        let e = error(f64_of2(BinaryFn::Pow, x, y), x.powf(y), DType::F64);
        if e > pow64.0 {
            pow64 = (e, x, y);
        }
    }
    println!("pow f32 {pow:?} f64 {pow64:?}");
}

/// Bases and exponents whose powers are mostly finite.
fn powers(count: u64) -> impl Iterator<Item = (f64, f64)> {
    let mut random = Random(11);
    (0..count).map(move |i| match i % 4 {
        0 => (random.unit() * 4.0, (random.unit() - 0.5) * 200.0),
        1 => (1.0 + (random.unit() - 0.5) * 1e-3, (random.unit() - 0.5) * 2e5),
        2 => ((random.unit() * 170.0 - 85.0).exp(), (random.unit() - 0.5) * 4.0),
        _ => {
            let mut any = || f64::from(f32::from_bits(random.next() as u32));
            (any().abs(), any())
        }
    })
}

#[test]
fn pow_errors() {
    for (x, y) in powers(200_000) {
        let (x, y) = (x as f32, y as f32);
        let got = f32_of2(BinaryFn::Pow, x, y);
        let e = error(f64::from(got), f64::from(x).powf(f64::from(y)), DType::F32);
        assert!(e <= 2.0, "pow({x:e}, {y:e}) is {e} ulp off: {got:e}");
    }
    for (x, y) in powers(100_000) {
        let got = f64_of2(BinaryFn::Pow, x, y);
        let e = error(got, x.powf(y), DType::F64);
        assert!(e <= 2.0, "pow({x:e}, {y:e}) is {e} ulp off: {got:e}");
    }
}
