//! Runs that fail: every error has its code, and a device that failed is left alone.

use super::common::*;
use super::{PTX, code, load, on_gpu, session, simulated, simulator};
use xlac_ptx_sim::driver::{Failure, SimConfig, Simulator};
use xlac_runtime::device::cuda::api::Status;
use xlac_runtime::plan::*;
use xlac_runtime::{Model, Session, SessionOptions, TensorRef};

fn run(session: &mut Session) -> xlac_runtime::Result<f32> {
    let x = [1f32; 64];
    let x = TensorRef::from_slice(&[64], &x).unwrap();
    session.run(&[x, x]).map(|outputs| outputs[0].as_slice::<f32>().unwrap()[0])
}

/// [`add_twice`], then a kernel that misbehaves on the output.
fn ends_with(name: &str) -> Builder {
    let mut b = add_twice();
    let one = b.int(1);
    let output = b.plan.outputs[0].buffer;
    let kernel = b.kernel(name, fail);
    let buffers: &[BufferId] = if name == "bad" { &[] } else { &[output] };
    let step = b.launch(kernel, one, buffers, &[]);
    b.plan.steps.push(step);
    b
}

#[test]
fn failed_checks_name_kernel_and_nodes_and_leave_the_session_fit() {
    let (_, model) = simulated(ends_with("bad"), &[]);
    let mut bad = session(&model);
    for _ in 0..3 {
        let text = run(&mut bad).unwrap_err().to_string();
        assert_eq!(text, "a runtime check failed with code 7 in `k_bad` (nodes bad_0); check the input values");
    }

    let mut b = Builder::default();
    let (n, count) = (b.int(4), b.int(3));
    let (bytes, index_bytes, out_bytes) = (b.int(16), b.int(24), b.int(12));
    let x = b.input("x", DType::F32, &[n], bytes);
    let index = b.input("index", DType::I64, &[count], index_bytes);
    let out = b.output("y", DType::F32, &[count], out_bytes);
    b.plan.arena_bytes = b.int(0);
    let (kernel, one) = (b.kernel("gather", gather), b.int(1));
    b.plan.steps = vec![b.launch(kernel, one, &[x, index, out], &[n, count])];
    let (simulator, model) = simulated(b, &[]);
    let mut session = session(&model);
    let x = [1f32, 2.0, 3.0, 4.0];
    for (index, expected) in [([3i64, 0, 1], "ok"), ([0, 4, 1], "R0202"), ([2, 2, -1], "R0202"), ([1, 1, 1], "ok")] {
        let inputs = [TensorRef::from_slice(&[4], &x).unwrap(), TensorRef::from_slice(&[3], &index).unwrap()];
        assert_eq!(code(session.run(&inputs)), expected, "{index:?}");
    }
    assert_eq!((simulator.last_fault(), simulator.calls("cuGraphLaunch")), (None, 4));
}

#[test]
fn misbehaving_kernels_end_the_device() {
    for (name, error) in [("wild", "ILLEGAL_ADDRESS"), ("odd", "MISALIGNED_ADDRESS"), ("spin", "LAUNCH_TIMEOUT")] {
        for debug_sync in [false, true] {
            let simulator = Simulator::new(SimConfig { instruction_limit: 100_000, ..SimConfig::default() });
            let device = simulator.device().unwrap();
            let model = load(ends_with(name), &[], &device);
            let other = load(add_twice(), &[], &device);
            let mut healthy = session(&other);
            assert_eq!(code(run(&mut healthy)), "ok");
            let options = SessionOptions { debug_sync, ..SessionOptions::default() };
            let mut bad = Session::with_options(&model, options);
            let failure = run(&mut bad).unwrap_err();
            let text = failure.to_string();
            assert_eq!(failure.code(), "R0408", "{text}");
            assert!(text.contains(error) && text.contains(&format!("`k_{name}` (nodes {name}_0)")), "{text}");
            // With a wait after each launch only one can be at fault.
            assert_eq!(text.contains("k_add"), !debug_sync, "{text}");
            assert!(simulator.last_fault().unwrap().contains(&format!("k_{name}")));

            // From now on nothing reaches the driver, whoever asks.
            let calls = simulator.all_calls();
            for session in [&mut bad, &mut healthy] {
                let error = run(session).unwrap_err();
                assert_eq!(error.code(), "R0409");
                assert!(error.to_string().contains(&format!("k_{name}")), "{error}");
            }
            assert_eq!(code(Model::from_plan_on(on_gpu(add_twice()), PTX, &[], &device)), "R0409");
            assert!(device.failure().is_some());
            drop((bad, healthy, model, other));
            assert_eq!(simulator.all_calls(), calls, "not even while dropping");
        }
    }
}

