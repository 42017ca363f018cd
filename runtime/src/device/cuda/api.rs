//! The functions of `libcuda` that are used, said once: [`Driver`] is their shape, [`Library`] the real ones, and
//! `xlac-ptx-sim` has a stand-in of the same shape over its PTX simulator.
//!
//! Names, argument order and layouts are those of `cuda.h`; symbols carry the version suffix that the signature needs,
//! because the plain names of some stand for a 32-bit interface of long ago.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

/// A driver to run on: the real one, or a stand-in.
#[derive(Clone)]
pub struct Api(pub(super) Arc<dyn Driver>);

impl Api {
    /// Wraps a driver.
    pub fn new(driver: Arc<dyn Driver>) -> Api {
        Api(driver)
    }
}

/// `CUresult`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub c_uint);

macro_rules! statuses {
    ($($name:ident = $number:literal;)*) => {
        #[allow(missing_docs)]
        impl Status {
            $(pub const $name: Status = Status($number);)*

            /// The name in `cuda.h` without its prefix; none for numbers this runtime does not know.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Status::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0;
    INVALID_VALUE = 1;
    OUT_OF_MEMORY = 2;
    NOT_INITIALIZED = 3;
    DEINITIALIZED = 4;
    STUB_LIBRARY = 34;
    DEVICE_UNAVAILABLE = 46;
    NO_DEVICE = 100;
    INVALID_DEVICE = 101;
    INVALID_IMAGE = 200;
    INVALID_CONTEXT = 201;
    NO_BINARY_FOR_GPU = 209;
    ECC_UNCORRECTABLE = 214;
    INVALID_PTX = 218;
    NVLINK_UNCORRECTABLE = 220;
    JIT_COMPILER_NOT_FOUND = 221;
    UNSUPPORTED_PTX_VERSION = 222;
    JIT_COMPILATION_DISABLED = 223;
    CONTAINED = 226;
    INVALID_SOURCE = 300;
    OPERATING_SYSTEM = 304;
    INVALID_HANDLE = 400;
    ILLEGAL_STATE = 401;
    NOT_FOUND = 500;
    NOT_READY = 600;
    ILLEGAL_ADDRESS = 700;
    LAUNCH_OUT_OF_RESOURCES = 701;
    LAUNCH_TIMEOUT = 702;
    CONTEXT_IS_DESTROYED = 709;
    ASSERT = 710;
    HARDWARE_STACK_ERROR = 714;
    ILLEGAL_INSTRUCTION = 715;
    MISALIGNED_ADDRESS = 716;
    INVALID_ADDRESS_SPACE = 717;
    INVALID_PC = 718;
    LAUNCH_FAILED = 719;
    NOT_PERMITTED = 800;
    NOT_SUPPORTED = 801;
    SYSTEM_DRIVER_MISMATCH = 803;
    UNKNOWN = 999;
}

impl Status {
    /// Whether the context is dead after this error: nothing done in it later can succeed.
    pub fn is_sticky(self) -> bool {
        matches!(
            self,
            Status::NOT_INITIALIZED
                | Status::DEINITIALIZED
                | Status::DEVICE_UNAVAILABLE
                | Status::INVALID_CONTEXT
                | Status::ECC_UNCORRECTABLE
                | Status::NVLINK_UNCORRECTABLE
                | Status::CONTAINED
                | Status::ILLEGAL_ADDRESS
                | Status::LAUNCH_TIMEOUT
                | Status::CONTEXT_IS_DESTROYED
                | Status::ASSERT
                | Status::HARDWARE_STACK_ERROR
                | Status::ILLEGAL_INSTRUCTION
                | Status::MISALIGNED_ADDRESS
                | Status::INVALID_ADDRESS_SPACE
                | Status::INVALID_PC
                | Status::LAUNCH_FAILED
                | Status::UNKNOWN
        )
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub usize);
    )*};
}

// Pointers that only the driver follows, so they are numbers here.
handles! {
    /// `CUcontext`.
    Context;
    /// `CUmodule`.
    Module;
    /// `CUfunction`.
    Function;
    /// `CUstream`; 0 is the default stream, which is not used.
    Stream;
    /// `CUevent`.
    Event;
    /// `CUgraph`.
    Graph;
    /// `CUgraphNode`.
    GraphNode;
    /// `CUgraphExec`.
    GraphExec;
    /// `CUlinkState`.
    LinkState;
}

/// `CUdeviceptr`.
pub type DevicePtr = u64;

/// `CUDA_KERNEL_NODE_PARAMS` (version 1).
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs)]
pub struct KernelNodeParams {
    pub func: Function,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub kernel_params: *mut *mut c_void,
    pub extra: *mut *mut c_void,
}

/// One side of a [`Memcpy3D`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct CopySide {
    pub x_bytes: usize,
    pub y: usize,
    pub z: usize,
    pub lod: usize,
    /// One of [`memory_type`].
    pub memory_type: c_uint,
    pub host: *mut c_void,
    pub device: DevicePtr,
    pub array: usize,
    pub reserved: usize,
    pub pitch: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D` (version 2).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Memcpy3D {
    pub from: CopySide,
    pub to: CopySide,
    pub width_bytes: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUmemorytype`.
