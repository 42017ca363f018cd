//! Products with constant weights: programs, operands, and how far results are from f64.

use xlac_codegen::plan::Plan;
use xlac_codegen::{Numerics, Options};
use xlac_ir::DType;
use xlac_ir::backend::Target;
use xlac_ir::graph::Program;
use xlac_ir::interp;
use xlac_ir::kernel::Const;
use xlac_ir::random::Random;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;
use xlac_ir::text;

use super::{Graph, difference, execute, inputs};

pub fn compile(program: &Program, target: &Target) -> Plan {
    xlac_codegen::compile(program, target, &Options { numerics: Numerics::Fast, ..Options::default() }).expect("it compiles")
}

pub fn parse(text: &str) -> Program { text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")) }

/// An algorithm, by what its kernels are called, and the processors it is tried on.
pub struct Algorithm {
    pub name: &'static str,
    pub processors: Vec<Target>,
}

impl Algorithm {
    /// True if a plan has a kernel of it.
    pub fn is_in(&self, plan: &Plan) -> bool { plan.kernels.iter().any(|k| k.name.contains(self.name)) }

    /// Compares with the interpreter; the names of the processors that took the algorithm.
    pub fn check(&self, text: &str, sizes: &[(&str, i64)], tolerance: Option<f64>) -> Vec<String> {
        let program = parse(text);
        let inputs = inputs(&program, sizes, 5);
        let expected = interp::run(&program, &inputs, interp::Options::default()).expect("it runs");
        let mut taken = Vec::new();
        for target in &self.processors {
            let plan = compile(&program, target);
            if !self.is_in(&plan) {
                continue;
            }
            taken.push(target.name.clone());
            for backwards in [false, true] {
                let found = execute(&plan, &program, &inputs, backwards).unwrap_or_else(|e| panic!("{}: {e}", target.name));
                for (expected, found) in expected.iter().zip(&found) {
                    let why = difference(expected, found, false);
                    let near = |limit: f64| numbers(expected).iter().zip(numbers(found)).all(|(a, b)| (a - b).abs() <= limit);
                    assert!(why.is_none() || tolerance.is_some_and(near), "{}: {}\n{text}", target.name, why.unwrap_or_default());
                }
            }
        }
        taken
    }

    /// A product with these operands: in f64, plainly in f32, and by each processor.
    pub fn run(&self, x: &Tensor, w: &Tensor) -> (Tensor, Tensor, Vec<(String, Tensor)>) {
        let inputs = std::slice::from_ref(x);
        let program = |wide: bool| with_weights(&plain(x.shape[0], x.shape[1], w.shape[1], wide), w);
        let run = |wide: bool| interp::run(&program(wide), inputs, interp::Options::default()).expect("it runs").swap_remove(0);
        let found = self.processors.iter().map(|target| {
            let plan = compile(&program(false), target);
            assert!(self.is_in(&plan), "{}", target.name);
            (target.name.clone(), execute(&plan, &program(false), inputs, false).unwrap_or_else(|e| panic!("{e}")).swap_remove(0))
        });
        (run(true), run(false), found.collect())
    }

    /// Holds the errors against f64 of a product of 64 rows, 160 terms and 192 columns, with factors for the elements of both,
    /// to some times that of a plain f32 sum, whose terms are added one by one (the interpreter's): in each row, and each column.
    pub fn errors_are_bounded(&self, (name, positive, of_x, of_w): (&str, bool, Factor, Factor), bounds: [f64; 2]) {
        let (x, w) = (matrix(64, 160, 3, positive, of_x), matrix(160, 192, 4, false, of_w));
        let (exact, plain, all) = self.run(&x, &w);
        let plain = errors(&exact, &plain);
        for (target, found) in all {
            for ((found, plain), (axis, bound)) in errors(&exact, &found).iter().zip(&plain).zip(["row", "column"].iter().zip(bounds)) {
                for (i, (found, plain)) in found.iter().zip(plain).enumerate() {
                    assert!(*found <= bound * plain, "{name} on {target}: {axis} {i} has {found:e}, plain {plain:e}");
                }
            }
        }
    }

    /// An element of row 21 is not finite, or nearly: the others' results are near those in f64.
    pub fn what_is_not_finite_stays_in_its_row(&self) {
        for odd in [f64::INFINITY, f64::NAN, 1e38] {
            let x = matrix(64, 160, 3, false, &|r, t| if (r, t) == (21, 100) { odd } else { 1.0 });
            let w = matrix(160, 192, 4, false, &|_, _| 1.0);
            let (exact, _, all) = self.run(&x, &w);
            let exact = numbers(&exact);
            for (target, found) in all {
                for (i, (found, exact)) in numbers(&found).iter().zip(&exact).enumerate().filter(|(i, _)| i / 192 != 21) {
                    assert!((found - exact).abs() < 1e-4, "{odd} on {target}: element {i} is {found} instead of {exact}");
                }
            }
        }
    }
}

/// What an element of a matrix is multiplied by.
pub type Factor<'a> = &'a dyn Fn(usize, usize) -> f64;

/// Operands of products whose rows, columns or terms are of unlike sizes, with a name, and whether all operands are positive.
pub fn unlike(visit: &dyn Fn((&str, bool, Factor, Factor))) {
    // No two that are a half apart, or neighbours, are alike.
    let wave = |i: usize, size: f64| size.powi((i % 7) as i32 - 3);
    let one = |_: usize, _: usize| 1.0;
    let rows = |r: usize, _: usize| wave(r, 10.0);
    let near = |r: usize, _: usize| if r % 2 == 0 { 1.0 } else { 2.6 };
    let tiny = |r: usize, _: usize| if r % 2 == 0 { 1e-24 } else { 1e-27 };
    let cols = |_: usize, c: usize| wave(c, 8.0);
    let terms = |_: usize, t: usize| wave(t, 8.0);
    let inverse = |t: usize, _: usize| 1.0 / wave(t, 8.0);
    let dead = |_: usize, c: usize| if c % 7 == 0 { 1e-30 } else { 1.0 };
    let zeros = |t: usize, c: usize| if c % 7 == 0 || t % 7 == 0 { 0.0 } else { 1.0 };
    let huge = |_: usize, t: usize| if t % 7 == 0 { 1e6 } else { 1.0 };
    visit(("alike", false, &one, &one));
    visit(("positive", true, &one, &one));
    visit(("nearly alike rows", false, &near, &one));
    visit(("unlike rows", false, &rows, &one));
    visit(("rows whose squares vanish", false, &tiny, &one));
    visit(("unlike columns", false, &one, &cols));
    visit(("dead columns", false, &one, &dead));
    visit(("zeros", false, &huge, &zeros));
    visit(("terms that even out", false, &terms, &inverse));
}

/// A program with its only weight.
pub fn with_weights(text: &str, w: &Tensor) -> Program {
    text::parse_with(text, &mut |_, _| Some(w.clone())).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// A product of these shapes with a sum, an activation and a residual behind it.
pub fn product(t: &str, (x, w, y): (&str, &str, &str), trans_b: bool, activation: &str) -> String {
    let mut g = Graph::new();
    g.input("x", &format!("{t}[{x}]"));
    g.input("r", &format!("{t}[{y}]"));
    g.weight("w", &format!("{t}[{w}]"));
    g.line(&format!("%m = matmul %x, %w {{trans_a = false, trans_b = {trans_b}, out = {t}}} : {t}[{y}]"));
    g.line(&format!("%a = {activation} %m : {t}[{y}]"));
    g.line(&format!("%y = add %a, %r : {t}[{y}]"));
    g.finish("%y")
}

/// A plain product of an operand and weights of these sizes, in f32 or f64.
pub fn plain(rows: usize, terms: usize, cols: usize, wide: bool) -> String {
    let (x, w, y) = (format!("{rows}, {terms}"), format!("{terms}, {cols}"), format!("{rows}, {cols}"));
    let mut g = Graph::new();
    g.input("x", &format!("f32[{x}]"));
    g.weight("w", &format!("f32[{w}]"));
    let t = if wide { "f64" } else { "f32" };
    g.line(&format!("%a = cast %x {{to = {t}}} : {t}[{x}]"));
    g.line(&format!("%b = cast %w {{to = {t}}} : {t}[{w}]"));
    let (a, b) = if wide { ("%a", "%b") } else { ("%x", "%w") };
    g.line(&format!("%y = matmul {a}, {b} {{trans_a = false, trans_b = false, out = {t}}} : {t}[{y}]"));
    g.finish("%y")
}

/// A matrix of numbers between -1 and 1, or 0 and 1, times a factor for each element.
pub fn matrix(rows: usize, cols: usize, seed: u64, positive: bool, factor: &dyn Fn(usize, usize) -> f64) -> Tensor {
    let mut random = Random::new(seed);
    let mut number = || random.below(1 << 20) as f64 / f64::from(1 << 20);
    let mut element = |i: usize| {
        let x = number();
        let x = if positive { x } else { 2.0 * x - 1.0 };
        Const::f32((x * factor(i / cols, i % cols)) as f32)
    };
    Tensor::from_consts(DType::F32, vec![rows, cols], (0..rows * cols).map(&mut element).collect::<Vec<_>>())
}

pub fn numbers(t: &Tensor) -> Vec<f64> { t.iter().map(|c| f64::from_bits(scalar::convert(c, DType::F64).bits)).collect() }

/// Root mean squares of the errors of each row, and of each column.
pub fn errors(exact: &Tensor, found: &Tensor) -> [Vec<f64>; 2] {
    let [rows, cols] = exact.shape[..] else { panic!("a matrix") };
    let squares: Vec<f64> = numbers(exact).iter().zip(numbers(found)).map(|(a, b)| (a - b).powi(2)).collect();
    let root = |all: Vec<f64>| (all.iter().sum::<f64>() / all.len() as f64).sqrt();
    let row = |r: usize| root(squares[r * cols..][..cols].to_vec());
    let col = |c: usize| root((0..rows).map(|r| squares[r * cols + c]).collect());
    [(0..rows).map(row).collect(), (0..cols).map(col).collect()]
}

