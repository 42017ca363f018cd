//! Happens-before race detection.
//!
//! A thread's clock counts its synchronisations. Each piece of memory remembers its last write and the reads since, as
//! (thread, clock) pairs; an access is fine if the thread knows that moment of the other thread. Knowledge passes at
//! barriers: one that takes in the whole block starts a new epoch, in which everything earlier is known to all, so that
//! vector clocks are needed only between full barriers, and threads that synchronise together share one.
//!
//! An asynchronous copy is a write by the issuing thread that nobody is ordered after, itself included, until that
//! thread waits. Atomics and other strong accesses do not race with each other, and order nothing else. Threads of
//! different blocks are never ordered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::fault::{FaultKind, Stop, source_line, stop};
use crate::memory::Allocation;

/// Index of a thread within its block.
pub(crate) type Thread = u16;

/// How memory is accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Read,
    Write,
    StrongRead,
    StrongWrite,
    Atomic,
    /// The destination of `cp.async`.
    Copy,
}

impl Kind {
    /// Whether memory changes.
    pub fn writes(self) -> bool {
        !matches!(self, Kind::Read | Kind::StrongRead)
    }

    fn is_strong(self) -> bool {
        matches!(self, Kind::StrongRead | Kind::StrongWrite | Kind::Atomic)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Read | Kind::StrongRead => "read",
            Kind::Write | Kind::StrongWrite => "write",
            Kind::Atomic => "atomic",
            Kind::Copy => "asynchronous copy",
        }
    }
}

/// A moment of one or more threads of a warp.
#[derive(Clone, Copy, Debug)]
struct Record {
    block: u32,
    epoch: u32,
    clock: u32,
    line: u32,
    lanes: u32,
    warp: u16,
    kind: Kind,
    /// A copy that has not been waited for.
    pending: bool,
}

/// What is remembered of one piece of memory.
#[derive(Clone, Debug, Default)]
struct Cell {
    write: Option<Record>,
    read: Option<Record>,
    /// Further reads that are unordered with the first one.
    reads: Vec<Record>,
}

struct Clock {
    own: u32,
    /// What this thread knows of the others since the last full barrier.
    known: Option<Rc<[u32]>>,
}

/// A clock under construction at a barrier.
#[derive(Default)]
pub(crate) struct Joined {
    clocks: Vec<u32>,
    last: Option<Rc<[u32]>>,
}

/// The shadow of global memory, shared by the blocks of a launch.
#[derive(Default)]
pub(crate) struct GlobalShadow {
    pages: HashMap<(u64, usize), Box<[Cell]>>,
}

/// Cells of one page of [`GlobalShadow`].
const PAGE: usize = 1024;
/// Reads by other blocks that are remembered per cell; one would do to find a race, two name a better one.
const FOREIGN_READS: usize = 2;

/// Race detection for one block.
pub(crate) struct Races {
    block: u32,
    epoch: u32,
    threads: Vec<Clock>,
    shape: [u32; 3],
    source: Arc<str>,
    granules: (usize, usize),
    shared: Vec<Cell>,
    global: Rc<RefCell<GlobalShadow>>,
    /// Reads of shared memory that nobody wrote are faults.
    check_defined: bool,
}

/// What the accesses of a block are compared with.
struct Now<'r> {
    block: u32,
    epoch: u32,
    threads: &'r [Clock],
}

