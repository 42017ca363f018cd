//! Contractions, windows, row reductions and data movement, one kind of graph a test.

use xlac_ir::tensor::Tensor;
use xlac_ir::weights::Weights;

use crate::harness::{Graph, Outcome, SIZES, check, compare, graph_of, inputs, one, targets};

/// A graph of one contraction with a weight, bias and activation.
fn with_epilogue(x: &str, w: &str, bias: &str, op: &str, result: &str) -> String {
    let mut g = Graph::new();
    g.input("x", x);
    g.weight("w", w);
    g.weight("b", bias);
    g.line(&format!("%c = {} : {result}", op.replacen("OPERANDS", "%x, %w", 1)));
    let shape = result.split_once('[').expect("a type").1.trim_end_matches(']');
    g.line(&format!("%e = broadcast %b {{shape = [{shape}]}} : {result}"));
    g.line(&format!("%d = add %c, %e : {result}"));
    g.line(&format!("%y = sigmoid %d : {result}"));
    g.finish("%y")
}

#[test]
fn matrix_products() {
    for (x, w, ta, tb, y) in [
        ("3, 4", "4, 5", false, false, "3, 5"),
        ("17, 33", "33, 65", false, false, "17, 65"),
        ("1, 40", "40, 100", false, false, "1, 100"),
        ("33, 17", "65, 33", true, true, "17, 65"),
        ("N, 8", "8, 7", false, false, "N, 7"),
        ("2, N, 8", "2, 8, 16", false, false, "2, N, 16"),
        ("3, 1, 5, 6", "2, 6, 9", false, false, "3, 2, 5, 9"),
        ("2, 3, 4, 6", "6, 9", false, false, "2, 3, 4, 9"),
        ("4, 1", "1, 9", false, false, "4, 9"),
        ("M, 5, N", "M, N, 7", false, false, "M, 5, 7"),
    ] {
        for (dtype, out) in [("f32", "f32"), ("f16", "f16"), ("f64", "f64"), ("i8", "i32"), ("u8", "i32")] {
            let attrs = format!("{{trans_a = {ta}, trans_b = {tb}, out = {out}}}");
            let mut g = Graph::new();
            g.input("x", &format!("{dtype}[{x}]"));
            if w.contains(['N', 'M']) { g.input("w", &format!("{dtype}[{w}]")) } else { g.weight("w", &format!("{dtype}[{w}]")) }
            g.line(&format!("%y = matmul %x, %w {attrs} : {out}[{y}]"));
            check(&g.finish("%y"), SIZES);
        }
        let attrs = format!("{{trans_a = {ta}, trans_b = {tb}, out = f32}}");
        one("matmul", &[format!("f32[{x}]"), format!("f32[{w}]")], &attrs, &format!("f32[{y}]"));
    }
    let mm = "matmul OPERANDS {trans_a = false, trans_b = false, out = f32}";
    check(&with_epilogue("f32[7, 9]", "f32[9, 21]", "f32[21]", mm, "f32[7, 21]"), SIZES);
    check(&with_epilogue("f32[N, 9]", "f32[9, 21]", "f32[21]", mm, "f32[N, 21]"), SIZES);
}

/// A matrix product; what depends on a symbol is an input.
fn product(x: &str, w: &str, y: &str, dtype: &str) -> String {
    let mut g = Graph::new();
    g.input("x", &format!("{dtype}[{x}]"));
    let symbolic = w.contains(|c: char| c.is_ascii_uppercase());
    if symbolic { g.input("w", &format!("{dtype}[{w}]")) } else { g.weight("w", &format!("{dtype}[{w}]")) }
    g.line(&format!("%y = matmul %x, %w {{trans_a = false, trans_b = false, out = {dtype}}} : {dtype}[{y}]"));
    g.finish("%y")
}

