//! Each pass through text IR: what it must do, and what it must leave.

use std::time::{Duration, Instant};

use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::graph::{BODY, Loc, Program};
use xlac_ir::ops::{Constant, Op};
use xlac_ir::tensor::Tensor;
use xlac_ir::types::Type;
use xlac_ir::{DType, text};

use super::{difference, outputs, parse, run_passes};
use crate::{Numerics, Options, optimize};

/// Runs passes, holds the results equal, and gives the lines of the body without origins.
fn body(source: &str, passes: &[&str]) -> Vec<String> {
    let before = parse(source);
    let (after, _) = run_passes(&before, passes, Numerics::Exact);
    for seed in 1..4 {
        let (a, b) = (outputs(&before, &before, seed).unwrap(), outputs(&after, &before, seed).unwrap());
        assert_eq!(difference(&a, &b, None), None);
    }
    let shown = text::print(&after);
    let lines = shown.lines().map(|l| l.split("  //").next().unwrap_or_default().trim().to_string());
    lines.filter(|l| !l.is_empty() && l != "}").skip(1).collect()
}

#[test]
fn fold_evaluates_constants() {
    let source = "graph @g(%x: f32[2]) -> (%r) {
        %a = constant {dtype = f32, shape = [2], bits = [1065353216, 1073741824]} : f32[2]
        %b = neg %a : f32[2]
        %w = weight @w : f32[4, 4]
        %t = transpose %w {perm = [1, 0]} : f32[4, 4]
        %y = add %x, %b : f32[2]
        yield %y, %t
    }"
    .replace("(%r)", "(%r, %t)");
    let lines = body(&source, &["fold", "dce"]);
    assert_eq!(lines[0], "%b = constant {dtype = f32, shape = [2], bits = [3212836864, 3221225472]} : f32[2]");
    assert_eq!(lines[1], "%t = weight @w.transpose : f32[4, 4]");
}

#[test]
fn fold_does_not_blow_up() {
    let source = "graph @g() -> (%r) {
        %a = constant {dtype = f32, shape = [1], bits = [1065353216]} : f32[1]
        %y = broadcast %a {shape = [100000000]} : f32[100000000]
        yield %y
    }";
    let (after, _) = run_passes(&parse(source), &["fold"], Numerics::Exact);
    assert!(text::print(&after).contains("broadcast"));
}

#[test]
fn fold_leaves_errors_to_the_run() {
    let source = "graph @g() -> (%r) {
        %a = constant {dtype = f32, shape = [1], bits = [1065353216]} : f32[1]
        %i = constant {dtype = i64, shape = [], bits = [7]} : i64[]
        %y = gather %a, %i {axis = 0} : f32[]
        yield %y
    }";
    let (after, _) = run_passes(&parse(source), &["fold", "canonicalize"], Numerics::Exact);
    assert!(text::print(&after).contains("gather"));
}

#[test]
fn shapes_compute_with_dims() {
    let lines = body(
        "graph @g(%x: f32[N, 3]) -> (%r) {
            %s = dims {dims = [N, 3], scalar = false} : i64[2]
            %i = constant {dtype = i64, shape = [1], bits = [0]} : i64[1]
            %n = gather %s, %i {axis = 0} : i64[1]
            %two = constant {dtype = i64, shape = [], bits = [2]} : i64[]
            %d = mul %n, %two : i64[1]
            %h = div %d, %two : i64[1]
            %c = concat %h, %d, %two1 {axis = 0} : i64[3]
            yield %c
        }"
        .replace("%c = concat", "%two1 = reshape %two {shape = [1]} : i64[1]\n%c = concat")
        .as_str(),
        &["shapes", "dce"],
    );
    assert_eq!(lines, ["%c = dims {dims = [N, 2*N, 2], scalar = false} : i64[3]", "yield %c"]);
}

#[test]
fn bind_replaces_known_symbols() {
    let lines = body(
        "graph @g(%x: f32[N, 3]) -> (%r) {
            %n = dims {dims = [2*N], scalar = false} : i64[1]
            bind %n {symbols = [s0]}
            %i = iota {n = [s0], dtype = i64} : i64[s0]
            yield %i
        }",
        &["bind", "dce"],
    );
    assert_eq!(lines, ["%i = iota {n = [2*N], dtype = i64} : i64[2*N]", "yield %i"]);
}

