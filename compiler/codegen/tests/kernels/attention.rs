//! Attention: what is recognized, and how near its kernels come to f64.

use std::collections::HashSet;

use xlac_codegen::plan::Plan;
use xlac_codegen::{Numerics, Options};
use xlac_ir::DType;
use xlac_ir::backend::{Gpu, Target};
use xlac_ir::graph::Program;
use xlac_ir::interp;
use xlac_ir::kernel::Const;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;

use crate::harness::{Graph, check, execute, execute_on, gpu, inputs, target};
use crate::sim::Sim;

/// Sizes of the symbols.
const SIZES: &[(&str, i64)] = &[("B", 2), ("L", 5), ("S", 37), ("P", 3), ("Z", 0), ("M", 19), ("O", 1)];

/// One attention: shapes of its operands and of its results, and what is in between.
struct Case {
    q: &'static str,
    k: &'static str,
    v: &'static str,
    /// Batch axes, queries, keys, elements of a value.
    batch: &'static str,
    sizes: [&'static str; 3],
    /// True if keys are `[.., head, keys]`.
    transposed: bool,
    /// Further inputs: name, shape, `true` for bool.
    more: &'static [(&'static str, &'static str, bool)],
    /// Lines from `%raw` to `%x`; `T` is the element type, `SCORES` the type of scores, and `{number}` a constant.
    chain: &'static str,
    /// Lines from `%r`, the result, to `%y` of type `RESULT`.
    after: &'static str,
    guarded: bool,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            q: "2, 3, 20, 16",
            k: "2, 3, 40, 16",
            v: "2, 3, 40, 16",
            batch: "2, 3",
            sizes: ["20", "40", "16"],
            transposed: false,
            more: &[],
            chain: "%x = mul %raw, %scale : SCORES",
            after: "",
            guarded: false,
        }
    }
}

/// A constant of no axes.
fn constant(name: &str, dtype: &str, x: f64) -> String {
    let c = Const::number(DType::from_name(dtype).expect("a type"), x);
    format!("%{name} = constant {{dtype = {dtype}, shape = [], bits = [{}]}} : {dtype}[]", c.bits as i64)
}

impl Case {
    fn text(&self, t: &str) -> String {
        let mut g = Graph::new();
        for (name, shape) in [("q", self.q), ("k", self.k), ("v", self.v)] {
            g.input(name, &format!("{t}[{shape}]"));
        }
        for (name, shape, bool) in self.more {
            g.input(name, &format!("{}[{shape}]", if *bool { "bool" } else { t }));
        }
        for (name, x) in [("scale", 0.25), ("zero", 0.0), ("one", 1.0), ("low", f64::NEG_INFINITY), ("cap", 3.0)] {
            g.line(&constant(name, t, x));
        }
        let [rows, keys, width] = self.sizes;
        let with = |matrix: &str| if self.batch.is_empty() { matrix.to_string() } else { format!("{}, {matrix}", self.batch) };
        let (scores, row) = (format!("{t}[{}]", with(&format!("{rows}, {keys}"))), with(&format!("{rows}, 1")));
        let result = format!("{t}[{}]", with(&format!("{rows}, {width}")));
        let axis = scores.split(',').count() - 1;
        g.line(&format!("%raw = matmul %q, %k {{trans_a = false, trans_b = {}, out = {t}}} : {scores}", !self.transposed));
        let fill = |line: &str| line.replace("SCORES", &scores).replace("RESULT", &result).replace("TYPE", t);
        self.chain.lines().for_each(|line| g.line(&fill(line.trim())));
        let row_type = format!("{t}[{row}]");
        g.line(&format!("%m = reduce %x {{f = max, axes = [{axis}]}} : {row_type}"));
        if self.guarded {
            g.line(&format!("%me = eq %m, %low : bool[{row}]"));
            g.line(&format!("%mg = select %me, %zero, %m : {row_type}"));
        }
        g.line(&format!("%d = sub %x, {} : {scores}", if self.guarded { "%mg" } else { "%m" }));
        g.line(&format!("%e = exp %d : {scores}"));
        g.line(&format!("%l = reduce %e {{f = sum, axes = [{axis}]}} : {row_type}"));
        if self.guarded {
            g.line(&format!("%le = eq %l, %zero : bool[{row}]"));
            g.line(&format!("%lg = select %le, %one, %l : {row_type}"));
        }
        g.line(&format!("%p = div %e, {} : {scores}", if self.guarded { "%lg" } else { "%l" }));
        g.line(&format!("%r = matmul %p, %v {{trans_a = false, trans_b = false, out = {t}}} : {result}"));
        self.after.lines().for_each(|line| g.line(&fill(line.trim())));
        g.finish(if self.after.is_empty() { "%r" } else { "%y" })
    }

