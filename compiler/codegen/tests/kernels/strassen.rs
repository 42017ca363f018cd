//! Matrix products by Strassen's algorithm: every form and edge, how near they come to f64, and that rows keep to themselves
//! where they differ.

use xlac_codegen::plan::Plan;
use xlac_codegen::{Numerics, Options};
use xlac_ir::DType;
use xlac_ir::backend::Target;
use xlac_ir::graph::Program;
use xlac_ir::interp;
use xlac_ir::kernel::Const;
use xlac_ir::random::Random;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;
use xlac_ir::text;

use crate::harness::{Graph, difference, execute, inputs, target};

/// Processors with vectors of 4, 8 and 16 lanes, with masks and without.
fn processors() -> Vec<Target> { vec![target(16, false), target(32, false), target(64, true), target(64, false)] }

fn compile(program: &Program, target: &Target) -> Plan {
    xlac_codegen::compile(program, target, &Options { numerics: Numerics::Fast, ..Options::default() }).expect("it compiles")
}

fn is_short(plan: &Plan) -> bool { plan.kernels.iter().any(|k| k.name.contains("strassen")) }

fn parse(text: &str) -> Program { text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")) }

/// Compares with the interpreter; the names of the processors that took the algorithm.
fn check(text: &str, sizes: &[(&str, i64)], tolerance: Option<f64>) -> Vec<String> {
    let program = parse(text);
    let inputs = inputs(&program, sizes, 5);
    let expected = interp::run(&program, &inputs, interp::Options::default()).expect("it runs");
    let mut short = Vec::new();
    for target in processors() {
        let plan = compile(&program, &target);
        if !is_short(&plan) {
            continue;
        }
        short.push(target.name.clone());
        for backwards in [false, true] {
            let found = execute(&plan, &program, &inputs, backwards).unwrap_or_else(|e| panic!("{}: {e}", target.name));
            for (expected, found) in expected.iter().zip(&found) {
                let why = difference(expected, found, false);
                let near = |limit: f64| numbers(expected).iter().zip(numbers(found)).all(|(a, b)| (a - b).abs() <= limit);
                assert!(why.is_none() || tolerance.is_some_and(near), "{}: {}\n{text}", target.name, why.unwrap_or_default());
            }
        }
    }
    short
}

/// A product of these shapes with a sum, an activation and a residual behind it.
fn product(t: &str, (x, w, y): (&str, &str, &str), trans_b: bool, activation: &str) -> String {
    let mut g = Graph::new();
    g.input("x", &format!("{t}[{x}]"));
    g.input("r", &format!("{t}[{y}]"));
    g.weight("w", &format!("{t}[{w}]"));
    g.line(&format!("%m = matmul %x, %w {{trans_a = false, trans_b = {trans_b}, out = {t}}} : {t}[{y}]"));
    g.line(&format!("%a = {activation} %m : {t}[{y}]"));
    g.line(&format!("%y = add %a, %r : {t}[{y}]"));
    g.finish("%y")
}

#[test]
fn products() {
    for (shapes, trans_b, activation) in [
        (("64, 192", "192, 160", "64, 160"), false, "neg"),
        // An odd number of rows, halves of columns that do not fill vectors.
        (("75, 192", "192, 252", "75, 252"), false, "neg"),
        (("64, 192", "160, 192", "64, 160"), true, "neg"),
        // What follows is long.
        (("56, 192", "192, 192", "56, 192"), false, "tanh"),
        (("3, 31, 192", "192, 192", "3, 31, 192"), false, "neg"),
        (("N, 40, 192", "192, 192", "N, 40, 192"), false, "tanh"),
    ] {
        let short = check(&product("f32", shapes, trans_b, activation), &[("N", 3)], None);
        assert_eq!(short.len(), processors().len(), "{shapes:?}: only {short:?}");
    }
}

#[test]
fn halves_of_terms_that_do_not_fill_vectors_need_masks() {
    let short = check(&product("f32", ("64, 202", "202, 160", "64, 160"), false, "neg"), &[], None);
    assert_eq!(short, ["test64m"]);
}

#[test]
fn narrow_types_are_computed_in_f32() {
    // One rounding of a result may go the other way.
    for (dtype, step) in [("f16", 2f64.powi(-5)), ("bf16", 2f64.powi(-2))] {
        let short = check(&product(dtype, ("64, 192", "192, 160", "64, 160"), false, "neg"), &[], Some(step));
        assert_eq!(short.len(), processors().len(), "{dtype}: only {short:?}");
    }
}

#[test]
fn convolutions_of_one_tap() {
    let conv = |strides: &str, y: &str| {
        format!("conv %x, %w {{strides = [{strides}], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32}} : f32[{y}]")
    };
    // The result is read by windows that reach out of it, so that its rows do not lie one after the other.
    for (x, strides, y) in [("2, 160, 7, 9", "1, 1", "2, 192, 7, 9"), ("N, 160, 15, 15", "2, 2", "N, 192, 8, 8")] {
        let mut g = Graph::new();
        g.input("i", &format!("f32[{x}]"));
        g.weight("w", "f32[192, 160, 1, 1]");
        g.weight("d", "f32[192, 1, 3, 3]");
        g.line(&format!("%x = sigmoid %i : f32[{x}]"));
        g.line(&format!("%c = {}", conv(strides, y)));
        g.line(&format!("%a = tanh %c : f32[{y}]"));
        g.line(&format!("%y = conv %a, %d {{strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 192, out = f32}} : f32[{y}]"));
        let short = check(&g.finish("%y"), &[("N", 2)], None);
        assert_eq!(short.len(), processors().len(), "{x}: only {short:?}");
    }
}

#[test]
fn exact_numerics_and_other_products_are_direct() {
    let whole = ("64, 192", "192, 160", "64, 160");
    let exact = Options { numerics: Numerics::Exact, ..Options::default() };
    let plan = xlac_codegen::compile(&parse(&product("f32", whole, false, "neg")), &target(64, true), &exact).expect("it compiles");
    assert!(!is_short(&plan));
    for text in [
        product("f64", whole, false, "neg"),
        product("f32", ("64, 191", "191, 160", "64, 160"), false, "neg"),
        product("f32", ("64, 192", "192, 159", "64, 159"), false, "neg"),
        product("f32", ("4, 192", "192, 160", "4, 160"), false, "neg"),
        product("f32", ("N, 192", "192, 160", "N, 160"), false, "neg"),
        product("f32", whole, false, "neg").replace("  %w = weight @w : f32[192, 160]\n", "").replace("%x:", "%w: f32[192, 160], %x:"),
    ] {
        assert!(!is_short(&compile(&parse(&text), &target(64, true))), "{text}");
    }
}

/// A plain product of an operand and weights of these sizes, in f32 or f64.
fn plain(rows: usize, terms: usize, cols: usize, wide: bool) -> String {
    let (x, w, y) = (format!("{rows}, {terms}"), format!("{terms}, {cols}"), format!("{rows}, {cols}"));
    let mut g = Graph::new();
    g.input("x", &format!("f32[{x}]"));
    g.weight("w", &format!("f32[{w}]"));
    let t = if wide { "f64" } else { "f32" };
    g.line(&format!("%a = cast %x {{to = {t}}} : {t}[{x}]"));
    g.line(&format!("%b = cast %w {{to = {t}}} : {t}[{w}]"));
    let (a, b) = if wide { ("%a", "%b") } else { ("%x", "%w") };
    g.line(&format!("%y = matmul {a}, {b} {{trans_a = false, trans_b = false, out = {t}}} : {t}[{y}]"));
    g.finish("%y")
}

/// A matrix of numbers between -1 and 1, or 0 and 1, times a factor for each element.
fn matrix(rows: usize, cols: usize, seed: u64, positive: bool, factor: &dyn Fn(usize, usize) -> f64) -> Tensor {
    let mut random = Random::new(seed);
    let mut number = || random.below(1 << 20) as f64 / f64::from(1 << 20);
    let mut element = |i: usize| {
        let x = number();
        let x = if positive { x } else { 2.0 * x - 1.0 };
        Const::f32((x * factor(i / cols, i % cols)) as f32)
    };
    Tensor::from_consts(DType::F32, vec![rows, cols], (0..rows * cols).map(&mut element).collect::<Vec<_>>())
}

fn numbers(t: &Tensor) -> Vec<f64> { t.iter().map(|c| f64::from_bits(scalar::convert(c, DType::F64).bits)).collect() }

/// Root mean squares of the errors of each row, and of each column.
fn errors(exact: &Tensor, found: &Tensor) -> [Vec<f64>; 2] {
    let [rows, cols] = exact.shape[..] else { panic!("a matrix") };
    let squares: Vec<f64> = numbers(exact).iter().zip(numbers(found)).map(|(a, b)| (a - b).powi(2)).collect();
    let root = |all: Vec<f64>| (all.iter().sum::<f64>() / all.len() as f64).sqrt();
    let row = |r: usize| root(squares[r * cols..][..cols].to_vec());
    let col = |c: usize| root((0..rows).map(|r| squares[r * cols + c]).collect());
    [(0..rows).map(row).collect(), (0..cols).map(col).collect()]
}

/// A product with these operands: in f64, plainly in f32, and by each processor.
fn run_all(x: &Tensor, w: &Tensor) -> (Tensor, Tensor, Vec<(String, Tensor)>) {
    let (rows, terms, cols) = (x.shape[0], x.shape[1], w.shape[1]);
    let program = |wide: bool| {
        let text = plain(rows, terms, cols, wide);
        text::parse_with(&text, &mut |_, _| Some(w.clone())).unwrap_or_else(|e| panic!("{e}\n{text}"))
    };
    let inputs = std::slice::from_ref(x);
    let run = |wide: bool| interp::run(&program(wide), inputs, interp::Options::default()).expect("it runs").swap_remove(0);
    let found = processors().into_iter().map(|target| {
        let plan = compile(&program(false), &target);
        assert!(is_short(&plan), "{}", target.name);
        (target.name, execute(&plan, &program(false), inputs, false).unwrap_or_else(|e| panic!("{e}")).swap_remove(0))
    });
    (run(true), run(false), found.collect())
}

/// The stated bounds: 4 times the error of a plain f32 sum, whose terms are added one by one (the interpreter's), for each row,
/// and 8 times for each column, whatever the sizes of rows, columns and terms are.
#[test]
fn errors_against_f64_are_bounded() {
    // No two that are a half apart, or neighbours, are alike.
    let wave = |i: usize, size: f64| size.powi((i % 7) as i32 - 3);
    let one = |_: usize, _: usize| 1.0;
    let rows = |r: usize, _: usize| wave(r, 10.0);
    let near = |r: usize, _: usize| if r % 2 == 0 { 1.0 } else { 2.6 };
    let cols = |_: usize, c: usize| wave(c, 8.0);
    let terms = |_: usize, t: usize| wave(t, 8.0);
    let inverse = |t: usize, _: usize| 1.0 / wave(t, 8.0);
    let dead = |_: usize, c: usize| if c % 7 == 0 { 1e-30 } else { 1.0 };
    let zeros = |t: usize, c: usize| if c % 7 == 0 || t % 7 == 0 { 0.0 } else { 1.0 };
    let huge = |_: usize, t: usize| if t % 7 == 0 { 1e6 } else { 1.0 };
    type Factor<'a> = &'a dyn Fn(usize, usize) -> f64;
    let tiny = |r: usize, _: usize| if r % 2 == 0 { 1e-24 } else { 1e-27 };
    let cases: [(&str, bool, Factor, Factor); 9] = [
        ("alike", false, &one, &one),
        ("positive", true, &one, &one),
        ("nearly alike rows", false, &near, &one),
        ("unlike rows", false, &rows, &one),
        ("rows whose squares vanish", false, &tiny, &one),
        ("unlike columns", false, &one, &cols),
        ("dead columns", false, &one, &dead),
        ("zeros", false, &huge, &zeros),
        ("terms that even out", false, &terms, &inverse),
    ];
    for (name, positive, of_x, of_w) in cases {
        let (x, w) = (matrix(64, 160, 3, positive, of_x), matrix(160, 192, 4, false, of_w));
        let (exact, plain, all) = run_all(&x, &w);
        let plain = errors(&exact, &plain);
        for (target, found) in all {
            for ((found, plain), (axis, bound)) in errors(&exact, &found).iter().zip(&plain).zip([("row", 4.0), ("column", 8.0)]) {
                for (i, (found, plain)) in found.iter().zip(plain).enumerate() {
                    assert!(*found <= bound * plain, "{name} on {target}: {axis} {i} has {found:e}, plain {plain:e}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    for odd in [f64::INFINITY, f64::NAN, 1e38] {
        let x = matrix(64, 160, 3, false, &|r, t| if (r, t) == (21, 100) { odd } else { 1.0 });
        let w = matrix(160, 192, 4, false, &|_, _| 1.0);
        let (exact, _, all) = run_all(&x, &w);
        let exact = numbers(&exact);
        for (target, found) in all {
            for (i, (found, exact)) in numbers(&found).iter().zip(&exact).enumerate().filter(|(i, _)| i / 192 != 21) {
                assert!((found - exact).abs() < 1e-4, "{odd} on {target}: element {i} is {found} instead of {exact}");
            }
        }
    }
}

#[test]
fn sums_of_large_operands_do_not_overflow() {
    // Terms 10 and 90 of neighbouring rows are added, if any are.
    let x = matrix(64, 160, 3, true, &|r, t| if (r, t) == (20, 10) || (r, t) == (21, 90) { 3e38 } else { 1.0 });
    let w = matrix(160, 192, 4, false, &|_, _| 1e-3);
    let (exact, _, all) = run_all(&x, &w);
    for (target, found) in all {
        for (found, exact) in numbers(&found).iter().zip(numbers(&exact)) {
            assert!((found - exact).abs() <= 1e-5 * exact.abs().max(1.0), "{target}: {found:e} instead of {exact:e}");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_multiplied_directly() {
    let w = matrix(192, 160, 4, false, &|r, c| if (r, c) == (5, 5) { f64::INFINITY } else { 1.0 });
    let program = text::parse_with(&plain(64, 192, 160, false), &mut |_, _| Some(w.clone())).expect("well-formed");
    assert!(!is_short(&compile(&program, &target(64, true))));
}
