//! Backends and targets: one line each.

use xlac_cranelift::Cranelift;
#[cfg(feature = "llvm")]
use xlac_llvm::Llvm;
use xlac_ptx::Ptx;
use xlac_ir::backend::{Backend, Gpu, Target};
use xlac_ir::diag::Diagnostic;
use xlac_ir::kernel::Kernel;

use crate::codes;
use crate::machine;

/// The backends for processors that are built in, the fastest code first. GPUs have one of their own.
pub static BACKENDS: &[&dyn Backend] = &[
    #[cfg(feature = "llvm")]
    &Llvm,
    &Cranelift,
];

/// Backends there are, built in or not.
const KNOWN_BACKENDS: &[&str] = &["llvm", "cranelift"];

/// The backend of this name; without a name the best one built in.
pub fn backend(name: Option<&str>) -> Result<&'static dyn Backend, Diagnostic> {
    let Some(name) = name else { return Ok(BACKENDS[0]) };
    if let Some(found) = BACKENDS.iter().find(|b| b.name() == name) {
        return Ok(*found);
    }
    if KNOWN_BACKENDS.contains(&name) {
        let message = format!("backend `{name}` is not built in");
        return Err(Diagnostic::error(codes::NOT_BUILT_IN, message).help(format!("build xlac with `--features {name}`")));
    }
    let message = format!("no backend is called `{name}`");
    Err(Diagnostic::error(codes::BAD_TARGET, message).help(format!("there are {}", KNOWN_BACKENDS.join(", "))))
}

/// The backend for a target: the one named if the target is a processor.
pub fn backend_for(target: &Target, name: Option<&str>) -> Result<&'static dyn Backend, Diagnostic> {
    let processor = backend(name)?;
    Ok(if target.is_gpu() { &Ptx } else { processor })
}

/// A processor that can be named.
pub struct Named {
    /// Name after `cpu:`.
    pub name: &'static str,
    /// Instruction set.
    pub arch: &'static str,
    /// LLVM's processor name.
    pub cpu: &'static str,
    /// Features beyond those of the levels in `base`.
    pub features: &'static [&'static str],
    /// Levels it contains.
    pub base: &'static [&'static [&'static str]],
    /// Data caches: first level, second level, share of the last level, in KiB.
    pub cache_kib: [u64; 3],
}

