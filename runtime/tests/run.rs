//! Runs small plans: dynamic shapes, control flow, data-dependent sizes, limits, errors.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use xlac_runtime::plan::*;
use xlac_runtime::{Model, Session, SessionOptions, Tensor, TensorMut, TensorRef};

fn session(model: &Model, threads: usize) -> Session {
    Session::with_options(model, SessionOptions { threads: Some(threads), ..SessionOptions::default() })
}

fn code<T>(result: xlac_runtime::Result<T>) -> &'static str {
    result.err().map_or("ok", |error| error.code())
}

#[test]
fn shapes_change_from_run_to_run_on_any_number_of_threads() {
    let model = add_twice().model(&[]).unwrap();
    for threads in [1, 2, 3] {
        let mut session = session(&model, threads);
        for n in [5, 1000, 0, 1, 17, 1000, 4096] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let b = vec![0.5f32; n];
            let shape = [n];
            let inputs = [&a, &b].map(|x| TensorRef::from_slice(&shape, x).unwrap());
            let expected: Vec<f32> = a.iter().map(|a| a + 1.0).collect();
            let outputs = session.run(&inputs).unwrap();
            assert_eq!(outputs[0].as_slice::<f32>().unwrap(), expected);
            let mut result = vec![0f32; n];
            session.run_into(&inputs, &mut [TensorMut::from_slice(&shape, &mut result).unwrap()]).unwrap();
            assert_eq!(result, expected);
        }
        assert!(session.memory_bytes() >= 64 + 4096 * 4);
    }
}

#[test]
fn a_model_tells_about_itself() {
    let model = add_twice().model(&[]).unwrap();
    assert_eq!(model.inputs()[1].shape, ["N"]);
    assert_eq!(model.outputs()[0].name, "y");
    assert_eq!(model.memory_formula(), "64 + N*4");
    // 100 bytes of scratch take 128: workers do not share cache lines.
    assert_eq!(model.peak_bytes(&[&[100], &[100]]).unwrap(), 464 + 128);
    assert_eq!(model.output_shapes(&[&[7], &[7]]).unwrap(), [[Some(7)]]);
    let model = nonzero_gather().model(&[]).unwrap();
    assert_eq!(model.output_shapes(&[&[7]]).unwrap(), [vec![Some(1), None], vec![None]]);
}

#[test]
fn wrong_calls_are_told_apart() {
    let model = add_twice().model(&[]).unwrap();
    let mut session = session(&model, 1);
    let (four, five, ints) = ([1f32; 4], [1f32; 5], [1i32; 4]);
    let four = TensorRef::from_slice(&[4], &four).unwrap();
    let five = TensorRef::from_slice(&[5], &five).unwrap();
    let ints = TensorRef::from_slice(&[4], &ints).unwrap();
    let square = TensorRef::new(DType::F32, &[2, 2], four.bytes()).unwrap();
    assert_eq!(code(session.run(&[four])), "R0101");
    assert_eq!(code(session.run(&[four, ints])), "R0103");
    assert_eq!(code(session.run(&[four, square])), "R0104");
    let error = session.run(&[four, five]).unwrap_err();
    assert_eq!(error.to_string(), "input `b` has shape [5], expected [N]: axis 0 must be 4");
    assert_eq!(code(session.run_named(&[("a", four), ("c", four)])), "R0102");
    assert_eq!(code(session.run_named(&[("a", four), ("a", four)])), "R0102");
    assert_eq!(code(session.run_named(&[("a", four)])), "R0102");
    assert_eq!(session.run_named(&[("b", four), ("a", four)]).unwrap()[0].as_slice::<f32>().unwrap(), [3.0; 4]);
    let mut short = [0f32; 3];
    let mut output = [TensorMut::from_slice(&[3], &mut short).unwrap()];
    assert_eq!(code(session.run_into(&[four, four], &mut output)), "R0104");
    assert_eq!(code(session.run_into(&[four, four], &mut [])), "R0101");
    let bytes = Tensor::zeros(DType::F32, &[(1 << 20) + 1]).unwrap();
    assert_eq!(code(session.run(&[bytes.view(), bytes.view()])), "R0106");
    // After all that, a good call still works.
    assert_eq!(code(session.run(&[four, four])), "ok");
}