/// Sums so long that they are made in chains: whole and cut ones, fewer rows than a tile, more than one axis of rows, operands
/// that are packed before, when they are known, or not at all.
#[test]
fn long_sums() {
    for (x, w, y, dtype) in [
        ("9, 255", "255, 20", "9, 20", "f32"),
        ("9, 256", "256, 20", "9, 20", "f32"),
        ("67, 300", "300, 50", "67, 50", "f32"),
        ("67, 384", "384, 96", "67, 96", "f64"),
        ("7, 513", "513, 40", "7, 40", "f32"),
        ("1, 900", "900, 40", "1, 40", "f32"),
        ("N, 400", "400, 20", "N, 20", "f32"),
        ("2, 3, N, 385", "385, 33", "2, 3, N, 33", "f32"),
        ("2, 11, 390", "2, 390, N", "2, 11, N", "f16"),
        ("N, 9, 385", "N, 385, 96", "N, 9, 96", "f32"),
        // Rows a multiple of a page apart.
        ("29, 1024", "1024, 20", "29, 20", "f32"),
        ("29, 512", "512, 20", "29, 20", "f64"),
    ] {
        check(&product(x, w, y, dtype), SIZES);
    }
    let mm = "matmul OPERANDS {trans_a = false, trans_b = false, out = f32}";
    check(&with_epilogue("f32[40, 390]", "f32[390, 60]", "f32[60]", mm, "f32[40, 60]"), SIZES);
}

/// Sums that are expected to be long, and turn out to have no chain, a part of one, one, or several.
#[test]
fn sums_of_unknown_length() {
    let mut g = Graph::new();
    g.input("a", "f32[5, 8, T]");
    g.input("b", "f32[8, T, 20]");
    g.line("%x = reshape %a {shape = [5, 8*T]} : f32[5, 8*T]");
    g.line("%w = reshape %b {shape = [8*T, 20]} : f32[8*T, 20]");
    g.line("%y = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[5, 20]");
    let text = g.finish("%y");
    for terms in [1, 2, 31, 32, 33, 80] {
        check(&text, &[("T", terms)]);
    }
}

/// Sums over several axes in chains of one of them: of the innermost, or of whole steps along the outermost.
#[test]
fn long_windows() {
    for (x, w, y) in [
        ("1, 300, 3, 4", "20, 300, 2, 3", "1, 20, 2, 2"),
        ("1, 600, 2, 2", "20, 600, 2, 2", "1, 20, 1, 1"),
        ("1, 40, 5, 5", "20, 40, 3, 3", "1, 20, 3, 3"),
        ("1, 70, 4, 8", "20, 70, 2, 4", "1, 20, 3, 5"),
    ] {
        let attrs = "{strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32}";
        one("conv", &[format!("f32[{x}]"), format!("f32[{w}]")], attrs, &format!("f32[{y}]"));
    }
}

/// Rows that fill tiles of one height or two, known or not.
#[test]
fn numbers_of_rows() {
    for rows in (1..=24).chain([49]) {
        check(&product(&format!("{rows}, 40"), "40, 70", &format!("{rows}, 70"), "f32"), SIZES);
    }
    for rows in 1..=30 {
        check(&product("N, 40", "40, 70", "N, 70", "f32"), &[("N", rows)]);
    }
}

#[test]
fn convolutions() {
    let conv = |s: &str, b: &str, a: &str, d: &str, g: usize| {
        format!("conv OPERANDS {{strides = [{s}], before = [{b}], after = [{a}], dilations = [{d}], groups = {g}, out = f32}}")
    };
    for (x, w, op, y) in [
        ("2, 3, 8, 7", "5, 3, 3, 3", conv("1, 1", "1, 1", "1, 1", "1, 1", 1), "2, 5, 8, 7"),
        ("1, 3, 9, 9", "20, 3, 3, 3", conv("2, 2", "0, 1", "1, 0", "1, 1", 1), "1, 20, 4, 4"),
        ("1, 4, 9, 8", "6, 2, 3, 2", conv("1, 2", "2, 0", "1, 1", "2, 1", 2), "1, 6, 8, 4"),
        ("2, 8, 6, 6", "16, 8, 1, 1", conv("1, 1", "0, 0", "0, 0", "1, 1", 1), "2, 16, 6, 6"),
        ("N, 8, 6, 6", "16, 8, 1, 1", conv("2, 2", "0, 0", "0, 0", "1, 1", 1), "N, 16, 3, 3"),
        ("1, 6, 7, 7", "6, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", "1, 1", 6), "1, 6, 7, 7"),
        ("2, 17, 7, 9", "17, 1, 3, 3", conv("2, 2", "1, 1", "1, 1", "1, 1", 17), "2, 17, 4, 5"),
        ("1, 4, 7, 7", "8, 1, 3, 3", conv("1, 1", "0, 0", "0, 0", "2, 2", 4), "1, 8, 3, 3"),
        ("2, 3, 11", "4, 3, 5", conv("2", "2", "2", "1", 1), "2, 4, 6"),
        ("1, 2, 4, 5, 6", "3, 2, 2, 2, 3", conv("1, 2, 1", "0, 1, 1", "1, 0, 1", "1, 1, 1", 1), "1, 3, 4, 3, 6"),
        ("N, 3, T, T", "5, 3, 3, 3", conv("1, 1", "1, 1", "1, 1", "1, 1", 1), "N, 5, T, T"),
    ] {
        let channels = y.split(", ").nth(1).expect("channels");
        let ones = vec!["1"; y.split(", ").count() - 2].join(", ");
        let bias = format!("f32[{channels}, {ones}]");
        check(&with_epilogue(&format!("f32[{x}]"), &format!("f32[{w}]"), &bias, &op, &format!("f32[{y}]")), SIZES);
        let attrs = op.split_once("OPERANDS ").expect("attributes").1;
        one("conv", &[format!("f32[{x}]"), format!("f32[{w}]")], attrs, &format!("f32[{y}]"));
    }
}

