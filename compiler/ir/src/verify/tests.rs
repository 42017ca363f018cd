//! One test for each invariant: a program that breaks it, and what is said.

use super::*;
use crate::dtype::DType;
use crate::elementwise::{BinaryFn, UnaryFn};
use crate::kernel::Const;
use crate::tensor::Tensor;
use crate::weights::WeightId;

const LOC: Loc = Loc(Vec::new());

fn vector(dim: Dim) -> Type { Type::new(DType::F32, [dim]) }

fn scalar(dtype: DType) -> Type { Type::new(dtype, []) }

/// `neg(neg(x))`, and the two results.
fn chain() -> (Program, [ValueId; 2]) {
    let mut p = Program::default();
    let x = p.graph.add_input(BODY, vector(Dim::sym("N")), Some("x"));
    let a = p.graph.apply(BODY, UnaryFn::Neg, &[x], &Loc::node("first")).unwrap();
    let b = p.graph.apply(BODY, UnaryFn::Neg, &[a], &Loc::node("second")).unwrap();
    outputs(&mut p, &[b]);
    (p, [a, b])
}

fn outputs(p: &mut Program, values: &[ValueId]) {
    p.graph.region_mut(BODY).outputs = values.to_vec();
    p.graph.output_names = values.iter().map(|v| format!("out{}", v.0).into()).collect();
}

/// A loop that adds its input to itself, with its body and what it binds.
fn looping(count: &str) -> (Program, NodeId, RegionId) {
    let mut p = Program::default();
    let trips = p.graph.add_input(BODY, scalar(DType::I64), None);
    let x = p.graph.add_input(BODY, vector(Dim::sym("N")), None);
    let body = p.graph.add_region();
    p.graph.add_input(body, scalar(DType::I64), None);
    let carried = p.graph.add_input(body, vector(Dim::sym("N")), None);
    let sum = p.graph.apply(body, BinaryFn::Add, &[carried, x], &LOC).unwrap();
    p.graph.region_mut(body).outputs = vec![sum, sum];
    let op = ops::Loop { trips: true, cond: false, carried: 1, count: vec![count.into()] };
    let types = vec![vector(Dim::sym("N")), Type::new(DType::F32, [Dim::sym(count), Dim::sym("N")])];
    let node = p.graph.add_typed(BODY, op.into(), &[trips, x], vec![body], types, &LOC);
    let results = p.graph.node(node).outputs.clone();
    outputs(&mut p, &results);
    (p, node, body)
}

#[track_caller]
fn check(p: &Program, invariant: &str, message: &str) {
    let errors = verify(p).expect_err("the program breaks an invariant");
    let found = errors.iter().any(|e| e.invariant == invariant && e.to_string().contains(message));
    assert!(found, "no {invariant}: {message} in {errors:?}");
}

#[test]
fn good_programs_pass() {
    assert_eq!(verify(&chain().0), Ok(()));
    assert_eq!(verify(&looping("k").0), Ok(()));
}

#[test]
fn g1_operands_are_defined_before_use() {
    let (mut p, _) = chain();
    p.graph.region_mut(BODY).nodes.reverse();
    check(&p, "G1", "value 1 is used but is not defined before it, in node `second`");
}

#[test]
fn g1_operands_are_in_scope() {
    let (mut p, _, body) = looping("k");
    let inner = p.graph.region(body).outputs[0];
    outputs(&mut p, &[inner]);
    check(&p, "G1", "is not defined before it");
}

#[test]
fn g1_removed_nodes_are_not_used() {
    let (mut p, _) = chain();
    p.graph.region_mut(BODY).nodes.remove(0);
    check(&p, "G1", "value 1 is used but was removed");
}

#[test]
fn g2_values_are_defined_once() {
    let (mut p, [a, b]) = chain();
    let Def::Node(second, _) = p.graph.value(b).def else { panic!("a node defines it") };
    p.graph.node_mut(second).outputs = vec![a];
    check(&p, "G2", "value 1 is defined twice, in node `second`");
}

#[test]
fn g2_values_know_what_defines_them() {
    let (mut p, [a, b]) = chain();
    p.graph.value_mut(b).def = p.graph.value(a).def;
    check(&p, "G2", "value 2 says");
}

