//! Walks a flat program: the part of a run where time matters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::device::arena::{Attached, Memory, Prepared, check_room};
use crate::error::{Error, Result};
use crate::expr::Values;
use crate::host;
use crate::model::{Inner, bind_shapes, check_constraint, check_range};
use crate::plan::{BufferId, ExprId, Host, Operand, Routine, SymbolId};
use crate::pool::{Pool, workers_for};
use crate::profile::LaunchTime;
use crate::program::{LoopInfo, Op};
use crate::tensor;

/// Most tiles of one launch: far above any real grid, far below where counting them could overflow.
const MAX_TILES: i64 = 1 << 40;

/// Everything of a session that changes while a plan runs, memory aside.
pub(crate) struct State {
    pub(crate) values: Values,
    prepared: Vec<Prepared>,
    dims: Vec<i64>,
    /// Present trip and largest number of trips of each loop.
    loops: Vec<(i64, i64)>,
    /// Working memory of host routines.
    keys: Vec<(u64, usize)>,
}

/// What a run is held to.
pub(crate) struct Limits<'a> {
    pub(crate) cancel: Option<&'a AtomicBool>,
    pub(crate) loop_fuel: u64,
}

/// Times by launch number, then by host routine number.
pub(crate) type Times = Vec<LaunchTime>;

impl State {
    pub(crate) fn new(inner: &Inner) -> State {
        let prepare = |launch: &crate::program::LaunchInfo| Prepared {
            func: inner.code.entries()[launch.kernel as usize],
            first_arg: launch.first_arg,
            first_dim: launch.first_dim,
            tiles: 0,
            workers: 1,
            stale: true,
        };
        State {
            values: Values::new(&inner.plan),
            prepared: inner.program.launches.iter().map(prepare).collect(),
            dims: vec![0; inner.program.dims],
            loops: vec![(0, 0); inner.program.loops.len()],
            keys: Vec::new(),
        }
    }

    /// Binds new input shapes and prepares everything that they determine.
    pub(crate) fn rebind<'s>(
        &mut self,
        inner: &Inner,
        shapes: impl ExactSizeIterator<Item = &'s [usize]> + Clone,
        memory: &mut Memory,
        threads: usize,
    ) -> Result<()> {
        bind_shapes(inner, shapes, &mut self.values)?;
        memory.undo_swaps();
        memory.place(&self.values)?;
        for (decls, buffers) in
            [(&inner.plan.inputs, &inner.input_buffers), (&inner.plan.outputs, &inner.output_buffers)]
        {
            for (decl, buffers) in decls.iter().zip(buffers) {
                if buffers.is_empty() {
                    continue;
                }
                let bytes = self.byte_len(decl.dtype, &decl.shape)?;
                buffers.iter().for_each(|&buffer| memory.set_io_size(buffer, bytes));
            }
        }
        self.prepared.iter_mut().for_each(|launch| launch.stale = true);
        for (number, launch) in inner.program.launches.iter().enumerate() {
            if launch.is_static {
                self.prepare(inner, number, memory, threads)?;
            }
        }
        Ok(())
    }

    /// Forgets the swaps of the last run.
    pub(crate) fn begin_run(&mut self, inner: &Inner, memory: &mut Memory) {
        if memory.undo_swaps() {
            inner.program.swapped.iter().for_each(|&buffer| self.outdate(inner, buffer));
        }
    }

    /// Bytes of a tensor.
    pub(crate) fn byte_len(&self, dtype: crate::plan::DType, shape: &[ExprId]) -> Result<usize> {
        let mut bytes = Some(dtype.size());
        let mut empty = false;
        for &dim in shape {
            let dim = self.values.size(dim)?;
            empty |= dim == 0;
            bytes = bytes.and_then(|bytes| bytes.checked_mul(dim));
        }
        match bytes {
            _ if empty => Ok(0),
            Some(bytes) if bytes <= isize::MAX as usize => Ok(bytes),
            _ => Err(Error::Overflow("the size of a tensor".into())),
        }
    }

    /// Fills in a launch for the present values.
    fn prepare(&mut self, inner: &Inner, number: usize, memory: &mut Memory, threads: usize) -> Result<()> {
        let launch = &inner.program.launches[number];
        let values = &self.values;
        for (arg, &(buffer, offset)) in launch.buffers.iter().enumerate() {
            memory.ensure(buffer, values.size(inner.plan.buffers[buffer as usize].bytes)?)?;
            memory.set_arg(launch.first_arg + arg, buffer, values.size(offset)?)?;
        }
        for (dim, &id) in self.dims[launch.first_dim..].iter_mut().zip(&launch.dims) {
            *dim = values.get(id)?;
        }
        memory.ensure_scratch(values.size(launch.scratch)?)?;
        let tiles = values.get(launch.tiles)?;
        if tiles > MAX_TILES {
            return Err(Error::Overflow(format!("the number of tiles ({tiles})")));
        }
        let prepared = &mut self.prepared[number];
        prepared.tiles = tiles;
        // A cost estimate that overflows is no reason to fail: the launch is large.
        prepared.workers = workers_for(tiles, values.try_get(launch.tile_ns).unwrap_or(i64::MAX), threads);
        prepared.stale = false;
        Ok(())
    }

    fn outdate(&mut self, inner: &Inner, buffer: BufferId) {
        for &arg in &inner.program.args_of_buffer[buffer as usize] {
            self.prepared[inner.program.launch_of_arg[arg as usize] as usize].stale = true;
        }
    }

    fn bind(&mut self, inner: &Inner, symbol: SymbolId, value: i64) -> Result<()> {
        check_range(&inner.plan, symbol as usize, value)?;
        if self.values.set_symbol(symbol, value) {
            self.values.eval_some(&inner.plan.exprs, inner.program.dependencies.dependents(symbol));
            for &launch in &inner.program.launches_of_symbol[symbol as usize] {
                self.prepared[launch as usize].stale = true;
            }
        }
        Ok(())
    }
}

