//! The thread pool of a session: workers that spin briefly and then park, and a caller that always takes part.
//!
//! A task's tiles are divided into one contiguous range per worker, and each range is taken in chunks through its own
//! counter; who has finished takes chunks of the others. Which worker runs a tile never changes its result.
//!
//! Each worker has a mailbox with a state. The caller moves it `IDLE` or `PARKED` to `POSTED`; the worker moves it to
//! `RUNNING` and back to `IDLE`. A worker that has not begun when all chunks are taken is not waited for: the caller
//! takes the post back. So a slow wake-up costs nothing but its share of the work.
//!
//! Invariant: the task in [`Shared`] is written only while no mailbox is `POSTED` or `RUNNING`.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::device::cpu::KernelFn;
use placement::{Place, Placement};

pub(crate) use pace::Pace;

mod pace;
mod placement;

/// Nothing to do; the worker spins.
const IDLE: u32 = 0;
/// A task waits to be begun.
const POSTED: u32 = 1;
/// The worker runs the task.
const RUNNING: u32 = 2;
/// Nothing to do; the worker sleeps.
const PARKED: u32 = 3;
/// The worker is to end.
const STOPPED: u32 = 4;

/// How long a worker spins between runs before it parks.
const SPIN: Duration = Duration::from_micros(50);
/// How long it spins while a run is under way, where the next task is likely and waking takes about as long.
const SPIN_IN_RUN: Duration = Duration::from_micros(250);
/// Most threads of a pool.
const MAX_THREADS: usize = 1024;
/// Chunks per worker: enough to even out tiles of different cost, few enough that counting costs nothing.
const CHUNKS: i64 = 4;

/// A kernel launch, ready to be divided.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) func: KernelFn,
    pub(crate) args: *const *mut u8,
    pub(crate) dims: *const i64,
    /// Scratch memory of the first worker; the others follow at `scratch_stride`.
    pub(crate) scratch: *mut u8,
    pub(crate) scratch_stride: usize,
    pub(crate) tiles: i64,
}

impl Task {
    /// Runs some tiles as worker `worker`.
    ///
    /// # Safety
    ///
    /// As [`Pool::run`].
    unsafe fn run_tiles(&self, worker: usize, begin: i64, end: i64) -> i64 {
        let scratch = self.scratch.wrapping_add(worker * self.scratch_stride);
        // SAFETY: the caller vouches for function and arguments.
        unsafe { (self.func)(self.args, self.dims, scratch, begin, end) }
    }
}

/// One cache line, and its prefetched neighbour, to itself.
#[repr(align(128))]
struct Apart<T>(T);

/// Work of one participant.
#[derive(Default)]
struct Range {
    /// First tile that nobody has taken.
    next: AtomicI64,
    end: AtomicI64,
}

struct Shared {
    /// The caller's range, then one per worker.
    ranges: Vec<Apart<Range>>,
    /// State of each worker.
    mailboxes: Vec<Apart<AtomicU32>>,
    task: UnsafeCell<Option<Task>>,
    /// Number of ranges of the task.
    participants: AtomicU32,
    chunk: AtomicI64,
    /// Check that failed at the lowest tile, so that it does not depend on who ran it; 0 when none did.
    failed_check: AtomicI64,
    failed_tile: AtomicI64,
    in_run: AtomicBool,
    /// Workers that have begun to wait for tasks.
    started: AtomicU32,
    placement: Placement,
    spins: bool,
}

