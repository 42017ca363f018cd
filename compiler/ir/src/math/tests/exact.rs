//! Special cases, exact functions, and that [`Eval`] and the kernel interpreter agree bit for bit.

use super::*;
use crate::kernel::interp::{Buffer, run};
use crate::kernel::{Access, Kernel};
use BinaryFn::{Fmod, Mod, Pow};
use UnaryFn::*;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Equal bits, or both NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[test]
#[rustfmt::skip]
fn special_values() {
    let table: &[(UnaryFn, f32, f32)] = &[
        (Exp, -INF, 0.0), (Exp, INF, INF), (Exp, 0.0, 1.0), (Exp, -0.0, 1.0), (Exp, 88.7229, INF), (Exp, -104.0, 0.0),
        (Exp, -103.5, 1e-45), (Log, 0.0, -INF), (Log, -0.0, -INF), (Log, -1.0, NAN), (Log, -INF, NAN), (Log, INF, INF),
        (Log, 1.0, 0.0), (Sin, -0.0, -0.0), (Sin, INF, NAN), (Cos, 0.0, 1.0), (Cos, -INF, NAN), (Cos, 1e16, NAN),
        (Tan, -0.0, -0.0), (Asin, -0.0, -0.0), (Asin, 1.0001, NAN), (Acos, 1.0, 0.0),
        (Acos, -1.0, std::f32::consts::PI), (Acos, 2.0, NAN),
        (Atan, INF, std::f32::consts::FRAC_PI_2), (Atan, -INF, -std::f32::consts::FRAC_PI_2), (Atan, -0.0, -0.0),
        (Sinh, -0.0, -0.0), (Sinh, -INF, -INF), (Sinh, INF, INF), (Cosh, -INF, INF), (Cosh, 0.0, 1.0),
        (Asinh, -0.0, -0.0), (Asinh, -INF, -INF), (Acosh, 1.0, 0.0), (Acosh, 0.5, NAN), (Acosh, INF, INF),
        (Acosh, -INF, NAN), (Atanh, 1.0, INF), (Atanh, -1.0, -INF), (Atanh, -0.0, -0.0), (Atanh, 1.5, NAN),
        (Tanh, -0.0, -0.0), (Tanh, INF, 1.0), (Tanh, -INF, -1.0), (Tanh, 1e-40, 1e-40), (Erf, -0.0, -0.0),
        (Erf, INF, 1.0), (Erf, -INF, -1.0), (Erf, 5.0, 1.0), (Sigmoid, INF, 1.0), (Sigmoid, -INF, 0.0),
        (Sigmoid, 0.0, 0.5), (Softplus, -INF, 0.0), (Softplus, INF, INF), (Softplus, 100.0, 100.0),
        (Sign, -0.0, 0.0), (Sign, -3.0, -1.0), (Sign, INF, 1.0), (Reciprocal, -0.0, -INF), (Sqrt, -0.0, -0.0),
        (Round, 2.5, 2.0), (Round, -0.4, -0.0), (Neg, 0.0, -0.0), (Abs, -0.0, 0.0), (Floor, -0.5, -1.0),
        (Ceil, -0.5, -0.0),
    ];
    for &(f, x, want) in table {
        let got = f32_of(f, x);
        assert!(same(got, want), "{}({x}) is {got}, not {want}", f.name());
        let got = f64_of(f, f64::from(x)) as f32;
        let wide_differs = x == 88.7229 || x == -104.0;
        assert!(wide_differs || same(got, want), "f64 {}({x}) is {got}, not {want}", f.name());
    }
    for &f in UnaryFn::ALL.iter().filter(|f| f.accepts(DType::F32) && f.result(DType::F32) == DType::F32) {
        assert!(f32_of(f, NAN).is_nan(), "{}(NaN)", f.name());
        assert!(f64_of(f, f64::NAN).is_nan(), "f64 {}(NaN)", f.name());
    }
}

/// tanh, erf and sigmoid never leave their range, and meet its end.
#[test]
fn bounded_functions_stay_in_range() {
    for bits in (0x3f80_0000..0x4140_0000u32).step_by(7) {
        let x = f32::from_bits(bits);
        for f in [Tanh, Erf, Sigmoid] {
            assert!(f32_of(f, x) <= 1.0, "{}({x})", f.name());
        }
    }
}

#[test]
#[rustfmt::skip]
fn classes() {
    for (f, x, want) in [
        (IsNan, NAN, 1), (IsNan, INF, 0), (IsPosInf, INF, 1), (IsPosInf, -INF, 0), (IsNegInf, -INF, 1),
    ] {
        assert_eq!(unary(&mut Eval, f, Const::f32(x)), Const { dtype: DType::Bool, bits: want });
        let half = Const::number(DType::F16, f64::from(x));
        assert_eq!(unary(&mut Eval, f, half), Const { dtype: DType::Bool, bits: want });
    }
}