/// Runs the program once. With times, each launch and host routine is measured.
pub(crate) fn execute(
    inner: &Inner,
    state: &mut State,
    memory: &mut Attached<'_>,
    pool: &mut Pool,
    limits: &Limits<'_>,
    mut times: Option<&mut Times>,
) -> Result<()> {
    let mut fuel = limits.loop_fuel;
    let mut position = 0;
    while let Some(&op) = inner.program.ops.get(position) {
        if limits.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled);
        }
        position += 1;
        match op {
            Op::Launch(number) => match times.as_deref_mut() {
                None => launch(inner, state, memory, pool, number as usize)?,
                Some(times) => timed_launch(inner, state, memory, pool, number as usize, times)?,
            },
            Op::Host(number) => {
                let start = times.is_some().then(Instant::now);
                run_host(inner, state, memory, &inner.program.hosts[number as usize])?;
                if let (Some(times), Some(start)) = (times.as_deref_mut(), start) {
                    let entry = &mut times[inner.program.launches.len() + number as usize];
                    entry.calls += 1;
                    entry.threads = 1;
                    entry.ns += start.elapsed().as_nanos() as u64;
                }
            }
            Op::Copy { from, to, bytes } => copy(inner, state, memory, from, to, bytes)?,
            Op::Bind { symbol, from, index } => {
                let value = read_i64(memory, from, index as usize)?;
                state.bind(inner, symbol, value)?;
            }
            Op::Set { symbol, value } => {
                let value = state.values.get(value)?;
                state.bind(inner, symbol, value)?;
            }
            Op::Check(number) => check_constraint(&inner.plan, &state.values, number)?,
            Op::Branch { cond, otherwise } => {
                if !read_bool(memory, cond)? {
                    position = otherwise as usize;
                }
            }
            Op::Jump(target) => position = target as usize,
            Op::LoopStart(number) => {
                let trips = inner.program.loops[number as usize].trips;
                let limit = trips.map_or(Ok(i64::MAX), |buffer| read_i64(memory, buffer, 0))?;
                state.loops[number as usize] = (0, limit);
            }
            Op::LoopTest(number) => {
                let info = inner.program.loops[number as usize];
                if enter_trip(inner, state, memory, number as usize, info)? {
                    fuel = fuel.checked_sub(1).ok_or(Error::LoopFuel(limits.loop_fuel))?;
                } else {
                    position = info.exit as usize;
                }
            }
            Op::LoopNext(number) => {
                state.loops[number as usize].0 += 1;
                position = inner.program.loops[number as usize].test as usize;
            }
            Op::Swap { a, b } => swap(inner, state, memory, a, b)?,
            Op::Append { from, to, offset, bytes } => {
                let (offset, bytes) = (state.values.size(offset)?, state.values.size(bytes)?);
                let end = offset.checked_add(bytes).ok_or(Error::OutOfMemory(u64::MAX))?;
                memory.ensure_to_append(to, end)?;
                memory.bytes(to, end)?.copy_from(offset, memory.bytes(from, bytes)?);
            }
        }
    }
    Ok(())
}