impl Now<'_> {
    /// Whether all of `record` happened before `thread`'s present.
    fn follows(&self, record: &Record, thread: Thread) -> bool {
        if record.pending || record.block != self.block {
            return false;
        }
        if record.epoch < self.epoch {
            return true;
        }
        let first = record.warp * 32;
        let known = self.threads[thread as usize].known.as_deref();
        crate::regs::lanes(record.lanes).all(|lane| {
            let other = first + lane as u16;
            other == thread || known.is_some_and(|k| k[other as usize] >= record.clock)
        })
    }

    /// Checks an access and remembers it; the record it races with otherwise.
    fn access(&self, cell: &mut Cell, thread: Thread, kind: Kind, line: u32) -> Result<(), Record> {
        let races = |r: &Record| !(self.follows(r, thread) || r.kind.is_strong() && kind.is_strong());
        if let Some(write) = cell.write.filter(races) {
            return Err(write);
        }
        let record = Record {
            block: self.block,
            epoch: self.epoch,
            clock: self.threads[thread as usize].own,
            line,
            lanes: 1 << (thread % 32),
            warp: thread / 32,
            kind,
            pending: kind == Kind::Copy,
        };
        if !kind.writes() {
            self.add_read(cell, record, thread);
            return Ok(());
        }
        if let Some(read) = cell.read.iter().chain(&cell.reads).find(|r| races(r)) {
            return Err(*read);
        }
        (cell.write, cell.read) = (Some(record), None);
        cell.reads.clear();
        Ok(())
    }

    fn add_read(&self, cell: &mut Cell, record: Record, thread: Thread) {
        let alike = |r: &Record| {
            (r.block, r.epoch, r.clock, r.warp, r.kind)
                == (record.block, record.epoch, record.clock, record.warp, record.kind)
        };
        match &mut cell.read {
            None => cell.read = Some(record),
            Some(first) if alike(first) => first.lanes |= record.lanes,
            Some(first) if self.follows(first, thread) => *first = record,
            Some(_) => {
                let reads = &mut cell.reads;
                if let Some(same) = reads.iter_mut().find(|r| alike(r)) {
                    same.lanes |= record.lanes;
                    return;
                }
                reads.retain(|r| !self.follows(r, thread));
                let mut foreign = 0;
                reads.retain(|r| {
                    foreign += usize::from(r.block != record.block);
                    r.block == record.block || foreign <= FOREIGN_READS
                });
                reads.push(record);
            }
        }
    }
}

impl Races {
    /// For a block of `threads` threads.
    pub fn new(
        kernel: &crate::Kernel,
        shape: [u32; 3],
        shared_bytes: usize,
        global: Rc<RefCell<GlobalShadow>>,
        check_defined: bool,
    ) -> Races {
        let count = shape.iter().product::<u32>().next_multiple_of(32);
        let granules = kernel.granules;
        Races {
            block: 0,
            epoch: 0,
            threads: (0..count).map(|_| Clock { own: 1, known: None }).collect(),
            shape,
            source: kernel.source.clone(),
            granules,
            shared: vec![Cell::default(); shared_bytes.div_ceil(granules.0)],
            global,
            check_defined,
        }
    }

    /// Starts over for block `block`.
    pub fn reset(&mut self, block: u32) {
        self.block = block;
        self.epoch = 0;
        self.threads.iter_mut().for_each(|t| *t = Clock { own: 1, known: None });
        self.shared.fill(Cell::default());
    }

    /// Checks and remembers an access to shared memory.
    pub fn shared_access(
        &mut self,
        thread: Thread,
        offset: usize,
        bytes: usize,
        kind: Kind,
        line: u32,
    ) -> Result<(), Stop> {
        let granule = self.granules.0;
        let now = Now { block: self.block, epoch: self.epoch, threads: &self.threads };
        for index in offset / granule..(offset + bytes).div_ceil(granule) {
            let cell = &mut self.shared[index];
            let reads = !matches!(kind, Kind::Write | Kind::StrongWrite | Kind::Copy);
            if reads && self.check_defined && cell.write.is_none() {
                let message = format!("offset {} of shared memory, which nobody has written", index * granule);
                return Err(stop(FaultKind::UndefinedMemory, u32::from(thread % 32), message));
            }
            if let Err(other) = now.access(cell, thread, kind, line) {
                let place = format!("offset {} of shared memory", index * granule);
                return Err(self.report(FaultKind::SharedRace, &place, other, thread, kind));
            }
        }
        Ok(())
    }

