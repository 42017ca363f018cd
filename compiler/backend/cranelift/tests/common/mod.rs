//! Runs images in this process: maps them executable and calls their entry points.
#![allow(dead_code)]

use memmap2::{Mmap, MmapMut};
use xlac_cranelift::Cranelift;
use xlac_ir::backend::{Backend, Image, Target};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::Kernel;

type Entry = unsafe extern "C" fn(*const *mut u8, *const i64, *mut u8, i64, i64) -> i64;

/// This machine, as far as the tests may use it.
pub fn host() -> Target {
    let mut features = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt)*) => { $(if std::is_x86_feature_detected!($name) { features.push($name.to_string()); })* };
        }
        detect!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "avx512f" "avx512vl" "avx512dq");
    }
    let machine = Target {
        name: "cpu".to_string(),
        arch: std::env::consts::ARCH.to_string(),
        cpu: "generic".to_string(),
        features,
        vector_bytes: 64,
        vector_registers: 32,
        masked_memory: true,
        broadcast_fma: true,
        cache_bytes: [32 << 10, 1 << 20, 4 << 20],
        gpu: None,
    };
    Cranelift.constrain(&machine)
}

/// The same machine with nothing beyond its base instruction set.
pub fn bare() -> Target { Target { features: Vec::new(), ..host() } }

/// An image mapped executable.
pub struct Code {
    map: Mmap,
    entries: Vec<u64>,
}

impl Code {
    /// Maps an image.
    pub fn map(image: &Image) -> Code {
        let mut map = MmapMut::map_anon(image.bytes.len().max(1)).expect("memory can be mapped");
        map[..image.bytes.len()].copy_from_slice(&image.bytes);
        Code { map: map.make_exec().expect("memory can be made executable"), entries: image.entries.clone() }
    }

    /// Compiles kernels for the host.
    pub fn new(kernels: &[Kernel]) -> Code { Code::for_target(kernels, &host()) }

    /// Compiles kernels for a target of this architecture.
    pub fn for_target(kernels: &[Kernel], target: &Target) -> Code {
        match Cranelift.compile(kernels, target, 1) {
            Ok(image) => Code::map(&image),
            Err(e) => panic!("{e}"),
        }
    }

    /// Runs tiles of kernel `which`.
    pub fn run(&self, which: usize, buffers: &[*mut u8], dims: &[i64], tiles: std::ops::Range<i64>) -> i64 {
        let mut scratch = vec![0u8; (1 << 16) + 64];
        let at = scratch.as_ptr().align_offset(64);
        self.run_with(which, buffers, dims, &mut scratch[at..], tiles)
    }

    /// Runs tiles of kernel `which` with this scratch memory.
    pub fn run_with(
        &self,
        which: usize,
        buffers: &[*mut u8],
        dims: &[i64],
        scratch: &mut [u8],
        tiles: std::ops::Range<i64>,
    ) -> i64 {
        let entry = self.map.as_ptr().wrapping_add(self.entries[which] as usize);
        // SAFETY: the entry points of an image have this signature (`xlac_ir::backend::Backend`).
        let entry: Entry = unsafe { std::mem::transmute(entry) };
        // SAFETY: the kernels of these tests stay within the buffers they are given, which the callers keep alive.
        unsafe { entry(buffers.as_ptr(), dims.as_ptr(), scratch.as_mut_ptr(), tiles.start, tiles.end) }
    }

    /// Runs tile 0 of kernel `which`.
    pub fn tile(&self, which: usize, buffers: &mut [&mut [u8]], dims: &[i64]) -> i64 {
        let pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut_ptr()).collect();
        self.run(which, &pointers, dims, 0..1)
    }
}

/// A buffer that ends where memory ends: touching the byte after it is a fault.
pub struct Guarded {
    map: MmapMut,
    len: usize,
}

impl Guarded {
    /// `len` zeroed bytes.
    pub fn new(len: usize) -> Guarded {
        let size = len.next_multiple_of(4096);
        let mut map = MmapMut::map_anon(size + 4096).expect("memory can be mapped");
        // SAFETY: the page belongs to this mapping and nothing refers to it.
        let rc = unsafe { libc::mprotect(map.as_mut_ptr().add(size).cast(), 4096, libc::PROT_NONE) };
        assert_eq!(rc, 0, "the guard page can be protected");
        Guarded { map, len }
    }

    fn start(&self) -> usize { self.len.next_multiple_of(4096) - self.len }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        let (at, len) = (self.start(), self.len);
        &mut self.map[at..at + len]
    }
}

/// A small generator of repeatable bits.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Types kernels know.
pub fn dtypes() -> impl Iterator<Item = DType> { DType::ALL.iter().copied().filter(|t| t.in_kernels()) }