#[inline]
fn launch(inner: &Inner, state: &mut State, memory: &mut Attached<'_>, pool: &mut Pool, number: usize) -> Result<()> {
    if state.prepared[number].stale {
        state.prepare(inner, number, memory, pool.threads())?;
    }
    match memory.launch(pool, &state.prepared[number], &state.dims) {
        0 => Ok(()),
        check => Err(check_error(inner, number, check)),
    }
}

fn timed_launch(
    inner: &Inner,
    state: &mut State,
    memory: &mut Attached<'_>,
    pool: &mut Pool,
    number: usize,
    times: &mut Times,
) -> Result<()> {
    let start = Instant::now();
    launch(inner, state, memory, pool, number)?;
    let ns = start.elapsed().as_nanos() as u64;
    let info = &inner.program.launches[number];
    let amount = |id: ExprId| state.values.try_get(id).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let entry = &mut times[number];
    entry.calls += 1;
    entry.ns += ns;
    entry.flops = entry.flops.saturating_add(amount(info.flops));
    entry.bytes = entry.bytes.saturating_add(amount(info.traffic));
    entry.threads = entry.threads.max(state.prepared[number].workers);
    Ok(())
}

#[cold]
fn check_error(inner: &Inner, number: usize, check: i64) -> Error {
    let kernel = &inner.plan.kernels[inner.program.launches[number].kernel as usize];
    let (kernel, nodes) = (kernel.name.clone(), kernel.nodes.join(", "));
    match check as u32 {
        1 => Error::IndexOutOfRange { kernel, nodes },
        check => Error::KernelCheck { kernel, nodes, check },
    }
}

fn copy(
    inner: &Inner,
    state: &State,
    memory: &mut Attached<'_>,
    from: BufferId,
    to: BufferId,
    bytes: ExprId,
) -> Result<()> {
    let bytes = state.values.size(bytes)?;
    let size = state.values.size(inner.plan.buffers[to as usize].bytes)?;
    check_room("a copy", bytes, size)?;
    memory.ensure(to, size)?;
    memory.bytes(to, bytes)?.copy_from(0, memory.bytes(from, bytes)?);
    Ok(())
}

fn swap(inner: &Inner, state: &mut State, memory: &mut Attached<'_>, a: BufferId, b: BufferId) -> Result<()> {
    let bytes_of = |buffer: BufferId| inner.plan.buffers[buffer as usize].bytes;
    let in_arena = inner.plan.buffers[a as usize].storage != crate::plan::Storage::Heap;
    if in_arena {
        let (size_a, size_b) = (state.values.size(bytes_of(a))?, state.values.size(bytes_of(b))?);
        check_room("a swap", size_a.max(size_b), size_a.min(size_b))?;
    }
    if memory.swap(a, b) {
        state.outdate(inner, a);
        state.outdate(inner, b);
    }
    Ok(())
}

/// Starts another trip if there is one; the symbol becomes the trip's number, or that of the trips made.
fn enter_trip(
    inner: &Inner,
    state: &mut State,
    memory: &mut Attached<'_>,
    number: usize,
    info: LoopInfo,
) -> Result<bool> {
    let (trip, limit) = state.loops[number];
    let goes_on = trip < limit && info.cond.map_or(Ok(true), |cond| read_bool(memory, cond))?;
    if goes_on {
        memory.ensure(info.counter, 8)?;
        memory.bytes(info.counter, 8)?.store(0, trip.to_le_bytes());
    }
    state.bind(inner, info.symbol, trip)?;
    Ok(goes_on)
}