    /// Compares the fused kernel with f64, for a type.
    fn check(&self, t: &str) {
        for target in [gpu(), target(16, false), target(64, true)] {
            near(&self.text(t), &self.text("f64"), DType::from_name(t).expect("a type"), &target, 1);
        }
    }

    /// The same on GPUs that make the schedules choose other tiles, and on processors.
    fn check_all(&self) {
        for (t, bytes) in [("f32", 64), ("f32", 32), ("f16", 16), ("bf16", 64), ("f64", 32)] {
            near(&self.text(t), &self.text("f64"), DType::from_name(t).expect("a type"), &target(bytes, true), 1);
        }
        for (t, kilobytes, multiprocessors) in [("f32", 99, 1), ("f32", 30, 100_000), ("f16", 99, 1), ("bf16", 16, 1), ("f64", 99, 108)] {
            let gpu = Gpu { multiprocessors, shared_bytes: kilobytes << 10, thread_registers: 255 };
            let target = Target { gpu: Some(gpu), ..crate::harness::gpu() };
            near(&self.text(t), &self.text("f64"), DType::from_name(t).expect("a type"), &target, 1);
        }
    }
}

fn parse(text: &str) -> Program {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    if let Err(e) = xlac_ir::verify::verify(&program) {
        panic!("{e:?}\n{text}");
    }
    program
}

fn plan(program: &Program, target: &Target, numerics: Numerics) -> Plan {
    xlac_codegen::compile(program, target, &Options { numerics, ..Options::default() }).expect("it compiles")
}

fn fused(plan: &Plan) -> usize { plan.kernels.iter().filter(|k| k.name.contains("attention")).count() }

fn converted(t: &Tensor, to: DType) -> Tensor {
    let elements = t.iter().map(|c| if t.dtype.is_float() { scalar::convert(c, to) } else { c });
    Tensor::from_consts(if t.dtype.is_float() { to } else { t.dtype }, t.shape.clone(), elements)
}

fn numbers(t: &Tensor) -> Vec<f64> { t.iter().map(|c| f64::from_bits(scalar::convert(c, DType::F64).bits)).collect() }

/// Largest distance from the exact result, where both are numbers; infinite if one is NaN and the other not.
fn distance(exact: &[f64], x: &[f64]) -> f64 {
    let one = |(a, b): (&f64, &f64)| if a.is_nan() && b.is_nan() { 0.0 } else if a.is_nan() != b.is_nan() { f64::INFINITY } else { (a - b).abs() };
    exact.iter().zip(x).map(one).fold(0.0, f64::max)
}

/// Runs a program on the kernels for a target and in f64. The kernels may be off by as much as rounding allows.
fn near(text: &str, exact: &str, dtype: DType, target: &Target, kernels: usize) {
    let (program, exact) = (parse(text), parse(exact));
    let given = inputs(&program, SIZES, 5);
    let wide: Vec<Tensor> = given.iter().map(|t| converted(t, DType::F64)).collect();
    let expected = interp::run(&exact, &wide, interp::Options::default()).expect("f64 runs");
    let plain = interp::run(&program, &given, interp::Options::default()).expect("the interpreter runs");
    let plan = plan(&program, target, Numerics::Fast);
    assert_eq!(fused(&plan), kernels, "kernels {:?}\n{text}", plan.kernels.iter().map(|k| &k.name).collect::<Vec<_>>());
    // The order of the tiles does not matter.
    let found = execute(&plan, &program, &given, dtype == DType::F16).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for ((exact, plain), found) in expected.iter().zip(&plain).zip(&found) {
        assert_eq!((found.dtype, &found.shape), (plain.dtype, &plain.shape));
        let (exact, plain, found) = (numbers(exact), numbers(plain), numbers(found));
        let largest = exact.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
        let unit = match dtype {
            DType::F64 => 1e-15,
            DType::F32 => 1.2e-7,
            DType::F16 => 1e-3,
            _ => 8e-3,
        };
        let (off, plain) = (distance(&exact, &found), distance(&exact, &plain));
        println!("{dtype}: off by {off:e}, the interpreter by {plain:e}, largest {largest}");
        let allowed = 1.5 * plain + 2.0 * unit * largest;
        assert!(off <= allowed, "{dtype}: off by {off:e}, the interpreter by {plain:e}, largest {largest}\n{text}");
    }
}

