//! Integer and bit instructions against Rust integers.

use crate::support::{check, eval, integers};

fn i32s(v: [u64; 3]) -> (i32, i32, i32) {
    (v[0] as i32, v[1] as i32, v[2] as i32)
}

fn u32s(v: [u64; 3]) -> (u32, u32, u32) {
    (v[0] as u32, v[1] as u32, v[2] as u32)
}

type Oracle = fn([u64; 3]) -> u64;

fn binary(ty: &str, cases: &[(&str, Oracle)]) {
    for (name, oracle) in cases {
        check(&format!("{name}.{ty} %d, %a, %b;"), ty, &[ty, ty], &integers(), oracle);
    }
}

#[test]
fn arithmetic_of_32_bits() {
    binary(
        "u32",
        &[
            ("add", |v| u64::from(u32s(v).0.wrapping_add(u32s(v).1))),
            ("sub", |v| u64::from(u32s(v).0.wrapping_sub(u32s(v).1))),
            ("mul.lo", |v| u64::from(u32s(v).0.wrapping_mul(u32s(v).1))),
            ("mul.hi", |v| (u64::from(u32s(v).0) * u64::from(u32s(v).1)) >> 32),
            ("min", |v| u64::from(u32s(v).0.min(u32s(v).1))),
            ("max", |v| u64::from(u32s(v).0.max(u32s(v).1))),
            ("div", |v| u64::from(u32s(v).0.checked_div(u32s(v).1).unwrap_or(u32::MAX))),
            ("rem", |v| u64::from(u32s(v).0.checked_rem(u32s(v).1).unwrap_or(u32::MAX))),
        ],
    );
    binary(
        "s32",
        &[
            ("add.sat", |v| i32s(v).0.saturating_add(i32s(v).1) as u64),
            ("sub.sat", |v| i32s(v).0.saturating_sub(i32s(v).1) as u64),
            ("mul.hi", |v| ((i64::from(i32s(v).0) * i64::from(i32s(v).1)) >> 32) as u64),
            ("min", |v| i32s(v).0.min(i32s(v).1) as u64),
            ("max", |v| i32s(v).0.max(i32s(v).1) as u64),
            ("div", |v| if i32s(v).1 == 0 { u64::MAX } else { i32s(v).0.wrapping_div(i32s(v).1) as u64 }),
            ("rem", |v| if i32s(v).1 == 0 { u64::MAX } else { i32s(v).0.wrapping_rem(i32s(v).1) as u64 }),
        ],
    );
    let s = &["s32"];
    check("abs.s32 %d, %a;", "s32", s, &integers(), |v| i32s(v).0.wrapping_abs() as u64);
    check("neg.s32 %d, %a;", "s32", s, &integers(), |v| i32s(v).0.wrapping_neg() as u64);
    let three = &["s32", "s32", "s32"];
    check("mad.lo.s32 %d, %a, %b, %c;", "s32", three, &integers(), |v| {
        i32s(v).0.wrapping_mul(i32s(v).1).wrapping_add(i32s(v).2) as u64
    });
    check("mad.hi.s32 %d, %a, %b, %c;", "s32", three, &integers(), |v| {
        (((i64::from(i32s(v).0) * i64::from(i32s(v).1)) >> 32) as i32).wrapping_add(i32s(v).2) as u64
    });
    check("sad.s32 %d, %a, %b, %c;", "s32", three, &integers(), |v| {
        i32s(v).0.abs_diff(i32s(v).1).wrapping_add(i32s(v).2 as u32).into()
    });
    check("mul24.lo.u32 %d, %a, %b;", "u32", &["u32", "u32"], &integers(), |v| (v[0] & 0xff_ffff) * (v[1] & 0xff_ffff));
}

