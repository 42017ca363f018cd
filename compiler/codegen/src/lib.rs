//! Graph to kernels and plan: clusters, templates, layouts and memory.
//!
//! Reading order: [`group`] decides what shares a kernel ([`attention`] where it is one), [`layout`] how values are stored, [`lower`] walks the groups,
//! [`kernels`] builds them, [`memory`] places the buffers. The target is known only as data.

#![forbid(unsafe_code)]

pub mod attention;
pub mod control;
pub mod eval;
pub mod group;
pub mod kb;
pub mod kernels;
pub mod layout;
pub mod lower;
pub mod memory;
pub mod pack;
pub mod plan;
pub mod probe;
pub mod tied;
pub mod toom_cook;
pub mod view;

use xlac_ir::backend::Target;
use xlac_ir::graph::{Loc, Program};

/// The numeric contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Numerics {
    /// Reassociation within the stated error bounds.
    #[default]
    Fast,
    /// The same bits on every target.
    Exact,
}

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Numeric contract.
    pub numerics: Numerics,
    /// Core ops (`top_k`, `non_zero`) that a GPU may leave to the host.
    pub allow_host: Vec<String>,
}

/// Why a program cannot be lowered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct CompileError {
    /// Lower case, no final stop.
    pub reason: String,
    /// Origin.
    pub loc: Loc,
}

/// Lowers a program to kernels and a plan for a target.
pub fn compile(program: &Program, target: &Target, options: &Options) -> Result<plan::Plan, CompileError> {
    lower::lower(program, target, options)
}
