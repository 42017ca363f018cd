//! One run on a GPU: steps are queued, and waited for only where the program or the caller needs what they made.

use std::sync::Arc;

use super::queue::{Timer, Work};
use super::session::{GpuSession, PREPARED, code};
use crate::device::arena::check_room;
use crate::device::memory::RawBytes;
use crate::error::{Error, Result};
use crate::exec::{Machine, Progress, Times, count_launch};
use crate::model::Inner;
use crate::plan::{BufferId, Storage, SymbolId};

/// Most measured launches whose times are not yet read.
const UNREAD: usize = 64;

/// One run.
pub(super) struct Walk<'a> {
    inner: &'a Inner,
    session: &'a mut GpuSession,
    times: Option<&'a mut Times>,
    use_graphs: bool,
    /// Whether outputs and status are on their way to the host.
    downloaded: bool,
    /// Entry of the times, and the events before and after.
    unread: Vec<(usize, Timer, Timer)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        session: &'a mut GpuSession,
        times: Option<&'a mut Times>,
        use_graphs: bool,
    ) -> Walk<'a> {
        Walk { inner, session, times, use_graphs, downloaded: false, unread: Vec::new() }
    }

    /// Brings the inputs over, unless the first graph does.
    pub(super) fn begin(&mut self) -> Result<()> {
        let stretches = &code(self.inner).stretches;
        let in_graph = stretches.first().is_some_and(|first| first.start == 0);
        if self.use_graphs && in_graph && self.session.graph(0).is_some() {
            return Ok(());
        }
        let entry = self.inner.program.launches.len() + self.inner.program.hosts.len();
        self.measured(entry, |session| {
            let (to, from) = (session.memory.device_at(0), session.memory.staging.at(0));
            let bytes = session.memory.layout.outputs_start;
            // SAFETY: staging covers the layout, and is written anew only after the queue was drained.
            unsafe { session.queue().upload(to, from, bytes) }
        })
    }

    /// Brings outputs and status back and waits for everything.
    pub(super) fn finish(&mut self) -> Result<()> {
        if !self.downloaded {
            let entry = self.inner.program.launches.len() + self.inner.program.hosts.len() + 1;
            self.measured(entry, |session| {
                let start = session.memory.layout.outputs_start;
                let (to, from) = (session.memory.staging.at(start), session.memory.device_at(start));
                let bytes = session.memory.layout.end - start;
                // SAFETY: as in `begin`; read only after the queue was drained.
                unsafe { session.queue().download(to, from, bytes) }
            })?;
        }
        self.session.queue().drain()?;
        self.session.check_status(self.inner)?;
        self.read_times()
    }

    /// Queues some work between two events, if this run is measured.
    fn measured(&mut self, entry: usize, work: impl FnOnce(&mut GpuSession) -> Result<()>) -> Result<()> {
        if self.times.is_none() {
            return work(self.session);
        }
        let gpu = Arc::clone(&code(self.inner).gpu);
        let (before, after) = (Timer::new(&gpu)?, Timer::new(&gpu)?);
        self.session.queue().record(before.event)?;
        work(self.session)?;
        self.session.queue().record(after.event)?;
        if let Some(times) = self.times.as_deref_mut().filter(|_| entry >= self.inner.program.launches.len()) {
            times[entry].calls += 1;
        }
        self.unread.push((entry, before, after));
        if self.unread.len() >= UNREAD {
            self.session.queue().drain()?;
            self.read_times()?;
        }
        Ok(())
    }

    /// Adds up the times of what is done.
    fn read_times(&mut self) -> Result<()> {
        let Some(times) = self.times.as_deref_mut() else { return Ok(()) };
        for (entry, before, after) in self.unread.drain(..) {
            times[entry].ns += before.until(&after)?;
        }
        Ok(())
    }

    /// Queues a copy of all status words to the host; they are checked when the queue is drained.
    fn drain_and_check(&mut self) -> Result<()> {
        let status = self.session.memory.layout.status;
        let (to, from) = (self.session.memory.staging.at(status), self.session.memory.status(0));
        let bytes = self.inner.program.launches.len() * 4;
        // SAFETY: staging covers the layout; the words are read only after the queue was drained.
        unsafe { self.session.queue().download(to, from, bytes)? };
        self.session.queue().drain()?;
        self.session.check_status(self.inner)
    }
}

