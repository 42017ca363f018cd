//! Where a session's buffers are on the device, and the pinned host memory that inputs and outputs pass through.
//!
//! ```text
//! device  inputs | outputs | status words          staging (host)  the same, then one word for values read in passing
//! ```
//!
//! Invariant: blocks are replaced only while the session's queue is drained, and `address[b]` is valid for `capacity[b]`
//! bytes of a block that this memory or the model owns.

use std::sync::Arc;

use super::blocks::{DeviceBlock, PinnedBlock};
use super::code::GpuCode;
use super::gpu::Gpu;
use super::queue::Queue;
use crate::device::arena::{SCRATCH_ALIGN, check_room};
use crate::device::memory::ALIGN;
use crate::error::{Error, Result};
use crate::exec::byte_len;
use crate::expr::Values;
use crate::model::Inner;
use crate::plan::{BufferId, Storage, TensorDecl};

/// Alignment of inputs, outputs and the status words.
const IO_ALIGN: usize = 256;

/// Bytes at the end of staging for a value that is read in passing.
const PASSING: usize = 8;

/// Byte ranges of the block of inputs and outputs.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Start and length of each input, then of each output; outputs that lie elsewhere have none.
    pub(super) inputs: Vec<(usize, usize)>,
    pub(super) outputs: Vec<(usize, usize)>,
    /// Where inputs end and what is copied back begins.
    pub(super) outputs_start: usize,
    pub(super) status: usize,
    /// Bytes on the device.
    pub(super) end: usize,
}

/// Where every buffer is.
pub(super) struct GpuMemory {
    gpu: Arc<Gpu>,
    arena: DeviceBlock,
    heaps: Vec<DeviceBlock>,
    io: DeviceBlock,
    pub(super) staging: PinnedBlock,
    /// Scratch of the launches that are known from the inputs' shapes, and of the others: the first must not move while
    /// graphs point into it.
    scratch: [DeviceBlock; 2],
    pub(super) layout: Layout,
    pub(super) address: Vec<u64>,
    pub(super) capacity: Vec<usize>,
    /// The buffer whose place each buffer has taken by swaps.
    holder: Vec<BufferId>,
    swapped: bool,
    ceiling: u64,
    used: u64,
    /// Changes whenever a block that graphs point into does.
    pub(super) generation: u64,
}

impl GpuMemory {
    pub(super) fn new(code: &GpuCode, buffers: usize, ceiling: u64) -> GpuMemory {
        let gpu = &code.gpu;
        GpuMemory {
            gpu: Arc::clone(gpu),
            arena: DeviceBlock::empty(gpu),
            heaps: (0..buffers).map(|_| DeviceBlock::empty(gpu)).collect(),
            io: DeviceBlock::empty(gpu),
            staging: PinnedBlock::empty(gpu),
            scratch: [DeviceBlock::empty(gpu), DeviceBlock::empty(gpu)],
            layout: Layout::default(),
            address: vec![0; buffers],
            capacity: vec![0; buffers],
            holder: (0..buffers as BufferId).collect(),
            swapped: false,
            ceiling,
            used: 0,
            generation: 0,
        }
    }

