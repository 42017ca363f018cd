//! Layout of header and section table.

use crate::error::{Error, Result};

/// Version of the format; a reader reads its own only.
pub const FORMAT_VERSION: u32 = 3;
/// First bytes; the line ends show transfers that changed them.
pub(crate) const MAGIC: [u8; 8] = *b"XLAC\r\n\x1a\n";
/// Length of header and table; the first section starts here, on a page of its own.
pub(crate) const HEADER_LEN: usize = 4096;
/// Bytes of one table entry, and of the part before the table.
pub(crate) const ENTRY_LEN: usize = 64;
/// Most sections a table holds.
pub(crate) const MAX_SECTIONS: usize = HEADER_LEN / ENTRY_LEN - 1;
/// Where the header's digest is; it counts as zeros when the digest is taken.
const DIGEST: std::ops::Range<usize> = 32..64;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// [`super::Metadata`].
    Metadata = 1,
    /// [`crate::plan::Plan`] of a variant.
    Plan = 2,
    /// Machine code of a variant.
    Code = 3,
    /// Weights of all variants.
    Weights = 4,
}

impl Kind {
    /// Name in listings and errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Metadata => "metadata",
            Kind::Plan => "plan",
            Kind::Code => "code",
            Kind::Weights => "weights",
        }
    }

    fn of(number: u32) -> Option<Kind> {
        [Kind::Metadata, Kind::Plan, Kind::Code, Kind::Weights].into_iter().find(|&kind| kind as u32 == number)
    }
}

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: Kind,
    /// Variant it belongs to; 0 for metadata and weights.
    pub(crate) variant: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) digest: [u8; 32],
}

/// Header and table as bytes.
pub(crate) fn encode(sections: &[Section], file_len: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
    header[16..20].copy_from_slice(&(sections.len() as u32).to_le_bytes());
    header[24..32].copy_from_slice(&file_len.to_le_bytes());
    for (section, entry) in sections.iter().zip(header[ENTRY_LEN..].chunks_exact_mut(ENTRY_LEN)) {
        entry[..4].copy_from_slice(&(section.kind as u32).to_le_bytes());
        entry[4..8].copy_from_slice(&section.variant.to_le_bytes());
        entry[8..16].copy_from_slice(&section.offset.to_le_bytes());
        entry[16..24].copy_from_slice(&section.len.to_le_bytes());
        entry[32..64].copy_from_slice(&section.digest);
    }
    let digest = blake3::hash(&header);
    header[DIGEST].copy_from_slice(digest.as_bytes());
    header
}

/// Reads and checks header and table; every section lies within the file.
pub(crate) fn decode(file: &[u8]) -> Result<Vec<Section>> {
    if file.get(..8) != Some(&MAGIC) {
        return Err(Error::NotAnArtifact);
    }
    let truncated = |what: &str| Error::Truncated(what.into());
    let found = file.get(8..12).map(u32_at).ok_or_else(|| truncated("the header is incomplete"))?;
    if found != FORMAT_VERSION {
        return Err(Error::Version { found, supported: FORMAT_VERSION });
    }
    let stored: &[u8; HEADER_LEN] = file.first_chunk().ok_or_else(|| truncated("the header is incomplete"))?;
    let mut header = *stored;
    header[DIGEST].fill(0);
    if blake3::hash(&header) != blake3::Hash::from_slice(&stored[DIGEST]).map_err(|_| damaged_header())? {
        return Err(damaged_header());
    }
    let count = u32_at(&header[16..20]) as usize;
    if u32_at(&header[12..16]) as usize != HEADER_LEN || count > MAX_SECTIONS {
        return Err(truncated("the header has impossible lengths"));
    }
    let file_len = u64_at(&header[24..32]);
    if file_len != file.len() as u64 {
        return Err(Error::Truncated(format!("the file has {} bytes of {file_len}", file.len())));
    }
    header[ENTRY_LEN..].chunks_exact(ENTRY_LEN).take(count).map(|entry| decode_entry(entry, file_len)).collect()
}

fn decode_entry(entry: &[u8], file_len: u64) -> Result<Section> {
    let kind = Kind::of(u32_at(entry)).ok_or_else(|| Error::Truncated("a section is of unknown kind".into()))?;
    let (offset, len) = (u64_at(&entry[8..]), u64_at(&entry[16..]));
    let end = offset.checked_add(len);
    let is_inside = offset >= HEADER_LEN as u64 && end.is_some_and(|end| end <= file_len);
    if !is_inside || !offset.is_multiple_of(64) {
        return Err(Error::Truncated(format!("the {} section lies outside the file", kind.name())));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(&entry[32..64]);
    Ok(Section { kind, variant: u32_at(&entry[4..]), offset, len, digest })
}

fn damaged_header() -> Error {
    Error::Damaged("the header".into())
}

fn u32_at(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn u64_at(bytes: &[u8]) -> u64 {
    u64::from(u32_at(bytes)) | u64::from(u32_at(&bytes[4..])) << 32
}