#[test]
fn constraints_are_checked_with_their_reason() {
    let mut b = add_twice();
    let (n, most) = (b.plan.inputs[0].shape[0], b.int(10));
    let why = "`N` is at most 10 because node `x` was unrolled".to_string();
    b.plan.constraints.push(Constraint { left: n, right: most, relation: Relation::AtMost, why });
    let model = b.model(&[]).unwrap();
    assert!(model.peak_bytes(&[&[10], &[10]]).is_ok());
    let error = model.peak_bytes(&[&[11], &[11]]).unwrap_err();
    assert_eq!(error.to_string(), "`N` is at most 10 because node `x` was unrolled (found 11 and 10)");
}

fn run_loop(session: &mut Session, trips: i64) -> (i64, Vec<i64>) {
    let outputs = session.run(&[TensorRef::from_slice(&[], &[trips]).unwrap()]).unwrap();
    (outputs[0].as_slice::<i64>().unwrap()[0], outputs[1].as_slice::<i64>().unwrap().to_vec())
}

#[test]
fn loops_carry_append_and_stop() {
    let model = counting_loop(1000).model(&i64_weights(&[0])).unwrap();
    let mut session = session(&model, 2);
    for trips in [0, 1, 2, 3, 10, 4, -1] {
        let expected: Vec<i64> = (0..trips).collect();
        assert_eq!(run_loop(&mut session, trips), (expected.iter().sum(), expected), "{trips} trips");
    }
    // 0 + 1 + ... + 45 is the first sum that is not below 1000.
    assert_eq!(run_loop(&mut session, 100), (1035, (0..46).collect()));
}

#[test]
fn loop_fuel_is_a_limit() {
    let model = counting_loop(i64::MAX).model(&i64_weights(&[0])).unwrap();
    let options = SessionOptions { loop_fuel: 5, threads: Some(1), ..SessionOptions::default() };
    let mut session = Session::with_options(&model, options);
    assert_eq!(run_loop(&mut session, 5).0, 10);
    let error = session.run(&[TensorRef::from_slice(&[], &[6i64]).unwrap()]).unwrap_err();
    assert_eq!((error.code(), error.is_limit()), ("R0302", true));
    assert_eq!(run_loop(&mut session, 4).0, 6);
}

#[test]
fn sizes_may_depend_on_data() {
    let model = nonzero_gather().model(&[]).unwrap();
    let mut session = session(&model, 2);
    for (x, expected) in
        [(vec![0.0f32, 1.0, -0.0, 3.0], vec![1i64, 3]), (vec![0.0; 3], vec![]), (vec![2.0; 100], (0..100).collect())]
    {
        let shape = [x.len()];
        let input = TensorRef::from_slice(&shape, &x).unwrap();
        let outputs = session.run(&[input]).unwrap();
        assert_eq!(outputs[0].shape(), [1, expected.len()]);
        assert_eq!(outputs[0].as_slice::<i64>().unwrap(), expected);
        let values: Vec<f32> = expected.iter().map(|&i| x[i as usize]).collect();
        assert_eq!(outputs[1].as_slice::<f32>().unwrap(), values);

        let (mut index, mut y) = (vec![0i64; expected.len()], vec![0f32; expected.len()]);
        let (index_shape, y_shape) = ([1, expected.len()], [expected.len()]);
        let mut into = [
            TensorMut::from_slice(&index_shape, &mut index).unwrap(),
            TensorMut::from_slice(&y_shape, &mut y).unwrap(),
        ];
        session.run_into(&[input], &mut into).unwrap();
        assert_eq!((index, y), (expected, values));
    }
    let x = [1f32; 4];
    let (mut index, mut y) = (vec![0i64; 3], vec![0f32; 3]);
    let mut into = [TensorMut::from_slice(&[1, 3], &mut index).unwrap(), TensorMut::from_slice(&[3], &mut y).unwrap()];
    assert_eq!(code(session.run_into(&[TensorRef::from_slice(&[4], &x).unwrap()], &mut into)), "R0108");
}

