//! Damaged and malicious models: each is refused with a code, quickly and without a panic.

mod common;

use common::*;
use prost::Message;
use xlac_onnx::proto::*;
use xlac_onnx::{CODES, ImportOptions, import_bytes, import_file};

fn relu() -> ModelProto { model(17, graph(vec![info("x", F32, &["2", "3"])], vec![node("Relu", &["x"], &["y"])], &["y"])) }

/// A model with one node over an input `x` of this shape and some initializers.
fn single(opset: i64, dims: &[&str], n: NodeProto, initializers: Vec<TensorProto>) -> ModelProto {
    let outputs: Vec<String> = n.output.clone();
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut g = graph(vec![info("x", F32, dims)], vec![n], &names);
    g.initializer = initializers;
    model(opset, g)
}

fn edit(f: impl FnOnce(&mut ModelProto)) -> ModelProto {
    let mut m = relu();
    f(&mut m);
    m
}

fn edit_graph(f: impl FnOnce(&mut GraphProto)) -> ModelProto { edit(|m| f(m.graph.as_mut().expect("has a graph"))) }

fn initializer(t: TensorProto) -> ModelProto { single(17, &["2"], node("Add", &["x", "w"], &["y"]), vec![t]) }

fn raw(data_type: i32, dims: &[i64], bytes: usize) -> TensorProto {
    TensorProto { name: "w".into(), dims: dims.to_vec(), data_type, raw_data: vec![0; bytes].into(), ..TensorProto::default() }
}

fn external(location: &str, offset: &str) -> TensorProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    TensorProto {
        data_location: 1,
        external_data: vec![entry("location", location), entry("offset", offset)],
        ..raw(F32, &[2], 0)
    }
}

fn nested(depth: usize) -> GraphProto {
    let inner = if depth == 0 { graph(vec![], vec![node("Abs", &["x"], &["d0"])], &["d0"]) } else { nested(depth - 1) };
    let name = format!("d{}", depth + 1);
    let choose = with(node("If", &["c"], &[&name]), vec![graph_attr("then_branch", inner.clone()), graph_attr("else_branch", graph(vec![], vec![node("Abs", &["x"], &["e"])], &["e"]))]);
    graph(vec![], vec![choose], &[&name])
}

fn functions(count: usize, recursive: bool) -> ModelProto {
    let call = |f: String, x: &str, y: &str| NodeProto { domain: "f".into(), ..node(&f, &[x], &[y]) };
    edit(|m| {
        m.opset_import.push(OperatorSetIdProto { domain: "f".into(), version: 1 });
        m.functions = (0..count)
            .map(|i| FunctionProto {
                name: format!("f{i}"),
                domain: "f".into(),
                input: vec!["a".into()],
                output: vec!["c".into()],
                node: match (i, recursive) {
                    (0, false) => vec![node("Abs", &["a"], &["c"])],
                    (0, true) => vec![call(format!("f{}", count - 1), "a", "c")],
                    _ => vec![call(format!("f{}", i - 1), "a", "b"), call(format!("f{}", i - 1), "b", "c")],
                },
                ..FunctionProto::default()
            })
            .collect();
        m.graph = Some(graph(vec![info("x", F32, &["2"])], vec![call(format!("f{}", count - 1), "x", "y")], &["y"]));
    })
}

