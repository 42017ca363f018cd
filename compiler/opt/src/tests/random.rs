//! The pipeline on random programs: the same bits with exact numerics, whatever the fuel.

use xlac_ir::random as ir_random;
use xlac_ir::{text, verify};

use super::{difference, outputs};
use crate::{Numerics, Options, optimize};

/// Number of programs; more with the environment variable `XLAC_RANDOM`.
fn count() -> u64 {
    std::env::var("XLAC_RANDOM").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

fn check(seed: u64, options: &ir_random::Options, fuel: Option<u64>) {
    let before = ir_random::program(seed, options);
    let mut after = before.clone();
    let mut o = Options { numerics: Numerics::Exact, verify: true, fuel, ..Options::default() };
    let shown = || text::print(&before);
    let report = optimize(&mut after, &mut o).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", shown()));
    // Scales in weights round elsewhere: the well-conditioned programs of the next test are compared within a bound.
    assert!(report.notes.is_empty(), "seed {seed}: {:?}", report.notes);
    let folded = report.rules.keys().any(|r| r.starts_with("fold/"));
    verify::verify(&after).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
    for data in if folded { 0..0 } else { 1..4 } {
        // What dead code checks is not checked any more; what ran before must run, and give the same.
        let Ok(expected) = outputs(&before, &before, data) else { continue };
        let found = outputs(&after, &before, data).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", shown()));
        if let Some(why) = difference(&expected, &found, None) {
            panic!("seed {seed}, data {data}: {why}\n{}\n{}", shown(), text::print(&after));
        }
    }
}

#[test]
fn random_programs_keep_their_bits() {
    for seed in 0..count() {
        check(seed, &ir_random::Options { steps: 25, ..Default::default() }, None);
    }
}

/// Within an error bound for programs that do not blow differences up.
#[test]
fn fast_numerics_stay_close() {
    let options = ir_random::Options {
        steps: 25,
        well_conditioned: true,
        dtypes: vec![xlac_ir::DType::F32],
        ..Default::default()
    };
    for seed in 0..count() / 2 {
        let before = ir_random::program(seed, &options);
        let mut after = before.clone();
        optimize(&mut after, &mut Options { verify: true, ..Options::default() }).unwrap();
        // Seeds without infinities: they turn small differences into NaN.
        for data in [1, 2] {
            let Ok(expected) = outputs(&before, &before, data) else { continue };
            let found = outputs(&after, &before, data).unwrap();
            let why = difference(&expected, &found, Some(1e-4));
            assert_eq!(why, None, "seed {seed}\n{}\n{}", text::print(&before), text::print(&after));
        }
    }
}

#[test]
fn any_amount_of_fuel_gives_a_valid_program() {
    for seed in 0..count() / 8 {
        check(seed, &ir_random::Options { steps: 15, ..Default::default() }, Some(seed % 7));
    }
}
