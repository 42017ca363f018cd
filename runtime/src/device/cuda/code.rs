//! Code and weights of a model on a GPU: compiled by the driver once, shared by all sessions.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use super::api::{Function, JIT_INPUT_PTX, LinkState, Module, Status, function_attribute, jit_option};
use super::blocks::{DeviceBlock, PinnedBlock};
use super::cache::Key;
use super::gpu::{Gpu, describe};
use super::queue::Queue;
use super::stretch::{Stretch, find_stretches};
use crate::check::bad;
use crate::error::{Error, Result};
use crate::plan::{Kernel, Plan, Storage};
use crate::program::Program;

/// Shared memory every block may have without asking.
const PLAIN_SHARED: u32 = 48 << 10;
/// Bytes of the log of the driver's compiler that are kept.
const LOG: usize = 16 << 10;
/// Bytes of weights copied in one piece.
const PIECE: usize = 8 << 20;
/// Alignment of weights on the device, so that those aligned in the file to 64 bytes keep that.
const WEIGHT_ALIGN: u64 = 256;

/// Code and weights of a model on a GPU.
pub(crate) struct GpuCode {
    pub(super) gpu: Arc<Gpu>,
    module: Option<Module>,
    /// The function of each kernel of the plan.
    pub(super) functions: Vec<Function>,
    weights: DeviceBlock,
    /// Address of each buffer that is a weight; 0 for others.
    pub(super) weight_addresses: Vec<u64>,
    /// Steps that can be launched as one graph.
    pub(super) stretches: Vec<Stretch>,
}

impl GpuCode {
    /// Compiles the kernels of a plan and uploads the weights it uses.
    pub(crate) fn load(gpu: &Arc<Gpu>, plan: &Plan, program: &Program, code: &[u8], weights: &[u8]) -> Result<GpuCode> {
        check_text(plan, code)?;
        gpu.enter()?;
        let mut loaded = GpuCode {
            gpu: Arc::clone(gpu),
            module: None,
            functions: Vec::new(),
            weights: DeviceBlock::empty(gpu),
            weight_addresses: Vec::new(),
            stretches: find_stretches(plan, program),
        };
        if !plan.kernels.is_empty() {
            let module = load_module(gpu, code)?;
            loaded.module = Some(module);
            loaded.functions = functions(gpu, module, &plan.kernels)?;
        }
        loaded.place_weights(plan, weights)?;
        Ok(loaded)
    }

    /// The GPU it is on.
    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Bytes of weights on the device.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.weights.len()
    }

    /// Uploads those parts of the weights section that the plan uses; other variants have weights in it too.
    fn place_weights(&mut self, plan: &Plan, weights: &[u8]) -> Result<()> {
        let mut wanted: Vec<(u64, u64)> = Vec::new();
        let constants = crate::expr::Values::new(plan);
        for buffer in &plan.buffers {
            if let Storage::Weight(offset) = buffer.storage {
                // Checked with the plan to lie within the weights.
                wanted.push((offset, offset + constants.size(buffer.bytes)? as u64));
            }
        }
        wanted.sort_unstable();
        let mut parts: Vec<(u64, u64, u64)> = Vec::new();
        let mut total = 0;
        for (start, end) in wanted {
            match parts.last_mut() {
                Some((first, last, at)) if start <= last.saturating_add(WEIGHT_ALIGN) => {
                    *last = end.max(*last);
                    total = *at + (*last - *first);
                }
                _ => {
                    // Rounded down, so that addresses agree with offsets in their low bits.
                    let first = start / WEIGHT_ALIGN * WEIGHT_ALIGN;
                    let at = total.next_multiple_of(WEIGHT_ALIGN);
                    parts.push((first, end, at));
                    total = at + (end - first);
                }
            }
        }
        self.weights = DeviceBlock::new(&self.gpu, total as usize)?;
        let base = self.weights.start();
        let address = |offset: u64| {
            let part = parts.partition_point(|&(first, ..)| first <= offset) - 1;
            base + parts[part].2 + (offset - parts[part].0)
        };
        let of_buffer = |storage: Storage| match storage {
            Storage::Weight(offset) => address(offset),
            _ => 0,
        };
        self.weight_addresses = plan.buffers.iter().map(|buffer| of_buffer(buffer.storage)).collect();
        upload(&self.gpu, weights, base, &parts)
    }
}

impl Drop for GpuCode {
    fn drop(&mut self) {
        if let Some(module) = self.module {
            // SAFETY: the module is this model's own; sessions, which hold the model, have drained their work.
            self.gpu.give_back(|api| unsafe { api.0.module_unload(module) });
        }
    }
}