#[test]
fn every_call_may_fail() {
    // What fails, when, and the code it must become. Sticky ones poison.
    let cases = [
        ("cuDriverGetVersion", 1, Status::INVALID_VALUE, "R0407"),
        ("cuDevicePrimaryCtxRetain", 1, Status::OUT_OF_MEMORY, "R0407"),
        ("cuCtxSetCurrent", 1, Status::INVALID_CONTEXT, "R0408"),
        ("cuModuleLoadDataEx", 1, Status::INVALID_IMAGE, "R0405"),
        ("cuModuleLoadDataEx", 1, Status::OUT_OF_MEMORY, "R0205"),
        ("cuModuleGetFunction", 1, Status::NOT_FOUND, "R0006"),
        ("cuFuncGetAttribute", 1, Status::INVALID_HANDLE, "R0407"),
        ("cuStreamCreate", 1, Status::OUT_OF_MEMORY, "R0407"),
        ("cuMemAlloc_v2", 1, Status::OUT_OF_MEMORY, "R0205"),
        ("cuMemAlloc_v2", 2, Status::OUT_OF_MEMORY, "R0205"),
        ("cuMemHostAlloc", 1, Status::OUT_OF_MEMORY, "R0205"),
        ("cuMemsetD32Async", 1, Status::INVALID_VALUE, "R0407"),
        ("cuMemcpyHtoDAsync_v2", 1, Status::INVALID_VALUE, "R0407"),
        ("cuMemcpyDtoHAsync_v2", 1, Status::INVALID_VALUE, "R0407"),
        ("cuLaunchKernel", 2, Status::INVALID_VALUE, "R0407"),
        ("cuLaunchKernel", 1, Status::LAUNCH_FAILED, "R0408"),
        ("cuStreamSynchronize", 1, Status::LAUNCH_FAILED, "R0408"),
        ("cuStreamSynchronize", 1, Status::ECC_UNCORRECTABLE, "R0408"),
        ("cuStreamSynchronize", 2, Status::DEVICE_UNAVAILABLE, "R0408"),
        ("cuGraphCreate", 1, Status::OUT_OF_MEMORY, "R0407"),
        ("cuGraphAddKernelNode", 2, Status::INVALID_VALUE, "R0407"),
        ("cuGraphAddMemcpyNode", 2, Status::INVALID_VALUE, "R0407"),
        ("cuGraphInstantiateWithFlags", 1, Status::OUT_OF_MEMORY, "R0205"),
        ("cuGraphUpload", 1, Status::INVALID_VALUE, "R0407"),
        ("cuGraphLaunch", 1, Status::INVALID_VALUE, "R0407"),
        ("cuGraphLaunch", 2, Status::CONTEXT_IS_DESTROYED, "R0408"),
    ];
    for (call, nth, status, expected) in cases {
        let failures = vec![Failure::new(call, nth, status)];
        let simulator = Simulator::new(SimConfig { failures, ..SimConfig::default() });
        let attempt = || {
            let device = simulator.device()?;
            let model = Model::from_plan_on(on_gpu(add_twice()), PTX, &[], &device)?;
            let mut session = session(&model);
            let mut failed = None;
            for _ in 0..4 {
                match (run(&mut session), &failed) {
                    (Ok(y), _) => assert_eq!(y, 3.0),
                    (Err(error), None) => failed = Some(error),
                    // Whatever was not sticky is over with the next run.
                    (Err(error), Some(_)) => assert_eq!((error.code(), status.is_sticky()), ("R0409", true), "{call}"),
                }
            }
            failed.map_or(Ok(()), Err)
        };
        assert_eq!(code(attempt()), expected, "{call} number {nth}: {status:?}");
        if !status.is_sticky() {
            assert_eq!(simulator.live(), 0, "{call} number {nth}");
        }
    }
}