/// Every special case that IEEE 754 and C list, against the standard library's `powf`.
#[test]
fn powers_of_special_values() {
    #[rustfmt::skip]
    let values = [
        0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, -1.5, INF, -INF, NAN, f32::MAX, f32::MIN, 1e-40,
        -1e-40, f32::MIN_POSITIVE, 8388609.0, -8388609.0, 16777216.0, 1e30, -1e30,
    ];
    for x in values {
        for y in values {
            let (got, want) = (f32_of2(Pow, x, y), f64::from(x).powf(f64::from(y)) as f32);
            assert!(same(got, want) || (got / want - 1.0).abs() < 2e-7, "pow({x}, {y}) is {got}, not {want}");
            let (x, y) = (f64::from(x), f64::from(y));
            let (got, want) = (f64_of2(Pow, x, y), x.powf(y));
            let close = got == want || (got / want - 1.0).abs() < 3e-16;
            assert!(close || got.is_nan() && want.is_nan(), "f64 pow({x}, {y}) is {got}, not {want}");
            assert_eq!(got.is_sign_negative() && got == 0.0, want.is_sign_negative() && want == 0.0, "pow({x}, {y})");
        }
    }
}

#[test]
fn float_remainders_are_exact() {
    let mut random = Random(3);
    let specials = [0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 0.1, 1e-40, 1e30, INF, -INF, NAN];
    let pairs = specials.into_iter().flat_map(|x| specials.map(|y| (x, y)));
    let mut draw = || f32::from_bits(random.next() as u32);
    let drawn: Vec<(f32, f32)> = (0..20_000).map(|_| (draw(), draw())).collect();
    for (x, y) in pairs.chain(drawn) {
        if (f64::from(x) / f64::from(y)).abs() > 1e38 && y != 0.0 && x.is_finite() {
            continue;
        }
        let (got, want) = (f32_of2(Fmod, x, y), x % y);
        assert!(same(got, want), "fmod({x:e}, {y:e}) is {got:e}, not {want:e}");
    }
    for (x, y, want) in [(5.0, 3.0, 2.0), (-5.0, 3.0, 1.0), (5.0, -3.0, -1.0), (-5.0, -3.0, -2.0), (-6.0, 3.0, 0.0)] {
        assert!(same(f32_of2(Mod, x, y), want), "mod({x}, {y})");
    }
}

#[test]
#[rustfmt::skip]
fn integers() {
    let int = |f, t, x, y| binary(&mut Eval, f, Const::int(t, x), Const::int(t, y)).as_i64();
    let (i8, i64, u8) = (DType::I8, DType::I64, DType::U8);
    for (t, x, y, want) in [
        (i64, 3, 4, 81), (i64, -3, 3, -27), (i64, 7, 0, 1), (i64, 0, 0, 1), (i64, 2, 63, i64::MIN), (i64, 2, 64, 0),
        (i64, 2, -1, 0), (i64, 1, -5, 1), (i64, -1, -5, -1), (i64, -1, -4, 1), (i64, 0, -1, 0), (i64, -1, i64::MIN, 1),
        (i8, 3, 5, -13), (u8, 3, 5, 243), (u8, 3, 255, 171), (i64, 3, 41, 3i64.wrapping_pow(41)),
    ] {
        assert_eq!(int(Pow, t, x, y), want, "{x}^{y} as {t}");
    }
    for (x, y, floored, truncated) in [
        (5, 3, 2, 2), (-5, 3, 1, -2), (5, -3, -1, 2), (-5, -3, -2, -2), (6, -3, 0, 0), (6, 0, 0, 0),
    ] {
        assert_eq!(int(Mod, i64, x, y), floored);
        assert_eq!(int(Fmod, i64, x, y), truncated);
        assert_eq!(int(Mod, i8, x, y), floored);
    }
    assert_eq!(int(Mod, u8, 250, 7), 5);
    assert_eq!(int(BinaryFn::Div, i64, -7, 2), -3);
    let sign = |t, x| unary(&mut Eval, Sign, Const::int(t, x)).as_i64();
    assert_eq!([sign(i64, -9), sign(i64, 0), sign(i64, 9), sign(u8, 200)], [-1, 0, 1, 1]);
}

