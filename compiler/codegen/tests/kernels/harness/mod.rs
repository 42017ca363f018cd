//! The differential test of code generation: compiles a program, runs its plan on the kernel interpreter, and compares
//! with the graph interpreter.
//!
//! The plan runs as the runtime would run it, on memory that starts as garbage, tiles in either order. Kernels work on
//! copies of their buffers; what they changed is written back, so that disjoint parts of one buffer may be parameters of
//! one launch.

pub mod products;

use std::collections::HashMap;

use xlac_codegen::plan::{BufferId, Host, Launch, Operand, Plan, Routine, Step, Storage};
use xlac_codegen::{Numerics, Options};
use xlac_ir::DType;
use xlac_ir::backend::{Gpu, Target};
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::Program;
use xlac_ir::interp;
use xlac_ir::kernel::interp as machine;
use xlac_ir::kernel::{Const, Kernel, Pred};
use xlac_ir::op::EvalCx;
use xlac_ir::ops::{Op, TopK};
use xlac_ir::random;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;

/// What fresh memory holds.
const GARBAGE: u8 = 0xa7;

/// A made-up machine.
pub fn target(vector_bytes: u32, masked: bool) -> Target {
    Target {
        name: format!("test{vector_bytes}{}", if masked { "m" } else { "" }),
        arch: "x86_64".into(),
        cpu: if vector_bytes == 64 && masked { "znver4" } else { "generic" }.into(),
        // What makes sums of bytes flip their signs.
        features: if vector_bytes == 64 && masked { vec!["avx512vnni".into()] } else { Vec::new() },
        vector_bytes,
        vector_registers: if vector_bytes >= 64 { 32 } else { 16 },
        masked_memory: masked,
        broadcast_fma: vector_bytes >= 64,
        cache_bytes: [32 << 10, 512 << 10, 2 << 20],
        gpu: None,
    }
}

/// A made-up GPU: the least of its family.
pub fn gpu() -> Target {
    let gpu = Gpu { multiprocessors: 108, shared_bytes: 99 << 10, thread_registers: 255 };
    Target { name: "testgpu".into(), arch: "nvptx64".into(), gpu: Some(gpu), ..target(16, true) }
}

/// Machines that differ in what kernels are built for.
pub fn targets() -> Vec<Target> { vec![target(16, false), target(32, true), target(64, true), target(64, false), gpu()] }

/// What a comparison found.
#[derive(Debug)]
pub enum Outcome {
    /// Equal outputs.
    Same,
    /// Both fail, with a check.
    Failed,
    /// The interpreter refuses the inputs: nothing to compare.
    Skipped,
    /// Code generation refuses the program.
    Refused(String),
    /// They differ.
    Wrong(String),
}

/// Compiles for a target and compares one run with the interpreter: bit for bit if `exact`, else within `1e-4` of the
/// output's largest element.
pub fn compare(program: &Program, inputs: &[Tensor], target: &Target, exact: bool) -> Outcome {
    let expected = interp::run(program, inputs, interp::Options::default());
    let checked = match &expected {
        Ok(_) => false,
        // Random programs do not record that symbols must broadcast; imported ones do.
        Err(e) if e.message.contains("do not broadcast") => return Outcome::Skipped,
        Err(e) if e.kind == interp::RunErrorKind::Eval => true,
        Err(_) => return Outcome::Skipped,
    };
    let options = Options { numerics: if exact { Numerics::Exact } else { Numerics::Fast }, ..Options::default() };
    let plan = match xlac_codegen::compile(program, target, &options) {
        Ok(plan) => plan,
        Err(e) => return Outcome::Refused(e.to_string()),
    };
    for backwards in [false, true] {
        let found = execute(&plan, program, inputs, backwards);
        let (expected, found) = match (&expected, found) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(_), Err(e)) if checked && e.contains("check") => return Outcome::Failed,
            (Err(e), Ok(_)) => return Outcome::Wrong(format!("{}: the interpreter says `{e}`, the plan runs", target.name)),
            (Err(e), Err(f)) => return Outcome::Wrong(format!("{}: the interpreter says `{e}`, the plan `{f}`", target.name)),
            (Ok(_), Err(e)) => return Outcome::Wrong(format!("{}: {e}", target.name)),
        };
        for (i, (a, b)) in expected.iter().zip(&found).enumerate() {
            if let Some(why) = difference(a, b, exact) {
                return Outcome::Wrong(format!("{}, output {i}{}: {why}", target.name, if backwards { ", backwards" } else { "" }));
            }
        }
    }
    Outcome::Same
}

