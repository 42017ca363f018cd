//! Runs that go well: graphs, changing shapes, control flow, host routines, outputs of all kinds, limits, profiles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::common::*;
use super::{code, load, session, simulated, simulator};
use xlac_runtime::plan::*;
use xlac_runtime::{Session, SessionOptions, TensorMut, TensorRef};

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

fn run_add(session: &mut Session, n: usize) {
    let (a, b) = (floats(n), vec![0.5f32; n]);
    let shape = [n];
    let inputs = [&a, &b].map(|x| TensorRef::from_slice(&shape, x).unwrap());
    let expected: Vec<f32> = a.iter().map(|a| a + 1.0).collect();
    assert_eq!(session.run(&inputs).unwrap()[0].as_slice::<f32>().unwrap(), expected);
    let mut result = vec![0f32; n];
    session.run_into(&inputs, &mut [TensorMut::from_slice(&shape, &mut result).unwrap()]).unwrap();
    assert_eq!(result, expected);
}

#[test]
fn a_prepared_run_is_one_graph_and_one_wait() {
    let (simulator, model) = simulated(add_twice(), &[]);
    let mut session = session(&model);
    session.prepare(&[&[100], &[100]]).unwrap();
    let calls = ["cuGraphLaunch", "cuStreamSynchronize", "cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemAlloc_v2"];
    run_add(&mut session, 100);
    let before = calls.map(|call| simulator.calls(call));
    let all = simulator.all_calls();
    run_add(&mut session, 100);
    let after = calls.map(|call| simulator.calls(call));
    let made: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(made, [2, 2, 0, 0, 0], "{calls:?} of two runs");
    // Making the context current is the third call of a run.
    assert_eq!(simulator.all_calls() - all, 6);
}

#[test]
fn shapes_change_from_run_to_run() {
    for seed in 0..4 {
        let simulator = simulator(seed);
        let model = load(add_twice(), &[], &simulator.device().unwrap());
        let mut session = session(&model);
        for n in [5, 1000, 0, 1, 17, 1000, 4096, 17, 17] {
            run_add(&mut session, n);
        }
        assert!(session.memory_bytes() >= 64 + 4096 * 4);
        let (first, second) = ([&[4096usize][..]; 2], [&[17usize][..]; 2]);
        assert!(model.peak_bytes(&first).unwrap() > model.peak_bytes(&second).unwrap());
        drop((session, model));
        assert_eq!(simulator.live(), 0, "everything was given back");
    }
}

#[test]
fn memory_is_known_before_the_run() {
    let (_, model) = simulated(add_twice(), &[]);
    let mut session = session(&model);
    session.prepare(&[&[777], &[777]]).unwrap();
    assert_eq!(session.memory_bytes(), model.peak_bytes(&[&[777], &[777]]).unwrap());
    let held = session.memory_bytes();
    run_add(&mut session, 777);
    assert_eq!(session.memory_bytes(), held);
}

/// Two branches that meet again, with buffers of the arena used twice: only true edges make every order right.
#[test]
fn graphs_keep_the_order_that_memory_demands() {
    for seed in 0..24 {
        let mut b = Builder::default();
        let n = b.int(40);
        let bytes = b.mul(n, 4);
        let (x, y) = (b.input("a", DType::F32, &[n], bytes), b.input("b", DType::F32, &[n], bytes));
        let z = b.output("z", DType::F32, &[n], bytes);
        let [p, q, r] = [0, 192, 384].map(|at| b.arena(at, 160));
        b.plan.arena_bytes = b.int(576);
        let (kernel, tiles) = (b.kernel("add", add_f32), b.ceil_div(n, TILE));
        // p = x + y; q = y + y; r = p + q; p = q + q; q = r; z = p + q
        let mut steps: Vec<Step> = [[x, y, p], [y, y, q], [p, q, r], [q, q, p]]
            .iter()
            .map(|buffers| b.launch(kernel, tiles, buffers, &[n]))
            .collect();
        steps.push(Step::Copy { from: r, to: q, bytes });
        steps.push(b.launch(kernel, tiles, &[p, q, z], &[n]));
        b.plan.steps = steps;
        let simulator = simulator(seed);
        let mut session = session(&load(b, &[], &simulator.device().unwrap()));
        let (one, two) = ([1f32; 40], [2f32; 40]);
        let inputs = [&one, &two].map(|x| TensorRef::from_slice(&[40], x).unwrap());
        for _ in 0..2 {
            // p + q = 4*2 + (1 + 2 + 2*2)
            assert_eq!(session.run(&inputs).unwrap()[0].as_slice::<f32>().unwrap(), [15.0; 40], "seed {seed}");
        }
        assert_eq!((simulator.calls("cuGraphLaunch"), simulator.calls("cuLaunchKernel")), (2, 0));
    }
}