#[allow(missing_docs)]
pub mod memory_type {
    pub const HOST: u32 = 1;
    pub const DEVICE: u32 = 2;
}

/// `CUdevice_attribute`.
#[allow(missing_docs)]
pub mod device_attribute {
    pub const MAX_THREADS_PER_BLOCK: i32 = 1;
    pub const MULTIPROCESSOR_COUNT: i32 = 16;
    pub const L2_CACHE_SIZE: i32 = 38;
    pub const COMPUTE_CAPABILITY_MAJOR: i32 = 75;
    pub const COMPUTE_CAPABILITY_MINOR: i32 = 76;
    pub const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: i32 = 97;
}

/// `CUfunction_attribute`.
#[allow(missing_docs)]
pub mod function_attribute {
    pub const MAX_THREADS_PER_BLOCK: i32 = 0;
    pub const SHARED_SIZE_BYTES: i32 = 1;
    pub const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
}

/// `CUjit_option`.
#[allow(missing_docs)]
pub mod jit_option {
    pub const INFO_LOG_BUFFER: i32 = 3;
    pub const INFO_LOG_BUFFER_SIZE_BYTES: i32 = 4;
    pub const ERROR_LOG_BUFFER: i32 = 5;
    pub const ERROR_LOG_BUFFER_SIZE_BYTES: i32 = 6;
}

/// `CU_JIT_INPUT_PTX`.
pub const JIT_INPUT_PTX: c_int = 1;
/// `CU_STREAM_NON_BLOCKING`: no implicit order with the default stream.
pub const STREAM_NON_BLOCKING: c_uint = 1;
/// Keys of the `extra` list that passes all parameters of a kernel in one piece.
pub const LAUNCH_PARAM_END: usize = 0;
/// See [`LAUNCH_PARAM_END`].
pub const LAUNCH_PARAM_BUFFER_POINTER: usize = 1;
/// See [`LAUNCH_PARAM_END`].
pub const LAUNCH_PARAM_BUFFER_SIZE: usize = 2;

macro_rules! driver {
    ($($method:ident = $symbol:literal ($($arg:ident: $ty:ty),* $(,)?);)*) => {
        /// The calls; each is the function of `libcuda` that it names, with its contract.
        #[allow(clippy::missing_safety_doc, clippy::too_many_arguments)]
        pub trait Driver: Send + Sync {$(
            #[doc = concat!("`", $symbol, "`")]
            unsafe fn $method(&self, $($arg: $ty),*) -> Status;
        )*}

        /// Symbols of all calls.
        pub const SYMBOLS: &[&str] = &[$($symbol),*];

        /// `libcuda`, resolved. It stays loaded until the process ends, as the driver expects.
        pub(super) struct Library {
            $($method: unsafe extern "C" fn($($ty),*) -> Status,)*
        }

        impl Library {
            /// Looks up every symbol; fails with the first that is not there.
            ///
            /// # Safety
            ///
            /// `find` returns null or the function of that name with the signature of `cuda.h`.
            pub(super) unsafe fn resolve(find: impl Fn(&CStr) -> *mut c_void) -> Result<Library, &'static str> {
                const { assert!(size_of::<*mut c_void>() == size_of::<unsafe extern "C" fn()>()) };
                $(
                    let address = find(const {
                        match CStr::from_bytes_with_nul(concat!($symbol, "\0").as_bytes()) {
                            Ok(name) => name,
                            Err(_) => panic!("symbols have no inner zero"),
                        }
                    });
                    if address.is_null() {
                        return Err($symbol);
                    }
                    // SAFETY: not null, and the caller promises the signature; both types have the size of a pointer.
                    let $method = unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($ty),*) -> Status>(address)
                    };
                )*
                Ok(Library { $($method),* })
            }
        }

        impl Driver for Library {$(
            unsafe fn $method(&self, $($arg: $ty),*) -> Status {
                // SAFETY: the caller keeps the contract of the function, which `resolve` was promised to be this one.
                unsafe { (self.$method)($($arg),*) }
            }
        )*}
    };
}