/// Why two tensors differ, if they do. The payload of a NaN does not matter.
pub fn difference(a: &Tensor, b: &Tensor, exact: bool) -> Option<String> {
    if a.dtype != b.dtype || a.shape != b.shape {
        return Some(format!("{} instead of {}", b.ty(), a.ty()));
    }
    if a.data == b.data || !a.dtype.in_kernels() {
        return (a.data != b.data).then(|| "other bytes".into());
    }
    let nan = |c: Const| scalar::cmp(Pred::Ne, c, c);
    let wide = |c: Const| f64::from_bits(scalar::convert(c, DType::F64).bits);
    let largest = a.iter().map(wide).filter(|x| x.is_finite()).fold(1.0, |m: f64, x| m.max(x.abs()));
    let near = |x: Const, y: Const| !exact && a.dtype.is_float() && (wide(x) - wide(y)).abs() <= 1e-4 * largest;
    let differs = |i: &usize| {
        let (x, y) = (a.get(*i), b.get(*i));
        x.bits != y.bits && !(nan(x) && nan(y)) && !near(x, y)
    };
    let wrong: Vec<usize> = (0..a.len()).filter(differs).collect();
    let first = *wrong.first()?;
    let (x, y) = (wide(a.get(first)), wide(b.get(first)));
    Some(format!("{} of {} elements of {} differ, the first at {first}: {y:?} instead of {x:?}", wrong.len(), a.len(), a.ty()))
}

/// Runs a kernel: memory of its parameters, the element of each that has index 0, dims, tiles, last one first or not.
pub type Engine<'a> = &'a dyn Fn(&Kernel, &mut [machine::Buffer], &[usize], &[i64], i64, bool) -> Result<(), String>;

/// Runs a kernel on the kernel interpreter.
fn interpret(k: &Kernel, buffers: &mut [machine::Buffer], origins: &[usize], dims: &[i64], tiles: i64, backwards: bool) -> Result<(), String> {
    let order = (0..tiles).map(|i| if backwards { tiles - 1 - i } else { i });
    machine::run_at(k, buffers, origins, dims, order).map_err(|e| e.to_string())
}

/// Runs a plan. Errors are faults of kernels and malformed plans.
pub fn execute(plan: &Plan, program: &Program, inputs: &[Tensor], backwards: bool) -> Result<Vec<Tensor>, String> {
    execute_on(&interpret, plan, program, inputs, backwards)
}

/// [`execute`] with kernels run by an engine.
pub fn execute_on(engine: Engine, plan: &Plan, program: &Program, inputs: &[Tensor], backwards: bool) -> Result<Vec<Tensor>, String> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.shape.clone()).collect();
    let symbols = interp::bind_symbols(&program.graph, &shapes)?;
    let mut run = Run { plan, symbols, arena: Vec::new(), own: HashMap::new(), backwards, engine };
    run.arena = vec![GARBAGE; run.size(&plan.arena)?];
    for (i, buffer) in plan.buffers.iter().enumerate() {
        let id = BufferId(i as u32);
        match &buffer.storage {
            Storage::Blob(b) => {
                let mut bytes = Vec::new();
                let sink = |piece: &[u8]| -> Result<(), String> {
                    bytes.extend_from_slice(piece);
                    Ok(())
                };
                plan.blobs[*b as usize].write(&program.weights, sink)?;
                run.own.insert(id, bytes);
            }
            Storage::Input(n) => _ = run.own.insert(id, inputs[*n as usize].data.to_vec()),
            Storage::Output(_) => {
                let size = run.size(&buffer.bytes)?;
                run.own.insert(id, vec![GARBAGE; size]);
            }
            Storage::Temp => return Err(format!("buffer {i} has no place")),
            Storage::Arena(_) | Storage::Heap => {}
        }
    }
    run.steps(&plan.steps)?;
    plan.outputs.iter().map(|io| run.tensor(io.buffer, io.ty.dtype, &io.ty.shape)).collect()
}

/// A plan at work.
struct Run<'a> {
    plan: &'a Plan,
    symbols: HashMap<Symbol, i64>,
    arena: Vec<u8>,
    /// Buffers outside of the arena.
    own: HashMap<BufferId, Vec<u8>>,
    backwards: bool,
    engine: Engine<'a>,
}

