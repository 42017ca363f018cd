//! Keeps the threads of a pool on processors of their own.
//!
//! The scheduler may leave a worker on the caller's processor for a whole second, virtual machines with few processors above
//! all; two threads are then slower than one. A worker that finds itself on the processor of the caller, or of a worker before
//! it, moves to one that the pool does not use and that its affinity mask allows. It is not bound there: its mask is as before
//! when the move is made, so that other processes and whoever sets masks keep their say.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Apart;

/// Processor of a thread that has not told.
const UNKNOWN: u32 = u32::MAX;
/// Least time between two moves of a worker: a move takes tens of microseconds, and where other processes take the processor
/// that it moves to, the scheduler may have had its reasons.
const BETWEEN_MOVES: Duration = Duration::from_millis(2);

/// Where the threads of a pool were seen last, the caller first.
pub(super) struct Placement {
    processors: Vec<Apart<AtomicU32>>,
}

impl Placement {
    /// Of so many threads, none of which has been seen yet.
    pub(super) fn new(threads: usize) -> Placement {
        Placement { processors: (0..threads).map(|_| Apart(AtomicU32::new(UNKNOWN))).collect() }
    }

    /// Notes where the calling thread is, which is number `me` of the pool. Takes a few nanoseconds.
    pub(super) fn note(&self, me: usize) {
        self.processors[me].0.store(system::processor().unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Moves the calling thread, number `me` of the pool, if a thread with a lower number is on the same processor.
    pub(super) fn part(&self, me: usize, last_move: &mut Option<Instant>) {
        self.note(me);
        let seen = |thread: usize| self.processors[thread].0.load(Ordering::Relaxed);
        let mine = seen(me);
        let is_shared = mine != UNKNOWN && (0..me).any(|thread| seen(thread) == mine);
        if !is_shared || last_move.is_some_and(|at| at.elapsed() < BETWEEN_MOVES) {
            return;
        }
        *last_move = Some(Instant::now());
        system::leave((0..self.processors.len()).map(seen).filter(|&at| at != UNKNOWN));
        self.note(me);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::mem::{size_of, zeroed};

    use libc::{CPU_CLR, CPU_COUNT, CPU_SETSIZE, cpu_set_t};

    /// The processor that the calling thread runs on.
    pub(super) fn processor() -> Option<u32> {
        // SAFETY: takes no arguments and touches no memory of ours.
        u32::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    /// Moves the calling thread to a processor that is none of `taken`, if its mask allows one, and leaves the mask as it is.
    pub(super) fn leave(taken: impl Iterator<Item = u32>) {
        let size = size_of::<cpu_set_t>();
        // SAFETY: a set is a plain array of bits, for which zeros are the empty set.
        let mut allowed: cpu_set_t = unsafe { zeroed() };
        // SAFETY: the set has the size that is told.
        if unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) } != 0 {
            // More processors than a set of this type can name.
            return;
        }
        let mut free = allowed;
        for processor in taken.map(|at| at as usize).filter(|&at| at < CPU_SETSIZE as usize) {
            // SAFETY: the index lies within the set.
            unsafe { CPU_CLR(processor, &mut free) };
        }
        // SAFETY: both sets have the size that is told; the second call undoes the first, also when that had failed.
        unsafe {
            if CPU_COUNT(&free) > 0 && libc::sched_setaffinity(0, size, &raw const free) == 0 {
                libc::sched_setaffinity(0, size, &raw const allowed);
            }
        }
    }
}

/// Elsewhere the scheduler alone decides.
#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn processor() -> Option<u32> {
        None
    }

    pub(super) fn leave(_taken: impl Iterator<Item = u32>) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The mask of the calling thread.
    fn mask() -> Vec<usize> {
        // SAFETY: a set is a plain array of bits; the call fills as much as it is told; indices stay within.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
            (0..libc::CPU_SETSIZE as usize).filter(|&at| libc::CPU_ISSET(at, &set)).collect()
        }
    }

    #[test]
    fn a_worker_leaves_the_processor_of_the_caller_and_keeps_its_mask() {
        let before = mask();
        let place = Placement::new(2);
        for _ in 0..20 {
            place.note(1);
            // The caller was seen where this thread is now, whatever the scheduler does meanwhile.
            let here = place.processors[1].0.load(Ordering::Relaxed);
            place.processors[0].0.store(here, Ordering::Relaxed);
            let mut last_move = None;
            place.part(1, &mut last_move);
            assert_eq!(mask(), before);
            if last_move.is_some() && before.len() > 1 {
                // It may have been moved back since, but not each time.
                if system::processor() != Some(here) {
                    return;
                }
            }
        }
        assert_eq!(before.len(), 1, "never left processor although there are others");
    }

    #[test]
    fn who_is_alone_stays_and_moves_are_rare() {
        let place = Placement::new(3);
        let mut last_move = None;
        place.part(2, &mut last_move);
        assert!(last_move.is_none());
        let just_now = Instant::now();
        let mut last_move = Some(just_now);
        let here = place.processors[2].0.load(Ordering::Relaxed);
        place.processors[0].0.store(here, Ordering::Relaxed);
        place.part(2, &mut last_move);
        assert_eq!(last_move, Some(just_now));
    }
}
