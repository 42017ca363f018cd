//! One kernel for each invariant, each breaking that one.

use super::*;
use crate::kernel::text::parse;

/// Two parameters, a dim, scratch, and a body in the text form.
fn kernel(body: &str) -> Kernel {
    let header = "kernel @k(%r: f32 read, %w: f32 write, %b: i64 readwrite) dims(N) scratch(%s: f32[N])";
    let start = "%i = tile : i64 %x = const 1.0 : f32 %v = const 1.0 : f32x4 %c = const true : bool";
    parse(&format!("{header} {{ {start} {body} }}")).unwrap()
}

/// The rules a kernel breaks.
fn broken(kernel: &Kernel) -> Vec<&'static str> {
    verify(kernel).map_or_else(|errors| errors.iter().map(|e| e.rule).collect(), |()| Vec::new())
}

fn check(body: &str, rule: &'static str) {
    assert_eq!(broken(&kernel(body)), [rule], "{body}")
}

/// Breaks a kernel in a way its text cannot express.
fn check_edit(body: &str, edit: impl FnOnce(&mut Kernel), rule: &'static str) {
    let mut k = kernel(body);
    edit(&mut k);
    assert!(broken(&k).contains(&rule), "{:?} instead of {rule}", broken(&k));
}

#[test]
fn well_formed() {
    let body = "
        %n = dim N : i64
        for %j: i64 = %i to %n step 4 carry (%a: f32x4 = %v) {
            %l = load %r[%j] count %n : f32x4
            %m = fma %l, %a, %v : f32x4
            yield %m
        } -> (%sum)
        %p = lt %sum, %v : boolx4
        %q = select %p, %sum, %v : f32x4
        %t = select %c, %sum, %v : f32x4
        store %s[%i], %q : f32x4
        store %w[%i], %t count %n : f32x4
        check %c, code 1";
    assert_eq!(broken(&kernel(body)), [""; 0]);
}

#[test]
fn k1_defined_once() {
    check_edit("%y = tile : i64", |k| k.body.0.push(Stmt::Let(Val(4), Instr::Tile)), "K1");
    check_edit("", |k| k.values.push(I64), "K1");
    check_edit("", |k| k.body.0.push(Stmt::Let(Val(99), Instr::Tile)), "K1");
}

#[test]
fn k2_in_scope() {
    check("if %c { %y = neg %x : f32 } store %w[%i], %y : f32", "K2");
    check("for %j: i64 = %i to %i step 1 { } store %b[%i], %j : i64", "K2");
    check_edit("", |k| k.body.0.push(Stmt::Check { cond: Val(99), code: 1 }), "K2");
}

#[test]
fn k3_references() {
    check_edit("%n = dim N : i64", |k| k.dims.clear(), "K3");
    check_edit("store %w[%i], %x : f32", |k| _ = k.params.drain(1..), "K3");
    check_edit("prefetch %w[%i]", |k| _ = k.params.drain(1..), "K3");
}

#[test]
fn k4_types() {
    check_edit("", |k| k.values[0].lanes = 0, "K4");
    check_edit("", |k| k.values[0].dtype = DType::String, "K4");
    check_edit("", |k| k.params[0].dtype = DType::I4, "K4");
}

#[test]
fn k5_constants() {
    check("%y = const 0x100 : u8", "K5");
    check("%y = const 0x2 : bool", "K5");
    check_edit("", |k| k.values[1].dtype = DType::F64, "K5");
}

#[test]
fn k6_tile_and_dim() {
    check("%y = tile : i32", "K6");
    check("%y = dim N : i64x4", "K6");
}

#[test]
fn k7_arithmetic() {
    check("%y = add %x, %v : f32x4", "K7");
    check("%y = shl %x, %x : f32", "K7");
    check("%y = sqrt %i : i64", "K7");
    check("%y = fma %i, %i, %i : i64", "K7");
    check("%h = convert %x : f16 %y = add %h, %h : f16", "K7");
}

#[test]
fn k19_sums_of_byte_products() {
    let given = "%b = const 2 : u8x16 %z = const 1 : i32x4 %s = const 2 : i8x4";
    for wrong in [
        "%y = dot4 %b, %s, %z : i32x4",
        "%y = dot4 %s, %b, %z : i32x4",
        "%y = dot4 %b, %b, %x : i32x4",
        "%w = const 2 : i16x16 %y = dot4 %w, %b, %z : i32x4",
        "%u = const 2 : u32x4 %y = dot4 %b, %b, %u : u32x4",
    ] {
        check(&format!("{given} {wrong}"), "K19");
    }
}

