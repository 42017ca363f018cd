//! Raw memory with a safe face: aligned blocks, typed views of bytes, and views that may alias.
//!
//! Invariant: a [`Block`] owns its bytes and hands out raw pointers; references into it exist only through `&self` and
//! `&mut self`, never while a kernel runs.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::tensor::Element;

/// Alignment of every block, tensor and section: one cache line, one AVX-512 register.
pub const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
/// Blocks from this size on ask for huge pages, of which the last is at least half used. A first run touches most of its
/// memory for the first time, and on virtual machines each fault is dear.
const HUGE: usize = HUGE_PAGE / 2;

/// Zeroed bytes aligned to [`ALIGN`]; empty blocks own nothing.
pub(crate) struct Block {
    /// Start of the allocation; dangling when `layout.size()` is zero.
    base: NonNull<u8>,
    layout: Layout,
    /// First aligned byte.
    start: *mut u8,
    len: usize,
}

// SAFETY: a block owns its memory exclusively, like `Vec<u8>`; shared access is read-only.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// A block that owns nothing.
    pub(crate) fn empty() -> Block {
        let start = std::ptr::without_provenance_mut::<u8>(ALIGN);
        Block { base: NonNull::dangling(), layout: Layout::new::<()>(), start, len: 0 }
    }

    /// `len` zeroed bytes. Fresh pages come zeroed from the system, so large blocks cost nothing until touched.
    pub(crate) fn zeroed(len: usize) -> Result<Block> {
        if len == 0 {
            return Ok(Block::empty());
        }
        let out_of_memory = || Error::OutOfMemory(len as u64);
        let align = if len >= HUGE { HUGE_PAGE } else { ALIGN };
        let huge = len.checked_add(HUGE_PAGE / 2).ok_or_else(out_of_memory)? / HUGE_PAGE * HUGE_PAGE;
        // Over-allocating and aligning by hand lets the allocator use `calloc`, which an aligned request would not.
        let padded = len.max(huge).checked_add(align).ok_or_else(out_of_memory)?;
        let layout = Layout::from_size_align(padded, 16).map_err(|_| out_of_memory())?;
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(out_of_memory)?;
        let offset = base.as_ptr().addr().next_multiple_of(align) - base.as_ptr().addr();
        let start = base.as_ptr().wrapping_add(offset);
        if huge > 0 {
            advise_huge(start, huge);
        }
        Ok(Block { base, layout, start, len })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Block> {
        let mut block = Block::zeroed(bytes.len())?;
        block.bytes_mut().copy_from_slice(bytes);
        Ok(block)
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address of the first byte; valid for reads and writes of `len` bytes as long as the block lives.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is the first of `len` initialized bytes of this block's allocation (or dangling and aligned
        // when `len` is zero), and `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// The bytes, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` keeps everyone else away.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: `base` came from `alloc_zeroed` with this very layout.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
        }
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(start: *mut u8, len: usize) {
    // SAFETY: the range lies within one allocation of ours and begins on a page; the advice changes no content, and a
    // refusal is harmless.
    unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_start: *mut u8, _len: usize) {}

/// A private read-only mapping of a file, or bytes in memory.
pub(crate) enum FileBytes {
    /// Mapped.
    Map(memmap2::Mmap),
    /// Read.
    Block(Block),
}

impl FileBytes {
    /// Maps a file.
    pub(crate) fn map(file: &std::fs::File) -> std::io::Result<FileBytes> {
        // SAFETY: a mapping is only as stable as its file. `Model::load` documents that the file must not be changed
        // while the model lives; everything derived from the plan is decoded into owned memory first.
        let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(file)? };
        // Has what is not in memory yet read in huge pages, which cost a fault each instead of 512. A refusal is harmless.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(FileBytes::Map(map))
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            FileBytes::Map(map) => map,
            FileBytes::Block(block) => block.bytes(),
        }
    }
}

