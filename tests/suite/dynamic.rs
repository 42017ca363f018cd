//! One artifact, many shapes: each gives what the interpreter gives.

use xlac::compare::{Tolerance, difference};
use xlac::engine::Engine;
use xlac::{Numerics, Source};
use xlac_ir::random::{self, Options, Random};
use xlac_ir::tensor::Tensor;
use xlac_tests::{committed_models, compile, device, engines, is_refusal, optimized, options};

/// Random shapes in all.
const SHAPES: usize = 200;

fn agree(got: &[Tensor], expected: &[Tensor], what: &str) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let d = difference(got, expected, Tolerance::scaled_to(expected));
        assert!(d.is_fine(), "{what}, output {i}: {}", d.describe(got, expected));
    }
}

#[test]
fn random_programs_take_any_size() {
    let options = Options { control_flow: false, well_conditioned: true, ..Options::default() };
    for name in engines() {
        let mut shapes = 0;
        for seed in 0.. {
            let program = optimized(random::program(seed, &options), Numerics::Fast);
            if program.graph.ranges.is_empty() {
                continue;
            }
            let mut engine = match compile(&program, name, Numerics::Fast, 2) {
                Ok(engine) => engine,
                Err(errors) => {
                    assert!(is_refusal(&errors), "seed {seed}: {}", errors[0]);
                    assert!(seed < 1000, "hardly any program with symbolic dims is compiled");
                    continue;
                }
            };
            let mut reference = Engine::Interp(Box::new(program.clone()));
            for round in 0..8 {
                let inputs = random::inputs(&program, &random::sizes(&program, round), round).expect("sizes");
                let expected = reference.run(&inputs).expect("random programs run");
                let got = engine.run(&inputs).unwrap_or_else(|e| panic!("seed {seed}, round {round}: {e}"));
                agree(&got, &expected, &format!("seed {seed}, round {round}, {name}"));
                shapes += 1;
            }
            if shapes >= SHAPES {
                break;
            }
        }
    }
}

#[test]
fn a_convolutional_network_takes_any_picture() {
    let case = committed_models().into_iter().find(|c| c.ends_with("ppocr_v2_cls")).expect("the example's model");
    let source = Source::Path(case.join("model.onnx"));
    let mut random = Random::new(7);
    for name in engines() {
        let options = options(name, Numerics::Fast);
        let compiled = Engine::compile(&source, &options, device(name), Some(2));
        let (mut engine, _) = compiled.expect("the model compiles");
        let (mut reference, _) = Engine::interpret(&source, &options).expect("the model is imported");
        for _ in 0..6 {
            let shape = vec![1 + random.below(2), 3, 16 + random.below(20), 16 + random.below(40)];
            let input = [xlac::data::generate("x", xlac_ir::DType::F32, &shape).expect("floats can be made up")];
            let expected = reference.run(&input).expect("the model runs");
            agree(&engine.run(&input).expect("the model runs"), &expected, &format!("{shape:?}, {name}"));
        }
    }
}
