//! Addresses of a session's buffers, the pointer arrays kernels are called with, and the memory behind both.
//!
//! Invariant: `address[b]` is valid for `capacity[b]` bytes for every buffer that is not the caller's; for those it is
//! so while [`Memory::with_io`] runs, and content is reachable only from there, through [`Attached`].

use std::sync::Arc;

use crate::device::cpu::KernelFn;
use crate::device::memory::{ALIGN, Block, RawBytes};
use crate::error::{Error, Result};
use crate::expr::Values;
use crate::model::Inner;
use crate::plan::{BufferId, Storage};
use crate::pool::{Pool, Task};

/// Keeps the scratch of two workers off each other's cache lines, prefetched neighbours included.
pub(crate) const SCRATCH_ALIGN: usize = 128;

/// Where every buffer is.
pub(crate) struct Memory {
    model: Arc<Inner>,
    arena: Block,
    /// For each buffer its own allocation; empty unless it is on the heap.
    heaps: Vec<Block>,
    address: Vec<*mut u8>,
    capacity: Vec<usize>,
    /// The buffer whose place each buffer has taken by swaps.
    holder: Vec<BufferId>,
    swapped: bool,
    /// Pointer arguments of all launches, and each one's byte offset in its buffer.
    args: Vec<*mut u8>,
    offsets: Vec<usize>,
    scratch: Block,
    scratch_stride: usize,
    workers: usize,
    ceiling: u64,
    /// Bytes of arena, heap and scratch.
    used: u64,
}

// SAFETY: the pointers lead into blocks this memory owns, into weights that its model owns and nobody writes, or to the
// caller's tensors, which are dereferenced only within `with_io`.
unsafe impl Send for Memory {}

/// A launch ready to run: `LaunchInfo` for the present shapes.
#[derive(Clone, Copy)]
pub(crate) struct Prepared {
    pub(crate) func: KernelFn,
    pub(crate) first_arg: usize,
    pub(crate) first_dim: usize,
    pub(crate) tiles: i64,
    pub(crate) workers: usize,
    /// Whether a symbol or a buffer it uses changed.
    pub(crate) stale: bool,
}

impl Memory {
    /// Memory for `workers` threads of at most `ceiling` bytes.
    pub(crate) fn new(model: Arc<Inner>, workers: usize, ceiling: u64) -> Memory {
        let buffers = model.plan.buffers.len();
        let args = model.program.launch_of_arg.len();
        let nowhere = Block::empty().start();
        Memory {
            arena: Block::empty(),
            heaps: (0..buffers).map(|_| Block::empty()).collect(),
            address: vec![nowhere; buffers],
            capacity: vec![0; buffers],
            holder: (0..buffers as BufferId).collect(),
            swapped: false,
            args: vec![nowhere; args],
            offsets: vec![0; args],
            scratch: Block::empty(),
            scratch_stride: 0,
            workers,
            ceiling,
            used: 0,
            model,
        }
    }

    /// Bytes of arena, heap and scratch held.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Places the buffers whose size is known once the inputs' shapes are. Swaps must be undone.
    pub(crate) fn place(&mut self, values: &Values) -> Result<()> {
        let model = Arc::clone(&self.model);
        let arena_len = values.size(model.plan.arena_bytes)?;
        if arena_len > self.arena.len() {
            let old = std::mem::replace(&mut self.arena, Block::empty());
            self.used -= old.len() as u64;
            drop(old);
            self.arena = self.allocate(arena_len)?;
        }
        for (id, buffer) in model.plan.buffers.iter().enumerate() {
            let is_static = model.program.dependencies.is_static(buffer.bytes);
            match buffer.storage {
                Storage::Arena(offset) => {
                    let offset = values.size(offset)?;
                    check_room("the arena", offset, arena_len)?;
                    if !offset.is_multiple_of(ALIGN) {
                        return Err(Error::BadPlan(format!("buffer {id} is not aligned to {ALIGN} bytes")));
                    }
                    self.address[id] = self.arena.start().wrapping_add(offset);
                    let room = arena_len - offset;
                    self.capacity[id] = if is_static { values.size(buffer.bytes)? } else { room };
                    check_room("a buffer in the arena", self.capacity[id], room)?;
                }
                Storage::Weight(offset) => {
                    let bytes = values.size(buffer.bytes)?;
                    let offset = offset as usize;
                    let weight = offset.checked_add(bytes).and_then(|end| model.weights().get(offset..end));
                    let Some(weight) = weight else {
                        return Err(Error::BadPlan(format!("buffer {id} lies outside the weights")));
                    };
                    // Kernels take all buffers as mutable pointers and never write to weights.
                    self.address[id] = weight.as_ptr().cast_mut();
                    self.capacity[id] = bytes;
                }
                Storage::Heap | Storage::Input(_) | Storage::Output(_) => {}
            }
        }
        self.repoint_all();
        Ok(())
    }