#[test]
fn g3_nodes_are_listed_once() {
    let (mut p, _) = chain();
    let first = p.graph.region(BODY).nodes[0];
    p.graph.region_mut(BODY).nodes.push(first);
    check(&p, "G3", "node 0 is listed twice");
}

#[test]
fn g3_regions_belong_to_one_node() {
    let (mut p, node, _) = looping("k");
    p.graph.node_mut(node).regions.push(BODY);
    check(&p, "G3", "region 0 belongs to two nodes");
}

#[test]
fn g4_regions_are_as_many_as_the_op_needs() {
    let (mut p, node, _) = looping("k");
    p.graph.node_mut(node).regions.clear();
    check(&p, "G4", "`loop` has 0 regions, 1 are needed");
}

#[test]
fn g5_types_are_inferred() {
    let (mut p, [_, b]) = chain();
    p.graph.value_mut(b).ty = vector(Dim::from(3i64));
    check(&p, "G5", "`neg` gives f32[N], its results are f32[3]");
}

#[test]
fn g5_regions_fit_their_node() {
    let (mut p, _, body) = looping("k");
    p.graph.region_mut(body).outputs.remove(0);
    check(&p, "G5", "`loop` gives");
    p.graph.region_mut(body).outputs.clear();
    check(&p, "G5", "`loop`: the region gives nothing");
}

#[test]
fn g6_symbols_are_bound_before_use() {
    let (mut p, _) = chain();
    let iota = ops::Iota { n: vec![Dim::sym("M")], dtype: DType::I64 };
    p.graph.add(BODY, iota, &[], &Loc::node("count")).unwrap();
    check(&p, "G6", "symbol `M` in attribute `n` is not bound before it, in node `count`");
    check(&p, "G6", "symbol `M` in type i64[M]");
}

#[test]
fn g6_symbols_have_a_scope() {
    let (mut p, _, body) = looping("k");
    let trip = p.graph.region(body).inputs[0];
    let sizes = p.graph.apply(body, ops::Reshape { shape: vec![Dim::ONE] }, &[trip], &LOC).unwrap();
    p.graph.add(body, ops::Bind { symbols: vec!["s".into()] }, &[sizes], &LOC).unwrap();
    assert_eq!(verify(&p), Ok(()));
    p.graph.add(BODY, ops::Iota { n: vec![Dim::sym("s")], dtype: DType::I64 }, &[], &LOC).unwrap();
    check(&p, "G6", "symbol `s` in attribute `n`");
}

#[test]
fn g6_symbols_are_bound_once() {
    check(&looping("N").0, "G6", "symbol `N` is bound twice");
}

#[test]
fn g7_constants_are_small() {
    let (mut p, _) = chain();
    let mut constant = ops::Constant::new(&Tensor::filled(vec![8], Const::f32(1.0)));
    let value = p.graph.apply(BODY, constant.clone(), &[], &LOC).unwrap();
    assert_eq!(verify(&p), Ok(()));
    constant.bits.push(0);
    let Def::Node(node, _) = p.graph.value(value).def else { panic!("a node defines it") };
    p.graph.node_mut(node).op = constant.into();
    check(&p, "G7", "a constant has 9 elements, the limit is 8");
}

#[test]
fn g8_weights_are_in_the_store() {
    let (mut p, _) = chain();
    let weight = ops::Weight { id: WeightId(0), dtype: DType::F32, shape: vec![2] };
    p.graph.add(BODY, weight, &[], &Loc::node("w")).unwrap();
    check(&p, "G8", "there is no weight 0, in node `w`");
    p.weights.add("w", Tensor::from_f32(vec![3], &[1.0, 2.0, 3.0]));
    check(&p, "G8", "weight 0 is f32[3], not f32[2]");
}

#[test]
fn g9_outputs_have_names() {
    let (mut p, _) = chain();
    p.graph.output_names.clear();
    check(&p, "G9", "0 names for 1 outputs");
}

#[test]
fn g10_ids_are_in_range() {
    let (mut p, _) = chain();
    p.graph.region_mut(BODY).outputs.push(ValueId(99));
    check(&p, "G10", "there is no value 99");
    p.graph.region_mut(BODY).nodes.push(NodeId(99));
    check(&p, "G10", "there is no node 99");
}
