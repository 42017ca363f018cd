//! Kernel IR to machine code through Cranelift: the backend that needs nothing but cargo.
//!
//! Every kernel becomes one function without relocations; an image is the functions one after the other. Cranelift has
//! 128-bit vectors only, so wider kernel values are lists of chunks (see [`mod@emit`]).

mod emit;
mod hoist;
mod isa;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::FunctionBuilderContext;
use xlac_ir::backend::{Backend, EmitError, Image, Target};
use xlac_ir::kernel::Kernel;

/// Entry points start at multiples of this.
const ALIGN: usize = 64;

/// The Cranelift backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cranelift;

impl Backend for Cranelift {
    fn name(&self) -> &'static str { "cranelift" }

    fn constrain(&self, machine: &Target) -> Target {
        Target {
            vector_bytes: 16,
            vector_registers: if machine.arch == "x86_64" { 16 } else { 32 },
            masked_memory: false,
            broadcast_fma: false,
            features: isa::usable(machine),
            ..machine.clone()
        }
    }

    fn compile(&self, kernels: &[Kernel], target: &Target, threads: usize) -> Result<Image, EmitError> {
        let session = Session::new(target)?;
        let codes = session.compile_all(kernels, threads)?;
        let mut image = Image::default();
        for code in codes {
            image.bytes.resize(image.bytes.len().next_multiple_of(ALIGN), 0);
            image.entries.push(image.bytes.len() as u64);
            image.bytes.extend(code);
        }
        Ok(image)
    }

    fn print(&self, kernels: &[Kernel], target: &Target, form: &str) -> Result<String, EmitError> {
        let session = Session::new(target)?;
        let mut text = String::new();
        for kernel in kernels {
            let mut worker = Worker::default();
            let part = match form {
                "clif" => session.clif(&mut worker, kernel)?,
                "asm" => session.asm(&mut worker, kernel)?,
                _ => return Err(error(&kernel.name, format!("no text form `{form}`; there are `clif` and `asm`"))),
            };
            text.push_str(&format!("; {}\n{part}\n", kernel.name));
        }
        Ok(text)
    }

    fn forms(&self) -> &'static [&'static str] { &["clif", "asm"] }
}

fn error(kernel: &str, reason: impl Into<String>) -> EmitError {
    EmitError { backend: "cranelift", kernel: kernel.to_string(), reason: reason.into() }
}

/// Where a thread leaves the code of a kernel.
type Slot = Mutex<Option<Result<Vec<u8>, EmitError>>>;

/// Allocations kept from kernel to kernel.
#[derive(Default)]
struct Worker {
    builder: FunctionBuilderContext,
}

/// One target, ready to compile for.
struct Session {
    isa: cranelift_codegen::isa::OwnedTargetIsa,
    caps: isa::Caps,
}

impl Session {
    fn new(target: &Target) -> Result<Session, EmitError> {
        let isa = isa::build(target).map_err(|reason| error("", reason))?;
        Ok(Session { isa, caps: isa::caps(target) })
    }

    /// Machine code of every kernel, in their order whatever the threads do.
    fn compile_all(&self, kernels: &[Kernel], threads: usize) -> Result<Vec<Vec<u8>>, EmitError> {
        let next = AtomicUsize::new(0);
        let done: Vec<Slot> = kernels.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            let mut worker = Worker::default();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(kernel) = kernels.get(at) else { break };
                let code = self.code(&mut worker, kernel);
                *done[at].lock().expect("no thread panics while it holds a slot") = Some(code);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(kernels.len()) {
                scope.spawn(work);
            }
            work();
        });
        done.into_iter()
            .map(|slot| slot.into_inner().expect("threads have ended").expect("every kernel was taken"))
            .collect()
    }

    /// The CLIF of a kernel in a context, ready to compile.
    fn lower(&self, worker: &mut Worker, kernel: &Kernel) -> Result<Context, EmitError> {
        match emit::function(kernel, &*self.isa, self.caps, &mut worker.builder) {
            Ok(func) => Ok(Context::for_function(func)),
            Err(reason) => {
                // The builder's allocations hold half a function now.
                *worker = Worker::default();
                Err(error(&kernel.name, reason))
            }
        }
    }

    fn code(&self, worker: &mut Worker, kernel: &Kernel) -> Result<Vec<u8>, EmitError> {
        let mut context = self.lower(worker, kernel)?;
        let compiled = finish(&mut context, &*self.isa, kernel)?;
        if let Some(reloc) = compiled.buffer.relocs().first() {
            return Err(error(&kernel.name, format!("needs an outside symbol: {:?}", reloc.target)));
        }
        Ok(compiled.code_buffer().to_vec())
    }

    fn clif(&self, worker: &mut Worker, kernel: &Kernel) -> Result<String, EmitError> {
        Ok(self.lower(worker, kernel)?.func.display().to_string())
    }

    fn asm(&self, worker: &mut Worker, kernel: &Kernel) -> Result<String, EmitError> {
        let mut context = self.lower(worker, kernel)?;
        context.set_disasm(true);
        let compiled = finish(&mut context, &*self.isa, kernel)?;
        Ok(compiled.vcode.clone().unwrap_or_default())
    }
}

fn finish<'c>(
    context: &'c mut Context,
    isa: &dyn TargetIsa,
    kernel: &Kernel,
) -> Result<&'c cranelift_codegen::CompiledCode, EmitError> {
    context
        .compile(isa, &mut ControlPlane::default())
        .map_err(|e| error(&kernel.name, cranelift_codegen::print_errors::pretty_error(e.func, e.inner)))
}
