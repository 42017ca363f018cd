//! The LLVM backend: kernels become position-independent machine code as wide as the processor's vectors.
//!
//! Kernel IR is written out as LLVM IR text, one module per kernel (`emit`), optimized and assembled in memory
//! (`pipeline`), and the objects are laid out side by side with every relocation applied (`image`). One module per
//! kernel lets threads work independently, and makes the bytes the same for any number of them.

#![deny(unsafe_code)]

mod emit;
mod image;
mod pipeline;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use xlac_ir::backend::{Backend, EmitError, Image, Target};
use xlac_ir::kernel::{Block, Kernel, Stmt};

use emit::Isa;

/// The backend's name on the command line.
const NAME: &str = "llvm";

/// LLVM as a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Llvm;

impl Backend for Llvm {
    fn name(&self) -> &'static str { NAME }

    fn constrain(&self, machine: &Target) -> Target {
        let mut target = machine.clone();
        let arm = target.arch == "aarch64";
        let avx512 = target.has("avx512f") && target.has("avx512vl");
        target.vector_bytes = match (arm, avx512, target.has("avx2")) {
            (false, true, _) => 64,
            (false, false, true) => 32,
            _ => 16,
        };
        target.vector_registers = if arm || avx512 { 32 } else { 16 };
        target.masked_memory = avx512;
        target.broadcast_fma = avx512;
        target
    }

    fn compile(&self, kernels: &[Kernel], target: &Target, threads: usize) -> Result<Image, EmitError> {
        let objects = on_threads(kernels, target, threads, pipeline::object)?;
        image::link(&objects).map_err(|(i, reason)| error(&kernels[i], reason))
    }

    fn print(&self, kernels: &[Kernel], target: &Target, form: &str) -> Result<String, EmitError> {
        let texts = match form {
            "llvm" => on_threads(kernels, target, 1, pipeline::llvm)?,
            "asm" => on_threads(kernels, target, 1, pipeline::assembly)?,
            _ => {
                let reason = format!("no text form `{form}`; there are {}", self.forms().join(", "));
                return Err(EmitError { backend: NAME, kernel: String::new(), reason });
            }
        };
        let comment = match (form, target.arch.as_str()) {
            ("llvm", _) => ";",
            (_, "aarch64") => "//",
            _ => "#",
        };
        let titled = kernels.iter().zip(texts).map(|(kernel, text)| {
            let note = |n: &String| format!("{comment}   {}\n", n.replace('\n', " "));
            let notes: String = kernel.notes.iter().map(note).collect();
            format!("{comment} kernel {}\n{notes}{text}\n", kernel.name)
        });
        Ok(titled.collect())
    }

    fn forms(&self) -> &'static [&'static str] { &["llvm", "asm"] }
}

fn error(kernel: &Kernel, reason: String) -> EmitError {
    EmitError { backend: NAME, kernel: kernel.name.clone(), reason }
}

/// Emits each kernel and passes it through `finish`, the largest first; results come in the order of `kernels`.
fn on_threads<R: Send>(
    kernels: &[Kernel],
    target: &Target,
    threads: usize,
    finish: impl Fn(&str, &inkwell::targets::TargetMachine) -> Result<R, String> + Sync,
) -> Result<Vec<R>, EmitError> {
    let isa = Isa::of(target);
    let mut order: Vec<usize> = (0..kernels.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(size(&kernels[i].body)));
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<R, String>>>> = kernels.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        let machine = pipeline::machine(target);
        while let Some(&i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = machine.as_ref().map_err(Clone::clone).and_then(|machine| {
                let text = emit::module(&kernels[i], &isa, &target.cpu)?;
                finish(&text, machine)
            });
            *slots[i].lock().expect("no worker panics while it holds a slot") = Some(result);
        }
    };
    std::thread::scope(|scope| {
        let extra = threads.min(kernels.len()).saturating_sub(1);
        for _ in 0..extra {
            // LLVM recurses deeply on large kernels. A thread that cannot start leaves its share to the others.
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

/// Number of statements, the measure of how long a kernel compiles.
fn size(block: &Block) -> usize {
    let inner = |s: &Stmt| match s {
        Stmt::For(f) => 1 + size(&f.body),
        Stmt::If(i) => 1 + size(&i.then) + size(&i.els),
        _ => 1,
    };
    block.0.iter().map(inner).sum()
}
