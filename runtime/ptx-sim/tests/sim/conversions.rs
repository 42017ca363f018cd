//! Conversions and half precision against tables of all values of a format.

use crate::support::{Numbers, check, eval, integers, singles};

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// The non-negative finite values of a format, in order: their index is their bit pattern.
fn table(mantissa: i32, exponent: i32) -> Vec<f64> {
    let bias = (1 << (exponent - 1)) - 1;
    let count = ((1 << exponent) - 1) << mantissa;
    let value = |bits: i32| {
        let (field, fraction) = (bits >> mantissa, f64::from(bits & ((1 << mantissa) - 1)) / f64::from(1 << mantissa));
        if field == 0 { fraction * 2f64.powi(1 - bias) } else { (1.0 + fraction) * 2f64.powi(field - bias) }
    };
    (0..count).map(value).collect()
}

/// `x` rounded into `table` of a 16-bit format: `n`earest, towards `z`ero, down to `m`inus or up to `p`lus infinity.
fn round(table: &[f64], x: f64, mode: char) -> u64 {
    if x.is_nan() {
        return 0x7fff;
    }
    let sign = u64::from(x.is_sign_negative()) << 15;
    let magnitude = x.abs();
    let above = table.partition_point(|v| *v < magnitude);
    let infinity = table.len();
    let exact = above < infinity && table[above] == magnitude || magnitude.is_infinite();
    let outward = match mode {
        'p' => x > 0.0,
        'm' => x < 0.0,
        'z' => false,
        _ => {
            let upper = if above < infinity { table[above] } else { 2.0 * table[infinity - 1] - table[infinity - 2] };
            let lower = if above == 0 { 0.0 } else { table[above - 1] };
            let middle = (upper + lower) / 2.0;
            magnitude > middle || magnitude == middle && above % 2 == 0
        }
    };
    let index = if exact || outward { above.min(infinity) } else { above - 1 };
    sign | index as u64
}

fn samples() -> Vec<u64> {
    let mut numbers = Numbers(7);
    let mut values = singles();
    values.extend((0..400).map(|_| numbers.next() & 0xffff_ffff));
    values.extend((0..200).map(|_| {
        let scaled = (numbers.next() % 1_000_000) as f32 / 131072.0 * (numbers.next() % 8192) as f32;
        u64::from(scaled.to_bits())
    }));
    // Halfway cases of f16 and bf16.
    values.extend([
        0x3f80_1000,
        0x3f80_3000,
        0x3f80_8000,
        0x3f81_8000,
        0x3300_0000,
        0x3300_0001,
        0x477f_efff,
        0x477f_f000,
    ]);
    values
}

#[test]
fn halves_from_singles() {
    let (f16, bf16) = (table(10, 5), table(7, 8));
    for (name, mode) in [("rn", 'n'), ("rz", 'z')] {
        check(&format!("cvt.{name}.bf16.f32 %d, %a;"), "bf16", &["f32"], &samples(), |v| {
            round(&bf16, f64::from(f(v[0])), mode)
        });
    }
    for (name, mode) in [("rn", 'n'), ("rz", 'z')] {
        check(&format!("cvt.{name}.f16.f32 %d, %a;"), "f16", &["f32"], &samples(), |v| {
            round(&f16, f64::from(f(v[0])), mode)
        });
        let pair =
            |t: &[f64], v: [u64; 3]| round(t, f64::from(f(v[0])), mode) << 16 | round(t, f64::from(f(v[1])), mode);
        let two = &["f32", "f32"];
        check(&format!("cvt.{name}.f16x2.f32 %d, %a, %b;"), "f16x2", two, &singles(), |v| pair(&f16, v));
        check(&format!("cvt.{name}.bf16x2.f32 %d, %a, %b;"), "bf16x2", two, &singles(), |v| pair(&bf16, v));
    }
    check("cvt.rn.f16.f64 %d, %a;", "f16", &["f64"], &[(1.0 + 2f64.powi(-11) + 2f64.powi(-40)).to_bits()], |v| {
        round(&f16, f64::from_bits(v[0]), 'n')
    });
    check("cvt.rn.relu.bf16x2.f32 %d, %a, %b;", "bf16x2", &["f32", "f32"], &singles(), |v| {
        let relu = |x: f32| if x < 0.0 { 0 } else { round(&bf16, f64::from(x), 'n') };
        relu(f(v[0])) << 16 | relu(f(v[1]))
    });
}