#[test]
fn every_schedule() {
    Case::default().check_all();
    // Few queries, one key, odd heads, other heads for values.
    Case { q: "2, 3, 1, 16", sizes: ["1", "40", "16"], ..Case::default() }.check_all();
    let one = Case { q: "3, 17, 24", k: "3, 1, 24", v: "3, 1, 7", batch: "3", sizes: ["17", "1", "7"], ..Case::default() };
    one.check_all();
    let odd = Case { q: "67, 13", k: "35, 13", v: "35, 21", batch: "", sizes: ["67", "35", "21"], ..Case::default() };
    odd.check_all();
    Case { q: "7, 40", k: "300, 40", v: "300, 33", batch: "", sizes: ["7", "300", "33"], ..Case::default() }.check_all();
}

#[test]
fn more_queries_than_a_task_takes() {
    Case { q: "2, 150, 16", k: "2, 49, 16", v: "2, 49, 16", batch: "2", sizes: ["150", "49", "16"], ..Case::default() }.check_all();
}

#[test]
fn large_heads() {
    for t in ["f32", "f16"] {
        Case { q: "33, 256", k: "40, 256", v: "40, 256", batch: "", sizes: ["33", "40", "256"], ..Case::default() }.check(t);
        Case { q: "3, 200", k: "9, 200", v: "9, 72", batch: "", sizes: ["3", "9", "72"], ..Case::default() }.check(t);
    }
}

#[test]
fn unknown_sizes() {
    for (rows, keys, k) in [("L", "S", "B, 2, S, 16"), ("O", "S", "B, 2, S, 16"), ("M", "P", "B, 2, P, 16"), ("M", "Z", "B, 2, Z, 16"), ("O", "Z", "B, 2, Z, 16")] {
        let q: &'static str = format!("B, 2, {rows}, 16").leak();
        let case = Case { q, k, v: k, batch: "B, 2", sizes: [rows, keys, "16"], ..Case::default() };
        for t in ["f32", "f16", "f64"] {
            case.check(t);
        }
    }
}

const MASKED: &str = "%s = mul %raw, %scale : SCORES
    %t = div %s, %cap : SCORES
    %u = tanh %t : SCORES
    %w = mul %u, %cap : SCORES
    %z = add %w, %bias : SCORES
    %x = select %seen, %z, %low : SCORES";

#[test]
fn masks() {
    let more = &[("bias", "3, 1, 40", false), ("seen", "2, 1, 20, 40", true)];
    Case { more, chain: MASKED, ..Case::default() }.check_all();
    Case { more, chain: MASKED, guarded: true, ..Case::default() }.check("f32");
    let more = &[("bias", "2, 1, S", false), ("seen", "L, S", true)];
    let case = Case { q: "B, 2, L, 16", k: "B, 2, S, 16", v: "B, 2, S, 16", batch: "B, 2", sizes: ["L", "S", "16"], ..Case::default() };
    Case { more, chain: MASKED, ..case }.check("f32");
}

/// Where the key is not behind the query.
const CAUSAL: &str = "%s = mul %raw, %scale : SCORES
    %i = iota {n = [20], dtype = i64} : i64[20]
    %ir = reshape %i {shape = [20, 1]} : i64[20, 1]
    %j = iota {n = [40], dtype = i64} : i64[40]
    %jr = reshape %j {shape = [1, 40]} : i64[1, 40]
    %seen = le %jr, %ir : bool[20, 40]
    %x = select %seen, %s, %low : SCORES";

