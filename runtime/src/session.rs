//! A session: one caller's memory and threads for a model.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::device::arena::{Attached, Memory};
use crate::device::cuda::GpuSession;
use crate::error::{Error, Result};
use crate::exec::cpu::{Cpu, State};
use crate::exec::{self, Limits, Times, byte_len};
use crate::expr::{self, Values};
use crate::model::{Code, Inner, Model};
use crate::plan::TensorDecl;
use crate::pool::{Pace, Pool};
use crate::profile::{LaunchTime, Profile};
use crate::tensor::{Tensor, TensorMut, TensorRef};
use crate::threads;

/// How a session runs, and what it is held to.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Threads, the caller's included; by default one per physical core this process may use. A GPU needs the caller's. Runs that
    /// turn out faster on one thread stay on the caller's.
    pub threads: Option<usize>,
    /// Most trips all loops of one run may make together.
    pub loop_fuel: u64,
    /// Most bytes of arena, heap and scratch memory; on a GPU with its copies of inputs and outputs.
    pub memory_ceiling: u64,
    /// Set it from another thread to stop the run between two steps; it stays set until the caller clears it.
    pub cancel: Option<Arc<AtomicBool>>,
    /// On a GPU, waits after every launch, so that an error names the very kernel. Slow; by default on if the variable
    /// `XLAC_DEBUG_SYNC` is set to anything but `0`.
    pub debug_sync: bool,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        let debug_sync = std::env::var_os("XLAC_DEBUG_SYNC").is_some_and(|value| value != "0" && !value.is_empty());
        SessionOptions { threads: None, loop_fuel: 10_000_000, memory_ceiling: u64::MAX, cancel: None, debug_sync }
    }
}

/// Runs a model. A session serves one run at a time; make one per thread to run in parallel.
pub struct Session {
    model: Model,
    options: SessionOptions,
    engine: Engine,
    /// Dims of all inputs that everything is prepared for, one after the other; none when preparing failed.
    prepared_for: Option<Vec<usize>>,
}

/// What a session runs on.
enum Engine {
    Cpu(Box<CpuEngine>),
    Gpu(Box<GpuSession>),
}

struct CpuEngine {
    memory: Memory,
    state: State,
    pool: Pool,
    /// Of the runs with the present shapes.
    pace: Pace,
}

impl Engine {
    fn values(&self) -> &Values {
        match self {
            Engine::Cpu(cpu) => &cpu.state.progress.values,
            Engine::Gpu(gpu) => &gpu.progress().values,
        }
    }
}

impl Session {
    /// A session with default options.
    pub fn new(model: &Model) -> Session {
        Session::with_options(model, SessionOptions::default())
    }

    /// A session with options. Memory is allocated when the first shapes are known: see [`Session::prepare`].
    pub fn with_options(model: &Model, options: SessionOptions) -> Session {
        let inner = &model.inner;
        let engine = match &inner.code {
            Code::Cpu(code) => {
                let pool = Pool::new(options.threads.unwrap_or_else(threads::default_threads));
                let memory = Memory::new(Arc::clone(inner), pool.threads(), options.memory_ceiling);
                Engine::Cpu(Box::new(CpuEngine { memory, state: State::new(inner, code), pool, pace: Pace::default() }))
            }
            Code::Gpu(_) => Engine::Gpu(Box::new(GpuSession::new(inner, options.memory_ceiling, options.debug_sync))),
        };
        Session { model: model.clone(), options, engine, prepared_for: None }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        match &self.engine {
            Engine::Cpu(cpu) => cpu.pool.threads(),
            Engine::Gpu(_) => 1,
        }
    }

    /// Bytes of arena, heap and scratch memory held now, on a GPU with its copies of inputs and outputs; they only grow.
    pub fn memory_bytes(&self) -> u64 {
        match &self.engine {
            Engine::Cpu(cpu) => cpu.memory.used(),
            Engine::Gpu(gpu) => gpu.used(),
        }
    }

    /// Allocates and computes everything for inputs of these shapes, so that the next run need not. On a GPU this makes
    /// graphs too, which otherwise wait until shapes come a second time; those of the last few shapes are kept.
    pub fn prepare(&mut self, shapes: &[&[usize]]) -> Result<()> {
        self.prepare_shapes(shapes.iter().copied(), true)
    }

