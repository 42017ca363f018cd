//! Runs rewrite rules to a fixed point.

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::Program;

use crate::pass::{Pass, PassCx};
use crate::rewrite::{RuleSet, allowed, rewrite};
use crate::rules::RULES;

/// Simpler, same meaning.
pub const CANONICALIZE: Pass = Pass {
    name: "canonicalize",
    why: "one form for each meaning: later passes and codegen meet fewer cases",
    run: |program, cx| run(program, cx, &["canon", "fast"]),
};

/// Scales and shifts into weights.
pub const FOLD_SCALES: Pass = Pass {
    name: "fold_scales",
    why: "batch normalization after a contraction costs nothing when its weights are scaled instead",
    run: |program, cx| run(program, cx, &["fold"]),
};

fn run(program: &mut Program, cx: &mut PassCx, groups: &[&str]) -> Result<bool, Diagnostic> {
    let numerics = cx.options.numerics;
    let in_groups = |name: &str| name.split_once('/').is_some_and(|(group, _)| groups.contains(&group));
    let rules = RULES.iter().copied().filter(|r| in_groups(r.name) && allowed(r.kind, numerics));
    rewrite(program, &RuleSet::new(rules), cx)
}