    /// Bytes of device memory held, weights aside.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Places the buffers whose size is known once the inputs' shapes are. Swaps must be undone, the queue drained.
    pub(super) fn place(&mut self, inner: &Inner, code: &GpuCode, values: &Values) -> Result<()> {
        let arena_len = values.size(inner.plan.arena_bytes)?;
        self.layout = layout_of(inner, values)?;
        let io_len = self.layout.end;
        if arena_len > self.arena.len() {
            self.generation += 1;
            self.release(|memory| &mut memory.arena);
            self.arena = self.allocate(arena_len)?;
        }
        if io_len > self.io.len() {
            self.generation += 1;
            self.release(|memory| &mut memory.io);
            self.io = self.allocate(io_len)?;
        }
        if io_len + PASSING > self.staging.len() {
            self.generation += 1;
            self.staging = PinnedBlock::empty(&self.gpu);
            self.staging = PinnedBlock::new(&self.gpu, io_len + PASSING)?;
        }
        for (id, buffer) in inner.plan.buffers.iter().enumerate() {
            match buffer.storage {
                Storage::Arena(offset) => {
                    let offset = values.size(offset)?;
                    check_room("the arena", offset, arena_len)?;
                    if !offset.is_multiple_of(ALIGN) {
                        return Err(Error::BadPlan(format!("buffer {id} is not aligned to {ALIGN} bytes")));
                    }
                    let is_static = inner.program.dependencies.is_static(buffer.bytes);
                    let room = arena_len - offset;
                    self.address[id] = self.arena.start() + offset as u64;
                    self.capacity[id] = if is_static { values.size(buffer.bytes)? } else { room };
                    check_room("a buffer in the arena", self.capacity[id], room)?;
                }
                Storage::Weight(_) => {
                    self.address[id] = code.weight_addresses[id];
                    self.capacity[id] = values.size(buffer.bytes)?;
                }
                Storage::Input(number) => self.place_io(id, self.layout.inputs[number as usize]),
                Storage::Output(number) => self.place_io(id, self.layout.outputs[number as usize]),
                Storage::Heap => {}
            }
        }
        Ok(())
    }

    fn place_io(&mut self, id: usize, (start, len): (usize, usize)) {
        self.address[id] = self.io.start() + start as u64;
        self.capacity[id] = len;
    }

    /// Address of the status word of a launch.
    pub(super) fn status(&self, launch: usize) -> u64 {
        self.device_at(self.layout.status + launch * 4)
    }

    /// Address of a byte of the block of inputs and outputs.
    pub(super) fn device_at(&self, offset: usize) -> u64 {
        self.io.start() + offset as u64
    }

    /// Makes sure that a buffer has `bytes` bytes; those on the heap grow and keep their contents. Tells whether it moved.
    pub(super) fn ensure(&mut self, inner: &Inner, buffer: BufferId, bytes: usize, queue: &mut Queue) -> Result<bool> {
        let id = buffer as usize;
        if bytes <= self.capacity[id] {
            return Ok(false);
        }
        if inner.plan.buffers[id].storage != Storage::Heap {
            return check_room("a step", bytes, self.capacity[id]).map(|()| false);
        }
        let grown = self.allocate(bytes)?;
        let old_len = self.heaps[id].len();
        let copied = queue.copy(grown.start(), self.heaps[id].start(), old_len).and_then(|()| queue.drain());
        if let Err(error) = copied {
            self.used -= grown.len() as u64;
            return Err(error);
        }
        self.generation += u64::from(inner.program.dependencies.is_static(inner.plan.buffers[id].bytes));
        self.used -= old_len as u64;
        self.address[id] = grown.start();
        self.capacity[id] = grown.len();
        self.heaps[id] = grown;
        Ok(true)
    }

    /// As [`GpuMemory::ensure`] for a buffer that is appended to: it grows by half at least, if the ceiling allows.
    pub(super) fn ensure_to_append(
        &mut self,
        inner: &Inner,
        buffer: BufferId,
        bytes: usize,
        queue: &mut Queue,
    ) -> Result<bool> {
        let present = self.capacity[buffer as usize];
        if bytes <= present {
            return Ok(false);
        }
        let generous = bytes.max(present.saturating_add(present / 2));
        match self.ensure(inner, buffer, generous, queue) {
            Err(Error::OutOfMemory(_) | Error::MemoryCeiling { .. }) => self.ensure(inner, buffer, bytes, queue),
            done => done,
        }
    }