#[test]
fn arithmetic_of_16_and_64_bits() {
    binary(
        "u64",
        &[
            ("add", |v| v[0].wrapping_add(v[1])),
            ("sub", |v| v[0].wrapping_sub(v[1])),
            ("mul.lo", |v| v[0].wrapping_mul(v[1])),
            ("mul.hi", |v| ((u128::from(v[0]) * u128::from(v[1])) >> 64) as u64),
            ("min", |v| v[0].min(v[1])),
            ("max", |v| v[0].max(v[1])),
            ("div", |v| v[0].checked_div(v[1]).unwrap_or(u64::MAX)),
            ("rem", |v| v[0].checked_rem(v[1]).unwrap_or(u64::MAX)),
        ],
    );
    binary(
        "s64",
        &[
            ("mul.hi", |v| ((i128::from(v[0] as i64) * i128::from(v[1] as i64)) >> 64) as u64),
            ("min", |v| (v[0] as i64).min(v[1] as i64) as u64),
            ("div", |v| if v[1] == 0 { u64::MAX } else { (v[0] as i64).wrapping_div(v[1] as i64) as u64 }),
            ("rem", |v| if v[1] == 0 { u64::MAX } else { (v[0] as i64).wrapping_rem(v[1] as i64) as u64 }),
        ],
    );
    binary(
        "s16",
        &[
            ("add", |v| v[0].wrapping_add(v[1])),
            ("sub", |v| v[0].wrapping_sub(v[1])),
            ("mul.lo", |v| v[0].wrapping_mul(v[1])),
            ("max", |v| (v[0] as i16).max(v[1] as i16) as u64),
        ],
    );
    let wide: Oracle = |v| (i64::from(v[0] as i32) * i64::from(v[1] as i32)) as u64;
    check("mul.wide.s32 %d, %a, %b;", "s64", &["s32", "s32"], &integers(), wide);
    check("mul.wide.u32 %d, %a, %b;", "u64", &["u32", "u32"], &integers(), |v| {
        (v[0] & 0xffff_ffff) * (v[1] & 0xffff_ffff)
    });
    check("mul.wide.s16 %d, %a, %b;", "s32", &["s16", "s16"], &integers(), |v| {
        (i32::from(v[0] as i16) * i32::from(v[1] as i16)) as u64
    });
    check("mad.wide.s32 %d, %a, %b, %c;", "s64", &["s32", "s32", "s64"], &integers(), |v| {
        ((i64::from(v[0] as i32) * i64::from(v[1] as i32)) as u64).wrapping_add(v[2])
    });
    check("mad.lo.u64 %d, %a, %b, %c;", "u64", &["u64", "u64", "u64"], &integers(), |v| {
        v[0].wrapping_mul(v[1]).wrapping_add(v[2])
    });
}

#[test]
fn logic_and_shifts() {
    binary("b32", &[("and", |v| v[0] & v[1]), ("or", |v| v[0] | v[1]), ("xor", |v| v[0] ^ v[1])]);
    binary("b64", &[("and", |v| v[0] & v[1]), ("or", |v| v[0] | v[1]), ("xor", |v| v[0] ^ v[1])]);
    for ty in ["b16", "b32", "b64"] {
        check(&format!("not.{ty} %d, %a;"), ty, &[ty], &integers(), |v| !v[0]);
    }
    check("cnot.b32 %d, %a;", "b32", &["b32"], &integers(), |v| u64::from(v[0] as u32 == 0));
    let amount = |v: [u64; 3]| v[1] as u32;
    check("shl.b32 %d, %a, %b;", "b32", &["b32", "u32"], &integers(), |v| {
        u64::from((v[0] as u32).checked_shl(amount(v)).unwrap_or(0))
    });
    check("shr.u32 %d, %a, %b;", "u32", &["u32", "u32"], &integers(), |v| {
        u64::from((v[0] as u32).checked_shr(amount(v)).unwrap_or(0))
    });
    check("shr.s32 %d, %a, %b;", "s32", &["s32", "u32"], &integers(), |v| (v[0] as i32 >> amount(v).min(31)) as u64);
    check("shl.b64 %d, %a, %b;", "b64", &["b64", "u32"], &integers(), |v| v[0].checked_shl(amount(v)).unwrap_or(0));
    check("shr.u64 %d, %a, %b;", "u64", &["u64", "u32"], &integers(), |v| v[0].checked_shr(amount(v)).unwrap_or(0));
    check("shr.s64 %d, %a, %b;", "s64", &["s64", "u32"], &integers(), |v| (v[0] as i64 >> amount(v).min(63)) as u64);
    check("shl.b16 %d, %a, %b;", "b16", &["b16", "u32"], &integers(), |v| {
        if amount(v) > 15 { 0 } else { v[0] << amount(v) }
    });
    check("shr.s16 %d, %a, %b;", "s16", &["s16", "u32"], &integers(), |v| (v[0] as i16 >> amount(v).min(15)) as u64);
    check("shf.l.wrap.b32 %d, %a, %b, %c;", "b32", &["b32", "b32", "u32"], &integers(), |v| {
        ((v[1] & 0xffff_ffff) << 32 | v[0] & 0xffff_ffff) << (v[2] & 31) >> 32
    });
    check("shf.r.clamp.b32 %d, %a, %b, %c;", "b32", &["b32", "b32", "u32"], &integers(), |v| {
        ((v[1] & 0xffff_ffff) << 32 | v[0] & 0xffff_ffff) >> (v[2] as u32).min(32)
    });
}