/// Copies parts of the weights through two pinned pieces: one is filled while the other is under way.
fn upload(gpu: &Arc<Gpu>, weights: &[u8], base: u64, parts: &[(u64, u64, u64)]) -> Result<()> {
    let longest = parts.iter().map(|&(first, last, _)| (last - first) as usize).max().unwrap_or(0);
    if longest == 0 {
        return Ok(());
    }
    let len = PIECE.min(longest);
    let mut lanes = [(Queue::new(gpu)?, PinnedBlock::new(gpu, len)?), (Queue::new(gpu)?, PinnedBlock::new(gpu, len)?)];
    let mut turn = 0;
    for &(first, last, at) in parts {
        let part = &weights[first as usize..last as usize];
        for (number, piece) in part.chunks(len).enumerate() {
            let (queue, pinned) = &mut lanes[turn];
            queue.drain()?;
            pinned.write(0, piece);
            // SAFETY: the pinned piece is rewritten only after its queue is drained, and dropped after its queue, which
            // drains itself; the device range lies within the block the parts were laid out in.
            unsafe { queue.upload(base + at + (number * len) as u64, pinned.at(0), piece.len())? };
            turn = 1 - turn;
        }
    }
    lanes.iter_mut().try_for_each(|(queue, _)| queue.drain())
}

/// The code of a GPU is text that ends with a zero.
pub(crate) fn check_text(plan: &Plan, code: &[u8]) -> Result<()> {
    if let Some(kernel) = plan.kernels.iter().find(|kernel| kernel.block.is_none()) {
        return bad(format!("kernel `{}` has no block", kernel.name));
    }
    if plan.kernels.is_empty() {
        return Ok(());
    }
    match code.split_last() {
        Some((0, text)) if !text.contains(&0) && std::str::from_utf8(text).is_ok() => Ok(()),
        _ => bad("the code of a GPU is not text that ends with a zero"),
    }
}

/// Options that collect the log of the driver's compiler.
struct Log {
    errors: Vec<u8>,
    keys: [i32; 2],
    values: [*mut c_void; 2],
}

impl Log {
    fn new() -> Log {
        let mut errors = vec![0; LOG];
        let size = std::ptr::without_provenance_mut(LOG);
        let values = [errors.as_mut_ptr().cast(), size];
        Log { errors, keys: [jit_option::ERROR_LOG_BUFFER, jit_option::ERROR_LOG_BUFFER_SIZE_BYTES], values }
    }

    /// What was logged.
    fn text(&self) -> String {
        let len = self.errors.iter().position(|&byte| byte == 0).unwrap_or(LOG);
        let text = String::from_utf8_lossy(&self.errors[..len]);
        let text = text.trim();
        if text.is_empty() { "it gives no reason".into() } else { text.into() }
    }
}

/// Loads PTX text: from the cache, or compiled, or, where the linker does not work, by the driver's own loader.
fn load_module(gpu: &Gpu, ptx: &[u8]) -> Result<Module> {
    let key = Key { ptx, device: &gpu.info.name, capability: gpu.info.capability, driver: gpu.info.driver };
    if let Some(cubin) = gpu.cache.get(&key) {
        match load_image(gpu, &cubin) {
            Ok(module) => return Ok(module),
            Err(error @ Error::DeviceFault { .. }) => return Err(error),
            Err(_) => gpu.cache.drop_entry(&key),
        }
    }
    match link(gpu, ptx) {
        Ok(cubin) => {
            let module = load_image(gpu, &cubin)?;
            gpu.cache.put(&key, &cubin);
            Ok(module)
        }
        Err(error @ (Error::DeviceFault { .. } | Error::OutOfMemory(_))) => Err(error),
        // The text may be at fault or the linker: the loader decides, and has the better log.
        Err(_) => load_image(gpu, ptx),
    }
}

/// Loads a cubin, or PTX text that ends with a zero.
fn load_image(gpu: &Gpu, image: &[u8]) -> Result<Module> {
    let mut log = Log::new();
    let mut module = Module::default();
    // SAFETY: the image is text that ends with a zero, or what the driver's compiler made (the cache is the user's own);
    // the log's buffer has the size given and outlives the call.
    let status = unsafe {
        gpu.api.0.module_load_data_ex(
            &mut module,
            image.as_ptr().cast(),
            2,
            log.keys.as_mut_ptr(),
            log.values.as_mut_ptr(),
        )
    };
    code_status(gpu, "cuModuleLoadDataEx", status, &log)?;
    Ok(module)
}

/// Compiles PTX text with the driver's linker.
fn link(gpu: &Gpu, ptx: &[u8]) -> Result<Vec<u8>> {
    let mut log = Log::new();
    let mut state = LinkState::default();
    // SAFETY: the log's buffer has the size given and outlives the link state, as the driver asks.
    let status = unsafe { gpu.api.0.link_create(2, log.keys.as_mut_ptr(), log.values.as_mut_ptr(), &mut state) };
    gpu.check("cuLinkCreate", status)?;
    let result = complete(gpu, state, ptx, &log);
    // SAFETY: the state was created above and is destroyed once; the cubin was copied.
    unsafe { gpu.api.0.link_destroy(state) };
    result
}

