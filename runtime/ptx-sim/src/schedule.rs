//! Launches: checks their shape and runs their blocks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::block::Block;
use crate::fault::{Fault, FaultKind};
use crate::memory::Memory;
use crate::module::Kernel;
use crate::race::GlobalShadow;
use crate::random::Random;

/// Shared memory that a block can have on the largest device known here.
const MOST_SHARED: usize = 227 * 1024;
/// Blocks of an adversarial run that are under way at once.
const RESIDENT: usize = 8;

/// The shape and the arguments of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Values of the parameters, laid out as [`Kernel::params`] says.
    pub params: &'a [u8],
}

/// How to run, and what to look for.
#[derive(Clone, Debug)]
pub struct Options {
    /// None: warps in order, copies at once, fast. Some: an adversarial schedule, the same for the same seed.
    pub seed: Option<u64>,
    /// Detect races on shared and global memory; such a run uses one host thread.
    pub races: bool,
    /// Reads of global memory that nobody has written are faults, if the [`Memory`] tracks that; with `races`, of
    /// shared memory as well.
    pub uninitialized_global: bool,
    /// Most thread-level instructions of the launch.
    pub instruction_limit: u64,
    /// Host threads over blocks.
    pub threads: usize,
    /// The launch may overlap its predecessor: `griddepcontrol.wait` must come before global accesses.
    pub dependent: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: None,
            races: false,
            uninitialized_global: false,
            instruction_limit: u64::MAX,
            threads: 1,
            dependent: false,
        }
    }
}

/// What a launch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions, each thread's counted; those predicated off are not.
    pub instructions: u64,
    /// Instructions of warps, however many lanes took part.
    pub warp_instructions: u64,
    /// Block barriers completed.
    pub barriers: u64,
    /// `mma` instructions of warps.
    pub mma: u64,
    /// Blocks run.
    pub blocks: u64,
}

impl Stats {
    fn add(&mut self, other: Stats) {
        self.instructions += other.instructions;
        self.warp_instructions += other.warp_instructions;
        self.barriers += other.barriers;
        self.mma += other.mma;
        self.blocks += other.blocks;
    }
}

impl Launch<'_> {
    /// Shared memory of a block, static and dynamic.
    pub(crate) fn shared_bytes(&self, kernel: &Kernel) -> usize {
        match self.dynamic_shared {
            0 => kernel.shared_bytes,
            dynamic => kernel.dynamic_offset + dynamic as usize,
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<(), String> {
        let threads = self.block.iter().map(|n| u64::from(*n)).product::<u64>();
        if self.grid.contains(&0) || self.grid[0] > i32::MAX as u32 || self.grid[1].max(self.grid[2]) > 65535 {
            return Err(format!("a grid of {:?} blocks is not possible", self.grid));
        }
        if threads == 0 || threads > 1024 || self.block[2] > 64 {
            return Err(format!("blocks of {:?} threads are not possible", self.block));
        }
        if kernel.required_threads.is_some_and(|n| n != self.block) || threads > u64::from(kernel.max_threads()) {
            return Err(format!("blocks of {:?} threads are not what the kernel declares", self.block));
        }
        let shared = self.shared_bytes(kernel);
        if shared > MOST_SHARED || kernel.shared_bytes > 48 * 1024 {
            return Err(format!("{shared} bytes of shared memory are too many"));
        }
        if self.params.len() != kernel.param_bytes {
            return Err(format!("{} bytes of parameters given, {} declared", self.params.len(), kernel.param_bytes));
        }
        Ok(())
    }
}

/// What host threads share during a launch.
struct Run<'a> {
    kernel: &'a Kernel,
    launch: &'a Launch<'a>,
    memory: &'a Memory,
    options: &'a Options,
    blocks: u64,
    next: AtomicU64,
    instructions: AtomicU64,
    /// The fault of the lowest block number so far.
    fault: Mutex<Option<(u64, Box<Fault>)>>,
    stats: Mutex<Stats>,
}