fn run_loop(session: &mut Session, trips: i64) -> (i64, Vec<i64>) {
    let outputs = session.run(&[TensorRef::from_slice(&[], &[trips]).unwrap()]).unwrap();
    (outputs[0].as_slice::<i64>().unwrap()[0], outputs[1].as_slice::<i64>().unwrap().to_vec())
}

#[test]
fn loops_carry_append_and_stop() {
    let (_, model) = simulated(counting_loop(1000), &i64_weights(&[0]));
    let mut session = session(&model);
    for trips in [0, 1, 2, 3, 10, 4, -1] {
        let expected: Vec<i64> = (0..trips).collect();
        assert_eq!(run_loop(&mut session, trips), (expected.iter().sum(), expected), "{trips} trips");
    }
    assert_eq!(run_loop(&mut session, 100), (1035, (0..46).collect()));
    let options = SessionOptions { loop_fuel: 5, ..SessionOptions::default() };
    let mut session = Session::with_options(&model, options);
    assert_eq!(run_loop(&mut session, 5).0, 10);
    assert_eq!(code(session.run(&[TensorRef::from_slice(&[], &[6i64]).unwrap()])), "R0302");
    assert_eq!(run_loop(&mut session, 4).0, 6);
}

/// An odd number of swaps leaves buffers in each other's place; the next run begins with them at home.
#[test]
fn swaps_do_not_outlive_a_run() {
    let mut b = counting_loop(1000);
    // The total comes from a launch instead of a copy: the sum that the loop carries, plus zero.
    let Some(Step::Copy { from: sum, to: total, .. }) = b.plan.steps.pop() else { unreachable!("it ends with a copy") };
    let Step::Copy { from: zero, .. } = b.plan.steps[0] else { unreachable!("it begins with a copy") };
    let one = b.int(1);
    let step = b.launch(0, one, &[sum, zero, total], &[]);
    b.plan.steps.push(step);
    let (_, model) = simulated(b, &i64_weights(&[0]));
    let mut session = session(&model);
    for (trips, total) in [(3, 3), (0, 0), (5, 10), (0, 0), (1, 0), (4, 6)] {
        assert_eq!(run_loop(&mut session, trips).0, total, "{trips} trips");
    }
}

/// Steps on buffers that move during a run look as static as others, but are no graph.
#[test]
fn buffers_that_move_are_not_in_graphs() {
    let mut b = Builder::default();
    let (zero, one, eight) = (b.int(0), b.int(1), b.int(8));
    let x = b.input("x", DType::I64, &[], eight);
    let y = b.output("y", DType::I64, &[], eight);
    let z = b.output("z", DType::I64, &[], eight);
    let (symbol, _) = b.symbol("trip", SymbolSource::Step);
    let [counter, old, new, next] = [0, 64, 128, 192].map(|at| b.arena(at, 8));
    b.plan.arena_bytes = b.int(256);
    let (heap, add) = (b.buffer(Storage::Heap, eight), b.kernel("add_i64", add_i64));
    let three = b.buffer(Storage::Weight(0), eight);
    let far = b.int(1 << 16);
    // Each trip: new = old + x; next = new + x; the sum moves on by a swap.
    let body = vec![
        b.launch(add, one, &[old, x, new], &[]),
        b.launch(add, one, &[new, x, next], &[]),
        Step::Swap { a: old, b: next },
    ];
    b.plan.steps = vec![
        Step::Copy { from: x, to: old, bytes: eight },
        Step::Copy { from: x, to: heap, bytes: eight },
        Step::Loop { trips: Some(three), cond: None, counter, symbol, body },
        Step::Append { from: x, to: heap, offset: far, bytes: eight },
        Step::Append { from: old, to: heap, offset: zero, bytes: eight },
        Step::Copy { from: heap, to: y, bytes: eight },
        b.launch(add, one, &[heap, x, z], &[]),
    ];
    let (_, model) = simulated(b, &i64_weights(&[3]));
    let mut session = session(&model);
    session.prepare(&[&[]]).unwrap();
    for x in [1i64, 10] {
        let outputs = session.run(&[TensorRef::from_slice(&[], &[x]).unwrap()]).unwrap();
        assert_eq!(outputs[0].as_slice::<i64>().unwrap(), [7 * x]);
        assert_eq!(outputs[1].as_slice::<i64>().unwrap(), [8 * x]);
    }
}

