//! Scatters, running reductions and searches for positions.

use xlac_ir::DType;
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;

use crate::harness::{SIZES, check, check_with, fails_with, graph_of, one, one_with};

/// Indices from -3 to 2, floats with some NaNs and many equal elements.
fn coarse(_: usize, t: Tensor) -> Tensor {
    let element = |(i, c): (usize, Const)| match t.dtype {
        DType::I64 => Const::i64((c.as_i64() & 7) % 6 - 3),
        x if x.is_float() && i % 7 == 3 => Const::number(x, f64::NAN),
        x if x.is_float() => Const::number(x, f64::from((i * 7919 % 5) as u32)),
        _ => c,
    };
    Tensor::from_consts(t.dtype, t.shape.clone(), t.iter().enumerate().map(element))
}

#[test]
fn scatter_elements() {
    for mode in ["set", "add", "mul", "min", "max"] {
        for dtype in ["f32", "f16", "i32", "u8", "f64"] {
            for (axis, data, updates) in [
                (0, "3, 5", "7, 4"),
                (1, "5, 3", "4, 9"),
                (1, "2, 3, 20", "2, 8, 19"),
                (0, "3", "N"),
                (1, "N, 3, 33", "N, 4, 33"),
            ] {
                let inputs = [format!("{dtype}[{data}]"), format!("i64[{updates}]"), format!("{dtype}[{updates}]")];
                one_with("scatter_elements", &inputs, &format!("{{axis = {axis}, mode = {mode}}}"), &format!("{dtype}[{data}]"), coarse);
            }
        }
    }
    for mode in ["set", "min", "max"] {
        let inputs = ["bool[3, 5]", "i64[2, 5]", "bool[2, 5]"].map(String::from);
        one_with("scatter_elements", &inputs, &format!("{{axis = 0, mode = {mode}}}"), "bool[3, 5]", coarse);
    }
}

#[test]
fn scatter_checks_indices() {
    let beyond = |i: usize, t: Tensor| if i == 1 { Tensor::from_i64(t.shape.clone(), &vec![3; t.len()]) } else { t };
    let shapes = |x: [&str; 3]| x.map(String::from);
    let all = shapes(["f32[3, 5]", "i64[2, 5]", "f32[2, 5]"]);
    fails_with(&graph_of("scatter_elements", &all, "{axis = 0, mode = set}", "f32[3, 5]"), SIZES, beyond);
    let rows = shapes(["f32[3, 5]", "i64[2, 1]", "f32[2, 5]"]);
    fails_with(&graph_of("scatter_nd", &rows, "{mode = set}", "f32[3, 5]"), SIZES, beyond);
    // Updates beyond the data on another axis, known only when it runs.
    let zeros = |_: usize, t: Tensor| match t.dtype {
        DType::I64 => Tensor::from_i64(t.shape.clone(), &vec![0; t.len()]),
        _ => t,
    };
    let late = shapes(["f32[N, M]", "i64[2, 5]", "f32[2, 5]"]);
    fails_with(&graph_of("scatter_elements", &late, "{axis = 0, mode = set}", "f32[N, M]"), SIZES, zeros);
}

#[test]
fn scatter_nd() {
    for mode in ["set", "add", "mul", "min", "max"] {
        for dtype in ["f32", "bf16", "i64", "i8"] {
            for (data, indices, updates) in [
                ("3, 5", "4, 1", "4, 5"),
                ("3, 4, 37", "2, 3, 2", "2, 3, 37"),
                ("3, 4", "N, 2", "N"),
                ("3, N, 2", "5, 1", "5, N, 2"),
                ("3, 3, 4", "2, 0", "2, 3, 3, 4"),
                ("3, 200", "6, 1", "6, 200"),
            ] {
                let inputs = [format!("{dtype}[{data}]"), format!("i64[{indices}]"), format!("{dtype}[{updates}]")];
                one_with("scatter_nd", &inputs, &format!("{{mode = {mode}}}"), &format!("{dtype}[{data}]"), coarse);
            }
        }
    }
}

#[test]
fn cumulate() {
    for f in ["sum", "prod", "max", "min"] {
        for dtype in ["f32", "f16", "f64", "i32", "u8"] {
            for (axis, shape) in [(0, "7"), (0, "5, 19"), (1, "5, 19"), (1, "2, 3, N"), (0, "N, 4"), (2, "3, N, 4")] {
                for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                    let attrs = format!("{{f = {f}, axis = {axis}, exclusive = {exclusive}, reverse = {reverse}}}");
                    let ty = format!("{dtype}[{shape}]");
                    one("cumulate", std::slice::from_ref(&ty), &attrs, &ty);
                }
            }
        }
    }
}

