//! This machine: instruction set, processor name, features, caches.

use std::collections::BTreeMap;

use xlac_ir::backend::Target;
use xlac_runtime::device::features;

use crate::targets;

/// Caches of a machine that does not tell: first level, second level, share of the last level.
const DEFAULT_CACHES: [u64; 3] = [32 << 10, 512 << 10, 2 << 20];

/// This machine as a target.
pub fn host() -> Target {
    let found = found();
    let cpu = processor(&found);
    targets::describe("cpu:native".into(), std::env::consts::ARCH, &cpu, found, caches())
}

/// Features this machine has, in LLVM's names, sorted.
#[cfg(target_arch = "x86_64")]
fn found() -> Vec<String> {
    macro_rules! detect {
        ($($rust:tt => $llvm:literal),* $(,)?) => {
            [$((std::is_x86_feature_detected!($rust), $llvm)),*]
        };
    }
    let known = detect! {
        "avx" => "avx", "avx2" => "avx2", "avx512bf16" => "avx512bf16", "avx512bitalg" => "avx512bitalg",
        "avx512bw" => "avx512bw", "avx512cd" => "avx512cd", "avx512dq" => "avx512dq", "avx512f" => "avx512f",
        "avx512fp16" => "avx512fp16", "avx512ifma" => "avx512ifma", "avx512vbmi" => "avx512vbmi",
        "avx512vbmi2" => "avx512vbmi2", "avx512vl" => "avx512vl", "avx512vnni" => "avx512vnni",
        "avx512vpopcntdq" => "avx512vpopcntdq", "avxvnni" => "avxvnni", "bmi1" => "bmi", "bmi2" => "bmi2",
        "f16c" => "f16c", "fma" => "fma", "gfni" => "gfni", "lzcnt" => "lzcnt", "popcnt" => "popcnt", "sse3" => "sse3",
        "sse4.1" => "sse4.1", "sse4.2" => "sse4.2", "ssse3" => "ssse3",
    };
    let mut names: Vec<String> = known.iter().filter(|(has, _)| *has).map(|(_, name)| name.to_string()).collect();
    // Those that the system must let this process use have one name in LLVM and the runtime.
    let asked = targets::AMX.iter().filter(|name| features::detect(name) == Some(true));
    names.extend(asked.map(ToString::to_string));
    names.sort();
    names
}

/// Features this machine has, in LLVM's names, sorted.
#[cfg(target_arch = "aarch64")]
fn found() -> Vec<String> {
    macro_rules! detect {
        ($($rust:tt => $llvm:literal),* $(,)?) => {
            [$((std::arch::is_aarch64_feature_detected!($rust), $llvm)),*]
        };
    }
    let known = detect! {
        "bf16" => "bf16", "dotprod" => "dotprod", "fp16" => "fullfp16", "i8mm" => "i8mm", "neon" => "neon",
    };
    known.iter().filter(|(has, _)| *has).map(|(_, name)| name.to_string()).collect()
}

/// No features are known of other machines.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn found() -> Vec<String> { Vec::new() }

/// LLVM's name of the processor, from vendor, family and features; `generic` if it is none of those known.
fn processor(features: &[String]) -> String {
    let has = |f: &str| features.iter().any(|x| x == f);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first: BTreeMap<&str, &str> = info
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':').map(|(k, v)| (k.trim(), v.trim())))
        .collect();
    let number = |key: &str| first.get(key).and_then(|v| v.parse::<u32>().ok()).unwrap_or(0);
    let vendor = first.get("vendor_id").copied().unwrap_or("");
    let name = match (vendor, number("cpu family")) {
        ("AuthenticAMD", 23) if has("avx2") => "znver2",
        ("AuthenticAMD", 25) if has("avx512f") => "znver4",
        ("AuthenticAMD", 25) => "znver3",
        ("AuthenticAMD", 26) if has("avx512f") => "znver5",
        ("GenuineIntel", 6) if has("avx512fp16") => "sapphirerapids",
        ("GenuineIntel", 6) if has("avx512vbmi2") => "icelake-server",
        ("GenuineIntel", 6) if has("avx512vnni") => "cascadelake",
        ("GenuineIntel", 6) if has("avx512vl") => "skylake-avx512",
        ("GenuineIntel", 6) if has("avx2") => "skylake",
        _ => match first.get("CPU part").copied() {
            Some("0xd0c") => "neoverse-n1",
            Some("0xd40") => "neoverse-v1",
            Some("0xd4f") => "neoverse-v2",
            _ => "generic",
        },
    };
    name.into()
}

/// Data caches of the first processor: first level, second level, this core's share of the last.
fn caches() -> [u64; 3] {
    let mut found = [0u64; 3];
    for index in 0..8 {
        let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let read = |file: &str| std::fs::read_to_string(format!("{folder}/{file}")).map(|s| s.trim().to_string());
        let (Ok(level), Ok(kind), Ok(size)) = (read("level"), read("type"), read("size")) else { break };
        let Some(bytes) = parse_size(&size) else { continue };
        let sharers = read("shared_cpu_list").ok().map_or(1, |list| count(&list));
        match (level.as_str(), kind.as_str()) {
            ("1", "Data" | "Unified") => found[0] = bytes,
            ("2", "Data" | "Unified") => found[1] = bytes,
            ("3", _) => found[2] = bytes / sharers.max(1),
            _ => {}
        }
    }
    // Without a last level the second one is it; in small shares one core still may use more while others idle.
    let [first, second, last] = found;
    let or = |size: u64, default: u64| if size == 0 { default } else { size };
    let second = or(second, DEFAULT_CACHES[1]);
    [or(first, DEFAULT_CACHES[0]), second, or(last, DEFAULT_CACHES[2]).max(second)]
}

/// Parses `32K`, `4M`.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Number of processors in a list such as `0-3,8`.
fn count(list: &str) -> u64 {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    list.split(',').filter_map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_are_parsed() {
        assert_eq!(parse_size("32K"), Some(32 << 10));
        assert_eq!(parse_size("x"), None);
        assert_eq!(count("0-3,8"), 5);
    }
}