    /// Address of scratch memory of at least `bytes` bytes, and whether it moved.
    pub(super) fn ensure_scratch(&mut self, is_static: bool, bytes: usize, queue: &mut Queue) -> Result<(u64, bool)> {
        let which = usize::from(!is_static);
        let moves = bytes > self.scratch[which].len();
        if moves {
            queue.drain()?;
            self.generation += u64::from(is_static);
            self.release(|memory| &mut memory.scratch[which]);
            self.scratch[which] = self.allocate(bytes)?;
        }
        Ok((self.scratch[which].start(), moves))
    }

    /// Exchanges the places of two buffers.
    pub(super) fn swap(&mut self, a: BufferId, b: BufferId) {
        let (x, y) = (a as usize, b as usize);
        self.heaps.swap(x, y);
        self.address.swap(x, y);
        self.capacity.swap(x, y);
        self.holder.swap(x, y);
        self.swapped = true;
    }

    /// Puts swapped buffers back to their own places. Tells whether there were any.
    pub(super) fn undo_swaps(&mut self, inner: &Inner) -> bool {
        if !std::mem::replace(&mut self.swapped, false) {
            return false;
        }
        for &buffer in &inner.program.swapped {
            while self.holder[buffer as usize] != buffer {
                self.swap(buffer, self.holder[buffer as usize]);
            }
        }
        self.swapped = false;
        true
    }

    /// Frees a block before a larger one takes its place, so that both are never held at once.
    fn release(&mut self, which: impl Fn(&mut GpuMemory) -> &mut DeviceBlock) {
        let empty = DeviceBlock::empty(&self.gpu);
        let old = std::mem::replace(which(self), empty);
        self.used -= old.len() as u64;
    }

    /// A block counted against the ceiling.
    fn allocate(&mut self, bytes: usize) -> Result<DeviceBlock> {
        let needed = self.used.saturating_add(bytes as u64);
        if needed > self.ceiling {
            return Err(Error::MemoryCeiling { needed, ceiling: self.ceiling });
        }
        let block = DeviceBlock::new(&self.gpu, bytes)?;
        self.used = needed;
        Ok(block)
    }
}

/// Bytes of the block of inputs, outputs and status words.
pub(crate) fn io_bytes(inner: &Inner, values: &Values) -> Result<usize> {
    layout_of(inner, values).map(|layout| layout.end)
}

fn layout_of(inner: &Inner, values: &Values) -> Result<Layout> {
    let plan = &inner.plan;
    let mut at = 0usize;
    let mut next = |bytes: usize| {
        let start = at;
        let end = at.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(IO_ALIGN));
        at = end.ok_or(Error::OutOfMemory(u64::MAX))?;
        Ok::<_, Error>((start, bytes))
    };
    let bytes_of = |decl: &TensorDecl| byte_len(values, decl.dtype, &decl.shape);
    let inputs = plan.inputs.iter().map(|decl| next(bytes_of(decl)?)).collect::<Result<Vec<_>>>()?;
    let (outputs_start, _) = next(0)?;
    let mut outputs = Vec::with_capacity(plan.outputs.len());
    for (number, decl) in plan.outputs.iter().enumerate() {
        let is_direct = inner.indirect_outputs.binary_search(&number).is_err();
        outputs.push(if is_direct { next(bytes_of(decl)?)? } else { (outputs_start, 0) });
    }
    let (status, words) = next(inner.program.launches.len() * 4)?;
    Ok(Layout { inputs, outputs, outputs_start, status, end: status + words })
}

/// Workers, and bytes of scratch memory of each and of all, for a launch whose workers need `bytes` each.
pub(super) fn scratch_of(bytes: usize, grid: u32, workers_per_block: u32) -> Result<(usize, usize)> {
    let stride = bytes.checked_next_multiple_of(SCRATCH_ALIGN);
    let workers = grid as usize * workers_per_block as usize;
    let total = stride.and_then(|stride| stride.checked_mul(workers));
    match (stride, total) {
        (Some(stride), Some(total)) => Ok((stride, total)),
        _ => Err(Error::OutOfMemory(bytes as u64)),
    }
}