#[test]
fn arg_reduce() {
    for (largest, last) in [(true, false), (true, true), (false, false), (false, true)] {
        for dtype in ["f32", "f16", "f64", "i32", "u8", "bool"] {
            for (axis, shape, result) in [
                (0, "7", "1"),
                (0, "5, 19", "1, 19"),
                (1, "3, 71", "3, 1"),
                (1, "2, 3, N", "2, 1, N"),
                (1, "4, N", "4, 1"),
                (0, "300", "1"),
                (2, "3, N, 64", "3, N, 1"),
            ] {
                let attrs = format!("{{largest = {largest}, axis = {axis}, last = {last}}}");
                let (from, to) = (format!("{dtype}[{shape}]"), format!("i64[{result}]"));
                one_with("arg_reduce", std::slice::from_ref(&from), &attrs, &to, coarse);
                one("arg_reduce", &[from], &attrs, &to);
            }
        }
    }
}

#[test]
fn max_pool_indices() {
    for column_major in [false, true] {
        for (shape, attrs, result) in [
            ("2, 3, 9", "kernel = [3], strides = [2], before = [1], after = [1], dilations = [1], sizes = [5]", "2, 3, 5"),
            (
                "N, 2, 6, 7",
                "kernel = [2, 3], strides = [1, 2], before = [0, 1], after = [1, 2], dilations = [2, 1], sizes = [5, 4]",
                "N, 2, 5, 4",
            ),
            (
                "1, 2, 4, 3, 5",
                "kernel = [2, 2, 2], strides = [2, 1, 2], before = [0, 0, 0], after = [0, 0, 1], dilations = [1, 1, 1], sizes = [2, 2, 3]",
                "1, 2, 2, 2, 3",
            ),
            ("1, 1, 3", "kernel = [1], strides = [1], before = [2], after = [2], dilations = [1], sizes = [7]", "1, 1, 7"),
        ] {
            for dtype in ["f32", "f16", "i8"] {
                let attrs = format!("{{{attrs}, column_major = {column_major}}}");
                let inputs = [format!("{dtype}[{shape}]")];
                one_with("max_pool_indices", &inputs, &attrs, &format!("i64[{result}]"), coarse);
            }
        }
    }
}

#[test]
fn strided_operands() {
    // Operands that are views: transposed, reversed, broadcast.
    check_with(
        "graph @g(%x: f32[5, 4], %i: i64[6], %u: f32[6, 4]) -> (%y, %z, %w) {
  %t = transpose %x {perm = [1, 0]} : f32[4, 5]
  %b = broadcast %i {shape = [4, 6]} : i64[4, 6]
  %v = transpose %u {perm = [1, 0]} : f32[4, 6]
  %y = scatter_elements %t, %b, %v {axis = 1, mode = add} : f32[4, 5]
  %s = slice %x {starts = [4, 3], steps = [-1, -2], sizes = [5, 2]} : f32[5, 2]
  %z = cumulate %s {f = sum, axis = 0, exclusive = false, reverse = false} : f32[5, 2]
  %w = arg_reduce %t {largest = true, axis = 1, last = false} : i64[4, 1]
  yield %y, %z, %w
}
",
        &[],
        coarse,
    );
    check(
        "graph @g(%x: f32[6, 33]) -> (%y, %z) {
  %n = neg %x : f32[6, 33]
  %t = transpose %n {perm = [1, 0]} : f32[33, 6]
  %y = cumulate %t {f = prod, axis = 1, exclusive = true, reverse = true} : f32[33, 6]
  %z = arg_reduce %t {largest = false, axis = 0, last = true} : i64[1, 6]
  yield %y, %z
}
",
        &[],
    );
}

/// Resizing along both spatial axes: gathers of gathers and sums of gathers, in either layout, with constant and computed
/// indices.
#[test]
fn gathers_share_kernels() {
    let index = |values: &[i64]| {
        let bits: Vec<String> = values.iter().map(i64::to_string).collect();
        format!("constant {{dtype = i64, shape = [{}], bits = [{}]}} : i64[{}]", values.len(), bits.join(", "), values.len())
    };
    for source in ["conv %x, %w {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32}", "mul %x, %z"] {
        for (rows, columns) in [(index(&[0, 0, 1, 1, 2, 2]), index(&[3, 0, 1, 1, 2])), ("dims {dims = [N - 1, 0, N - 2, 1, 0, 1], scalar = false} : i64[6]".into(), index(&[0, 1, 2, 3, 3]))] {
            let text = format!(
                "graph @g(%x: f32[N, 19, 3, 4], %w: f32[19, 19, 1, 1], %z: f32[N, 19, 3, 4], %t: f32[5]) -> (%y, %d) {{
  %r = {rows}
  %c = {columns}
  %s = {source} : f32[N, 19, 3, 4]
  %a = gather %s, %r {{axis = 2}} : f32[N, 19, 6, 4]
  %b = gather %a, %c {{axis = 3}} : f32[N, 19, 6, 5]
  %e = gather %s, %c {{axis = 3}} : f32[N, 19, 3, 5]
  %f = gather %e, %r {{axis = 2}} : f32[N, 19, 6, 5]
  %g = mul %f, %t : f32[N, 19, 6, 5]
  %y = add %b, %g : f32[N, 19, 6, 5]
  %d = abs %e : f32[N, 19, 3, 5]
  yield %y, %d
}}
"
            );
            check(&text, SIZES);
        }
    }
}
