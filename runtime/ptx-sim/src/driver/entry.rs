//! What every call does before its own work, and the lists of pointers that calls take.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xlac_runtime::device::cuda::api as cuda;
use xlac_runtime::device::cuda::api::{Status, jit_option};

use super::SimConfig;
use super::state::{Function, State};
use super::work::{KernelWork, Node, Work};

/// Handle of the one context.
pub(super) const CONTEXT: usize = 0xc0;

/// The simulated driver.
pub(super) struct StandIn {
    state: Mutex<State>,
}

pub(super) type Answer<T = ()> = Result<T, Status>;

impl StandIn {
    pub(super) fn new(config: SimConfig) -> StandIn {
        StandIn { state: Mutex::new(State::new(config)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; fails if it is told to.
    pub(super) fn count(&self, call: &'static str) -> Answer<MutexGuard<'_, State>> {
        let mut state = self.state();
        let count = state.calls.entry(call).or_insert(0);
        *count += 1;
        let nth = *count;
        let failure = state.config.failures.iter().find(|failure| failure.call == call && failure.nth == nth);
        match failure.map(|failure| failure.status) {
            Some(status) if status.is_sticky() => Err(state.die(status, format!("{call} was told to fail"))),
            Some(status) => Err(status),
            None => Ok(state),
        }
    }

    /// A call that needs the driver to be initialized.
    pub(super) fn early(&self, call: &'static str) -> Answer<MutexGuard<'_, State>> {
        let state = self.count(call)?;
        if state.is_initialized { Ok(state) } else { Err(Status::NOT_INITIALIZED) }
    }

    /// A call that needs a context that works.
    pub(super) fn enter(&self, call: &'static str) -> Answer<MutexGuard<'_, State>> {
        let state = self.early(call)?;
        if let Some(status) = state.sticky {
            return Err(status);
        }
        let is_current = state.retained > 0 && state.current.get(&std::thread::current().id()) == Some(&CONTEXT);
        if is_current { Ok(state) } else { Err(Status::INVALID_CONTEXT) }
    }

    pub(super) fn queue(
        &self,
        call: &'static str,
        stream: cuda::Stream,
        work: impl FnOnce(&State) -> Answer<Work>,
    ) -> Status {
        answer(|| {
            let mut state = self.enter(call)?;
            let work = work(&state)?;
            state.streams.get_mut(&stream.0).ok_or(Status::INVALID_HANDLE)?.push_back(work);
            Ok(())
        })
    }

    /// Gives text to the caller that stays as long as the driver.
    pub(super) fn hand_out(&self, to: *mut *const c_char, text: String) -> Answer {
        let text = CString::new(text.replace('\0', " ")).map_err(|_| Status::INVALID_VALUE)?;
        let mut state = self.state();
        state.texts.push(text);
        let start = state.texts.last().map_or(std::ptr::null(), |text| text.as_ptr());
        // SAFETY: callers give a valid out-parameter; the text's bytes stay where they are when the list grows.
        unsafe { put(to, start) }
    }
}

pub(super) fn answer(call: impl FnOnce() -> Answer) -> Status {
    call().err().unwrap_or(Status::SUCCESS)
}

/// Writes through an out-parameter.
///
/// # Safety
///
/// `to` is null or valid for a write.
pub(super) unsafe fn put<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}

/// Address and size of the error log among options of the compiler.
///
/// # Safety
///
/// The lists have `count` entries.
pub(super) unsafe fn log_of(count: c_uint, keys: *mut c_int, values: *mut *mut c_void) -> Option<(usize, usize)> {
    let (mut buffer, mut size) = (None, None);
    for i in 0..count as usize {
        // SAFETY: the caller's promise.
        let (key, value) = unsafe { (keys.add(i).read(), values.add(i).read()) };
        match key {
            jit_option::ERROR_LOG_BUFFER => buffer = Some(value.expose_provenance()),
            jit_option::ERROR_LOG_BUFFER_SIZE_BYTES => size = Some(value.addr()),
            _ => {}
        }
    }
    Some((buffer?, size?))
}

/// Writes to a log as much as fits, and a zero.
///
/// # Safety
///
/// The log's address is valid for its size.
pub(super) unsafe fn write_log(log: Option<(usize, usize)>, text: &str) {
    let Some((start, size)) = log.filter(|&(_, size)| size > 0) else { return };
    let len = text.len().min(size - 1);
    let start: *mut u8 = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: at most `size` bytes, by the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), start, len);
        start.add(len).write(0);
    }
}

/// Parameters of a launch in one piece, from either list that the driver takes.
///
/// # Safety
///
/// The lists are as the driver documents them for a kernel with these parameters.
pub(super) unsafe fn params_of(
    function: &Function,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer<Vec<u8>> {
    let kernel = function.module.module.kernel(&function.name).ok_or(Status::INVALID_HANDLE)?;
    let mut bytes = vec![0; kernel.param_bytes()];
    if !params.is_null() {
        for (i, param) in kernel.params().iter().enumerate() {
            // SAFETY: one pointer for each parameter, to that many bytes.
            let value = unsafe { std::slice::from_raw_parts((*params.add(i)).cast::<u8>(), param.size) };
            bytes[param.offset..param.offset + param.size].copy_from_slice(value);
        }
        return Ok(bytes);
    }
    let (mut start, mut len) = (std::ptr::null::<u8>(), 0);
    let mut at = extra;
    // SAFETY: the list has pairs of key and value up to the end mark.
    unsafe {
        while !at.is_null() && (*at).addr() != cuda::LAUNCH_PARAM_END {
            match (*at).addr() {
                cuda::LAUNCH_PARAM_BUFFER_POINTER => start = (*at.add(1)).cast(),
                cuda::LAUNCH_PARAM_BUFFER_SIZE => len = (*at.add(1)).cast::<usize>().read(),
                _ => return Err(Status::INVALID_VALUE),
            }
            at = at.add(2);
        }
    }
    if len != bytes.len() {
        return Err(Status::INVALID_VALUE);
    }
    if len > 0 {
        // SAFETY: `len` bytes, as the list says.
        bytes.copy_from_slice(unsafe { std::slice::from_raw_parts(start, len) });
    }
    Ok(bytes)
}

/// A launch, refused where the driver refuses it.
pub(super) fn kernel_work(
    state: &State,
    function: &Function,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    params: Vec<u8>,
) -> Answer<Work> {
    let kernel = function.module.module.kernel(&function.name).ok_or(Status::INVALID_HANDLE)?;
    let threads = block.iter().fold(1u64, |product, &dim| product * u64::from(dim));
    let is_possible = grid.iter().all(|&dim| dim > 0)
        && grid[0] <= i32::MAX as u32
        && (1..=u64::from(kernel.max_threads())).contains(&threads);
    if !is_possible || shared > function.dynamic_shared {
        return Err(Status::INVALID_VALUE);
    }
    if kernel.shared_bytes() as u64 + u64::from(shared) > u64::from(state.config.shared_bytes) {
        return Err(Status::LAUNCH_OUT_OF_RESOURCES);
    }
    let (module, name) = (Arc::clone(&function.module), function.name.clone());
    Ok(Work::Kernel(Arc::new(KernelWork { module, name, grid, block, shared, params })))
}

/// Adds a node to a graph; what it waits for must be there.
pub(super) fn add_node(
    state: &mut State,
    graph: cuda::Graph,
    waits_for: &[cuda::GraphNode],
    work: Work,
) -> Answer<usize> {
    let handle = state.handle();
    let graph = state.graphs.get_mut(&graph.0).ok_or(Status::INVALID_HANDLE)?;
    let find = |node: &cuda::GraphNode| graph.handles.iter().position(|&known| known == node.0);
    let waits_for = waits_for.iter().map(|node| find(node).ok_or(Status::INVALID_VALUE)).collect::<Answer<_>>()?;
    graph.nodes.push(Node { work, waits_for });
    graph.handles.push(handle);
    Ok(handle)
}

/// The list of nodes to wait for.
///
/// # Safety
///
/// The list has `count` entries.
pub(super) unsafe fn list<'a>(nodes: *const cuda::GraphNode, count: usize) -> &'a [cuda::GraphNode] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(nodes, count) }
}
