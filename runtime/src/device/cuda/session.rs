//! A session on a GPU: prepares launches for shapes, and brings inputs and outputs over.

mod graphs;

use std::sync::Arc;

use graphs::GraphSet;

use super::blocks::PinnedBlock;
use super::code::GpuCode;
use super::memory::{GpuMemory, scratch_of};
use super::queue::{LaunchCall, Queue};
use super::walk::Walk;
use crate::device::arena::check_room;
use crate::error::{Error, Result};
use crate::exec::{self, Limits, Progress, Times, check_error, tiles_of};
use crate::model::{Code, Inner, bind_shapes};
use crate::plan::{BlockShape, BufferId};
use crate::program::LaunchInfo;

/// Parameters of a kernel after its buffers and dims: tiles, scratch, its stride, status.
const TAIL: usize = 4;
/// Most blocks of a strided kernel per multiprocessor.
const WAVES: u32 = 4;

/// A launch ready to run.
struct Ready {
    first_param: usize,
    /// Blocks; none are run when it is 0.
    grid: u32,
    /// Whether a symbol or a buffer it uses changed.
    stale: bool,
}

/// A session on a GPU. Fields are dropped in this order: the queue waits for its work before anything else goes.
pub(crate) struct GpuSession {
    /// None until the first shapes are known.
    pub(super) queue: Option<Queue>,
    /// The one in use last.
    graph_sets: Vec<GraphSet>,
    pub(super) memory: GpuMemory,
    /// Operands of host routines.
    pub(super) slots: Vec<PinnedBlock>,
    pub(super) inner: Arc<Inner>,
    pub(super) progress: Progress,
    params: Vec<u64>,
    ready: Vec<Ready>,
    /// Whether the last set of graphs is that of the present shapes.
    has_graphs: bool,
    /// Runs since the shapes changed.
    runs: u64,
    /// Whether the status words on the device may be other than zero.
    status_dirty: bool,
    pub(super) debug_sync: bool,
}

/// The code of a model that is known to be on a GPU.
pub(super) fn code(inner: &Inner) -> &GpuCode {
    match &inner.code {
        Code::Gpu(code) => code,
        Code::Cpu(_) => unreachable!("invariant: a GPU session is made for a model on a GPU"),
    }
}

impl GpuSession {
    pub(crate) fn new(inner: &Arc<Inner>, ceiling: u64, debug_sync: bool) -> GpuSession {
        let mut params = 0;
        let ready = |launch: &LaunchInfo| {
            let first_param = params;
            params += launch.buffers.len() + launch.dims.len() + TAIL;
            Ready { first_param, grid: 0, stale: true }
        };
        let ready = inner.program.launches.iter().map(ready).collect();
        GpuSession {
            queue: None,
            graph_sets: Vec::new(),
            memory: GpuMemory::new(code(inner), inner.plan.buffers.len(), ceiling),
            slots: Vec::new(),
            inner: Arc::clone(inner),
            progress: Progress::new(inner),
            params: vec![0; params],
            ready,
            has_graphs: false,
            runs: 0,
            status_dirty: true,
            debug_sync,
        }
    }

    /// The values of the present shapes.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Bytes of device memory held, weights aside.
    pub(crate) fn used(&self) -> u64 {
        self.memory.used()
    }

