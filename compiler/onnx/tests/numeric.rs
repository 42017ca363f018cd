//! Operators and shape computations, imported and run by the interpreter, against numbers worked out by hand.

mod common;

use common::*;
use xlac_ir::tensor::Tensor;
use xlac_onnx::proto::TensorProto;

fn vector(x: &[f32]) -> Tensor { Tensor::from_f32(vec![x.len()], x) }

fn close(found: &Tensor, expected: &[f32]) {
    let found = found.to_f32();
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-5 * e.abs().max(1.0), "{found:?} is not {expected:?}");
    }
}

#[test]
fn shape_computation_becomes_dims() {
    // Flattening by Shape, Gather, Unsqueeze, Concat: the program is one reshape.
    let nodes = vec![
        node("Shape", &["x"], &["s"]),
        with(node("Constant", &[], &["zero"]), vec![tensor_attr("value", i64s("", &[], &[0]))]),
        node("Gather", &["s", "zero"], &["n"]),
        with(node("Constant", &[], &["ax"]), vec![tensor_attr("value", i64s("", &[1], &[0]))]),
        node("Unsqueeze", &["n", "ax"], &["n1"]),
        with(node("Constant", &[], &["open"]), vec![tensor_attr("value", i64s("", &[1], &[-1]))]),
        with(node("Concat", &["n1", "open"], &["t"]), vec![int("axis", 0)]),
        node("Reshape", &["x", "t"], &["y"]),
    ];
    let m = model(17, graph(vec![info("x", F32, &["N", "3", "4"])], nodes, &["y"]));
    let imported = import(&m).expect("imports");
    let g = &imported.program.graph;
    assert_eq!(g.ty(g.outputs()[0]).to_string(), "f32[N, 12]");
    assert_eq!(g.live_nodes().len(), 1);
}

#[test]
fn if_with_known_condition_is_resolved() {
    let branch = |op: &str| graph(vec![], vec![node(op, &["x"], &[&format!("{op}_y")])], &[&format!("{op}_y")]);
    let choose = with(
        node("If", &["c"], &["y"]),
        vec![graph_attr("then_branch", branch("Neg")), graph_attr("else_branch", branch("Abs"))],
    );
    let mut g = graph(vec![info("x", F32, &["2"])], vec![choose], &["y"]);
    g.initializer = vec![TensorProto { name: "c".into(), data_type: BOOL, int32_data: vec![1], ..TensorProto::default() }];
    close(&run(&model(17, g), &[vector(&[1.0, -2.0])])[0], &[-1.0, 2.0]);
}

#[test]
fn if_with_data_condition_is_a_region() {
    let branch = |op: &str| graph(vec![], vec![node(op, &["x"], &[&format!("{op}_y")])], &[&format!("{op}_y")]);
    let choose = with(
        node("If", &["c"], &["y"]),
        vec![graph_attr("then_branch", branch("Neg")), graph_attr("else_branch", branch("Abs"))],
    );
    let inputs = vec![info("x", F32, &["2"]), info("c", BOOL, &[])];
    let m = model(17, graph(inputs, vec![choose], &["y"]));
    let c = Tensor::scalar(xlac_ir::kernel::Const::bool(false));
    close(&run(&m, &[vector(&[1.0, -2.0]), c])[0], &[1.0, 2.0]);
}

#[test]
fn loop_carries_and_stacks() {
    let body = graph(
        vec![info("i", I64, &[]), info("c", BOOL, &[]), info("a", F32, &["1"])],
        vec![node("Identity", &["c"], &["c1"]), node("Add", &["a", "one"], &["b"]), node("Identity", &["b"], &["s"])],
        &["c1", "b", "s"],
    );
    let node = with(node("Loop", &["n", "", "x"], &["last", "all"]), vec![graph_attr("body", body)]);
    let mut g = graph(vec![info("x", F32, &["1"]), info("n", I64, &[])], vec![node], &["last", "all"]);
    g.initializer = vec![f32s("one", &[1], &[1.0])];
    let out = run(&model(17, g), &[vector(&[5.0]), Tensor::from_i64(vec![], &[3])]);
    close(&out[0], &[8.0]);
    close(&out[1], &[6.0, 7.0, 8.0]);
    assert_eq!(out[1].shape, [3, 1]);
}