#[test]
fn depthwise_convolutions() {
    let conv = |s: &str, b: &str, d: &str, g: usize| {
        format!("conv OPERANDS {{strides = [{s}], before = [{b}], after = [{b}], dilations = [{d}], groups = {g}, out = TYPE}}")
    };
    let cases = [
        // Blocks of rows and columns that do and do not divide the image; tails of channels.
        ("1, 32, 9, 14", "32, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", 32), "1, 32, 9, 14"),
        ("2, 20, 11, 13", "20, 1, 5, 5", conv("1, 1", "2, 2", "1, 1", 20), "2, 20, 11, 13"),
        ("1, 19, 12, 11", "19, 1, 3, 5", conv("2, 1", "1, 2", "1, 1", 19), "1, 19, 6, 11"),
        // Dilation: rows between those that a window reads, and rows that belong to every second output row.
        ("1, 16, 12, 12", "16, 1, 3, 3", conv("1, 1", "2, 2", "2, 2", 16), "1, 16, 12, 12"),
        ("1, 9, 12, 12", "9, 1, 2, 3", conv("2, 1", "0, 3", "3, 3", 9), "1, 9, 5, 12"),
        // Strides beyond the window leave rows and columns unread.
        ("1, 8, 13, 13", "8, 1, 2, 2", conv("3, 3", "0, 0", "1, 1", 8), "1, 8, 4, 4"),
        // Images of unknown size, below and above that of a block.
        ("N, 24, T, T", "24, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", 24), "N, 24, T, T"),
        ("N, 5, 7, T", "5, 1, 1, 3", conv("1, 1", "0, 1", "1, 1", 5), "N, 5, 7, T"),
        // Chunks of channels.
        ("1, 200, 3, 3", "200, 1, 5, 5", conv("1, 1", "2, 2", "1, 1", 200), "1, 200, 3, 3"),
        // Several outputs per group, with whole and partial vectors, and too many or too few for them.
        ("1, 10, 6, 7", "40, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", 10), "1, 40, 6, 7"),
        ("N, 16, 5, T", "32, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", 16), "N, 32, 5, T"),
        ("1, 3, 8, 8", "24, 1, 3, 3", conv("2, 2", "1, 1", "1, 1", 3), "1, 24, 4, 4"),
        ("1, 4, 5, 5", "12, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", 4), "1, 12, 5, 5"),
        ("1, 2, 5, 5", "64, 1, 3, 3", conv("1, 1", "1, 1", "1, 1", 2), "1, 64, 5, 5"),
        // One and three spatial axes.
        ("2, 18, 21", "18, 1, 5", conv("1", "2", "1", 18), "2, 18, 21"),
        ("1, 6, 4, 5, 6", "12, 1, 2, 3, 3", conv("1, 2, 1", "0, 1, 1", "2, 1, 1", 6), "1, 12, 2, 3, 6"),
    ];
    for (i, (x, w, op, y)) in cases.into_iter().enumerate() {
        let channels = y.split(", ").nth(1).expect("channels");
        let ones = vec!["1"; y.split(", ").count() - 2].join(", ");
        let typed = |t: &str| op.replace("TYPE", t);
        let bias = format!("f32[{channels}, {ones}]");
        check(&with_epilogue(&format!("f32[{x}]"), &format!("f32[{w}]"), &bias, &typed("f32"), &format!("f32[{y}]")), SIZES);
        // Types share the loops: a third of the cases each will do.
        for t in [["f16"], ["f64"], ["bf16"]][i % 3] {
            let mut g = Graph::new();
            g.input("x", &format!("{t}[{x}]"));
            g.weight("w", &format!("{t}[{w}]"));
            g.line(&format!("%y = {} : {t}[{y}]", typed(t).replacen("OPERANDS", "%x, %w", 1)));
            check(&g.finish("%y"), SIZES);
        }
    }
}

