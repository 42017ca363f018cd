//! Tests of the simulator: instructions against Rust arithmetic, kernels against plain loops, checkers against
//! planted bugs.

// Tables of cases pair names with functions.
#![allow(clippy::type_complexity)]

mod bugs;
mod conversions;
mod floats;
mod integers;
mod kernels;
mod launches;
mod matrix;
mod schedules;
mod speed;
mod support;
mod syntax;
mod warps;
