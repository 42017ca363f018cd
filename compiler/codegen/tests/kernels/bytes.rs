//! Contractions of 8-bit integers, which take four terms a step: every pair of signs, lengths around a step, tails of rows and
//! columns, batches, windows, on machines with and without instructions for them.

use xlac_ir::backend::Target;
use xlac_ir::tensor::Tensor;

use crate::harness::{Graph, Outcome, SIGNS, SIZES, byte_products, compare, extreme, inputs, target, targets};

/// Machines that differ in what they have for sums of 8-bit products.
fn machines() -> Vec<Target> {
    let with = |features: &[&str], arch: &str, bytes| {
        let features = features.iter().map(|f| f.to_string()).collect();
        Target { features, arch: arch.into(), ..target(bytes, bytes == 64) }
    };
    let mut all = targets();
    all.push(with(&["avx512vnni"], "x86_64", 64));
    all.push(with(&["avxvnni"], "x86_64", 32));
    all.push(with(&["dotprod"], "aarch64", 16));
    all.push(with(&["dotprod", "i8mm"], "aarch64", 16));
    all
}

/// Compares on all machines; insists that all of them but GPUs take four terms a step if `quads`.
fn check(text: &str, quads: bool) {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    xlac_ir::verify::verify(&program).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    for (seed, target) in (1..).zip(machines()) {
        let given: Vec<Tensor> = inputs(&program, SIZES, seed).into_iter().map(extreme).collect();
        for exact in [true, false] {
            let outcome = compare(&program, &given, &target, exact);
            assert!(matches!(outcome, Outcome::Same), "exact = {exact}: {outcome:?}\n{text}");
        }
        let plan = xlac_codegen::compile(&program, &target, &Default::default()).expect("it compiled before");
        let found = plan.kernels.iter().any(|k| xlac_ir::kernel::text::print(k).contains("dot4"));
        assert_eq!(found, quads && !target.is_gpu(), "{}\n{text}", target.name);
    }
}

#[test]
fn products_of_every_length() {
    for (a, b) in SIGNS {
        for k in [1, 2, 3, 4, 5, 7, 8, 127, 128] {
            let mut g = Graph::new();
            g.input("x", &format!("{a}[3, {k}]"));
            g.weight("w", &format!("{b}[{k}, 21]"));
            g.line("%y = matmul %x, %w {trans_a = false, trans_b = false, out = i32} : i32[3, 21]");
            check(&g.finish("%y"), true);
        }
    }
}

#[test]
fn products_of_every_shape() {
    for shapes in [
        ("1, 40", "40, 100", false, "1, 100"),
        ("35, 9", "65, 9", true, "35, 65"),
        ("N, 8", "8, 7", false, "N, 7"),
        ("3, 1, 5, 6", "2, 6, 9", false, "3, 2, 5, 9"),
        ("2, 3, 4, 6", "6, 9", false, "2, 3, 4, 9"),
        ("M, 5, 11", "M, 11, 19", false, "M, 5, 19"),
        ("N, 14", "33, 14", true, "N, 33"),
    ] {
        byte_products(shapes).iter().for_each(|text| check(text, true));
    }
}

/// Terms that are not next to each other, or not counted before the model runs, are taken one by one.
#[test]
fn other_products_are_made_as_before() {
    for (x, w, ta, y) in [("9, 5", "9, 7", true, "5, 7"), ("4, N", "N, 7", false, "4, 7")] {
        let mut g = Graph::new();
        g.input("x", &format!("u8[{x}]"));
        g.input("w", &format!("i8[{w}]"));
        g.line(&format!("%y = matmul %x, %w {{trans_a = {ta}, trans_b = false, out = i32}} : i32[{y}]"));
        check(&g.finish("%y"), false);
    }
}

#[test]
fn convolutions() {
    for (x, w, attrs, y) in [
        ("2, 3, 9, 10", "5, 3, 3, 3", "strides = [2, 1], before = [1, 1], after = [0, 2], dilations = [1, 1], groups = 1", "2, 5, 4, 11"),
        ("1, 8, 7, 7", "20, 8, 3, 3", "strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1", "1, 20, 7, 7"),
        ("1, 8, 7, 7", "20, 8, 3, 3", "strides = [1, 1], before = [2, 2], after = [2, 2], dilations = [2, 2], groups = 1", "1, 20, 7, 7"),
        ("1, 12, 6, 5", "6, 6, 1, 2", "strides = [1, 1], before = [0, 0], after = [0, 1], dilations = [1, 1], groups = 2", "1, 6, 6, 5"),
        ("N, 5, 12", "9, 5, 3", "strides = [1], before = [1], after = [1], dilations = [1], groups = 1", "N, 9, 12"),
        ("1, 7, 5, 6", "33, 7, 1, 1", "strides = [1, 1], before = [0, 1], after = [0, 0], dilations = [1, 1], groups = 1", "1, 33, 5, 7"),
    ] {
        for (a, b) in SIGNS {
            let mut g = Graph::new();
            g.input("x", &format!("{a}[{x}]"));
            g.weight("w", &format!("{b}[{w}]"));
            g.line(&format!("%y = conv %x, %w {{{attrs}, out = i32}} : i32[{y}]"));
            check(&g.finish("%y"), !w.contains(", 3, 3, 3"));
        }
    }
}