#[test]
fn dce_keeps_what_binds_a_live_symbol() {
    let source = "graph @g(%n: i64[1], %m: i64[1]) -> (%r) {
        bind %n {symbols = [s0]}
        bind %m {symbols = [s1]}
        %i = iota {n = [s0], dtype = i64} : i64[s0]
        %d = iota {n = [s1], dtype = i64} : i64[s1]
        yield %i
    }";
    let (after, _) = run_passes(&parse(source), &["dce"], Numerics::Exact);
    let shown = text::print(&after);
    assert!(shown.contains("bind %n") && !shown.contains("bind %m") && !shown.contains("s1"), "{shown}");
}

#[test]
fn dce_releases_weights() {
    let source = "graph @g(%x: f32[9]) -> (%r) {
        %a = weight @a : f32[9]
        %b = weight @b : f32[9]
        %y = add %x, %a : f32[9]
        yield %y
    }";
    let (after, _) = run_passes(&parse(source), &["dce"], Numerics::Exact);
    let sizes: Vec<_> = after.weights.iter().map(|(_, w)| (w.name.to_string(), w.tensor.data.len())).collect();
    assert_eq!(sizes, [("a".to_string(), 36), ("b".to_string(), 0)]);
}

#[test]
fn cse_merges_within_sight_only() {
    let source = "graph @g(%c: bool[], %x: f32[2], %z: f32[2]) -> (%r) {
        %a = add %x, %z : f32[2]
        %i = if %c {symbols = []} : f32[2] {
          %b = add %z, %x : f32[2]
          %e = exp %b : f32[2]
          yield %e
        } {
          %f = exp %a : f32[2]
          yield %f
        }
        %s = exp %a : f32[2]
        %t = add %i, %s : f32[2]
        yield %t
    }";
    let lines = body(source, &["cse"]);
    // The inner sum is the outer one; the exponentials of the branches stay apart, and apart from the one after.
    assert_eq!(lines.iter().filter(|l| l.contains("add")).count(), 2, "{lines:#?}");
    assert_eq!(lines.iter().filter(|l| l.contains("exp")).count(), 3, "{lines:#?}");
}

#[test]
fn splat_finds_numbers_in_weights() {
    let mut program = parse(
        "graph @g(%x: f32[2, 9]) -> (%r) {
            %w = weight @ones : f32[9]
            %y = mul %x, %w : f32[2, 9]
            yield %y
        }",
    );
    let node = program.graph.live_nodes()[0];
    let ones = Tensor::filled(vec![9], xlac_ir::kernel::Const::f32(1.0));
    program.graph.node_mut(node).op = crate::edit::constant_op(&mut program.clone(), "ones", ones.clone());
    let id = program.weights.add("ones", ones);
    let Op::Weight(w) = &mut program.graph.node_mut(node).op else { panic!("nine elements are a weight") };
    w.id = id;
    let (after, _) = run_passes(&program, &["splat", "canonicalize"], Numerics::Exact);
    assert!(!text::print(&after).contains("mul"), "{}", text::print(&after));
}

#[test]
fn control_takes_the_decided_branch() {
    let lines = body(
        "graph @g(%x: f32[N, 3]) -> (%r) {
            %c = constant {dtype = bool, shape = [], bits = [1]} : bool[]
            %y = if %c {symbols = [s0]} : f32[s0, 3] {
              %d = concat %x, %x {axis = 0} : f32[2*N, 3]
              yield %d
            } {
              yield %x
            }
            %z = exp %y : f32[s0, 3]
            yield %z
        }",
        &["control", "dce"],
    );
    assert_eq!(lines[1], "%z = exp %d : f32[2*N, 3]", "{lines:#?}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn control_unrolls_no_trip_and_one() {
    for trips in [0, 1] {
        let source = format!(
            "graph @g(%x: f32[2]) -> (%r, %s) {{
                %n = constant {{dtype = i64, shape = [], bits = [{trips}]}} : i64[]
                %y, %s = loop %n, %x {{trips = true, cond = false, carried = 1, count = [t]}} : f32[2], f32[t, 2] (%k: i64[], %u: f32[2]) {{
                  %e = exp %u : f32[2]
                  yield %e, %u
                }}
                yield %y, %s
            }}"
        );
        let lines = body(&source, &["control", "dce"]);
        assert!(!lines.iter().any(|l| l.contains("loop")), "{lines:#?}");
        assert_eq!(lines.iter().any(|l| l.contains("exp")), trips == 1, "{lines:#?}");
    }
}