/// In the second trip the first launch finds its scratch memory moved by the second one.
#[test]
fn scratch_that_grows_in_a_loop_is_found_again() {
    let mut b = Builder::default();
    let (n, eight) = (b.int(40), b.int(8));
    let bytes = b.mul(n, 4);
    let x = b.input("x", DType::F32, &[n], bytes);
    let y = b.output("y", DType::F32, &[n], bytes);
    let (symbol, m) = b.symbol("m", SymbolSource::Step);
    let (trip, _) = b.symbol("trip", SymbolSource::Step);
    let [counter, sum] = [b.arena(0, 8), b.arena(64, 160)];
    b.plan.arena_bytes = b.int(256);
    let length = b.buffer(Storage::Weight(0), eight);
    let trips = b.buffer(Storage::Weight(64), eight);
    let (kernel, tiles) = (b.kernel("add", add_f32), b.ceil_div(m, TILE));
    let small = b.launch(kernel, tiles, &[x, x, sum], &[m]);
    let mut large = b.launch(kernel, tiles, &[sum, x, y], &[m]);
    if let Step::Launch(launch) = &mut large {
        launch.scratch = b.mul(m, 100);
    }
    b.plan.steps = vec![
        Step::Bind { symbol, from: length, index: 0 },
        Step::Loop { trips: Some(trips), cond: None, counter, symbol: trip, body: vec![small, large] },
    ];
    let (_, model) = simulated(b, &i64_weights(&[40, 2]));
    let x = [2f32; 40];
    let outputs = session(&model).run(&[TensorRef::from_slice(&[40], &x).unwrap()]).unwrap();
    assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [6.0; 40]);
}