#[test]
fn branches_choose_and_bind() {
    let mut b = Builder::default();
    let (one, eight, zero, seven) = (b.int(1), b.int(8), b.int(0), b.int(7));
    let cond = b.input("cond", DType::Bool, &[], one);
    let (symbol, value) = b.symbol("n", SymbolSource::Step);
    let bytes = b.mul(value, 8);
    let out = b.buffer(Storage::Heap, bytes);
    b.output_from("out", DType::I64, &[value], out);
    b.plan.arena_bytes = zero;
    let numbers = b.buffer(Storage::Weight(0), eight);
    let copy = Step::Copy { from: numbers, to: out, bytes };
    // The branch not taken may overflow in peace.
    let nonsense = b.expr(Expr::FloorDiv(seven, zero));
    b.plan.steps = vec![Step::If {
        cond,
        then_steps: vec![Step::Bind { symbol, from: numbers, index: 0 }, copy],
        else_steps: vec![Step::Set { symbol, value: zero }],
    }];
    let mut divides = Builder { plan: b.plan.clone(), kernels: Vec::new() };
    if let Step::If { else_steps, .. } = &mut divides.plan.steps[0] {
        *else_steps = vec![Step::Set { symbol, value: nonsense }];
    }
    let weights = i64_weights(&[1]);
    let mut session = session(&b.model(&weights).unwrap(), 1);
    let yes = session.run(&[TensorRef::from_slice(&[], &[true]).unwrap()]).unwrap();
    assert_eq!(yes[0].as_slice::<i64>().unwrap(), [1]);
    let no = session.run(&[TensorRef::from_slice(&[], &[false]).unwrap()]).unwrap();
    assert_eq!(no[0].shape(), [0]);
    let mut session = Session::new(&divides.model(&weights).unwrap());
    assert_eq!(code(session.run(&[TensorRef::from_slice(&[], &[true]).unwrap()])), "ok");
    assert_eq!(code(session.run(&[TensorRef::from_slice(&[], &[false]).unwrap()])), "R0201");
}

#[test]
fn failed_checks_name_kernel_and_nodes() {
    let mut b = add_twice();
    let one = b.int(1);
    let kernel = b.kernel("bad", fail);
    let step = b.launch(kernel, one, &[], &[]);
    b.plan.steps.push(step);
    let mut session = session(&b.model(&[]).unwrap(), 2);
    let x = [1f32; 2];
    let x = TensorRef::from_slice(&[2], &x).unwrap();
    let text = session.run(&[x, x]).unwrap_err().to_string();
    assert_eq!(text, "a runtime check failed with code 7 in `bad` (nodes bad_0); check the input values");
}

#[test]
fn cancellation_and_memory_ceiling_stop_a_run() {
    let model = add_twice().model(&[]).unwrap();
    let x = [1f32; 100];
    let x = TensorRef::from_slice(&[100], &x).unwrap();
    let cancel = Arc::new(AtomicBool::new(true));
    let options = SessionOptions { cancel: Some(cancel.clone()), ..SessionOptions::default() };
    let mut session = Session::with_options(&model, options);
    assert_eq!(code(session.run(&[x, x])), "R0301");
    cancel.store(false, Ordering::Relaxed);
    assert_eq!(code(session.run(&[x, x])), "ok");

    let options = SessionOptions { memory_ceiling: 600, threads: Some(1), ..SessionOptions::default() };
    let mut session = Session::with_options(&model, options);
    assert_eq!(code(session.run(&[x, x])), "ok");
    assert_eq!(session.memory_bytes(), 464 + 128);
    let y = [1f32; 200];
    let y = TensorRef::from_slice(&[200], &y).unwrap();
    assert_eq!(code(session.run(&[y, y])), "R0303");
    assert_eq!(code(session.run(&[x, x])), "ok");
}