    /// Sets the size of a buffer of the caller's; the address follows in [`Memory::with_io`].
    pub(crate) fn set_io_size(&mut self, buffer: BufferId, bytes: usize) {
        self.capacity[buffer as usize] = bytes;
    }

    /// Makes sure that a buffer has `bytes` bytes; those on the heap grow and keep their contents.
    pub(crate) fn ensure(&mut self, buffer: BufferId, bytes: usize) -> Result<()> {
        let id = buffer as usize;
        if bytes <= self.capacity[id] {
            return Ok(());
        }
        if self.model.plan.buffers[id].storage != Storage::Heap {
            return check_room("a step", bytes, self.capacity[id]);
        }
        let mut grown = self.allocate(bytes)?;
        let old_len = self.heaps[id].len();
        grown.bytes_mut()[..old_len].copy_from_slice(self.heaps[id].bytes());
        self.used -= old_len as u64;
        self.address[id] = grown.start();
        self.capacity[id] = grown.len();
        self.heaps[id] = grown;
        self.repoint(buffer);
        Ok(())
    }

    /// As [`Memory::ensure`] for a buffer that is appended to: it grows by half at least, if the ceiling allows.
    pub(crate) fn ensure_to_append(&mut self, buffer: BufferId, bytes: usize) -> Result<()> {
        let present = self.capacity[buffer as usize];
        if bytes <= present {
            return Ok(());
        }
        let generous = bytes.max(present.saturating_add(present / 2));
        self.ensure(buffer, generous).or_else(|_| self.ensure(buffer, bytes))
    }

    /// Makes sure that each worker has `bytes` bytes of scratch memory.
    pub(crate) fn ensure_scratch(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.scratch_stride {
            return Ok(());
        }
        let stride = bytes.checked_next_multiple_of(SCRATCH_ALIGN);
        let total = stride.and_then(|stride| stride.checked_mul(self.workers));
        let (Some(stride), Some(total)) = (stride, total) else {
            return Err(Error::OutOfMemory(bytes as u64));
        };
        self.used -= self.scratch.len() as u64;
        self.scratch_stride = 0;
        self.scratch = Block::empty();
        self.scratch = self.allocate(total)?;
        self.scratch_stride = stride;
        Ok(())
    }

    /// Points argument `arg` at a byte of a buffer.
    pub(crate) fn set_arg(&mut self, arg: usize, buffer: BufferId, offset: usize) -> Result<()> {
        let id = buffer as usize;
        check_room("a launch", offset, self.capacity[id])?;
        self.offsets[arg] = offset;
        self.args[arg] = self.address[id].wrapping_add(offset);
        Ok(())
    }

    /// Exchanges the places of two buffers. Tells whether launches that use them must be prepared anew.
    pub(crate) fn swap(&mut self, a: BufferId, b: BufferId) -> bool {
        let (x, y) = (a as usize, b as usize);
        let other_size = self.capacity[x] != self.capacity[y];
        self.heaps.swap(x, y);
        self.address.swap(x, y);
        self.capacity.swap(x, y);
        self.holder.swap(x, y);
        self.swapped = true;
        self.repoint(a);
        self.repoint(b);
        other_size
    }

    /// Puts swapped buffers back to their own places. Tells whether launches that use them must be prepared anew.
    pub(crate) fn undo_swaps(&mut self) -> bool {
        if !std::mem::replace(&mut self.swapped, false) {
            return false;
        }
        let model = Arc::clone(&self.model);
        let mut other_size = false;
        for &buffer in &model.program.swapped {
            while self.holder[buffer as usize] != buffer {
                other_size |= self.swap(buffer, self.holder[buffer as usize]);
            }
        }
        self.swapped = false;
        other_size
    }