#[test]
fn shapes_that_come_back_get_their_graphs_again() {
    let (simulator, model) = simulated(add_twice(), &[]);
    let mut session = session(&model);
    session.prepare(&[&[300], &[300]]).unwrap();
    let once = |session: &mut Session, n: usize| {
        let (x, shape) = (vec![1f32; n], [n]);
        let x = TensorRef::from_slice(&shape, &x).unwrap();
        assert_eq!(session.run(&[x, x]).unwrap()[0].as_slice::<f32>().unwrap(), vec![3.0; n]);
        (simulator.calls("cuGraphInstantiateWithFlags"), simulator.calls("cuGraphLaunch"))
    };
    let counts: Vec<(u64, u64)> =
        [300, 20, 300, 20, 300, 20, 20, 7, 7].iter().map(|&n| once(&mut session, n)).collect();
    // New shapes run without a graph first; nothing moved, so those made stay good.
    assert_eq!(counts, [(1, 1), (1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (2, 6), (2, 6), (3, 7)]);
    once(&mut session, 5000);
    assert_eq!(once(&mut session, 20), (3, 7), "memory moved: what was made before is gone");
}

#[test]
fn host_routines_and_sizes_that_depend_on_data() {
    let (_, model) = simulated(nonzero_gather(), &[]);
    let mut session = session(&model);
    // Of the first three only the data differs.
    let cases = [
        (vec![0.0f32, 1.0, -0.0, 3.0], vec![1i64, 3]),
        (vec![4.0, 5.0, 6.0, 7.0], vec![0, 1, 2, 3]),
        (vec![0.0, 0.0, 8.0, 0.0], vec![2]),
        (vec![0.0; 3], vec![]),
        (vec![2.0; 100], (0..100).collect()),
    ];
    for (x, expected) in cases {
        let shape = [x.len()];
        let input = TensorRef::from_slice(&shape, &x).unwrap();
        for _ in 0..2 {
            let outputs = session.run(&[input]).unwrap();
            assert_eq!(outputs[0].shape(), [1, expected.len()]);
            assert_eq!(outputs[0].as_slice::<i64>().unwrap(), expected);
            let values: Vec<f32> = expected.iter().map(|&i| x[i as usize]).collect();
            assert_eq!(outputs[1].as_slice::<f32>().unwrap(), values);
        }
    }
    let x = [1f32; 4];
    let (mut index, mut y) = (vec![0i64; 3], vec![0f32; 3]);
    let mut into = [TensorMut::from_slice(&[1, 3], &mut index).unwrap(), TensorMut::from_slice(&[3], &mut y).unwrap()];
    assert_eq!(code(session.run_into(&[TensorRef::from_slice(&[4], &x).unwrap()], &mut into)), "R0108");
}

#[test]
fn host_top_k_on_device_memory() {
    let mut b = Builder::default();
    let (five, two, bytes, value_bytes, index_bytes) = (b.int(5), b.int(2), b.int(20), b.int(8), b.int(16));
    let x = b.input("x", DType::F32, &[five], bytes);
    let values = b.output("values", DType::F32, &[two], value_bytes);
    let indices = b.output("indices", DType::I64, &[two], index_bytes);
    b.plan.arena_bytes = b.int(0);
    b.plan.steps = vec![Step::Host(Host {
        routine: Routine::TopK { axis: 0, largest: true },
        inputs: vec![Operand { buffer: x, dtype: DType::F32, shape: vec![five] }],
        outputs: vec![
            Operand { buffer: values, dtype: DType::F32, shape: vec![two] },
            Operand { buffer: indices, dtype: DType::I64, shape: vec![two] },
        ],
        binds: vec![],
        nodes: vec![],
    })];
    let (_, model) = simulated(b, &[]);
    let x = [1.0f32, 9.0, 3.0, 9.5, 2.0];
    let outputs = session(&model).run(&[TensorRef::from_slice(&[5], &x).unwrap()]).unwrap();
    assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [9.5, 9.0]);
    assert_eq!(outputs[1].as_slice::<i64>().unwrap(), [3, 1]);
}

#[test]
fn branches_choose_and_bind_what_kernels_computed() {
    let mut b = Builder::default();
    let (one, eight) = (b.int(1), b.int(8));
    let value = b.input("value", DType::I64, &[], eight);
    let [flag, doubled] = [b.arena(0, 1), b.arena(64, 8)];
    b.plan.arena_bytes = b.int(128);
    let (symbol, n) = b.symbol("n", SymbolSource::Step);
    let bytes = b.mul(n, 8);
    let out = b.buffer(Storage::Heap, bytes);
    b.output_from("out", DType::I64, &[n], out);
    let numbers_bytes = b.int(64 * 8);
    let numbers = b.buffer(Storage::Weight(0), numbers_bytes);
    let (less, add) = (b.kernel("less", less), b.kernel("add_i64", add_i64));
    let limit = b.int(10);
    let zero = b.int(0);
    b.plan.steps = vec![
        b.launch(less, one, &[value, flag], &[limit]),
        b.launch(add, one, &[value, value, doubled], &[]),
        Step::If {
            cond: flag,
            then_steps: vec![
                Step::Bind { symbol, from: doubled, index: 0 },
                Step::Copy { from: numbers, to: out, bytes },
            ],
            else_steps: vec![Step::Set { symbol, value: zero }],
        },
    ];
    let (simulator, model) = simulated(b, &i64_weights(&(0..64).collect::<Vec<i64>>()));
    let mut session = session(&model);
    for (value, expected) in [(3i64, 6), (50, 0), (0, 0), (9, 18), (1, 2)] {
        let outputs = session.run(&[TensorRef::from_slice(&[], &[value]).unwrap()]).unwrap();
        assert_eq!(outputs[0].shape(), [expected], "value {value}");
    }
    assert_eq!(simulator.calls("cuGraphLaunch"), 5, "what comes before the branch is a graph");
}

