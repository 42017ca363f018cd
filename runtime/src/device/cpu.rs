//! Code on the CPU: maps an image of machine code and hands out its entry points.

use crate::error::{Error, Result};

/// A compiled kernel: runs tiles `begin..end` and returns 0, or a check that failed: 1 for an index out of range,
/// 2 and above for others (only the low 32 bits count).
///
/// `buffers` are the launch's buffer arguments, `dims` its i64 arguments, `scratch` is memory of this worker alone,
/// aligned to 64 bytes. Buffers are aligned to 64 bytes, except the caller's inputs and outputs and those a launch
/// points into at an offset, which are aligned for their element.
pub type KernelFn =
    unsafe extern "C" fn(buffers: *const *mut u8, dims: *const i64, scratch: *mut u8, begin: i64, end: i64) -> i64;

/// Entry points, and the mapping they live in.
pub(crate) struct CodeImage {
    entries: Vec<KernelFn>,
    /// Keeps the code mapped; none for functions of this program.
    _mapping: Option<memmap2::Mmap>,
}

impl CodeImage {
    /// Maps `code` as executable memory; every entry must lie within it.
    pub(crate) fn map(code: &[u8], entries: impl Iterator<Item = u64>) -> Result<CodeImage> {
        if code.is_empty() {
            return Ok(CodeImage { entries: Vec::new(), _mapping: None });
        }
        let mut writable = memmap2::MmapMut::map_anon(code.len()).map_err(Error::CodeMapping)?;
        writable.copy_from_slice(code);
        let mapping = writable.make_exec().map_err(Error::CodeMapping)?;
        synchronize(&mapping);
        let entry = |offset: u64| {
            let address = &raw const mapping[offset as usize];
            // SAFETY: the address lies in executable memory that lives as long as this image. That the bytes there are
            // a kernel of this signature is what an artifact promises; `Model::load` documents that only trusted
            // artifacts may be loaded.
            unsafe { std::mem::transmute::<*const u8, KernelFn>(address) }
        };
        Ok(CodeImage { entries: entries.map(entry).collect(), _mapping: Some(mapping) })
    }

    /// Functions of this program instead of mapped code.
    pub(crate) fn of_functions(entries: Vec<KernelFn>) -> CodeImage {
        CodeImage { entries, _mapping: None }
    }

    /// Entry point of each kernel.
    pub(crate) fn entries(&self) -> &[KernelFn] {
        &self.entries
    }
}

/// Makes freshly written code visible to instruction fetch.
#[cfg(target_arch = "aarch64")]
fn synchronize(code: &[u8]) {
    // The smallest line size the architecture allows serves every implementation.
    const LINE: usize = 16;
    let lines = || (code.as_ptr().addr()..code.as_ptr().addr() + code.len()).step_by(LINE);
    // SAFETY: cache maintenance by address on memory that is mapped; it changes no content.
    unsafe {
        lines().for_each(|line| std::arch::asm!("dc cvau, {}", in(reg) line, options(nostack)));
        std::arch::asm!("dsb ish", options(nostack));
        lines().for_each(|line| std::arch::asm!("ic ivau, {}", in(reg) line, options(nostack)));
        std::arch::asm!("dsb ish", "isb", options(nostack));
    }
}

/// Instruction fetch is coherent with stores on the other architectures served.
#[cfg(not(target_arch = "aarch64"))]
fn synchronize(_code: &[u8]) {}