#[test]
fn k20_matrices() {
    let header = "kernel @k(%p: u8 read, %q: i8 read, %w: i32 readwrite) dims(N)";
    let given = "%i = tile : i64 %n = dim N : i64 %z = matrix_zero rows 3 : i32x15 %v = const 0 : i32x15
        %a = matrix_load %p[%i by %n] rows 3 : u8x24 %b = matrix_load %q[%i by %n] rows 2 : i8x40
        %o = matrix_zero rows 5 : i32x15 %c = lt %i, %n : bool";
    let broken_text = |text: &str| broken(&parse(text).unwrap());
    let broken = |body: &str| broken_text(&format!("{header} {{ {given} {body} }}"));
    let loops = |init: &str, next: &str| format!("for %j: i64 = %i to %n step 1 carry (%s: i32x15 = {init}) {{ yield {next} }} -> (%r)");
    let branches = |a: &str, b: &str| format!("if %c {{ yield {a} }} else {{ yield {b} }} -> (%r: i32x15)");
    let sum = "%y = matrix_dot4 %a, %b, %z rows 3 : i32x15";
    let carried = format!("{} matrix_store %w[%i by %n], %r rows 3 : i32x15", loops("%z", "%s"));
    let given = format!("{} %t = matrix_dot4 %a, %b, %r rows 3 : i32x15", branches("%z", "%z"));
    for good in [sum, &carried, &given] {
        assert_eq!(broken(good), [""; 0], "{good}");
    }
    let (mixed, other) = (loops("%z", "%v"), loops("%z", "%o"));
    let (joined, after) = (branches("%z", "%v"), format!("{} %t = add %r, %v : i32x15", loops("%z", "%s")));
    for wrong in [
        "%y = matrix_dot4 %b, %a, %z rows 3 : i32x15",
        "%y = matrix_dot4 %a, %a, %z rows 3 : i32x15",
        "%y = matrix_dot4 %a, %b, %z rows 5 : i32x15",
        "%y = matrix_dot4 %a, %b, %o rows 3 : i32x15",
        "%y = matrix_dot4 %a, %b, %v rows 3 : i32x15",
        "%y = matrix_dot4 %z, %b, %z rows 3 : i32x15",
        "%y = matrix_zero rows 3 : u32x15",
        "%y = matrix_zero rows 17 : i32x17",
        "%y = matrix_zero rows 0 : i32x17",
        "%y = matrix_zero rows 2 : i32x34",
        "%y = matrix_load %p[%i by %n] rows 2 : u8x12",
        "%y = matrix_load %w[%i by %n] rows 2 : i32x12",
        "%y = add %z, %z : i32x15",
        "store %w[%i], %z : i32x15",
        "matrix_store %w[%i by %n], %v rows 3 : i32x15",
        "matrix_store %w[%i by %n], %z rows 5 : i32x15",
        &mixed,
        &other,
        &joined,
        &after,
    ] {
        let mut rules = broken(wrong);
        rules.dedup();
        assert_eq!(rules, ["K20"], "{wrong}");
    }
    let team = "kernel @k(%w: i32 write) threads(32) { %z = matrix_zero rows 1 : i32x1 }";
    assert_eq!(broken_text(team), ["K20"]);
}

#[test]
fn k8_comparisons() {
    check("%y = lt %x, %v : bool", "K8");
    check("%y = lt %x, %x : f32", "K8");
}

#[test]
fn k9_select() {
    check("%y = select %i, %x, %x : f32", "K9");
    check("%y = select %c, %x, %v : f32", "K9");
    check("%d = splat %c : boolx3 %y = select %d, %v, %v : f32x4", "K9");
}

#[test]
fn k10_conversions() {
    check("%y = convert %v : f64", "K10");
    check("%y = bitcast %x : i64", "K10");
    check("%u = const 2 : u8 %y = bitcast %u : bool", "K10");
}

#[test]
fn k11_lanes() {
    check("%y = splat %v : f32x8", "K11");
    check("%y = iota %x : f32x4", "K11");
    check("%y = extract %v[4] : f32", "K11");
    check("%y = slice %v[2] : f32x3", "K11");
    check("%y = concat %v, %v : f32x7", "K11");
    check("%y = permute %v, %v [0, 8] : f32x2", "K11");
    check("%y = permute %v, %v [0, 7] : f32x3", "K11");
    check("%y = permute %v, %x [0, 1] : f32x2", "K11");
}

#[test]
fn k12_memory() {
    check("%y = load %r[%x] : f32", "K12");
    check("%y = load %r[%i by %x] : f32", "K12");
    check("%y = load %r[%i] count %x : f32", "K12");
    check("%y = load %r[%i] : i32", "K12");
    check("%y = gather %r[%i] : f32x4", "K12");
    check("store %w[%i], %i : i64", "K12");
    check("prefetch %w[%x]", "K12");
}

#[test]
fn k13_access() {
    check("%y = load %w[%i] : f32", "K13");
    check("store %r[%i], %x : f32", "K13");
}

#[test]
fn k14_loops() {
    check("for %j: i64 = %i to %i step 0 { }", "K14");
    check("for %j: i64 = %i to %x step 1 { }", "K14");
    check("for %j: i32 = %i to %i step 1 { }", "K14");
    check("for %j: i64 = %i to %i step 1 unroll 0 { }", "K14");
    check("for %j: i64 = %i to %i step 1 carry (%a: f32 = %v) { yield %a } -> (%z)", "K14");
}

#[test]
fn k15_branches() {
    check("if %i { }", "K15");
    check("if %c { yield %x } else { yield %v } -> (%z: f32)", "K15");
}

#[test]
fn k16_checks() {
    check("check %i, code 1", "K16");
    check("check %c, code 0", "K16");
}

#[test]
fn k17_names() {
    check_edit("", |k| k.name = "a-b".into(), "K17");
    check_edit("", |k| k.params[0].name = "w".into(), "K17");
    check_edit("", |k| k.params[0].name = "12".into(), "K17");
    check_edit("", |k| k.dims.push("N".into()), "K17");
}
