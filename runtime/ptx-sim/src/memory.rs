//! Global memory of the simulated device.
//!
//! Addresses are never used twice and red zones lie between allocations, so that a stray access meets nothing.
//! Words are atomics accessed with relaxed order: blocks on several host threads may race as they would on the device.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::types::GLOBAL_BASE;

/// Fresh memory reads as this in every format a NaN or -1.
const POISON: u32 = u32::MAX;
/// Bytes between allocations, at least.
const RED_ZONE: u64 = 4096;

/// Why the host could not access device memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// No live allocation holds all of the bytes.
    #[error("{bytes} bytes at {address:#x} are not inside of a live allocation")]
    OutOfBounds {
        /// First byte of the access.
        address: u64,
        /// Its length.
        bytes: usize,
    },
    /// `free` of an address that `alloc` did not return, or of one already freed.
    #[error("{0:#x} is not the start of a live allocation")]
    NotAllocated(u64),
}

/// One live allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub base: u64,
    pub bytes: u64,
    words: Box<[AtomicU32]>,
    /// One bit per byte, set once the byte is written; empty if that is not tracked.
    defined: Box<[AtomicU32]>,
}

/// Device global memory.
#[derive(Debug)]
pub struct Memory {
    allocations: Vec<Allocation>,
    next: u64,
    used: u64,
    limit: u64,
    tracked: bool,
    /// Held by atomics that touch more than one word.
    wide: Mutex<()>,
}

fn words(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

impl Memory {
    /// An empty device of `limit` bytes that does not track which bytes are defined.
    pub fn new(limit: u64) -> Memory {
        Memory { allocations: Vec::new(), next: GLOBAL_BASE, used: 0, limit, tracked: false, wide: Mutex::new(()) }
    }

    /// An empty device that remembers which bytes were written, so that reads of others can be found
    /// ([`crate::Options::uninitialized_global`]).
    pub fn tracked(limit: u64) -> Memory {
        Memory { tracked: true, ..Memory::new(limit) }
    }

    /// Whether it remembers which bytes were written.
    pub fn is_tracked(&self) -> bool {
        self.tracked
    }

    /// Bytes in live allocations.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that fit in all.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Allocates `bytes` undefined bytes at a multiple of 256; `None` if the limit does not allow it.
    pub fn alloc(&mut self, bytes: usize) -> Option<u64> {
        let size = bytes as u64;
        if self.used.checked_add(size)? > self.limit {
            return None;
        }
        let base = self.next;
        self.next = (base + size + RED_ZONE).next_multiple_of(256);
        self.used += size;
        let zeros = if self.tracked { bytes.div_ceil(32) } else { 0 };
        self.allocations.push(Allocation {
            base,
            bytes: size,
            words: std::iter::repeat_with(|| AtomicU32::new(POISON)).take(words(bytes)).collect(),
            defined: std::iter::repeat_with(|| AtomicU32::new(0)).take(zeros).collect(),
        });
        Some(base)
    }

    /// Frees what [`Memory::alloc`] returned.
    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        let found = self.allocations.binary_search_by_key(&address, |a| a.base);
        let gone = self.allocations.remove(found.map_err(|_| MemoryError::NotAllocated(address))?);
        self.used -= gone.bytes;
        Ok(())
    }

    /// The index of the allocation that holds all of these bytes.
    pub(crate) fn find(&self, address: u64, bytes: u64) -> Option<usize> {
        let index = self.allocations.partition_point(|a| a.base <= address).checked_sub(1)?;
        self.allocations[index].holds(address, bytes).then_some(index)
    }

    /// The allocation at `index`, if there is one.
    #[inline]
    pub(crate) fn allocation(&self, index: usize) -> Option<&Allocation> {
        self.allocations.get(index)
    }

    fn range(&self, address: u64, bytes: usize) -> Result<&Allocation, MemoryError> {
        let found = self.find(address, bytes as u64).ok_or(MemoryError::OutOfBounds { address, bytes })?;
        Ok(&self.allocations[found])
    }

    /// The start and size of the live allocation around `address`.
    pub fn allocation_of(&self, address: u64) -> Option<(u64, u64)> {
        self.find(address, 1).map(|i| (self.allocations[i].base, self.allocations[i].bytes))
    }

    /// The allocation whose start is the last one before `address`, or the first one of all.
    pub(crate) fn nearest(&self, address: u64) -> Option<(u64, u64)> {
        let index = self.allocations.partition_point(|a| a.base <= address).saturating_sub(1);
        self.allocations.get(index).map(|a| (a.base, a.bytes))
    }

    /// Copies bytes from the device.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<(), MemoryError> {
        let allocation = self.range(address, to.len())?;
        let start = (address - allocation.base) as usize;
        let (head, body) = to.split_at_mut((start.next_multiple_of(4) - start).min(to.len()));
        let body_start = start + head.len();
        allocation.bytes_at(start, head);
        let words = &allocation.words[body_start / 4..];
        let mut chunks = body.chunks_exact_mut(4);
        let count = chunks.len();
        for (chunk, word) in chunks.by_ref().zip(words) {
            chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        allocation.bytes_at(body_start + 4 * count, chunks.into_remainder());
        Ok(())
    }

    /// Copies bytes to the device.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let allocation = self.range(address, from.len())?;
        let start = (address - allocation.base) as usize;
        let (head, body) = from.split_at((start.next_multiple_of(4) - start).min(from.len()));
        let body_start = start + head.len();
        allocation.set_bytes(start, head);
        let (chunks, tail) = body.as_chunks::<4>();
        for (chunk, word) in chunks.iter().zip(&allocation.words[body_start / 4..]) {
            word.store(u32::from_le_bytes(*chunk), Relaxed);
        }
        allocation.set_bytes(body_start + 4 * chunks.len(), tail);
        allocation.define(start, from.len());
        Ok(())
    }

    /// Sets `bytes` bytes to `value`.
    pub fn fill(&self, address: u64, value: u8, bytes: usize) -> Result<(), MemoryError> {
        self.range(address, bytes)?;
        let block = [value; 4096];
        for start in (0..bytes).step_by(block.len()) {
            self.write(address + start as u64, &block[..block.len().min(bytes - start)])?;
        }
        Ok(())
    }

    /// Copies bytes within the device; the ranges may overlap.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), MemoryError> {
        let mut buffer = vec![0; bytes];
        self.range(to, bytes)?;
        self.read(from, &mut buffer)?;
        self.write(to, &buffer)
    }

    /// Makes the bytes undefined again, as after `alloc`.
    pub fn forget(&self, address: u64, bytes: usize) -> Result<(), MemoryError> {
        self.fill(address, POISON as u8, bytes)?;
        let allocation = self.range(address, bytes)?;
        let start = (address - allocation.base) as usize;
        if self.tracked {
            for byte in start..start + bytes {
                allocation.defined[byte / 32].fetch_and(!(1 << (byte % 32)), Relaxed);
            }
        }
        Ok(())
    }

    /// Runs `f` while no other wide atomic runs.
    pub(crate) fn exclusive<T>(&self, f: impl FnOnce() -> T) -> T {
        let _held = self.wide.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        f()
    }
}

