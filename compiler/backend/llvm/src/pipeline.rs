//! LLVM itself: target machines, the passes, object and assembly output.

use std::sync::Once;

use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::module::Module;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine, TargetTriple,
};
use xlac_ir::backend::Target;

/// The passes run before instruction selection; the reason beside each.
///
/// Kernels come with rotated loops, SSA accumulators and no memory to promote, so most of `default<O2>` has nothing to
/// do. Thirty convolution-like kernels (`examples/microkernel.rs`, `time`) on one core of a Zen 4 took 0.62 s with this
/// list, 1.35 s with `default<O2>` and 0.50 s with no pass but `early-cse`; microkernels ran at the same speed with all
/// three. Reading the text is a twentieth of the time, these passes a quarter, and the rest is instruction selection,
/// scheduling and register allocation, whose own loop strength reduction gives the multiply kernels what they need: two
/// loads of B, a broadcast per row shared by its two multiply-adds, no spill in the inner loop. Not in the list on
/// purpose: anything that vectorizes, unrolls a loop of unknown length unasked, or turns loops into calls.
const PASSES: &[&str] = &[
    // Index arithmetic repeated in every row.
    "early-cse",
    "instcombine<no-verify-fixpoint>",
    "simplifycfg",
    // Row starts and masks out of the loops.
    "loop-mssa(licm)",
    // The factors kernels ask for, and short loops of constant length.
    "loop-unroll<O2;no-runtime;no-partial>",
    // What unrolling made equal, loads included.
    "early-cse<memssa>",
    "instcombine<no-verify-fixpoint>",
    "loop-mssa(licm)",
    "simplifycfg",
    "dse",
];

/// A machine for a target: exactly the features it lists, scheduled for its processor.
///
/// The processor is passed to functions as `tune-cpu`; as the machine's own it would imply features the target left
/// out.
pub(crate) fn machine(target: &Target) -> Result<TargetMachine, String> {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        LlvmTarget::initialize_x86(&InitializationConfig::default());
        LlvmTarget::initialize_aarch64(&InitializationConfig::default());
    });
    let (triple, cpu) = match target.arch.as_str() {
        "x86_64" => ("x86_64-unknown-linux-gnu", "x86-64"),
        "aarch64" => ("aarch64-unknown-linux-gnu", "generic"),
        other => return Err(format!("no LLVM target for `{other}`")),
    };
    let triple = TargetTriple::create(triple);
    let features: Vec<String> = target.features.iter().map(|f| format!("+{f}")).collect();
    let llvm = LlvmTarget::from_triple(&triple).map_err(|e| e.to_string())?;
    let level = OptimizationLevel::Default;
    llvm.create_target_machine(&triple, cpu, &features.join(","), level, RelocMode::PIC, CodeModel::Small)
        .ok_or_else(|| "LLVM has no such target machine".to_string())
}

/// Parses a module, optimizes it and hands it to `f`.
fn optimized<R>(
    text: &str,
    machine: &TargetMachine,
    f: impl FnOnce(&Module) -> Result<R, String>,
) -> Result<R, String> {
    let context = Context::create();
    let buffer = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "kernel");
    let module = context.create_module_from_ir(buffer).map_err(|e| e.to_string())?;
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    module.verify().map_err(|e| first_lines(&e.to_string()))?;
    let passes = format!("function({})", PASSES.join(","));
    module.run_passes(&passes, machine, PassBuilderOptions::create()).map_err(|e| e.to_string())?;
    f(&module)
}

/// The start of a message that may go on for pages.
fn first_lines(message: &str) -> String { message.lines().take(2).collect::<Vec<&str>>().join(": ") }

/// The object file of a module.
pub(crate) fn object(text: &str, machine: &TargetMachine) -> Result<Vec<u8>, String> {
    emit(text, machine, FileType::Object)
}

/// The assembly text of a module.
pub(crate) fn assembly(text: &str, machine: &TargetMachine) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&emit(text, machine, FileType::Assembly)?).trim_end_matches('\0').to_string())
}

/// The text of a module after the passes.
pub(crate) fn llvm(text: &str, machine: &TargetMachine) -> Result<String, String> {
    optimized(text, machine, |m| Ok(m.print_to_string().to_string()))
}

fn emit(text: &str, machine: &TargetMachine, kind: FileType) -> Result<Vec<u8>, String> {
    optimized(text, machine, |m| {
        let out = machine.write_to_memory_buffer(m, kind).map_err(|e| e.to_string())?;
        Ok(out.as_slice().to_vec())
    })
}
