//! Reads artifacts. Whatever the bytes are, the outcome is a checked artifact or an error.

use std::ops::Range;
use std::path::Path;

use super::Metadata;
use super::digest::digest;
use super::format::{self, Kind, Section};
use crate::device::memory::{Block, FileBytes};
use crate::device::{Device, cuda};
use crate::error::{Error, Result};
use crate::model::check_plan;
use crate::plan::Plan;
use crate::threads;

/// How an artifact is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Whether the digest of the weights is verified too, which reads them all. The other sections always are.
    pub verify_weights: bool,
    /// Threads that verify them, the caller's included; by default one per physical core this process may use.
    pub threads: Option<usize>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { verify_weights: true, threads: None }
    }
}

/// A variant that this machine cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its target.
    pub target: String,
    /// What is missing.
    pub why: String,
}

/// A section, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// `metadata`, `plan`, `code` or `weights`.
    pub kind: &'static str,
    /// Number of the variant a plan or code belongs to.
    pub variant: u32,
    /// Byte offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// BLAKE3 digest: of the content, or for weights of a list of hashes of their pieces.
    pub digest: [u8; 32],
}

/// An opened artifact whose digests are verified.
pub struct Artifact {
    file: FileBytes,
    sections: Vec<Section>,
    metadata: Metadata,
}

impl Artifact {
    /// Opens a file, which is mapped and must not be changed while the artifact or its model lives.
    pub fn open(path: impl AsRef<Path>) -> Result<Artifact> {
        Artifact::open_with(path, &LoadOptions::default())
    }

    /// As [`Artifact::open`], with options.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Artifact> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).and_then(|file| {
            // An empty file cannot be mapped everywhere.
            if file.metadata()?.len() == 0 { Ok(FileBytes::Block(Block::empty())) } else { FileBytes::map(&file) }
        });
        let file = file.map_err(|source| Error::Io { what: format!("opening `{}`", path.display()), source })?;
        Artifact::from_file(file, options)
    }

    /// Reads an artifact from memory; the bytes are copied.
    pub fn from_bytes(bytes: &[u8]) -> Result<Artifact> {
        // Not copied before it looks like an artifact.
        format::decode(bytes)?;
        Artifact::from_file(FileBytes::Block(Block::copy_of(bytes)?), &LoadOptions::default())
    }

    fn from_file(file: FileBytes, options: &LoadOptions) -> Result<Artifact> {
        let sections = format::decode(file.bytes())?;
        for section in &sections {
            let is_skipped = section.kind == Kind::Weights && !options.verify_weights;
            if !is_skipped && !is_intact(content(&file, section), section, options) {
                return Err(Error::Damaged(format!("the {} section", section.kind.name())));
            }
        }
        let metadata: Metadata = decode_section(&file, &sections, Kind::Metadata, 0)?;
        check_table(&sections, metadata.variants.len())?;
        Ok(Artifact { file, sections, metadata })
    }

    /// What the artifact says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All sections, in the file's order.
    pub fn sections(&self) -> Vec<SectionInfo> {
        let info = |section: &Section| SectionInfo {
            kind: section.kind.name(),
            variant: section.variant,
            offset: section.offset,
            len: section.len,
            digest: section.digest,
        };
        self.sections.iter().map(info).collect()
    }

    /// Plan of a variant, checked as for a run.
    pub fn plan(&self, variant: usize) -> Result<Plan> {
        let plan = self.unchecked_plan(variant)?;
        check_plan(&plan, self.code(variant).len() as u64, self.weights().len() as u64)?;
        if self.metadata.variants[variant].arch == cuda::ARCH {
            cuda::check_text(&plan, self.code(variant))?;
        }
        Ok(plan)
    }

    /// Plan of a variant as it was decoded.
    pub(crate) fn unchecked_plan(&self, variant: usize) -> Result<Plan> {
        decode_section(&self.file, &self.sections, Kind::Plan, variant)
    }

    /// Machine code of a variant; empty when there is no such variant.
    pub fn code(&self, variant: usize) -> &[u8] {
        find(&self.sections, Kind::Code, variant).map_or(&[], |section| content(&self.file, section))
    }

    /// The weights of all variants.
    pub fn weights(&self) -> &[u8] {
        find(&self.sections, Kind::Weights, 0).map_or(&[], |section| content(&self.file, section))
    }

    /// The best variant for this machine's processor, and why others are refused: of those whose architecture and
    /// features are present, the one that uses the most features, and of several the first.
    pub fn choose(&self) -> Result<(usize, Vec<Refusal>)> {
        self.choose_for(&Device::cpu())
    }

    /// As [`Artifact::choose`], for a device: on a GPU the variant of the newest generation that it can run.
    pub fn choose_for(&self, device: &Device) -> Result<(usize, Vec<Refusal>)> {
        let mut refused = Vec::new();
        let mut best: Option<(usize, u64)> = None;
        for (number, variant) in self.metadata.variants.iter().enumerate() {
            match device.suits(variant) {
                Err(why) => refused.push(Refusal { target: variant.target.clone(), why }),
                Ok(score) if best.is_none_or(|(_, best)| score > best) => best = Some((number, score)),
                Ok(_) => {}
            }
        }
        match best {
            Some((number, _)) => Ok((number, refused)),
            None if refused.is_empty() => Err(Error::NoVariant("it has none".into())),
            None => {
                let reasons: Vec<String> =
                    refused.iter().map(|refusal| format!("`{}`: {}", refusal.target, refusal.why)).collect();
                Err(Error::NoVariant(reasons.join("; ")))
            }
        }
    }

    /// Where the weights lie in the file.
    pub(crate) fn weights_range(&self) -> Range<usize> {
        find(&self.sections, Kind::Weights, 0).map_or(0..0, range)
    }

    /// Metadata and bytes.
    pub(crate) fn into_parts(self) -> (Metadata, FileBytes) {
        (self.metadata, self.file)
    }
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifact").field("metadata", &self.metadata).field("sections", &self.sections).finish()
    }
}