#[test]
fn singles_from_halves() {
    let all: Vec<u64> = (0..65536).collect();
    let rows: Vec<[u64; 3]> = all.iter().map(|h| [*h, 0, 0]).collect();
    for (ty, table) in [("f16", table(10, 5)), ("bf16", table(7, 8))] {
        // Before PTX 7.8 a bf16 is widened by moving it into the upper half.
        let code = if ty == "f16" { "cvt.f32.f16 %d, %a;" } else { "mov.b16 %h1, 0; mov.b32 %d, {%h1, %a};" };
        for (half, found) in all.iter().zip(eval(code, if ty == "f16" { "f32" } else { "b32" }, &[ty], &rows)) {
            let index = (half & 0x7fff) as usize;
            let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
            let expected = match index.cmp(&table.len()) {
                std::cmp::Ordering::Less => sign * table[index],
                std::cmp::Ordering::Equal => sign * f64::INFINITY,
                std::cmp::Ordering::Greater => f64::NAN,
            };
            let same = f64::from(f(found)) == expected && f(found).is_sign_negative() == (half >> 15 == 1);
            assert!(same || expected.is_nan() && f(found).is_nan(), "{half:x}: {} not {expected}", f(found));
        }
    }
}

#[test]
fn arithmetic_of_halves() {
    let values: Vec<u64> =
        [0u64, 0x8000, 0x3c00, 0xbc00, 1, 0x8001, 0x3ff, 0x400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00]
            .into_iter()
            .chain([0x3555, 0x4248, 0x1234, 0xb00b, 0x5678, 0x2e66])
            .collect();
    let f16 = table(10, 5);
    let decode = |t: &[f64], h: u64| {
        let (sign, index) = (if h >> 15 == 1 { -1.0 } else { 1.0 }, (h & 0x7fff) as usize);
        if index < t.len() {
            sign * t[index]
        } else if index == t.len() {
            sign * f64::INFINITY
        } else {
            f64::NAN
        }
    };
    let two = &["f16", "f16"];
    let cases: [(&str, fn(f64, f64) -> f64); 3] = [("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b)];
    for (name, op) in cases {
        // Sums and products of two f16 are exact in f64.
        let one = |a: u64, b: u64| round(&f16, op(decode(&f16, a & 0xffff), decode(&f16, b & 0xffff)), 'n');
        check(&format!("{name}.f16 %d, %a, %b;"), "f16", two, &values, |v| one(v[0], v[1]));
        let pairs: Vec<u64> = values.windows(2).map(|w| w[0] << 16 | w[1]).collect();
        check(&format!("{name}.f16x2 %d, %a, %b;"), "f16x2", &["f16x2", "f16x2"], &pairs, |v| {
            one(v[0] >> 16, v[1] >> 16) << 16 | one(v[0], v[1])
        });
    }
    check("fma.rn.f16 %d, %a, %b, %c;", "f16", &["f16", "f16", "f16"], &values, |v| {
        let [a, b, c] = v.map(|h| decode(&f16, h));
        // Exact for these values except far below the last place, where `c` decides.
        let sum = a * b + c;
        let rest = (a * b - (sum - c)) + (c - (sum - (sum - c)));
        let odd = if rest == 0.0 || !sum.is_finite() {
            sum
        } else if rest > 0.0 {
            sum + 1e-12
        } else {
            sum - 1e-12
        };
        round(&f16, odd, 'n')
    });
    let bf16 = table(7, 8);
    check(
        "fma.rn.bf16 %d, %a, %b, %c;",
        "bf16",
        &["bf16", "bf16", "bf16"],
        &[0x3f80, 0x4049, 0xbeef, 0x3dcc, 0x0, 0x7f80],
        |v| {
            let [a, b, c] = v.map(|h| decode(&bf16, h));
            round(&bf16, a * b + c, 'n')
        },
    );
    check("max.f16 %d, %a, %b;", "f16", two, &values, |v| {
        let (a, b) = (decode(&f16, v[0]), decode(&f16, v[1]));
        match (a.is_nan(), b.is_nan()) {
            (true, true) => 0x7fff,
            (true, _) => v[1],
            (_, true) => v[0],
            _ if a == b => v[0] & v[1],
            _ => {
                if a > b {
                    v[0]
                } else {
                    v[1]
                }
            }
        }
    });
    check(
        "min.NaN.bf16x2 %d, %a, %b;",
        "bf16x2",
        &["bf16x2", "bf16x2"],
        &[0x3f80_4000, 0x4000_3f80, 0xbf80_7fc0],
        |v| {
            let one = |a: u64, b: u64| {
                let (x, y) = (decode(&bf16, a & 0xffff), decode(&bf16, b & 0xffff));
                if x.is_nan() || y.is_nan() {
                    0x7fff
                } else if x < y {
                    a & 0xffff
                } else {
                    b & 0xffff
                }
            };
            one(v[0] >> 16, v[1] >> 16) << 16 | one(v[0], v[1])
        },
    );
    check("setp.ltu.f16 %d, %a, %b;", "pred", two, &values, |v| {
        let (a, b) = (decode(&f16, v[0]), decode(&f16, v[1]));
        u64::from(a < b || a.is_nan() || b.is_nan())
    });
}

#[test]
fn tensor_floats() {
    check("cvt.rna.tf32.f32 %d, %a;", "tf32", &["f32"], &samples(), |v| {
        let x = f(v[0]);
        if x.is_nan() {
            return 0x7fff_ffff;
        }
        let magnitude = v[0] & 0x7fff_ffff;
        let rounded = if x.is_infinite() { magnitude } else { (magnitude + 0x1000) & !0x1fff };
        v[0] & 0x8000_0000 | rounded.min(0x7f80_0000)
    });
}

#[test]
fn integers_between_widths() {
    let cases: [(&str, &str, fn(u64) -> u64); 16] = [
        ("u64", "u32", |x| u64::from(x as u32)),
        ("s64", "s32", |x| i64::from(x as i32) as u64),
        ("u64", "s32", |x| i64::from(x as i32) as u64),
        ("s64", "u32", |x| u64::from(x as u32)),
        ("u32", "u64", |x| u64::from(x as u32)),
        ("s32", "s64", |x| u64::from(x as u32)),
        ("u32", "u16", |x| u64::from(x as u16)),
        ("s32", "s16", |x| i64::from(x as i16) as u64),
        ("u16", "u32", |x| u64::from(x as u16)),
        ("s16", "s64", |x| u64::from(x as u16)),
        ("u32", "s8", |x| i64::from(x as i8) as u64),
        ("s32", "u8", |x| u64::from(x as u8)),
        ("u64", "u8", |x| u64::from(x as u8)),
        ("s64", "s16", |x| i64::from(x as i16) as u64),
        ("s32", "s8", |x| i64::from(x as i8) as u64),
        ("u64", "u16", |x| u64::from(x as u16)),
    ];
    for (to, from, oracle) in cases {
        let wide = if from.ends_with('8') { "b32" } else { from };
        check(&format!("cvt.{to}.{from} %d, %a;"), to, &[wide], &integers(), |v| oracle(v[0]));
    }
    check("cvt.sat.s8.s32 %d, %a;", "b32", &["s32"], &integers(), |v| (v[0] as i32).clamp(-128, 127) as u64);
    check("cvt.sat.u8.s32 %d, %a;", "b32", &["s32"], &integers(), |v| (v[0] as i32).clamp(0, 255) as u64);
    check("cvt.sat.s16.s32 %d, %a;", "s16", &["s32"], &integers(), |v| (v[0] as i32).clamp(-32768, 32767) as u64);
    check("cvt.sat.u32.s64 %d, %a;", "u32", &["s64"], &integers(), |v| (v[0] as i64).clamp(0, 0xffff_ffff) as u64);
    check("cvt.pack.sat.s8.s32.b32 %d, %a, %b, %c;", "b32", &["s32", "s32", "b32"], &integers(), |v| {
        let part = |x: u64| (x as i32).clamp(-128, 127) as u8 as u64;
        part(v[1]) | part(v[0]) << 8 | v[2] << 16
    });
}

#[test]
fn between_integers_and_floats() {
    let two = samples();
    let nearest: [(&str, fn(f32) -> f32); 4] =
        [("rni", f32::round_ties_even), ("rzi", f32::trunc), ("rmi", f32::floor), ("rpi", f32::ceil)];
    for (mode, whole) in nearest {
        check(&format!("cvt.{mode}.s32.f32 %d, %a;"), "s32", &["f32"], &two, |v| whole(f(v[0])) as i32 as u64);
        check(&format!("cvt.{mode}.u32.f32 %d, %a;"), "u32", &["f32"], &two, |v| u64::from(whole(f(v[0])) as u32));
        check(&format!("cvt.{mode}.s8.f32 %d, %a;"), "b32", &["f32"], &two, |v| whole(f(v[0])) as i8 as u64);
        let nan = |x: f32, value: u64| if x.is_nan() { 1 << 63 } else { value };
        check(&format!("cvt.{mode}.s64.f32 %d, %a;"), "s64", &["f32"], &two, |v| {
            nan(f(v[0]), whole(f(v[0])) as i64 as u64)
        });
        check(&format!("cvt.{mode}.u64.f32 %d, %a;"), "u64", &["f32"], &two, |v| nan(f(v[0]), whole(f(v[0])) as u64));
        check(&format!("cvt.{mode}.f32.f32 %d, %a;"), "f32", &["f32"], &two, |v| {
            if f(v[0]).is_nan() { 0x7fff_ffff } else { u64::from(whole(f(v[0])).to_bits()) }
        });
    }
    check(
        "cvt.rzi.s32.f64 %d, %a;",
        "s32",
        &["f64"],
        &[f64::NAN.to_bits(), 1e12f64.to_bits(), (-3.9f64).to_bits()],
        |v| {
            let x = f64::from_bits(v[0]);
            if x.is_nan() { 0x8000_0000 } else { x as i32 as u64 }
        },
    );
    check("cvt.rn.f32.s32 %d, %a;", "f32", &["s32"], &integers(), |v| u64::from((v[0] as i32 as f32).to_bits()));
    check("cvt.rn.f32.u32 %d, %a;", "f32", &["u32"], &integers(), |v| u64::from((v[0] as u32 as f32).to_bits()));
    check("cvt.rn.f32.u64 %d, %a;", "f32", &["u64"], &integers(), |v| u64::from((v[0] as f32).to_bits()));
    check("cvt.rn.f32.s64 %d, %a;", "f32", &["s64"], &integers(), |v| u64::from((v[0] as i64 as f32).to_bits()));
    check("cvt.rn.f64.s64 %d, %a;", "f64", &["s64"], &integers(), |v| (v[0] as i64 as f64).to_bits());
    check("cvt.rn.f64.s32 %d, %a;", "f64", &["s32"], &integers(), |v| f64::from(v[0] as i32).to_bits());
    check("cvt.rn.f32.s8 %d, %a;", "f32", &["b32"], &integers(), |v| u64::from(f32::from(v[0] as i8).to_bits()));
    check("cvt.rn.f32.u8 %d, %a;", "f32", &["b32"], &integers(), |v| u64::from(f32::from(v[0] as u8).to_bits()));
    check("cvt.f64.f32 %d, %a;", "f64", &["f32"], &[0x3f80_0001, 1, 0xff80_0000], |v| f64::from(f(v[0])).to_bits());
    check("cvt.rn.f32.f64 %d, %a;", "f32", &["f64"], &[0.1f64.to_bits(), 1e-46f64.to_bits(), 1e39f64.to_bits()], |v| {
        u64::from((f64::from_bits(v[0]) as f32).to_bits())
    });
    check("cvt.sat.f32.f32 %d, %a;", "f32", &["f32"], &two, |v| {
        let x = f(v[0]);
        u64::from(if x > 0.0 { x.min(1.0) } else { 0.0 }.to_bits())
    });
    // The largest number with 24 bits below 2^32, and its neighbour.
    for (mode, expected) in [("rz", 4294967040f32), ("rm", 4294967040.0), ("rp", 4294967296.0)] {
        let found = eval(&format!("cvt.{mode}.f32.u32 %d, %a;"), "f32", &["u32"], &[[0xffff_ffff, 0, 0]]);
        assert_eq!(f(found[0]), expected, "{mode}");
    }
}
