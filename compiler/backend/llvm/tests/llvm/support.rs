//! What the tests and the example share: the machine they run on, and kernels mapped executable.

#![allow(dead_code)]

use memmap2::{Mmap, MmapMut};
use xlac_ir::backend::{Backend, Image, Target};
use xlac_ir::DType;
use xlac_ir::kernel::{Const, Kernel};
use xlac_llvm::Llvm;

/// A target with these features; x86-64 or aarch64 by `arch`.
pub fn target(arch: &str, cpu: &str, features: &[&str]) -> Target {
    let mut features: Vec<String> = features.iter().map(|f| f.to_string()).collect();
    features.sort();
    Llvm.constrain(&Target {
        name: format!("cpu:{cpu}"),
        arch: arch.into(),
        cpu: cpu.into(),
        features,
        vector_bytes: 0,
        vector_registers: 0,
        masked_memory: false,
        broadcast_fma: false,
        cache_bytes: [32 << 10, 1 << 20, 16 << 20],
        gpu: None,
    })
}

/// x86-64 with SSE4.2, FMA aside.
pub fn sse() -> Target {
    target("x86_64", "x86-64", &["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"])
}

/// x86-64-v3.
pub fn avx2() -> Target {
    let features =
        ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"];
    target("x86_64", "haswell", &features)
}

/// x86-64-v4.
pub fn avx512() -> Target {
    let mut t = avx2();
    let more = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];
    t.features.extend(more.iter().map(|f| f.to_string()));
    t.features.sort();
    t.cpu = "znver4".into();
    Llvm.constrain(&t)
}

/// x86-64-v4 with sums of 8-bit products.
pub fn avx512vnni() -> Target {
    let mut t = avx512();
    t.features.push("avx512vnni".into());
    t.features.sort();
    t
}

/// 64-bit Arm.
pub fn arm() -> Target { target("aarch64", "generic", &["neon"]) }

/// Those of the x86-64 targets that this machine can run, the widest first.
pub fn runnable() -> Vec<Target> {
    let mut targets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let v4 = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
        if v4 && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512cd") {
            targets.push(avx512());
            if is_x86_feature_detected!("avx512vnni") {
                targets.push(avx512vnni());
            }
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2") {
            targets.push(avx2());
        }
        if is_x86_feature_detected!("sse4.2") {
            targets.push(sse());
        }
    }
    #[cfg(target_arch = "aarch64")]
    targets.push(arm());
    if targets.is_empty() {
        eprintln!("skipped: no target of these tests runs on this machine");
    }
    targets
}

/// An image mapped executable.
pub struct Loaded {
    map: Mmap,
    entries: Vec<u64>,
}

/// Entry point of a kernel.
type Entry = extern "C" fn(*const *mut u8, *const i64, *mut u8, i64, i64) -> i64;

impl Loaded {
    /// Compiles and maps.
    pub fn new(kernels: &[Kernel], target: &Target) -> Loaded {
        let image = Llvm.compile(kernels, target, 1).unwrap_or_else(|e| panic!("{e}"));
        Loaded::map(&image)
    }

    /// Maps an image.
    pub fn map(image: &Image) -> Loaded {
        let mut map = MmapMut::map_anon(image.bytes.len()).expect("memory");
        map.copy_from_slice(&image.bytes);
        Loaded { map: map.make_exec().expect("executable memory"), entries: image.entries.clone() }
    }

    /// Runs tiles of one kernel with dirty scratch memory of its own.
    pub fn call(&self, kernel: usize, buffers: &[*mut u8], dims: &[i64], tiles: std::ops::Range<i64>) -> i64 {
        self.call_with(kernel, buffers, dims, &mut Scratch::dirty(), tiles)
    }

