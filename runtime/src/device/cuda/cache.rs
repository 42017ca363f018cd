//! Compiled code kept between processes, so that the driver compiles an artifact once per machine.
//!
//! An entry is named by a digest of the PTX text and of what its compilation depends on: the driver's version, the name of
//! the device and its generation. It carries a digest of its own content. The cache is never the cause of an error: what cannot be read or written is compiled again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where compiled code is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CubinCache {
    /// `$XLAC_CACHE_DIR`, else `$XDG_CACHE_HOME/xlac`, else `~/.cache/xlac`. An empty `$XLAC_CACHE_DIR` means nowhere.
    #[default]
    Standard,
    /// Nowhere: everything is compiled anew.
    Off,
    /// In this folder.
    Folder(PathBuf),
}

/// What compiled code is for.
pub(super) struct Key<'a> {
    pub(super) ptx: &'a [u8],
    pub(super) device: &'a str,
    pub(super) capability: (u32, u32),
    pub(super) driver: (u32, u32),
}

/// Bytes of the digest before the content.
const DIGEST: usize = 32;

impl CubinCache {
    fn folder(&self) -> Option<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let filled = |name: &str| variable(name).filter(|path| path.is_absolute());
        match self {
            CubinCache::Off => None,
            CubinCache::Folder(folder) => Some(folder.clone()),
            CubinCache::Standard => match variable("XLAC_CACHE_DIR") {
                Some(folder) => (!folder.as_os_str().is_empty()).then_some(folder),
                None => filled("XDG_CACHE_HOME")
                    .map(|cache| cache.join("xlac"))
                    .or_else(|| filled("HOME").map(|home| home.join(".cache/xlac"))),
            },
        }
    }

    /// The file of an entry.
    fn path(&self, key: &Key<'_>) -> Option<PathBuf> {
        let mut hasher = blake3::Hasher::new();
        for number in [key.driver.0, key.driver.1, key.capability.0, key.capability.1, key.device.len() as u32] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(key.device.as_bytes());
        hasher.update(key.ptx);
        Some(self.folder()?.join(format!("{}.cubin", hasher.finalize().to_hex())))
    }

    /// The compiled form, if it is there and intact; a corrupt entry is removed.
    pub(super) fn get(&self, key: &Key<'_>) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let mut bytes = std::fs::read(&path).ok()?;
        let is_intact = bytes
            .split_at_checked(DIGEST)
            .is_some_and(|(digest, cubin)| !cubin.is_empty() && blake3::hash(cubin).as_bytes().as_slice() == digest);
        if !is_intact {
            let _ = std::fs::remove_file(&path);
            return None;
        }
        bytes.drain(..DIGEST);
        Some(bytes)
    }

    /// Keeps the compiled form, all or nothing.
    pub(super) fn put(&self, key: &Key<'_>, cubin: &[u8]) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some(path) = self.path(key) else { return };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{}-{number}.new", std::process::id()));
        let content = [blake3::hash(cubin).as_bytes(), cubin].concat();
        let write = || {
            std::fs::create_dir_all(path.parent()?).ok()?;
            std::fs::write(&unfinished, &content).ok()?;
            std::fs::rename(&unfinished, &path).ok()
        };
        if write().is_none() {
            let _ = std::fs::remove_file(&unfinished);
        }
    }

    /// Removes an entry that the driver does not take.
    pub(super) fn drop_entry(&self, key: &Key<'_>) {
        if let Some(path) = self.path(key) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_again_and_corrupt_ones_dropped() {
        let folder = std::env::temp_dir().join(format!("xlac-cache-{}", std::process::id()));
        let cache = CubinCache::Folder(folder.clone());
        let key = |driver, capability| Key { ptx: b"ptx", device: "gpu", capability, driver };
        let own = key((12, 0), (8, 0));
        assert_eq!(cache.get(&own), None);
        cache.put(&own, b"cubin");
        assert_eq!(cache.get(&own).as_deref(), Some(b"cubin".as_slice()));
        assert_eq!(cache.get(&key((12, 1), (8, 0))), None);
        assert_eq!(cache.get(&key((12, 0), (8, 6))), None);
        assert_eq!(cache.get(&Key { device: "other", ..key((12, 0), (8, 0)) }), None);
        let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        for damage in [&b""[..], b"short", &[7; 40]] {
            std::fs::write(&file, damage).unwrap();
            assert_eq!(cache.get(&own), None);
            assert!(!file.exists());
        }
        std::fs::remove_dir_all(&folder).unwrap();
        // A folder that cannot be made is no error.
        CubinCache::Folder("/proc/none".into()).put(&own, b"cubin");
        assert_eq!(CubinCache::Off.path(&own), None);
    }
}