#[test]
fn padding_along_rows_is_left_out() {
    let cases = [
        // Fewer rows than the window, so that all blocks know what is missing; more; and blocks that do not divide them.
        ("1, 24, 3, 14", "24, 1, 5, 5", "1, 1", "2, 2", "1, 1", "1, 24, 3, 14"),
        ("1, 40, 1, 9", "40, 1, 3, 3", "1, 1", "1, 1", "1, 1", "1, 40, 1, 9"),
        ("2, 20, 13, 8", "20, 1, 5, 3", "1, 1", "2, 1", "1, 1", "2, 20, 13, 8"),
        ("1, 17, 12, 7", "17, 1, 3, 3", "2, 1", "1, 1", "1, 1", "1, 17, 6, 7"),
        ("1, 16, 5, 6", "16, 1, 3, 3", "1, 1", "3, 2", "3, 2", "1, 16, 5, 6"),
        // Some outputs see nothing but padding.
        ("1, 16, 2, 6", "16, 1, 3, 3", "1, 1", "4, 1", "1, 1", "1, 16, 8, 6"),
        // Sizes that are known when the model runs.
        ("N, 24, T, 9", "24, 1, 5, 5", "1, 1", "2, 2", "1, 1", "N, 24, T, 9"),
        ("N, 8, T, T", "8, 1, 3, 3", "1, 1", "1, 1", "1, 1", "N, 8, T, T"),
        // Padding that cuts, several outputs per group, three axes.
        ("1, 16, 9, 9", "16, 1, 3, 3", "1, 1", "-1, 1", "1, 1", "1, 16, 5, 9"),
        ("1, 8, 4, 5", "16, 1, 3, 3", "1, 1", "1, 1", "1, 1", "1, 16, 4, 5"),
        ("1, 6, 4, 3, 6", "6, 1, 2, 5, 3", "1, 1, 1", "1, 2, 1", "1, 1, 1", "1, 6, 5, 3, 6"),
    ];
    for (x, w, strides, pads, dilations, y) in cases {
        let groups = x.split(", ").nth(1).expect("channels");
        // Computed, so that its channels lie next to each other.
        let text = format!(
            "graph @g(%x: f32[{x}]) -> (%y) {{
  %w = weight @w : f32[{w}]
  %a = sigmoid %x : f32[{x}]
  %c = conv %a, %w {{strides = [{strides}], before = [{pads}], after = [{pads}], dilations = [{dilations}], groups = {groups}, out = f32}} : f32[{y}]
  %y = sigmoid %c : f32[{y}]
  yield %y
}}\n"
        );
        check(&text, SIZES);
    }
}

#[test]
fn infinite_weights_meet_the_zeros_of_the_padding() {
    let text = "graph @g(%x: f32[1, 16, 3, 5]) -> (%y) {
  %w = weight @w : f32[16, 1, 3, 3]
  %a = sigmoid %x : f32[1, 16, 3, 5]
  %y = conv %a, %w {strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 16, out = f32} : f32[1, 16, 3, 5]
  yield %y
}\n";
    let mut program = xlac_ir::text::parse(text).expect("well-formed");
    let elements: Vec<f32> = (0..144).map(|i| if i % 9 == 1 { f32::INFINITY } else { 1.0 }).collect();
    program.weights = Weights::default();
    program.weights.add("w", Tensor::from_f32(vec![16, 1, 3, 3], &elements));
    for target in targets() {
        let x = inputs(&program, SIZES, 1);
        for exact in [true, false] {
            let outcome = compare(&program, &x, &target, exact);
            assert!(matches!(outcome, Outcome::Same), "{}: {outcome:?}", target.name);
        }
    }
}