impl Run<'_> {
    fn int(&self, d: &Dim) -> Result<i64, String> {
        d.eval(&|s| self.symbols.get(s).copied()).ok_or_else(|| format!("`{d}` is not known yet"))
    }

    fn size(&self, d: &Dim) -> Result<usize, String> {
        let x = self.int(d)?;
        usize::try_from(x).map_err(|_| format!("`{d}` is {x}"))
    }

    /// The bytes of a buffer.
    fn memory(&mut self, id: BufferId) -> Result<&mut [u8], String> {
        let buffer = &self.plan.buffers[id.0 as usize];
        let bytes = self.size(&buffer.bytes)?;
        match &buffer.storage {
            Storage::Arena(at) => {
                let at = self.size(at)?;
                let end = self.arena.len();
                self.arena.get_mut(at..at + bytes).ok_or(format!("buffer {} ends beyond the arena of {end} bytes", id.0))
            }
            Storage::Heap => {
                let memory = self.own.entry(id).or_default();
                memory.resize(bytes, GARBAGE);
                Ok(memory)
            }
            _ => self.own.get_mut(&id).map(Vec::as_mut_slice).ok_or(format!("buffer {} has no memory", id.0)),
        }
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), String> { steps.iter().try_for_each(|s| self.step(s)) }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Launch(l) => self.launch(l),
            Step::Copy { from, to, bytes } => {
                let n = self.size(bytes)?;
                let data = self.memory(*from)?.get(..n).ok_or("a copy reads too much")?.to_vec();
                self.memory(*to)?.get_mut(..n).ok_or("a copy writes too much")?.copy_from_slice(&data);
                Ok(())
            }
            Step::Bind { symbol, from, index } => {
                let value = self.i64_at(*from, *index as usize)?;
                if value < 0 {
                    return Err(format!("check: the size `{symbol}` is {value}"));
                }
                self.symbols.insert(symbol.clone(), value);
                Ok(())
            }
            Step::Set { symbol, value } => {
                let value = self.int(value)?;
                self.symbols.insert(symbol.clone(), value);
                Ok(())
            }
            Step::Host(h) => self.host(h),
            Step::If { cond, then_steps, else_steps } => {
                let taken = self.truth(*cond)?;
                self.steps(if taken { then_steps } else { else_steps })
            }
            Step::Loop { trips, cond, counter, symbol, body } => self.repeat(*trips, *cond, *counter, symbol, body),
            Step::Append { from, to, offset, bytes } => {
                let (at, n) = (self.size(offset)?, self.size(bytes)?);
                let data = self.memory(*from)?.get(..n).ok_or("an append reads too much")?.to_vec();
                let memory = self.own.entry(*to).or_default();
                memory.resize(at, GARBAGE);
                memory.extend(data);
                Ok(())
            }
        }
    }

    fn i64_at(&mut self, id: BufferId, index: usize) -> Result<i64, String> {
        let bytes = self.memory(id)?.get(index * 8..index * 8 + 8).ok_or("a scalar lies outside of its buffer")?;
        Ok(i64::from_le_bytes(bytes.try_into().expect("8 bytes")))
    }

    fn truth(&mut self, id: BufferId) -> Result<bool, String> {
        Ok(*self.memory(id)?.first().ok_or("a condition has no element")? != 0)
    }

    fn repeat(
        &mut self,
        trips: Option<BufferId>,
        cond: Option<BufferId>,
        counter: BufferId,
        symbol: &Symbol,
        body: &[Step],
    ) -> Result<(), String> {
        let most = trips.map_or(Ok(i64::MAX), |id| self.i64_at(id, 0))?;
        let mut trip = 0;
        while trip < most && cond.map_or(Ok(true), |id| self.truth(id))? {
            self.symbols.insert(symbol.clone(), trip);
            self.memory(counter)?[..8].copy_from_slice(&trip.to_le_bytes());
            self.steps(body)?;
            trip += 1;
        }
        self.symbols.insert(symbol.clone(), trip);
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), String> {
        let kernel = &self.plan.kernels[launch.kernel];
        let fail = |e: String| format!("{e}\nin {}", xlac_ir::kernel::text::print(kernel));
        let (mut buffers, mut origins) = (Vec::new(), Vec::new());
        for ((id, offset), param) in launch.buffers.iter().zip(&kernel.params) {
            let (at, size) = (self.size(offset).map_err(fail)?, param.dtype.size());
            let memory = self.memory(*id).map_err(fail)?;
            if at % size != 0 {
                return Err(fail(format!("an offset of {at} bytes for elements of {}", param.dtype)));
            }
            origins.push(at / size);
            buffers.push(machine::Buffer { dtype: param.dtype, bytes: memory[..memory.len() / size * size].to_vec() });
        }
        let before = buffers.clone();
        let dims = launch.dims.iter().map(|d| self.int(d)).collect::<Result<Vec<_>, _>>().map_err(fail)?;
        let tiles = self.size(&launch.tiles).map_err(fail)? as i64;
        self.size(&launch.scratch).map_err(fail)?;
        (self.engine)(kernel, &mut buffers, &origins, &dims, tiles, self.backwards).map_err(fail)?;
        for (((id, _), after), before) in launch.buffers.iter().zip(&buffers).zip(&before) {
            let memory = self.memory(*id)?;
            for (i, (x, y)) in after.bytes.iter().zip(&before.bytes).enumerate() {
                if x != y {
                    memory[i] = *x;
                }
            }
        }
        Ok(())
    }

    fn tensor(&mut self, id: BufferId, dtype: DType, shape: &[Dim]) -> Result<Tensor, String> {
        let shape = shape.iter().map(|d| self.size(d)).collect::<Result<Vec<_>, _>>()?;
        let bytes = dtype.bytes_for(shape.iter().product()).ok_or("too large")?;
        let data = self.memory(id)?.get(..bytes).ok_or(format!("buffer {} is too short for {shape:?}", id.0))?.to_vec();
        Tensor::new(dtype, shape, data.into()).ok_or("the shape does not fit".into())
    }

    fn operand(&mut self, o: &Operand) -> Result<Tensor, String> { self.tensor(o.buffer, o.dtype, &o.shape) }

    fn host(&mut self, host: &Host) -> Result<(), String> {
        let inputs = host.inputs.iter().map(|o| self.operand(o)).collect::<Result<Vec<_>, _>>()?;
        let results = match &host.routine {
            Routine::TopK { axis, largest } => {
                let k = host.outputs[0].shape[*axis].clone();
                let op = Op::from(TopK { k: vec![k], axis: *axis, largest: *largest });
                let symbols = |s: &str| self.symbols.get(s).copied();
                op.eval(&inputs, &EvalCx { symbols: &symbols }).map_err(|e| format!("check: {}", e.0))?
            }
            Routine::NonZero => {
                let op = Op::from(xlac_ir::ops::NonZero { count: host.binds.clone() });
                let symbols = |_: &str| None;
                let results = op.eval(&inputs, &EvalCx { symbols: &symbols }).map_err(|e| e.0)?;
                self.symbols.insert(host.binds[0].clone(), results[0].shape[1] as i64);
                results
            }
        };
        for (o, t) in host.outputs.iter().zip(results) {
            if o.dtype != t.dtype {
                return Err(format!("{:?} gives {}, its operand is {}", host.routine, t.dtype, o.dtype));
            }
            let memory = self.memory(o.buffer)?;
            memory.get_mut(..t.data.len()).ok_or("a result does not fit")?.copy_from_slice(&t.data);
        }
        Ok(())
    }
}

