//! What happened during optimization.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use xlac_ir::diag::Diagnostic;

/// One run of one pass.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// Pass name.
    pub pass: &'static str,
    /// Time it took, verification not included.
    pub time: Duration,
    /// True if it changed the program.
    pub changed: bool,
}

/// Why a rule did not match a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MissReport {
    /// Rule name.
    pub rule: &'static str,
    /// ONNX names the node comes from.
    pub node: String,
    /// The reason.
    pub reason: String,
}

/// What happened during optimization.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Passes in the order they ran.
    pub passes: Vec<PassReport>,
    /// How often each rule was applied.
    pub rules: BTreeMap<&'static str, u64>,
    /// Why the rule of `Options::explain` did not match.
    pub misses: Vec<MissReport>,
    /// What the user has to know: a limit that was reached.
    pub notes: Vec<Diagnostic>,
    /// Bytes of weights that folding produced.
    pub folded_bytes: usize,
    seen: HashSet<MissReport>,
}

impl Report {
    /// Notes a miss, once.
    pub fn miss(&mut self, miss: MissReport) {
        // Sweeps visit a node several times.
        if self.seen.insert(miss.clone()) {
            self.misses.push(miss);
        }
    }
}