    /// Binds new input shapes and prepares everything that they determine; with `graphs` the graphs too, which otherwise
    /// wait for the second run of these shapes.
    pub(crate) fn rebind<'s>(
        &mut self,
        shapes: impl ExactSizeIterator<Item = &'s [usize]> + Clone,
        graphs: bool,
    ) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        self.try_rebind(&inner, shapes, graphs).map_err(|error| self.blame(error))
    }

    fn try_rebind<'s>(
        &mut self,
        inner: &Inner,
        shapes: impl ExactSizeIterator<Item = &'s [usize]> + Clone,
        graphs: bool,
    ) -> Result<()> {
        let code = code(inner);
        code.gpu.enter()?;
        if self.queue.is_none() {
            self.queue = Some(Queue::new(&code.gpu)?);
        }
        self.queue().drain()?;
        self.has_graphs = false;
        self.runs = 0;
        bind_shapes(inner, shapes.clone(), &mut self.progress.values)?;
        self.memory.undo_swaps(inner);
        self.memory.place(inner, code, &self.progress.values)?;
        self.status_dirty = true;
        self.ready.iter_mut().for_each(|launch| launch.stale = true);
        self.reserve_scratch(inner)?;
        for (number, launch) in inner.program.launches.iter().enumerate() {
            if launch.is_static {
                self.prepare(inner, number)?;
            }
        }
        let dims: Vec<usize> = shapes.flatten().copied().collect();
        self.select_graphs(inner, dims, graphs)
    }

    /// Scratch of all launches known by now, so that it does not move afterwards.
    fn reserve_scratch(&mut self, inner: &Inner) -> Result<()> {
        let most = static_scratch(inner, &self.progress.values)? as usize;
        let GpuSession { queue, memory, .. } = self;
        memory.ensure_scratch(true, most, queue.as_mut().expect(PREPARED)).map(|_| ())
    }

    /// Fills in a launch for the present values.
    pub(super) fn prepare(&mut self, inner: &Inner, number: usize) -> Result<()> {
        let launch = &inner.program.launches[number];
        let mut at = self.ready[number].first_param;
        for &(buffer, offset) in &launch.buffers {
            let bytes = self.progress.values.size(inner.plan.buffers[buffer as usize].bytes)?;
            self.ensure(inner, buffer, bytes)?;
            let offset = self.progress.values.size(offset)?;
            check_room("a launch", offset, self.memory.capacity[buffer as usize])?;
            self.params[at] = self.memory.address[buffer as usize] + offset as u64;
            at += 1;
        }
        for &dim in &launch.dims {
            self.params[at] = self.progress.values.get(dim)?.cast_unsigned();
            at += 1;
        }
        let tiles = tiles_of(&self.progress.values, launch.tiles)?;
        let grid = grid_of(tiles, block_of(inner, launch), code(inner).gpu.info.multiprocessors)?;
        let bytes = self.progress.values.size(launch.scratch)?;
        let (mut scratch, mut stride) = (0, 0);
        if grid > 0 && bytes > 0 {
            let total;
            (stride, total) = scratch_of(bytes, grid, block_of(inner, launch).tiles)?;
            scratch = self.ensure_scratch(inner, launch.is_static, total)?;
        }
        let tail = [tiles.cast_unsigned(), scratch, stride as u64, self.memory.status(number)];
        self.params[at..at + TAIL].copy_from_slice(&tail);
        let ready = &mut self.ready[number];
        ready.grid = grid;
        ready.stale = false;
        Ok(())
    }

    /// As [`GpuMemory::ensure`]; launches that use a buffer that moved are prepared anew.
    pub(super) fn ensure(&mut self, inner: &Inner, buffer: BufferId, bytes: usize) -> Result<()> {
        let GpuSession { queue, memory, .. } = self;
        if memory.ensure(inner, buffer, bytes, queue.as_mut().expect(PREPARED))? {
            self.outdate(inner, buffer);
        }
        Ok(())
    }

    fn ensure_scratch(&mut self, inner: &Inner, is_static: bool, bytes: usize) -> Result<u64> {
        let GpuSession { queue, memory, ready, .. } = self;
        let (address, moved) = memory.ensure_scratch(is_static, bytes, queue.as_mut().expect(PREPARED))?;
        if moved {
            for (launch, ready) in inner.program.launches.iter().zip(ready) {
                ready.stale |= launch.is_static == is_static;
            }
        }
        Ok(address)
    }

    /// Notes that the launches that use `buffer` must be prepared anew.
    pub(super) fn outdate(&mut self, inner: &Inner, buffer: BufferId) {
        for &arg in &inner.program.args_of_buffer[buffer as usize] {
            self.ready[inner.program.launch_of_arg[arg as usize] as usize].stale = true;
        }
    }

    /// Notes that a launch must be prepared anew.
    pub(super) fn outdate_launch(&mut self, number: u32) {
        self.ready[number as usize].stale = true;
    }

    /// A launch in the driver's terms, prepared if need be; none if there is nothing to run.
    pub(super) fn call(&mut self, inner: &Inner, number: usize) -> Result<Option<(LaunchCall<'_>, &mut Queue)>> {
        if self.ready[number].stale {
            self.prepare(inner, number)?;
        }
        let (launch, ready) = (&inner.program.launches[number], &self.ready[number]);
        if ready.grid == 0 {
            return Ok(None);
        }
        let block = block_of(inner, launch);
        let count = launch.buffers.len() + launch.dims.len() + TAIL;
        let call = LaunchCall {
            function: code(inner).functions[launch.kernel as usize],
            grid: ready.grid,
            threads: block.threads,
            shared: block.shared,
            params: &self.params[ready.first_param..ready.first_param + count],
        };
        Ok(Some((call, self.queue.as_mut().expect(PREPARED))))
    }

    /// Runs the program once; afterwards the outputs can be read.
    pub(crate) fn run<'io>(
        &mut self,
        inputs: impl Iterator<Item = &'io [u8]>,
        limits: &Limits<'_>,
        times: Option<&mut Times>,
    ) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let done = self.try_run(&inner, inputs, limits, times);
        done.map_err(|error| {
            self.status_dirty = true;
            let error = self.blame(error);
            // What was queued before the failure ends before the next run touches its memory.
            match code(&inner).gpu.alive().and_then(|()| self.queue().drain()) {
                Err(worse @ Error::DeviceFault { .. }) => self.blame(worse),
                _ => error,
            }
        })
    }

    fn try_run<'io>(
        &mut self,
        inner: &Inner,
        inputs: impl Iterator<Item = &'io [u8]>,
        limits: &Limits<'_>,
        times: Option<&mut Times>,
    ) -> Result<()> {
        code(inner).gpu.enter()?;
        self.queue().drain()?;
        for (&(start, len), bytes) in self.memory.layout.inputs.iter().zip(inputs) {
            // The sizes were compared with the shapes before.
            self.memory.staging.write(start, &bytes[..len.min(bytes.len())]);
        }
        if self.memory.undo_swaps(inner) {
            inner.program.swapped.iter().for_each(|&buffer| self.outdate(inner, buffer));
        }
        if self.status_dirty {
            let (start, words) = (self.memory.status(0), inner.program.launches.len());
            self.queue().fill(start, 0, words)?;
            self.status_dirty = false;
        }
        let use_graphs = times.is_none() && !self.debug_sync;
        if use_graphs && !self.has_graphs && self.runs > 0 {
            self.make_graphs(inner)?;
        }
        let mut walk = Walk::new(inner, self, times, use_graphs);
        walk.begin()?;
        exec::execute(inner, &mut walk, limits)?;
        walk.finish()?;
        self.runs += 1;
        Ok(())
    }

    /// The queue; there is one once shapes are known.
    pub(super) fn queue(&mut self) -> &mut Queue {
        self.queue.as_mut().expect(PREPARED)
    }

    fn blame(&mut self, error: Error) -> Error {
        match &mut self.queue {
            Some(queue) => queue.blame(&self.inner, error),
            None => error,
        }
    }

    /// Fails unless output `number` has `bytes` bytes.
    pub(crate) fn check_output(&self, number: usize, bytes: usize) -> Result<()> {
        let buffer = self.inner.plan.outputs[number].buffer;
        check_room("a step", bytes, self.memory.capacity[buffer as usize])
    }

    /// Copies output `number`, which has `to.len()` bytes, to the caller.
    pub(crate) fn read_output(&mut self, number: usize, to: &mut [u8]) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        if inner.indirect_outputs.binary_search(&number).is_err() {
            let (start, len) = self.memory.layout.outputs[number];
            check_room("an output", to.len(), len)?;
            self.memory.staging.view(start, to.len()).copy_to(to);
            return Ok(());
        }
        code(&inner).gpu.enter()?;
        let buffer = inner.plan.outputs[number].buffer;
        self.read_back(buffer, to).map_err(|error| self.blame(error))
    }

    fn read_back(&mut self, buffer: BufferId, to: &mut [u8]) -> Result<()> {
        self.queue_download(0, buffer, to.len())?;
        self.queue().drain()?;
        self.slots[0].view(0, to.len()).copy_to(to);
        Ok(())
    }

    /// Queues a copy of the first bytes of a buffer to a slot of pinned memory; whoever reads it drains the queue before.
    pub(super) fn queue_download(&mut self, slot: usize, buffer: BufferId, bytes: usize) -> Result<()> {
        check_room("a step", bytes, self.memory.capacity[buffer as usize])?;
        self.reserve_slot(slot, bytes)?;
        let (to, from) = (self.slots[slot].at(0), self.memory.address[buffer as usize]);
        // SAFETY: the slot has room, and the queue is drained before anybody touches it.
        unsafe { self.queue().download(to, from, bytes) }
    }

    /// Makes sure that a slot has `bytes` bytes. Slots are free whenever the queue is drained, which every use ends with.
    pub(super) fn reserve_slot(&mut self, slot: usize, bytes: usize) -> Result<()> {
        let gpu = Arc::clone(&code(&self.inner).gpu);
        while self.slots.len() <= slot {
            self.slots.push(PinnedBlock::empty(&gpu));
        }
        if self.slots[slot].len() < bytes {
            self.slots[slot] = PinnedBlock::empty(&gpu);
            self.slots[slot] = PinnedBlock::new(&gpu, bytes.next_power_of_two())?;
        }
        Ok(())
    }

    /// Fails if a launch that is done left a status other than zero; the words were copied to staging before.
    pub(super) fn check_status(&mut self, inner: &Inner) -> Result<()> {
        let words = self.memory.staging.view(self.memory.layout.status, inner.program.launches.len() * 4);
        for number in 0..inner.program.launches.len() {
            match u32::from_le_bytes(words.load(number)) {
                0 => {}
                check => return Err(check_error(inner, number, check)),
            }
        }
        Ok(())
    }
}