    /// Checks and remembers an access to global memory.
    pub fn global_access(
        &mut self,
        thread: Thread,
        allocation: &Allocation,
        offset: usize,
        bytes: usize,
        kind: Kind,
        line: u32,
    ) -> Result<(), Stop> {
        let granule = self.granules.1;
        let now = Now { block: self.block, epoch: self.epoch, threads: &self.threads };
        let global = self.global.clone();
        let mut shadow = global.borrow_mut();
        let cells = offset / granule..(offset + bytes).div_ceil(granule);
        let page = shadow
            .pages
            .entry((allocation.base, cells.start / PAGE))
            .or_insert_with(|| vec![Cell::default(); PAGE].into_boxed_slice());
        // Accesses are aligned and of 16 bytes at most: they lie within one page.
        for index in cells {
            if let Err(other) = now.access(&mut page[index % PAGE], thread, kind, line) {
                let place = format!("offset {} of the allocation at {:#x}", index * granule, allocation.base);
                return Err(self.report(FaultKind::GlobalRace, &place, other, thread, kind));
            }
        }
        Ok(())
    }

    /// `thread` has waited for its copy to these bytes.
    pub fn copy_waited(&mut self, thread: Thread, offset: usize, bytes: usize) {
        let granule = self.granules.0;
        for cell in &mut self.shared[offset / granule..(offset + bytes).div_ceil(granule)] {
            let Some(write) = &mut cell.write else { continue };
            if write.pending && write.warp == thread / 32 && write.lanes == 1 << (thread % 32) {
                write.pending = false;
                write.epoch = self.epoch;
                write.clock = self.threads[thread as usize].own;
            }
        }
    }

    /// Adds what `thread` knows to `joined`.
    pub fn release(&mut self, thread: Thread, joined: &mut Joined) {
        joined.clocks.resize(self.threads.len(), 0);
        let clock = &mut self.threads[thread as usize];
        if let Some(known) = &clock.known
            && !joined.last.as_ref().is_some_and(|last| Rc::ptr_eq(last, known))
        {
            joined.clocks.iter_mut().zip(known.iter()).for_each(|(a, b)| *a = (*a).max(*b));
            joined.last = Some(known.clone());
        }
        joined.clocks[thread as usize] = joined.clocks[thread as usize].max(clock.own);
        clock.own += 1;
    }

    /// Gives what was joined to `threads`.
    pub fn acquire(&mut self, threads: impl Iterator<Item = Thread>, joined: Joined) {
        let known: Rc<[u32]> = joined.clocks.into();
        threads.for_each(|t| self.threads[t as usize].known = Some(known.clone()));
    }

    /// All threads have met: all that happened is known to all.
    pub fn full_barrier(&mut self) {
        self.epoch += 1;
        self.threads.iter_mut().for_each(|t| t.known = None);
    }

    fn thread_index(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.shape;
        [thread % x, thread / x % y, thread / x / y]
    }

    fn report(&self, fault: FaultKind, place: &str, other: Record, thread: Thread, kind: Kind) -> Stop {
        let lane = crate::regs::lanes(other.lanes).find(|l| *l as u32 != u32::from(thread % 32)).unwrap_or(0);
        let lane = if other.warp == thread / 32 { lane } else { other.lanes.trailing_zeros() as usize };
        let index = self.thread_index(u32::from(other.warp) * 32 + lane as u32);
        let block = if other.block == self.block { String::new() } else { format!(" of block {}", other.block) };
        let unfinished = if other.pending { " that has not been waited for" } else { "" };
        let message = format!(
            "{}-{} race at {place}: this {} and the {} by thread {index:?}{block} at line {}{unfinished}: `{}`",
            other.kind.name(),
            kind.name(),
            kind.name(),
            other.kind.name(),
            other.line,
            source_line(&self.source, other.line),
        );
        stop(fault, u32::from(thread % 32), message)
    }
}