    /// Runs the model on inputs in the model's order; the outputs come in the model's order.
    pub fn run(&mut self, inputs: &[TensorRef<'_>]) -> Result<Vec<Tensor>> {
        self.run_owned(inputs, None)
    }

    /// Runs the model on inputs by name, in any order.
    pub fn run_named(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<Tensor>> {
        let ordered = order_by_name(&self.model.inner, inputs)?;
        self.run(&ordered)
    }

    /// Runs the model and tells where the time went.
    pub fn run_profiled(&mut self, inputs: &[TensorRef<'_>]) -> Result<(Vec<Tensor>, Profile)> {
        let mut times = blank_times(&self.model.inner);
        let start = Instant::now();
        let outputs = self.run_owned(inputs, Some(&mut times))?;
        let total_ns = start.elapsed().as_nanos() as u64;
        times.retain(|entry| entry.calls > 0);
        Ok((outputs, Profile { total_ns, launches: times }))
    }

    /// Runs the model into tensors of the caller's. Allocates nothing if the shapes are those of the last run, unless
    /// sizes that depend on data have grown.
    pub fn run_into(&mut self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<()> {
        self.begin(inputs)?;
        let Session { model, options, engine, prepared_for } = self;
        let inner = &*model.inner;
        check_outputs(inner, engine.values(), outputs)?;
        let cpu = match engine {
            Engine::Cpu(cpu) => cpu,
            Engine::Gpu(gpu) => {
                keep_if_done(prepared_for, gpu.run(bytes_of(inputs), &limits(options), None))?;
                for (number, (decl, output)) in inner.plan.outputs.iter().zip(outputs).enumerate() {
                    check_shape(&gpu.progress().values, decl, output.shape())?;
                    gpu.read_output(number, output.bytes_mut())?;
                }
                return Ok(());
            }
        };
        let CpuEngine { memory, state, pool, pace } = &mut **cpu;
        let done = memory.with_io(bytes_of(inputs), outputs.iter_mut().map(|output| output.bytes_mut()), |attached| {
            walk(inner, state, attached, (pool, pace), options, None)
        });
        keep_if_done(prepared_for, done)?;
        if inner.indirect_outputs.is_empty() {
            return Ok(());
        }
        memory.with_io(bytes_of(inputs), std::iter::empty(), |attached| {
            for &number in &inner.indirect_outputs {
                let (decl, output) = (&inner.plan.outputs[number], &mut outputs[number]);
                check_shape(&state.progress.values, decl, output.shape())?;
                attached.bytes(decl.buffer, output.bytes().len())?.copy_to(output.bytes_mut());
            }
            Ok(())
        })
    }

    fn run_owned(&mut self, inputs: &[TensorRef<'_>], times: Option<&mut Times>) -> Result<Vec<Tensor>> {
        self.begin(inputs)?;
        let Session { model, options, engine, prepared_for } = self;
        let inner = &*model.inner;
        let cpu = match engine {
            Engine::Cpu(cpu) => cpu,
            Engine::Gpu(gpu) => {
                keep_if_done(prepared_for, gpu.run(bytes_of(inputs), &limits(options), times))?;
                let mut outputs = Vec::with_capacity(inner.plan.outputs.len());
                for (number, decl) in inner.plan.outputs.iter().enumerate() {
                    let values = &gpu.progress().values;
                    gpu.check_output(number, byte_len(values, decl.dtype, &decl.shape)?)?;
                    let mut tensor = Tensor::zeros(decl.dtype, &shape_of(values, decl)?)?;
                    gpu.read_output(number, tensor.bytes_mut())?;
                    outputs.push(tensor);
                }
                return Ok(outputs);
            }
        };
        let CpuEngine { memory, state, pool, pace } = &mut **cpu;
        let mut outputs = Vec::with_capacity(inner.plan.outputs.len());
        for (number, decl) in inner.plan.outputs.iter().enumerate() {
            // What does not go straight into the tensor is allocated when its shape is known.
            let is_direct = inner.indirect_outputs.binary_search(&number).is_err();
            let shape = if is_direct { shape_of(&state.progress.values, decl)? } else { vec![0] };
            outputs.push(Tensor::zeros(decl.dtype, &shape)?);
        }
        let done = memory.with_io(bytes_of(inputs), outputs.iter_mut().map(|output| output.bytes_mut()), |attached| {
            walk(inner, state, attached, (pool, pace), options, times)
        });
        keep_if_done(prepared_for, done)?;
        memory.with_io(bytes_of(inputs), std::iter::empty(), |attached| {
            let values = &state.progress.values;
            for &number in &inner.indirect_outputs {
                let decl = &inner.plan.outputs[number];
                let held = attached.bytes(decl.buffer, byte_len(values, decl.dtype, &decl.shape)?)?;
                let mut tensor = Tensor::zeros(decl.dtype, &shape_of(values, decl)?)?;
                held.copy_to(tensor.bytes_mut());
                outputs[number] = tensor;
            }
            Ok(outputs)
        })
    }

    /// Checks the inputs and prepares for their shapes.
    fn begin(&mut self, inputs: &[TensorRef<'_>]) -> Result<()> {
        let decls = &self.model.inner.plan.inputs;
        if inputs.len() != decls.len() {
            return Err(Error::Count { what: "inputs", expected: decls.len(), found: inputs.len() });
        }
        for (decl, input) in decls.iter().zip(inputs) {
            check_dtype("input", decl, input.dtype())?;
        }
        self.prepare_shapes(inputs.iter().map(|input| input.shape()), false)
    }

    /// Prepares for shapes; `ahead` of a run, which costs time now and saves it later.
    fn prepare_shapes<'s>(
        &mut self,
        shapes: impl ExactSizeIterator<Item = &'s [usize]> + Clone,
        ahead: bool,
    ) -> Result<()> {
        let known = self.prepared_for.as_ref();
        if known.is_some_and(|known| are_the_dims(known, &self.model.inner, shapes.clone())) {
            return Ok(());
        }
        let mut dims = self.prepared_for.take().unwrap_or_default();
        let inner = &*self.model.inner;
        match &mut self.engine {
            Engine::Cpu(cpu) => {
                let CpuEngine { memory, state, pool, pace } = &mut **cpu;
                *pace = Pace::default();
                state.rebind(inner, shapes.clone(), memory, pool.threads())?;
            }
            Engine::Gpu(gpu) => gpu.rebind(shapes.clone(), ahead)?,
        }
        dims.clear();
        shapes.for_each(|shape| dims.extend_from_slice(shape));
        self.prepared_for = Some(dims);
        Ok(())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {} threads, {} bytes)", self.model, self.threads(), self.memory_bytes())
    }
}

/// Whether these shapes have the model's ranks and, laid end to end, the given dims.
fn are_the_dims<'s>(known: &[usize], inner: &Inner, shapes: impl ExactSizeIterator<Item = &'s [usize]>) -> bool {
    if shapes.len() != inner.plan.inputs.len() {
        return false;
    }
    let mut rest = known;
    for (decl, shape) in inner.plan.inputs.iter().zip(shapes) {
        match rest.split_at_checked(shape.len()) {
            Some((dims, tail)) if shape.len() == decl.shape.len() && dims == shape => rest = tail,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Runs the steps with all memory attached.
fn walk(
    inner: &Inner,
    state: &mut State,
    attached: &mut Attached<'_>,
    (pool, pace): (&mut Pool, &mut Pace),
    options: &SessionOptions,
    times: Option<&mut Times>,
) -> Result<()> {
    state.begin_run(inner, attached);
    // Runs whose launches are timed take longer than others, and runs whose work depends on data cannot be compared.
    let is_fixed = inner.program.has_fixed_work;
    let watches = is_fixed && times.is_none() && pool.threads() > 1 && pace.watches();
    pool.begin_run(!watches || pace.divides());
    let begin = watches.then(Instant::now);
    let mut cpu = Cpu { inner, state, memory: attached, pool, times };
    let result = exec::execute(inner, &mut cpu, &limits(options));
    let divides = cpu.pool.end_run();
    if let Some(begin) = begin.filter(|_| divides) {
        pace.note(begin.elapsed());
    }
    result
}

fn bytes_of<'s>(inputs: &'s [TensorRef<'_>]) -> impl Iterator<Item = &'s [u8]> {
    inputs.iter().map(|input| input.bytes())
}

fn limits(options: &SessionOptions) -> Limits<'_> {
    Limits { cancel: options.cancel.as_deref(), loop_fuel: options.loop_fuel }
}

/// After a failed run nothing counts as prepared: an allocation may have failed halfway.
fn keep_if_done(prepared_for: &mut Option<Vec<usize>>, done: Result<()>) -> Result<()> {
    if done.is_err() {
        *prepared_for = None;
    }
    done
}

fn shape_of(values: &Values, decl: &TensorDecl) -> Result<Vec<usize>> {
    decl.shape.iter().map(|&dim| values.size(dim)).collect()
}

/// Fails unless an output has the shape of the caller's tensor in this run.
fn check_shape(values: &Values, decl: &TensorDecl, given: &[usize]) -> Result<()> {
    if has_shape(values, decl, given)? { Ok(()) } else { Err(output_shape_error(values, decl, given)) }
}

fn has_shape(values: &Values, decl: &TensorDecl, shape: &[usize]) -> Result<bool> {
    if decl.shape.len() != shape.len() {
        return Ok(false);
    }
    for (&dim, &found) in decl.shape.iter().zip(shape) {
        if values.size(dim)? != found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks the caller's outputs as far as their shapes are known before the run.
fn check_outputs(inner: &Inner, values: &Values, outputs: &[TensorMut<'_>]) -> Result<()> {
    let decls = &inner.plan.outputs;
    if outputs.len() != decls.len() {
        return Err(Error::Count { what: "outputs", expected: decls.len(), found: outputs.len() });
    }
    for (decl, output) in decls.iter().zip(outputs) {
        check_dtype("output", decl, output.dtype())?;
        let is_static = decl.shape.iter().all(|&dim| inner.program.dependencies.is_static(dim));
        if is_static && !has_shape(values, decl, output.shape())? {
            return Err(Error::Shape {
                tensor: format!("output `{}`", decl.name),
                expected: format!("{:?}", shape_of(values, decl)?),
                found: format!("{:?}", output.shape()),
                why: format!(" (that is {})", expr::describe_shape(&inner.plan, &decl.shape)),
            });
        }
    }
    Ok(())
}

fn check_dtype(role: &str, decl: &TensorDecl, found: crate::plan::DType) -> Result<()> {
    if decl.dtype == found {
        return Ok(());
    }
    let tensor = format!("{role} `{}`", decl.name);
    Err(Error::DType { tensor, expected: decl.dtype.name(), found: found.name() })
}

#[cold]
fn output_shape_error(values: &Values, decl: &TensorDecl, given: &[usize]) -> Error {
    match shape_of(values, decl) {
        Err(error) => error,
        Ok(shape) => {
            let (shape, given) = (format!("{shape:?}"), format!("{given:?}"));
            Error::OutputShape { name: decl.name.clone(), shape, given }
        }
    }
}

/// Puts inputs into the model's order.
fn order_by_name<'a>(inner: &Inner, inputs: &[(&str, TensorRef<'a>)]) -> Result<Vec<TensorRef<'a>>> {
    let decls = &inner.plan.inputs;
    let problem = |name: &str, problem: &'static str| {
        let names: Vec<String> = decls.iter().map(|decl| format!("`{}`", decl.name)).collect();
        Err(Error::Name { name: name.into(), problem, known: names.join(", ") })
    };
    for (position, (name, _)) in inputs.iter().enumerate() {
        if !decls.iter().any(|decl| decl.name == *name) {
            return problem(name, "the model has no input of that name");
        }
        if inputs[..position].iter().any(|(other, _)| other == name) {
            return problem(name, "it was given twice");
        }
    }
    let mut ordered = Vec::with_capacity(decls.len());
    for decl in decls {
        match inputs.iter().find(|(name, _)| *name == decl.name) {
            Some((_, tensor)) => ordered.push(*tensor),
            None => return problem(&decl.name, "it was not given"),
        }
    }
    Ok(ordered)
}

/// An entry for each launch, then for each host routine, then on a GPU for the copies of inputs and of outputs.
fn blank_times(inner: &Inner) -> Times {
    let launches = inner.program.launches.iter().map(|launch| {
        let kernel = &inner.plan.kernels[launch.kernel as usize];
        LaunchTime { kernel: kernel.name.clone(), nodes: kernel.nodes.clone(), ..LaunchTime::default() }
    });
    let hosts = inner.program.hosts.iter().map(|host| LaunchTime {
        kernel: host.routine.name().into(),
        nodes: host.nodes.clone(),
        ..LaunchTime::default()
    });
    let is_gpu = matches!(inner.code, Code::Gpu(_));
    let copies = ["copy:inputs", "copy:outputs"].into_iter().filter(|_| is_gpu);
    let copies = copies.map(|name| LaunchTime { kernel: name.into(), threads: 1, ..LaunchTime::default() });
    launches.chain(hosts).chain(copies).collect()
}