/// Loads and runs plans that use every part of the runtime; the first error.
fn everything(simulator: &Simulator) -> xlac_runtime::Result<()> {
    let device = simulator.device()?;
    let model = Model::from_plan_on(on_gpu(counting_loop(1000)), PTX, &i64_weights(&[0]), &device)?;
    let mut looping = session(&model);
    let trips = [5i64];
    let trips = TensorRef::from_slice(&[], &trips)?;
    looping.prepare(&[&[]])?;
    looping.run(&[trips])?;
    looping.run_profiled(&[trips])?;
    let model = Model::from_plan_on(on_gpu(nonzero_gather()), PTX, &[], &device)?;
    let x = [1f32; 20];
    session(&model).run(&[TensorRef::from_slice(&[20], &x)?])?;
    let model = Model::from_plan_on(on_gpu(add_twice()), PTX, &[], &device)?;
    let mut graphs = session(&model);
    run(&mut graphs)?;
    run(&mut graphs).map(|y| assert_eq!(y, 3.0))
}

/// Whatever fails, and whenever: an error with a code, no panic, no hang, nothing lost, and nothing after the end.
#[test]
fn any_call_may_fail_at_any_time() {
    let counting = simulator(0);
    everything(&counting).unwrap();
    let mut failed = 0;
    for &call in xlac_runtime::device::cuda::api::SYMBOLS {
        // The first ones, the last ones, and some between.
        let count = counting.calls(call);
        for nth in (1..=count).filter(|n| *n <= 4 || n + 3 > count || n % 13 == 0) {
            for status in [Status::INVALID_VALUE, Status::OUT_OF_MEMORY, Status::LAUNCH_FAILED] {
                let failures = vec![Failure::new(call, nth, status)];
                let simulator = Simulator::new(SimConfig { failures, ..SimConfig::default() });
                let result = everything(&simulator);
                let what = format!("{call} number {nth}: {status:?}");
                let gives_back =
                    ["Free", "Destroy", "Unload", "Release", "SetCurrent"].iter().any(|word| call.contains(word));
                match &result {
                    Err(error) => assert!(error.code() >= "R0205", "{what}: {error}"),
                    // Some failures are got over: of what gives back, of the linker, of an append that asks for much.
                    Ok(()) => assert!(gives_back || call.contains("Link") || call == "cuMemAlloc_v2", "{what}"),
                }
                failed += usize::from(result.is_err());
                if !status.is_sticky() && !gives_back {
                    assert_eq!(simulator.live(), 0, "{what}");
                }
            }
        }
    }
    assert!(failed > 200, "{failed}");
}

#[test]
fn a_full_device_is_no_disaster() {
    let simulator = Simulator::new(SimConfig { memory_bytes: 4096, ..SimConfig::default() });
    let model = load(add_twice(), &[], &simulator.device().unwrap());
    let mut session = session(&model);
    let x = vec![1f32; 5000];
    let x = TensorRef::from_slice(&[5000], &x).unwrap();
    assert_eq!(code(session.run(&[x, x])), "R0205");
    assert_eq!(run(&mut session).unwrap(), 3.0);
}

#[test]
fn wrong_calls_are_told_apart_as_on_the_cpu() {
    let simulator = simulator(0);
    let model = load(add_twice(), &[], &simulator.device().unwrap());
    let mut session = session(&model);
    let (four, five, ints) = ([1f32; 4], [1f32; 5], [1i32; 4]);
    let four = TensorRef::from_slice(&[4], &four).unwrap();
    let five = TensorRef::from_slice(&[5], &five).unwrap();
    let ints = TensorRef::from_slice(&[4], &ints).unwrap();
    assert_eq!(code(session.run(&[four])), "R0101");
    assert_eq!(code(session.run(&[four, ints])), "R0103");
    assert_eq!(code(session.run(&[four, five])), "R0104");
    assert_eq!(session.run_named(&[("b", four), ("a", four)]).unwrap()[0].as_slice::<f32>().unwrap(), [3.0; 4]);
}
