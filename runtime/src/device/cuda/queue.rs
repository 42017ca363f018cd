//! One stream: work is queued in order, and what failed is named.
//!
//! Invariant: whoever queues work keeps the memory it names until the queue was drained. Within this folder that is the
//! session, whose memory is dropped and moved only after [`Queue::drain`], and the upload of weights.

use std::sync::Arc;

use super::api::{self, DevicePtr, Event, Function, GraphExec, Stream};
use super::blocks::DeviceBlock;
use super::gpu::Gpu;
use crate::error::{Error, Result};
use crate::model::Inner;

/// Most entries of [`Queue::under_way`] that are kept.
const REMEMBERED: usize = 64;

/// What was queued since the queue was last drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Launch by its number in the program.
    Launch(u32),
    /// The static launches of these positions of the program.
    Stretch(u32, u32),
}

/// A kernel launch in the driver's terms.
pub(super) struct LaunchCall<'a> {
    pub(super) function: Function,
    pub(super) grid: u32,
    pub(super) threads: u32,
    pub(super) shared: u32,
    /// All parameters, eight bytes each.
    pub(super) params: &'a [u64],
}

/// A stream of its own.
pub(super) struct Queue {
    gpu: Arc<Gpu>,
    stream: Stream,
    under_way: Vec<Work>,
    /// Whether work may be under way.
    is_busy: bool,
}

impl Queue {
    /// A new stream. The context must be current.
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Queue> {
        let mut stream = Stream::default();
        // SAFETY: an out-parameter of its type; destroyed when the queue is dropped.
        let status = unsafe { gpu.api.0.stream_create(&mut stream, api::STREAM_NON_BLOCKING) };
        gpu.check("cuStreamCreate", status)?;
        Ok(Queue { gpu: Arc::clone(gpu), stream, under_way: Vec::with_capacity(REMEMBERED), is_busy: false })
    }

    /// Copies host memory to the device.
    ///
    /// # Safety
    ///
    /// `from` is valid for `bytes` bytes and neither written nor freed before the queue is drained; the device range is
    /// an allocation's.
    pub(super) unsafe fn upload(&mut self, to: DevicePtr, from: *const u8, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.is_busy = true;
        // SAFETY: the caller's promise.
        let status = unsafe { self.gpu.api.0.memcpy_htod_async(to, from.cast(), bytes, self.stream) };
        self.gpu.check("cuMemcpyHtoDAsync", status)
    }

    /// Copies device memory to the host.
    ///
    /// # Safety
    ///
    /// `to` is valid for `bytes` bytes and not touched before the queue is drained; the device range is an allocation's.
    pub(super) unsafe fn download(&mut self, to: *mut u8, from: DevicePtr, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.is_busy = true;
        // SAFETY: the caller's promise.
        let status = unsafe { self.gpu.api.0.memcpy_dtoh_async(to.cast(), from, bytes, self.stream) };
        self.gpu.check("cuMemcpyDtoHAsync", status)
    }

