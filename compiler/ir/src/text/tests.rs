//! Round trips and errors of the text form.

use proptest::prelude::*;

use super::*;
use crate::dtype::DType;
use crate::graph::{BODY, Constraint, Loc, Program};
use crate::random::{self, Options};
use crate::tensor::Tensor;
use crate::types::Type;

/// Every construct, printed as it is written here.
const EXAMPLE: &str = r#"graph @mlp(%x: f32[N, 128], %0 "data:0": f32[N, 128], %c: bool[]) -> (%y, %"odd name", %"2") {
  range N 1..64
  constraint N <= 32 "batch of \"MatMul_0\""
  constraint 2*N == max(4, M) "why not"
  %1 = weight @fc.weight : f32[128, 10]
  %2 = weight @"conv/w" : f32[10]
  %h = matmul %x, %1 {trans_a = false, trans_b = false, out = f32} : f32[N, 10]  // MatMul_0
  %3 = add %h, %2 : f32[N, 10]  // Add_1, /layer/Relu, "a, b"
  %4, %5 = top_k %3 {k = [3], axis = 1, largest = true} : f32[N, 3], i64[N, 3]
  %6 = if %c {symbols = [s3]} : f32[s3, 3] {  // If_7
    yield %4
  } {
    %7 = concat %4, %4 {axis = 0} : f32[2*N, 3]
    yield %7
  }
  %8 = constant {dtype = i64, shape = [], bits = [-1]} : i64[]
  %9, %10 = loop %8, %4 {trips = true, cond = false, carried = 1, count = [n]} : f32[N, 3], f32[n, N, 3] (%11: i64[], %12: f32[N, 3]) {
    %13 = neg %12 : f32[N, 3]
    yield %13, %12
  }
  %14 = dims {dims = [N, -2*N + 1], scalar = false} : i64[2]
  bind %14 {symbols = [a, b]}
  yield %6, %9, %10
}
"#;

#[test]
fn prints_what_it_read() {
    let program = parse(EXAMPLE).unwrap();
    assert_eq!(print(&program), EXAMPLE);
}

#[test]
fn fresh_symbols_avoid_those_of_the_text() {
    let mut program = parse(EXAMPLE).unwrap();
    assert_eq!(&*program.graph.fresh_symbol(), "s4");
}

#[test]
fn names_that_cannot_be_written_become_numbers() {
    let mut p = Program::default();
    let loc = Loc(vec!["".into(), "a\nb".into(), "\"".into()]);
    let one = || Type::new(DType::F32, []);
    let a = p.graph.add_input(BODY, one(), Some("x"));
    let b = p.graph.add_input(BODY, one(), Some("x"));
    let c = p.graph.add_input(BODY, one(), Some("0"));
    let d = p.graph.apply(BODY, crate::ops::Op::Binary(crate::elementwise::BinaryFn::Add), &[a, b], &loc).unwrap();
    p.graph.value_mut(d).name = Some("/add/out".into());
    p.graph.region_mut(BODY).outputs = vec![d, c];
    p.graph.output_names = vec!["".into(), "0".into()];
    p.graph.constraints.push(Constraint { left: 1.into(), right: (-1).into(), equal: false, why: "\t".into() });
    let text = print(&p);
    assert_eq!(difference(&p, &parse(&text).unwrap()), None, "{text}");
}

#[test]
fn weights_come_from_the_caller() {
    let text = "graph @g() -> (%y) {\n  %w = weight @\"a/b\" : f32[2]\n  yield %w\n}\n";
    let data = Tensor::from_f32(vec![2], &[1.0, 2.0]);
    let program = parse_with(text, &mut |name, ty| (name == "a/b" && *ty == data.ty()).then(|| data.clone())).unwrap();
    assert_eq!(program.weights.iter().next().unwrap().1.tensor, data);
    let refused = parse_with(text, &mut |_, _| None).unwrap_err();
    assert_eq!(refused.to_string(), "line 2: there is no weight `a/b` of type f32[2]");
    let made_up = |p: &Program| p.weights.iter().next().unwrap().1.tensor.clone();
    assert_eq!(made_up(&parse(text).unwrap()), made_up(&parse(text).unwrap()));
}

#[test]
fn errors_name_line_and_reason() {
    let check = |body: &str, expected: &str| {
        let text = format!("graph @g(%x: f32[N, 3]) -> (%y) {{\n{body}\n  yield %y\n}}");
        assert_eq!(parse(&text).unwrap_err().to_string(), expected, "{body}");
    };
    check("%y = neg %z : f32[N, 3]", "line 2: `%z` is not defined");
    check("%y = neg %x : f32[N, 4]", "line 2: neg gives f32[N, 3], the text says f32[N, 4]");
    check("%y = negg %x : f32[N, 3]", "line 2: no op is called `negg`");
    check("%y = neg %x, %x : f32[N, 3]", "line 2: neg: takes 1 operands, not 2");
    check("%y = transpose %x : f32[3, N]", "line 2: attribute `perm` is missing");
    check("%y = neg %x {a = 1} : f32[3, N]", "line 2: neg has no attribute `a`");
    check("%x = neg %x : f32[N, 3]", "line 2: `%x` is defined twice");
    check("%y, %z = neg %x : f32[N, 3], f32[N, 3]", "line 2: neg gives f32[N, 3], the text says f32[N, 3], f32[N, 3]");
    check("%y = neg %x : g32[3, N]", "line 2: no element type is called `g32`");
    check("%y = neg %x : f32[3, f(N)]", "line 2: no function of dims is called `f`");
}

#[test]
fn attribute_lists_keep_their_kinds() {
    let text = "graph @g(%x: f32[]) -> () {\n  %a = dims {dims = [1, N, 2*N], scalar = false} : i64[3]\n  %b = dims \
                {dims = [\"min\", M], scalar = false} : i64[2]\n  %d = dims {dims = [], scalar = false} : i64[0]\n  yield\n}\n";
    let program = parse(text).unwrap();
    assert_eq!(difference(&program, &parse(&print(&program)).unwrap()), None);
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = format!("f32[{}N{}]", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(parse_type(&deep).unwrap_err().message, "the dim is nested too deep");
}

#[test]
fn dims_round_trip() {
    for text in ["N", "2*N*M - 3", "-N - 9223372036854775808", "floordiv(N + 1, 2)", "mod(N, M)", "max(0, min(4, N) - 2)"] {
        let dim = parse_dim(text).unwrap();
        assert_eq!(parse_dim(&dim.to_string()), Ok(dim.clone()), "{text} reads as {dim}");
    }
    assert_eq!(parse_dim("N - 2*(M - 1)").unwrap().to_string(), parse_dim("2 + N - M*2").unwrap().to_string());
}

proptest! {
    #[test]
    fn random_programs_round_trip(seed: u64, steps in 1usize..25) {
        let program = random::program(seed, &Options { steps, ..Options::default() });
        let text = print(&program);
        let back = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(difference(&program, &back), None, "{}", text);
        prop_assert_eq!(print(&back), text);
    }

    #[test]
    fn garbage_is_an_error(text in "(graph|@g|%x|[a-z]{1,4}|[0-9.]{1,3}|[-(){}<>=,:\"\n/ ]|if|yield|f32\\[N\\]){0,40}") {
        _ = parse(&text);
    }
}
