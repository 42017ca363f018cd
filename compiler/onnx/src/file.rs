//! Model files as bytes, mapped into memory.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::codes;
use crate::fail::{Fail, Res};

/// The contents of a model file, mapped.
pub fn map_path(path: &Path) -> Res<Bytes> {
    let unreadable = |e: io::Error| Fail::new(codes::UNREADABLE, format!("`{}`: {e}", path.display()));
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Fail::new(codes::UNREADABLE, format!("`{}` is not a regular file", path.display())));
    }
    File::open(path).and_then(|f| map(&f)).map_err(unreadable)
}

/// The contents of an open regular file, mapped.
pub fn map(file: &File) -> io::Result<Bytes> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only. That nobody shortens or rewrites the file while it is mapped is asked
    // of the user in the documentation of `import_file`, as by every program that maps files.
    #[allow(unsafe_code)]
    let mapping = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapping))
}
