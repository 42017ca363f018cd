//! Sizes at which the schedules for teams of threads do all they can: squares, kept and long rows, blocks of segments.

use crate::harness::{Graph, SIZES, check, check_with, one};
use xlac_ir::tensor::Tensor;

/// A softmax over the last axis of `shape`.
fn softmax(dtype: &str, lead: &str, n: &str) -> String {
    let (full, row) = (format!("{dtype}[{lead}, {n}]"), format!("{dtype}[{lead}, 1]"));
    let mut g = Graph::new();
    g.input("x", &full);
    g.line(&format!("%m = reduce %x {{f = max, axes = [1]}} : {row}"));
    g.line(&format!("%mb = broadcast %m {{shape = [{lead}, {n}]}} : {full}"));
    g.line(&format!("%s = sub %x, %mb : {full}"));
    g.line(&format!("%e = exp %s : {full}"));
    g.line(&format!("%t = reduce %e {{f = sum, axes = [1]}} : {row}"));
    g.line(&format!("%tb = broadcast %t {{shape = [{lead}, {n}]}} : {full}"));
    g.line(&format!("%y = div %e, %tb : {full}"));
    g.finish("%y, %t")
}

#[test]
fn rows_that_threads_keep_in_registers() {
    for n in ["32", "128", "260", "997", "1024"] {
        check(&softmax("f32", "7", n), SIZES);
    }
    check(&softmax("f16", "N", "64"), SIZES);
}

#[test]
fn rows_that_a_block_walks() {
    for n in ["2048", "2100", "9001"] {
        check(&softmax("f32", "2", n), SIZES);
    }
    check(&softmax("f64", "2", "L"), &[("L", 2500)]);
    one("reduce", &["i64[2, 5000]".into()], "{f = min, axes = [1]}", "i64[2, 1]");
}

#[test]
fn columns_that_a_block_divides() {
    for (shape, axes, result) in [("2, 70, 37", "1", "2, 1, 37"), ("5, 9, 8, 40", "1, 2", "5, 1, 1, 40"), ("N, 3", "0", "1, 3")] {
        for dtype in ["f32", "i32", "bf16"] {
            let (full, row) = (format!("{dtype}[{shape}]"), format!("{dtype}[{result}]"));
            let mut g = Graph::new();
            g.input("x", &full);
            g.line(&format!("%m = reduce %x {{f = max, axes = [{axes}]}} : {row}"));
            g.line(&format!("%mb = broadcast %m {{shape = [{shape}]}} : {full}"));
            g.line(&format!("%s = sub %x, %mb : {full}"));
            g.line(&format!("%t = reduce %s {{f = sum, axes = [{axes}]}} : {row}"));
            check(&g.finish("%s, %t"), &[("N", 100)]);
        }
    }
}

#[test]
fn operands_that_run_along_another_axis() {
    for (shape, turned) in [("40, 70", "70, 40"), ("N, 33", "33, N"), ("64, 64", "64, 64")] {
        for dtype in ["f32", "f16", "u8"] {
            let mut g = Graph::new();
            g.input("x", &format!("{dtype}[{shape}]"));
            g.input("z", &format!("{dtype}[{turned}]"));
            g.line(&format!("%t = transpose %x {{perm = [1, 0]}} : {dtype}[{turned}]"));
            g.line(&format!("%y = add %t, %z : {dtype}[{turned}]"));
            check(&g.finish("%y"), &[("N", 50)]);
        }
    }
    let text = "graph @g(%x: f32[2, 20, 5, 33]) -> (%y) {
  %t = transpose %x {perm = [0, 2, 3, 1]} : f32[2, 5, 33, 20]
  %y = exp %t : f32[2, 5, 33, 20]
  yield %y
}
";
    check(text, SIZES);
}

#[test]
fn largest_elements_of_long_lines() {
    let coarse = |_: usize, t: Tensor| {
        // Many equal elements, and NaN among them.
        let x = t.to_f32().iter().map(|x| if *x > 0.9 { f32::NAN } else { (x * 4.0).round() }).collect::<Vec<_>>();
        Tensor::from_f32(t.shape.clone(), &x)
    };
    for largest in [true, false] {
        let text = format!(
            "graph @g(%x: f32[3, 300]) -> (%v, %i) {{
  %v, %i = top_k %x {{k = [17], axis = 1, largest = {largest}}} : f32[3, 17], i64[3, 17]
  yield %v, %i
}}
"
        );
        check_with(&text, SIZES, coarse);
    }
}

#[test]
fn positions_in_more_elements_than_segments() {
    let text = "graph @g(%x: f32[3, 700]) -> (%y) {
  %y = non_zero %x {count = [n]} : i64[2, n]
  yield %y
}
";
    let sparse = |_: usize, t: Tensor| {
        let x = t.to_f32().iter().enumerate().map(|(i, x)| if i % 3 == 0 { *x } else { 0.0 }).collect::<Vec<_>>();
        Tensor::from_f32(t.shape.clone(), &x)
    };
    check_with(text, SIZES, sparse);
}

#[test]
fn windows_of_many_positions() {
    let conv = "{strides = [1, 2], before = [2, 2], after = [2, 2], dilations = [1, 1], groups = 12, out = f32}";
    let mut g = Graph::new();
    g.input("x", "f32[N, 12, 9, 13]");
    g.weight("w", "f32[12, 1, 5, 5]");
    g.line(&format!("%y = conv %x, %w {conv} : f32[N, 12, 9, 7]"));
    check(&g.finish("%y"), SIZES);
    for f in ["max", "mean"] {
        let attrs = "kernel = [4, 3], strides = [1, 1], before = [1, 1], after = [2, 1], dilations = [1, 2], sizes = [8, 7]";
        one("pool", &["f32[2, 6, 8, 9]".into()], &format!("{{f = {f}, {attrs}}}"), "f32[2, 6, 8, 7]");
        let long = "kernel = [40], strides = [3], before = [5], after = [0], dilations = [1], sizes = [12]";
        one("pool", &["f32[1, 3, 68]".into()], &format!("{{f = {f}, {long}}}"), "f32[1, 3, 12]");
    }
}