#[test]
fn profiles_name_every_launch() {
    let mut session = session(&nonzero_gather().model(&[]).unwrap(), 1);
    let x = [1f32; 20];
    let (_, profile) = session.run_profiled(&[TensorRef::from_slice(&[20], &x).unwrap()]).unwrap();
    let names: Vec<&str> = profile.launches.iter().map(|launch| launch.kernel.as_str()).collect();
    assert_eq!(names, ["gather", "host:NonZero"]);
    assert_eq!((profile.launches[0].calls, profile.launches[0].flops), (1, 2));
    assert!(profile.total_ns >= profile.launches.iter().map(|launch| launch.ns).sum());
}

#[test]
fn outputs_may_be_inputs_weights_or_the_same_buffer_twice() {
    let mut b = Builder::default();
    let (n, eight) = (b.input_dim("N", 0, 0), b.int(8));
    let bytes = b.mul(n, 4);
    let x = b.input("x", DType::F32, &[n], bytes);
    let weight = b.buffer(Storage::Weight(64), eight);
    b.plan.arena_bytes = b.int(0);
    b.output_from("same", DType::F32, &[n], x);
    b.output_from("again", DType::F32, &[n], x);
    b.output_from("constant", DType::I64, &[], weight);
    // A copy onto itself is harmless.
    let heap = b.buffer(Storage::Heap, bytes);
    b.plan.steps = vec![
        Step::Copy { from: x, to: heap, bytes },
        Step::Copy { from: heap, to: heap, bytes },
        Step::Append { from: heap, to: heap, offset: bytes, bytes },
    ];
    let mut session = session(&b.model(&i64_weights(&[1, 42])).unwrap(), 1);
    let x = [1.5f32, 2.5];
    let outputs = session.run(&[TensorRef::from_slice(&[2], &x).unwrap()]).unwrap();
    assert_eq!(outputs[0].as_slice::<f32>().unwrap(), x);
    assert_eq!(outputs[1], outputs[0]);
    assert_eq!(outputs[2].as_slice::<i64>().unwrap(), [42]);
}

fn top_k(x: &Tensor, axis: u32, k: i64, largest: bool) -> Vec<Tensor> {
    let mut b = Builder::default();
    let shape: Vec<ExprId> = x.shape().iter().map(|&dim| b.int(dim as i64)).collect();
    let mut out_shape = shape.clone();
    out_shape[axis as usize] = b.int(k);
    let bytes = b.int(x.bytes().len() as i64);
    let elements: i64 =
        x.shape().iter().enumerate().map(|(i, &d)| if i == axis as usize { k } else { d as i64 }).product();
    let (value_bytes, index_bytes) = (b.int(elements * x.dtype().size() as i64), b.int(elements * 8));
    let input = b.input("x", x.dtype(), &shape, bytes);
    let values = b.output("values", x.dtype(), &out_shape, value_bytes);
    let indices = b.output("indices", DType::I64, &out_shape, index_bytes);
    b.plan.arena_bytes = b.int(0);
    let operand = |buffer, dtype, shape: &[ExprId]| Operand { buffer, dtype, shape: shape.to_vec() };
    b.plan.steps = vec![Step::Host(Host {
        routine: Routine::TopK { axis, largest },
        inputs: vec![operand(input, x.dtype(), &shape)],
        outputs: vec![operand(values, x.dtype(), &out_shape), operand(indices, DType::I64, &out_shape)],
        binds: vec![],
        nodes: vec![],
    })];
    session(&b.model(&[]).unwrap(), 1).run(&[x.view()]).unwrap()
}