/// Random inputs for a program whose symbols have these values.
pub fn inputs(program: &Program, sizes: &[(&str, i64)], seed: u64) -> Vec<Tensor> {
    let sizes = sizes.iter().map(|&(s, x)| (s.into(), x)).collect();
    random::inputs(program, &sizes, seed).expect("every symbol has a size")
}

/// Pairs of types whose products are sums of bytes.
pub const SIGNS: [(&str, &str); 4] = [("u8", "i8"), ("i8", "u8"), ("i8", "i8"), ("u8", "u8")];

/// Products of bytes of these shapes, of every pair of signs, with a constant second operand where its shape is known and
/// with a computed one.
pub fn byte_products((x, w, trans_b, y): (&str, &str, bool, &str)) -> Vec<String> {
    let kinds: &[bool] = if w.contains('M') { &[false] } else { &[true, false] };
    let text = |(a, b): (&str, &str), constant: bool| {
        let mut g = Graph::new();
        g.input("x", &format!("{a}[{x}]"));
        let ty = format!("{b}[{w}]");
        if constant { g.weight("w", &ty) } else { g.input("w", &ty) }
        g.line(&format!("%y = matmul %x, %w {{trans_a = false, trans_b = {trans_b}, out = i32}} : i32[{y}]"));
        g.finish("%y")
    };
    SIGNS.into_iter().flat_map(|signs| kinds.iter().map(move |&constant| text(signs, constant))).collect()
}