    /// Runs tiles of one kernel.
    ///
    /// Each pointer must be valid for what the kernel does with its buffer; the tests pass memory they own.
    pub fn call_with(
        &self,
        kernel: usize,
        buffers: &[*mut u8],
        dims: &[i64],
        scratch: &mut Scratch,
        tiles: std::ops::Range<i64>,
    ) -> i64 {
        let at = self.map[self.entries[kernel] as usize..].as_ptr();
        // SAFETY: `at` is the entry point of a kernel that LLVM compiled for this machine, in executable memory, with
        // the C signature that `Backend` promises.
        let entry: Entry = unsafe { std::mem::transmute::<*const u8, Entry>(at) };
        entry(buffers.as_ptr(), dims.as_ptr(), scratch.0.as_mut_ptr(), tiles.start, tiles.end)
    }
}

/// Scratch memory, aligned as kernels expect it.
#[repr(align(64))]
pub struct Scratch([u8; 1 << 14]);

impl Scratch {
    /// Filled with garbage.
    pub fn dirty() -> Box<Scratch> { Box::new(Scratch([0xa5; 1 << 14])) }
}

/// The element types kernels know.
pub fn dtypes() -> impl Iterator<Item = DType> { DType::ALL.iter().copied().filter(|t| t.in_kernels()) }

/// Values at the corners of a type, then some random ones.
pub fn values(dtype: DType, random: usize) -> Vec<Const> {
    let bits = dtype.bits();
    let mut out: Vec<Const> = match dtype {
        DType::Bool => vec![0, 1],
        DType::F32 => [0.0f32, 1.0, 0.5, 1.5, 2.5, 65504.0, 65520.0, 1e-40, 1e-8, 6e-8, 3.4e38, 255.5, 1e19]
            .iter()
            .chain(&[f32::INFINITY, f32::NAN, 2147483648.0, 1.17e-38, 0.99999994, 8388607.5, 1.0e-5])
            .flat_map(|x| [x.to_bits(), (-x).to_bits()])
            .map(u64::from)
            .collect(),
        DType::F64 => [0.0f64, 1.0, 0.5, 1.5, 2.5, 65519.99999, 65520.0, 1e-310, 2.98e-8, 1.0 + 1.0 / 2048.0, 1e39]
            .iter()
            .chain(&[f64::INFINITY, f64::NAN, 1e308, 1.0 + 1.0 / 2048.0 + 1e-12, 9.3e18, 2147483647.5])
            .flat_map(|x| [x.to_bits(), (-x).to_bits()])
            .collect(),
        DType::F16 => vec![0, 0x8000, 1, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x83ff],
        DType::BF16 => vec![0, 0x8000, 1, 0x7f, 0x80, 0x3f80, 0xbf80, 0x7f7f, 0x7f80, 0xff80, 0x7fc0, 0xffc1, 0x80ff],
        _ => [0i64, 1, 2, 3, 7, 8, 31, 32, 63, 64, 65, -1, -2, i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)]
            .iter()
            .map(|&x| Const::int(dtype, x).bits)
            .collect(),
    }
    .into_iter()
    .map(|bits| Const { dtype, bits })
    .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..random {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let raw = state ^ state >> 29;
        out.push(match dtype {
            DType::Bool => Const::bool(raw & 1 != 0),
            // Random bits, and numbers of everyday size.
            _ if dtype.is_float() && raw & 1 != 0 => Const::number(dtype, (raw >> 11) as f64 / 2f64.powi(48) - 16.0),
            _ => Const { dtype, bits: if bits == 64 { raw } else { raw >> (64 - bits) } },
        });
    }
    out
}

/// Elements as they lie in memory.
pub fn pack(values: &[Const]) -> Vec<u8> {
    values.iter().flat_map(|c| c.bits.to_le_bytes()[..c.dtype.size()].to_vec()).collect()
}

/// Element `i` of memory.
pub fn element(bytes: &[u8], dtype: DType, i: usize) -> Const {
    let size = dtype.size();
    let mut bits = [0; 8];
    bits[..size].copy_from_slice(&bytes[i * size..][..size]);
    Const { dtype, bits: u64::from_le_bytes(bits) }
}

/// Equal bits; two NaNs are equal.
pub fn same(a: Const, b: Const) -> bool { a == b || a.dtype == b.dtype && is_nan(a) && is_nan(b) }

fn is_nan(c: Const) -> bool {
    c.dtype.is_float() && xlac_ir::scalar::cmp(xlac_ir::kernel::Pred::Ne, c, c)
}
