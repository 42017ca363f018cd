//! Work in streams: queued now, done when somebody waits.

use std::sync::Arc;

use xlac_runtime::device::cuda::api::{Memcpy3D, Status, memory_type};

use super::code::Image;
use super::state::State;
use crate::{Fault, FaultKind, Launch, MemoryError, Options};

/// Something to do.
#[derive(Clone)]
pub(super) enum Work {
    /// From pinned memory, which is read when the copy happens.
    Upload {
        to: u64,
        from: usize,
        bytes: usize,
    },
    /// From other memory, which was read at once.
    UploadNow {
        to: u64,
        data: Vec<u8>,
    },
    Download {
        to: usize,
        from: u64,
        bytes: usize,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    Fill {
        to: u64,
        value: u32,
        words: usize,
    },
    Kernel(Arc<KernelWork>),
    Graph(Arc<Vec<Node>>),
    Record(usize),
}

/// A kernel with its parameters.
pub(super) struct KernelWork {
    pub(super) module: Arc<Image>,
    pub(super) name: String,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) shared: u32,
    pub(super) params: Vec<u8>,
}

/// A node of a graph.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) work: Work,
    pub(super) waits_for: Vec<usize>,
}

impl State {
    /// Does everything in a stream.
    pub(super) fn drain(&mut self, stream: usize) -> Result<(), Status> {
        loop {
            let Some(queue) = self.streams.get_mut(&stream) else { return Err(Status::INVALID_HANDLE) };
            let Some(work) = queue.pop_front() else { return Ok(()) };
            self.perform(work)?;
        }
    }

    /// Does one piece of work; an error is the end of the device.
    fn perform(&mut self, work: Work) -> Result<(), Status> {
        let done = match work {
            Work::Upload { to, from, bytes } => {
                if !self.is_pinned(from, bytes) {
                    return Err(self.die(Status::ILLEGAL_ADDRESS, "host memory was freed before it was copied".into()));
                }
                // SAFETY: in a pinned block, which is alive; callers of the driver leave it alone until they have waited.
                let data = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(from), bytes) };
                self.memory.write(to, data)
            }
            Work::UploadNow { to, data } => self.memory.write(to, &data),
            Work::Download { to, from, bytes } => {
                if !self.is_pinned(to, bytes) {
                    return Err(self.die(Status::ILLEGAL_ADDRESS, "host memory was freed before it was filled".into()));
                }
                // SAFETY: as above.
                let data = unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(to), bytes) };
                self.memory.read(from, data)
            }
            Work::Copy { to, from, bytes } => self.memory.copy(to, from, bytes),
            Work::Fill { to, value, words } => self.memory.write(to, &value.to_le_bytes().repeat(words)),
            Work::Kernel(kernel) => return self.run_kernel(&kernel),
            Work::Graph(nodes) => return self.run_graph(&nodes),
            Work::Record(event) => {
                let now = self.started.elapsed().as_nanos() as u64;
                if let Some(time) = self.events.get_mut(&event) {
                    *time = Some(now);
                }
                Ok(())
            }
        };
        done.map_err(|error: MemoryError| self.die(Status::ILLEGAL_ADDRESS, format!("a copy: {error}")))
    }

    /// Runs all nodes in an order chosen at random among those that the edges allow.
    fn run_graph(&mut self, nodes: &[Node]) -> Result<(), Status> {
        let mut missing: Vec<usize> = nodes.iter().map(|node| node.waits_for.len()).collect();
        let mut ready: Vec<usize> = (0..nodes.len()).filter(|&node| missing[node] == 0).collect();
        while !ready.is_empty() {
            let chosen = self.below(ready.len());
            let node = ready.swap_remove(chosen);
            self.perform(nodes[node].work.clone())?;
            for (other, waiting) in nodes.iter().enumerate() {
                if waiting.waits_for.contains(&node) {
                    missing[other] -= 1;
                    if missing[other] == 0 {
                        ready.push(other);
                    }
                }
            }
        }
        Ok(())
    }

    fn run_kernel(&mut self, work: &KernelWork) -> Result<(), Status> {
        let seed = self.config.seed.map(|_| self.below(usize::MAX) as u64);
        let Some(kernel) = work.module.module.kernel(&work.name) else { return Err(Status::INVALID_HANDLE) };
        let options = Options {
            seed,
            races: self.config.races,
            uninitialized_global: self.config.uninitialized_global,
            instruction_limit: self.config.instruction_limit,
            threads: self.config.threads,
            ..Options::default()
        };
        let launch = Launch { grid: work.grid, block: work.block, dynamic_shared: work.shared, params: &work.params };
        match crate::launch(kernel, &launch, &self.memory, &options) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.die(status_of(&fault), fault.to_string())),
        }
    }

    /// One side of a copy as work, checked as the driver does when a node is added.
    pub(super) fn copy_work(&self, copy: &Memcpy3D) -> Result<Work, Status> {
        let bytes = copy.width_bytes;
        let is_plain = copy.height == 1 && copy.depth == 1 && bytes < 1 << 31;
        let is_at_start = [copy.from, copy.to].iter().all(|side| (side.x_bytes, side.y, side.z) == (0, 0, 0));
        if !is_plain || !is_at_start || bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let device = |start: u64| if self.is_allocated(start, bytes) { Ok(start) } else { Err(Status::INVALID_VALUE) };
        let host = |start: usize| if self.is_pinned(start, bytes) { Ok(start) } else { Err(Status::INVALID_VALUE) };
        match (copy.from.memory_type, copy.to.memory_type) {
            (memory_type::HOST, memory_type::DEVICE) => {
                let from = host(copy.from.host.expose_provenance())?;
                Ok(Work::Upload { to: device(copy.to.device)?, from, bytes })
            }
            (memory_type::DEVICE, memory_type::HOST) => {
                let to = host(copy.to.host.expose_provenance())?;
                Ok(Work::Download { to, from: device(copy.from.device)?, bytes })
            }
            (memory_type::DEVICE, memory_type::DEVICE) => {
                Ok(Work::Copy { to: device(copy.to.device)?, from: device(copy.from.device)?, bytes })
            }
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

/// What a real device would answer.
fn status_of(fault: &Fault) -> Status {
    match fault.kind {
        FaultKind::OutOfBounds => Status::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Status::MISALIGNED_ADDRESS,
        FaultKind::Deadlock | FaultKind::InstructionLimit => Status::LAUNCH_TIMEOUT,
        FaultKind::BadInstruction => Status::ILLEGAL_INSTRUCTION,
        _ => Status::LAUNCH_FAILED,
    }
}
