//! THE list of passes, in the order they run, with the reason for each.

use crate::pass::Pass;
use crate::passes::{bind, control, cse, dce, fold, rules, shapes, splat};

/// Passes that are repeated together while they change anything, `rounds` times at most.
pub struct Stage {
    /// The passes, in order.
    pub passes: &'static [Pass],
    /// Largest number of rounds.
    pub rounds: usize,
}

/// The pipeline.
pub const PIPELINE: &[Stage] = &[
    // What nothing uses should cost no time below.
    Stage { passes: &[dce::PASS], rounds: 1 },
    // Each makes work for the others: a folded condition frees a branch, whose shapes fold, which frees a reshape.
    Stage {
        passes: &[
            splat::PASS,
            rules::CANONICALIZE,
            shapes::PASS,
            fold::PASS,
            bind::PASS,
            control::PASS,
            cse::PASS,
            dce::PASS,
        ],
        rounds: 16,
    },
    // Only now: constants are constants, and scales sit next to the contractions they belong to.
    Stage {
        passes: &[rules::FOLD_SCALES, splat::PASS, rules::CANONICALIZE, fold::PASS, cse::PASS, dce::PASS],
        rounds: 16,
    },
];
