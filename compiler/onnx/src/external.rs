//! External tensor data: files beneath the model's folder, opened so that a model cannot reach any other file.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::fail::{Fail, Res, bail, ensure};
use crate::proto::TensorProto;
use crate::{codes, file};

/// The folder of a model, and the files of it that are mapped already.
#[derive(Default)]
pub struct External {
    folder: Option<PathBuf>,
    dir: Option<Dir>,
    files: HashMap<String, Bytes>,
}

impl External {
    /// Files beneath `folder`; without one every external tensor is an error.
    pub fn new(folder: Option<&Path>) -> External { External { folder: folder.map(Into::into), ..External::default() } }

    /// The bytes an external tensor refers to; `expected` is what its type and shape ask for.
    pub fn load(&mut self, tensor: &TensorProto, expected: usize) -> Res<Bytes> {
        let place = Place::parse(tensor)?;
        let file = self.open(place.location)?;
        let length = place.length.unwrap_or(expected as u64);
        let end = place.offset.checked_add(length).filter(|&end| end <= file.len() as u64);
        let Some(end) = end else {
            bail!(
                EXTERNAL_RANGE,
                "tensor `{}` takes {length} bytes at offset {} of `{}`, which has {} bytes",
                tensor.name, place.offset, place.location, file.len()
            )
        };
        Ok(file.slice(place.offset as usize..end as usize))
    }

    fn open(&mut self, location: &str) -> Res<Bytes> {
        if let Some(bytes) = self.files.get(location) {
            return Ok(bytes.clone());
        }
        let path = Path::new(location);
        let plain = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        ensure!(
            plain && !location.is_empty() && !location.contains('\0'),
            EXTERNAL_PATH,
            "external data `{}` does not lie beneath the model's folder",
            location.escape_debug()
        );
        let bytes = map_beneath(self.dir()?, path)?;
        self.files.insert(location.to_string(), bytes.clone());
        Ok(bytes)
    }

    fn dir(&mut self) -> Res<&Dir> {
        if self.dir.is_none() {
            let Some(folder) = &self.folder else {
                bail!(EXTERNAL_OFF, "the model has external data, but no folder to read it from was given")
            };
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let dir = Dir::open_ambient_dir(folder, ambient_authority())
                .map_err(|e| Fail::new(codes::EXTERNAL_OPEN, format!("`{}`: {e}", folder.display())))?;
            self.dir = Some(dir);
        }
        self.dir.as_ref().ok_or_else(|| Fail::new(codes::EXTERNAL_OFF, "the model's folder is not open"))
    }
}

/// Maps a file; the directory handle refuses paths and links that lead out of it.
fn map_beneath(dir: &Dir, path: &Path) -> Res<Bytes> {
    let failed = |e: std::io::Error| {
        let code = match e.kind() {
            std::io::ErrorKind::PermissionDenied => codes::EXTERNAL_PATH,
            _ => codes::EXTERNAL_OPEN,
        };
        Fail::new(code, format!("external data `{}`: {e}", path.display()))
    };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let meta = dir.metadata(path).map_err(failed)?;
    ensure!(meta.is_file(), EXTERNAL_OPEN, "external data `{}` is not a regular file", path.display());
    let file = dir.open(path).map_err(failed)?.into_std();
    file::map(&file).map_err(failed)
}

/// Where external data lies.
struct Place<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl<'a> Place<'a> {
    fn parse(tensor: &'a TensorProto) -> Res<Place<'a>> {
        let mut place = Place { location: "", offset: 0, length: None };
        let number = |text: &str| {
            let bad = |_| Fail::new(codes::EXTERNAL_INFO, format!("tensor `{}`: `{text}` is not a size", tensor.name));
            text.parse::<u64>().map_err(bad)
        };
        for entry in &tensor.external_data {
            match entry.key.as_str() {
                "location" => place.location = &entry.value,
                "offset" => place.offset = number(&entry.value)?,
                "length" => place.length = Some(number(&entry.value)?),
                // A checksum or a name of the exporter's own does not change what is read.
                _ => {}
            }
        }
        ensure!(!place.location.is_empty(), EXTERNAL_INFO, "tensor `{}`: external data without a location", tensor.name);
        Ok(place)
    }
}
