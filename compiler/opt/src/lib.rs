//! Graph to graph: makes a program simpler without changing what it means. Knows no file format and no target.
//!
//! Reading order: [`pipeline`] is the list of passes with the reason for each, [`pass`] runs it, [`passes`] holds what
//! rules cannot say, [`rules`] one rewrite rule per file, [`rule`] and [`pattern`] what a rule is, [`edit`] and
//! [`rewrite`] how it is applied.
#![forbid(unsafe_code)]

pub mod cost;
pub mod edit;
pub mod pass;
pub mod passes;
pub mod pattern;
pub mod pipeline;
pub mod report;
pub mod rewrite;
pub mod rule;
pub mod rules;
pub mod subst;
#[cfg(test)]
mod tests;

use std::time::Duration;

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::Program;

pub use report::{MissReport, PassReport, Report};

/// Which rewrites may change bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Numerics {
    /// Only rewrites that keep every bit, and folds into weights: those happen once, before any target sees the graph,
    /// so all targets still agree.
    Exact,
    /// Also rewrites that reassociate or use reciprocals.
    #[default]
    Fast,
}

/// Receives the program's text after each pass: pass name, text.
pub type Dump<'a> = &'a mut dyn FnMut(&str, &str);

/// What the user can choose.
pub struct Options<'a> {
    /// Which rewrites are allowed.
    pub numerics: Numerics,
    /// Verify after every pass. On in debug builds.
    pub verify: bool,
    /// Stop after the first pass of this name.
    pub stop_after: Option<String>,
    /// Run only these passes, once each and in this order, instead of the pipeline.
    pub passes: Option<Vec<String>>,
    /// At most this many rewrites and folds: bisecting it finds the one that breaks a program.
    pub fuel: Option<u64>,
    /// Bytes one fold may always produce; it may also produce twice its operands.
    pub fold_bytes: usize,
    /// Bytes that folds which only rearrange or scale weights may produce together, if 1.5 times the weights are less.
    pub weight_bytes: usize,
    /// After this time only cleanup runs; the report then has a note.
    pub time_limit: Duration,
    /// Collect why this rule did not match.
    pub explain: Option<String>,
    /// Receives the text of the program after each pass.
    pub dump: Option<Dump<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            numerics: Numerics::Fast,
            verify: cfg!(debug_assertions),
            stop_after: None,
            passes: None,
            fuel: None,
            fold_bytes: 1 << 20,
            weight_bytes: 64 << 20,
            time_limit: Duration::from_secs(300),
            explain: None,
            dump: None,
        }
    }
}

/// Runs the pipeline. On an error the program is left half rewritten and must not be used.
pub fn optimize(program: &mut Program, options: &mut Options) -> Result<Report, Diagnostic> {
    pass::run_pipeline(program, options)
}

/// Why a rule did not match, for every node that its pattern could have started at. The program is not changed.
pub fn misses(program: &Program, rule: &str, numerics: Numerics) -> Result<Vec<MissReport>, Diagnostic> {
    if !rules::RULES.iter().any(|r| r.name == rule) {
        let help = "`xlac explain --rules` lists them".to_string();
        return Err(Diagnostic::error("X0722", format!("no rewrite rule is called `{rule}`")).help(help));
    }
    let mut options = Options { numerics, explain: Some(rule.into()), ..Options::default() };
    let report = optimize(&mut program.clone(), &mut options)?;
    Ok(report.misses)
}
