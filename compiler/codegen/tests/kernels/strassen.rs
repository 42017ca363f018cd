//! Matrix products by Strassen's algorithm: every form and edge, how near they come to f64, and that rows keep to themselves
//! where they differ.

use xlac_codegen::{Numerics, Options};
use xlac_ir::backend::Target;

use crate::harness::products::{Algorithm, compile, matrix, numbers, parse, plain, product, unlike, with_weights};
use crate::harness::{Graph, target};

/// Processors with vectors of 4, 8 and 16 lanes, with masks and without. None adds beside multiplying: there is a better way then.
fn strassen() -> Algorithm {
    let masked = Target { cpu: "generic".into(), ..target(64, true) };
    Algorithm { name: "strassen", processors: vec![target(16, false), target(32, false), masked, target(64, false)] }
}

fn masked() -> Target { strassen().processors.swap_remove(2) }

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
        let short = strassen().check(&product("f32", shapes, trans_b, activation), &[("N", 3)], None);
        assert_eq!(short.len(), strassen().processors.len(), "{shapes:?}: only {short:?}");
    }
}

#[test]
fn halves_of_terms_that_do_not_fill_vectors_need_masks() {
    let short = strassen().check(&product("f32", ("64, 202", "202, 160", "64, 160"), false, "neg"), &[], None);
    assert_eq!(short, ["test64m"]);
}

#[test]
fn narrow_types_are_computed_in_f32() {
    // One rounding of a result may go the other way.
    for (dtype, step) in [("f16", 2f64.powi(-5)), ("bf16", 2f64.powi(-2))] {
        let short = strassen().check(&product(dtype, ("64, 192", "192, 160", "64, 160"), false, "neg"), &[], Some(step));
        assert_eq!(short.len(), strassen().processors.len(), "{dtype}: only {short:?}");
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
        let short = strassen().check(&g.finish("%y"), &[("N", 2)], None);
        assert_eq!(short.len(), strassen().processors.len(), "{x}: only {short:?}");
    }
}

#[test]
fn exact_numerics_and_other_products_are_direct() {
    let whole = ("64, 192", "192, 160", "64, 160");
    let exact = Options { numerics: Numerics::Exact, ..Options::default() };
    let plan = xlac_codegen::compile(&parse(&product("f32", whole, false, "neg")), &masked(), &exact).expect("it compiles");
    assert!(!strassen().is_in(&plan));
    for text in [
        product("f64", whole, false, "neg"),
        product("f32", ("64, 191", "191, 160", "64, 160"), false, "neg"),
        product("f32", ("64, 192", "192, 159", "64, 159"), false, "neg"),
        product("f32", ("4, 192", "192, 160", "4, 160"), false, "neg"),
        product("f32", ("N, 192", "192, 160", "N, 160"), false, "neg"),
        product("f32", whole, false, "neg").replace("  %w = weight @w : f32[192, 160]\n", "").replace("%x:", "%w: f32[192, 160], %x:"),
    ] {
        assert!(!strassen().is_in(&compile(&parse(&text), &masked())), "{text}");
    }
}

/// The stated bounds: 4 times the error of a plain f32 sum, whose terms are added one by one (the interpreter's), for each row,
/// and 8 times for each column, whatever the sizes of rows, columns and terms are.
#[test]
fn errors_against_f64_are_bounded() {
    unlike(&|case| strassen().errors_are_bounded(case, [4.0, 8.0]));
}

#[test]
fn what_is_not_finite_stays_in_its_row() { strassen().what_is_not_finite_stays_in_its_row(); }

#[test]
fn sums_of_large_operands_do_not_overflow() {
    // Terms 10 and 90 of neighbouring rows are added, if any are.
    let x = matrix(64, 160, 3, true, &|r, t| if (r, t) == (20, 10) || (r, t) == (21, 90) { 3e38 } else { 1.0 });
    let w = matrix(160, 192, 4, false, &|_, _| 1e-3);
    let (exact, _, all) = strassen().run(&x, &w);
    for (target, found) in all {
        for (found, exact) in numbers(&found).iter().zip(numbers(&exact)) {
            assert!((found - exact).abs() <= 1e-5 * exact.abs().max(1.0), "{target}: {found:e} instead of {exact:e}");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_multiplied_directly() {
    let w = matrix(192, 160, 4, false, &|r, c| if (r, c) == (5, 5) { f64::INFINITY } else { 1.0 });
    assert!(!strassen().is_in(&compile(&with_weights(&plain(64, 192, 160, false), &w), &masked())));
}