    /// Runs `body` with the caller's tensors attached; sizes were set before with [`Memory::set_io_size`].
    pub(crate) fn with_io<'io, R>(
        &mut self,
        inputs: impl Iterator<Item = &'io [u8]>,
        outputs: impl Iterator<Item = &'io mut [u8]>,
        body: impl FnOnce(&mut Attached<'_>) -> R,
    ) -> R {
        let model = Arc::clone(&self.model);
        for (decl, bytes) in model.input_buffers.iter().zip(inputs) {
            // Kernels never write to inputs.
            self.attach(decl, bytes.as_ptr().cast_mut(), bytes.len());
        }
        for (decl, bytes) in model.output_buffers.iter().zip(outputs) {
            self.attach(decl, bytes.as_mut_ptr(), bytes.len());
        }
        // The slices stay borrowed until the end of this call, and `Attached` cannot outlive it.
        body(&mut Attached { memory: self })
    }

    fn attach(&mut self, buffers: &[BufferId], start: *mut u8, len: usize) {
        for &buffer in buffers {
            let id = buffer as usize;
            // A tensor of the wrong size is refused before; the smaller size keeps the invariant in any case.
            self.capacity[id] = self.capacity[id].min(len);
            if self.address[id] != start {
                self.address[id] = start;
                self.repoint(buffer);
            }
        }
    }

    fn repoint(&mut self, buffer: BufferId) {
        for &arg in &self.model.program.args_of_buffer[buffer as usize] {
            let arg = arg as usize;
            self.args[arg] = self.address[buffer as usize].wrapping_add(self.offsets[arg]);
        }
    }

    fn repoint_all(&mut self) {
        for buffer in 0..self.address.len() {
            self.repoint(buffer as BufferId);
        }
    }

    /// A block counted against the ceiling.
    fn allocate(&mut self, bytes: usize) -> Result<Block> {
        let needed = self.used.saturating_add(bytes as u64);
        if needed > self.ceiling {
            return Err(Error::MemoryCeiling { needed, ceiling: self.ceiling });
        }
        let block = Block::zeroed(bytes)?;
        self.used = needed;
        Ok(block)
    }
}

/// Memory whose every buffer may be touched.
pub(crate) struct Attached<'m> {
    memory: &'m mut Memory,
}

impl std::ops::Deref for Attached<'_> {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        self.memory
    }
}

impl std::ops::DerefMut for Attached<'_> {
    fn deref_mut(&mut self) -> &mut Memory {
        self.memory
    }
}

impl Attached<'_> {
    /// The first `len` bytes of a buffer.
    pub(crate) fn bytes(&self, buffer: BufferId, len: usize) -> Result<RawBytes<'_>> {
        let id = buffer as usize;
        check_room("a step", len, self.capacity[id])?;
        // SAFETY: the invariant of `Memory`; no kernel runs while `self` is borrowed, and lowering refuses steps that
        // write to inputs or weights.
        Ok(unsafe { RawBytes::new(self.address[id], len) })
    }

    /// Runs a launch; 0, or the check that failed.
    pub(crate) fn launch(&mut self, pool: &mut Pool, launch: &Prepared, dims: &[i64]) -> i64 {
        let memory = &mut *self.memory;
        let task = Task {
            func: launch.func,
            args: memory.args[launch.first_arg..].as_ptr(),
            dims: dims[launch.first_dim..].as_ptr(),
            scratch: memory.scratch.start(),
            scratch_stride: memory.scratch_stride,
            tiles: launch.tiles,
        };
        // SAFETY: preparing the launch has set all its arguments, checked every buffer's size against the plan and the
        // scratch memory for as many workers as the pool has; the caller's tensors are attached. That the kernel stays
        // within those sizes is what an artifact promises (see `CodeImage::map`).
        unsafe { pool.run(&task, launch.workers) }
    }
}

/// Fails unless `needed` bytes fit into `available`.
pub(crate) fn check_room(what: &str, needed: usize, available: usize) -> Result<()> {
    if needed > available {
        let (needed, available) = (needed as u64, available as u64);
        return Err(Error::BufferBounds { what: what.into(), needed, available });
    }
    Ok(())
}