#[test]
fn causal_masks() {
    Case { chain: CAUSAL, ..Case::default() }.check_all();
    // Only keys before the query: the first row sees none.
    let strict = CAUSAL.replace("le %jr", "lt %jr").leak();
    Case { chain: strict, ..Case::default() }.check("f32");
    Case { chain: strict, ..Case::default() }.check("f64");
    Case { chain: strict, guarded: true, ..Case::default() }.check("f32");
    Case { chain: strict, guarded: true, ..Case::default() }.check("f64");
}

#[test]
fn epilogues() {
    let more = &[("other", "3, 20, 16", false)];
    let after = "%f = add %r, %other : RESULT\n%y = sigmoid %f : RESULT";
    Case { more, after, ..Case::default() }.check_all();
}

#[test]
fn transposed_keys() {
    Case { k: "2, 3, 16, 40", transposed: true, ..Case::default() }.check_all();
    Case { q: "20, 13", k: "13, 39", v: "39, 13", batch: "", sizes: ["20", "39", "13"], transposed: true, ..Case::default() }.check_all();
}

/// The graph of the ONNX operator with a cache and heads that share keys, as imported.
const CACHE: &str = "graph @g(%q: T[B, 8, L, 16], %k: T[B, 2, S, 16], %v: T[B, 2, S, 16], %pk: T[B, 2, P, 16], %pv: T[B, 2, P, 16]) -> (%y, %nk, %nv) {
  %nk = concat %pk, %k {axis = 2} : T[B, 2, P + S, 16]
  %nv = concat %pv, %v {axis = 2} : T[B, 2, P + S, 16]
  %i = iota {n = [L], dtype = i64} : i64[L]
  %ir = reshape %i {shape = [L, 1]} : i64[L, 1]
  %j = iota {n = [P + S], dtype = i64} : i64[P + S]
  %jr = reshape %j {shape = [1, P + S]} : i64[1, P + S]
  %past = dims {dims = [P], scalar = true} : i64[]
  %at = add %ir, %past : i64[L, 1]
  %ahead = sub %jr, %at : i64[L, P + S]
  %none = constant {dtype = i64, shape = [], bits = [0]} : i64[]
  %seen = le %ahead, %none : bool[L, P + S]
  ZERO
  ONE
  LOW
  ROOT
  %bias = select %seen, %zero, %low : T[L, P + S]
  %k1 = reshape %nk {shape = [B, 2, 1, P + S, 16]} : T[B, 2, 1, P + S, 16]
  %k2 = broadcast %k1 {shape = [B, 2, 4, P + S, 16]} : T[B, 2, 4, P + S, 16]
  %k3 = reshape %k2 {shape = [B, 8, P + S, 16]} : T[B, 8, P + S, 16]
  %v1 = reshape %nv {shape = [B, 2, 1, P + S, 16]} : T[B, 2, 1, P + S, 16]
  %v2 = broadcast %v1 {shape = [B, 2, 4, P + S, 16]} : T[B, 2, 4, P + S, 16]
  %v3 = reshape %v2 {shape = [B, 8, P + S, 16]} : T[B, 8, P + S, 16]
  %qs = mul %q, %root : T[B, 8, L, 16]
  %ks = mul %k3, %root : T[B, 8, P + S, 16]
  %raw = matmul %qs, %ks {trans_a = false, trans_b = true, out = T} : T[B, 8, L, P + S]
  %x = add %raw, %bias : T[B, 8, L, P + S]
  %m = reduce %x {f = max, axes = [3]} : T[B, 8, L, 1]
  %me = eq %m, %low : bool[B, 8, L, 1]
  %mg = select %me, %zero, %m : T[B, 8, L, 1]
  %d = sub %x, %mg : T[B, 8, L, P + S]
  %e = exp %d : T[B, 8, L, P + S]
  %l = reduce %e {f = sum, axes = [3]} : T[B, 8, L, 1]
  %le = eq %l, %zero : bool[B, 8, L, 1]
  %lg = select %le, %one, %l : T[B, 8, L, 1]
  %p = div %e, %lg : T[B, 8, L, P + S]
  %bm = reduce %bias {f = max, axes = [1]} : T[L, 1]
  %hid = eq %bm, %low : bool[L, 1]
  %w = select %hid, %zero, %p : T[B, 8, L, P + S]
  %y = matmul %w, %v3 {trans_a = false, trans_b = false, out = T} : T[B, 8, L, 16]
  yield %y, %nk, %nv
}
";

