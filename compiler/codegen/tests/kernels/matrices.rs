//! Contractions of 8-bit integers by matrices in registers: every pair of signs, every tail of rows, columns and terms,
//! batches, windows, strides, and where they are not used.

use xlac_codegen::plan::Plan;
use xlac_ir::backend::Target;
use xlac_ir::graph::Program;

use crate::harness::{Graph, Outcome, SIGNS, byte_products, compare, extreme, inputs, target};

/// A processor with tile registers.
fn amx() -> Target {
    let features = ["amx-int8", "amx-tile", "avx512vnni"].map(String::from).to_vec();
    Target { name: "testamx".into(), cpu: "sapphirerapids".into(), features, ..target(64, true) }
}

fn read(text: &str) -> Program {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    xlac_ir::verify::verify(&program).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    program
}

fn kernels(plan: &Plan) -> String {
    plan.kernels.iter().map(xlac_ir::kernel::text::print).collect()
}

fn compiled(program: &Program, target: &Target) -> String {
    kernels(&xlac_codegen::compile(program, target, &Default::default()).expect("it compiles"))
}

/// Compares with the interpreter; insists on matrices, or that there are none.
fn check_sizes(text: &str, matrices: bool, sizes: &[(&str, i64)]) {
    let program = read(text);
    let given = inputs(&program, sizes, 7).into_iter().map(extreme).collect::<Vec<_>>();
    for exact in [true, false] {
        let outcome = compare(&program, &given, &amx(), exact);
        assert!(matches!(outcome, Outcome::Same), "exact = {exact}, {sizes:?}: {outcome:?}\n{text}");
    }
    let found = compiled(&program, &amx()).contains("matrix_dot4");
    assert_eq!(found, matrices, "{text}");
}

fn check(text: &str, matrices: bool) {
    check_sizes(text, matrices, &[("N", 3), ("M", 2)])
}

/// A product of `m` rows, `k` terms and `n` columns.
fn product((a, b): (&str, &str), m: &str, k: i64, n: i64) -> String {
    let mut g = Graph::new();
    g.input("x", &format!("{a}[{m}, {k}]"));
    g.weight("w", &format!("{b}[{k}, {n}]"));
    g.line(&format!("%y = matmul %x, %w {{trans_a = false, trans_b = false, out = i32}} : i32[{m}, {n}]"));
    g.finish("%y")
}

#[test]
fn every_number_of_terms() {
    for signs in SIGNS {
        for k in [17, 32, 50, 61, 63, 64, 65, 66, 67, 68, 96, 127, 128, 129, 160, 192] {
            check(&product(signs, "19", k, 18), true);
        }
    }
}

#[test]
fn every_number_of_rows() {
    for (i, m) in (4..=34).chain([47, 48, 49, 63, 64, 65, 80, 81]).enumerate() {
        check(&product(SIGNS[i % 4], &m.to_string(), 72, 33), true);
    }
}

#[test]
fn every_number_of_columns() {
    for (i, n) in (11..=20).chain([31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 96, 130]).enumerate() {
        check(&product(SIGNS[i % 4], "15", 68, n), true);
        check(&product(SIGNS[(i + 1) % 4], "33", 64, n), true);
    }
}

/// Rows that are counted when the model runs: blocks of two heights, and few of them without matrices.
#[test]
fn rows_of_unknown_number() {
    for signs in SIGNS {
        for n in [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65] {
            check_sizes(&product(signs, "N", 70, 40), true, &[("N", n)]);
        }
    }
}

#[test]
fn batches_and_strides() {
    for shapes in [
        ("35, 90", "65, 90", true, "35, 65"),
        ("3, 1, 9, 66", "2, 66, 18", false, "3, 2, 9, 18"),
        ("2, 3, 4, 64", "64, 20", false, "2, 3, 4, 20"),
        ("M, 18, 71", "M, 71, 19", false, "M, 18, 19"),
        ("2, 17, 128", "M, 1, 128, 33", false, "M, 2, 17, 33"),
    ] {
        byte_products(shapes).iter().for_each(|text| check(text, true));
    }
}

/// Rows that are a part of longer ones, and in reverse order.
#[test]
fn rows_of_a_slice() {
    for (starts, steps, m, k) in [("0, 3", "1, 1", 40, 70), ("39, 0", "-1, 1", 40, 100), ("1, 36", "2, 1", 20, 64)] {
        let mut g = Graph::new();
        g.input("x", "u8[40, 100]");
        g.weight("w", &format!("i8[{k}, 24]"));
        g.line(&format!("%s = slice %x {{starts = [{starts}], steps = [{steps}], sizes = [{m}, {k}]}} : u8[{m}, {k}]"));
        g.line(&format!("%y = matmul %s, %w {{trans_a = false, trans_b = false, out = i32}} : i32[{m}, 24]"));
        check(&g.finish("%y"), true);
    }
}

