//! Kernels and plans against the interpreter, bit for bit with exact numerics, for several machines.

mod attention;
mod bytes;
mod fip;
mod gpu_contract;
mod harness;
mod indexing;
mod layers;
mod matrices;
mod recurrent;
mod sim;
mod strassen;
mod teams;
mod tied;
mod winograd;

use harness::{Outcome, compare, targets};
use xlac_ir::DType;
use xlac_ir::random::{self, Options};
use xlac_ir::text;

/// Number of random programs; more with the environment variable `XLAC_RANDOM`.
fn count() -> u64 { std::env::var("XLAC_RANDOM").ok().and_then(|n| n.parse().ok()).unwrap_or(150) }

/// Compares random programs; panics with everything that differs.
fn random_programs(seeds: std::ops::Range<u64>, options: &Options, exact: bool) {
    let mut wrong = Vec::new();
    for seed in seeds {
        let program = random::program(seed, options);
        let target = targets().swap_remove(seed as usize % 5);
        let inputs = random::inputs(&program, &random::sizes(&program, seed), seed).expect("sizes of all symbols");
        let run = || compare(&program, &inputs, &target, exact);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        match outcome {
            Ok(Outcome::Same | Outcome::Failed | Outcome::Skipped) => {}
            Ok(Outcome::Refused(why)) => wrong.push(format!("seed {seed}: refused: {why}")),
            Ok(Outcome::Wrong(why)) => wrong.push(format!("seed {seed}: {why}\n{}", text::print(&program))),
            Err(_) => wrong.push(format!("seed {seed}: panic\n{}", text::print(&program))),
        }
    }
    assert!(wrong.is_empty(), "{} programs differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn small_random_programs() {
    let options = Options { steps: 4, control_flow: false, data_dependent: false, ..Options::default() };
    random_programs(0..count(), &options, true);
}

#[test]
fn random_programs_with_everything() {
    random_programs(0..count(), &Options { steps: 12, ..Options::default() }, true);
    random_programs(0..count() / 8, &Options { steps: 40, ..Options::default() }, true);
}

#[test]
fn random_programs_with_fast_numerics() {
    let options = Options { steps: 10, well_conditioned: true, dtypes: vec![DType::F32, DType::F64], ..Options::default() };
    random_programs(0..count(), &options, false);
}
