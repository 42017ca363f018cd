//! What a target is: capabilities as data, and the trait a backend implements.

use crate::dtype::DType;
use crate::kernel::Kernel;

/// Capabilities of a CPU or device, as numbers the kernel builders read.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name as on the command line, `cpu:znver4`.
    pub name: String,
    /// Instruction set, as in `std::env::consts::ARCH`.
    pub arch: String,
    /// Processor name for LLVM's scheduling models; `generic` if unknown.
    pub cpu: String,
    /// Features code may use, in LLVM's names (`avx2`, `fma`, `avx512f`, ...), sorted.
    pub features: Vec<String>,
    /// Width of a vector register in bytes, as the backend will use it.
    pub vector_bytes: u32,
    /// Number of vector registers.
    pub vector_registers: u32,
    /// True if a load or store of fewer lanes than a register costs about as much as a whole one.
    pub masked_memory: bool,
    /// True if a multiply-add may take one operand from memory, broadcast to all lanes.
    pub broadcast_fma: bool,
    /// Data cache sizes in bytes: first level, second level, and the share of the last level one core may count on.
    pub cache_bytes: [u64; 3],
    /// What makes it a GPU; none for CPUs.
    pub gpu: Option<Gpu>,
}

/// Capabilities of a GPU: kernels are built for the least of a family, so that one artifact serves all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Multiprocessors of a typical member; tiles are chosen so that they are busy.
    pub multiprocessors: u32,
    /// Shared memory a tile may use, in bytes.
    pub shared_bytes: u32,
    /// Registers of 32 bits a thread may use.
    pub thread_registers: u32,
}

impl Target {
    /// Lanes of a vector register for an element type.
    pub fn lanes(&self, dtype: DType) -> u32 { (self.vector_bytes / dtype.compute().size() as u32).max(1) }

    /// True if vectors of half a register go through the multipliers twice as often as whole ones: the processor executes
    /// a 512-bit instruction as two halves.
    pub fn halves_are_twice_as_fast(&self) -> bool {
        self.vector_bytes == 64 && matches!(self.cpu.as_str(), "znver4" | "icelake-client" | "tigerlake" | "rocketlake")
    }

    /// True if additions of vectors have pipes of their own, so that as many of them as of multiply-adds take no more time.
    /// Measured on Zen 4 with whole vectors, and nothing else.
    pub fn adds_beside_multiplying(&self) -> bool { self.vector_bytes == 64 && self.masked_memory && self.cpu == "znver4" }

    /// True if tiles are run by blocks of threads.
    pub fn is_gpu(&self) -> bool { self.gpu.is_some() }

    /// True if `feature` may be used.
    pub fn has(&self, feature: &str) -> bool { self.features.iter().any(|f| f == feature) }
}

/// Code of a list of kernels: for CPUs position-independent machine code without relocations or outside symbols, for GPUs
/// the text of one module, whose entry points are found by the kernels' names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// Code and its constants; mapped at a 4096-byte boundary, readable and executable.
    pub bytes: Vec<u8>,
    /// Offset of the entry point of each kernel, in the order they were given; 0 for GPUs.
    pub entries: Vec<u64>,
    /// How each kernel's tiles become blocks; empty for CPUs.
    pub blocks: Vec<BlockShape>,
}

/// How the tiles of a launch become blocks of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Threads of a block.
    pub threads: u32,
    /// Tiles a block runs: more than one where a thread runs a whole tile.
    pub tiles: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// True if the grid may be smaller than the tiles, because the kernel strides over them; so does one that needs
    /// scratch memory outside of the chip.
    pub strided: bool,
}

/// Why a backend could not compile.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{backend}: kernel `{kernel}`: {reason}")]
pub struct EmitError {
    /// Backend's name.
    pub backend: &'static str,
    /// Kernel's name.
    pub kernel: String,
    /// What went wrong.
    pub reason: String,
}

/// Turns kernels into code for one target.
///
/// Entry points have the C signature
/// `fn(buffers: *const *mut u8, dims: *const i64, scratch: *mut u8, begin: i64, end: i64) -> i64`: they run tiles
/// `begin..end` and return 0, or the code of the first failed check. `scratch` is 64-byte aligned; scratch buffers lie in
/// it one after the other, each starting at a multiple of 64 bytes.
pub trait Backend: Send + Sync {
    /// Name as on the command line: `cranelift`, `llvm`.
    fn name(&self) -> &'static str;
    /// Adapts a description of the machine to what this backend can use (Cranelift: 16-byte vectors).
    fn constrain(&self, machine: &Target) -> Target;
    /// Compiles kernels to one image. Works on several threads if `threads > 1`.
    fn compile(&self, kernels: &[Kernel], target: &Target, threads: usize) -> Result<Image, EmitError>;
    /// Text of what `compile` would make, for people: `form` is one of [`Backend::forms`].
    fn print(&self, kernels: &[Kernel], target: &Target, form: &str) -> Result<String, EmitError>;
    /// Text forms `print` knows: `llvm`, `clif`, `asm`.
    fn forms(&self) -> &'static [&'static str];
}
