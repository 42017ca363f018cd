//! Contractions for GPUs: every tile, every way operands lie in memory, every edge.

use xlac_codegen::plan::Plan;
use xlac_codegen::{Numerics, Options};
use xlac_ir::backend::{Gpu, Target};
use xlac_ir::graph::Program;
use xlac_ir::interp;
use xlac_ir::kernel::interp::Buffer;
use xlac_ir::kernel::{Const, Kernel};
use xlac_ir::tensor::Tensor;
use xlac_ir::DType;

use crate::harness::{Graph, SIZES, difference, execute, execute_on, graph_of, inputs};
use crate::sim::Sim;

/// GPUs on which the model chooses large tiles, small tiles, and tiles for little shared memory.
fn gpus() -> Vec<Target> {
    let gpu = |multiprocessors: u32, kilobytes: u32, thread_registers: u32| {
        let gpu = Gpu { multiprocessors, shared_bytes: kilobytes << 10, thread_registers };
        let name = format!("gpu of {multiprocessors} with {kilobytes} KB and {thread_registers} registers");
        Target { name, gpu: Some(gpu), ..crate::harness::target(16, true) }
    };
    vec![gpu(108, 99, 255), gpu(1, 99, 255), gpu(100_000, 99, 255), gpu(1, 40, 120)]
}

/// Compares a program on the kernels for several GPUs, exact and fast, in the kernel interpreter and as PTX.
fn check(text: &str) {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let inputs = inputs(&program, SIZES, 7);
    let expected = interp::run(&program, &inputs, interp::Options::default()).expect("it runs");
    let mut known = Vec::new();
    for target in gpus() {
        for numerics in [Numerics::Exact, Numerics::Fast] {
            let plan = xlac_codegen::compile(&program, &target, &Options { numerics, ..Options::default() }).unwrap_or_else(|e| panic!("{e}\n{text}"));
            if known.contains(&plan.kernels) {
                continue;
            }
            let exact = numerics == Numerics::Exact;
            let found = execute(&plan, &program, &inputs, exact).unwrap_or_else(|e| panic!("{e}\n{text}"));
            agree(&expected, &found, exact, &format!("{:?}\n{text}", plan.kernels.last().map(|k| &k.notes)));
            on_simulator(&program, &inputs, &expected, &plan, &target, exact);
            known.push(plan.kernels);
        }
    }
}

/// Insists on equal results: bit for bit if `exact`, else as far as their types tell them apart.
fn agree(expected: &[Tensor], found: &[Tensor], exact: bool, what: &str) {
    for (a, b) in expected.iter().zip(found) {
        // Sums that differ by little may round to neighbours.
        let (a, b) = match a.dtype {
            DType::F16 | DType::BF16 if !exact => (wide(a, 4e-3), wide(b, 4e-3)),
            _ => (a.clone(), b.clone()),
        };
        if let Some(why) = difference(&a, &b, exact) {
            panic!("exact = {exact}: {why}\n{what}");
        }
    }
}

/// The numbers as f32, scaled so that a tolerance of `1e-4` is one of `step`.
fn wide(t: &Tensor, step: f32) -> Tensor {
    let largest = t.to_f32().into_iter().fold(1.0, |m: f32, x| m.max(x.abs()));
    let scale = 1e-4 / step / largest;
    Tensor::from_consts(DType::F32, t.shape.clone(), t.to_f32().into_iter().map(|x| Const::f32(x * scale)))
}

