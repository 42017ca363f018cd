//! Products and convolutions by fast inner products: every form and edge, how near they come to f64, and that rows keep to
//! themselves.

use xlac_codegen::{Numerics, Options};
use xlac_ir::DType;
use xlac_ir::interp;
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;

use crate::harness::products::{Algorithm, compile, errors, matrix, numbers, parse, plain, product, unlike, with_weights};
use crate::harness::{Graph, execute, target};

fn fip() -> Algorithm { Algorithm { name: "fip", processors: vec![target(64, true)] } }

fn check(text: &str, sizes: &[(&str, i64)], tolerance: Option<f64>) {
    assert_eq!(fip().check(text, sizes, tolerance).len(), 1, "not taken\n{text}");
}

#[test]
fn products() {
    for (shapes, trans_b, activation) in [
        (("64, 192", "192, 160", "64, 160"), false, "neg"),
        // Terms that make no whole steps or vectors, and columns that make no whole vectors.
        (("75, 101", "101, 83", "75, 83"), false, "neg"),
        (("48, 97", "97, 80", "48, 80"), false, "neg"),
        (("64, 192", "160, 192", "64, 160"), true, "neg"),
        // What follows is long; chains; a row is left over, and summed alone.
        (("49, 790", "790, 96", "49, 96"), false, "tanh"),
        (("3, 31, 192", "192, 192", "3, 31, 192"), false, "neg"),
        (("N, 40, 192", "192, 192", "N, 40, 192"), false, "tanh"),
    ] {
        check(&product("f32", shapes, trans_b, activation), &[("N", 3)], None);
    }
}

#[test]
fn rows_of_any_number() {
    for rows in [1, 2, 9, 10, 15, 16, 17, 24, 33, 34, 60] {
        // With weights that stay near, few rows have a kernel of their own.
        check(&product("f32", ("N, 192", "192, 160", "N, 160"), false, "neg"), &[("N", rows)], None);
    }
    for rows in [1, 9, 10, 40] {
        check(&product("f32", ("N, 384", "384, 640", "N, 640"), false, "tanh"), &[("N", rows)], None);
    }
}

#[test]
fn narrow_types_are_computed_in_f32() {
    // One rounding of a result may go the other way.
    for (dtype, step) in [("f16", 2f64.powi(-5)), ("bf16", 2f64.powi(-2))] {
        check(&product(dtype, ("64, 192", "192, 160", "64, 160"), false, "neg"), &[], Some(step));
    }
}

#[test]
fn windows() {
    for (x, w, strides, before, after, dilations, y) in [
        ("2, 96, 7, 9", "128, 96, 1, 1", "1, 1", "0, 0", "0, 0", "1, 1", "2, 128, 7, 9"),
        ("N, 96, 15, 15", "128, 96, 1, 1", "2, 2", "0, 0", "0, 0", "1, 1", "N, 128, 8, 8"),
        ("2, 24, 15, 13", "128, 24, 3, 3", "2, 2", "1, 1", "1, 0", "1, 1", "2, 128, 8, 6"),
        ("1, 7, 19, 13", "128, 7, 3, 5", "2, 3", "1, 2", "1, 1", "2, 1", "1, 128, 9, 4"),
    ] {
        let mut g = Graph::new();
        g.input("i", &format!("f32[{x}]"));
        g.weight("w", &format!("f32[{w}]"));
        g.weight("d", "f32[128, 1, 3, 3]");
        g.line(&format!("%x = sigmoid %i : f32[{x}]"));
        let op = format!("strides = [{strides}], before = [{before}], after = [{after}], dilations = [{dilations}], groups = 1, out = f32");
        g.line(&format!("%c = conv %x, %w {{{op}}} : f32[{y}]"));
        g.line(&format!("%a = tanh %c : f32[{y}]"));
        // The result is read by windows that reach out of it, so that its rows do not lie one after the other.
        g.line(&format!("%y = conv %a, %d {{strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 128, out = f32}} : f32[{y}]"));
        check(&g.finish("%y"), &[("N", 2)], None);
    }
}

