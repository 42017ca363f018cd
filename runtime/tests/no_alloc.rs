//! `run_into` allocates nothing once its shapes are known: counted, with loops, host routines and heap buffers.
#![allow(missing_docs)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use xlac_runtime::{Session, SessionOptions, TensorMut, TensorRef};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn options() -> SessionOptions {
    SessionOptions { threads: Some(2), ..SessionOptions::default() }
}

fn allocations_of(mut run: impl FnMut()) -> u64 {
    run();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..10).for_each(|_| run());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

// One test, so that no other allocates meanwhile.
#[test]
fn run_into_allocates_nothing_after_the_first_run() {
    let mut session = Session::with_options(&add_twice().model(&[]).unwrap(), options());
    let (x, mut y) = (vec![1f32; 1000], vec![0f32; 1000]);
    let count = allocations_of(|| {
        let input = TensorRef::from_slice(&[1000], &x).unwrap();
        session.run_into(&[input, input], &mut [TensorMut::from_slice(&[1000], &mut y).unwrap()]).unwrap();
    });
    assert_eq!(count, 0, "elementwise");

    let mut session = Session::with_options(&counting_loop(1000).model(&i64_weights(&[0])).unwrap(), options());
    let (trips, mut total, mut seen) = ([9i64], [0i64], [0i64; 9]);
    let count = allocations_of(|| {
        let mut outputs =
            [TensorMut::from_slice(&[], &mut total).unwrap(), TensorMut::from_slice(&[9], &mut seen).unwrap()];
        session.run_into(&[TensorRef::from_slice(&[], &trips).unwrap()], &mut outputs).unwrap();
    });
    assert_eq!(count, 0, "loop");

    let mut session = Session::with_options(&nonzero_gather().model(&[]).unwrap(), options());
    let (x, mut index, mut y) = ([0f32, 2.0, 3.0], [0i64; 2], [0f32; 2]);
    let count = allocations_of(|| {
        let mut outputs =
            [TensorMut::from_slice(&[1, 2], &mut index).unwrap(), TensorMut::from_slice(&[2], &mut y).unwrap()];
        session.run_into(&[TensorRef::from_slice(&[3], &x).unwrap()], &mut outputs).unwrap();
    });
    assert_eq!((count, y), (0, [2.0, 3.0]), "host routine");
}