#[test]
fn bit_fields_and_counts() {
    check("popc.b32 %d, %a;", "u32", &["b32"], &integers(), |v| u64::from((v[0] as u32).count_ones()));
    check("popc.b64 %d, %a;", "u32", &["b64"], &integers(), |v| u64::from(v[0].count_ones()));
    check("clz.b32 %d, %a;", "u32", &["b32"], &integers(), |v| u64::from((v[0] as u32).leading_zeros()));
    check("clz.b64 %d, %a;", "u32", &["b64"], &integers(), |v| u64::from(v[0].leading_zeros()));
    check("brev.b32 %d, %a;", "b32", &["b32"], &integers(), |v| u64::from((v[0] as u32).reverse_bits()));
    check("brev.b64 %d, %a;", "b64", &["b64"], &integers(), |v| v[0].reverse_bits());
    let top = |x: u32| if x == 0 { u32::MAX } else { 31 - x.leading_zeros() };
    check("bfind.u32 %d, %a;", "u32", &["u32"], &integers(), |v| top(v[0] as u32).into());
    check("bfind.s32 %d, %a;", "u32", &["s32"], &integers(), |v| {
        let x = v[0] as i32;
        top(if x < 0 { !x } else { x } as u32).into()
    });
    check("bfind.shiftamt.u32 %d, %a;", "u32", &["u32"], &integers(), |v| {
        if v[0] as u32 == 0 { u64::MAX } else { u64::from((v[0] as u32).leading_zeros()) }
    });
    for (position, length) in [(0, 8), (4, 12), (28, 8), (31, 1), (16, 0), (0, 32), (40, 3)] {
        let field =
            move |v: [u64; 3]| if position > 31 { 0 } else { (v[0] as u32 >> position) as u64 & ((1 << length) - 1) };
        check(&format!("bfe.u32 %d, %a, {position}, {length};"), "u32", &["u32"], &integers(), field);
        let signed = move |v: [u64; 3]| {
            // The sign is the last bit of the field, or bit 31 if the field ends above.
            if length == 0 {
                return 0;
            }
            let wide = i64::from(v[0] as i32) >> position.min(31);
            let kept = if position > 31 { wide } else { wide << (64 - length) >> (64 - length) };
            kept as u64
        };
        check(&format!("bfe.s32 %d, %a, {position}, {length};"), "s32", &["s32"], &integers(), signed);
        let code = format!(
            "mov.u32 %r8, {position}; mov.u32 %r9, {length}; bfi.b32 %r10, %a, %b, {position}, {length};
             setp.ne.u32 %q1, %r10, 0x12345; @%q1 bfi.b32 %d, %a, %b, %r8, %r9; @!%q1 mov.b32 %d, %r10;"
        );
        check(&code, "b32", &["b32", "b32"], &integers(), move |v| {
            let mask = if position > 31 { 0 } else { ((1u64 << length) - 1) << position };
            v[1] & !mask | if position > 31 { 0 } else { v[0] << position } & mask
        });
    }
}

#[test]
fn permutations_and_tables() {
    let rows: Vec<[u64; 3]> =
        [0x3210, 0x7654, 0x0123, 0x5140, 0x8888, 0xf0e1, 0x2222].map(|s| [0x8412_f37f, 0x0180_ff40, s]).to_vec();
    let found = eval("prmt.b32 %d, %a, %b, %c;", "b32", &["b32", "b32", "b32"], &rows);
    for (row, found) in rows.iter().zip(found) {
        let bytes = (row[0] | row[1] << 32).to_le_bytes();
        let pick = |i: u32| {
            let nibble = row[2] >> (4 * i) & 15;
            let byte = bytes[nibble as usize & 7];
            if nibble > 7 { if byte & 0x80 != 0 { 0xff } else { 0 } } else { byte }
        };
        assert_eq!(found as u32, u32::from_le_bytes([pick(0), pick(1), pick(2), pick(3)]), "{row:x?}");
    }
    let tables: [(u8, Oracle); 4] = [
        (0xf0 & 0xcc & 0xaa, |v| v[0] & v[1] & v[2]),
        (0xf0 ^ 0xcc ^ 0xaa, |v| v[0] ^ v[1] ^ v[2]),
        ((0xf0 & 0xcc) | (0xf0 & 0xaa), |v| (v[0] & v[1]) | (v[0] & v[2])),
        (0x1a, |v| (v[0] & !v[2] & !v[1]) | (!v[0] & v[2])),
    ];
    for (table, oracle) in tables {
        let code = format!("lop3.b32 %d, %a, %b, %c, {table};");
        check(&code, "b32", &["b32", "b32", "b32"], &integers(), |v| {
            if table == 0x1a { lop3_slow(0x1a, v) } else { oracle(v) }
        });
    }
    check("dp4a.s32.u32 %d, %a, %b, %c;", "s32", &["b32", "b32", "s32"], &integers(), |v| {
        let term = |i: u32| i32::from((v[0] >> (8 * i)) as i8) * i32::from((v[1] >> (8 * i)) as u8);
        (0..4).map(term).sum::<i32>().wrapping_add(v[2] as i32) as u64
    });
}