const V2: &[&str] = &["popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"];
const V3: &[&str] = &["avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt"];
const V4: &[&str] = &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];
/// Features that the system must let a process use.
pub const AMX: &[&str] = &["amx-int8", "amx-tile"];
const SAPPHIRE: &[&str] = &["avx512bf16", "avx512fp16", "avxvnni"];
const ICE: &[&str] =
    &["avx512bitalg", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512vpopcntdq", "gfni"];

const fn x86(
    name: &'static str,
    cpu: &'static str,
    base: &'static [&'static [&'static str]],
    features: &'static [&'static str],
    cache_kib: [u64; 3],
) -> Named {
    Named { name, arch: "x86_64", cpu, features, base, cache_kib }
}

const fn arm(name: &'static str, features: &'static [&'static str], cache_kib: [u64; 3]) -> Named {
    Named { name, arch: "aarch64", cpu: name, features, base: &[&["neon"]], cache_kib }
}

/// Every processor that can be named, sorted. `cpu` and `cpu:native` mean this machine, `cpu:generic` the least of its
/// kind that has a fused multiply-add.
pub const NAMED: &[Named] = &[
    arm("cortex-a76", &["dotprod", "fullfp16"], [64, 512, 1024]),
    x86("emeraldrapids", "emeraldrapids", &[V2, V3, V4, ICE, SAPPHIRE], AMX, [48, 2048, 5120]),
    x86("graniterapids", "graniterapids", &[V2, V3, V4, ICE, SAPPHIRE], AMX, [48, 2048, 4032]),
    x86("haswell", "haswell", &[V2, V3], &[], [32, 256, 2048]),
    x86("icelake-server", "icelake-server", &[V2, V3, V4, ICE], &[], [48, 1280, 1536]),
    arm("neoverse-n1", &["dotprod", "fullfp16"], [64, 1024, 1024]),
    arm("neoverse-v1", &["bf16", "dotprod", "fullfp16", "i8mm"], [64, 1024, 1024]),
    arm("neoverse-v2", &["bf16", "dotprod", "fullfp16", "i8mm"], [64, 2048, 1024]),
    x86("sapphirerapids", "sapphirerapids", &[V2, V3, V4, ICE, SAPPHIRE], AMX, [48, 2048, 1920]),
    x86("skylake", "skylake", &[V2, V3], &[], [32, 256, 2048]),
    x86("skylake-avx512", "skylake-avx512", &[V2, V3, V4], &[], [32, 1024, 1408]),
    x86("x86-64-v2", "generic", &[V2], &[], [32, 256, 1024]),
    x86("x86-64-v3", "generic", &[V2, V3], &[], [32, 256, 2048]),
    x86("x86-64-v4", "generic", &[V2, V3, V4], &[], [32, 1024, 1408]),
    x86("znver2", "znver2", &[V2, V3], &[], [32, 512, 4096]),
    x86("znver3", "znver3", &[V2, V3], &[], [32, 512, 4096]),
    x86("znver4", "znver4", &[V2, V3, V4, ICE], &["avx512bf16"], [32, 1024, 4096]),
    x86("znver5", "znver5", &[V2, V3, V4, ICE], &["avx512bf16", "avxvnni"], [48, 1024, 4096]),
];

/// A family of GPUs that can be named, by what its least member has.
pub struct NamedGpu {
    /// Name after `ptx:`; the least compute capability.
    pub name: &'static str,
    /// Multiprocessors of a typical member.
    pub multiprocessors: u32,
    /// Shared memory a block may have, in KiB.
    pub shared_kib: u32,
    /// Second-level cache, in MiB.
    pub l2_mib: u64,
}

/// Every family of GPUs that can be named, sorted. The first one's code runs on all: its shared memory is what all have.
pub const GPUS: &[NamedGpu] = &[
    NamedGpu { name: "sm_80", multiprocessors: 108, shared_kib: 99, l2_mib: 40 },
    NamedGpu { name: "sm_86", multiprocessors: 84, shared_kib: 99, l2_mib: 6 },
    NamedGpu { name: "sm_89", multiprocessors: 128, shared_kib: 99, l2_mib: 72 },
    NamedGpu { name: "sm_90", multiprocessors: 132, shared_kib: 227, l2_mib: 50 },
];

fn gpu(named: &NamedGpu) -> Target {
    Target {
        name: format!("ptx:{}", named.name),
        arch: "nvptx64".into(),
        cpu: named.name.into(),
        features: vec![named.name.into()],
        // The widest access of a thread.
        vector_bytes: 16,
        vector_registers: 16,
        masked_memory: true,
        broadcast_fma: false,
        cache_bytes: [128 << 10, named.l2_mib << 20, named.l2_mib << 20],
        gpu: Some(Gpu {
            multiprocessors: named.multiprocessors,
            shared_bytes: named.shared_kib << 10,
            thread_registers: 255,
        }),
    }
}

/// The machine a target names, before a backend adapts it.
pub fn target(name: &str) -> Result<Target, Diagnostic> {
    let (kind, processor) = name.split_once(':').unwrap_or((name, "native"));
    match (kind, processor) {
        ("cpu", "native") => Ok(machine::host()),
        ("cpu", "generic") => {
            let least = if std::env::consts::ARCH == "aarch64" { "neoverse-n1" } else { "x86-64-v3" };
            let named = NAMED.iter().find(|n| n.name == least).map(named);
            named.map(|t| Target { name: "cpu:generic".into(), cpu: "generic".into(), ..t }).ok_or_else(|| unknown(name))
        }
        ("cpu", processor) => NAMED.iter().find(|n| n.name == processor).map(named).ok_or_else(|| unknown(name)),
        ("ptx", "native") => Ok(gpu(&GPUS[0])),
        ("ptx", family) => match GPUS.iter().find(|g| g.name == family) {
            Some(named) => Ok(gpu(named)),
            None if family.starts_with("sm_") => {
                let names: Vec<&str> = GPUS.iter().map(|g| g.name).collect();
                let message = format!("no code is made for `{name}` alone");
                let help = format!("there are {}; code for `ptx` (sm_80) runs on every newer GPU", names.join(", "));
                Err(Diagnostic::error(codes::NOT_BUILT_IN, message).help(help))
            }
            None => Err(unknown(name)),
        },
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Diagnostic {
    let names: Vec<&str> = NAMED.iter().map(|n| n.name).collect();
    Diagnostic::error(codes::BAD_TARGET, format!("no target is called `{name}`"))
        .help(format!("there are cpu, cpu:native, cpu:generic, cpu: with {}, and ptx", names.join(", ")))
}

fn named(named: &Named) -> Target {
    let mut features: Vec<String> =
        named.base.iter().flat_map(|level| level.iter()).chain(named.features).map(ToString::to_string).collect();
    features.sort();
    let name = format!("cpu:{}", named.name);
    describe(name, named.arch, named.cpu, features, named.cache_kib.map(|kib| kib << 10))
}

/// A target with everything that follows from its features.
pub fn describe(name: String, arch: &str, cpu: &str, features: Vec<String>, cache_bytes: [u64; 3]) -> Target {
    let has = |f: &str| features.iter().any(|x| x == f);
    let (wide, avx2) = (has("avx512f") && has("avx512vl"), has("avx2"));
    Target {
        name,
        arch: arch.into(),
        cpu: cpu.into(),
        vector_bytes: if wide { 64 } else if avx2 { 32 } else { 16 },
        vector_registers: if wide || arch == "aarch64" { 32 } else { 16 },
        masked_memory: wide,
        broadcast_fma: wide,
        features,
        cache_bytes,
        gpu: None,
    }
}

/// An error unless the target has a fused multiply-add: XLAC's arithmetic is defined by it, and doing it in software would
/// be slower than anybody wants.
pub fn check(target: &Target) -> Result<(), Diagnostic> {
    if target.arch != "x86_64" || target.has("fma") {
        return Ok(());
    }
    let message = format!("target `{}` has no fused multiply-add instruction", target.name);
    Err(Diagnostic::error(codes::NOT_BUILT_IN, message).help("the least that is supported is cpu:x86-64-v3"))
}

/// A target as code for it needs it: without what only matrices use, if no kernel has any. Such code runs where the system
/// withholds their registers.
pub fn needed(target: &Target, kernels: &[Kernel]) -> Target {
    let matrices = kernels.iter().any(Kernel::uses_matrices);
    let features = target.features.iter().filter(|f| matrices || !AMX.contains(&f.as_str())).cloned().collect();
    Target { features, ..target.clone() }
}

/// Feature names as the runtime detects them; the two differ where LLVM and Rust do.
pub fn runtime_features(target: &Target) -> Vec<String> {
    let name = |f: &String| match f.as_str() {
        "bmi" => "bmi1".to_string(),
        "fullfp16" => "fp16".to_string(),
        other => other.to_string(),
    };
    target.features.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted() {
        assert!(NAMED.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[test]
    fn every_named_target_is_described() {
        for n in NAMED {
            let t = target(&format!("cpu:{}", n.name)).unwrap();
            assert!(t.features.is_sorted(), "{}", n.name);
        }
        assert_eq!(target("cpu:znver4").unwrap().vector_bytes, 64);
        assert_eq!(target("tpu").unwrap_err().code, codes::BAD_TARGET);
        assert_eq!(target("ptx:sm_90a").unwrap_err().code, codes::NOT_BUILT_IN);
        assert_eq!(target("ptx").unwrap(), target("ptx:sm_80").unwrap());
        assert!(target("ptx").unwrap().is_gpu());
    }

    /// Names are those of LLVM's processors that have `amx-int8`.
    #[test]
    fn matrices_are_for_processors_that_have_them() {
        let with: Vec<&str> = NAMED.iter().filter(|n| target(&format!("cpu:{}", n.name)).unwrap().has("amx-int8")).map(|n| n.name).collect();
        assert_eq!(with, ["emeraldrapids", "graniterapids", "sapphirerapids"]);
        let none = needed(&target("cpu:sapphirerapids").unwrap(), &[]);
        assert!(none.has("avx512fp16") && !none.has("amx-int8") && !none.has("amx-tile"));
    }

    #[test]
    fn processors_without_fma_are_refused() {
        assert!(check(&target("cpu:x86-64-v2").unwrap()).is_err());
        assert!(check(&target("cpu:generic").unwrap()).is_ok());
    }

    #[test]
    fn the_host_can_run_code_for_itself() {
        let host = target("cpu").unwrap();
        assert!(host.cache_bytes.iter().all(|&b| b >= 8 << 10));
        assert_eq!(host.arch, std::env::consts::ARCH);
    }
}