impl Machine for Walk<'_> {
    fn progress(&self) -> &Progress {
        &self.session.progress
    }

    fn progress_mut(&mut self) -> &mut Progress {
        &mut self.session.progress
    }

    fn stretch(&mut self, position: usize) -> Result<Option<usize>> {
        if !self.use_graphs {
            return Ok(None);
        }
        let stretches = &code(self.inner).stretches;
        let Ok(index) = stretches.binary_search_by_key(&position, |stretch| stretch.start as usize) else {
            return Ok(None);
        };
        let Some(graph) = self.session.graph(index) else { return Ok(None) };
        let (stretch, handle) = (stretches[index], graph.handle);
        self.session.queue().launch_graph(handle, Work::Stretch(stretch.start, stretch.end))?;
        self.downloaded |= stretch.end as usize == self.inner.program.ops.len();
        Ok(Some(stretch.end as usize))
    }

    fn launch(&mut self, number: usize) -> Result<()> {
        let inner = self.inner;
        let mut threads = 0;
        self.measured(number, |session| {
            if let Some((call, queue)) = session.call(inner, number)? {
                threads = call.grid as usize * call.threads as usize;
                queue.launch(&call, Work::Launch(number as u32))?;
            }
            Ok(())
        })?;
        if let Some(times) = self.times.as_deref_mut() {
            count_launch(inner, &self.session.progress.values, number, threads, times);
        }
        if self.session.debug_sync {
            return self.drain_and_check();
        }
        Ok(())
    }

    fn outdate(&mut self, symbol: SymbolId) {
        for &launch in &self.inner.program.launches_of_symbol[symbol as usize] {
            self.session.outdate_launch(launch);
        }
    }

    fn ensure(&mut self, buffer: BufferId, bytes: usize) -> Result<()> {
        self.session.ensure(self.inner, buffer, bytes)
    }

    fn ensure_to_append(&mut self, buffer: BufferId, bytes: usize) -> Result<()> {
        let GpuSession { queue, memory, .. } = &mut *self.session;
        if memory.ensure_to_append(self.inner, buffer, bytes, queue.as_mut().expect(PREPARED))? {
            self.session.outdate(self.inner, buffer);
        }
        Ok(())
    }

    fn copy(&mut self, from: BufferId, to: BufferId, offset: usize, bytes: usize) -> Result<()> {
        let memory = &self.session.memory;
        check_room("a step", bytes, memory.capacity[from as usize])?;
        check_room("a step", offset + bytes, memory.capacity[to as usize])?;
        let (from, to) = (memory.address[from as usize], memory.address[to as usize] + offset as u64);
        self.session.queue().copy(to, from, bytes)
    }

    fn swap(&mut self, a: BufferId, b: BufferId) {
        self.session.memory.swap(a, b);
        self.session.outdate(self.inner, a);
        self.session.outdate(self.inner, b);
    }

    fn read<const N: usize>(&mut self, buffer: BufferId, index: usize) -> Result<[u8; N]> {
        let (start, memory) = (index * N, &self.session.memory);
        check_room("a step", start + N, memory.capacity[buffer as usize])?;
        // What the host has at hand needs no waiting.
        match self.inner.plan.buffers[buffer as usize].storage {
            Storage::Input(number) => {
                let (input, len) = memory.layout.inputs[number as usize];
                return Ok(memory.staging.view(input, len).load(index));
            }
            Storage::Weight(offset) => {
                let bytes = self.inner.weights().get(offset as usize + start..).and_then(|bytes| bytes.first_chunk());
                return bytes.copied().ok_or_else(|| Error::BadPlan("a weight lies outside the weights".into()));
            }
            Storage::Arena(_) | Storage::Heap | Storage::Output(_) => {}
        }
        let end = memory.layout.end;
        let (to, from) = (memory.staging.at(end), memory.address[buffer as usize] + start as u64);
        // SAFETY: staging ends with a word for this, read only after the queue was drained.
        unsafe { self.session.queue().download(to, from, N)? };
        self.drain_and_check()?;
        Ok(self.session.memory.staging.view(end, N).load(0))
    }

    fn write(&mut self, buffer: BufferId, value: i64) -> Result<()> {
        check_room("a step", 8, self.session.memory.capacity[buffer as usize])?;
        let address = self.session.memory.address[buffer as usize];
        // Passed by value, so that no host memory has to stay unchanged until the device gets there.
        let value = value.cast_unsigned();
        self.session.queue().fill(address, value as u32, 1)?;
        self.session.queue().fill(address + 4, (value >> 32) as u32, 1)
    }

    fn fetch(&mut self, slot: usize, buffer: BufferId, bytes: usize) -> Result<()> {
        self.session.queue_download(slot, buffer, bytes)?;
        // A routine must not work on what a failed kernel left.
        self.drain_and_check()
    }

    fn reserve(&mut self, slot: usize, bytes: usize) -> Result<()> {
        self.session.reserve_slot(slot, bytes)
    }

    fn operand(&self, slot: usize, _buffer: BufferId, bytes: usize) -> Result<RawBytes<'_>> {
        Ok(self.session.slots[slot].view(0, bytes))
    }

    fn store(&mut self, slot: usize, buffer: BufferId, bytes: usize) -> Result<()> {
        check_room("a step", bytes, self.session.memory.capacity[buffer as usize])?;
        let (to, from) = (self.session.memory.address[buffer as usize], self.session.slots[slot].at(0));
        // SAFETY: the slot has that many bytes; the queue is drained before anybody touches it.
        unsafe { self.session.queue().upload(to, from, bytes)? };
        self.session.queue().drain()
    }

    fn times(&mut self) -> Option<&mut Times> {
        self.times.as_deref_mut()
    }
}