/// Runs the plan's PTX under adversarial schedules with the search for races.
fn on_simulator(program: &Program, inputs: &[Tensor], expected: &[Tensor], plan: &Plan, target: &Target, exact: bool) {
    let sim = Sim::new(plan, target);
    let seeds = std::env::var("XLAC_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in 0..seeds {
        let engine = |k: &Kernel, buffers: &mut [Buffer], origins: &[usize], dims: &[i64], tiles: i64, _: bool| {
            sim.run(Some(seed), k, buffers, origins, dims, tiles)
        };
        let found = execute_on(&engine, plan, program, inputs, false).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        agree(expected, &found, exact, &format!("seed {seed}"));
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
        ("130, 40", "40, 200", "130, 200"),
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

#[test]
fn products_of_few_rows() {
    for weight in [true, false] {
        for dtypes in [["f32"; 3], ["f16"; 3], ["i8", "i8", "i32"], ["f64"; 3]] {
            product(dtypes, "1, 300", "300, 40", "1, 40", PLAIN, weight);
            product(dtypes, "8, 67", "67, 160", "8, 160", PLAIN, weight);
        }
        product(["f32"; 3], "2, 3, 70", "2, 70, 24", "2, 3, 24", PLAIN, weight);
        product(["f32"; 3], "70, 3", "24, 70", "3, 24", "trans_a = true, trans_b = true", weight);
        product(["f32"; 3], "1, T, 40", "40, 24", "1, T, 24", PLAIN, weight);
    }
}

#[test]
fn long_sums_in_parts() {
    for weight in [true, false] {
        product(["f32"; 3], "20, 600", "600, 18", "20, 18", PLAIN, weight);
        product(["f16"; 3], "20, 520", "520, 18", "20, 18", PLAIN, weight);
        product(["i8", "u8", "i32"], "20, 530", "530, 18", "20, 18", PLAIN, weight);
        product(["f64"; 3], "2, 9, 200", "2, 200, 5", "2, 9, 5", PLAIN, weight);
    }
}

#[test]
fn large_tiles() {
    for dtypes in [["f32"; 3], ["f16"; 3], ["u8", "i8", "i32"]] {
        product(dtypes, "130, 32", "32, 132", "130, 132", PLAIN, true);
    }
    for dtypes in [["f32"; 3], ["f16"; 3]] {
        product(dtypes, "34, 130", "34, 68", "130, 68", "trans_a = true, trans_b = false", false);
    }
}

/// A product of two inputs of f32 by tensor cores.
fn split_product([m, n, k]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut g = Graph::new();
    g.input("x", &format!("f32[{m}, {k}]"));
    g.input("w", &format!("f32[{k}, {n}]"));
    g.line(&format!("%y = matmul %x, %w {{{PLAIN}, out = f32}} : f32[{m}, {n}]"));
    let program = xlac_ir::text::parse(&g.finish("%y")).expect("well-formed");
    let plans = gpus().into_iter().map(|gpu| {
        xlac_codegen::compile(&program, &gpu, &Options { numerics: Numerics::Fast, ..Options::default() }).expect("kernels")
    });
    let split = |plan: &Plan| plan.kernels[0].notes.iter().any(|n| n.starts_with("split"));
    let plan = plans.into_iter().find(split).expect("tensor cores are used somewhere");
    let tensor = |shape: [usize; 2], x: &[f32]| Tensor::from_consts(DType::F32, shape.to_vec(), x.iter().map(|&x| Const::f32(x)));
    let found = execute(&plan, &program, &[tensor([m, k], a), tensor([k, n], b)], false).expect("it runs");
    found[0].to_f32()
}

/// Errors of a product and of a chain of fused multiply-adds, relative to the sums of the terms' sizes, root mean square.
fn errors([m, n, k]: [usize; 3], a: &[f32], b: &[f32], found: &[f32]) -> (f64, f64) {
    let (mut product, mut chain) = (0.0, 0.0);
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|t| (a[i * k + t], b[t * n + j]));
            let right: f64 = terms.clone().map(|(x, y)| f64::from(x) * f64::from(y)).sum();
            let size: f64 = terms.clone().map(|(x, y)| (f64::from(x) * f64::from(y)).abs()).sum();
            let plain = terms.fold(0.0, |sum: f32, (x, y)| x.mul_add(y, sum));
            product += ((f64::from(found[i * n + j]) - right) / size).powi(2);
            chain += ((f64::from(plain) - right) / size).powi(2);
        }
    }
    let count = (m * n) as f64;
    ((product / count).sqrt(), (chain / count).sqrt())
}

