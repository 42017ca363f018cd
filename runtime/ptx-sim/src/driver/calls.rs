//! The calls, each as the driver documents it.

use std::alloc::Layout;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use xlac_runtime::device::cuda::api as cuda;
use xlac_runtime::device::cuda::api::{Driver, Status, device_attribute, function_attribute};

use super::code::{Link, parse, text_of, to_cubin};
use super::entry::{CONTEXT, StandIn, add_node, answer, kernel_work, list, log_of, params_of, put, write_log};
use super::state::{Function, Graph};
use super::work::Work;

/// Shared memory every block may have.
const PLAIN_SHARED: u32 = 48 << 10;
/// Alignment of pinned blocks.
const PAGE: usize = 4096;

// SAFETY reasons below: every call has the contract of the driver's function of that name, which its callers keep.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Driver for StandIn {
    unsafe fn init(&self, _flags: c_uint) -> Status {
        answer(|| {
            let mut state = self.count("cuInit")?;
            if state.config.devices == 0 {
                return Err(Status::NO_DEVICE);
            }
            state.is_initialized = true;
            Ok(())
        })
    }

    unsafe fn driver_get_version(&self, version: *mut c_int) -> Status {
        answer(|| {
            let (major, minor) = self.count("cuDriverGetVersion")?.config.driver;
            unsafe { put(version, (major * 1000 + minor * 10) as c_int) }
        })
    }

    unsafe fn get_error_name(&self, status: Status, name: *mut *const c_char) -> Status {
        answer(|| {
            let text = format!("CUDA_ERROR_{}", status.name().ok_or(Status::INVALID_VALUE)?);
            self.hand_out(name, text)
        })
    }

    /// The driver's words are fixed; the simulator tells what happened.
    unsafe fn get_error_string(&self, status: Status, text: *mut *const c_char) -> Status {
        answer(|| {
            let state = self.state();
            let fault = state.fault.clone().filter(|_| state.sticky == Some(status));
            drop(state);
            self.hand_out(text, fault.ok_or(Status::INVALID_VALUE)?)
        })
    }

    unsafe fn device_get_count(&self, count: *mut c_int) -> Status {
        answer(|| unsafe { put(count, self.early("cuDeviceGetCount")?.config.devices as c_int) })
    }

    unsafe fn device_get(&self, device: *mut c_int, ordinal: c_int) -> Status {
        answer(|| {
            let state = self.early("cuDeviceGet")?;
            if !(0..state.config.devices as c_int).contains(&ordinal) {
                return Err(Status::INVALID_DEVICE);
            }
            unsafe { put(device, ordinal) }
        })
    }

    unsafe fn device_get_name(&self, name: *mut c_char, len: c_int, _device: c_int) -> Status {
        answer(|| {
            let text = self.early("cuDeviceGetName")?.config.name.clone();
            unsafe { write_log(Some((name.expose_provenance(), len.max(0) as usize)), &text) };
            Ok(())
        })
    }

    unsafe fn device_get_uuid(&self, uuid: *mut [u8; 16], _device: c_int) -> Status {
        answer(|| self.early("cuDeviceGetUuid").and_then(|_| unsafe { put(uuid, *b"xlac-ptx-sim-000") }))
    }

    unsafe fn device_get_attribute(&self, value: *mut c_int, attribute: c_int, _device: c_int) -> Status {
        answer(|| {
            let state = self.early("cuDeviceGetAttribute")?;
            let config = &state.config;
            let found = match attribute {
                device_attribute::MAX_THREADS_PER_BLOCK => 1024,
                device_attribute::MULTIPROCESSOR_COUNT => config.multiprocessors,
                device_attribute::L2_CACHE_SIZE => 4 << 20,
                device_attribute::COMPUTE_CAPABILITY_MAJOR => config.capability.0,
                device_attribute::COMPUTE_CAPABILITY_MINOR => config.capability.1,
                device_attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => config.shared_bytes,
                _ => return Err(Status::INVALID_VALUE),
            };
            unsafe { put(value, found as c_int) }
        })
    }

    unsafe fn device_total_mem(&self, bytes: *mut usize, _device: c_int) -> Status {
        answer(|| unsafe { put(bytes, self.early("cuDeviceTotalMem_v2")?.config.memory_bytes as usize) })
    }

    unsafe fn primary_ctx_retain(&self, context: *mut cuda::Context, _device: c_int) -> Status {
        answer(|| {
            self.early("cuDevicePrimaryCtxRetain")?.retained += 1;
            unsafe { put(context, cuda::Context(CONTEXT)) }
        })
    }

    unsafe fn primary_ctx_release(&self, _device: c_int) -> Status {
        answer(|| {
            let mut state = self.early("cuDevicePrimaryCtxRelease_v2")?;
            state.retained = state.retained.checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
            Ok(())
        })
    }

    unsafe fn ctx_set_current(&self, context: cuda::Context) -> Status {
        answer(|| {
            let mut state = self.early("cuCtxSetCurrent")?;
            if let Some(status) = state.sticky {
                return Err(status);
            }
            if context.0 != CONTEXT || state.retained == 0 {
                return Err(Status::INVALID_CONTEXT);
            }
            state.current.insert(std::thread::current().id(), CONTEXT);
            Ok(())
        })
    }

    unsafe fn mem_alloc(&self, address: *mut u64, bytes: usize) -> Status {
        answer(|| {
            let mut state = self.enter("cuMemAlloc_v2")?;
            if bytes == 0 {
                return Err(Status::INVALID_VALUE);
            }
            let start = state.memory.alloc(bytes).ok_or(Status::OUT_OF_MEMORY)?;
            if state.config.zeroed {
                state.memory.fill(start, 0, bytes).map_err(|_| Status::UNKNOWN)?;
            }
            state.allocations += 1;
            unsafe { put(address, start) }
        })
    }

    /// Frees at once, without waiting: work that still needs the memory will fail.
    unsafe fn mem_free(&self, address: u64) -> Status {
        answer(|| {
            let mut state = self.enter("cuMemFree_v2")?;
            state.memory.free(address).map_err(|_| Status::INVALID_VALUE)?;
            state.allocations -= 1;
            Ok(())
        })
    }

    unsafe fn mem_host_alloc(&self, address: *mut *mut c_void, bytes: usize, _flags: c_uint) -> Status {
        answer(|| {
            let mut state = self.enter("cuMemHostAlloc")?;
            let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Status::INVALID_VALUE)?;
            if bytes == 0 {
                return Err(Status::INVALID_VALUE);
            }
            let start = unsafe { std::alloc::alloc(layout) };
            if start.is_null() {
                return Err(Status::OUT_OF_MEMORY);
            }
            state.pinned.insert(start.expose_provenance(), bytes);
            unsafe { put(address, start.cast()) }
        })
    }

    unsafe fn mem_free_host(&self, address: *mut c_void) -> Status {
        answer(|| {
            let mut state = self.enter("cuMemFreeHost")?;
            let bytes = state.pinned.remove(&address.expose_provenance()).ok_or(Status::INVALID_VALUE)?;
            let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Status::INVALID_VALUE)?;
            unsafe { std::alloc::dealloc(address.cast(), layout) };
            Ok(())
        })
    }

    unsafe fn memcpy_htod_async(&self, to: u64, from: *const c_void, bytes: usize, stream: cuda::Stream) -> Status {
        self.queue("cuMemcpyHtoDAsync_v2", stream, |state| {
            if !state.is_allocated(to, bytes) {
                return Err(Status::INVALID_VALUE);
            }
            let start = from.expose_provenance();
            if state.is_pinned(start, bytes) {
                return Ok(Work::Upload { to, from: start, bytes });
            }
            Ok(Work::UploadNow { to, data: unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec() })
        })
    }

    /// To memory that is not pinned the driver copies before it returns; nobody here does that.
    unsafe fn memcpy_dtoh_async(&self, to: *mut c_void, from: u64, bytes: usize, stream: cuda::Stream) -> Status {
        self.queue("cuMemcpyDtoHAsync_v2", stream, |state| {
            let to = to.expose_provenance();
            let fits = state.is_allocated(from, bytes) && state.is_pinned(to, bytes);
            if fits { Ok(Work::Download { to, from, bytes }) } else { Err(Status::INVALID_VALUE) }
        })
    }

    unsafe fn memcpy_dtod_async(&self, to: u64, from: u64, bytes: usize, stream: cuda::Stream) -> Status {
        self.queue("cuMemcpyDtoDAsync_v2", stream, |state| {
            let fits = state.is_allocated(from, bytes) && state.is_allocated(to, bytes);
            if fits { Ok(Work::Copy { to, from, bytes }) } else { Err(Status::INVALID_VALUE) }
        })
    }

    unsafe fn memset_d32_async(&self, to: u64, value: c_uint, words: usize, stream: cuda::Stream) -> Status {
        self.queue("cuMemsetD32Async", stream, |state| {
            let fits = to.is_multiple_of(4) && state.is_allocated(to, words * 4);
            if fits { Ok(Work::Fill { to, value, words }) } else { Err(Status::INVALID_VALUE) }
        })
    }

    unsafe fn module_load_data_ex(
        &self,
        module: *mut cuda::Module,
        image: *const c_void,
        options: c_uint,
        keys: *mut c_int,
        values: *mut *mut c_void,
    ) -> Status {
        answer(|| {
            let mut state = self.enter("cuModuleLoadDataEx")?;
            let text = unsafe { text_of(image.cast()) };
            match parse(&text, &state.config) {
                Ok(loaded) => {
                    let handle = state.handle();
                    state.modules.insert(handle, loaded);
                    unsafe { put(module, cuda::Module(handle)) }
                }
                Err((status, log)) => {
                    unsafe { write_log(log_of(options, keys, values), &log) };
                    Err(status)
                }
            }
        })
    }

    unsafe fn module_unload(&self, module: cuda::Module) -> Status {
        answer(|| {
            let mut state = self.enter("cuModuleUnload")?;
            state.modules.remove(&module.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn module_get_function(
        &self,
        function: *mut cuda::Function,
        module: cuda::Module,
        name: *const c_char,
    ) -> Status {
        answer(|| {
            let mut state = self.enter("cuModuleGetFunction")?;
            let module = Arc::clone(state.modules.get(&module.0).ok_or(Status::INVALID_HANDLE)?);
            let name = unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned();
            let kernel = module.module.kernel(&name).ok_or(Status::NOT_FOUND)?;
            let dynamic_shared = PLAIN_SHARED.saturating_sub(kernel.shared_bytes() as u32);
            let handle = state.handle();
            state.functions.insert(handle, Function { module, name, dynamic_shared });
            unsafe { put(function, cuda::Function(handle)) }
        })
    }

    unsafe fn func_get_attribute(&self, value: *mut c_int, attribute: c_int, function: cuda::Function) -> Status {
        answer(|| {
            let state = self.enter("cuFuncGetAttribute")?;
            let function = state.functions.get(&function.0).ok_or(Status::INVALID_HANDLE)?;
            let kernel = function.module.module.kernel(&function.name).ok_or(Status::INVALID_HANDLE)?;
            let found = match attribute {
                function_attribute::MAX_THREADS_PER_BLOCK => kernel.max_threads() as usize,
                function_attribute::SHARED_SIZE_BYTES => kernel.shared_bytes(),
                function_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => function.dynamic_shared as usize,
                _ => return Err(Status::INVALID_VALUE),
            };
            unsafe { put(value, found as c_int) }
        })
    }

    unsafe fn func_set_attribute(&self, function: cuda::Function, attribute: c_int, value: c_int) -> Status {
        answer(|| {
            let mut state = self.enter("cuFuncSetAttribute")?;
            let most = state.config.shared_bytes;
            let function = state.functions.get_mut(&function.0).ok_or(Status::INVALID_HANDLE)?;
            let fixed = function.module.module.kernel(&function.name).map_or(0, |kernel| kernel.shared_bytes());
            let fits = u32::try_from(value).ok().filter(|&value| value as u64 + fixed as u64 <= u64::from(most));
            match (attribute, fits) {
                (function_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES, Some(bytes)) => function.dynamic_shared = bytes,
                _ => return Err(Status::INVALID_VALUE),
            }
            Ok(())
        })
    }

    unsafe fn link_create(
        &self,
        options: c_uint,
        keys: *mut c_int,
        values: *mut *mut c_void,
        link: *mut cuda::LinkState,
    ) -> Status {
        answer(|| {
            let mut state = self.enter("cuLinkCreate_v2")?;
            let handle = state.handle();
            let log = unsafe { log_of(options, keys, values) };
            state.links.insert(handle, Link { log, cubin: Vec::new() });
            unsafe { put(link, cuda::LinkState(handle)) }
        })
    }

    unsafe fn link_add_data(
        &self,
        link: cuda::LinkState,
        kind: c_int,
        data: *mut c_void,
        bytes: usize,
        _name: *const c_char,
        _options: c_uint,
        _keys: *mut c_int,
        _values: *mut *mut c_void,
    ) -> Status {
        answer(|| {
            let mut state = self.enter("cuLinkAddData_v2")?;
            let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
            let (Some((0, text)), cuda::JIT_INPUT_PTX) = (data.split_last(), kind) else {
                return Err(Status::INVALID_VALUE);
            };
            let parsed = parse(text, &state.config);
            let link = state.links.get_mut(&link.0).ok_or(Status::INVALID_HANDLE)?;
            if let Err((status, log)) = parsed {
                unsafe { write_log(link.log, &log) };
                return Err(status);
            }
            link.cubin = to_cubin(text);
            Ok(())
        })
    }

    unsafe fn link_complete(&self, link: cuda::LinkState, cubin: *mut *mut c_void, bytes: *mut usize) -> Status {
        answer(|| {
            let mut state = self.enter("cuLinkComplete")?;
            let image = &mut state.links.get_mut(&link.0).ok_or(Status::INVALID_HANDLE)?.cubin;
            unsafe { put(cubin, image.as_mut_ptr().cast()).and_then(|()| put(bytes, image.len())) }
        })
    }

    unsafe fn link_destroy(&self, link: cuda::LinkState) -> Status {
        answer(|| {
            let mut state = self.enter("cuLinkDestroy")?;
            state.links.remove(&link.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn stream_create(&self, stream: *mut cuda::Stream, _flags: c_uint) -> Status {
        answer(|| {
            let mut state = self.enter("cuStreamCreate")?;
            let handle = state.handle();
            state.streams.insert(handle, Default::default());
            unsafe { put(stream, cuda::Stream(handle)) }
        })
    }

    unsafe fn stream_synchronize(&self, stream: cuda::Stream) -> Status {
        answer(|| self.enter("cuStreamSynchronize")?.drain(stream.0))
    }

    unsafe fn stream_destroy(&self, stream: cuda::Stream) -> Status {
        answer(|| {
            let mut state = self.enter("cuStreamDestroy_v2")?;
            state.streams.remove(&stream.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn event_create(&self, event: *mut cuda::Event, _flags: c_uint) -> Status {
        answer(|| {
            let mut state = self.enter("cuEventCreate")?;
            let handle = state.handle();
            state.events.insert(handle, None);
            unsafe { put(event, cuda::Event(handle)) }
        })
    }

    unsafe fn event_record(&self, event: cuda::Event, stream: cuda::Stream) -> Status {
        self.queue("cuEventRecord", stream, |state| match state.events.contains_key(&event.0) {
            true => Ok(Work::Record(event.0)),
            false => Err(Status::INVALID_HANDLE),
        })
    }

    unsafe fn event_elapsed_time(&self, milliseconds: *mut f32, start: cuda::Event, end: cuda::Event) -> Status {
        answer(|| {
            let state = self.enter("cuEventElapsedTime")?;
            let time = |event: cuda::Event| {
                let time = state.events.get(&event.0).ok_or(Status::INVALID_HANDLE)?;
                time.ok_or(Status::NOT_READY)
            };
            let ns = time(end)?.saturating_sub(time(start)?);
            unsafe { put(milliseconds, ns as f32 / 1e6) }
        })
    }

    unsafe fn event_destroy(&self, event: cuda::Event) -> Status {
        answer(|| {
            let mut state = self.enter("cuEventDestroy_v2")?;
            state.events.remove(&event.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn launch_kernel(
        &self,
        function: cuda::Function,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: cuda::Stream,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Status {
        self.queue("cuLaunchKernel", stream, |state| {
            let function = state.functions.get(&function.0).ok_or(Status::INVALID_HANDLE)?;
            let params = unsafe { params_of(function, params, extra)? };
            let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
            kernel_work(state, function, grid, block, shared_bytes, params)
        })
    }

    unsafe fn graph_create(&self, graph: *mut cuda::Graph, _flags: c_uint) -> Status {
        answer(|| {
            let mut state = self.enter("cuGraphCreate")?;
            let handle = state.handle();
            state.graphs.insert(handle, Graph::default());
            unsafe { put(graph, cuda::Graph(handle)) }
        })
    }

    unsafe fn graph_destroy(&self, graph: cuda::Graph) -> Status {
        answer(|| {
            let mut state = self.enter("cuGraphDestroy")?;
            state.graphs.remove(&graph.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn graph_add_kernel_node(
        &self,
        node: *mut cuda::GraphNode,
        graph: cuda::Graph,
        dependencies: *const cuda::GraphNode,
        count: usize,
        params: *const cuda::KernelNodeParams,
    ) -> Status {
        answer(|| {
            let mut state = self.enter("cuGraphAddKernelNode")?;
            let launch = unsafe { &*params };
            let function = state.functions.get(&launch.func.0).ok_or(Status::INVALID_HANDLE)?;
            let params = unsafe { params_of(function, launch.kernel_params, launch.extra)? };
            let work = kernel_work(&state, function, launch.grid, launch.block, launch.shared_bytes, params)?;
            let handle = add_node(&mut state, graph, unsafe { list(dependencies, count) }, work)?;
            unsafe { put(node, cuda::GraphNode(handle)) }
        })
    }

    unsafe fn graph_add_memcpy_node(
        &self,
        node: *mut cuda::GraphNode,
        graph: cuda::Graph,
        dependencies: *const cuda::GraphNode,
        count: usize,
        params: *const cuda::Memcpy3D,
        context: cuda::Context,
    ) -> Status {
        answer(|| {
            let mut state = self.enter("cuGraphAddMemcpyNode")?;
            if context.0 != CONTEXT {
                return Err(Status::INVALID_CONTEXT);
            }
            let work = state.copy_work(unsafe { &*params })?;
            let handle = add_node(&mut state, graph, unsafe { list(dependencies, count) }, work)?;
            unsafe { put(node, cuda::GraphNode(handle)) }
        })
    }

    unsafe fn graph_instantiate(&self, exec: *mut cuda::GraphExec, graph: cuda::Graph, _flags: u64) -> Status {
        answer(|| {
            let mut state = self.enter("cuGraphInstantiateWithFlags")?;
            let nodes = state.graphs.get(&graph.0).ok_or(Status::INVALID_HANDLE)?.nodes.clone();
            let handle = state.handle();
            state.executables.insert(handle, Arc::new(nodes));
            unsafe { put(exec, cuda::GraphExec(handle)) }
        })
    }

    unsafe fn graph_upload(&self, exec: cuda::GraphExec, _stream: cuda::Stream) -> Status {
        answer(|| {
            let state = self.enter("cuGraphUpload")?;
            state.executables.get(&exec.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn graph_launch(&self, exec: cuda::GraphExec, stream: cuda::Stream) -> Status {
        self.queue("cuGraphLaunch", stream, |state| {
            state.executables.get(&exec.0).cloned().map(Work::Graph).ok_or(Status::INVALID_HANDLE)
        })
    }

    unsafe fn graph_exec_destroy(&self, exec: cuda::GraphExec) -> Status {
        answer(|| {
            let mut state = self.enter("cuGraphExecDestroy")?;
            state.executables.remove(&exec.0).map(drop).ok_or(Status::INVALID_HANDLE)
        })
    }
}
