//! Keeps the threads of a pool on processors of their own.
//!
//! The scheduler may leave a worker on the caller's processor for a whole second, or wake it there each time, virtual machines
//! whose processors seem to share no cache above all; two threads are then slower than one. A worker that finds itself on the
//! processor of the caller, or of a worker before it, takes the processors that these were seen on out of its affinity mask, and
//! so moves. It is free to run on all the others that it was allowed, and is let back when it has to leave another place.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Apart;

/// Processor of a thread that has not told.
const UNKNOWN: u32 = u32::MAX;
/// Least time between two moves of a worker: each takes tens of microseconds.
const BETWEEN_MOVES: Duration = Duration::from_millis(1);

/// Where the threads of a pool were seen last, the caller first.
pub(super) struct Placement {
    processors: Vec<Apart<AtomicU32>>,
}

/// What a worker knows of its own place.
#[derive(Default)]
pub(super) struct Place {
    last_move: Option<Instant>,
    mask: system::Mask,
}

impl Placement {
    /// Of so many threads, none of which has been seen yet.
    pub(super) fn new(threads: usize) -> Placement {
        Placement { processors: (0..threads).map(|_| Apart(AtomicU32::new(UNKNOWN))).collect() }
    }

    /// Notes where the calling thread is, which is number `me` of the pool. Takes a few nanoseconds.
    pub(super) fn note(&self, me: usize) {
        let (seen, here) = (&self.processors[me].0, system::processor().unwrap_or(UNKNOWN));
        // Others read it while they spin: writing what it is already would take the line from each of them.
        if seen.load(Ordering::Relaxed) != here {
            seen.store(here, Ordering::Relaxed);
        }
    }

    /// Moves the calling thread, number `me` of the pool, if a thread with a lower number is on the same processor.
    pub(super) fn part(&self, me: usize, place: &mut Place) {
        self.note(me);
        let seen = |thread: usize| self.processors[thread].0.load(Ordering::Relaxed);
        let mine = seen(me);
        let is_shared = mine != UNKNOWN && (0..me).any(|thread| seen(thread) == mine);
        if !is_shared || place.last_move.is_some_and(|at| at.elapsed() < BETWEEN_MOVES) {
            return;
        }
        place.last_move = Some(Instant::now());
        place.mask.avoid((0..me).map(seen).filter(|&at| at != UNKNOWN));
        self.note(me);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::mem::{size_of, zeroed};

    use libc::{CPU_CLR, CPU_COUNT, CPU_EQUAL, CPU_SETSIZE, cpu_set_t};

    /// The processor that the calling thread runs on.
    pub(super) fn processor() -> Option<u32> {
        // SAFETY: takes no arguments and touches no memory of ours.
        u32::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    /// The processors that others allow the calling thread, and what was made of them last.
    #[derive(Default)]
    pub(super) struct Mask {
        last: Option<(cpu_set_t, cpu_set_t)>,
    }

    impl Mask {
        /// Restricts the calling thread to the processors it is allowed but `taken`, if that leaves any.
        pub(super) fn avoid(&mut self, taken: impl Iterator<Item = u32>) {
            let size = size_of::<cpu_set_t>();
            // SAFETY: a set is a plain array of bits, for which zeros are the empty set.
            let mut now: cpu_set_t = unsafe { zeroed() };
            // SAFETY: the set has the size that is told.
            if unsafe { libc::sched_getaffinity(0, size, &raw mut now) } != 0 {
                // More processors than a set of this type can name.
                return;
            }
            // A mask that is not the one made here was set by somebody else, and counts.
            let allowed = match &self.last {
                // SAFETY: both are sets.
                Some((allowed, made)) if unsafe { CPU_EQUAL(made, &now) } => *allowed,
                _ => now,
            };
            let mut free = allowed;
            for processor in taken.map(|at| at as usize).filter(|&at| at < CPU_SETSIZE as usize) {
                // SAFETY: the index lies within the set.
                unsafe { CPU_CLR(processor, &mut free) };
            }
            // SAFETY: the set has the size that is told.
            if unsafe { CPU_COUNT(&free) > 0 && libc::sched_setaffinity(0, size, &raw const free) == 0 } {
                self.last = Some((allowed, free));
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

    #[derive(Default)]
    pub(super) struct Mask;

    impl Mask {
        pub(super) fn avoid(&mut self, _taken: impl Iterator<Item = u32>) {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The mask of the calling thread.
    fn mask() -> Vec<u32> {
        // SAFETY: a set is a plain array of bits; the call fills as much as it is told; indices stay within.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
            (0..libc::CPU_SETSIZE as u32).filter(|&at| libc::CPU_ISSET(at as usize, &set)).collect()
        }
    }

    /// Says that the caller is at `processor`, and has the calling thread part from it, if it is there too.
    fn part_from(all: &Placement, place: &mut Place, processor: u32) {
        place.last_move = None;
        all.processors[0].0.store(processor, Ordering::Relaxed);
        all.part(1, place);
    }

    #[test]
    fn a_worker_leaves_the_processor_of_the_caller_and_comes_back() {
        let allowed = mask();
        let (all, mut place) = (Placement::new(2), Place::default());
        if allowed.len() == 1 {
            part_from(&all, &mut place, allowed[0]);
            assert_eq!(mask(), allowed, "there is nowhere to go");
            return;
        }
        for _ in 0..3 {
            // The scheduler may move this thread between the two looks at where it is.
            let mut here = UNKNOWN;
            while place.last_move.is_none() {
                here = system::processor().expect("known on this system");
                part_from(&all, &mut place, here);
            }
            let others: Vec<u32> = allowed.iter().copied().filter(|&at| at != here).collect();
            assert_eq!(mask(), others);
            assert!(system::processor().is_some_and(|at| others.contains(&at)));
            place.last_move = None;
        }
    }

    #[test]
    fn who_is_alone_stays_and_moves_are_rare() {
        let (all, mut place, before) = (Placement::new(3), Place::default(), mask());
        all.part(2, &mut place);
        assert!(place.last_move.is_none());
        // In an hour: this thread may be held up for longer than lies between two moves.
        let moved = Instant::now() + Duration::from_secs(3600);
        place.last_move = Some(moved);
        all.processors[0].0.store(all.processors[2].0.load(Ordering::Relaxed), Ordering::Relaxed);
        all.part(2, &mut place);
        assert_eq!((place.last_move, mask()), (Some(moved), before));
    }
}