/// Code and weights must be addressable.
pub(crate) fn check_sizes(code_len: u64, weights_len: u64) -> Result<()> {
    let addressable = isize::MAX as u64;
    if code_len > addressable || weights_len > addressable {
        return Err(Error::BadPlan("code or weights exceed the address space".into()));
    }
    Ok(())
}

/// Each variant has one plan and one code section; metadata and weights are there once at most.
fn check_table(sections: &[Section], variants: usize) -> Result<()> {
    let bad = |problem: String| Err(Error::Truncated(problem));
    for (number, section) in sections.iter().enumerate() {
        let is_double =
            sections[..number].iter().any(|other| (other.kind, other.variant) == (section.kind, section.variant));
        let of_variant = matches!(section.kind, Kind::Plan | Kind::Code);
        let is_known = if of_variant { (section.variant as usize) < variants } else { section.variant == 0 };
        if is_double || !is_known {
            return bad(format!("the {} section of variant {} is not expected", section.kind.name(), section.variant));
        }
    }
    let expected = sections.iter().filter(|section| matches!(section.kind, Kind::Plan | Kind::Code)).count();
    if Some(expected) != variants.checked_mul(2) {
        return bad("a variant lacks its plan or its code".into());
    }
    Ok(())
}

fn find(sections: &[Section], kind: Kind, variant: usize) -> Option<&Section> {
    sections.iter().find(|section| section.kind == kind && section.variant as usize == variant)
}

/// Sections lie within the file: `format::decode` has checked it.
fn range(section: &Section) -> Range<usize> {
    section.offset as usize..(section.offset + section.len) as usize
}

fn is_intact(content: &[u8], section: &Section, options: &LoadOptions) -> bool {
    let found = match section.kind {
        Kind::Weights => digest(content, options.threads.unwrap_or_else(threads::default_threads)),
        Kind::Metadata | Kind::Plan | Kind::Code => blake3::hash(content),
    };
    found == blake3::Hash::from_bytes(section.digest)
}

fn content<'f>(file: &'f FileBytes, section: &Section) -> &'f [u8] {
    &file.bytes()[range(section)]
}

fn decode_section<T: serde::de::DeserializeOwned>(
    file: &FileBytes,
    sections: &[Section],
    kind: Kind,
    variant: usize,
) -> Result<T> {
    let Some(section) = find(sections, kind, variant) else {
        return Err(Error::Truncated(format!("there is no {} section", kind.name())));
    };
    let (value, rest) = postcard::take_from_bytes(content(file, section))
        .map_err(|error| Error::BadPlan(format!("the {} section cannot be decoded: {error}", kind.name())))?;
    if !rest.is_empty() {
        return Err(Error::BadPlan(format!("the {} section is longer than what it holds", kind.name())));
    }
    Ok(value)
}
