//! Tests of the interpreter: symbols, control flow, limits.

use super::*;
use crate::dtype::DType;
use crate::elementwise::{BinaryFn, UnaryFn};
use crate::kernel::Pred;

const LOC: Loc = Loc(Vec::new());

fn n() -> Dim { Dim::sym("N") }

fn f32s(x: &[f32]) -> Tensor { Tensor::from_f32(vec![x.len()], x) }

fn vector(dim: Dim) -> Type { Type::new(DType::F32, [dim]) }

fn program(build: impl FnOnce(&mut Program) -> Vec<ValueId>) -> Program {
    let mut p = Program::default();
    let outputs = build(&mut p);
    p.graph.region_mut(BODY).outputs = outputs;
    p
}

fn constant(p: &mut Program, region: RegionId, t: Tensor) -> ValueId {
    p.graph.add_constant(&mut p.weights, region, "c", t, &LOC)
}

fn run_all(p: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> { run(p, inputs, Options::default()) }

/// `x` is doubled `trips` times, every intermediate value is a scan output.
fn doubling() -> Program {
    program(|p| {
        let trips = p.graph.add_input(BODY, Type::new(DType::I64, []), Some("trips"));
        let x = p.graph.add_input(BODY, vector(n()), Some("x"));
        let body = p.graph.add_region();
        p.graph.add_input(body, Type::new(DType::I64, []), None);
        let carried = p.graph.add_input(body, vector(n()), None);
        let sum = p.graph.apply(body, BinaryFn::Add, &[carried, carried], &LOC).unwrap();
        p.graph.region_mut(body).outputs = vec![sum, carried];
        let op = ops::Loop { trips: true, cond: false, carried: 1, count: vec!["k".into()] };
        let types = vec![vector(n()), Type::new(DType::F32, [Dim::sym("k"), n()])];
        let node = p.graph.add_typed(BODY, op.into(), &[trips, x], vec![body], types, &Loc::node("loop"));
        p.graph.node(node).outputs.clone()
    })
}

#[test]
fn symbols_come_from_input_shapes() {
    let p = program(|p| {
        let a = p.graph.add_input(BODY, vector(n()), Some("a"));
        let b = p.graph.add_input(BODY, vector(n()), Some("b"));
        vec![p.graph.apply(BODY, BinaryFn::Add, &[a, b], &LOC).unwrap()]
    });
    assert_eq!(run_all(&p, &[f32s(&[1.0, 2.0]), f32s(&[3.0, 4.0])]).unwrap(), [f32s(&[4.0, 6.0])]);
    let error = run_all(&p, &[f32s(&[1.0, 2.0]), f32s(&[3.0])]).unwrap_err();
    assert_eq!(error.kind, RunErrorKind::Input);
    assert_eq!(error.message, "axis 0 of input `b` has size 1, but `N` is 2 elsewhere");
    let error = run_all(&p, &[f32s(&[1.0])]).unwrap_err();
    assert_eq!(error.message, "2 inputs are needed, 1 are given");
    let error = run_all(&p, &[f32s(&[1.0]), Tensor::from_i64(vec![1], &[1])]).unwrap_err();
    assert_eq!(error.message, "input `b` has elements of type i64, not f32");
}

#[test]
fn ranges_and_constraints_are_checked() {
    let mut p = program(|p| vec![p.graph.add_input(BODY, vector(n()), Some("a"))]);
    p.graph.ranges.push(("N".into(), 1, 4));
    assert_eq!(run_all(&p, &[f32s(&[0.0; 5])]).unwrap_err().message, "`N` is 5, outside of 1..=4");
    let why = "node `add` broadcasts".to_string();
    p.graph.constraints.push(Constraint { left: n(), right: Dim::from(3i64), equal: true, why });
    assert!(run_all(&p, &[f32s(&[0.0; 3])]).is_ok());
    let error = run_all(&p, &[f32s(&[0.0; 2])]).unwrap_err();
    assert_eq!(error.kind, RunErrorKind::Constraint);
    assert_eq!(error.message, "node `add` broadcasts: `N == 3` is 2 == 3");
}

#[test]
fn loops_carry_scan_and_count() {
    let out = run_all(&doubling(), &[Tensor::scalar(Const::i64(3)), f32s(&[1.0, 5.0])]).unwrap();
    assert_eq!(out[0], f32s(&[8.0, 40.0]));
    assert_eq!(out[1], Tensor::from_f32(vec![3, 2], &[1.0, 5.0, 2.0, 10.0, 4.0, 20.0]));
}

#[test]
fn no_trips_scan_nothing() {
    let out = run_all(&doubling(), &[Tensor::scalar(Const::i64(0)), f32s(&[1.0])]).unwrap();
    assert_eq!(out, [f32s(&[1.0]), Tensor::from_f32(vec![0, 1], &[])]);
}

#[test]
fn fuel_ends_loops() {
    let options = Options { fuel: 5, ..Options::default() };
    let error = run(&doubling(), &[Tensor::scalar(Const::i64(6)), f32s(&[1.0])], options).unwrap_err();
    assert_eq!(error.kind, RunErrorKind::Limit);
    assert_eq!(error.to_string(), "node `loop`: the loop did not end: the limit on trips was reached after 5");
}

#[test]
fn memory_has_a_ceiling() {
    let inputs = [Tensor::scalar(Const::i64(3)), f32s(&[1.0; 100])];
    let with = |limit| run(&doubling(), &inputs, Options { memory: Some(limit), ..Options::default() });
    assert_eq!(with(1000).unwrap_err().kind, RunErrorKind::Limit);
    assert!(with(10_000).is_ok());
}

#[test]
fn values_are_freed_after_their_last_use() {
    // Each of a thousand values is used once: two are alive at a time.
    let p = program(|p| {
        let mut x = p.graph.add_input(BODY, vector(n()), Some("x"));
        for _ in 0..1000 {
            x = p.graph.apply(BODY, UnaryFn::Neg, &[x], &LOC).unwrap();
        }
        vec![x]
    });
    let options = Options { memory: Some(3 * 4), ..Options::default() };
    assert_eq!(run(&p, &[f32s(&[1.0])], options).unwrap(), [f32s(&[1.0])]);
}

#[test]
fn a_branch_binds_the_sizes_it_gives() {
    let p = program(|p| {
        let cond = p.graph.add_input(BODY, Type::new(DType::Bool, []), Some("cond"));
        let x = p.graph.add_input(BODY, vector(n()), Some("x"));
        let (then, els) = (p.graph.add_region(), p.graph.add_region());
        p.graph.region_mut(then).outputs = vec![x];
        let short = constant(p, els, f32s(&[7.0]));
        p.graph.region_mut(els).outputs = vec![short];
        let op = ops::If { symbols: vec!["s".into()] };
        let node = p.graph.add_typed(BODY, op.into(), &[cond], vec![then, els], vec![vector(Dim::sym("s"))], &LOC);
        let y = p.graph.node(node).outputs[0];
        let size = ops::Dims { dims: vec![Dim::sym("s")], scalar: true };
        vec![y, p.graph.apply(BODY, size, &[], &LOC).unwrap()]
    });
    let out = |c| run_all(&p, &[Tensor::scalar(Const::bool(c)), f32s(&[1.0, 2.0])]).unwrap();
    assert_eq!(out(true), [f32s(&[1.0, 2.0]), Tensor::scalar(Const::i64(2))]);
    assert_eq!(out(false), [f32s(&[7.0]), Tensor::scalar(Const::i64(1))]);
}

#[test]
fn data_becomes_sizes() {
    let p = program(|p| {
        let sizes = p.graph.add_input(BODY, Type::new(DType::I64, [Dim::ONE]), Some("sizes"));
        p.graph.add(BODY, ops::Bind { symbols: vec!["s".into()] }, &[sizes], &Loc::node("range")).unwrap();
        let op = ops::Iota { n: vec![Dim::sym("s")], dtype: DType::I64 };
        vec![p.graph.apply(BODY, op, &[], &LOC).unwrap()]
    });
    assert_eq!(run_all(&p, &[Tensor::from_i64(vec![1], &[3])]).unwrap()[0].to_i64(), [0, 1, 2]);
    let error = run_all(&p, &[Tensor::from_i64(vec![1], &[-3])]).unwrap_err();
    assert_eq!(error.to_string(), "node `range`: the size `s` is -3");
}

#[test]
fn non_zero_binds_its_count() {
    let p = program(|p| {
        let x = p.graph.add_input(BODY, vector(n()), Some("x"));
        let at = p.graph.apply(BODY, ops::NonZero { count: vec!["s".into()] }, &[x], &LOC).unwrap();
        let flat = ops::Reshape { shape: vec![Dim::sym("s")] };
        vec![p.graph.apply(BODY, flat, &[at], &LOC).unwrap()]
    });
    assert_eq!(run_all(&p, &[f32s(&[0.0, 2.0, 0.0, 3.0])]).unwrap()[0].to_i64(), [1, 3]);
}

#[test]
fn a_loop_ends_by_its_condition() {
    // Counts up while below 3; the constraint about the symbol bound in the body is checked anew on every trip.
    let mut p = program(|p| {
        let start = p.graph.add_input(BODY, Type::new(DType::I64, [Dim::ONE]), Some("start"));
        let yes = constant(p, BODY, Tensor::scalar(Const::bool(true)));
        let body = p.graph.add_region();
        p.graph.add_input(body, Type::new(DType::I64, []), None);
        let x = p.graph.add_input(body, Type::new(DType::I64, [Dim::ONE]), None);
        p.graph.add(body, ops::Bind { symbols: vec!["s".into()] }, &[x], &LOC).unwrap();
        let one = constant(p, body, Tensor::from_i64(vec![1], &[1]));
        let three = constant(p, body, Tensor::scalar(Const::i64(3)));
        let next = p.graph.apply(body, BinaryFn::Add, &[x, one], &LOC).unwrap();
        let scalar = p.graph.apply(body, ops::Reshape { shape: vec![] }, &[next], &LOC).unwrap();
        let go_on = p.graph.apply(body, Pred::Lt, &[scalar, three], &LOC).unwrap();
        p.graph.region_mut(body).outputs = vec![go_on, next];
        let op = ops::Loop { trips: false, cond: true, carried: 1, count: vec!["k".into()] };
        let types = vec![Type::new(DType::I64, [Dim::ONE])];
        let node = p.graph.add_typed(BODY, op.into(), &[yes, start], vec![body], types, &LOC);
        let count = p.graph.apply(BODY, ops::Dims { dims: vec![Dim::sym("k")], scalar: false }, &[], &LOC).unwrap();
        vec![p.graph.node(node).outputs[0], count]
    });
    let left = &Dim::sym("k") + &Dim::from(-2i64);
    p.graph.constraints.push(Constraint { left, right: Dim::sym("s"), equal: false, why: "test".into() });
    let out = run_all(&p, &[Tensor::from_i64(vec![1], &[0])]).unwrap();
    assert_eq!([out[0].to_i64(), out[1].to_i64()], [[3], [3]]);
}

#[test]
fn evaluation_errors_name_the_node() {
    let p = program(|p| {
        let x = p.graph.add_input(BODY, vector(n()), Some("x"));
        let k = Dim::from(5i64);
        let op = ops::TopK { k: vec![k], axis: 0, largest: true };
        let node = p.graph.add(BODY, op, &[x], &Loc::node("best")).unwrap();
        p.graph.node(node).outputs.clone()
    });
    let error = run_all(&p, &[f32s(&[1.0])]).unwrap_err();
    assert_eq!(error.to_string(), "node `best`: top_k: 5 elements of 1 on axis 0");
}

#[test]
fn wrong_types_are_internal_errors() {
    let mut p = program(|p| {
        let x = p.graph.add_input(BODY, vector(n()), Some("x"));
        vec![p.graph.apply(BODY, UnaryFn::Neg, &[x], &LOC).unwrap()]
    });
    let y = p.graph.outputs()[0];
    p.graph.value_mut(y).ty = vector(Dim::from(7i64));
    let error = run_all(&p, &[f32s(&[1.0])]).unwrap_err();
    assert_eq!(error.kind, RunErrorKind::Internal);
    assert_eq!(error.message, "a value of type f32[7] became f32[1]; this is a bug in xlac");
}

#[test]
fn the_observer_sees_every_value() {
    let p = doubling();
    let mut seen = Vec::new();
    let mut observer = |v: ValueId, t: &Tensor| seen.push((v, t.clone()));
    let options = Options { observer: Some(&mut observer), ..Options::default() };
    let out = run(&p, &[Tensor::scalar(Const::i64(2)), f32s(&[1.0])], options).unwrap();
    // Two inputs, three values a trip, two results.
    assert_eq!(seen.len(), 2 + 2 * 3 + 2);
    assert_eq!(seen.last(), Some(&(p.graph.outputs()[1], out[1].clone())));
}
