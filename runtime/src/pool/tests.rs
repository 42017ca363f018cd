//! Every tile runs once, on any number of threads; failures do not depend on who ran what.

use super::*;

/// Adds one to `counts[tile]`; reports check `tile + 1` for tiles that are multiples of `dims[0]`.
unsafe extern "C" fn count(buffers: *const *mut u8, dims: *const i64, scratch: *mut u8, begin: i64, end: i64) -> i64 {
    // SAFETY: `run` below passes one buffer of as many counters as tiles, one dim and 64 bytes of scratch per worker.
    unsafe {
        let counts = (*buffers).cast::<u32>();
        let mark = scratch.cast::<i64>();
        for tile in begin..end {
            mark.write(tile);
            *counts.add(tile as usize) += 1;
            if mark.read() != tile {
                return -1;
            }
            if *dims > 0 && tile > 0 && tile % *dims == 0 {
                return tile + 1;
            }
        }
    }
    0
}

fn run(pool: &mut Pool, tiles: usize, workers: usize, fail_every: i64) -> (Vec<u32>, i64) {
    let mut counts = vec![0u32; tiles];
    let args = [counts.as_mut_ptr().cast::<u8>()];
    let mut scratch = vec![0u64; 8 * pool.threads()];
    let task = Task {
        func: count,
        args: args.as_ptr(),
        dims: &raw const fail_every,
        scratch: scratch.as_mut_ptr().cast(),
        scratch_stride: 64,
        tiles: tiles as i64,
    };
    // SAFETY: the arguments are what `count` expects.
    let check = unsafe { pool.run(&task, workers) };
    (counts, check)
}

#[test]
fn every_tile_runs_once() {
    for threads in [1, 2, 3, 7] {
        let mut pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for round in 0..300 {
            let tiles = [0, 1, 2, 3, 5, 64, 1000][round % 7];
            let (counts, check) = run(&mut pool, tiles, 1 + round % threads, 0);
            assert_eq!(check, 0);
            assert!(counts.iter().all(|&count| count == 1), "{threads} threads, {tiles} tiles: {counts:?}");
            if round % 100 == 99 {
                // Long enough for the workers to park.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn the_lowest_failure_is_reported() {
    let mut pool = Pool::new(3);
    for _ in 0..50 {
        assert_eq!(run(&mut pool, 100, 3, 10).1, 11);
    }
    assert_eq!(run(&mut pool, 100, 1, 10).1, 11);
}

#[test]
fn workers_are_woken_only_for_enough_work() {
    assert_eq!(workers_for(100, 10, 8), 1);
    assert_eq!(workers_for(1, 1_000_000, 8), 1);
    assert_eq!(workers_for(100, 30, 8), 2);
    assert_eq!(workers_for(100, 1_000, 8), 8);
    assert_eq!(workers_for(3, i64::MAX, 8), 3);
    assert_eq!(workers_for(0, 5, 8), 1);
}