fn read_i64(memory: &Attached<'_>, buffer: BufferId, index: usize) -> Result<i64> {
    Ok(i64::from_le_bytes(memory.bytes(buffer, (index + 1) * 8)?.load(index)))
}

fn read_bool(memory: &Attached<'_>, buffer: BufferId) -> Result<bool> {
    Ok(memory.bytes(buffer, 1)?.load::<1>(0) != [0])
}

fn run_host(inner: &Inner, state: &mut State, memory: &mut Attached<'_>, routine: &Host) -> Result<()> {
    let x = &routine.inputs[0];
    let x_bytes = state.byte_len(x.dtype, &x.shape)?;
    match routine.routine {
        Routine::TopK { axis, largest } => {
            let (values, indices) = (&routine.outputs[0], &routine.outputs[1]);
            let value_bytes = make_room(inner, state, memory, values)?;
            let index_bytes = make_room(inner, state, memory, indices)?;
            let case = top_k_case(state, x, values, axis as usize, largest)?;
            if index_bytes != value_bytes / values.dtype.size() * 8 {
                return crate::check::bad("the outputs of TopK differ in shape");
            }
            let (x_view, value_view) = (memory.bytes(x.buffer, x_bytes)?, memory.bytes(values.buffer, value_bytes)?);
            let index_view = memory.bytes(indices.buffer, index_bytes)?;
            host::top_k(x.dtype, &case, x_view, value_view, index_view, &mut state.keys);
        }
        Routine::NonZero => {
            let count = host::count_nonzero(x.dtype, memory.bytes(x.buffer, x_bytes)?);
            state.bind(inner, routine.binds[0], count as i64)?;
            let indices = &routine.outputs[0];
            let index_bytes = make_room(inner, state, memory, indices)?;
            if Some(index_bytes) != count.checked_mul(8 * x.shape.len()) {
                return crate::check::bad("the output of NonZero has another shape than its indices");
            }
            let mut dims = [0usize; host::MAX_RANK];
            for (dim, &id) in dims.iter_mut().zip(&x.shape) {
                *dim = state.values.size(id)?;
            }
            let index_view = memory.bytes(indices.buffer, index_bytes)?;
            host::nonzero(x.dtype, &dims[..x.shape.len()], memory.bytes(x.buffer, x_bytes)?, count, index_view);
        }
    }
    Ok(())
}

/// Grows the buffer of a result as needed; the result's bytes.
fn make_room(inner: &Inner, state: &State, memory: &mut Attached<'_>, operand: &Operand) -> Result<usize> {
    let bytes = state.byte_len(operand.dtype, &operand.shape)?;
    let size = state.values.size(inner.plan.buffers[operand.buffer as usize].bytes)?;
    memory.ensure(operand.buffer, bytes.max(size))?;
    Ok(bytes)
}

fn top_k_case(state: &State, x: &Operand, values: &Operand, axis: usize, largest: bool) -> Result<host::TopK> {
    // Sizes of non-empty operands were found to fit by `byte_len`; those of empty ones may wrap, and are not used.
    let product = |dims: &[ExprId]| {
        dims.iter().try_fold(1usize, |product, &dim| Ok::<_, Error>(product.saturating_mul(state.values.size(dim)?)))
    };
    let case = host::TopK {
        outer: product(&x.shape[..axis])?,
        axis: state.values.size(x.shape[axis])?,
        inner: product(&x.shape[axis + 1..])?,
        k: state.values.size(values.shape[axis])?,
        largest,
    };
    for (position, (&from, &to)) in x.shape.iter().zip(&values.shape).enumerate() {
        let (from, to) = (state.values.size(from)?, state.values.size(to)?);
        if (position != axis && from != to) || to > from {
            return Err(Error::Constraint {
                why: "`k` of TopK is at most the size of the axis, and the other axes stay".into(),
                left: to as i64,
                right: from as i64,
            });
        }
    }
    let is_empty = tensor::byte_len(x.dtype, &[case.outer, case.axis, case.inner]) == Some(0);
    Ok(if is_empty { host::TopK { outer: 0, ..case } } else { case })
}