/// Name, model, and the code it is refused with.
fn corpus() -> Vec<(&'static str, ModelProto, &'static str)> {
    let i64_axis = |v: &[i64]| i64s("s", &[v.len() as i64], v);
    vec![
        ("no graph", edit(|m| m.graph = None), "X0103"),
        ("ir version 999", edit(|m| m.ir_version = 999), "X0104"),
        ("ir version 0", edit(|m| m.ir_version = 0), "X0104"),
        ("no opset", edit(|m| m.opset_import.clear()), "X0105"),
        ("opset 9999", edit(|m| m.opset_import[0].version = 9999), "X0105"),
        ("opset -5", edit(|m| m.opset_import[0].version = -5), "X0105"),
        ("domain not imported", edit_graph(|g| g.node[0].domain = "somewhere".into()), "X0105"),
        ("no outputs", edit_graph(|g| g.output.clear()), "X0207"),
        ("empty output name", edit_graph(|g| g.output[0].name.clear()), "X0111"),
        ("undefined output", edit_graph(|g| g.output[0].name = "z".into()), "X0202"),
        ("undefined input", edit_graph(|g| g.node[0].input[0] = "z".into()), "X0202"),
        ("self loop", edit_graph(|g| g.node[0].input[0] = "y".into()), "X0201"),
        ("cycle", edit_graph(|g| g.node = vec![node("Abs", &["b"], &["a"]), node("Abs", &["a"], &["b"]), node("Abs", &["a"], &["y"])]), "X0201"),
        ("duplicate output", edit_graph(|g| g.node.push(node("Abs", &["x"], &["y"]))), "X0203"),
        ("duplicate input", edit_graph(|g| g.input.push(info("x", F32, &["2"]))), "X0203"),
        ("duplicate initializer", edit_graph(|g| g.initializer = vec![f32s("w", &[1], &[0.0]), f32s("w", &[1], &[1.0])]), "X0203"),
        ("extra node input", edit_graph(|g| g.node[0].input.push("x".into())), "X0204"),
        ("missing node input", edit_graph(|g| g.node[0].input.clear()), "X0204"),
        ("empty node input", edit_graph(|g| g.node[0].input[0].clear()), "X0204"),
        ("extra node output", edit_graph(|g| g.node[0].output.push("q".into())), "X0204"),
        ("unknown operator", edit_graph(|g| g.node[0].op_type = "Frobnicate".into()), "X0301"),
        ("sequence operator", edit_graph(|g| g.node[0].op_type = "SequenceAt".into()), "X0308"),
        ("unknown attribute", edit_graph(|g| g.node[0].attribute.push(int("speed", 3))), "X0302"),
        ("attribute twice", single(17, &["2"], with(node("LeakyRelu", &["x"], &["y"]), vec![float("alpha", 0.1), float("alpha", 0.2)]), vec![]), "X0209"),
        ("attribute type", single(17, &["2"], with(node("LeakyRelu", &["x"], &["y"]), vec![int("alpha", 1)]), vec![]), "X0303"),
        ("missing attribute", single(17, &["2"], node("Concat", &["x"], &["y"]), vec![]), "X0307"),
        ("operator too new", single(11, &["2"], node("Gelu", &["x"], &["y"]), vec![]), "X0306"),
        ("input without type", edit_graph(|g| g.input[0].r#type = None), "X0409"),
        ("string input", edit_graph(|g| g.input[0] = info("x", 8, &["2"])), "X0305"),
        ("dtype 77", edit_graph(|g| g.input[0] = info("x", 77, &["2"])), "X0305"),
        ("dim -7", edit_graph(|g| g.input[0] = info("x", F32, &["-7"])), "X0406"),
        ("dims that wrap", edit_graph(|g| g.input[0] = info("x", F32, &["4294967296", "4294967296"])), "X0603"),
        ("short raw data", initializer(raw(F32, &[2], 7)), "X0107"),
        ("long raw data", initializer(raw(F32, &[2], 9)), "X0107"),
        ("no data", initializer(raw(F32, &[2], 0)), "X0107"),
        ("negative tensor dim", initializer(raw(F32, &[-2], 8)), "X0406"),
        ("tensor dims that wrap", initializer(raw(F32, &[1 << 32, 1 << 32], 0)), "X0406"),
        ("huge tensor", initializer(raw(F32, &[1 << 40], 0)), "X0603"),
        ("two payloads", initializer(TensorProto { float_data: vec![0.0; 2], ..raw(F32, &[2], 8) }), "X0108"),
        ("wrong field", initializer(TensorProto { int64_data: vec![0; 2], ..raw(F32, &[2], 0) }), "X0108"),
        ("segment", initializer(TensorProto { segment: Some(tensor_proto::Segment::default()), ..raw(F32, &[2], 8) }), "X0108"),
        ("int8 of 300", single(17, &["2"], node("Identity", &["w"], &["y"]), vec![TensorProto { int32_data: vec![300], ..raw(3, &[1], 0) }]), "X0109"),
        ("external without folder", initializer(external("w.bin", "0")), "X0501"),
        ("sparse out of range", edit_graph(|g| {
            g.node[0].input[0] = "v".into();
            g.sparse_initializer = vec![SparseTensorProto { values: Some(f32s("v", &[1], &[1.0])), indices: Some(i64s("", &[1], &[9])), dims: vec![4] }];
        }), "X0110"),
        ("deep nesting", edit_graph(|g| { let deep = nested(20); g.node.push(deep.node[0].clone()); g.input.push(info("c", BOOL, &[])); }), ""),
        ("recursive functions", functions(3, true), "X0208"),
        ("exponential functions", functions(40, false), "X0601"),
        ("reshape to 7 of 6", single(17, &["2", "3"], node("Reshape", &["x", "s"], &["y"]), vec![i64_axis(&[7])]), "X0403"),
        ("reshape with two -1", single(17, &["2", "3"], node("Reshape", &["x", "s"], &["y"]), vec![i64_axis(&[-1, -1])]), "X0401"),
        ("axis 99", single(17, &["2"], with(node("Softmax", &["x"], &["y"]), vec![int("axis", 99)]), vec![]), "X0402"),
        ("slice step 0", single(17, &["2"], node("Slice", &["x", "s", "s", "s", "s"], &["y"]), vec![i64_axis(&[0])]), "X0407"),
        ("tile by -1", single(17, &["2"], node("Tile", &["x", "s"], &["y"]), vec![i64_axis(&[-1])]), "X0401"),
        ("tile by 2^60", single(17, &["2"], node("Tile", &["x", "s"], &["y"]), vec![i64_axis(&[1 << 60])]), "X0603"),
        ("expand to 2^40", single(17, &["1"], node("Expand", &["x", "s"], &["y"]), vec![i64_axis(&[1 << 40])]), "X0603"),
        ("constant of shape -3", single(17, &["1"], node("ConstantOfShape", &["s"], &["y"]), vec![i64_axis(&[-3])]), "X0401"),
        ("constant of shape 2^40", single(17, &["1"], node("ConstantOfShape", &["s"], &["y"]), vec![i64_axis(&[1 << 40])]), "X0603"),
        ("pool of kernel 0", single(17, &["1", "1", "4"], with(node("MaxPool", &["x"], &["y"]), vec![ints("kernel_shape", &[0])]), vec![]), "X0407"),
        ("pool of stride 0", single(17, &["1", "1", "4"], with(node("MaxPool", &["x"], &["y"]), vec![ints("kernel_shape", &[2]), ints("strides", &[0])]), vec![]), "X0407"),
        ("conv of group 0", single(17, &["1", "1", "4"], with(node("Conv", &["x", "w"], &["y"]), vec![int("group", 0)]), vec![f32s("w", &[1, 1, 1], &[1.0])]), "X0407"),
        ("conv channels", single(17, &["1", "3", "4"], node("Conv", &["x", "w"], &["y"]), vec![f32s("w", &[1, 2, 1], &[1.0, 1.0])]), "X0403"),
        ("block size 0", single(17, &["1", "4", "1", "1"], with(node("DepthToSpace", &["x"], &["y"]), vec![int("blocksize", 0)]), vec![]), "X0407"),
        ("range step 0", edit_graph(|g| {
            g.node[0] = node("Range", &["a", "b", "a"], &["y"]);
            g.initializer = vec![i64s("a", &[], &[0]), i64s("b", &[], &[5])];
        }), "X0407"),
        ("matmul sizes", single(17, &["2", "3"], node("MatMul", &["x", "x"], &["y"]), vec![]), "X0403"),
        ("add of 2 and 3", single(17, &["2"], node("Add", &["x", "w"], &["y"]), vec![f32s("w", &[3], &[0.0; 3])]), "X0403"),
        ("types", single(17, &["2"], node("Add", &["x", "s"], &["y"]), vec![i64_axis(&[1, 2])]), "X0401"),
        ("branch mismatch", edit_graph(|g| {
            let one = graph(vec![], vec![node("Abs", &["x"], &["p"])], &["p"]);
            let none = graph(vec![], vec![], &[]);
            g.node[0] = with(node("If", &["c"], &["y"]), vec![graph_attr("then_branch", one), graph_attr("else_branch", none)]);
            g.input.push(info("c", BOOL, &[]));
        }), "X0405"),
    ]
}

#[test]
fn damaged_models_are_refused_with_codes() {
    for (name, model, expected) in corpus() {
        let found = codes(&model);
        assert!(found.iter().all(|c| CODES.iter().any(|(known, ..)| known == c)), "{name}: unknown code in {found:?}");
        if expected.is_empty() {
            assert!(found.is_empty(), "{name}: refused with {found:?}");
        } else {
            assert!(found.contains(&expected), "{name}: {found:?} does not hold {expected}");
        }
    }
}

#[test]
fn cut_and_changed_bytes_never_panic() {
    let bytes = single(17, &["2", "3"], node("Reshape", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[3, 2])]).encode_to_vec();
    let options = ImportOptions::default();
    for end in 0..bytes.len() {
        _ = import_bytes(bytes[..end].to_vec().into(), None, &options);
    }
    for at in 0..bytes.len() {
        for mask in [0x01, 0x08, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            _ = import_bytes(changed.into(), None, &options);
        }
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let options = ImportOptions::default();
    for bytes in [&b""[..], b"<html>not a model</html>", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"PK\x03\x04 archive"] {
        let errors = import_bytes(bytes.to_vec().into(), None, &options).expect_err("is no model");
        assert!(["X0102", "X0103", "X0104"].contains(&errors[0].code), "{errors:?}");
    }
    assert_eq!(import_file("/nowhere/model.onnx", &options).expect_err("is missing")[0].code, "X0101");
    assert_eq!(import_file("/", &options).expect_err("is a folder")[0].code, "X0101");
}

#[test]
fn external_data_stays_beneath_the_folder() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("external");
    std::fs::create_dir_all(folder.join("inner")).expect("folder can be made");
    std::fs::write(folder.join("secret.bin"), [0u8; 64]).expect("file can be written");
    std::fs::write(folder.join("inner/w.bin"), [0u8; 12]).expect("file can be written");
    #[cfg(unix)]
    let _ = std::os::unix::fs::symlink("../secret.bin", folder.join("inner/link.bin"));
    let try_one = |location: &str, offset: &str| {
        let bytes = initializer(external(location, offset)).encode_to_vec();
        match import_bytes(bytes.into(), Some(&folder.join("inner")), &ImportOptions::default()) {
            Ok(_) => "",
            Err(errors) => errors[0].code,
        }
    };
    assert_eq!(try_one("w.bin", "0"), "");
    assert_eq!(try_one("w.bin", "4"), "");
    assert_eq!(try_one("w.bin", "8"), "X0504");
    assert_eq!(try_one("w.bin", "18446744073709551615"), "X0504");
    assert_eq!(try_one("w.bin", "-1"), "X0505");
    assert_eq!(try_one("", "0"), "X0505");
    assert_eq!(try_one("../secret.bin", "0"), "X0502");
    assert_eq!(try_one("a/../../secret.bin", "0"), "X0502");
    assert_eq!(try_one("/etc/passwd", "0"), "X0502");
    assert_eq!(try_one("missing.bin", "0"), "X0503");
    assert_eq!(try_one(".", "0"), "X0503");
    #[cfg(unix)]
    assert_eq!(try_one("link.bin", "0"), "X0502");
}
