//! Parsed modules and what is known about their kernels before they run.

use std::sync::Arc;

use crate::fault::ParseError;
use crate::instr::Instr;
use crate::regs::{File, Init, Reg, Regs};

/// Parsed, decoded PTX.
#[derive(Debug)]
pub struct Module {
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) version: (u32, u32),
    pub(crate) target: String,
}

impl Module {
    /// Parses and decodes `text`; whatever is not understood is an error.
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        crate::parse::parse(text)
    }

    /// Names of the entry points, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|k| k.name.as_str())
    }

    /// The entry point named `name`.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|k| k.name == name)
    }

    /// The version that the text declares, for example `(7, 0)`.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The target that the text declares, for example `sm_80`.
    pub fn target(&self) -> &str {
        &self.target
    }
}

/// One parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamDecl {
    /// Its name.
    pub name: String,
    /// Where its value starts in the parameter bytes.
    pub offset: usize,
    /// Bytes of its value.
    pub size: usize,
    /// Its alignment.
    pub align: usize,
}

/// Register counts by file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub pred: usize,
    pub w32: usize,
    pub w64: usize,
}

/// One entry point.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) params: Vec<ParamDecl>,
    pub(crate) param_bytes: usize,
    pub(crate) max_threads: Option<[u32; 3]>,
    pub(crate) required_threads: Option<[u32; 3]>,
    pub(crate) shared_bytes: usize,
    /// Where dynamic shared memory starts, and its alignment.
    pub(crate) dynamic_offset: usize,
    pub(crate) local_bytes: usize,
    pub(crate) constants: Arc<[u8]>,
    pub(crate) code: Vec<Instr>,
    pub(crate) counts: Counts,
    pub(crate) registers: usize,
    pub(crate) inits: Vec<(Reg, Init)>,
    /// The narrowest accesses to shared and to global memory, in bytes.
    pub(crate) granules: (usize, usize),
    pub(crate) source: Arc<str>,
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters, in order.
    pub fn params(&self) -> &[ParamDecl] {
        &self.params
    }

    /// Bytes of all parameters together.
    pub fn param_bytes(&self) -> usize {
        self.param_bytes
    }

    /// The largest number of threads of a block: of `.reqntid`, of `.maxntid`, or 1024.
    pub fn max_threads(&self) -> u32 {
        self.required_threads.or(self.max_threads).map_or(1024, |n| n.iter().product())
    }

    /// The block size that `.reqntid` demands.
    pub fn required_threads(&self) -> Option<[u32; 3]> {
        self.required_threads
    }

    /// Bytes of shared memory besides what a launch adds.
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Virtual registers that its code names, predicates included.
    pub fn registers(&self) -> usize {
        self.registers
    }

    /// Instructions of its code.
    pub fn instructions(&self) -> usize {
        self.code.len()
    }

    /// Fresh registers of one warp.
    pub(crate) fn make_regs(&self) -> Regs {
        Regs::new(self.counts.pred, self.counts.w32, self.counts.w64)
    }

    /// Assigns the next slot of `file`.
    pub(crate) fn next_slot(counts: &mut Counts, file: File) -> Option<Reg> {
        let count = match file {
            File::Pred => &mut counts.pred,
            File::W32 => &mut counts.w32,
            File::W64 => &mut counts.w64,
        };
        let slot = u16::try_from(*count).ok()?;
        *count += 1;
        Some(Reg { file, slot })
    }
}
