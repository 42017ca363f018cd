//! Convolutions by short algorithms: every filter they take, every edge, and how near they come to f64.

use xlac_codegen::plan::{Plan, Step};
use xlac_codegen::{Numerics, Options};
use xlac_ir::backend::Target;
use xlac_ir::graph::Program;
use xlac_ir::interp;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;
use xlac_ir::DType;

use crate::harness::{Graph, SIZES, difference, execute, inputs, target};

/// Processors with vectors of 4, 8 and 16 lanes, with masks and without.
fn processors() -> Vec<Target> { vec![target(16, false), target(32, false), target(64, true)] }

fn compile(program: &Program, target: &Target) -> Plan {
    xlac_codegen::compile(program, target, &Options { numerics: Numerics::Fast, ..Options::default() }).expect("it compiles")
}

fn is_short(plan: &Plan) -> bool { plan.kernels.iter().any(|k| k.name.contains("winograd")) }

/// A convolution.
struct Case {
    dtype: &'static str,
    x: &'static str,
    w: &'static str,
    y: &'static str,
    before: &'static str,
    after: &'static str,
    dilations: &'static str,
}

impl Case {
    fn new(x: &'static str, w: &'static str, y: &'static str, padding: [&'static str; 2], dilations: &'static str) -> Case {
        Case { dtype: "f32", x, w, y, before: padding[0], after: padding[1], dilations }
    }

    fn op(&self, out: &str) -> String {
        let strides = vec!["1"; self.dilations.split(", ").count()].join(", ");
        format!(
            "conv %p, %w {{strides = [{strides}], before = [{}], after = [{}], dilations = [{}], groups = 1, out = {out}}} : {out}[{}]",
            self.before, self.after, self.dilations, self.y
        )
    }

    /// The convolution of a computed operand, with a residual and an activation.
    fn program(&self) -> Program {
        let t = self.dtype;
        let mut g = Graph::new();
        g.input("x", &format!("{t}[{}]", self.x));
        g.input("r", &format!("{t}[{}]", self.y));
        g.weight("w", &format!("{t}[{}]", self.w));
        g.line(&format!("%p = sigmoid %x : {t}[{}]", self.x));
        g.line(&format!("%c = {}", self.op(t)));
        g.line(&format!("%s = add %c, %r : {t}[{}]", self.y));
        g.line(&format!("%y = tanh %s : {t}[{}]", self.y));
        let text = g.finish("%y");
        xlac_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// Compares with the interpreter; true if some processor took a short algorithm.
    fn check(&self, sizes: &[(&str, i64)]) -> bool {
        let program = self.program();
        let mut short = false;
        for target in processors() {
            let plan = compile(&program, &target);
            short |= is_short(&plan);
            let inputs = inputs(&program, sizes, 3);
            let expected = interp::run(&program, &inputs, interp::Options::default()).expect("it runs");
            let found = execute(&plan, &program, &inputs, false).unwrap_or_else(|e| panic!("{}: {e}", target.name));
            // One rounding of a narrow type may go the other way.
            let narrow = self.dtype != "f32";
            let (expected, found) = (&expected[0], &found[0]);
            match difference(expected, found, false) {
                Some(why) if !narrow => panic!("{}: {why}\n{}", target.name, self.op(self.dtype)),
                Some(_) => assert!(distance(expected, found).0 < 1e-2, "{}: {}", target.name, self.op(self.dtype)),
                None => {}
            }
        }
        short
    }
}