#[test]
fn top_k_sorts_with_ties_and_nan() {
    let x = Tensor::from_slice(&[6], &[1.0f32, f32::NAN, 3.0, 3.0, -0.0, 0.0]).unwrap();
    let largest = top_k(&x, 0, 4, true);
    assert_eq!(largest[1].as_slice::<i64>().unwrap(), [1, 2, 3, 0]);
    let smallest = top_k(&x, 0, 6, false);
    assert_eq!(smallest[1].as_slice::<i64>().unwrap(), [4, 5, 0, 2, 3, 1]);
    let x = Tensor::from_slice(&[2, 3], &[5i8, -1, 7, -128, 127, 0]).unwrap();
    let columns = top_k(&x, 0, 1, true);
    assert_eq!(columns[0].as_slice::<i8>().unwrap(), [5, 127, 7]);
    assert_eq!(columns[1].as_slice::<i64>().unwrap(), [0, 1, 0]);
    let rows = top_k(&x, 1, 2, false);
    assert_eq!(rows[0].as_slice::<i8>().unwrap(), [-1, 5, -128, 0]);
    let x = Tensor::from_slice(&[3], &[u64::MAX, 0, 1 << 63]).unwrap();
    assert_eq!(top_k(&x, 0, 3, true)[1].as_slice::<i64>().unwrap(), [0, 2, 1]);
    let empty = Tensor::zeros(DType::F32, &[0, 4]).unwrap();
    assert_eq!(top_k(&empty, 1, 2, true)[0].shape(), [0, 2]);
    assert_eq!(top_k(&x, 0, 0, true)[0].shape(), [0]);
}

#[test]
fn sessions_of_one_model_run_in_parallel() {
    let model = add_twice().model(&[]).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let model = model.clone();
            scope.spawn(move || {
                let mut session = session(&model, 2);
                let a = vec![worker as f32; 500];
                let input = TensorRef::from_slice(&[500], &a).unwrap();
                for _ in 0..50 {
                    let outputs = session.run(&[input, input]).unwrap();
                    assert!(outputs[0].as_slice::<f32>().unwrap().iter().all(|&y| y == 3.0 * worker as f32));
                }
            });
        }
    });
}

/// A run that fails for want of memory leaves the session fit for the next one.
#[test]
fn scratch_that_cannot_grow_is_not_used() {
    let mut b = nonzero_gather();
    let (count, thousand) = (b.plan.outputs[1].shape[0], b.int(1000));
    let scratch = b.expr(Expr::Mul(count, thousand));
    let n = b.plan.inputs[0].shape[0];
    let bytes = b.plan.buffers[0].bytes;
    let (kernel, tiles, copy) = (b.kernel("add", add_f32), b.ceil_div(n, TILE), b.buffer(Storage::Heap, bytes));
    let step = b.launch(kernel, tiles, &[0, 0, copy], &[n]);
    b.plan.steps.push(step);
    if let Step::Launch(launch) = &mut b.plan.steps[1] {
        launch.scratch = scratch;
    }
    let options = SessionOptions { memory_ceiling: 2000, threads: Some(1), ..SessionOptions::default() };
    let mut session = Session::with_options(&b.model(&[]).unwrap(), options);
    let mut run = |x: [f32; 3]| code(session.run(&[TensorRef::from_slice(&[3], &x).unwrap()]));
    assert_eq!(run([0.0; 3]), "ok");
    assert_eq!(run([1.0; 3]), "R0303");
    assert_eq!(run([0.0; 3]), "ok");
    assert_eq!(run([1.0, 0.0, 0.0]), "ok");
}

#[test]
fn models_are_shared_and_sessions_sent() {
    fn shared<T: Send + Sync + Clone>() {}
    fn sent<T: Send>() {}
    shared::<Model>();
    sent::<Session>();
    shared::<Tensor>();
    sent::<xlac_runtime::Error>();
}
