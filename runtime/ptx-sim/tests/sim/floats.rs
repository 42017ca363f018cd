//! Floating-point instructions against Rust floats, and against exact integers for the rounding modes.

use crate::support::{check, eval, singles};

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// The bits of a result, with the NaN that the device gives.
fn bits(x: f32) -> u64 {
    if x.is_nan() { 0x7fff_ffff } else { u64::from(x.to_bits()) }
}

fn doubles() -> Vec<u64> {
    singles().into_iter().map(|b| f64::from(f(b)).to_bits()).chain([0.1f64.to_bits(), 1e300f64.to_bits()]).collect()
}

fn bits64(x: f64) -> u64 {
    x.to_bits()
}

#[test]
fn single_precision() {
    let two = &["f32", "f32"];
    let cases: [(&str, fn(f32, f32) -> f32); 4] =
        [("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b), ("div", |a, b| a / b)];
    for (name, oracle) in cases {
        let rn = if name == "div" { "div.rn" } else { name };
        check(&format!("{rn}.f32 %d, %a, %b;"), "f32", two, &singles(), |v| bits(oracle(f(v[0]), f(v[1]))));
        check(&format!("{name}.rn.f32 %d, %a, %b;"), "f32", two, &singles(), |v| bits(oracle(f(v[0]), f(v[1]))));
        let flush = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
        check(&format!("{rn}.ftz.f32 %d, %a, %b;"), "f32", two, &singles(), |v| {
            bits(flush(oracle(flush(f(v[0])), flush(f(v[1])))))
        });
    }
    check("add.sat.f32 %d, %a, %b;", "f32", two, &singles(), |v| {
        let sum = f(v[0]) + f(v[1]);
        bits(if sum > 0.0 { sum.min(1.0) } else { 0.0 })
    });
    let three = &["f32", "f32", "f32"];
    check("fma.rn.f32 %d, %a, %b, %c;", "f32", three, &singles(), |v| bits(f(v[0]).mul_add(f(v[1]), f(v[2]))));
    check("fma.rn.ftz.f32 %d, %a, %b, %c;", "f32", three, &singles(), |v| {
        let flush = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
        bits(flush(flush(f(v[0])).mul_add(flush(f(v[1])), flush(f(v[2])))))
    });
    check("sqrt.rn.f32 %d, %a;", "f32", &["f32"], &singles(), |v| bits(f(v[0]).sqrt()));
    check("rcp.rn.f32 %d, %a;", "f32", &["f32"], &singles(), |v| bits(1.0 / f(v[0])));
    check("abs.f32 %d, %a;", "f32", &["f32"], &singles(), |v| v[0] & 0x7fff_ffff);
    check("neg.f32 %d, %a;", "f32", &["f32"], &singles(), |v| v[0] ^ 0x8000_0000);
    check("copysign.f32 %d, %a, %b;", "f32", two, &singles(), |v| u64::from(f(v[1]).copysign(f(v[0])).to_bits()));
}

#[test]
fn minimum_and_maximum() {
    let two = &["f32", "f32"];
    let min = |a: f32, b: f32| if a == b { if a.is_sign_negative() { a } else { b } } else { a.min(b) };
    let max = |a: f32, b: f32| if a == b { if a.is_sign_negative() { b } else { a } } else { a.max(b) };
    check("min.f32 %d, %a, %b;", "f32", two, &singles(), |v| bits(min(f(v[0]), f(v[1]))));
    check("max.f32 %d, %a, %b;", "f32", two, &singles(), |v| bits(max(f(v[0]), f(v[1]))));
    let nan = |v: [u64; 3]| f(v[0]).is_nan() || f(v[1]).is_nan();
    check("min.NaN.f32 %d, %a, %b;", "f32", two, &singles(), |v| {
        if nan(v) { 0x7fff_ffff } else { bits(min(f(v[0]), f(v[1]))) }
    });
    check("max.NaN.f32 %d, %a, %b;", "f32", two, &singles(), |v| {
        if nan(v) { 0x7fff_ffff } else { bits(max(f(v[0]), f(v[1]))) }
    });
}

#[test]
fn double_precision() {
    let d = f64::from_bits;
    let two = &["f64", "f64"];
    let cases: [(&str, fn(f64, f64) -> f64); 4] =
        [("add.rn", |a, b| a + b), ("sub", |a, b| a - b), ("mul.rn", |a, b| a * b), ("div.rn", |a, b| a / b)];
    let is_nan = |v: &[u64; 3]| d(v[0]).is_nan() || d(v[1]).is_nan();
    for (name, oracle) in cases {
        let rows: Vec<[u64; 3]> = doubles().iter().flat_map(|a| doubles().into_iter().map(|b| [*a, b, 0])).collect();
        let found = eval(&format!("{name}.f64 %d, %a, %b;"), "f64", two, &rows);
        for (row, found) in rows.iter().zip(found) {
            let expected = oracle(d(row[0]), d(row[1]));
            let same = found == bits64(expected) || expected.is_nan() && d(found).is_nan();
            assert!(same, "{name} of {row:x?}: {found:x}");
        }
    }
    check("sqrt.rn.f64 %d, %a;", "f64", &["f64"], &[4f64.to_bits(), 2f64.to_bits()], |v| bits64(d(v[0]).sqrt()));
    let positive: Vec<u64> = doubles().into_iter().filter(|b| !is_nan(&[*b, 0, 0]) && d(*b).abs() < 1e200).collect();
    check("fma.rn.f64 %d, %a, %b, %c;", "f64", &["f64", "f64", "f64"], &positive[..12], |v| {
        bits64(d(v[0]).mul_add(d(v[1]), d(v[2])))
    });
}

/// Sums and products of small integers scaled by powers of two, rounded with integer arithmetic.
#[test]
fn directed_rounding() {
    let values: Vec<u64> = [3f32, -5.0, 1.0, 16777215.0, -16777215.0, 8388609.0, 0.125, -0.0078125, 12345.678]
        .map(|v| u64::from(v.to_bits()))
        .to_vec();
    for (mode, direction) in [("rz", 0), ("rm", -1), ("rp", 1)] {
        let rounded = |exact: f64, near: f32| {
            // The neighbours of the nearest value enclose the exact one.
            let away = match direction {
                0 => {
                    if exact > 0.0 {
                        -1
                    } else {
                        1
                    }
                }
                d => d,
            };
            let (near64, stepped) = (f64::from(near), if away > 0 { near.next_up() } else { near.next_down() });
            let wrong = if away > 0 { near64 < exact } else { near64 > exact };
            bits(if wrong { stepped } else { near })
        };
        let (a, b) = (|v: [u64; 3]| f64::from(f(v[0])), |v: [u64; 3]| f64::from(f(v[1])));
        check(&format!("mul.{mode}.f32 %d, %a, %b;"), "f32", &["f32", "f32"], &values, |v| {
            rounded(a(v) * b(v), (a(v) * b(v)) as f32)
        });
        check(&format!("add.{mode}.f32 %d, %a, %b;"), "f32", &["f32", "f32"], &values, |v| {
            let zero = if direction < 0 { 0x8000_0000 } else { 0 };
            if a(v) + b(v) == 0.0 { zero } else { rounded(a(v) + b(v), (a(v) + b(v)) as f32) }
        });
        // Quotients and roots: the exact side follows from multiplying back.
        let found = eval(&format!("div.{mode}.f32 %d, %a, %b;"), "f32", &["f32", "f32"], &[[values[2], values[0], 0]]);
        let third = f32::from_bits(found[0] as u32);
        let (below, above) = (f64::from(third) * 3.0 <= 1.0, f64::from(third) * 3.0 >= 1.0);
        assert!(if direction > 0 { above } else { below }, "1/3 {mode} is {third}");
        let found = eval(&format!("sqrt.{mode}.f32 %d, %a;"), "f32", &["f32"], &[[values[0], 0, 0]]);
        let square = f64::from(f32::from_bits(found[0] as u32)).powi(2);
        assert!(if direction > 0 { square >= 3.0 } else { square <= 3.0 }, "the root of 3 {mode}");
    }
    // 1 + 2^-60: only a directed mode sees the small part.
    let tiny = u64::from(2f32.powi(-60).to_bits());
    let one = u64::from(1f32.to_bits());
    assert_eq!(eval("add.rp.f32 %d, %a, %b;", "f32", &["f32", "f32"], &[[one, tiny, 0]])[0], one + 1);
    assert_eq!(eval("add.rz.f32 %d, %a, %b;", "f32", &["f32", "f32"], &[[one, tiny, 0]])[0], one);
    assert_eq!(eval("fma.rm.f32 %d, %a, %a, %b;", "f32", &["f32", "f32"], &[[one, tiny | 1 << 31, 0]])[0], one - 1);
}

#[test]
fn approximations_are_close() {
    let cases: [(&str, fn(f64) -> f64, f64); 9] = [
        ("ex2.approx", f64::exp2, 2.4e-7),
        ("lg2.approx", f64::log2, 6e-7),
        ("sin.approx", f64::sin, 5e-7),
        ("cos.approx", f64::cos, 5e-7),
        ("tanh.approx", f64::tanh, 5e-4),
        ("rcp.approx", |x| 1.0 / x, 2.4e-7),
        ("rsqrt.approx", |x| 1.0 / x.sqrt(), 2.4e-7),
        ("sqrt.approx", f64::sqrt, 2.4e-7),
        ("ex2.approx.ftz", f64::exp2, 2.4e-7),
    ];
    let rows: Vec<[u64; 3]> = (1..200).map(|i| [u64::from((i as f32 * 0.0157).to_bits()), 0, 0]).collect();
    for (name, oracle, bound) in cases {
        for (row, found) in rows.iter().zip(eval(&format!("{name}.f32 %d, %a;"), "f32", &["f32"], &rows)) {
            let exact = oracle(f64::from(f(row[0])));
            let error = (f64::from(f(found)) - exact).abs() / exact.abs().max(0.1);
            assert!(error <= bound, "{name} of {}: {} is off by {error}", f(row[0]), f(found));
        }
    }
    let rows = [[1f32, 3.0], [-7.0, 0.3], [1e30, 1e38], [1.0, 2e38], [f32::INFINITY, 2e38]]
        .map(|[a, b]| [u64::from(a.to_bits()), u64::from(b.to_bits()), 0]);
    let found: Vec<f32> =
        eval("div.approx.f32 %d, %a, %b;", "f32", &["f32", "f32"], &rows).into_iter().map(f).collect();
    assert!((found[0] - 1.0 / 3.0).abs() < 1e-7 && (found[1] + 7.0 / 0.3).abs() < 1e-5);
    assert!(found[3] == 0.0 && found[4].is_nan(), "large divisors: {found:?}");
}

#[test]
fn comparisons() {
    let ordered: [(&str, fn(f32, f32) -> bool); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (name, holds) in ordered {
        let unordered = |v: [u64; 3]| f(v[0]).is_nan() || f(v[1]).is_nan();
        let two = &["f32", "f32"];
        check(&format!("setp.{name}.f32 %d, %a, %b;"), "pred", two, &singles(), |v| u64::from(holds(f(v[0]), f(v[1]))));
        check(&format!("setp.{name}u.f32 %d, %a, %b;"), "pred", two, &singles(), |v| {
            u64::from(unordered(v) || holds(f(v[0]), f(v[1])))
        });
        check(&format!("setp.{name}.f64 %d, %a, %b;"), "pred", &["f64", "f64"], &doubles(), |v| {
            let (a, b) = (f64::from_bits(v[0]), f64::from_bits(v[1]));
            u64::from(holds(1.0, 1.0) && a == b || holds(1.0, 2.0) && a < b || holds(2.0, 1.0) && a > b)
        });
        check(&format!("setp.{name}.ftz.f32 %d, %a, %b;"), "pred", two, &singles(), |v| {
            let flush = |x: f32| if x.is_subnormal() { 0.0 } else { x };
            u64::from(holds(flush(f(v[0])), flush(f(v[1]))))
        });
    }
    check("setp.num.f32 %d, %a, %b;", "pred", &["f32", "f32"], &singles(), |v| {
        u64::from(!f(v[0]).is_nan() && !f(v[1]).is_nan())
    });
    check("testp.subnormal.f32 %d, %a;", "pred", &["f32"], &singles(), |v| u64::from(f(v[0]).is_subnormal()));
    check("testp.notanumber.f32 %d, %a;", "pred", &["f32"], &singles(), |v| u64::from(f(v[0]).is_nan()));
    check("set.gt.f32.f32 %d, %a, %b;", "f32", &["f32", "f32"], &singles(), |v| {
        bits(f32::from(u8::from(f(v[0]) > f(v[1]))))
    });
}