#[test]
fn filters_and_edges() {
    for case in [
        Case::new("2, 19, 11, 13", "37, 19, 3, 3", "2, 37, 11, 13", ["1, 1", "1, 1"], "1, 1"),
        Case::new("1, 32, 8, 8", "32, 32, 3, 3", "1, 32, 8, 8", ["1, 1", "1, 1"], "1, 1"),
        Case::new("1, 32, 14, 10", "48, 32, 3, 3", "1, 48, 12, 8", ["0, 0", "0, 0"], "1, 1"),
        Case::new("1, 17, 9, 7", "33, 17, 3, 3", "1, 33, 10, 8", ["0, 2", "3, 1"], "1, 1"),
        Case::new("1, 20, 9, 9", "24, 20, 5, 5", "1, 24, 9, 9", ["2, 2", "2, 2"], "1, 1"),
        Case::new("1, 20, 12, 9", "24, 20, 4, 2", "1, 24, 12, 9", ["1, 0", "2, 1"], "1, 1"),
        Case::new("1, 96, 5, 17", "64, 96, 1, 5", "1, 64, 5, 17", ["0, 2", "0, 2"], "1, 1"),
        Case::new("1, 96, 63", "80, 96, 3", "1, 80, 63", ["1", "1"], "1"),
        Case::new("2, 96, 62", "80, 96, 3", "2, 80, 56", ["0", "0"], "3"),
        Case::new("1, 24, 40, 40", "24, 24, 3, 3", "1, 24, 40, 40", ["2, 3", "2, 3"], "2, 3"),
        Case::new("N, 24, T, T", "24, 24, 3, 3", "N, 24, T, T", ["1, 1", "1, 1"], "1, 1"),
    ] {
        assert!(case.check(&[("N", 2), ("T", 9)]), "no short algorithm for {}", case.op("f32"));
    }
}

/// Names of the kernels of convolutions that a plan launches for these sizes.
fn launched(plan: &Plan, sizes: &[(&str, i64)]) -> Vec<String> {
    let size = |s: &str| sizes.iter().find(|(name, _)| *name == s).map(|&(_, n)| n);
    let of = |step: &Step| match step {
        Step::Launch(l) if l.tiles.eval(&size).expect("sizes of all symbols") > 0 => Some(plan.kernels[l.kernel].name.clone()),
        _ => None,
    };
    plan.steps.iter().filter_map(of).filter(|name| name.contains("conv")).collect()
}

#[test]
fn few_tiles_of_unknown_number_are_summed_directly() {
    // From 256 channels on, a tile's products take about as long as it takes to read the filters.
    let case = Case::new("N, 256, 1, T", "192, 256, 1, 5", "N, 192, 1, T", ["0, 2", "0, 2"], "1, 1");
    for (n, t) in [(1, 1), (1, 2), (2, 3), (1, 7), (1, 11), (1, 24), (3, 16), (1, 60)] {
        let sizes = [("N", n), ("T", t)];
        case.check(&sizes);
        let names = launched(&compile(&case.program(), &target(64, true)), &sizes);
        assert_eq!(names.len(), 1, "{names:?}");
        // Where they meet is an estimate: 11 may go either way.
        assert!(n * t == 11 || names[0].contains("winograd") == (n * t > 11), "{n} images of {t}: {names:?}");
    }
    let images = Case::new("N, 32, 8, 8", "32, 32, 3, 3", "N, 32, 8, 8", ["1, 1", "1, 1"], "1, 1");
    let plan = compile(&images.program(), &target(64, true));
    let kernels = plan.kernels.iter().filter(|k| k.name.contains("conv"));
    assert_eq!(kernels.count(), 1, "images of a known size are not small");
}

#[test]
fn symbolic_sizes_may_be_small() {
    let case = Case::new("N, 24, T, T", "24, 24, 3, 3", "N, 24, T, T", ["1, 1", "1, 1"], "1, 1");
    for (n, t) in [(1, 1), (1, 2), (3, 5), (1, 31)] {
        assert!(case.check(&[("N", n), ("T", t)]));
    }
}

#[test]
fn narrow_types_are_computed_in_f32() {
    for dtype in ["f16", "bf16"] {
        let case = Case { dtype, ..Case::new("1, 32, 8, 9", "32, 32, 3, 3", "1, 32, 8, 9", ["1, 1", "1, 1"], "1, 1") };
        assert!(case.check(SIZES), "{dtype}");
    }
}

