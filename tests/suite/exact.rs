//! `--numerics exact`: the interpreter and every engine give the same bits, on any number of threads.

use xlac::engine::Engine;
use xlac::compare::{Tolerance, difference};
use xlac::{Numerics, Source};
use xlac_ir::random::{self, Options};
use xlac_tests::{committed_models, compile, device, engines, is_refusal, optimized, options};

/// Programs to try.
const PROGRAMS: u64 = 120;
/// At least so many must be compiled rather than refused.
const FLOOR: usize = 60;

#[test]
fn random_programs_have_the_same_bits() {
    for name in engines() {
        let mut ran = 0;
        for seed in 0..PROGRAMS {
            let program = optimized(random::program(seed, &Options::default()), Numerics::Exact);
            ran += usize::from(same_bits(&program, seed, name));
        }
        eprintln!("{name}: {ran} of {PROGRAMS} random programs compiled and agreed");
        assert!(ran >= FLOOR, "{name}: only {ran} programs were not refused");
    }
}

/// Compares on 1, 2 and 3 threads; false if the program is refused.
fn same_bits(program: &xlac_ir::graph::Program, seed: u64, name: &str) -> bool {
    let sizes = random::sizes(program, seed);
    let inputs = random::inputs(program, &sizes, seed).expect("sizes for every symbol");
    let expected = Engine::Interp(Box::new(program.clone())).run(&inputs).expect("random programs run");
    for threads in 1..=3 {
        let mut engine = match compile(program, name, Numerics::Exact, threads) {
            Ok(engine) => engine,
            Err(errors) if is_refusal(&errors) => return false,
            Err(errors) => panic!("seed {seed}, {name}: {}\n{}", errors[0], xlac_ir::text::print(program)),
        };
        let got = engine.run(&inputs).unwrap_or_else(|e| panic!("seed {seed}, {name}: {e}"));
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let d = difference(got, expected, Tolerance::EXACT);
            let text = || xlac_ir::text::print(program);
            assert!(d.is_fine(), "seed {seed}, {name}, {threads} threads, output {i}: {}\n{}", d.describe(got, expected), text());
        }
    }
    true
}

#[test]
fn real_models_have_the_same_bits() {
    for case in committed_models() {
        let source = Source::Path(case.join("model.onnx"));
        let inputs: Vec<_> =
            xlac::case::read_set(&case.join("test_data_set_0"), "input").expect("inputs").into_iter().flatten().collect();
        let (mut reference, _) = Engine::interpret(&source, &options("cranelift", Numerics::Exact)).expect("the model is imported");
        let expected = reference.run(&inputs).expect("the model runs");
        for name in engines() {
            for threads in 1..=3 {
                let compiled = Engine::compile(&source, &options(name, Numerics::Exact), device(name), Some(threads));
                let (mut engine, _) = compiled.expect("the model compiles");
                let got = engine.run(&inputs).expect("the model runs");
                for (got, expected) in got.iter().zip(&expected) {
                    let d = difference(got, expected, Tolerance::EXACT);
                    assert!(d.is_fine(), "{}, {name}, {threads} threads: {}", case.display(), d.describe(got, expected));
                }
            }
        }
    }
}