#[test]
fn results_of_a_few_vectors() {
    // Columns that fill halves of vectors, or a part of one.
    for columns in [3, 9, 24, 40, 72] {
        for (x, w, y) in [("1, 5, 17, 6", "5, 3, 3", "15, 4"), ("1, 4, N, 9", "4, 1, 1", "N, 9")] {
            let op = "conv OPERANDS {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32}";
            let (w, y) = (format!("f32[{columns}, {w}]"), format!("f32[1, {columns}, {y}]"));
            check(&with_epilogue(&format!("f32[{x}]"), &w, &format!("f32[{columns}, 1, 1]"), op, &y), SIZES);
        }
    }
}

#[test]
fn negative_padding_cuts() {
    let attrs = "{strides = [1, 1], before = [-1, 1], after = [0, -2], dilations = [1, 1], groups = 1, out = f32}";
    one("conv", &["f32[1, 3, 8, 7]".into(), "f32[5, 3, 3, 3]".into()], attrs, "f32[1, 5, 5, 4]");
    let attrs = "{strides = [1, 1], before = [-1, 0], after = [0, -2], dilations = [1, 1], groups = 3, out = f32}";
    one("conv", &["f32[1, 3, 8, 7]".into(), "f32[3, 1, 3, 3]".into()], attrs, "f32[1, 3, 5, 3]");
}

#[test]
fn chains_of_convolutions() {
    let text = "graph @g(%x: f32[N, 3, 9, 9]) -> (%y) {
  %w1 = weight @w1 : f32[8, 3, 3, 3]
  %w2 = weight @w2 : f32[8, 1, 3, 3]
  %w3 = weight @w3 : f32[12, 8, 1, 1]
  %w4 = weight @w4 : f32[12, 12, 3, 3]
  %a = conv %x, %w1 {strides = [2, 2], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1, out = f32} : f32[N, 8, 5, 5]
  %b = tanh %a : f32[N, 8, 5, 5]
  %c = conv %b, %w2 {strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 8, out = f32} : f32[N, 8, 5, 5]
  %d = conv %c, %w3 {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32} : f32[N, 12, 5, 5]
  %e = conv %d, %w4 {strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1, out = f32} : f32[N, 12, 5, 5]
  %f = add %e, %d : f32[N, 12, 5, 5]
  %h = concat %f, %c {axis = 1} : f32[N, 20, 5, 5]
  %p = pool %h {f = max, kernel = [2, 2], strides = [2, 2], before = [0, 0], after = [1, 1], dilations = [1, 1], sizes = [3, 3]} : f32[N, 20, 3, 3]
  %r = reduce %p {f = sum, axes = [2, 3]} : f32[N, 20, 1, 1]
  %y = reshape %r {shape = [N, 20]} : f32[N, 20]
  yield %y
}
";
    check(text, SIZES);
}

#[test]
fn transposed_convolutions() {
    let op = |s: &str, b: &str, a: &str, e: &str, d: &str, g: usize| {
        format!("{{strides = [{s}], before = [{b}], after = [{a}], extra = [{e}], dilations = [{d}], groups = {g}}}")
    };
    for (x, w, attrs, y) in [
        ("2, 3, 5", "3, 4, 3", op("2", "1", "0", "0", "1", 1), "2, 4, 10"),
        ("1, 4, 5, 4", "4, 3, 3, 2", op("2, 3", "1, 0", "1, 1", "1, 0", "1, 1", 2), "1, 6, 10, 10"),
        ("1, 2, 4, 4", "2, 5, 2, 2", op("2, 2", "0, 0", "0, 0", "0, 0", "1, 1", 1), "1, 5, 8, 8"),
        ("N, 2, 4, 4", "2, 5, 3, 3", op("1, 1", "1, 1", "1, 1", "0, 0", "2, 2", 1), "N, 5, 6, 6"),
        ("1, 2, 3, 3", "2, 2, 1, 1", op("3, 3", "0, 0", "0, 0", "2, 2", "1, 1", 1), "1, 2, 9, 9"),
    ] {
        one("conv_transpose", &[format!("f32[{x}]"), format!("f32[{w}]")], &attrs, &format!("f32[{y}]"));
    }
}