/// f16 and bf16 go through f32 and are rounded once.
#[test]
fn narrow_floats() {
    for t in [DType::F16, DType::BF16] {
        for bits in 0..=u16::MAX {
            let x = Const { dtype: t, bits: u64::from(bits) };
            let wide = unary(&mut Eval, Exp, scalar::convert(x, DType::F32));
            assert_eq!(unary(&mut Eval, Exp, x), scalar::convert(wide, t));
        }
    }
}

fn every_bit_pattern(t: DType, count: usize) -> Vec<u8> {
    let mut random = Random(5);
    let values = (0..count).flat_map(|i| {
        let small = Const::number(t, (i as f64 - count as f64 / 2.0) * 0.37);
        let bits = if i % 2 == 0 { random.next() } else { small.bits };
        bits.to_le_bytes()[..t.size()].to_vec()
    });
    values.collect()
}

/// The elements of a buffer; every NaN as the same one.
fn elements(b: &Buffer) -> Vec<Const> {
    b.bytes
        .chunks(b.dtype.size())
        .map(|c| {
            let mut word = [0; 8];
            word[..c.len()].copy_from_slice(c);
            let c = Const { dtype: b.dtype, bits: u64::from_le_bytes(word) };
            if b.dtype.is_float() && scalar::cmp(Pred::Ne, c, c) { Const::number(b.dtype, f64::NAN) } else { c }
        })
        .collect()
}

/// A kernel of two inputs and one output that applies `f` to vectors of 8 lanes.
fn elementwise(t: DType, result: DType, f: impl FnOnce(&mut KernelBuilder, Val, Val) -> Val) -> Kernel {
    let mut k = KernelBuilder::new("elementwise");
    let (x, y) = (k.param("x", t, Access::Read), k.param("y", t, Access::Read));
    let z = k.param("z", result, Access::Write);
    let tile = k.tile();
    let index = k.mul_int(tile, 8);
    let (a, b) = (k.load(x, index, 0, 8, None), k.load(y, index, 0, 8, None));
    let c = f(&mut k, a, b);
    k.store(z, index, 0, c, None);
    k.finish()
}

fn agrees(t: DType, result: DType, kernel: Kernel, eval: impl Fn(Const, Const) -> Const) {
    const COUNT: usize = 64;
    let x = Buffer { dtype: t, bytes: every_bit_pattern(t, COUNT) };
    let y = Buffer { dtype: t, bytes: every_bit_pattern(t, COUNT).into_iter().rev().collect() };
    let want: Vec<Const> = elements(&x).into_iter().zip(elements(&y)).map(|(a, b)| eval(a, b)).collect();
    let z = Buffer { dtype: result, bytes: vec![0; COUNT * result.size()] };
    let mut buffers = [x, y, z];
    run(&kernel, &mut buffers, &[], 0..COUNT as i64 / 8).unwrap();
    let bytes = want.iter().flat_map(|c| c.bits.to_le_bytes()[..result.size()].to_vec()).collect();
    assert_eq!(elements(&buffers[2]), elements(&Buffer { dtype: result, bytes }));
}

#[test]
fn eval_and_kernels_agree() {
    for &t in DType::ALL.iter().filter(|t| t.in_kernels() && **t != DType::Bool) {
        for &f in UnaryFn::ALL.iter().filter(|f| f.accepts(t)) {
            let result = f.result(t);
            agrees(t, result, elementwise(t, result, |k, x, _| unary(k, f, x)), |x, _| unary(&mut Eval, f, x));
        }
        for &f in BinaryFn::ALL.iter().filter(|f| f.accepts(t)) {
            agrees(t, t, elementwise(t, t, |k, x, y| binary(k, f, x, y)), |x, y| binary(&mut Eval, f, x, y));
        }
    }
}

/// Instructions of an expansion, constants and bit casts not counted: what the most used functions cost.
#[test]
fn instruction_counts() {
    use crate::kernel::{Instr, Stmt};
    let free = |s: &&Stmt| !matches!(s, Stmt::Let(_, Instr::Const(_) | Instr::Bitcast(_)));
    let count = |f: fn(&mut KernelBuilder, Val, Val) -> Val| {
        let all = elementwise(DType::F32, DType::F32, f).body.0.iter().filter(free).count();
        // Less the tile, its product, two loads and the store.
        all - 5
    };
    let counts = [
        count(|k, x, _| unary(k, Exp, x)),
        count(|k, x, _| unary(k, Log, x)),
        count(|k, x, _| unary(k, Tanh, x)),
        count(|k, x, _| unary(k, Sigmoid, x)),
        count(|k, x, _| unary(k, Erf, x)),
    ];
    assert_eq!(counts, [19, 27, 20, 24, 25]);
}