/// Runs a kernel to its end or to its first fault.
pub fn launch(kernel: &Kernel, launch: &Launch, memory: &Memory, options: &Options) -> Result<Stats, Fault> {
    if let Err(message) = launch.check(kernel) {
        return Err(plain_fault(kernel, FaultKind::InvalidLaunch, message));
    }
    let blocks = launch.grid.iter().map(|n| u64::from(*n)).product();
    let run = Run {
        kernel,
        launch,
        memory,
        options,
        blocks,
        next: AtomicU64::new(0),
        instructions: AtomicU64::new(0),
        fault: Mutex::new(None),
        stats: Mutex::new(Stats::default()),
    };
    let threads = if options.races || options.seed.is_some() { 1 } else { options.threads.max(1) };
    match (threads as u64).min(blocks) {
        1 => run.work(),
        n => std::thread::scope(|scope| (0..n).for_each(|_| drop(scope.spawn(|| run.work())))),
    }
    match run.fault.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((_, fault)) => Err(*fault),
        None => Ok(run.stats.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

fn plain_fault(kernel: &Kernel, kind: FaultKind, message: String) -> Fault {
    let name = kernel.name.clone();
    Fault { kind, kernel: name, line: 0, text: String::new(), block: [0; 3], thread: [0; 3], message }
}

impl<'a> Run<'a> {
    fn report(&self, number: u64, fault: Box<Fault>) {
        let mut slot = self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if slot.as_ref().is_none_or(|(n, _)| number < *n) {
            *slot = Some((number, fault));
        }
        // Nobody starts another block.
        self.next.store(self.blocks, Relaxed);
    }

    /// Runs blocks until none is left or one of them fails.
    fn work(&self) {
        let shadow = Rc::new(RefCell::new(GlobalShadow::default()));
        let mut random = self.options.seed.map(Random::new);
        let mut running: VecDeque<(u64, Block)> = VecDeque::new();
        let mut idle: Vec<Block> = Vec::new();
        let resident = if random.is_some() { RESIDENT } else { 1 };
        let patience = if random.is_some() { 64 } else { 4 };
        let (mut wanted, mut fruitless) = (resident, 0);
        let mut stats = Stats::default();
        loop {
            while running.len() < wanted {
                let Some(number) = self.take() else { break };
                let make = || Block::new(self.kernel, self.launch, self.memory, self.options, &shadow);
                let mut block = idle.pop().unwrap_or_else(make);
                block.start(number, self.options.seed);
                running.push_back((number, block));
            }
            let Some(turn) = random.as_mut().map_or(Some(0), |r| (!running.is_empty()).then(|| r.below(running.len())))
            else {
                break;
            };
            let Some((number, mut block)) = running.remove(turn) else { break };
            let before = block.instructions;
            let done = block.run();
            let total = self.instructions.fetch_add(block.instructions - before, Relaxed);
            match done {
                Err(fault) => return self.report(number, fault),
                _ if total > self.options.instruction_limit => {
                    let message = format!("more than {} instructions", self.options.instruction_limit);
                    let fault = plain_fault(self.kernel, FaultKind::InstructionLimit, message);
                    return self.report(number, Box::new(fault));
                }
                Ok(true) => {
                    stats.blocks += 1;
                    (wanted, fruitless) = (resident, 0);
                    idle.push(block);
                }
                Ok(false) => {
                    running.push_back((number, block));
                    fruitless += 1;
                    if fruitless > patience * running.len() {
                        // They may wait for a block that has not started.
                        (wanted, fruitless) = ((running.len() + 1).max(resident), 0);
                    }
                }
            }
        }
        for block in &idle {
            stats.add(Stats {
                instructions: block.instructions,
                warp_instructions: block.warp_instructions,
                barriers: block.env.barriers,
                mma: block.env.mma,
                blocks: 0,
            });
        }
        self.stats.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(stats);
    }

    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Relaxed);
        (number < self.blocks).then_some(number)
    }
}