/// `lop3` bit by bit.
fn lop3_slow(table: u8, v: [u64; 3]) -> u64 {
    let bit = |i: u32| (v[0] >> i & 1) << 2 | (v[1] >> i & 1) << 1 | v[2] >> i & 1;
    (0..32).fold(0, |r, i| r | u64::from(table >> bit(i) & 1) << i)
}

#[test]
fn comparisons_and_selections() {
    let comparisons: [(&str, fn(i64, i64) -> bool); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (name, holds) in comparisons {
        for (ty, number) in [
            ("s32", (|x| i64::from(x as i32)) as fn(u64) -> i64),
            ("u32", |x| i64::from(x as u32)),
            ("s64", |x| x as i64),
            ("u64", |x| (x as i64) ^ i64::MIN),
            ("s16", |x| i64::from(x as i16)),
            ("u16", |x| i64::from(x as u16)),
        ] {
            let oracle = |v: [u64; 3]| u64::from(holds(number(v[0]), number(v[1])));
            check(&format!("setp.{name}.{ty} %d, %a, %b;"), "pred", &[ty, ty], &integers(), oracle);
        }
    }
    let rows: Vec<[u64; 3]> = (0..8).map(|i| [i & 1, i >> 1 & 1, i >> 2]).collect();
    let code = "setp.eq.and.u32 %q1|%q2, %a, %b, !%c; and.pred %d, %q1, %q1; @%q2 mov.pred %d, %q2;";
    for (row, found) in rows.iter().zip(eval(code, "pred", &["u32", "u32", "pred"], &rows)) {
        // Either the comparison or its complement holds, so that only the predicate matters.
        assert_eq!(found, u64::from(row[2] == 0), "{row:?}");
    }
    check("selp.b64 %d, %a, %b, %c;", "b64", &["b64", "b64", "pred"], &integers(), |v| {
        if v[2] as u32 != 0 { v[0] } else { v[1] }
    });
    check("selp.u32 %d, %a, 77, %c;", "u32", &["u32", "u32", "pred"], &integers(), |v| {
        if v[2] as u32 != 0 { v[0] } else { 77 }
    });
    check("slct.u32.s32 %d, %a, %b, %c;", "u32", &["u32", "u32", "s32"], &integers(), |v| {
        if v[2] as i32 >= 0 { v[0] } else { v[1] }
    });
    check("set.lt.u32.s32 %d, %a, %b;", "u32", &["s32", "s32"], &integers(), |v| {
        if i32s(v).0 < i32s(v).1 { u64::MAX } else { 0 }
    });
    check("xor.pred %d, %a, %b;", "pred", &["pred", "pred"], &integers(), |v| {
        u64::from((v[0] as u32 != 0) ^ (v[1] as u32 != 0))
    });
    check("not.pred %d, %a;", "pred", &["pred"], &integers(), |v| u64::from(v[0] as u32 == 0));
}

#[test]
fn moves_pack_and_unpack() {
    check("mov.b64 %d, {%a, %b};", "b64", &["b32", "b32"], &integers(), |v| v[0] & 0xffff_ffff | v[1] << 32);
    check("mov.b32 %d, {%a, %b};", "b32", &["b16", "b16"], &integers(), |v| v[0] & 0xffff | (v[1] & 0xffff) << 16);
    check("mov.b64 {%r8, %d}, %a;", "b32", &["b64"], &integers(), |v| v[0] >> 32);
    check("mov.b32 {%d, %h1}, %a;", "b16", &["b32"], &integers(), |v| v[0]);
    check("mov.b64 {%h1, %h2, %h3, %d}, %a;", "b16", &["b64"], &integers(), |v| v[0] >> 48);
    check("mov.b64 %d, {%a, %a, %b, %b};", "b64", &["b16", "b16"], &integers(), |v| {
        let (a, b) = (v[0] & 0xffff, v[1] & 0xffff);
        a | a << 16 | b << 32 | b << 48
    });
}
