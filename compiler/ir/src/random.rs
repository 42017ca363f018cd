//! Random well-formed programs and data, from a seed: the material of differential tests.
//!
//! A program reads a few inputs, some with symbolic dims, and applies random ops to random earlier values: elementwise
//! chains, broadcasts, reductions, contractions, windows, data movement, indexing and, if asked for, control flow. Values
//! that nothing uses are its outputs. Every size stays positive for all values of the symbols in the graph's ranges, and no
//! index is out of range, so evaluation succeeds.

mod contract;
mod control;
mod movement;
mod pointwise;

use std::collections::BTreeMap;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::graph::{BODY, Graph, Loc, Program, RegionId, ValueId};
use crate::kernel::Const;
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::Type;

/// A small generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random { Random(seed) }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize { (self.bits() % n as u64) as usize }

    /// A number from `lo` to `hi`, both included.
    pub fn between(&mut self, lo: i64, hi: i64) -> i64 { lo + (self.bits() % (hi - lo + 1) as u64) as i64 }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool { self.below(n) == 0 }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T { items[self.below(items.len())].clone() }

    /// A float in -1..1 with 24 random bits, an integer in -8..8 or 0..8, a truth value.
    pub fn element(&mut self, dtype: DType) -> Const {
        match dtype {
            DType::Bool => Const::bool(self.once_in(2)),
            t if t.is_float() => Const::number(t, (self.bits() >> 40) as f64 / f64::powi(2.0, 23) - 1.0),
            t if t.is_signed() => Const::int(t, self.between(-8, 7)),
            t => Const::int(t, self.between(0, 7)),
        }
    }

    /// A tensor of such elements, of a type kernels know.
    pub fn tensor(&mut self, dtype: DType, shape: Vec<usize>) -> Tensor {
        let count: usize = shape.iter().product();
        let elements: Vec<Const> = (0..count).map(|_| self.element(dtype)).collect();
        Tensor::from_consts(dtype, shape, elements)
    }
}

/// What programs are like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps; each adds one node or a few.
    pub steps: usize,
    /// Inputs may have symbolic dims.
    pub symbolic: bool,
    /// `if` and `loop` may appear.
    pub control_flow: bool,
    /// Data-dependent sizes may appear.
    pub data_dependent: bool,
    /// Only ops that do not blow small numeric differences up: no rounding, no comparison, no division, no sorting of
    /// floats. For engines that are compared within an error bound; give them `dtypes` of one float width, since a cast to a
    /// narrower one rounds.
    pub well_conditioned: bool,
    /// Element types of inputs, as often as they shall appear.
    pub dtypes: Vec<DType>,
}

impl Default for Options {
    fn default() -> Options {
        use DType::{BF16, Bool, F16, F32, F64, I8, I32, I64, U8};
        let dtypes = vec![F32, F32, F32, F32, F32, F32, F16, BF16, F64, I64, I32, I8, U8, Bool];
        Options { steps: 10, symbolic: true, control_flow: true, data_dependent: true, well_conditioned: false, dtypes }
    }
}

/// A random program.
pub fn program(seed: u64, options: &Options) -> Program {
    let mut g = Generator::new(seed, options);
    for _ in 0..1 + g.random.below(2) {
        let ty = g.input_type();
        g.input(ty);
    }
    let mut steps = 0;
    // Steps whose operands do not fit do nothing; the second bound is for element types that fit few ops.
    for _ in 0..options.steps * 20 {
        steps += usize::from(g.step().is_some());
        if steps == options.steps {
            break;
        }
    }
    g.finish()
}

/// Values for the symbols of a program's ranges.
pub fn sizes(program: &Program, seed: u64) -> BTreeMap<Symbol, i64> {
    let mut random = Random::new(seed);
    program.graph.ranges.iter().map(|(s, lo, hi)| (s.clone(), random.between(*lo, *hi))).collect()
}

/// Data for the inputs of a program when its symbols have these values; none if one is missing.
pub fn inputs(program: &Program, sizes: &BTreeMap<Symbol, i64>, seed: u64) -> Option<Vec<Tensor>> {
    let mut random = Random::new(seed);
    let graph = &program.graph;
    let tensor = |&v: &ValueId| {
        let size = |d: &Dim| usize::try_from(d.eval(&|s| sizes.get(s).copied())?).ok();
        let shape = graph.ty(v).shape.iter().map(size).collect::<Option<Vec<usize>>>()?;
        Some(random.tensor(graph.ty(v).dtype, shape))
    };
    graph.inputs().iter().map(tensor).collect()
}

