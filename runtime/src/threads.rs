//! How many threads a session uses when nobody says: the cores this process may use, by affinity mask and cgroup quota.

/// Default number of threads: physical cores of the affinity mask, within the cgroup's quota.
///
/// Two hardware threads of one core share its multipliers, so the second brings little and costs cache.
pub fn default_threads() -> usize {
    // The standard library honours the affinity mask and cgroup quotas, but counts hardware threads.
    let hardware = available();
    physical_cores().map_or(hardware, |cores| cores.min(hardware)).max(1)
}

/// Hardware threads this process may use.
pub(crate) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// Distinct cores among the allowed processors; none where the system does not tell.
fn physical_cores() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores: Vec<String> = Vec::new();
    for processor in parse_list(allowed.trim())? {
        let path = format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
        cores.push(std::fs::read_to_string(path).ok()?);
    }
    cores.sort_unstable();
    cores.dedup();
    (!cores.is_empty()).then_some(cores.len())
}

/// Parses lists such as `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut processors = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // More processors than any machine has means that the text was not understood.
        if last.checked_sub(first)? > 1 << 16 {
            return None;
        }
        processors.extend(first..=last);
    }
    Some(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_lists_are_parsed() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("x"), None);
        assert!((1..=available()).contains(&default_threads()));
    }
}