// SAFETY: `task` is the one field that is not synchronized by itself: the caller writes it only while no mailbox is
// POSTED or RUNNING, and publishes it by the release store that posts; workers read it after the acquire that begins.
// The raw pointers in it are valid as long as the task runs, by the contract of `Pool::run`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// The caller's handle; dropping it ends the workers.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
    /// Tasks may be divided.
    divides: bool,
    /// One has been, or would have been, since [`Pool::begin_run`].
    has_divided: bool,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included. Fewer if the system gives no more.
    pub(crate) fn new(threads: usize) -> Pool {
        let wanted = threads.clamp(1, MAX_THREADS);
        let shared = Arc::new(Shared {
            ranges: (0..wanted).map(|_| Apart(Range::default())).collect(),
            mailboxes: (1..wanted).map(|_| Apart(AtomicU32::new(IDLE))).collect(),
            task: UnsafeCell::new(None),
            participants: AtomicU32::new(0),
            chunk: AtomicI64::new(1),
            failed_check: AtomicI64::new(0),
            failed_tile: AtomicI64::new(i64::MAX),
            in_run: AtomicBool::new(false),
            started: AtomicU32::new(0),
            placement: Placement::new(wanted),
            // Spinning threads that outnumber the processors would keep each other from working.
            spins: wanted <= crate::threads::available(),
        });
        shared.placement.note(0);
        let mut workers = Vec::new();
        for worker in 1..wanted {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("xlac-{worker}"));
            match builder.spawn(move || work(&shared, worker)) {
                Ok(handle) => workers.push((handle.thread().clone(), Some(handle))),
                Err(_) => break,
            }
        }
        // A starting thread allocates its own bookkeeping: that must not happen during a run.
        while shared.started.load(Ordering::Acquire) < workers.len() as u32 {
            std::thread::yield_now();
        }
        Pool { shared, workers, divides: true, has_divided: false }
    }

    /// Number of threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Begins a run, whose tasks follow each other closely, and are divided or not.
    pub(crate) fn begin_run(&mut self, divides: bool) {
        (self.divides, self.has_divided) = (divides, false);
        if divides && !self.workers.is_empty() {
            self.shared.in_run.store(true, Ordering::Relaxed);
        }
    }

    /// Ends it. True if a task would have been divided.
    pub(crate) fn end_run(&mut self) -> bool {
        if !self.workers.is_empty() {
            self.shared.in_run.store(false, Ordering::Relaxed);
        }
        self.has_divided
    }

    /// Runs all tiles on up to `workers` threads and waits for them; 0, or the check that failed at the lowest tile.
    ///
    /// # Safety
    ///
    /// The function must be sound to call with the task's arguments on any ranges of its tiles, from several threads,
    /// with scratch memory for [`Pool::threads`] workers.
    #[inline]
    pub(crate) unsafe fn run(&mut self, task: &Task, workers: usize) -> i64 {
        if task.tiles <= 0 {
            return 0;
        }
        if workers <= 1 || self.workers.is_empty() {
            // SAFETY: passed on.
            return unsafe { task.run_tiles(0, 0, task.tiles) };
        }
        self.has_divided = true;
        if !self.divides {
            // SAFETY: passed on.
            return unsafe { task.run_tiles(0, 0, task.tiles) };
        }
        // SAFETY: passed on.
        unsafe { self.run_divided(task, workers.min(self.threads())) }
    }

    /// # Safety
    ///
    /// As [`Pool::run`]; `participants` is from 2 to the number of threads.
    #[cold]
    unsafe fn run_divided(&mut self, task: &Task, participants: usize) -> i64 {
        self.divide(task, participants);
        self.shared.placement.note(0);
        for helper in 0..participants - 1 {
            self.post(helper);
        }
        // SAFETY: the contract of this function; the task was set by `divide`.
        unsafe { take_chunks(&self.shared, task, 0) };
        for helper in 0..participants - 1 {
            self.settle(helper);
        }
        self.shared.failed_check.load(Ordering::Relaxed)
    }

    /// Sets task and ranges; no worker is busy.
    fn divide(&mut self, task: &Task, participants: usize) {
        let shared = &*self.shared;
        // SAFETY: the invariant of this module: `run_divided` settles every mailbox before it returns, so no worker
        // reads the task now, and `&mut self` keeps other callers away.
        unsafe { *shared.task.get() = Some(*task) };
        let count = participants as i64;
        let mut begin = 0;
        for (participant, range) in shared.ranges[..participants].iter().enumerate() {
            let left = count - participant as i64;
            let end = begin + (task.tiles - begin) / left;
            range.0.next.store(begin, Ordering::Relaxed);
            range.0.end.store(end, Ordering::Relaxed);
            begin = end;
        }
        shared.chunk.store((task.tiles / (count * CHUNKS)).max(1), Ordering::Relaxed);
        shared.participants.store(participants as u32, Ordering::Relaxed);
        shared.failed_check.store(0, Ordering::Relaxed);
        shared.failed_tile.store(i64::MAX, Ordering::Relaxed);
    }

    /// Gives the task to a worker and wakes it if it sleeps.
    fn post(&self, helper: usize) {
        let mailbox = &self.shared.mailboxes[helper].0;
        // The worker itself moves between IDLE and PARKED only; either way it finds the post.
        if mailbox.swap(POSTED, Ordering::AcqRel) == PARKED {
            self.workers[helper].0.unpark();
        }
    }

    /// Takes the post back from a worker that has not begun, or waits until it is done.
    fn settle(&self, helper: usize) {
        let mailbox = &self.shared.mailboxes[helper].0;
        if mailbox.compare_exchange(POSTED, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
        let mut waited = 0u32;
        while mailbox.load(Ordering::Acquire) == RUNNING {
            waited += 1;
            match waited {
                0..4096 if self.shared.spins => std::hint::spin_loop(),
                0..8192 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(20)),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (helper, (thread, _)) in self.workers.iter().enumerate() {
            self.shared.mailboxes[helper].0.store(STOPPED, Ordering::Release);
            thread.unpark();
        }
        for (_, handle) in &mut self.workers {
            // A worker runs nothing that can panic; if one did, there is nobody left to tell.
            handle.take().map(JoinHandle::join);
        }
    }
}

/// Life of a worker; participant number `worker`, from 1.
fn work(shared: &Shared, worker: usize) {
    let mailbox = &shared.mailboxes[worker - 1].0;
    let mut place = Place::default();
    if shared.spins {
        shared.placement.part(worker, &mut place);
    }
    shared.started.fetch_add(1, Ordering::AcqRel);
    loop {
        match wait(shared, worker, &mut place) {
            STOPPED => return,
            _ if mailbox.compare_exchange(POSTED, RUNNING, Ordering::AcqRel, Ordering::Acquire).is_err() => continue,
            _ => {}
        }
        // SAFETY: the exchange above acquired the post that published the task, and the caller does not write it
        // before it has seen this mailbox leave RUNNING.
        if let Some(task) = unsafe { *shared.task.get() } {
            // SAFETY: the caller of `Pool::run` vouched for the task and waits for this worker.
            unsafe { take_chunks(shared, &task, worker) };
        }
        // A stop cannot arrive meanwhile: dropping the pool needs it, and the caller is inside `run`.
        mailbox.store(IDLE, Ordering::Release);
    }
}

/// Waits until there is a post or a stop: spins, then parks.
fn wait(shared: &Shared, worker: usize, place: &mut Place) -> u32 {
    let mailbox = &shared.mailboxes[worker - 1].0;
    if shared.spins {
        let start = Instant::now();
        loop {
            if shared.in_run.load(Ordering::Relaxed) {
                shared.placement.part(worker, place);
            }
            for _ in 0..64 {
                let state = mailbox.load(Ordering::Acquire);
                if state == POSTED || state == STOPPED {
                    return state;
                }
                std::hint::spin_loop();
            }
            let limit = if shared.in_run.load(Ordering::Relaxed) { SPIN_IN_RUN } else { SPIN };
            if start.elapsed() > limit {
                break;
            }
        }
    }
    // Either the post came first and is seen here, or the caller sees PARKED and wakes this thread.
    match mailbox.compare_exchange(IDLE, PARKED, Ordering::AcqRel, Ordering::Acquire) {
        Err(state) => state,
        Ok(_) => loop {
            std::thread::park();
            let state = mailbox.load(Ordering::Acquire);
            if state != PARKED {
                return state;
            }
        },
    }
}

/// Runs chunks of the own range, then of the others', until all are taken.
///
/// # Safety
///
/// As [`Pool::run`]; `task` is the one the ranges were set for.
unsafe fn take_chunks(shared: &Shared, task: &Task, me: usize) {
    let participants = shared.participants.load(Ordering::Relaxed) as usize;
    let chunk = shared.chunk.load(Ordering::Relaxed);
    for step in 0..participants {
        let range = &shared.ranges[(me + step) % participants].0;
        let end = range.end.load(Ordering::Relaxed);
        loop {
            let begin = range.next.fetch_add(chunk, Ordering::Relaxed);
            if begin >= end {
                break;
            }
            // SAFETY: passed on; each tile is in one chunk.
            let check = unsafe { task.run_tiles(me, begin, end.min(begin + chunk)) };
            if check != 0 {
                note_failure(shared, begin, check);
            }
        }
    }
}

/// Keeps the failure with the lowest tile. Rare, so a lock made of `failed_tile` itself will do.
#[cold]
fn note_failure(shared: &Shared, tile: i64, check: i64) {
    const LOCKED: i64 = -1;
    loop {
        let lowest = shared.failed_tile.load(Ordering::Acquire);
        if lowest == LOCKED {
            std::hint::spin_loop();
            continue;
        }
        if tile >= lowest {
            return;
        }
        if shared.failed_tile.compare_exchange(lowest, LOCKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            shared.failed_check.store(check, Ordering::Relaxed);
            shared.failed_tile.store(tile, Ordering::Release);
            return;
        }
    }
}

/// Work that is worth a second thread, in nanoseconds.
const WORTH_DIVIDING: i64 = 3_000;
/// Work that is worth one more thread, in nanoseconds.
const WORTH_A_WORKER: i64 = 1_500;

/// How many threads a launch of `tiles` tiles of about `tile_ns` nanoseconds each is worth, out of `threads`.
pub(crate) fn workers_for(tiles: i64, tile_ns: i64, threads: usize) -> usize {
    let work = tiles.saturating_mul(tile_ns.max(0));
    if tiles < 2 || threads < 2 || work < WORTH_DIVIDING {
        return 1;
    }
    let justified = usize::try_from(work / WORTH_A_WORKER).unwrap_or(usize::MAX);
    justified.min(threads).min(usize::try_from(tiles).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
