//! Recurrent layers: every cell, direction and option.

use xlac_ir::DType;
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;

use crate::harness::{check_with, Graph};

/// What a layer is like.
#[derive(Clone)]
struct Layer<'a> {
    cell: &'a str,
    direction: &'a str,
    sizes: [&'a str; 2],
    input: usize,
    hidden: usize,
    activations: &'a [&'a str],
    options: &'a str,
    lengths: bool,
    dtype: &'a str,
    /// Weights are operands of the graph.
    open: bool,
}

const LSTM: Layer = Layer {
    cell: "lstm",
    direction: "forward",
    sizes: ["5", "3"],
    input: 4,
    hidden: 9,
    activations: &["sigmoid", "tanh", "tanh"],
    options: "clip = inf, linear_before_reset = false, input_forget = false",
    lengths: false,
    dtype: "f32",
    open: false,
};

const GRU: Layer = Layer { cell: "gru", activations: &["sigmoid", "tanh"], ..LSTM };
const PLAIN: Layer = Layer { cell: "plain", activations: &["tanh"], ..LSTM };

/// The program of a layer; with `both`, activations are repeated for the second direction unless they are given for it.
fn program(x: &Layer) -> String {
    let (gates, own) = match x.cell {
        "lstm" => (4, 3),
        "gru" => (3, 2),
        _ => (1, 1),
    };
    let d = if x.direction == "both" { 2 } else { 1 };
    let mut activations = x.activations.to_vec();
    while activations.len() < d * own {
        activations.extend(x.activations);
    }
    let h = x.hidden;
    let [t, n] = x.sizes;
    let mut shapes = vec![
        ("w", format!("{d}, {}, {}", gates * h, x.input)),
        ("r", format!("{d}, {}, {h}", gates * h)),
        ("b", format!("{d}, {}", 2 * gates * h)),
    ];
    let mut states = vec![("h0", format!("{d}, {n}, {h}"))];
    if x.cell == "lstm" {
        states.push(("c0", format!("{d}, {n}, {h}")));
        shapes.push(("p", format!("{d}, {}", 3 * h)));
    }
    let mut g = Graph::new();
    g.input("x", &format!("{}[{t}, {n}, {}]", x.dtype, x.input));
    for (name, shape) in &states {
        g.input(name, &format!("{}[{shape}]", x.dtype));
    }
    for (name, shape) in &shapes {
        let ty = format!("{}[{shape}]", x.dtype);
        if x.open { g.input(name, &ty) } else { g.weight(name, &ty) }
    }
    let mut operands = vec!["%x", "%w", "%r", "%b"];
    operands.extend(if x.cell == "lstm" { &["%h0", "%c0", "%p"][..] } else { &["%h0"] });
    if x.lengths {
        g.input("len", &format!("i32[{n}]"));
        operands.push("%len");
    }
    let list = |s: &str| vec![s; activations.len()].join(", ");
    let state = format!("{}[{d}, {n}, {h}]", x.dtype);
    let (results, types) = if x.cell == "lstm" { ("%y, %yh, %yc", format!("{state}, {state}")) } else { ("%y, %yh", state) };
    g.line(&format!(
        "{results} = rnn {} {{cell = {}, direction = {}, hidden = {h}, activations = [{}], alpha = [{}], beta = [{}], {}, lengths = {}}} : {}[{t}, {d}, {n}, {h}], {types}",
        operands.join(", "),
        x.cell,
        x.direction,
        activations.join(", "),
        list("0.3"),
        list("0.6"),
        x.options,
        x.lengths,
        x.dtype,
    ));
    g.finish(results)
}

fn run(x: &Layer) {
    // A length for each row: none, all, and some.
    let lengths = |i: usize, t: Tensor| {
        if t.dtype != DType::I32 {
            return t;
        }
        let values = (0..t.len()).map(|n| Const::int(DType::I32, [5, 0, 3, 1, 4][(n + i) % 5]));
        Tensor::from_consts(DType::I32, t.shape.clone(), values)
    };
    check_with(&program(x), &[("T", 5), ("N", 3)], lengths);
}

#[test]
fn cells_and_directions() {
    for cell in [LSTM, GRU, PLAIN] {
        for direction in ["forward", "reverse", "both"] {
            run(&Layer { direction, ..cell.clone() });
        }
    }
}

#[test]
fn lengths_end_rows() {
    for cell in [LSTM, GRU, PLAIN] {
        for direction in ["forward", "reverse", "both"] {
            run(&Layer { direction, lengths: true, sizes: ["5", "7"], ..cell.clone() });
            run(&Layer { direction, lengths: true, sizes: ["T", "N"], ..cell.clone() });
        }
    }
}

#[test]
fn sizes_of_every_kind() {
    for (hidden, sizes) in [(1, ["1", "1"]), (3, ["T", "1"]), (16, ["5", "N"]), (37, ["3", "17"]), (64, ["2", "4"]), (8, ["T", "N"])] {
        for cell in [LSTM, GRU, PLAIN] {
            run(&Layer { hidden, sizes, direction: "both", ..cell.clone() });
        }
    }
}

#[test]
fn options() {
    let clip = "clip = 0.25, linear_before_reset = true, input_forget = true";
    for cell in [LSTM, GRU, PLAIN] {
        run(&Layer { options: clip, ..cell.clone() });
        run(&Layer { options: clip, lengths: true, sizes: ["5", "9"], direction: "both", ..cell.clone() });
        run(&Layer { open: true, ..cell.clone() });
    }
}

#[test]
fn activations() {
    let all = [
        "sigmoid", "relu", "affine", "leaky_relu", "thresholded_relu", "scaled_tanh", "hard_sigmoid", "elu", "softsign", "softplus",
    ];
    for f in all {
        run(&Layer { activations: &[f], ..PLAIN });
    }
    run(&Layer { direction: "both", activations: &["relu", "elu"], ..PLAIN });
    run(&Layer { direction: "both", activations: &["sigmoid", "tanh", "hard_sigmoid", "softsign"], lengths: true, ..GRU });
    run(&Layer { direction: "both", activations: &["sigmoid", "tanh", "tanh", "hard_sigmoid", "relu", "softsign"], ..LSTM });
}

#[test]
fn element_types() {
    for dtype in ["f64", "f16", "bf16"] {
        for cell in [LSTM, GRU, PLAIN] {
            run(&Layer { dtype, direction: "both", ..cell.clone() });
        }
    }
}
