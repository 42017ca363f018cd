//! A program on the CPU: launches go to the pool, everything else happens in place.

use std::time::Instant;

use super::{Machine, Progress, Times, byte_len, check_error, count_launch, tiles_of};
use crate::device::arena::{Attached, Memory, Prepared};
use crate::device::cpu::CodeImage;
use crate::device::memory::RawBytes;
use crate::error::Result;
use crate::model::{Inner, bind_shapes};
use crate::plan::{BufferId, SymbolId};
use crate::pool::{Pool, workers_for};
use crate::program::LaunchInfo;

/// Everything of a session that changes while a plan runs, memory aside.
pub(crate) struct State {
    pub(crate) progress: Progress,
    prepared: Vec<Prepared>,
    dims: Vec<i64>,
}

impl State {
    pub(crate) fn new(inner: &Inner, code: &CodeImage) -> State {
        let prepare = |launch: &LaunchInfo| Prepared {
            func: code.entries()[launch.kernel as usize],
            first_arg: launch.first_arg,
            first_dim: launch.first_dim,
            tiles: 0,
            workers: 1,
            stale: true,
        };
        State {
            progress: Progress::new(inner),
            prepared: inner.program.launches.iter().map(prepare).collect(),
            dims: vec![0; inner.program.dims],
        }
    }

    /// Binds new input shapes and prepares everything that they determine.
    pub(crate) fn rebind<'s>(
        &mut self,
        inner: &Inner,
        shapes: impl ExactSizeIterator<Item = &'s [usize]> + Clone,
        memory: &mut Memory,
        threads: usize,
    ) -> Result<()> {
        let values = &mut self.progress.values;
        bind_shapes(inner, shapes, values)?;
        memory.undo_swaps();
        memory.place(values)?;
        for (decls, buffers) in
            [(&inner.plan.inputs, &inner.input_buffers), (&inner.plan.outputs, &inner.output_buffers)]
        {
            for (decl, buffers) in decls.iter().zip(buffers) {
                if buffers.is_empty() {
                    continue;
                }
                let bytes = byte_len(values, decl.dtype, &decl.shape)?;
                buffers.iter().for_each(|&buffer| memory.set_io_size(buffer, bytes));
            }
        }
        self.prepared.iter_mut().for_each(|launch| launch.stale = true);
        for (number, launch) in inner.program.launches.iter().enumerate() {
            if launch.is_static {
                self.prepare(inner, number, memory, threads)?;
            }
        }
        Ok(())
    }

    /// Forgets the swaps of the last run.
    pub(crate) fn begin_run(&mut self, inner: &Inner, memory: &mut Memory) {
        if memory.undo_swaps() {
            inner.program.swapped.iter().for_each(|&buffer| self.outdate(inner, buffer));
        }
    }

    /// Fills in a launch for the present values.
    fn prepare(&mut self, inner: &Inner, number: usize, memory: &mut Memory, threads: usize) -> Result<()> {
        let launch = &inner.program.launches[number];
        let values = &self.progress.values;
        for (arg, &(buffer, offset)) in launch.buffers.iter().enumerate() {
            memory.ensure(buffer, values.size(inner.plan.buffers[buffer as usize].bytes)?)?;
            memory.set_arg(launch.first_arg + arg, buffer, values.size(offset)?)?;
        }
        for (dim, &id) in self.dims[launch.first_dim..].iter_mut().zip(&launch.dims) {
            *dim = values.get(id)?;
        }
        memory.ensure_scratch(values.size(launch.scratch)?)?;
        let tiles = tiles_of(values, launch.tiles)?;
        let prepared = &mut self.prepared[number];
        prepared.tiles = tiles;
        // A cost estimate that overflows is no reason to fail: the launch is large.
        prepared.workers = workers_for(tiles, values.try_get(launch.tile_ns).unwrap_or(i64::MAX), threads);
        prepared.stale = false;
        Ok(())
    }

    fn outdate(&mut self, inner: &Inner, buffer: BufferId) {
        for &arg in &inner.program.args_of_buffer[buffer as usize] {
            self.prepared[inner.program.launch_of_arg[arg as usize] as usize].stale = true;
        }
    }
}