impl Allocation {
    /// Whether it holds `bytes` bytes at `address`.
    #[inline]
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset < self.bytes && self.bytes - offset >= bytes || bytes == 0 && offset == self.bytes
    }

    /// Word `index`.
    #[inline]
    pub fn word(&self, index: usize) -> u32 {
        self.words[index].load(Relaxed)
    }

    /// `N` words from `index` on.
    #[inline]
    pub fn words<const N: usize>(&self, index: usize) -> [u32; N] {
        let words: &[AtomicU32; N] = self.words[index..index + N].try_into().expect("the slice has N words");
        std::array::from_fn(|i| words[i].load(Relaxed))
    }

    /// Sets `N` words from `index` on.
    #[inline]
    pub fn set_words<const N: usize>(&self, index: usize, values: [u32; N]) {
        let words: &[AtomicU32; N] = self.words[index..index + N].try_into().expect("the slice has N words");
        (0..N).for_each(|i| words[i].store(values[i], Relaxed));
    }

    /// The atomic word `index`.
    pub fn atomic(&self, index: usize) -> &AtomicU32 {
        &self.words[index]
    }

    /// Up to 16 bytes, of a power of two and naturally aligned.
    #[inline]
    pub fn load(&self, offset: usize, bytes: usize) -> u128 {
        match bytes {
            1 | 2 => u128::from(self.word(offset / 4) >> (8 * (offset % 4)) & ((1 << (8 * bytes)) - 1)),
            4 => u128::from(self.word(offset / 4)),
            8 => join(self.words::<2>(offset / 4)),
            _ => join(self.words::<4>(offset / 4)),
        }
    }

    /// Sets up to 16 bytes, of a power of two and naturally aligned.
    #[inline]
    pub fn store(&self, offset: usize, bytes: usize, value: u128) {
        match bytes {
            1 | 2 => {
                let shift = 8 * (offset % 4);
                let mask = ((1u32 << (8 * bytes)) - 1) << shift;
                let part = (value as u32) << shift & mask;
                let _ = self.words[offset / 4].fetch_update(Relaxed, Relaxed, |old| Some(old & !mask | part));
            }
            4 => self.words[offset / 4].store(value as u32, Relaxed),
            8 => self.set_words::<2>(offset / 4, std::array::from_fn(|i| (value >> (32 * i)) as u32)),
            _ => self.set_words::<4>(offset / 4, std::array::from_fn(|i| (value >> (32 * i)) as u32)),
        }
    }

    fn bytes_at(&self, start: usize, to: &mut [u8]) {
        for (offset, byte) in to.iter_mut().enumerate() {
            *byte = self.load(start + offset, 1) as u8;
        }
    }

    fn set_bytes(&self, start: usize, from: &[u8]) {
        for (offset, byte) in from.iter().enumerate() {
            self.store(start + offset, 1, u128::from(*byte));
        }
    }

    /// Notes that these bytes are written.
    #[inline]
    pub fn define(&self, start: usize, bytes: usize) {
        if self.defined.is_empty() || bytes == 0 {
            return;
        }
        let (mut at, end) = (start, start + bytes);
        while at < end {
            let stop = (at / 32 * 32 + 32).min(end);
            let mask = (u32::MAX >> (32 - (stop - at))) << (at % 32);
            let word = &self.defined[at / 32];
            if word.load(Relaxed) & mask != mask {
                word.fetch_or(mask, Relaxed);
            }
            at = stop;
        }
    }

    /// Whether all of these bytes were written, or nobody tracks that.
    #[inline]
    pub fn is_defined(&self, start: usize, bytes: usize) -> bool {
        self.defined.is_empty()
            || (start..start + bytes).all(|b| self.defined[b / 32].load(Relaxed) >> (b % 32) & 1 == 1)
    }
}

fn join<const N: usize>(words: [u32; N]) -> u128 {
    words.iter().rev().fold(0, |value, word| value << 32 | u128::from(*word))
}