/// Inputs whose elements are often at an end of the range: four such products in a row saturate 16 bits.
pub fn extreme(t: Tensor) -> Tensor {
    let bytes: Vec<u8> = t.data.iter().zip(0..).map(|(&x, i)| match i / 4 % 3 {
        0 => [128, 127, 255][i / 12 % 3],
        _ => x,
    }).collect();
    Tensor::new(t.dtype, t.shape.clone(), bytes.into()).expect("as many bytes")
}

/// Compares a program in text form on all targets, with random inputs changed by `edit`. Panics if it differs.
pub fn check_with(text: &str, sizes: &[(&str, i64)], edit: impl Fn(usize, Tensor) -> Tensor) {
    expect(text, sizes, edit, |o| matches!(o, Outcome::Same));
}

/// [`check_with`] of unchanged inputs.
pub fn check(text: &str, sizes: &[(&str, i64)]) { check_with(text, sizes, |_, t| t); }

/// Insists that a check of the kernels fails where the interpreter fails.
pub fn fails_with(text: &str, sizes: &[(&str, i64)], edit: impl Fn(usize, Tensor) -> Tensor) {
    expect(text, sizes, edit, |o| matches!(o, Outcome::Failed));
}

fn expect(text: &str, sizes: &[(&str, i64)], edit: impl Fn(usize, Tensor) -> Tensor, good: impl Fn(&Outcome) -> bool) {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    if let Err(e) = xlac_ir::verify::verify(&program) {
        panic!("{e:?}\n{text}");
    }
    for (seed, target) in (1..).zip(targets()) {
        let inputs = inputs(&program, sizes, seed).into_iter().enumerate().map(|(i, t)| edit(i, t)).collect::<Vec<_>>();
        for exact in [true, false] {
            let outcome = compare(&program, &inputs, &target, exact);
            if !good(&outcome) {
                panic!("exact = {exact}: {outcome:?}\n{text}");
            }
        }
    }
}

/// A graph of one op. Inputs are given by their types.
pub fn graph_of(op: &str, inputs: &[String], attrs: &str, result: &str) -> String {
    let mut g = Graph::new();
    inputs.iter().enumerate().for_each(|(i, ty)| g.input(&format!("x{i}"), ty));
    let operands: Vec<String> = (0..inputs.len()).map(|i| format!("%x{i}")).collect();
    g.line(&format!("%y = {op} {} {attrs} : {result}", operands.join(", ")));
    g.finish("%y")
}

/// Values of the symbols in graphs of one op.
pub const SIZES: &[(&str, i64)] = &[("N", 3), ("M", 2), ("T", 5)];

/// Compares a graph of one op with changed inputs.
pub fn one_with(op: &str, inputs: &[String], attrs: &str, result: &str, edit: impl Fn(usize, Tensor) -> Tensor) {
    check_with(&graph_of(op, inputs, attrs, result), SIZES, edit);
}

/// [`one_with`] of unchanged inputs.
pub fn one(op: &str, inputs: &[String], attrs: &str, result: &str) { one_with(op, inputs, attrs, result, |_, t| t); }

/// A program in text form, line by line.
pub struct Graph {
    inputs: Vec<String>,
    lines: Vec<String>,
}

impl Graph {
    /// An empty one.
    pub fn new() -> Graph { Graph { inputs: Vec::new(), lines: Vec::new() } }

    /// Adds an input.
    pub fn input(&mut self, name: &str, ty: &str) { self.inputs.push(format!("%{name}: {ty}")); }

    /// Adds a weight with made-up data.
    pub fn weight(&mut self, name: &str, ty: &str) { self.line(&format!("%{name} = weight @{name} : {ty}")); }

    /// Adds a node.
    pub fn line(&mut self, line: &str) { self.lines.push(line.into()); }

    /// The text of the program with these outputs.
    pub fn finish(self, outputs: &str) -> String {
        let body: String = self.lines.iter().map(|l| format!("  {l}\n")).collect();
        format!("graph @g({}) -> ({outputs}) {{\n{body}  yield {outputs}\n}}\n", self.inputs.join(", "))
    }
}
