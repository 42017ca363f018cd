//! `--numerics fast` on random programs: the interpreter and every engine agree within the error bound.

use xlac::Numerics;
use xlac::compare::{Tolerance, difference};
use xlac::engine::Engine;
use xlac_ir::random::{self, Options};
use xlac_tests::{compile, engines, is_refusal, optimized};

/// Programs to try.
const PROGRAMS: u64 = 150;

fn compare(options: &Options, first: u64, numerics: Numerics) {
    for name in engines() {
        let mut ran = 0;
        for seed in first..first + PROGRAMS {
            let original = random::program(seed, options);
            let sizes = random::sizes(&original, seed);
            let inputs = random::inputs(&original, &sizes, seed).expect("sizes for every symbol");
            let expected = Engine::Interp(Box::new(original.clone())).run(&inputs).expect("random programs run");
            let program = optimized(original, numerics);
            let mut engine = match compile(&program, name, numerics, 2) {
                Ok(engine) => engine,
                Err(errors) if is_refusal(&errors) => continue,
                Err(errors) => panic!("seed {seed}, {name}: {}\n{}", errors[0], xlac_ir::text::print(&program)),
            };
            let text = || xlac_ir::text::print(&program);
            let got = engine.run(&inputs).unwrap_or_else(|e| panic!("seed {seed}, {name}: {e}\n{}", text()));
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let d = difference(got, expected, Tolerance::scaled_to(expected));
                assert!(d.is_fine(), "seed {seed}, {name}, output {i}: {}\n{}", d.describe(got, expected), text());
            }
            ran += 1;
        }
        eprintln!("{name}: {ran} of {PROGRAMS} random programs compiled and agreed");
        assert!(ran * 2 >= PROGRAMS, "{name}: only {ran} programs were not refused");
    }
}

#[test]
fn straight_programs_agree() {
    let options = Options { well_conditioned: true, control_flow: false, data_dependent: false, ..Options::default() };
    compare(&options, 1000, Numerics::Fast);
}

#[test]
fn programs_with_control_flow_agree() {
    compare(&Options { well_conditioned: true, ..Options::default() }, 5000, Numerics::Fast);
}