/// One run on the CPU. With times, each launch is measured.
pub(crate) struct Cpu<'a, 'm> {
    pub(crate) inner: &'a Inner,
    pub(crate) state: &'a mut State,
    pub(crate) memory: &'a mut Attached<'m>,
    pub(crate) pool: &'a mut Pool,
    pub(crate) times: Option<&'a mut Times>,
}

impl Cpu<'_, '_> {
    #[inline]
    fn run_launch(&mut self, number: usize) -> Result<()> {
        if self.state.prepared[number].stale {
            self.state.prepare(self.inner, number, self.memory, self.pool.threads())?;
        }
        match self.memory.launch(self.pool, &self.state.prepared[number], &self.state.dims) {
            0 => Ok(()),
            // Only the low 32 bits count.
            check => Err(check_error(self.inner, number, check as u32)),
        }
    }
}

impl Machine for Cpu<'_, '_> {
    fn progress(&self) -> &Progress {
        &self.state.progress
    }

    fn progress_mut(&mut self) -> &mut Progress {
        &mut self.state.progress
    }

    #[inline]
    fn launch(&mut self, number: usize) -> Result<()> {
        if self.times.is_none() {
            return self.run_launch(number);
        }
        let start = Instant::now();
        self.run_launch(number)?;
        let ns = start.elapsed().as_nanos() as u64;
        if let Some(times) = self.times.as_deref_mut() {
            let workers = self.state.prepared[number].workers;
            count_launch(self.inner, &self.state.progress.values, number, workers, times);
            times[number].ns += ns;
        }
        Ok(())
    }

    fn outdate(&mut self, symbol: SymbolId) {
        for &launch in &self.inner.program.launches_of_symbol[symbol as usize] {
            self.state.prepared[launch as usize].stale = true;
        }
    }

    fn ensure(&mut self, buffer: BufferId, bytes: usize) -> Result<()> {
        self.memory.ensure(buffer, bytes)
    }

    fn ensure_to_append(&mut self, buffer: BufferId, bytes: usize) -> Result<()> {
        self.memory.ensure_to_append(buffer, bytes)
    }

    fn copy(&mut self, from: BufferId, to: BufferId, offset: usize, bytes: usize) -> Result<()> {
        // Both are within the address space, so the sum does not overflow.
        self.memory.bytes(to, offset + bytes)?.copy_from(offset, self.memory.bytes(from, bytes)?);
        Ok(())
    }

    fn swap(&mut self, a: BufferId, b: BufferId) {
        if self.memory.swap(a, b) {
            self.state.outdate(self.inner, a);
            self.state.outdate(self.inner, b);
        }
    }

    fn read<const N: usize>(&mut self, buffer: BufferId, index: usize) -> Result<[u8; N]> {
        Ok(self.memory.bytes(buffer, (index + 1) * N)?.load(index))
    }

    fn write(&mut self, buffer: BufferId, value: i64) -> Result<()> {
        self.memory.bytes(buffer, 8)?.store(0, value.to_le_bytes());
        Ok(())
    }

    fn fetch(&mut self, _slot: usize, _buffer: BufferId, _bytes: usize) -> Result<()> {
        Ok(())
    }

    fn reserve(&mut self, _slot: usize, _bytes: usize) -> Result<()> {
        Ok(())
    }

    fn operand(&self, _slot: usize, buffer: BufferId, bytes: usize) -> Result<RawBytes<'_>> {
        self.memory.bytes(buffer, bytes)
    }

    fn store(&mut self, _slot: usize, _buffer: BufferId, _bytes: usize) -> Result<()> {
        Ok(())
    }

    fn times(&mut self) -> Option<&mut Times> {
        self.times.as_deref_mut()
    }
}