/// Why a queue must be there.
pub(super) const PREPARED: &str = "invariant: shapes are prepared before anything runs";

fn block_of(inner: &Inner, launch: &LaunchInfo) -> BlockShape {
    inner.plan.kernels[launch.kernel as usize].block.expect("invariant: loading refuses GPU kernels without a block")
}

/// Number of blocks of a launch.
fn grid_of(tiles: i64, block: BlockShape, multiprocessors: u32) -> Result<u32> {
    let blocks = if tiles <= 0 { 0 } else { (tiles - 1) / i64::from(block.tiles) + 1 };
    let most = if block.strided { i64::from((WAVES * multiprocessors).max(1)) } else { i64::from(i32::MAX) };
    if blocks > most && !block.strided {
        return Err(Error::Overflow(format!("the number of blocks ({blocks})")));
    }
    Ok(blocks.min(most) as u32)
}

/// Bytes of scratch memory of the launches known from the inputs' shapes.
pub(crate) fn static_scratch(inner: &Inner, values: &crate::expr::Values) -> Result<u64> {
    let mut most = 0;
    for launch in inner.program.launches.iter().filter(|launch| launch.is_static) {
        let block = block_of(inner, launch);
        let grid = grid_of(tiles_of(values, launch.tiles)?, block, code(inner).gpu.info.multiprocessors)?;
        let bytes = values.size(launch.scratch)?;
        if grid > 0 && bytes > 0 {
            most = scratch_of(bytes, grid, block.tiles)?.1.max(most);
        }
    }
    Ok(most as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_all_tiles() {
        let block = |tiles, strided| BlockShape { threads: 128, tiles, shared: 0, strided, writes: u64::MAX };
        assert_eq!(grid_of(0, block(1, false), 4).unwrap(), 0);
        assert_eq!(grid_of(-5, block(1, false), 4).unwrap(), 0);
        assert_eq!(grid_of(1, block(128, false), 4).unwrap(), 1);
        assert_eq!(grid_of(129, block(128, false), 4).unwrap(), 2);
        assert_eq!(grid_of(1 << 40, block(1, true), 4).unwrap(), 16);
        assert_eq!(grid_of(3, block(1, true), 0).unwrap(), 1);
        assert_eq!(grid_of(1 << 40, block(1, false), 4).unwrap_err().code(), "R0201");
    }
}