#[test]
fn clip_and_dropout_of_old_opsets() {
    let clip = with(node("Clip", &["x"], &["a"]), vec![float("min", -1.0), float("max", 1.0)]);
    let drop = with(node("Dropout", &["a"], &["y"]), vec![float("ratio", 0.5)]);
    let m = model(7, graph(vec![info("x", F32, &["3"])], vec![clip, drop], &["y"]));
    close(&run(&m, &[vector(&[-3.0, 0.5, 2.0])])[0], &[-1.0, 0.5, 1.0]);
}

#[test]
fn softmax_before_13_flattens() {
    let m = |opset, axis| {
        let n = with(node("Softmax", &["x"], &["y"]), vec![int("axis", axis)]);
        model(opset, graph(vec![info("x", F32, &["1", "2", "2"])], vec![n], &["y"]))
    };
    let x = Tensor::from_f32(vec![1, 2, 2], &[0.0; 4]);
    close(&run(&m(11, 1), std::slice::from_ref(&x))[0], &[0.25; 4]);
    close(&run(&m(13, 1), &[x])[0], &[0.5; 4]);
}

#[test]
fn slices_of_both_directions() {
    let m = |starts: i64, ends: i64, step: i64| {
        let mut g = graph(vec![info("x", F32, &["N"])], vec![node("Slice", &["x", "s", "e", "a", "t"], &["y"])], &["y"]);
        g.initializer =
            vec![i64s("s", &[1], &[starts]), i64s("e", &[1], &[ends]), i64s("a", &[1], &[0]), i64s("t", &[1], &[step])];
        model(13, g)
    };
    let x = [vector(&[0.0, 1.0, 2.0, 3.0, 4.0])];
    close(&run(&m(1, i64::MAX, 2), &x)[0], &[1.0, 3.0]);
    close(&run(&m(-1, i64::MIN, -2), &x)[0], &[4.0, 2.0, 0.0]);
    close(&run(&m(-2, 100, 1), &x)[0], &[3.0, 4.0]);
    close(&run(&m(4, 2, 1), &x)[0], &[]);
}

#[test]
fn normalization_and_gemm() {
    let mut g = graph(
        vec![info("x", F32, &["1", "2"])],
        vec![
            node("LayerNormalization", &["x", "one"], &["n"]),
            with(node("Gemm", &["n", "w", "b"], &["y"]), vec![float("alpha", 2.0), int("transB", 1)]),
        ],
        &["y"],
    );
    g.initializer = vec![f32s("one", &[2], &[1.0, 1.0]), f32s("w", &[1, 2], &[1.0, 3.0]), f32s("b", &[1], &[10.0])];
    close(&run(&model(17, g), &[Tensor::from_f32(vec![1, 2], &[0.0, 20.0])])[0], &[14.0]);
}

#[test]
fn linear_resize_by_symbolic_sizes() {
    let n = with(node("Resize", &["x", "", "s"], &["y"]), vec![word("mode", "linear")]);
    let mut g = graph(vec![info("x", F32, &["W"])], vec![n], &["y"]);
    g.initializer = vec![f32s("s", &[1], &[2.0])];
    close(&run(&model(13, g), &[vector(&[0.0, 4.0])])[0], &[0.0, 1.0, 3.0, 4.0]);
}

#[test]
fn functions_are_expanded() {
    use xlac_onnx::proto::{FunctionProto, OperatorSetIdProto};
    let f = FunctionProto {
        name: "Twice".into(),
        domain: "local".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![node("Add", &["a", "a"], &["b"])],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..FunctionProto::default()
    };
    let call = |x: &str, y: &str| xlac_onnx::proto::NodeProto { domain: "local".into(), ..node("Twice", &[x], &[y]) };
    let mut m = model(17, graph(vec![info("x", F32, &["1"])], vec![call("x", "h"), call("h", "y")], &["y"]));
    m.opset_import.push(OperatorSetIdProto { domain: "local".into(), version: 1 });
    m.functions = vec![f];
    close(&run(&m, &[vector(&[3.0])])[0], &[12.0]);
}