driver! {
    init = "cuInit" (flags: c_uint);
    driver_get_version = "cuDriverGetVersion" (version: *mut c_int);
    get_error_name = "cuGetErrorName" (status: Status, name: *mut *const c_char);
    get_error_string = "cuGetErrorString" (status: Status, text: *mut *const c_char);
    device_get_count = "cuDeviceGetCount" (count: *mut c_int);
    device_get = "cuDeviceGet" (device: *mut c_int, ordinal: c_int);
    device_get_name = "cuDeviceGetName" (name: *mut c_char, len: c_int, device: c_int);
    device_get_uuid = "cuDeviceGetUuid" (uuid: *mut [u8; 16], device: c_int);
    device_get_attribute = "cuDeviceGetAttribute" (value: *mut c_int, attribute: c_int, device: c_int);
    device_total_mem = "cuDeviceTotalMem_v2" (bytes: *mut usize, device: c_int);
    primary_ctx_retain = "cuDevicePrimaryCtxRetain" (context: *mut Context, device: c_int);
    primary_ctx_release = "cuDevicePrimaryCtxRelease_v2" (device: c_int);
    ctx_set_current = "cuCtxSetCurrent" (context: Context);
    mem_alloc = "cuMemAlloc_v2" (address: *mut DevicePtr, bytes: usize);
    mem_free = "cuMemFree_v2" (address: DevicePtr);
    mem_host_alloc = "cuMemHostAlloc" (address: *mut *mut c_void, bytes: usize, flags: c_uint);
    mem_free_host = "cuMemFreeHost" (address: *mut c_void);
    memcpy_htod_async = "cuMemcpyHtoDAsync_v2" (to: DevicePtr, from: *const c_void, bytes: usize, stream: Stream);
    memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2" (to: *mut c_void, from: DevicePtr, bytes: usize, stream: Stream);
    memcpy_dtod_async = "cuMemcpyDtoDAsync_v2" (to: DevicePtr, from: DevicePtr, bytes: usize, stream: Stream);
    memset_d32_async = "cuMemsetD32Async" (to: DevicePtr, value: c_uint, words: usize, stream: Stream);
    module_load_data_ex = "cuModuleLoadDataEx" (
        module: *mut Module, image: *const c_void, options: c_uint, keys: *mut c_int, values: *mut *mut c_void,
    );
    module_unload = "cuModuleUnload" (module: Module);
    module_get_function = "cuModuleGetFunction" (function: *mut Function, module: Module, name: *const c_char);
    func_get_attribute = "cuFuncGetAttribute" (value: *mut c_int, attribute: c_int, function: Function);
    func_set_attribute = "cuFuncSetAttribute" (function: Function, attribute: c_int, value: c_int);
    link_create = "cuLinkCreate_v2" (
        options: c_uint, keys: *mut c_int, values: *mut *mut c_void, state: *mut LinkState,
    );
    link_add_data = "cuLinkAddData_v2" (
        state: LinkState, kind: c_int, data: *mut c_void, bytes: usize, name: *const c_char, options: c_uint,
        keys: *mut c_int, values: *mut *mut c_void,
    );
    link_complete = "cuLinkComplete" (state: LinkState, cubin: *mut *mut c_void, bytes: *mut usize);
    link_destroy = "cuLinkDestroy" (state: LinkState);
    stream_create = "cuStreamCreate" (stream: *mut Stream, flags: c_uint);
    stream_synchronize = "cuStreamSynchronize" (stream: Stream);
    stream_destroy = "cuStreamDestroy_v2" (stream: Stream);
    event_create = "cuEventCreate" (event: *mut Event, flags: c_uint);
    event_record = "cuEventRecord" (event: Event, stream: Stream);
    event_elapsed_time = "cuEventElapsedTime" (milliseconds: *mut f32, start: Event, end: Event);
    event_destroy = "cuEventDestroy_v2" (event: Event);
    launch_kernel = "cuLaunchKernel" (
        function: Function, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared_bytes: c_uint, stream: Stream, params: *mut *mut c_void, extra: *mut *mut c_void,
    );
    graph_create = "cuGraphCreate" (graph: *mut Graph, flags: c_uint);
    graph_destroy = "cuGraphDestroy" (graph: Graph);
    graph_add_kernel_node = "cuGraphAddKernelNode" (
        node: *mut GraphNode, graph: Graph, dependencies: *const GraphNode, count: usize,
        params: *const KernelNodeParams,
    );
    graph_add_memcpy_node = "cuGraphAddMemcpyNode" (
        node: *mut GraphNode, graph: Graph, dependencies: *const GraphNode, count: usize, params: *const Memcpy3D,
        context: Context,
    );
    graph_instantiate = "cuGraphInstantiateWithFlags" (exec: *mut GraphExec, graph: Graph, flags: u64);
    graph_upload = "cuGraphUpload" (exec: GraphExec, stream: Stream);
    graph_launch = "cuGraphLaunch" (exec: GraphExec, stream: Stream);
    graph_exec_destroy = "cuGraphExecDestroy" (exec: GraphExec);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_header() {
        assert_eq!(size_of::<KernelNodeParams>(), 56);
        assert_eq!(std::mem::offset_of!(KernelNodeParams, kernel_params), 40);
        assert_eq!(size_of::<CopySide>(), 88);
        assert_eq!(std::mem::offset_of!(CopySide, host), 40);
        assert_eq!(size_of::<Memcpy3D>(), 200);
    }

    #[test]
    fn the_first_missing_symbol_is_named() {
        // SAFETY: nothing is ever found, so no signature is assumed.
        let missing = unsafe { Library::resolve(|_| std::ptr::null_mut()) };
        assert_eq!(missing.err(), Some("cuInit"));
        assert!(SYMBOLS.len() < 60);
    }
}
