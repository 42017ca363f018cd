//! Tests of the whole crate: every rule by its example, every pass through text IR, the pipeline on small models and on
//! random programs.

mod passes;
mod pipeline;
mod random;
mod rules;

use xlac_ir::dim::Symbol;
use xlac_ir::graph::Program;
use xlac_ir::kernel::Const;
use xlac_ir::tensor::Tensor;
use xlac_ir::{DType, interp, random as ir_random, scalar, text, verify};

use crate::{Numerics, Options, Report, optimize};

/// Reads text IR and checks it.
fn parse(source: &str) -> Program {
    let program = text::parse(source).unwrap_or_else(|e| panic!("{e}\n{source}"));
    verify::verify(&program).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    program
}

/// Runs passes on a copy.
fn run_passes(program: &Program, passes: &[&str], numerics: Numerics) -> (Program, Report) {
    let mut after = program.clone();
    let passes = Some(passes.iter().map(|p| p.to_string()).collect());
    let mut options = Options { passes, numerics, verify: true, ..Options::default() };
    let report = optimize(&mut after, &mut options).unwrap_or_else(|e| panic!("{e}\n{}", text::print(program)));
    (after, report)
}

/// Outputs for random inputs, every symbol of an input's shape being 3 unless it has a range.
fn outputs(program: &Program, reference: &Program, seed: u64) -> Result<Vec<Tensor>, interp::RunError> {
    let mut sizes = ir_random::sizes(reference, seed);
    for &v in reference.graph.inputs() {
        for s in reference.graph.ty(v).shape.iter().filter_map(|d| d.as_symbol()) {
            sizes.entry(Symbol::clone(s)).or_insert(3);
        }
    }
    let inputs = ir_random::inputs(reference, &sizes, seed).expect("inputs have shapes of plain symbols");
    interp::run(program, &with_corners(inputs, seed), interp::Options::default())
}

/// Puts zeros of both signs, infinities and NaN into float inputs of every third seed.
fn with_corners(inputs: Vec<Tensor>, seed: u64) -> Vec<Tensor> {
    let corners = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-40];
    let change = |t: Tensor| {
        if !t.dtype.is_float() || !seed.is_multiple_of(3) {
            return t;
        }
        let pick = |(i, c): (usize, Const)| match corners.get((i + seed as usize) % 11) {
            Some(&x) => Const::number(t.dtype, x),
            None => c,
        };
        Tensor::from_consts(t.dtype, t.shape.clone(), t.iter().enumerate().map(pick))
    };
    inputs.into_iter().map(change).collect()
}

/// Why two results differ by more than `tolerance` (relative to the larger); with none, by a single bit, the payloads
/// of NaNs aside.
fn difference(a: &[Tensor], b: &[Tensor], tolerance: Option<f64>) -> Option<String> {
    if a.len() != b.len() {
        return Some("the number of outputs differs".into());
    }
    a.iter().zip(b).enumerate().find_map(|(n, (a, b))| {
        if a.ty() != b.ty() {
            return Some(format!("output {n} has type {} and {}", a.ty(), b.ty()));
        }
        let differ = |(a, b): &(Const, Const)| !same(*a, *b, tolerance);
        let found = a.iter().zip(b.iter()).enumerate().find(|(_, pair)| differ(pair));
        found.map(|(i, (x, y))| format!("output {n}, element {i}: {} and {}", number(x), number(y)))
    })
}

fn number(c: Const) -> f64 {
    f64::from_bits(scalar::convert(c, DType::F64).bits)
}

fn same(a: Const, b: Const, tolerance: Option<f64>) -> bool {
    let (x, y) = (number(a), number(b));
    let both_nan = a.dtype.is_float() && x.is_nan() && y.is_nan();
    match tolerance {
        _ if a.bits == b.bits || both_nan => true,
        Some(t) if a.dtype.is_float() => x == y || (x - y).abs() <= t * x.abs().max(y.abs()).max(1.0),
        _ => false,
    }
}
