//! Everything the simulated driver knows.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Instant;

use xlac_runtime::device::cuda::api::Status;

use super::SimConfig;
use super::code::{Image, Link};
use super::work::{Node, Work};
use crate::Memory;

/// A function of a loaded module.
#[derive(Clone)]
pub(super) struct Function {
    pub(super) module: Arc<Image>,
    pub(super) name: String,
    /// Most bytes of dynamic shared memory it may be launched with.
    pub(super) dynamic_shared: u32,
}

/// A graph in the making.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) handles: Vec<usize>,
}

/// The driver.
pub(super) struct State {
    pub(super) config: SimConfig,
    pub(super) memory: Memory,
    pub(super) is_initialized: bool,
    pub(super) retained: u32,
    /// The context that is current on each thread.
    pub(super) current: HashMap<ThreadId, usize>,
    /// What every call answers from now on.
    pub(super) sticky: Option<Status>,
    pub(super) fault: Option<String>,
    pub(super) calls: HashMap<&'static str, u64>,
    pub(super) next: usize,
    pub(super) random: u64,
    pub(super) started: Instant,
    pub(super) allocations: usize,
    /// Start and length of pinned blocks.
    pub(super) pinned: HashMap<usize, usize>,
    pub(super) modules: HashMap<usize, Arc<Image>>,
    pub(super) functions: HashMap<usize, Function>,
    pub(super) links: HashMap<usize, Link>,
    pub(super) streams: HashMap<usize, VecDeque<Work>>,
    /// Nanoseconds at which each event happened, once it has.
    pub(super) events: HashMap<usize, Option<u64>>,
    pub(super) graphs: HashMap<usize, Graph>,
    pub(super) executables: HashMap<usize, Arc<Vec<Node>>>,
    /// Texts handed out; they stay.
    pub(super) texts: Vec<CString>,
}

impl State {
    pub(super) fn new(config: SimConfig) -> State {
        let memory = match config.uninitialized_global {
            true => Memory::tracked(config.memory_bytes),
            false => Memory::new(config.memory_bytes),
        };
        State {
            memory,
            is_initialized: false,
            retained: 0,
            current: HashMap::new(),
            sticky: None,
            fault: None,
            calls: HashMap::new(),
            next: 0x1000,
            random: config.seed.unwrap_or(0),
            started: Instant::now(),
            allocations: 0,
            pinned: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            links: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
            texts: Vec::new(),
            config,
        }
    }

    /// A handle that was never used before.
    pub(super) fn handle(&mut self) -> usize {
        self.next += 16;
        self.next
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }

    /// The end of the device.
    pub(super) fn die(&mut self, status: Status, fault: String) -> Status {
        self.sticky = Some(status);
        self.fault.get_or_insert(fault);
        status
    }

    /// Whether these bytes of the host are in a pinned block.
    pub(super) fn is_pinned(&self, start: usize, bytes: usize) -> bool {
        self.pinned
            .iter()
            .any(|(&block, &len)| start.checked_sub(block).is_some_and(|offset| offset <= len && bytes <= len - offset))
    }

    /// Whether these bytes of the device are in one allocation.
    pub(super) fn is_allocated(&self, start: u64, bytes: usize) -> bool {
        let around = self.memory.allocation_of(start);
        around.is_some_and(|(base, len)| start - base <= len && bytes as u64 <= len - (start - base))
    }

    pub(super) fn live(&self) -> usize {
        self.allocations
            + self.pinned.len()
            + self.modules.len()
            + self.links.len()
            + self.streams.len()
            + self.events.len()
            + self.graphs.len()
            + self.executables.len()
    }
}