/// Bytes seen as elements, or nothing when length or alignment do not fit or a boolean is neither 0 nor 1.
pub(crate) fn cast_slice<T: Element>(bytes: &[u8]) -> Option<&[T]> {
    if !holds::<T>(bytes) {
        return None;
    }
    // SAFETY: `holds` checked length, alignment and, for the one element type with invalid bit patterns, the values;
    // `Element` is sealed and implemented for plain scalars only.
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// As [`cast_slice`], to write.
pub(crate) fn cast_slice_mut<T: Element>(bytes: &mut [u8]) -> Option<&mut [T]> {
    if !holds::<T>(bytes) {
        return None;
    }
    // SAFETY: as in `cast_slice`; every value of `T` is a valid sequence of bytes.
    Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// Elements seen as bytes.
pub(crate) fn as_bytes<T: Element>(elements: &[T]) -> &[u8] {
    // SAFETY: `Element` is sealed and implemented for scalars without padding.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

/// Elements seen as bytes, to write. Not for booleans, which most bytes are not.
pub(crate) fn as_bytes_mut<T: Element>(elements: &mut [T]) -> &mut [u8] {
    assert!(T::DTYPE != crate::plan::DType::Bool, "callers refuse booleans");
    // SAFETY: as in `as_bytes`; every byte may be written, since booleans are excluded by the assertion.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), size_of_val(elements)) }
}

fn holds<T: Element>(bytes: &[u8]) -> bool {
    bytes.len().is_multiple_of(size_of::<T>())
        && bytes.as_ptr().addr().is_multiple_of(align_of::<T>())
        && (T::DTYPE != crate::plan::DType::Bool || bytes.iter().all(|&byte| byte <= 1))
}

/// A range of bytes that other views may overlap: read and written by value, never borrowed.
#[derive(Clone, Copy)]
pub(crate) struct RawBytes<'a> {
    start: *mut u8,
    len: usize,
    owner: PhantomData<&'a ()>,
}

impl<'a> RawBytes<'a> {
    /// A view of `len` bytes from `start`.
    ///
    /// # Safety
    ///
    /// The bytes must stay allocated, and be touched by no other thread, during `'a`; they must be writable if `store`
    /// or `copy_from` is called.
    pub(crate) unsafe fn new(start: *mut u8, len: usize) -> RawBytes<'a> {
        RawBytes { start, len, owner: PhantomData }
    }

    /// Number of bytes.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Reads `N` bytes at `index * N`; panics outside the view.
    #[inline]
    pub(crate) fn load<const N: usize>(self, index: usize) -> [u8; N] {
        assert!(index < self.len / N, "callers check their operands");
        // SAFETY: within the view, by the assertion; arrays of bytes need no alignment.
        unsafe { self.start.add(index * N).cast::<[u8; N]>().read() }
    }

    /// Writes `N` bytes at `index * N`; panics outside the view.
    #[inline]
    pub(crate) fn store<const N: usize>(self, index: usize, value: [u8; N]) {
        assert!(index < self.len / N, "callers check their operands");
        // SAFETY: within the view, by the assertion; arrays of bytes need no alignment.
        unsafe { self.start.add(index * N).cast::<[u8; N]>().write(value) }
    }

    /// Copies all of `from`, which may overlap, to byte `offset`; panics when it does not fit.
    pub(crate) fn copy_from(self, offset: usize, from: RawBytes<'_>) {
        assert!(offset <= self.len && from.len <= self.len - offset, "callers check their operands");
        // SAFETY: both ranges lie within their views, by the assertion and the invariant of views; `copy` allows overlap.
        unsafe { std::ptr::copy(from.start, self.start.add(offset), from.len) }
    }

    /// Copies the view into a slice of the same length that it does not overlap.
    pub(crate) fn copy_to(self, to: &mut [u8]) {
        assert_eq!(self.len, to.len(), "callers check their operands");
        // SAFETY: both have `len` bytes; `to` is borrowed exclusively, `copy` would allow overlap even so.
        unsafe { std::ptr::copy(self.start, to.as_mut_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_zeroed() {
        for len in [0, 1, 63, 64, 65, 4096, HUGE - 1, HUGE, HUGE + 5] {
            let block = Block::zeroed(len).unwrap();
            assert_eq!(block.len(), len);
            assert!(block.start().addr().is_multiple_of(ALIGN), "length {len}");
            assert!(block.bytes().iter().all(|&byte| byte == 0));
        }
        assert!(matches!(Block::zeroed(usize::MAX - 3), Err(Error::OutOfMemory(_))));
    }

    #[test]
    fn casts_check_length_alignment_and_booleans() {
        let block = Block::copy_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        assert!(cast_slice::<f32>(block.bytes()).is_none());
        assert_eq!(cast_slice::<u32>(&block.bytes()[..8]).unwrap().len(), 2);
        assert!(cast_slice::<u32>(&block.bytes()[1..9]).is_none());
        assert!(cast_slice::<bool>(block.bytes()).is_none());
        assert_eq!(cast_slice::<bool>(&block.bytes()[..2]).unwrap(), [false, true]);
        assert!(cast_slice::<f64>(&[]).is_none_or(|empty| empty.is_empty()));
    }
}