#[test]
fn fuel_stop_and_names() {
    let source = "graph @g(%x: f32[2]) -> (%r) {
        %a = neg %x : f32[2]
        %b = neg %a : f32[2]
        yield %b
    }";
    let mut program = parse(source);
    optimize(&mut program, &mut Options { fuel: Some(0), ..Options::default() }).unwrap();
    assert_eq!(program.graph.live_nodes().len(), 2, "nothing happens without fuel");
    let report =
        optimize(&mut program, &mut Options { stop_after: Some("canonicalize".into()), ..Options::default() }).unwrap();
    assert_eq!(report.passes.last().unwrap().pass, "canonicalize");
    assert_eq!(report.rules["canon/neg_neg"], 1);
    let unknown = Options { passes: Some(vec!["inline".into()]), ..Options::default() };
    assert_eq!(optimize(&mut program, &mut { unknown }).unwrap_err().code, "X0726");
}

#[test]
fn dumps_name_the_pass() {
    let mut program = parse("graph @g(%x: f32[2]) -> (%r) {\n%a = neg %x : f32[2]\n yield %a\n}");
    let mut seen = Vec::new();
    let mut dump = |pass: &str, text: &str| seen.push((pass.to_string(), text.to_string()));
    optimize(&mut program, &mut Options { dump: Some(&mut dump), ..Options::default() }).unwrap();
    assert_eq!(seen[0], ("dce".to_string(), "unchanged\n".to_string()));
}

/// A long chain with work for every pass; the bound is loose, a quadratic pass takes minutes.
#[test]
fn time_is_proportional_to_size() {
    let mut program = Program::default();
    let (g, loc) = (&mut program.graph, Loc::node("n"));
    let x = g.add_input(BODY, Type::fixed(DType::F32, &[2]), Some("x"));
    let mut at = x;
    for i in 0..20_000 {
        let c = g.apply(BODY, Constant::new(&Tensor::from_f32(vec![1], &[1.0])), &[], &loc).unwrap();
        let one = g.apply(BODY, Op::Binary(BinaryFn::Mul), &[at, c], &loc).unwrap();
        let same =
            g.apply(BODY, Op::Unary(if i % 2 == 0 { UnaryFn::Neg } else { UnaryFn::Sin }), &[one], &loc).unwrap();
        let twice = g.apply(BODY, Op::Unary(UnaryFn::Neg), &[same], &loc).unwrap();
        at = g.apply(BODY, Op::Binary(BinaryFn::Add), &[twice, x], &loc).unwrap();
    }
    g.region_mut(BODY).outputs = vec![at];
    g.output_names = vec!["y".into()];
    let start = Instant::now();
    let report = optimize(&mut program, &mut Options { verify: false, ..Options::default() }).unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "{:#?}", report.passes);
}

/// What is taken off bytes before they are scaled is a zero point if it is one of their size; sums of larger numbers would wrap
/// as integers.
#[test]
fn only_sums_that_fit_become_integers() {
    let becomes_integers = |offset: u32| {
        let source = format!(
            "graph @g(%x: u8[2, 4]) -> (%r) {{
                %z = constant {{dtype = i32, shape = [], bits = [{offset}]}} : i32[]
                %s = constant {{dtype = f32, shape = [], bits = [1036831949]}} : f32[]
                %w = constant {{dtype = f32, shape = [4, 2], bits = [1115553792, 1107165184, 3212836864, 1048576000, 1056964608, 3254648832, 0, 1065353216]}} : f32[4, 2]
                %i = cast %x {{to = i32}} : i32[2, 4]
                %o = add %i, %z : i32[2, 4]
                %c = cast %o {{to = f32}} : f32[2, 4]
                %d = mul %c, %s : f32[2, 4]
                %y = matmul %d, %w {{trans_a = false, trans_b = false, out = f32}} : f32[2, 2]
                yield %y
            }}"
        );
        let (after, _) = run_passes(&parse(&source), &["canonicalize"], Numerics::Fast);
        text::print(&after).contains("out = i32")
    };
    assert!(becomes_integers(0u32.wrapping_sub(7)));
    assert!(becomes_integers(255));
    assert!(!becomes_integers(256));
    assert!(!becomes_integers(100_000_000));
}
