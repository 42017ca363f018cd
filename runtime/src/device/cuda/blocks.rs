//! Memory of the device, and host memory that it reaches by itself.

use std::ffi::c_void;
use std::sync::Arc;

use super::api::DevicePtr;
use super::gpu::Gpu;
use crate::device::memory::RawBytes;
use crate::error::Result;

/// Bytes on the device, with no particular content; empty blocks own nothing.
pub(super) struct DeviceBlock {
    gpu: Arc<Gpu>,
    start: DevicePtr,
    len: usize,
}

impl DeviceBlock {
    /// A block that owns nothing.
    pub(super) fn empty(gpu: &Arc<Gpu>) -> DeviceBlock {
        DeviceBlock { gpu: Arc::clone(gpu), start: 0, len: 0 }
    }

    /// `len` bytes, aligned to 256 at least. The context must be current.
    pub(super) fn new(gpu: &Arc<Gpu>, len: usize) -> Result<DeviceBlock> {
        let mut block = DeviceBlock::empty(gpu);
        if len > 0 {
            // SAFETY: an out-parameter of its type; freed when the block is dropped.
            let status = unsafe { gpu.api.0.mem_alloc(&mut block.start, len) };
            gpu.check_allocation("cuMemAlloc", status, len)?;
            block.len = len;
        }
        Ok(block)
    }

    /// Address of the first byte.
    pub(super) fn start(&self) -> DevicePtr {
        self.start
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for DeviceBlock {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the address came from the driver and is freed once; owners wait for the work that uses it before.
            self.gpu.give_back(|api| unsafe { api.0.mem_free(self.start) });
        }
    }
}

/// Page-locked bytes of the host: the device copies from and to them without the driver's help.
///
/// Invariant: the device touches the bytes only between the queueing of a copy and the end of that work; owners wait for
/// it before they read, write or drop the block.
pub(super) struct PinnedBlock {
    gpu: Arc<Gpu>,
    start: *mut u8,
    len: usize,
}

// SAFETY: the block owns its bytes like a `Vec<u8>`; shared access is read-only.
unsafe impl Send for PinnedBlock {}
// SAFETY: as above.
unsafe impl Sync for PinnedBlock {}

impl PinnedBlock {
    /// A block that owns nothing.
    pub(super) fn empty(gpu: &Arc<Gpu>) -> PinnedBlock {
        PinnedBlock { gpu: Arc::clone(gpu), start: std::ptr::without_provenance_mut(256), len: 0 }
    }

    /// `len` zeroed bytes. The context must be current.
    pub(super) fn new(gpu: &Arc<Gpu>, len: usize) -> Result<PinnedBlock> {
        let mut block = PinnedBlock::empty(gpu);
        if len > 0 {
            let mut start: *mut c_void = std::ptr::null_mut();
            // SAFETY: an out-parameter of its type; freed when the block is dropped.
            let status = unsafe { gpu.api.0.mem_host_alloc(&mut start, len, 0) };
            gpu.check_allocation("cuMemHostAlloc", status, len)?;
            // SAFETY: the driver gave `len` bytes that nobody else uses yet.
            unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, len) };
            block.start = start.cast();
            block.len = len;
        }
        Ok(block)
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Address of byte `offset`, for copies by the device; panics outside the block.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "callers know the layout of the block");
        self.start.wrapping_add(offset)
    }

    /// A view of some bytes; panics outside the block.
    pub(super) fn view(&self, offset: usize, len: usize) -> RawBytes<'_> {
        assert!(offset <= self.len && len <= self.len - offset, "callers know the layout of the block");
        // SAFETY: within the block, which lives as long as the view; by the invariant the device is not at it now.
        unsafe { RawBytes::new(self.start.wrapping_add(offset), len) }
    }

    /// Writes `bytes` at `offset`; panics when they do not fit.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset, "callers know the layout of the block");
        // SAFETY: within the block, by the assertion; the slice cannot overlap what is borrowed exclusively here.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.wrapping_add(offset), bytes.len()) };
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the address came from the driver and is freed once; by the invariant no copy is under way.
            self.gpu.give_back(|api| unsafe { api.0.mem_free_host(self.start.cast()) });
        }
    }
}
