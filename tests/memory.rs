//! Memory of a session: none is allocated after the first run, and the peak that was announced holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use xlac::{CompileOptions, Numerics};
use xlac_ir::random::{self, Options};
use xlac_runtime::{Model, Session, SessionOptions, Tensor, TensorMut, TensorRef};
use xlac_tests::{backends, committed_models, is_refusal, optimized};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Runs a model into the same tensors again and again: nothing may be allocated, and no more held than announced.
fn check(model: &Model, inputs: &[Tensor], threads: usize, what: &str) {
    let mut session = Session::with_options(model, SessionOptions { threads: Some(threads), ..Default::default() });
    let views: Vec<TensorRef> = inputs.iter().map(Tensor::view).collect();
    let mut outputs = session.run(&views).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut run = |session: &mut Session| {
        let mut slots: Vec<TensorMut> = outputs.iter_mut().map(Tensor::view_mut).collect();
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        session.run_into(&views, &mut slots).unwrap_or_else(|e| panic!("{what}: {e}"));
        ALLOCATIONS.load(Ordering::SeqCst) - before
    };
    run(&mut session);
    // A thread of the pool may allocate its own bookkeeping when it is first woken, whenever that is; a run itself never.
    let counts: Vec<usize> = (0..5).map(|_| run(&mut session)).collect();
    let settled = if threads == 1 { counts.iter().max() } else { counts.iter().min() };
    assert_eq!(settled, Some(&0), "{what}: `run_into` allocates: {counts:?}");
    if threads == 1 {
        let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
        let announced = model.peak_bytes(&shapes).unwrap_or_else(|e| panic!("{what}: {e}"));
        let held = session.memory_bytes();
        assert!(held <= announced, "{what}: {held} bytes are held, {announced} were announced");
    }
}

/// One test: allocations are counted for the whole process, so nothing else may run.
#[test]
fn sessions_hold_what_they_announce_and_allocate_nothing() {
    for backend in backends() {
        for case in committed_models() {
            let options = CompileOptions { backend: Some(backend.into()), ..Default::default() };
            let compiled = xlac::compile(&case.join("model.onnx"), &options).unwrap_or_else(|e| panic!("{}", e[0]));
            let model = Model::from_bytes(&compiled.bytes).unwrap_or_else(|e| panic!("{e}"));
            let set = xlac::case::read_set(&case.join("test_data_set_0"), "input").expect("inputs");
            let inputs: Vec<Tensor> = set.iter().flatten().map(|t| xlac::engine::to_runtime(t).expect("plain types")).collect();
            for threads in 1..=2 {
                check(&model, &inputs, threads, &format!("{}, {backend}, {threads} threads", case.display()));
            }
        }
        random_programs(backend);
    }
}

fn random_programs(backend: &str) {
    // Sizes that depend on data may grow between runs, so they are left out.
    let random_options = Options { data_dependent: false, control_flow: false, ..Options::default() };
    let mut ran = 0;
    for seed in 0..40 {
        let mut program = optimized(random::program(seed, &random_options), Numerics::Fast);
        let inputs = random::inputs(&program, &random::sizes(&program, seed), seed).expect("sizes");
        let options = CompileOptions { backend: Some(backend.into()), threads: Some(2), ..Default::default() };
        let to = std::io::Cursor::new(Vec::new());
        let written = xlac::compile::write_program(&mut program, [0; 32], &options, Default::default(), to);
        let (bytes, _) = match written {
            Ok(done) => done,
            Err(errors) if is_refusal(&errors) => continue,
            Err(errors) => panic!("seed {seed}: {}", errors[0]),
        };
        let model = Model::from_bytes(bytes.get_ref()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let inputs: Vec<Tensor> = inputs.iter().map(|t| xlac::engine::to_runtime(t).expect("plain types")).collect();
        check(&model, &inputs, 1, &format!("seed {seed}, {backend}"));
        ran += 1;
    }
    assert!(ran >= 20, "{backend}: only {ran} programs were not refused");
}