fn complete(gpu: &Gpu, state: LinkState, ptx: &[u8], log: &Log) -> Result<Vec<u8>> {
    let data = ptx.as_ptr().cast_mut().cast();
    let none = std::ptr::null_mut();
    // SAFETY: the text ends with a zero within its length, and the driver only reads it.
    let status = unsafe {
        let (keys, values) = (std::ptr::null_mut(), none);
        gpu.api.0.link_add_data(state, JIT_INPUT_PTX, data, ptx.len(), c"model".as_ptr(), 0, keys, values)
    };
    code_status(gpu, "cuLinkAddData", status, log)?;
    let (mut cubin, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: out-parameters of their types.
    let status = unsafe { gpu.api.0.link_complete(state, &mut cubin, &mut len) };
    code_status(gpu, "cuLinkComplete", status, log)?;
    // SAFETY: the driver's memory, which lives as long as the link state.
    Ok(unsafe { std::slice::from_raw_parts(cubin.cast::<u8>(), len) }.to_vec())
}

/// The outcome of a call of the driver's compiler.
fn code_status(gpu: &Gpu, call: &'static str, status: Status, log: &Log) -> Result<()> {
    match status {
        Status::OUT_OF_MEMORY => gpu.check_allocation(call, status, 0),
        Status::SUCCESS => Ok(()),
        status if status.is_sticky() => gpu.check(call, status),
        status => Err(Error::DeviceCode { error: describe(&gpu.api, status), log: log.text() }),
    }
}

/// Finds the function of each kernel and makes sure that the device can run it.
fn functions(gpu: &Gpu, module: Module, kernels: &[Kernel]) -> Result<Vec<Function>> {
    let mut known: HashMap<&str, (Function, u32)> = HashMap::new();
    let mut functions = Vec::with_capacity(kernels.len());
    for kernel in kernels {
        let (function, shared) = match known.get(kernel.name.as_str()) {
            Some(&found) => found,
            None => (find_function(gpu, module, kernel)?, 0),
        };
        let needed = kernel.block.map_or(0, |block| block.shared);
        // Kernels of one name share a function, which must allow the most that any of them needs.
        if !known.contains_key(kernel.name.as_str()) || needed > shared {
            allow(gpu, function, kernel)?;
        }
        known.insert(&kernel.name, (function, needed.max(shared)));
        functions.push(function);
    }
    Ok(functions)
}

fn find_function(gpu: &Gpu, module: Module, kernel: &Kernel) -> Result<Function> {
    let Ok(name) = CString::new(kernel.name.as_str()) else {
        return bad(format!("kernel `{}` cannot be found by its name", kernel.name.escape_debug()));
    };
    let mut function = Function::default();
    let name: *const c_char = name.as_ptr();
    // SAFETY: an out-parameter of its type; the name ends with a zero and outlives the call.
    match unsafe { gpu.api.0.module_get_function(&mut function, module, name) } {
        Status::NOT_FOUND => bad(format!("the code has no kernel `{}`", kernel.name)),
        status => gpu.check("cuModuleGetFunction", status).map(|()| function),
    }
}

/// Checks what a kernel needs against the device, and asks for shared memory beyond the usual.
fn allow(gpu: &Gpu, function: Function, kernel: &Kernel) -> Result<()> {
    let Some(block) = kernel.block else { return Ok(()) };
    let attribute = |attribute: i32| {
        let mut value = 0;
        // SAFETY: an out-parameter of its type, and a function of a loaded module.
        let status = unsafe { gpu.api.0.func_get_attribute(&mut value, attribute, function) };
        gpu.check("cuFuncGetAttribute", status).map(|()| u32::try_from(value).unwrap_or(0))
    };
    let limit = |what: &'static str, needed: u32, available: u32| {
        let (needed, available) = (u64::from(needed), u64::from(available));
        if needed <= available {
            return Ok(());
        }
        Err(Error::DeviceLimit { kernel: kernel.name.clone(), what, needed, available })
    };
    limit("threads of a block", block.threads, attribute(function_attribute::MAX_THREADS_PER_BLOCK)?)?;
    let fixed = attribute(function_attribute::SHARED_SIZE_BYTES)?;
    limit("bytes of shared memory", fixed.saturating_add(block.shared), gpu.info.shared_bytes)?;
    if block.shared > 0 && fixed.saturating_add(block.shared) > PLAIN_SHARED {
        let attribute = function_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function of a loaded module.
        let status = unsafe { gpu.api.0.func_set_attribute(function, attribute, block.shared as i32) };
        gpu.check("cuFuncSetAttribute", status)?;
    }
    Ok(())
}