/// Symbols of generated programs, with their ranges.
const SYMBOLS: [(&str, i64, i64); 2] = [("N", 1, 5), ("M", 2, 4)];

/// Most elements of a value, symbols at their largest.
const MAX_ELEMENTS: i64 = 3000;

/// A step adds nodes, or nothing if the values it picked do not fit.
type Step = fn(&mut Generator) -> Option<()>;

/// A program in the making.
struct Generator<'a> {
    random: Random,
    options: &'a Options,
    program: Program,
    /// Region nodes are added to.
    region: RegionId,
    /// Values to choose operands from.
    pool: Vec<ValueId>,
    /// Values that are outputs even if used.
    outputs: Vec<ValueId>,
    nodes: usize,
}

impl<'a> Generator<'a> {
    fn new(seed: u64, options: &'a Options) -> Generator<'a> {
        let mut program = Program { graph: Graph::new("random"), ..Program::default() };
        if options.symbolic {
            program.graph.ranges = SYMBOLS.iter().map(|&(s, lo, hi)| (s.into(), lo, hi)).collect();
        }
        let (pool, outputs) = (Vec::new(), Vec::new());
        Generator { random: Random::new(seed), options, program, region: BODY, pool, outputs, nodes: 0 }
    }

    fn step(&mut self) -> Option<()> {
        let families: &[(usize, &[Step])] =
            &[(5, pointwise::STEPS), (3, movement::STEPS), (3, contract::STEPS), (1, control::STEPS)];
        let total: usize = families.iter().map(|f| f.0).sum();
        let mut at = self.random.below(total);
        for (weight, steps) in families {
            if at < *weight {
                return self.random.pick(steps)(self);
            }
            at -= weight;
        }
        None
    }

    /// Unused values become outputs.
    fn finish(mut self) -> Program {
        let users = self.program.graph.users();
        let unused = self.pool.iter().filter(|v| users[v.0 as usize].nodes.is_empty());
        let mut outputs: Vec<ValueId> = unused.copied().chain(self.outputs.iter().copied()).collect();
        outputs.sort();
        outputs.dedup();
        let graph = &mut self.program.graph;
        // An input that nothing uses is no output, unless there is no other.
        if outputs.iter().any(|v| !graph.inputs().contains(v)) {
            outputs.retain(|v| !graph.inputs().contains(v));
        }
        graph.output_names = (0..outputs.len()).map(|i| format!("out{i}").into()).collect();
        graph.region_mut(BODY).outputs = outputs;
        self.bind_symbols();
        self.program
    }

    /// Symbols get their values from inputs: adds one that nothing uses for each that appears elsewhere only.
    fn bind_symbols(&mut self) {
        let used = self.program.graph.symbols();
        for (name, ..) in SYMBOLS {
            let graph = &self.program.graph;
            let bound = graph.inputs().iter().any(|&v| graph.ty(v).shape.contains(&Dim::sym(name)));
            if !bound && used.contains(name) {
                self.input(Type::new(DType::F32, [Dim::sym(name)]));
            }
        }
    }

    fn ty(&self, v: ValueId) -> Type { self.program.graph.ty(v).clone() }

    fn input_type(&mut self) -> Type {
        let dtype = self.random.pick(&self.options.dtypes);
        let rank = self.random.below(5);
        let shape: Vec<Dim> = (0..rank).map(|_| self.dim()).collect();
        Type::new(dtype, shape)
    }

    /// A small dim, sometimes a symbol.
    fn dim(&mut self) -> Dim {
        if self.options.symbolic && self.random.once_in(4) {
            let (name, ..) = self.random.pick(&SYMBOLS);
            return Dim::sym(name);
        }
        Dim::from(self.random.pick(&[1i64, 2, 3, 4, 5, 7, 8, 9]))
    }

    /// A new input of the graph.
    fn input(&mut self, ty: Type) -> ValueId {
        let name = format!("in{}", self.program.graph.inputs().len());
        let value = self.program.graph.add_input(BODY, ty, Some(&name));
        self.pool.push(value);
        value
    }

    /// A weight or small constant of random data.
    fn constant(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let tensor = self.random.tensor(dtype, shape.to_vec());
        self.constant_of(tensor)
    }

    fn constant_of(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("w{}", self.program.weights.len());
        let loc = self.loc();
        self.program.graph.add_constant(&mut self.program.weights, self.region, &name, tensor, &loc)
    }

    fn loc(&mut self) -> Loc {
        self.nodes += 1;
        Loc::node(&format!("node_{}", self.nodes - 1))
    }

    /// An earlier value that `fits`.
    fn value(&mut self, fits: impl Fn(&Type) -> bool) -> Option<ValueId> {
        let graph = &self.program.graph;
        let found: Vec<ValueId> = self.pool.iter().copied().filter(|&v| fits(graph.ty(v))).collect();
        // Recent values more often, so that chains grow.
        let recent = &found[found.len().saturating_sub(3)..];
        let from = if self.random.once_in(3) { &found[..] } else { recent };
        if from.is_empty() { None } else { Some(self.random.pick(from)) }
    }

    /// Adds a node, if its results are small and positive for all sizes; they join the pool.
    fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Option<Vec<ValueId>> {
        let op = op.into();
        let types: Vec<Type> = inputs.iter().map(|&v| self.ty(v)).collect();
        let results = op.infer(&types).ok()?;
        if !results.iter().all(|t| self.is_handy(t)) {
            return None;
        }
        let loc = self.loc();
        let node = self.program.graph.add(self.region, op, inputs, &loc).ok()?;
        let outputs = self.program.graph.node(node).outputs.clone();
        self.pool.extend(&outputs);
        Some(outputs)
    }

    /// [`Generator::add`] of a node with one result.
    fn apply(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Option<ValueId> { self.add(op, inputs)?.first().copied() }

    /// True if every dim is positive, and the type small, whatever the sizes are.
    fn is_handy(&self, ty: &Type) -> bool {
        all_sizes().all(|size| {
            let dims: Option<Vec<i64>> = ty.shape.iter().map(|d| d.eval(&size)).collect();
            let product = |dims: Vec<i64>| dims.iter().try_fold(1i64, |a, &d| a.checked_mul(d).filter(|_| d > 0));
            dims.and_then(product).is_some_and(|n| n <= MAX_ELEMENTS)
        })
    }
}

/// Every combination of values of [`SYMBOLS`].
fn all_sizes() -> impl Iterator<Item = impl Fn(&str) -> Option<i64>> {
    let [(_, n_lo, n_hi), (_, m_lo, m_hi)] = SYMBOLS;
    (n_lo..=n_hi).flat_map(move |n| (m_lo..=m_hi).map(move |m| (n, m))).map(|(n, m)| {
        move |s: &str| match s {
            "N" => Some(n),
            "M" => Some(m),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::graph::NodeId;

    #[test]
    fn equal_seeds_give_equal_programs() {
        let text = |seed| crate::text::print(&program(seed, &Options::default()));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn most_ops_appear() {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for seed in 0..400 {
            let graph = program(seed, &Options::default()).graph;
            seen.extend(graph.live_nodes().iter().map(|&n: &NodeId| graph.node(n).op.mnemonic()));
        }
        let missing: Vec<_> = Op::DOCS.iter().map(|d| d.0).filter(|m| !seen.contains(m) && !["bind"].contains(m)).collect();
        assert_eq!(missing, [""; 0], "ops no program has");
    }

    #[test]
    fn programs_are_well_formed_and_run() {
        for seed in 0..600 {
            let gentle = Options { well_conditioned: true, ..Options::default() };
            let options = if seed % 3 == 0 { gentle } else { Options::default() };
            let p = program(seed, &options);
            let text = || format!("seed {seed}\n{}", crate::text::print(&p));
            assert_eq!(crate::verify::verify(&p), Ok(()), "{}", text());
            let inputs = inputs(&p, &sizes(&p, seed), seed).unwrap();
            let outputs = crate::interp::run(&p, &inputs, crate::interp::Options::default());
            let outputs = outputs.unwrap_or_else(|e| panic!("{}\n{}", e.message, text()));
            assert_eq!(outputs.len(), p.graph.outputs().len());
        }
    }

    #[test]
    fn static_programs_have_no_symbols() {
        let options =
            Options { symbolic: false, control_flow: false, data_dependent: false, ..Options::default() };
        for seed in 0..50 {
            assert_eq!(program(seed, &options).graph.symbols(), BTreeSet::new(), "seed {seed}");
        }
    }
}
