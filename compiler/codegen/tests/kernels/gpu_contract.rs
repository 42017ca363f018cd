//! Contractions for GPUs: every tile, every way operands lie in memory, every edge.

use crate::harness::{Graph, Outcome, SIZES, compare, graph_of, inputs};
use xlac_ir::backend::{Gpu, Target};

/// A GPU of the family with the least shared memory.
fn gpu() -> Target {
    let gpu = Gpu { multiprocessors: 108, shared_bytes: 99 << 10, thread_registers: 255 };
    Target { name: "gpu".into(), gpu: Some(gpu), ..crate::harness::target(16, true) }
}

/// Compares a program on the GPU's kernels, exact and fast.
fn check(text: &str) {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let inputs = inputs(&program, SIZES, 7);
    for exact in [true, false] {
        let outcome = compare(&program, &inputs, &gpu(), exact);
        assert!(matches!(outcome, Outcome::Same), "exact = {exact}: {outcome:?}\n{text}");
    }
}

/// A product of an input and a weight or a second input.
fn product(dtypes: [&str; 3], x: &str, w: &str, y: &str, attrs: &str, weight: bool) {
    let mut g = Graph::new();
    g.input("x", &format!("{}[{x}]", dtypes[0]));
    let ty = format!("{}[{w}]", dtypes[1]);
    if weight { g.weight("w", &ty) } else { g.input("w", &ty) }
    g.line(&format!("%y = matmul %x, %w {{{attrs}, out = {}}} : {}[{y}]", dtypes[2], dtypes[2]));
    check(&g.finish("%y"));
}

const PLAIN: &str = "trans_a = false, trans_b = false";

#[test]
fn products_of_every_shape() {
    for (x, w, y) in [
        ("130, 33", "33, 70", "130, 70"),
        ("64, 64", "64, 64", "64, 64"),
        ("1, 40", "40, 100", "1, 100"),
        ("40, 16", "16, 1", "40, 1"),
        ("5, 0", "0, 6", "5, 6"),
        ("N, 8", "8, 7", "N, 7"),
        ("2, T, 20", "2, 20, 12", "2, T, 12"),
        ("3, 1, 5, 6", "2, 6, 9", "3, 2, 5, 9"),
        ("2, 3, 4, 6", "6, 9", "2, 3, 4, 9"),
    ] {
        for weight in [true, false] {
            product(["f32"; 3], x, w, y, PLAIN, weight);
        }
    }
}

#[test]
fn transposed_products() {
    for weight in [true, false] {
        product(["f32"; 3], "33, 17", "65, 33", "17, 65", "trans_a = true, trans_b = true", weight);
        product(["f32"; 3], "32, 20", "32, 36", "20, 36", "trans_a = true, trans_b = false", weight);
        product(["f32"; 3], "20, 36", "40, 36", "20, 40", "trans_a = false, trans_b = true", weight);
    }
}

#[test]
fn products_of_every_type() {
    for dtypes in [
        ["f64"; 3],
        ["f16"; 3],
        ["bf16", "bf16", "f32"],
        ["i8", "i8", "i32"],
        ["u8", "i8", "i32"],
        ["i8"; 3],
        ["u16", "u16", "u64"],
        ["i64"; 3],
    ] {
        for weight in [true, false] {
            product(dtypes, "18, 36", "36, 20", "18, 20", PLAIN, weight);
            product(dtypes, "7, 19", "19, 9", "7, 9", PLAIN, weight);
            product(dtypes, "36, 18", "20, 36", "18, 20", "trans_a = true, trans_b = true", weight);
        }
    }
}

/// A convolution with bias and activation.
fn convolution(x: &str, w: &str, attrs: &str, y: &str, dtype: &str) {
    let channels = y.split(", ").nth(1).expect("channels");
    let ones = vec!["1"; y.split(", ").count() - 2].join(", ");
    let mut g = Graph::new();
    g.input("x", &format!("{dtype}[{x}]"));
    g.weight("w", &format!("{dtype}[{w}]"));
    g.weight("b", &format!("{dtype}[{channels}, {ones}]"));
    g.line(&format!("%c = conv %x, %w {{{attrs}, out = {dtype}}} : {dtype}[{y}]"));
    g.line(&format!("%e = broadcast %b {{shape = [{y}]}} : {dtype}[{y}]"));
    g.line(&format!("%d = add %c, %e : {dtype}[{y}]"));
    g.line(&format!("%y = sigmoid %d : {dtype}[{y}]"));
    check(&g.finish("%y"));
}

#[test]
fn convolutions() {
    let attrs = |s: &str, b: &str, a: &str, d: &str, g: usize| {
        format!("strides = [{s}], before = [{b}], after = [{a}], dilations = [{d}], groups = {g}")
    };
    for (x, w, a, y) in [
        ("2, 3, 8, 7", "5, 3, 3, 3", attrs("1, 1", "1, 1", "1, 1", "1, 1", 1), "2, 5, 8, 7"),
        ("1, 16, 9, 9", "20, 16, 3, 3", attrs("2, 2", "0, 1", "1, 0", "1, 1", 1), "1, 20, 4, 4"),
        ("1, 4, 9, 8", "6, 2, 3, 2", attrs("1, 2", "2, 0", "1, 1", "2, 1", 2), "1, 6, 8, 4"),
        ("2, 8, 6, 6", "16, 8, 1, 1", attrs("1, 1", "0, 0", "0, 0", "1, 1", 1), "2, 16, 6, 6"),
        ("N, 8, 6, 6", "16, 8, 1, 1", attrs("2, 2", "0, 0", "0, 0", "1, 1", 1), "N, 16, 3, 3"),
        ("2, 3, 11", "4, 3, 5", attrs("2", "2", "2", "1", 1), "2, 4, 6"),
        ("N, 3, T, T", "5, 3, 3, 3", attrs("1, 1", "1, 1", "1, 1", "1, 1", 1), "N, 5, T, T"),
    ] {
        for dtype in ["f32", "f16"] {
            convolution(x, w, &a, y, dtype);
        }
    }
}

#[test]
fn transposed_convolutions() {
    let attrs = |s: &str, b: &str, a: &str, e: &str, d: &str, g: usize| {
        format!("{{strides = [{s}], before = [{b}], after = [{a}], extra = [{e}], dilations = [{d}], groups = {g}}}")
    };
    for (x, w, a, y) in [
        ("2, 3, 5", "3, 4, 3", attrs("2", "1", "0", "0", "1", 1), "2, 4, 10"),
        ("1, 4, 5, 4", "4, 3, 3, 2", attrs("2, 3", "1, 0", "1, 1", "1, 0", "1, 1", 2), "1, 6, 10, 10"),
        ("1, 2, 3, 3", "2, 2, 1, 1", attrs("3, 3", "0, 0", "0, 0", "2, 2", "1, 1", 1), "1, 2, 9, 9"),
    ] {
        check(&graph_of("conv_transpose", &[format!("f32[{x}]"), format!("f32[{w}]")], &a, &format!("f32[{y}]")));
    }
}