#[test]
fn exact_numerics_and_other_products_are_direct() {
    let whole = ("64, 192", "192, 160", "64, 160");
    let exact = Options { numerics: Numerics::Exact, ..Options::default() };
    let plan = xlac_codegen::compile(&parse(&product("f32", whole, false, "neg")), &target(64, true), &exact).expect("it compiles");
    assert!(!fip().is_in(&plan));
    for text in [
        product("f64", whole, false, "neg"),
        product("f32", ("4, 192", "192, 160", "4, 160"), false, "neg"),
        product("f32", whole, false, "neg").replace("  %w = weight @w : f32[192, 160]\n", "").replace("%x:", "%w: f32[192, 160], %x:"),
    ] {
        assert!(!fip().is_in(&compile(&parse(&text), &target(64, true))), "{text}");
    }
    for odd in [f64::INFINITY, f64::NAN, 1e38] {
        let w = matrix(192, 160, 4, false, &|r, c| if (r, c) == (5, 5) { odd } else { 1.0 });
        assert!(!fip().is_in(&compile(&with_weights(&plain(64, 192, 160, false), &w), &target(64, true))), "{odd}");
    }
}

/// The stated bounds, whatever the sizes of rows, columns and terms are.
#[test]
fn errors_against_f64_are_bounded() {
    unlike(&|case| fip().errors_are_bounded(case, [4.0, 8.0]));
}

