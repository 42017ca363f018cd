//! The PTX backend: kernels become the text of one module for NVIDIA GPUs.
//!
//! Kernel IR is written out instruction by instruction (`emit`) into lines that know their registers (`asm`); ptxas, in
//! the driver, allocates and schedules. What it does not do is done here: wide memory accesses, narrow index arithmetic,
//! constant parts of addresses in immediate offsets, unrolling. Every text passes the checks of [`mod@verify`], which also
//! say the least target and version it needs.
//!
//! Launching an entry: a `u64` pointer for each buffer, an `s64` for each dim, `s64` tiles, `u64` scratch (a multiple of
//! 64), `s64` bytes of it for each worker (a multiple of 64), `u64` address of the `u32` status. [`BlockShape`] says how
//! tiles become blocks. A strided kernel wants scratch memory for as many workers as the grid has tiles, laid out as
//! [`Backend`] says; a launch has at most [`MOST_TILES`] tiles, or the status becomes [`TOO_MANY_TILES`].

#![forbid(unsafe_code)]

mod asm;
mod emit;
mod facts;
pub mod verify;

pub use emit::{MOST_TILES, TOO_MANY_TILES};

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use xlac_ir::backend::{Backend, BlockShape, EmitError, Gpu, Image, Target};
use xlac_ir::kernel::Kernel;

/// The backend's name on the command line.
const NAME: &str = "ptx";
/// What is assumed of a target that does not say it is a GPU: the least card served.
const LEAST: Gpu = Gpu { multiprocessors: 16, shared_bytes: 99 << 10, thread_registers: 255 };

/// PTX as a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ptx;

impl Backend for Ptx {
    fn name(&self) -> &'static str {
        NAME
    }

    fn constrain(&self, machine: &Target) -> Target {
        machine.clone()
    }

    fn compile(&self, kernels: &[Kernel], target: &Target, threads: usize) -> Result<Image, EmitError> {
        let (text, blocks) = module(kernels, target, threads)?;
        let mut bytes = text.into_bytes();
        bytes.push(0);
        Ok(Image { bytes, entries: vec![0; kernels.len()], blocks })
    }

    fn print(&self, kernels: &[Kernel], target: &Target, form: &str) -> Result<String, EmitError> {
        if form != "ptx" {
            let reason = format!("no text form `{form}`; there is ptx");
            return Err(EmitError { backend: NAME, kernel: String::new(), reason });
        }
        Ok(module(kernels, target, 1)?.0)
    }

    fn forms(&self) -> &'static [&'static str] {
        &["ptx"]
    }
}

fn error(kernel: &Kernel, reason: String) -> EmitError {
    EmitError { backend: NAME, kernel: kernel.name.clone(), reason }
}

/// One kernel's entry, checked.
struct Part {
    text: String,
    block: BlockShape,
    summary: verify::Summary,
}

/// Text of a module with all kernels, and the shapes of their blocks.
fn module(kernels: &[Kernel], target: &Target, threads: usize) -> Result<(String, Vec<BlockShape>), EmitError> {
    let gpu = target.gpu.unwrap_or(LEAST);
    let parts = on_threads(kernels, threads, |kernel| part(kernel, &gpu))?;
    let version = parts.iter().map(|p| p.summary.version).fold(verify::FLOOR.version, Ord::max);
    let sm = parts.iter().map(|p| p.summary.sm).fold(verify::FLOOR.sm, Ord::max);
    let shared = parts.iter().any(|p| p.block.shared > 0);
    let mut text = header(version, sm, shared);
    parts.iter().for_each(|p| {
        text.push('\n');
        text += &p.text;
    });
    Ok((text, parts.iter().map(|p| p.block).collect()))
}

fn header((major, minor): (u32, u32), sm: u32, shared: bool) -> String {
    let shared = if shared { format!("\n.extern .shared .align 128 .b8 {}[];\n", emit::SHARED) } else { String::new() };
    format!(".version {major}.{minor}\n.target sm_{sm}\n.address_size 64\n{shared}")
}

fn part(kernel: &Kernel, gpu: &Gpu) -> Result<Part, String> {
    let entry = emit::entry(kernel, gpu)?;
    let limit = verify::LIMIT;
    let text = header(limit.version, limit.sm, entry.block.shared > 0) + &entry.text;
    let summary = verify::verify(&text).map_err(|errors| {
        let list: Vec<String> = errors.iter().take(5).map(|e| e.to_string()).collect();
        format!("the PTX made for it is malformed: {}", list.join("; "))
    })?;
    Ok(Part { text: entry.text, block: entry.block, summary })
}

/// Applies `f` to each kernel; results come in their order.
fn on_threads<R: Send>(
    kernels: &[Kernel],
    threads: usize,
    f: impl Fn(&Kernel) -> Result<R, String> + Sync,
) -> Result<Vec<R>, EmitError> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<R, String>>>> = kernels.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((kernel, slot)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            kernels.get(i).zip(slots.get(i))
        } {
            let result = f(kernel);
            *slot.lock().expect("no worker panics while it holds a slot") = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(kernels.len()).saturating_sub(1) {
            // Kernels nest deeply. A thread that cannot start leaves its share to the others.
            let _ = std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, work);
        }
        work();
    });
    let results = slots.into_iter().zip(kernels).map(|(slot, kernel)| {
        let result = slot.into_inner().expect("no worker panicked").expect("every kernel was taken");
        result.map_err(|reason| error(kernel, reason))
    });
    results.collect()
}