fn cache(t: &str) -> String {
    let mut text = CACHE.to_string();
    for (name, x) in [("zero", 0.0), ("one", 1.0), ("low", f64::NEG_INFINITY), ("root", 0.5)] {
        text = text.replace(&format!("  {}\n", name.to_uppercase()), &format!("  {}\n", constant(name, t, x)));
    }
    text.replace("T[", &format!("{t}[")).replace("out = T", &format!("out = {t}"))
}

#[test]
fn cached_and_shared_keys() {
    for (t, cases) in [("f32", &[("L", "P"), ("O", "P"), ("M", "P"), ("M", "Z")][..]), ("f16", &[("M", "P")]), ("f64", &[("O", "P")])] {
        for (l, p) in cases {
            let sized = |t: &str| cache(t).replace("[L", &format!("[{l}")).replace(" L,", &format!(" {l},")).replace("P + S", &format!("{p} + S")).replace("2, P,", &format!("2, {p},")).replace("[P]", &format!("[{p}]"));
            for target in [gpu(), target(64, true), target(32, true)] {
                near(&sized(t), &sized("f64"), DType::from_name(t).expect("a type"), &target, 1);
            }
        }
    }
    // Nothing repeats the keys of a head: the mask and its maximum are all that is computed besides.
    let plan = plan(&parse(&cache("f32")), &gpu(), Numerics::Fast);
    assert!(plan.kernels.iter().all(|k| !k.name.contains("copy")), "{:?}", plan.kernels.iter().map(|k| &k.name).collect::<Vec<_>>());
}

/// Heads joined with the batch for the products, as in exports of multi-head attention.
const JOINED: &str = "graph @g(%x: f32[B, 11, 48], %mask: f32[B, 1, 1, 11]) -> (%y) {
  %x0 = reshape %x {shape = [B, 11, 4, 12]} : f32[B, 11, 4, 12]
  %x1 = transpose %x0 {perm = [0, 2, 1, 3]} : f32[B, 4, 11, 12]
  %h = reshape %x1 {shape = [4*B, 11, 12]} : f32[4*B, 11, 12]
  %raw = matmul %h, %h {trans_a = false, trans_b = true, out = f32} : f32[4*B, 11, 11]
  %cut = reshape %raw {shape = [B, 4, 11, 11]} : f32[B, 4, 11, 11]
  %add = add %cut, %mask : f32[B, 4, 11, 11]
  %t = reshape %add {shape = [4*B, 11, 11]} : f32[4*B, 11, 11]
  %m = reduce %t {f = max, axes = [2]} : f32[4*B, 11, 1]
  %d = sub %t, %m : f32[4*B, 11, 11]
  %e = exp %d : f32[4*B, 11, 11]
  %l = reduce %e {f = sum, axes = [2]} : f32[4*B, 11, 1]
  %p = div %e, %l : f32[4*B, 11, 11]
  %n = is_nan %p : bool[4*B, 11, 11]
  %zero = constant {dtype = f32, shape = [], bits = [0]} : f32[]
  %w = select %n, %zero, %p : f32[4*B, 11, 11]
  %r = matmul %w, %h {trans_a = false, trans_b = false, out = f32} : f32[4*B, 11, 12]
  %y0 = reshape %r {shape = [B, 4, 11, 12]} : f32[B, 4, 11, 12]
  %y1 = transpose %y0 {perm = [0, 2, 1, 3]} : f32[B, 11, 4, 12]
  %y = reshape %y1 {shape = [B, 11, 48]} : f32[B, 11, 48]
  yield %y
}
";