#[test]
fn exact_numerics_and_other_convolutions_are_direct() {
    let case = Case::new("1, 32, 16, 16", "32, 32, 3, 3", "1, 32, 16, 16", ["1, 1", "1, 1"], "1, 1");
    let exact = Options { numerics: Numerics::Exact, ..Options::default() };
    let plan = xlac_codegen::compile(&case.program(), &target(64, true), &exact).expect("it compiles");
    assert!(!is_short(&plan));
    for case in [
        Case { dtype: "f64", ..case },
        Case::new("1, 32, 16, 16", "32, 32, 1, 1", "1, 32, 16, 16", ["0, 0", "0, 0"], "1, 1"),
        Case::new("1, 32, 16, 16", "32, 32, 7, 7", "1, 32, 16, 16", ["3, 3", "3, 3"], "1, 1"),
        Case::new("1, 32, 16, 16", "4, 32, 3, 3", "1, 4, 16, 16", ["1, 1", "1, 1"], "1, 1"),
    ] {
        assert!(!is_short(&compile(&case.program(), &target(64, true))), "{}", case.op(case.dtype));
    }
}

fn numbers(t: &Tensor) -> Vec<f64> { t.iter().map(|c| f64::from_bits(scalar::convert(c, DType::F64).bits)).collect() }

/// Largest difference and root mean square of the differences.
fn distance(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let d: Vec<f64> = numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).collect();
    (d.iter().copied().fold(0.0, f64::max), (d.iter().map(|d| d * d).sum::<f64>() / d.len() as f64).sqrt())
}

/// The stated bound: 4 times the error of a plain f32 sum, whose terms are added one by one (the interpreter's).
#[test]
fn errors_against_f64_are_bounded() {
    for (channels, r, dims) in [(16, "3, 3", "12, 12"), (64, "3, 3", "12, 12"), (256, "3, 3", "8, 8"), (16, "5, 5", "8, 8"), (96, "5, 5", "8, 8"), (128, "3", "64"), (48, "2, 4", "12, 12")] {
        let taps = r.split(", ").map(|r| r.parse::<i64>().expect("a number")).collect::<Vec<_>>();
        let join = |f: &dyn Fn(i64) -> i64| taps.iter().map(|&r| f(r).to_string()).collect::<Vec<_>>().join(", ");
        let attrs = |out: &str| {
            let (ones, before, after) = (join(&|_| 1), join(&|r| (r - 1) / 2), join(&|r| r / 2));
            format!("{{strides = [{ones}], before = [{before}], after = [{after}], dilations = [{ones}], groups = 1, out = {out}}}")
        };
        let text = |wide: bool| {
            let mut g = Graph::new();
            g.input("x", &format!("f32[1, {channels}, {dims}]"));
            g.weight("w", &format!("f32[32, {channels}, {r}]"));
            let t = if wide { "f64" } else { "f32" };
            g.line(&format!("%a = cast %x {{to = {t}}} : {t}[1, {channels}, {dims}]"));
            g.line(&format!("%b = cast %w {{to = {t}}} : {t}[32, {channels}, {r}]"));
            let (a, b) = if wide { ("%a", "%b") } else { ("%x", "%w") };
            g.line(&format!("%y = conv {a}, {b} {} : {t}[1, 32, {dims}]", attrs(t)));
            g.finish("%y")
        };
        let run = |text: &str, inputs: &[Tensor]| {
            let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            interp::run(&program, inputs, interp::Options::default()).expect("it runs").swap_remove(0)
        };
        let program = xlac_ir::text::parse(&text(false)).expect("well-formed");
        let inputs = inputs(&program, &[], 11);
        let exact = run(&text(true), &inputs);
        let plain = distance(&exact, &run(&text(false), &inputs));
        for target in processors() {
            let plan = compile(&program, &target);
            assert!(is_short(&plan), "{channels} {r} on {}", target.name);
            let found = execute(&plan, &program, &inputs, false).unwrap_or_else(|e| panic!("{e}"));
            let short = distance(&exact, &found[0]);
            assert!(short.1 <= 4.0 * plain.1, "{channels} channels, {r}: {short:?}, plain {plain:?}");
        }
    }
}
