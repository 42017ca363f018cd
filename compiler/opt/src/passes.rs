//! Passes: what rules cannot say, and the runs of the rules themselves.

pub mod bind;
pub mod control;
pub mod cse;
pub mod dce;
pub mod fold;
pub mod rules;
pub mod shapes;
pub mod splat;

use crate::pass::Pass;

/// Every pass, by name.
pub const PASSES: &[Pass] = &[
    bind::PASS,
    rules::CANONICALIZE,
    control::PASS,
    cse::PASS,
    dce::PASS,
    fold::PASS,
    rules::FOLD_SCALES,
    shapes::PASS,
    splat::PASS,
];