/// Local response normalization of a value that is stored channels-last, and its users.
#[test]
fn sums_over_neighbouring_channels() {
    for (n, channels, size) in [("2", "19", 5), ("N", "32", 5), ("1", "40", 2), ("2", "3", 5), ("2", "16", 40), ("N", "M", 3)] {
        for dtype in ["f32", "f16", "f64"] {
            let (before, after) = ((size - 1) / 2, size / 2);
            let shape = format!("{n}, {channels}, 3, 4");
            let text = format!(
                "graph @g(%x: {dtype}[{n}, 2, 3, 4], %w: {dtype}[{channels}, 2, 1, 1]) -> (%y) {{
  %c = conv %x, %w {{strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = {dtype}}} : {dtype}[{shape}]
  %s = mul %c, %c : {dtype}[{shape}]
  %f = reshape %s {{shape = [{n}, 1, {channels}, 12]}} : {dtype}[{n}, 1, {channels}, 12]
  %p = pool %f {{f = sum, kernel = [{size}, 1], strides = [1, 1], before = [{before}, 0], after = [{after}, 0], dilations = [1, 1], sizes = [{channels}, 12]}} : {dtype}[{n}, 1, {channels}, 12]
  %d = abs %p : {dtype}[{n}, 1, {channels}, 12]
  %e = reshape %d {{shape = [{shape}]}} : {dtype}[{shape}]
  %y = pool %e {{f = max, kernel = [2, 2], strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], sizes = [2, 3]}} : {dtype}[{n}, {channels}, 2, 3]
  yield %y
}}
"
            );
            check(&text, SIZES);
            check(&text, LARGER);
        }
    }
}

/// Sizes of symbols that fill vectors.
const LARGER: &[(&str, i64)] = &[("N", 2), ("M", 21), ("T", 37)];

/// Operands that run along another axis than the results: blocks are turned round in registers.
#[test]
fn transpositions() {
    for (x, perm, y) in [
        ("3, 35", "1, 0", "35, 3"),
        ("2, 5, 40", "0, 2, 1", "2, 40, 5"),
        ("2, 7, 33", "0, 2, 1", "2, 33, 7"),
        ("2, 33, 6, 5", "0, 2, 3, 1", "2, 6, 5, 33"),
        ("1, 16, 64", "0, 2, 1", "1, 64, 16"),
        ("40, 9", "1, 0", "9, 40"),
        ("3, 6, 28", "0, 2, 1", "3, 28, 6"),
        ("N, 3, T, 9", "0, 2, 3, 1", "N, T, 9, 3"),
        ("N, T, 4", "0, 2, 1", "N, 4, T"),
        ("N, M, 70", "2, 1, 0", "70, M, N"),
        ("N, 70, M", "0, 2, 1", "N, M, 70"),
    ] {
        for dtype in ["f32", "f16", "f64", "i8", "i64", "bool"] {
            let attrs = format!("{{perm = [{perm}]}}");
            let text = graph_of("transpose", &[format!("{dtype}[{x}]")], &attrs, &format!("{dtype}[{y}]"));
            check(&text, SIZES);
            check(&text, LARGER);
        }
        let mut g = Graph::new();
        g.input("x", &format!("f32[{x}]"));
        let last = y.rsplit(", ").next().expect("an axis");
        g.input("s", &format!("f32[{last}]"));
        g.line(&format!("%t = transpose %x {{perm = [{perm}]}} : f32[{y}]"));
        g.line(&format!("%m = mul %t, %s : f32[{y}]"));
        g.line(&format!("%n = neg %t : f32[{y}]"));
        let text = g.finish("%m, %n");
        check(&text, SIZES);
        check(&text, LARGER);
    }
}

#[test]
fn pools() {
    for f in ["max", "sum", "mean", "mean_padded"] {
        for (x, attrs, y) in [
            ("2, 5, 9", "kernel = [3], strides = [2], before = [1], after = [1], dilations = [1], sizes = [5]", "2, 5, 5"),
            (
                "N, 19, 6, 7",
                "kernel = [2, 3], strides = [1, 2], before = [0, 1], after = [1, 2], dilations = [2, 1], sizes = [5, 4]",
                "N, 19, 5, 4",
            ),
            (
                "1, 2, 4, 3, 5",
                "kernel = [2, 2, 2], strides = [2, 1, 2], before = [0, 0, 0], after = [0, 0, 1], dilations = [1, 1, 1], sizes = [2, 2, 3]",
                "1, 2, 2, 2, 3",
            ),
        ] {
            for dtype in ["f32", "f16", "f64"] {
                one("pool", &[format!("{dtype}[{x}]")], &format!("{{f = {f}, {attrs}}}"), &format!("{dtype}[{y}]"));
            }
        }
    }
}