#[test]
fn outputs_may_be_inputs_weights_or_the_same_buffer_twice() {
    let mut b = Builder::default();
    let (n, eight) = (b.input_dim("N", 0, 0), b.int(8));
    let bytes = b.mul(n, 4);
    let x = b.input("x", DType::F32, &[n], bytes);
    let weight = b.buffer(Storage::Weight(1 << 20), eight);
    b.plan.arena_bytes = b.int(0);
    b.output_from("same", DType::F32, &[n], x);
    b.output_from("again", DType::F32, &[n], x);
    b.output_from("constant", DType::I64, &[], weight);
    let heap = b.buffer(Storage::Heap, bytes);
    b.plan.steps = vec![
        Step::Copy { from: x, to: heap, bytes },
        Step::Copy { from: heap, to: heap, bytes },
        Step::Append { from: heap, to: heap, offset: bytes, bytes },
    ];
    let mut weights = vec![0; 1 << 20];
    weights.extend_from_slice(&i64_weights(&[42]));
    let (_, model) = simulated(b, &weights);
    assert!(model.weight_bytes() < 1024, "weights of nobody stay where they are");
    let mut session = session(&model);
    for x in [[1.5f32, 2.5], [3.0, 4.0]] {
        let outputs = session.run(&[TensorRef::from_slice(&[2], &x).unwrap()]).unwrap();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), x);
        assert_eq!(outputs[1], outputs[0]);
        assert_eq!(outputs[2].as_slice::<i64>().unwrap(), [42]);
    }
}

#[test]
fn cancellation_and_memory_ceiling_stop_a_run() {
    let (_, model) = simulated(add_twice(), &[]);
    let cancel = Arc::new(AtomicBool::new(true));
    let options = SessionOptions { cancel: Some(cancel.clone()), ..SessionOptions::default() };
    let mut session = Session::with_options(&model, options);
    let x = [1f32; 100];
    let x = TensorRef::from_slice(&[100], &x).unwrap();
    assert_eq!(code(session.run(&[x, x])), "R0301");
    cancel.store(false, Ordering::Relaxed);
    run_add(&mut session, 100);

    let ceiling = model.peak_bytes(&[&[100], &[100]]).unwrap();
    let options = SessionOptions { memory_ceiling: ceiling, ..SessionOptions::default() };
    let mut session = Session::with_options(&model, options);
    run_add(&mut session, 100);
    let y = [1f32; 500];
    let y = TensorRef::from_slice(&[500], &y).unwrap();
    assert_eq!(code(session.run(&[y, y])), "R0303");
    run_add(&mut session, 100);
}

#[test]
fn profiles_name_every_launch_and_the_copies() {
    let (_, model) = simulated(nonzero_gather(), &[]);
    let x = [1f32; 20];
    let (_, profile) = session(&model).run_profiled(&[TensorRef::from_slice(&[20], &x).unwrap()]).unwrap();
    let names: Vec<&str> = profile.launches.iter().map(|launch| launch.kernel.as_str()).collect();
    assert_eq!(names, ["k_gather", "host:NonZero", "copy:inputs", "copy:outputs"]);
    let gather = &profile.launches[0];
    assert_eq!((gather.calls, gather.flops, gather.threads), (1, 2, 32));
    assert!(gather.ns > 0);

    // More launches than events are kept for.
    let (_, model) = simulated(counting_loop(i64::MAX), &i64_weights(&[0]));
    let (_, profile) = session(&model).run_profiled(&[TensorRef::from_slice(&[], &[100i64]).unwrap()]).unwrap();
    assert_eq!(profile.launches[1].calls, 100);
}

#[test]
fn sessions_of_one_model_run_in_parallel() {
    let (simulator, model) = simulated(add_twice(), &[]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let model = model.clone();
            scope.spawn(move || {
                let mut session = session(&model);
                (0..4).for_each(|_| run_add(&mut session, 200));
            });
        }
    });
    assert_eq!(simulator.calls("cuModuleLoadDataEx"), 1);
}