#[test]
fn split_products_are_as_accurate_as_a_chain() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 + 0.5) / (1u64 << 24) as f32
    };
    let mut normal = || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    for k in [64, 4096] {
        for (name, data) in [("normal", 0), ("one-signed", 1), ("wide", 2)] {
            let (m, n) = (32, 40);
            let mut numbers = |count: usize| -> Vec<f32> {
                (0..count).map(|_| match data {
                    0 => normal(),
                    1 => normal().abs(),
                    _ => normal() * (6.0 * normal()).exp(),
                }).collect()
            };
            let (a, b) = (numbers(m * k), numbers(k * n));
            let found = split_product([m, n, k], &a, &b);
            let (error, chain) = errors([m, n, k], &a, &b, &found);
            assert!(error <= chain, "{name}, {k} terms: {error:e} instead of {chain:e}");

        }
    }
}

#[test]
fn split_products_keep_infinities_and_nans() {
    let (m, n, k) = (40, 72, 64);
    let special = [
        f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, -f32::MAX, f32::from_bits(0x7f7f_ffff), f32::from_bits(0x7f80_0001), 1e38, -3e38,
        f32::MIN_POSITIVE, 1e-45, -0.0, 1.5,
    ];
    // Every row has one special element, every column another one.
    let mut a: Vec<f32> = (0..m * k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
    let mut b: Vec<f32> = (0..k * n).map(|i| ((i * 53 % 103) as f32 - 51.0) / 13.0).collect();
    (0..m).for_each(|i| a[i * k + (7 * i) % k] = special[i % special.len()]);
    (0..n).filter(|j| j % 3 == 0).for_each(|j| b[(5 * j + 1) % k * n + j] = special[(j / 3) % special.len()]);
    let found = split_product([m, n, k], &a, &b);
    for i in 0..m {
        for j in 0..n {
            let terms = || (0..k).map(|t| (a[i * k + t], b[t * n + j]));
            let chain = terms().fold(0.0, |sum: f32, (x, y)| x.mul_add(y, sum));
            let (x, size) = (found[i * n + j], terms().map(|(x, y)| (x * y).abs()).sum::<f32>());
            let same = x.is_nan() && chain.is_nan() || x == chain || (x - chain).abs() <= 1e-6 * size;
            assert!(same, "{i}, {j}: {x} instead of {chain}");
        }
    }
}

#[test]
fn the_model_chooses_by_size() {
    for (size, dtype, numerics, kernel) in [
        ([8192, 8192, 8192], "f16", Numerics::Fast, "half 128x256 by 64x64"),
        ([8192, 8192, 8192], "f32", Numerics::Fast, "split 128x64"),
        ([8192, 8192, 8192], "f32", Numerics::Exact, "fma 128x128"),
        ([1024, 1024, 1024], "f16", Numerics::Fast, "half 128x128"),
        ([1, 4096, 4096], "f16", Numerics::Fast, "gemv 1"),
        ([64, 32, 96], "f32", Numerics::Fast, "fma"),
        ([49, 512, 4608], "f16", Numerics::Fast, "half 64x128 by 32x32, 16 parts"),
    ] {
        let [m, n, k] = size;
        let mut g = Graph::new();
        g.input("x", &format!("{dtype}[{m}, {k}]"));
        g.input("w", &format!("{dtype}[{k}, {n}]"));
        g.line(&format!("%y = matmul %x, %w {{{PLAIN}, out = {dtype}}} : {dtype}[{m}, {n}]"));
        let program = xlac_ir::text::parse(&g.finish("%y")).expect("well-formed");
        let plan = xlac_codegen::compile(&program, &gpus()[0], &Options { numerics, ..Options::default() }).expect("kernels");
        let notes = &plan.kernels[0].notes;
        assert!(notes.iter().any(|n| n.starts_with(kernel)), "{size:?} of {dtype}, {numerics:?}: {notes:?}");
    }
}
