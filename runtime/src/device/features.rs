//! Processor features by the names an artifact uses, and whether this machine has them.

use super::amx;
use crate::artifact::VariantInfo;

/// How well a variant suits this machine's processor: the number of features it uses. Or why it does not.
pub(crate) fn suits(variant: &VariantInfo) -> Result<u64, String> {
    if variant.arch == super::cuda::ARCH {
        return Err("it is for NVIDIA GPUs".into());
    }
    if variant.arch != std::env::consts::ARCH {
        return Err(format!("it is for {}, this machine is {}", variant.arch, std::env::consts::ARCH));
    }
    let absent = |name: &&String| detect(name) != Some(true);
    let names: Vec<&str> = variant.features.iter().filter(absent).map(String::as_str).collect();
    if names.is_empty() {
        return Ok(variant.features.len() as u64);
    }
    let (withheld, lacking): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| amx::withheld(name));
    let why = [("the processor lacks", lacking), ("the operating system does not let this process use", withheld)];
    let why: Vec<String> =
        why.iter().filter(|w| !w.1.is_empty()).map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
    Err(why.join(", and "))
}

/// Whether code may use the feature on this machine; `None` when the name means nothing to this runtime on this architecture.
/// The features of AMX are asked for then: the system lets a process use them from there on.
pub fn detect(name: &str) -> Option<bool> {
    if cfg!(target_arch = "x86_64") && amx::NAMES.contains(&name) {
        return amx::detect(name);
    }
    table().iter().find(|(known, _)| *known == name).map(|(_, found)| *found)
}

/// Every feature this runtime knows on this architecture that the machine has.
pub fn present() -> Vec<&'static str> {
    let amx = amx::NAMES.into_iter().filter(|name| detect(name) == Some(true));
    table().iter().filter(|(_, found)| *found).map(|(name, _)| *name).chain(amx).collect()
}

#[cfg(target_arch = "x86_64")]
fn table() -> &'static [(&'static str, bool)] {
    use std::sync::OnceLock;
    macro_rules! features {
        ($($name:tt),* $(,)?) => { vec![$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    static TABLE: OnceLock<Vec<(&'static str, bool)>> = OnceLock::new();
    TABLE.get_or_init(|| {
        features![
            "sse",
            "sse2",
            "sse3",
            "ssse3",
            "sse4.1",
            "sse4.2",
            "popcnt",
            "lzcnt",
            "bmi1",
            "bmi2",
            "avx",
            "avx2",
            "fma",
            "f16c",
            "avxvnni",
            "avxifma",
            "avxneconvert",
            "avxvnniint8",
            "avxvnniint16",
            "avx512f",
            "avx512cd",
            "avx512dq",
            "avx512bw",
            "avx512vl",
            "avx512ifma",
            "avx512vbmi",
            "avx512vbmi2",
            "avx512vnni",
            "avx512bitalg",
            "avx512vpopcntdq",
            "avx512bf16",
            "avx512fp16",
            "gfni",
            "vaes",
            "vpclmulqdq",
        ]
    })
}

#[cfg(target_arch = "aarch64")]
fn table() -> &'static [(&'static str, bool)] {
    use std::sync::OnceLock;
    macro_rules! features {
        ($($name:tt),* $(,)?) => { vec![$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    static TABLE: OnceLock<Vec<(&'static str, bool)>> = OnceLock::new();
    TABLE.get_or_init(|| features!["neon", "asimd", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2"])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn table() -> &'static [(&'static str, bool)] {
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_told_apart_from_missing_ones() {
        assert_eq!(detect("warp-drive"), None);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(detect("sse2"), Some(true));
        #[cfg(target_arch = "x86_64")]
        assert!(detect("amx-tile").is_some() && detect("amx-int8").is_some());
        assert!(present().iter().all(|name| detect(name) == Some(true)));
    }
}