#[test]
fn convolutions() {
    for (x, w, attrs, y) in [
        (
            "1, 64, 5, 8",
            "20, 64, 1, 1",
            "strides = [1, 1], before = [0, 1], after = [0, 0], dilations = [1, 1], groups = 1",
            "1, 20, 5, 9",
        ),
        (
            "1, 8, 7, 7",
            "20, 8, 3, 3",
            "strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1",
            "1, 20, 7, 7",
        ),
        (
            "2, 32, 6, 20",
            "33, 32, 3, 3",
            "strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1",
            "2, 33, 6, 20",
        ),
        (
            "1, 24, 9, 40",
            "18, 24, 3, 3",
            "strides = [2, 2], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1",
            "1, 18, 5, 20",
        ),
        (
            "1, 70, 8, 9",
            "17, 70, 2, 3",
            "strides = [1, 1], before = [0, 1], after = [0, 1], dilations = [2, 1], groups = 1",
            "1, 17, 6, 9",
        ),
        (
            "1, 64, 6, 8",
            "40, 32, 3, 3",
            "strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 2",
            "1, 40, 6, 8",
        ),
        (
            "N, 64, 4, 4",
            "16, 64, 1, 1",
            "strides = [1, 1], before = [0, 0], after = [0, 1], dilations = [1, 1], groups = 1",
            "N, 16, 4, 5",
        ),
    ] {
        for (a, b) in SIGNS {
            let mut g = Graph::new();
            g.input("x", &format!("{a}[{x}]"));
            g.weight("w", &format!("{b}[{w}]"));
            g.line(&format!("%y = conv %x, %w {{{attrs}, out = i32}} : i32[{y}]"));
            check(&g.finish("%y"), true);
        }
    }
}

/// What follows a sum is computed on rows from scratch memory, elements past the last column left alone.
#[test]
fn epilogues() {
    for n in [32, 37] {
        let mut g = Graph::new();
        g.input("x", "u8[20, 100]");
        g.input("r", &format!("f32[20, {n}]"));
        g.weight("w", &format!("i8[100, {n}]"));
        g.weight("s", &format!("f32[{n}]"));
        g.line(&format!("%m = matmul %x, %w {{trans_a = false, trans_b = false, out = i32}} : i32[20, {n}]"));
        g.line(&format!("%f = cast %m {{to = f32}} : f32[20, {n}]"));
        g.line(&format!("%b = broadcast %s {{shape = [20, {n}]}} : f32[20, {n}]"));
        g.line(&format!("%p = mul %f, %b : f32[20, {n}]"));
        g.line(&format!("%y = add %p, %r : f32[20, {n}]"));
        check(&g.finish("%y"), true);
    }
}

/// Single rows, few terms and narrow results are faster without; so is what has no sums of four terms a step.
#[test]
fn small_products_stay_on_vectors() {
    for (m, k, n) in [("1", 768, 768), ("1", 64, 64), ("3", 8, 8), ("2", 4, 100)] {
        check(&product(SIGNS[0], m, k, n), false);
    }
    let program = read(&product(SIGNS[0], "64", 256, 64));
    assert!(compiled(&program, &amx()).contains("matrix_dot4"));
    for features in [&["avx512vnni"][..], &["amx-tile", "avx512vnni"], &["amx-bf16", "amx-tile", "avx512vnni"]] {
        let without = Target { features: features.iter().map(|f| f.to_string()).collect(), ..amx() };
        let text = compiled(&program, &without);
        assert!(!text.contains("matrix") && text.contains("dot4"), "{features:?}");
    }
}

/// At most eight matrices are alive at once, all of which fit in registers: sums, rows and one of the panel at a time.
#[test]
fn matrices_fit_in_registers() {
    for (m, k, n) in [("64", 256, 64), ("13", 256, 200), ("N", 100, 128), ("40", 300, 48)] {
        let text = compiled(&read(&product(SIGNS[0], m, k, n)), &amx());
        for block in text.split("for ").filter(|b| b.contains("matrix_dot4")) {
            let carried = block.lines().next().map_or(0, |l| l.matches(": i32x").count());
            assert!(carried <= 4, "{carried} sums\n{block}");
        }
        let shapes: std::collections::HashSet<&str> = text
            .lines()
            .filter(|l| l.contains("matrix_"))
            .filter_map(|l| l.rsplit_once("rows ").map(|r| r.1))
            .collect();
        assert!(shapes.len() <= 4, "{shapes:?}");
    }
}