/// Where large and positive terms are paired with one sign, what is taken off grows with the number of terms, up to those of a
/// chain. A pattern of six terms meets either sign; only rows made for it follow that of twelve, and have the larger bound.
#[test]
fn errors_are_bounded_where_pairs_have_one_sign() {
    for (period, large, bound) in [(6, &[0, 2][..], 4.0), (12, &[0, 2, 7, 9], 16.0)] {
        let x = matrix(64, 252, 3, true, &|_, t| if large.contains(&(t % period)) { 1.0 } else { 0.1 });
        let w = matrix(252, 192, 4, false, &|_, _| 1.0);
        let (exact, plain, all) = fip().run(&x, &w);
        let plain = errors(&exact, &plain);
        for (found, plain) in errors(&exact, &all[0].1).iter().zip(&plain) {
            for (i, (found, plain)) in found.iter().zip(plain).enumerate() {
                assert!(*found <= bound * plain, "period {period}: {i} has {found:e}, plain {plain:e}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() { fip().what_is_not_finite_stays_in_its_row(); }

/// Infinities and NaN come out as those of a direct sum do.
#[test]
fn what_is_not_finite_comes_out() {
    for odd in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let x = matrix(64, 160, 3, false, &|r, t| if (r, t) == (21, 100) { odd } else { 1.0 });
        let w = matrix(160, 192, 4, false, &|_, _| 1.0);
        let (exact, _, all) = fip().run(&x, &w);
        for (found, exact) in numbers(&all[0].1).iter().zip(numbers(&exact)).skip(21 * 192).take(192) {
            assert!(*found == exact || found.is_nan() && exact.is_nan(), "{odd}: {found} instead of {exact}");
        }
    }
}

#[test]
fn zeros_give_zeros() {
    let x = matrix(64, 160, 3, false, &|r, _| if r % 3 == 0 { 0.0 } else { 1.0 });
    let w = matrix(160, 192, 4, false, &|_, c| if c % 5 == 0 { 0.0 } else { 1.0 });
    let (_, _, all) = fip().run(&x, &w);
    for (i, y) in numbers(&all[0].1).iter().enumerate() {
        assert_eq!(*y == 0.0, i / 192 % 3 == 0 || i % 192 % 5 == 0, "element {i} is {y}");
    }
}

/// Equal rows of whole tiles have equal results, and so have equal columns, whatever lies beside them.
#[test]
fn results_depend_on_their_row_and_column_alone() {
    let x = matrix(64, 160, 3, false, &|_, _| 1.0);
    let w = matrix(160, 192, 4, false, &|_, _| 1.0);
    let [of_x, of_w] = [&x, &w].map(numbers);
    let (rows, cols): (Vec<usize>, Vec<usize>) = ((0..64).map(|r| r * 37 % 61).collect(), (0..192).map(|c| c * 101 % 187).collect());
    let tensor = |shape: [usize; 2], values: Vec<f64>| Tensor::from_consts(DType::F32, shape.to_vec(), values.into_iter().map(|x| Const::f32(x as f32)).collect::<Vec<_>>());
    let moved_x = tensor([64, 160], (0..64 * 160).map(|i| of_x[rows[i / 160] * 160 + i % 160]).collect());
    let moved_w = tensor([160, 192], (0..160 * 192).map(|i| of_w[i / 192 * 192 + cols[i % 192]]).collect());
    let of = |x: &Tensor, w: &Tensor| {
        let program = with_weights(&plain(64, 160, 192, false), w);
        let plan = compile(&program, &target(64, true));
        assert!(fip().is_in(&plan));
        numbers(&execute(&plan, &program, std::slice::from_ref(x), false).expect("it runs")[0])
    };
    let (before, after) = (of(&x, &w), of(&moved_x, &moved_w));
    for (i, y) in after.iter().enumerate() {
        assert_eq!(*y, before[rows[i / 192] * 192 + cols[i % 192]], "element {i}");
    }
}

/// A convolution of 3 by 3 taps by a short algorithm, in f32 or f64.
fn short(wide: bool) -> String {
    let t = if wide { "f64" } else { "f32" };
    let (x, w, y) = ("1, 96, 18, 17", "104, 96, 3, 3", "1, 104, 18, 17");
    let mut g = Graph::new();
    g.input("x", &format!("f32[{x}]"));
    g.weight("w", &format!("f32[{w}]"));
    g.line(&format!("%a = cast %x {{to = {t}}} : {t}[{x}]"));
    g.line(&format!("%b = cast %w {{to = {t}}} : {t}[{w}]"));
    let (a, b) = if wide { ("%a", "%b") } else { ("%x", "%w") };
    let op = format!("strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1, out = {t}");
    g.line(&format!("%y = conv {a}, {b} {{{op}}} : {t}[{y}]"));
    g.finish("%y")
}

/// Results in f64, plainly in f32, and as compiled, for factors of the input and output channels.
fn run_short(of_x: f64, of_channel: &dyn Fn(usize) -> f64, of_col: &dyn Fn(usize) -> f64) -> [Vec<f64>; 3] {
    let shaped = |t: Tensor, shape: &[usize]| Tensor { shape: shape.to_vec(), ..t };
    let x = shaped(matrix(96, 18 * 17, 5, true, &|c, _| of_x / of_channel(c)), &[1, 96, 18, 17]);
    let w = shaped(matrix(104, 96 * 9, 6, false, &|c, t| of_col(c) * of_channel(t / 9)), &[104, 96, 3, 3]);
    let [wide, narrow] = [true, false].map(|wide| with_weights(&short(wide), &w));
    let inputs = std::slice::from_ref(&x);
    let run = |program| interp::run(program, inputs, interp::Options::default()).expect("it runs").swap_remove(0);
    let plan = compile(&narrow, &target(64, true));
    assert!(plan.kernels.iter().any(|k| k.name.contains("winograd4x4_fip")));
    let found = execute(&plan, &narrow, inputs, false).unwrap_or_else(|e| panic!("{e}")).swap_remove(0);
    [run(&wide), run(&narrow), found].map(|t| numbers(&t))
}

/// The stated bound of short convolutions, whatever the sizes of channels are, and for operands whose squares vanish.
#[test]
fn short_convolutions() {
    let (one, wave) = (|_: usize| 1.0, |i: usize| 8f64.powi((i % 5) as i32 - 2));
    let dead = |i: usize| if i % 7 == 0 { 0.0 } else { 1.0 };
    for (name, of_x, of_channel, of_col) in [
        ("alike", 1.0, &one as &dyn Fn(usize) -> f64, &one as &dyn Fn(usize) -> f64),
        ("unlike input channels", 1.0, &wave, &one),
        ("unlike output channels", 1.0, &one, &wave),
        ("dead output channels", 1.0, &one, &dead),
        ("tiny operands", 1e-24, &one, &one),
    ] {
        let [exact, plain, found] = run_short(of_x, of_channel, of_col);
        let error = |of: &[f64], col: usize| {
            let pairs = exact.iter().zip(of).skip(col * 18 * 17).take(18 * 17);
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        for col in 0..104 {
            let (found, plain) = (error(&found, col), error(&plain, col));
            assert!(found <= 4.0 * plain, "{name}, output channel {col}: {found:e}, plain {plain:e}");
        }
    }
}