#[test]
fn joined_heads() {
    let program = parse(JOINED);
    assert_eq!(fused(&plan(&program, &gpu(), Numerics::Fast)), 1);
    check(JOINED, SIZES);
    // A mask that hides every key of the second batch: its rows are zero.
    crate::harness::check_with(JOINED, SIZES, |i, t| match i {
        1 => Tensor::from_consts(t.dtype, t.shape.clone(), t.iter().enumerate().map(|(i, c)| if i >= 11 { Const::f32(f32::NEG_INFINITY) } else { c })),
        _ => t,
    });
}

/// Runs a program on simulated GPUs whose warps and copies come in any order.
fn without_races(text: &str, dtype: DType) {
    let program = parse(text);
    let given = inputs(&program, SIZES, 5);
    let plan = plan(&program, &gpu(), Numerics::Fast);
    assert_eq!(fused(&plan), 1);
    let expected = execute(&plan, &program, &given, false).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let sim = Sim::new(&plan, &gpu());
    for seed in 0..20 {
        let found = execute_on(&|k, b, o, d, t, _| sim.run(Some(seed), k, b, o, d, t), &plan, &program, &given, false);
        let found = found.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        for (a, b) in expected.iter().zip(&found) {
            // Products are exact but for the order of their sums.
            let off = distance(&numbers(a), &numbers(b));
            assert!(off <= if dtype.size() == 2 { 1e-2 } else { 1e-5 }, "seed {seed}: off by {off:e}\n{text}");
        }
    }
}

#[test]
fn there_are_no_races() {
    let more = &[("bias", "1, 1, 40", false), ("seen", "20, 40", true)];
    let case = |q, sizes| Case { q, k: "1, 2, 40, 16", v: "1, 2, 40, 16", batch: "1, 2", sizes, more, chain: MASKED, ..Case::default() };
    for t in ["f32", "f16", "f64"] {
        without_races(&case("1, 2, 20, 16", ["20", "40", "16"]).text(t), DType::from_name(t).expect("a type"));
    }
    let odd = Case { q: "67, 13", k: "35, 13", v: "35, 21", batch: "", sizes: ["67", "35", "21"], ..Case::default() };
    without_races(&odd.text("f32"), DType::F32);
    without_races(&odd.text("f16"), DType::F16);
    let few = Case { q: "7, 40", k: "300, 40", v: "300, 33", batch: "", sizes: ["7", "300", "33"], ..Case::default() };
    without_races(&few.text("f32"), DType::F32);
    without_races(&cache("f16"), DType::F16);
    without_races(&cache("f32").replace("[L", "[O").replace(" L,", " O,"), DType::F32);
}

/// Graphs that are nearly attention.
#[test]
fn others_stay_as_they_are() {
    let text = Case::default().text("f32");
    let mut seen = HashSet::new();
    for (from, to) in [
        ("yield %r", "yield %r, %p"),
        ("yield %r", "yield %r, %raw"),
        ("yield %r", "yield %r, %m"),
        ("div %e, %l", "div %e, %m"),
        ("sub %x, %m", "add %x, %m"),
        ("exp %d", "tanh %d"),
        ("f = sum, axes = [3]} : f32[2, 3, 20, 1]", "f = prod, axes = [3]} : f32[2, 3, 20, 1]"),
    ] {
        let mut changed = text.replacen(from, to, 1);
        if from.starts_with("yield") {
            changed = changed.replacen("-> (%r)", &format!("-> ({})", &to[6..]), 1);
        }
        assert!(seen.insert(changed.clone()) && changed != text);
        let plan = plan(&parse(&changed), &gpu(), Numerics::Fast);
        assert_eq!(fused(&plan), 0, "{changed}");
    }
    let wide = Case { q: "5, 300", k: "9, 300", v: "9, 4", batch: "", sizes: ["5", "9", "4"], ..Case::default() };
    assert_eq!(fused(&plan(&parse(&wide.text("f32")), &gpu(), Numerics::Fast)), 0);
}

#[test]
fn exact_numerics_do_not_fuse() {
    let program = parse(&Case::default().text("f32"));
    assert_eq!(fused(&plan(&program, &gpu(), Numerics::Exact)), 0);
    assert_eq!(fused(&plan(&program, &target(32, true), Numerics::Exact)), 0);
    check(&Case { q: "2, 3, 9, 16", sizes: ["9", "40", "16"], ..Case::default() }.text("f32"), SIZES);
}