    /// Copies within the device; the ranges may overlap.
    pub(super) fn copy(&mut self, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()> {
        if bytes == 0 || to == from {
            return Ok(());
        }
        if to.abs_diff(from) < bytes as u64 {
            // The driver does not promise anything for these.
            let between = DeviceBlock::new(&self.gpu, bytes)?;
            self.copy(between.start(), from, bytes)?;
            self.copy(to, between.start(), bytes)?;
            return self.drain();
        }
        self.is_busy = true;
        // SAFETY: device addresses, which the driver checks; callers have compared them with the buffers' sizes.
        let status = unsafe { self.gpu.api.0.memcpy_dtod_async(to, from, bytes, self.stream) };
        self.gpu.check("cuMemcpyDtoDAsync", status)
    }

    /// Sets 32-bit words on the device.
    pub(super) fn fill(&mut self, to: DevicePtr, value: u32, words: usize) -> Result<()> {
        if words == 0 {
            return Ok(());
        }
        self.is_busy = true;
        // SAFETY: as in `copy`; the value is passed by value.
        let status = unsafe { self.gpu.api.0.memset_d32_async(to, value, words, self.stream) };
        self.gpu.check("cuMemsetD32Async", status)
    }

    /// Runs a kernel. That it stays within the buffers it is given is what an artifact promises, as for code on the CPU
    /// (see `CodeImage::map`).
    pub(super) fn launch(&mut self, call: &LaunchCall<'_>, work: Work) -> Result<()> {
        self.remember(work);
        let mut bytes = size_of_val(call.params);
        let mut extra = Extra::new(call.params, &mut bytes);
        // SAFETY: the function belongs to a module that the session's model keeps loaded; `extra` holds all parameters in
        // one piece with its size, which the driver compares with the kernel's, and copies before the call returns.
        let status = unsafe {
            self.gpu.api.0.launch_kernel(
                call.function,
                call.grid,
                1,
                1,
                call.threads,
                1,
                1,
                call.shared,
                self.stream,
                std::ptr::null_mut(),
                extra.as_mut_ptr(),
            )
        };
        self.gpu.check("cuLaunchKernel", status)
    }

    /// Runs a graph.
    pub(super) fn launch_graph(&mut self, graph: GraphExec, work: Work) -> Result<()> {
        self.remember(work);
        // SAFETY: the graph is kept by the caller until the queue is drained.
        let status = unsafe { self.gpu.api.0.graph_launch(graph, self.stream) };
        self.gpu.check("cuGraphLaunch", status)
    }

    /// Brings a graph to the device before its first launch.
    pub(super) fn upload_graph(&mut self, graph: GraphExec) -> Result<()> {
        self.is_busy = true;
        // SAFETY: as in `launch_graph`.
        let status = unsafe { self.gpu.api.0.graph_upload(graph, self.stream) };
        self.gpu.check("cuGraphUpload", status)
    }

    /// Notes the time on the device when everything queued so far is done.
    pub(super) fn record(&mut self, event: Event) -> Result<()> {
        self.is_busy = true;
        // SAFETY: the event is kept by the caller until the queue is drained.
        let status = unsafe { self.gpu.api.0.event_record(event, self.stream) };
        self.gpu.check("cuEventRecord", status)
    }

    /// Waits until everything queued is done.
    pub(super) fn drain(&mut self) -> Result<()> {
        if !self.is_busy {
            return Ok(());
        }
        // SAFETY: the stream is this queue's own.
        self.gpu.check("cuStreamSynchronize", unsafe { self.gpu.api.0.stream_synchronize(self.stream) })?;
        self.is_busy = false;
        self.under_way.clear();
        Ok(())
    }

    fn remember(&mut self, work: Work) {
        self.is_busy = true;
        if self.under_way.len() == REMEMBERED {
            self.under_way.remove(0);
        }
        self.under_way.push(work);
    }

    /// Adds to a failure of the device which kernels were under way, and tells the device's other users.
    #[cold]
    pub(super) fn blame(&mut self, inner: &Inner, error: Error) -> Error {
        match error {
            Error::DeviceFault { call, error, suspects } if suspects.is_empty() => {
                let suspects = self.suspects(inner);
                self.gpu.fail(&format!("{error}{suspects}"));
                Error::DeviceFault { call, error, suspects }
            }
            other => other,
        }
    }

    fn suspects(&self, inner: &Inner) -> String {
        const SHOWN: usize = 5;
        let mut numbers: Vec<u32> = Vec::new();
        for &work in &self.under_way {
            match work {
                Work::Launch(number) => numbers.push(number),
                Work::Stretch(start, end) => {
                    let ops = &inner.program.ops[start as usize..end as usize];
                    numbers.extend(ops.iter().filter_map(|op| match op {
                        crate::program::Op::Launch(number) => Some(*number),
                        _ => None,
                    }));
                }
            }
        }
        numbers.dedup();
        let name = |number: &u32| {
            let kernel = &inner.plan.kernels[inner.program.launches[*number as usize].kernel as usize];
            format!("`{}` (nodes {})", kernel.name, kernel.nodes.join(", "))
        };
        // The last ones queued are the likeliest: what came before has usually been waited for.
        let names: Vec<String> = numbers.iter().rev().take(SHOWN).map(name).collect();
        match names.as_slice() {
            [] => String::new(),
            [one] => format!("; the kernel under way was {one}"),
            several => {
                let more = numbers.len() - several.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!(
                    "; under way were {}{more}, newest first: XLAC_DEBUG_SYNC=1 tells which it is",
                    several.join(", ")
                )
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.gpu.enter().is_ok() {
            // What is left over must end before its memory goes; a failure is noted in the device.
            let _ = self.drain();
        }
        // SAFETY: the stream is this queue's own and is destroyed once.
        self.gpu.give_back(|api| unsafe { api.0.stream_destroy(self.stream) });
    }
}

/// The `extra` list of a launch: all parameters in one piece.
pub(super) struct Extra([*mut std::ffi::c_void; 5]);

impl Extra {
    /// Borrows both for as long as the list is used.
    pub(super) fn new(params: &[u64], bytes: &mut usize) -> Extra {
        let key = |key: usize| std::ptr::without_provenance_mut(key);
        Extra([
            key(api::LAUNCH_PARAM_BUFFER_POINTER),
            params.as_ptr().cast_mut().cast(),
            key(api::LAUNCH_PARAM_BUFFER_SIZE),
            std::ptr::from_mut(bytes).cast(),
            key(api::LAUNCH_PARAM_END),
        ])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut *mut std::ffi::c_void {
        self.0.as_mut_ptr()
    }
}

/// An event of its own, for times.
pub(super) struct Timer {
    gpu: Arc<Gpu>,
    pub(super) event: Event,
}

impl Timer {
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Timer> {
        let mut event = Event::default();
        // SAFETY: an out-parameter of its type; destroyed when the timer is dropped.
        gpu.check("cuEventCreate", unsafe { gpu.api.0.event_create(&mut event, 0) })?;
        Ok(Timer { gpu: Arc::clone(gpu), event })
    }

    /// Nanoseconds from this event to `end`; both are past.
    pub(super) fn until(&self, end: &Timer) -> Result<u64> {
        let mut milliseconds = 0.0;
        // SAFETY: an out-parameter of its type, and two events that were recorded.
        let status = unsafe { self.gpu.api.0.event_elapsed_time(&mut milliseconds, self.event, end.event) };
        self.gpu.check("cuEventElapsedTime", status)?;
        Ok((f64::from(milliseconds) * 1e6) as u64)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the event is this timer's own and is destroyed once.
        self.gpu.give_back(|api| unsafe { api.0.event_destroy(self.event) });
    }
}
