//! Which instruction set Cranelift may use: from a [`Target`] to a Cranelift ISA.

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use xlac_ir::backend::Target;

/// x86 features Cranelift knows: its setting and LLVM's name of it.
const X86: &[(&str, &str)] = &[
    ("has_sse3", "sse3"),
    ("has_ssse3", "ssse3"),
    ("has_sse41", "sse4.1"),
    ("has_sse42", "sse4.2"),
    ("has_popcnt", "popcnt"),
    ("has_avx", "avx"),
    ("has_avx2", "avx2"),
    ("has_fma", "fma"),
    ("has_bmi1", "bmi"),
    ("has_bmi2", "bmi2"),
    ("has_lzcnt", "lzcnt"),
    ("has_avx512f", "avx512f"),
    ("has_avx512vl", "avx512vl"),
    ("has_avx512dq", "avx512dq"),
    ("has_avx512bitalg", "avx512bitalg"),
    ("has_avx512vbmi", "avx512vbmi"),
];

/// Vector features of x86-64, oldest first: each implies those before it, as on every processor made.
const X86_CHAIN: &[&str] = &["sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2"];

/// True if code for `target` may use the x86 feature of this LLVM name, named or implied by a newer one.
fn has_x86(target: &Target, feature: &str) -> bool {
    let implied = match X86_CHAIN.iter().position(|f| *f == feature) {
        Some(at) => X86_CHAIN[at + 1..].iter().any(|f| target.has(f)),
        None => false,
    };
    target.has(feature) || implied
}

/// What code for a target may rely on.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Fused multiply-add is one instruction.
    pub fma: bool,
    /// Rounding to integers is one instruction.
    pub round: bool,
    /// `blendv` may be used.
    pub blendv: bool,
}

/// Capabilities of `target`.
pub fn caps(target: &Target) -> Caps {
    let x86 = target.arch == "x86_64";
    let sse41 = x86 && has_x86(target, "sse4.1");
    Caps { fma: !x86 || target.has("fma") && has_x86(target, "avx"), round: !x86 || sse41, blendv: sse41 }
}

/// The features of `machine` that this backend can use, sorted.
pub fn usable(machine: &Target) -> Vec<String> {
    match machine.arch.as_str() {
        "x86_64" => {
            let mut names: Vec<String> =
                X86.iter().filter(|(_, f)| has_x86(machine, f)).map(|(_, f)| f.to_string()).collect();
            names.sort();
            names
        }
        _ => machine.features.iter().filter(|f| f.as_str() == "neon" || f.as_str() == "fp16").cloned().collect(),
    }
}

/// Cranelift's name of the machine: the instruction set of `target`, the calling convention of this system.
fn triple(target: &Target) -> String {
    match std::env::consts::OS {
        "macos" => format!("{}-apple-darwin", target.arch),
        "windows" => format!("{}-pc-windows-msvc", target.arch),
        _ => format!("{}-unknown-linux-gnu", target.arch),
    }
}

/// Builds the Cranelift ISA for `target`; the error says what is missing.
pub fn build(target: &Target) -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    // The optimizer pass is run by hand where it pays, so `none` here only keeps `Context` from running it.
    let verify = if cfg!(debug_assertions) { "true" } else { "false" };
    let wanted = [
        ("opt_level", "none"),
        ("is_pic", "true"),
        ("enable_verifier", verify),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("preserve_frame_pointers", "false"),
    ];
    for (name, value) in wanted {
        flags.set(name, value).map_err(|e| format!("flag `{name}`: {e}"))?;
    }
    let mut builder = isa::lookup_by_name(&triple(target)).map_err(|e| format!("`{}`: {e}", target.arch))?;
    if target.arch == "x86_64" {
        for (setting, feature) in X86 {
            if has_x86(target, feature) {
                builder.enable(setting).map_err(|e| format!("feature `{feature}`: {e}"))?;
            }
        }
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| e.to_string())
}