#[test]
fn softmax_and_normalization() {
    for (shape, axis, reduced) in [
        ("3, 7", 1, "3, 1"),
        ("2, 4, 65", 2, "2, 4, 1"),
        ("5, 33", 0, "1, 33"),
        ("N, T", 1, "N, 1"),
        ("M, 3, 20", 1, "M, 1, 20"),
        // Rows of less than half a vector, of which there are many, or may be.
        ("37, 2", 1, "37, 1"),
        ("2, 40, 3", 2, "2, 40, 1"),
        ("N, 4", 1, "N, 1"),
    ] {
        for dtype in ["f32", "f16", "f64"] {
            let (full, row) = (format!("{dtype}[{shape}]"), format!("{dtype}[{reduced}]"));
            let b = |v: &str, name: &str| format!("%{name} = broadcast %{v} {{shape = [{shape}]}} : {full}");
            let mut g = Graph::new();
            g.input("x", &full);
            g.line(&format!("%m = reduce %x {{f = max, axes = [{axis}]}} : {row}"));
            g.line(&b("m", "mb"));
            g.line(&format!("%s = sub %x, %mb : {full}"));
            g.line(&format!("%e = exp %s : {full}"));
            g.line(&format!("%t = reduce %e {{f = sum, axes = [{axis}]}} : {row}"));
            g.line(&b("t", "tb"));
            g.line(&format!("%y = div %e, %tb : {full}"));
            // The mean and spread of what comes out.
            g.line(&format!("%u = reduce %y {{f = sum, axes = [{axis}]}} : {row}"));
            g.line(&b("u", "ub"));
            g.line(&format!("%c = sub %y, %ub : {full}"));
            g.line(&format!("%q = mul %c, %c : {full}"));
            g.line(&format!("%v = reduce %q {{f = sum, axes = [{axis}]}} : {row}"));
            g.line(&format!("%r = sqrt %v : {row}"));
            g.line(&b("r", "rb"));
            g.line(&format!("%z = div %c, %rb : {full}"));
            check(&g.finish("%y, %z"), SIZES);
        }
    }
}

#[test]
fn reductions() {
    for f in ["sum", "prod", "max", "min"] {
        for (shape, axes, result) in [
            ("300", "0", "1"),
            ("3, 70, 2", "1", "3, 1, 2"),
            ("2, 3, 40", "1, 2", "2, 1, 1"),
            ("40, 3, 2", "0, 2", "1, 3, 1"),
            ("N, T, 9", "0, 1", "1, 1, 9"),
        ] {
            for dtype in ["f32", "bf16", "f64", "i32", "u8"] {
                one("reduce", &[format!("{dtype}[{shape}]")], &format!("{{f = {f}, axes = [{axes}]}}"), &format!("{dtype}[{result}]"));
            }
        }
    }
}

#[test]
fn broadcasts_and_movement() {
    let text = "graph @g(%x: f32[N, 5, 7], %v: f32[7], %i: f32[]) -> (%a, %b, %c, %d, %e, %f) {
  %vb = broadcast %v {shape = [N, 5, 7]} : f32[N, 5, 7]
  %ib = broadcast %i {shape = [N, 5, 7]} : f32[N, 5, 7]
  %s = add %x, %vb : f32[N, 5, 7]
  %a = mul %s, %ib : f32[N, 5, 7]
  %b = transpose %a {perm = [2, 0, 1]} : f32[7, N, 5]
  %c = reshape %b {shape = [7*N, 5]} : f32[7*N, 5]
  %r = slice %x {starts = [0, 4, 1], steps = [1, -2, 3], sizes = [N, 3, 2]} : f32[N, 3, 2]
  %d = exp %r : f32[N, 3, 2]
  %e = concat %x, %s, %x {axis = 1} : f32[N, 15, 7]
  %p = constant {dtype = f32, shape = [], bits = [1065353216]} : f32[]
  %f = pad %s, %p {before = [0, 2, 1], after = [1, 0, 3], mode = constant} : f32[N + 1, 7, 11]
  yield %a, %b, %c, %d, %e, %f
}
";
    check(text, SIZES);
    for mode in ["edge", "reflect", "wrap"] {
        one("pad", &["f32[4, 9]".into()], &format!("{{before = [2, 3], after = [1, 4], mode = {mode}}}"), "f32[7, 16]");
    }
}
