//! Writes artifacts: weights first, as a stream, then the variants, then the metadata. Same input, same bytes.

use std::io::{Seek, SeekFrom, Write};

use super::digest::Digester;
use super::format::{self, HEADER_LEN, Kind, MAX_SECTIONS, Section};
use super::{Metadata, VariantInfo};
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::model::check_plan;
use crate::plan::Plan;

/// Alignment of sections and weights.
const ALIGN: u64 = 64;
/// Bytes that are written at a time, at multiples of as many: a huge page. Linux keeps in memory what was written in the
/// pieces it came in, and maps a file of such pieces without a fault for every 4 KB of it, which for 159 MB takes 8 ms.
const WRITE: usize = 2 << 20;

/// Writes an artifact to anything that can seek. Without [`ArtifactWriter::finish`] the file has no valid header.
pub struct ArtifactWriter<W: Write + Seek> {
    to: W,
    position: u64,
    /// The last bytes before `position`, not yet written.
    pending: Vec<u8>,
    sections: Vec<Section>,
    variants: Vec<VariantInfo>,
    /// Digest of the open weights section.
    weights: Option<Digester>,
    weights_len: u64,
    weights_closed: bool,
}

impl<W: Write + Seek> ArtifactWriter<W> {
    /// Begins an artifact at the start of `to`.
    pub fn new(mut to: W) -> Result<ArtifactWriter<W>> {
        to.seek(SeekFrom::Start(0)).map_err(io_error)?;
        let mut pending = Vec::with_capacity(WRITE);
        pending.resize(HEADER_LEN, 0);
        Ok(ArtifactWriter {
            to,
            position: HEADER_LEN as u64,
            pending,
            sections: Vec::new(),
            variants: Vec::new(),
            weights: None,
            weights_len: 0,
            weights_closed: false,
        })
    }

    /// Writes a weight and returns its offset in the weights section, aligned to 64 bytes. All weights come before the
    /// first variant.
    pub fn write_weight(&mut self, bytes: &[u8]) -> Result<u64> {
        let offset = self.start_weight()?;
        self.extend_weight(bytes)?;
        Ok(offset)
    }

    /// Begins a weight that [`ArtifactWriter::extend_weight`] will fill, and returns its offset.
    pub fn start_weight(&mut self) -> Result<u64> {
        if self.weights_closed {
            return Err(Error::Writer("all weights must be written before the first variant".into()));
        }
        if self.weights.is_none() {
            self.weights = Some(Digester::new());
            self.sections.push(Section {
                kind: Kind::Weights,
                variant: 0,
                offset: self.position,
                len: 0,
                digest: [0; 32],
            });
        }
        let padding = self.weights_len.next_multiple_of(ALIGN) - self.weights_len;
        self.extend_weight(&[0; ALIGN as usize][..padding as usize])?;
        Ok(self.weights_len)
    }

    /// Appends to the weight begun last.
    pub fn extend_weight(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(digester) = &mut self.weights else {
            return Err(Error::Writer("no weight was begun".into()));
        };
        digester.update(bytes);
        self.weights_len += bytes.len() as u64;
        self.write(bytes)
    }

    /// Bytes of weights written so far.
    pub fn weights_len(&self) -> u64 {
        self.weights_len
    }

    /// Adds a variant, after checking its plan as loading it would. Put the generic ones first: of variants that need
    /// equally many features, the runtime takes the first.
    pub fn add_variant(&mut self, info: VariantInfo, plan: &Plan, code: &[u8]) -> Result<()> {
        self.close_weights()?;
        if self.sections.len() + 3 > MAX_SECTIONS {
            return Err(Error::Writer(format!("an artifact holds {} variants at most", (MAX_SECTIONS - 2) / 2)));
        }
        check_plan(plan, code.len() as u64, self.weights_len)?;
        if info.arch == cuda::ARCH {
            cuda::check_text(plan, code)?;
        }
        let variant = self.variants.len() as u32;
        self.section(Kind::Plan, variant, &encode(plan)?)?;
        self.section(Kind::Code, variant, code)?;
        self.variants.push(info);
        Ok(())
    }

    /// Writes metadata and header and returns what was written to. The list of variants in `metadata` is replaced.
    pub fn finish(mut self, mut metadata: Metadata) -> Result<W> {
        self.close_weights()?;
        metadata.variants = std::mem::take(&mut self.variants);
        self.section(Kind::Metadata, 0, &encode(&metadata)?)?;
        let header = format::encode(&self.sections, self.position);
        self.to
            .write_all(&self.pending)
            .and_then(|_| self.to.seek(SeekFrom::Start(0)))
            .and_then(|_| self.to.write_all(&header))
            .and_then(|_| self.to.flush())
            .map_err(io_error)?;
        Ok(self.to)
    }

    fn close_weights(&mut self) -> Result<()> {
        self.weights_closed = true;
        if let Some(digester) = self.weights.take() {
            let len = self.weights_len;
            if let Some(section) = self.sections.last_mut() {
                section.len = len;
                section.digest = *digester.finish().as_bytes();
            }
        }
        self.align()
    }

    fn section(&mut self, kind: Kind, variant: u32, bytes: &[u8]) -> Result<()> {
        self.align()?;
        let digest = *blake3::hash(bytes).as_bytes();
        self.sections.push(Section { kind, variant, offset: self.position, len: bytes.len() as u64, digest });
        self.write(bytes)
    }

    fn align(&mut self) -> Result<()> {
        let padding = self.position.next_multiple_of(ALIGN) - self.position;
        self.write(&[0; ALIGN as usize][..padding as usize])
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        while let Some((head, rest)) = bytes.split_at_checked(WRITE - self.pending.len()) {
            self.pending.extend_from_slice(head);
            self.to.write_all(&self.pending).map_err(io_error)?;
            self.pending.clear();
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|error| Error::Writer(format!("encoding failed: {error}")))
}

fn io_error(source: std::io::Error) -> Error {
    Error::Io { what: "writing the artifact".into(), source }
}
