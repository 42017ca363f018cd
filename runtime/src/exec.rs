//! Walks a flat program: the part of a run where time matters. What a step does is up to the [`Machine`].

pub(crate) mod cpu;
mod routines;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::device::arena::check_room;
use crate::device::memory::RawBytes;
use crate::error::{Error, Result};
use crate::expr::Values;
use crate::model::{Inner, check_constraint, check_range};
use crate::plan::{BufferId, DType, ExprId, Storage, SymbolId};
use crate::profile::LaunchTime;
use crate::program::{LoopInfo, Op};

/// Most tiles of one launch: far above any real grid, far below where counting them could overflow.
pub(crate) const MAX_TILES: i64 = 1 << 40;

/// What a run is held to.
pub(crate) struct Limits<'a> {
    pub(crate) cancel: Option<&'a AtomicBool>,
    pub(crate) loop_fuel: u64,
}

/// Times by launch number, then by host routine number; a device adds its copies.
pub(crate) type Times = Vec<LaunchTime>;

/// How far a run has come, memory aside.
pub(crate) struct Progress {
    pub(crate) values: Values,
    /// Present trip and largest number of trips of each loop.
    loops: Vec<(i64, i64)>,
    /// Working memory of host routines.
    keys: Vec<(u64, usize)>,
}

impl Progress {
    pub(crate) fn new(inner: &Inner) -> Progress {
        Progress { values: Values::new(&inner.plan), loops: vec![(0, 0); inner.program.loops.len()], keys: Vec::new() }
    }
}

/// Where a program runs. Buffers given to a machine exist; sizes are for it to check.
pub(crate) trait Machine {
    /// The values and loops of this run.
    fn progress(&self) -> &Progress;

    /// As [`Machine::progress`], to change.
    fn progress_mut(&mut self) -> &mut Progress;

    /// Runs several steps from `position` at once, if it can, and tells where to go on.
    fn stretch(&mut self, _position: usize) -> Result<Option<usize>> {
        Ok(None)
    }

    /// Runs launch `number`.
    fn launch(&mut self, number: usize) -> Result<()>;

    /// Notes that the launches that use `symbol` must be prepared anew.
    fn outdate(&mut self, symbol: SymbolId);

    /// Makes sure that a buffer has `bytes` bytes; those on the heap grow and keep their contents.
    fn ensure(&mut self, buffer: BufferId, bytes: usize) -> Result<()>;

    /// As [`Machine::ensure`], for a buffer that is appended to again and again.
    fn ensure_to_append(&mut self, buffer: BufferId, bytes: usize) -> Result<()>;

    /// Copies `bytes` bytes from the start of one buffer to byte `offset` of another.
    fn copy(&mut self, from: BufferId, to: BufferId, offset: usize, bytes: usize) -> Result<()>;

    /// Exchanges two buffers.
    fn swap(&mut self, a: BufferId, b: BufferId);

    /// Reads element `index` of elements of `N` bytes.
    fn read<const N: usize>(&mut self, buffer: BufferId, index: usize) -> Result<[u8; N]>;

    /// Writes an i64 to the start of a buffer.
    fn write(&mut self, buffer: BufferId, value: i64) -> Result<()>;

    /// Brings the first `bytes` bytes of a buffer to where host routines see them, as operand `slot`.
    fn fetch(&mut self, slot: usize, buffer: BufferId, bytes: usize) -> Result<()>;

    /// Makes room for a result of a host routine.
    fn reserve(&mut self, slot: usize, bytes: usize) -> Result<()>;

    /// The bytes of operand `slot`, which is of this buffer.
    fn operand(&self, slot: usize, buffer: BufferId, bytes: usize) -> Result<RawBytes<'_>>;

    /// Brings a result of a host routine back to its buffer.
    fn store(&mut self, slot: usize, buffer: BufferId, bytes: usize) -> Result<()>;

    /// The times to fill in, if this run is measured.
    fn times(&mut self) -> Option<&mut Times>;
}

/// Runs the program once.
pub(crate) fn execute<M: Machine>(inner: &Inner, machine: &mut M, limits: &Limits<'_>) -> Result<()> {
    let mut fuel = limits.loop_fuel;
    let mut position = 0;
    while let Some(&op) = inner.program.ops.get(position) {
        if limits.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled);
        }
        if let Some(next) = machine.stretch(position)? {
            position = next;
            continue;
        }
        position += 1;
        match op {
            Op::Launch(number) => machine.launch(number as usize)?,
            Op::Host(number) => host(inner, machine, number as usize)?,
            Op::Copy { from, to, bytes } => copy(inner, machine, from, to, bytes)?,
            Op::Bind { symbol, from, index } => {
                let value = i64::from_le_bytes(machine.read(from, index as usize)?);
                bind(inner, machine, symbol, value)?;
            }
            Op::Set { symbol, value } => {
                let value = machine.progress().values.get(value)?;
                bind(inner, machine, symbol, value)?;
            }
            Op::Check(number) => check_constraint(&inner.plan, &machine.progress().values, number)?,
            Op::Branch { cond, otherwise } => {
                if !read_bool(machine, cond)? {
                    position = otherwise as usize;
                }
            }
            Op::Jump(target) => position = target as usize,
            Op::LoopStart(number) => {
                let trips = inner.program.loops[number as usize].trips;
                let limit = trips.map_or(Ok(i64::MAX), |buffer| machine.read(buffer, 0).map(i64::from_le_bytes))?;
                machine.progress_mut().loops[number as usize] = (0, limit);
            }
            Op::LoopTest(number) => {
                let info = inner.program.loops[number as usize];
                if enter_trip(inner, machine, number as usize, info)? {
                    fuel = fuel.checked_sub(1).ok_or(Error::LoopFuel(limits.loop_fuel))?;
                } else {
                    position = info.exit as usize;
                }
            }
            Op::LoopNext(number) => {
                machine.progress_mut().loops[number as usize].0 += 1;
                position = inner.program.loops[number as usize].test as usize;
            }
            Op::Swap { a, b } => swap(inner, machine, a, b)?,
            Op::Append { from, to, offset, bytes } => {
                let values = &machine.progress().values;
                let (offset, bytes) = (values.size(offset)?, values.size(bytes)?);
                let end = offset.checked_add(bytes).ok_or(Error::OutOfMemory(u64::MAX))?;
                machine.ensure_to_append(to, end)?;
                machine.copy(from, to, offset, bytes)?;
            }
        }
    }
    Ok(())
}

fn host<M: Machine>(inner: &Inner, machine: &mut M, number: usize) -> Result<()> {
    let start = machine.times().is_some().then(Instant::now);
    routines::run(inner, machine, &inner.program.hosts[number])?;
    if let (Some(times), Some(start)) = (machine.times(), start) {
        let entry = &mut times[inner.program.launches.len() + number];
        entry.calls += 1;
        entry.threads = 1;
        entry.ns += start.elapsed().as_nanos() as u64;
    }
    Ok(())
}

fn bind<M: Machine>(inner: &Inner, machine: &mut M, symbol: SymbolId, value: i64) -> Result<()> {
    check_range(&inner.plan, symbol as usize, value)?;
    let values = &mut machine.progress_mut().values;
    if values.set_symbol(symbol, value) {
        values.eval_some(&inner.plan.exprs, inner.program.dependencies.dependents(symbol));
        machine.outdate(symbol);
    }
    Ok(())
}

fn copy<M: Machine>(inner: &Inner, machine: &mut M, from: BufferId, to: BufferId, bytes: ExprId) -> Result<()> {
    let values = &machine.progress().values;
    let bytes = values.size(bytes)?;
    let size = values.size(inner.plan.buffers[to as usize].bytes)?;
    check_room("a copy", bytes, size)?;
    machine.ensure(to, size)?;
    machine.copy(from, to, 0, bytes)
}

fn swap<M: Machine>(inner: &Inner, machine: &mut M, a: BufferId, b: BufferId) -> Result<()> {
    let bytes_of = |buffer: BufferId| inner.plan.buffers[buffer as usize].bytes;
    let in_arena = inner.plan.buffers[a as usize].storage != Storage::Heap;
    if in_arena {
        let values = &machine.progress().values;
        let (size_a, size_b) = (values.size(bytes_of(a))?, values.size(bytes_of(b))?);
        check_room("a swap", size_a.max(size_b), size_a.min(size_b))?;
    }
    machine.swap(a, b);
    Ok(())
}

/// Starts another trip if there is one; the symbol becomes the trip's number, or that of the trips made.
fn enter_trip<M: Machine>(inner: &Inner, machine: &mut M, number: usize, info: LoopInfo) -> Result<bool> {
    let (trip, limit) = machine.progress().loops[number];
    let goes_on = trip < limit && info.cond.map_or(Ok(true), |cond| read_bool(machine, cond))?;
    if goes_on {
        machine.ensure(info.counter, 8)?;
        machine.write(info.counter, trip)?;
    }
    bind(inner, machine, info.symbol, trip)?;
    Ok(goes_on)
}

fn read_bool<M: Machine>(machine: &mut M, buffer: BufferId) -> Result<bool> {
    Ok(machine.read::<1>(buffer, 0)? != [0])
}

/// Bytes of a tensor.
pub(crate) fn byte_len(values: &Values, dtype: DType, shape: &[ExprId]) -> Result<usize> {
    let mut bytes = Some(dtype.size());
    let mut empty = false;
    for &dim in shape {
        let dim = values.size(dim)?;
        empty |= dim == 0;
        bytes = bytes.and_then(|bytes| bytes.checked_mul(dim));
    }
    match bytes {
        _ if empty => Ok(0),
        Some(bytes) if bytes <= isize::MAX as usize => Ok(bytes),
        _ => Err(Error::Overflow("the size of a tensor".into())),
    }
}

/// Number of tiles of a launch.
pub(crate) fn tiles_of(values: &Values, tiles: ExprId) -> Result<i64> {
    let tiles = values.get(tiles)?;
    if tiles > MAX_TILES {
        return Err(Error::Overflow(format!("the number of tiles ({tiles})")));
    }
    Ok(tiles)
}

/// Adds what a launch works on to its times.
pub(crate) fn count_launch(inner: &Inner, values: &Values, number: usize, threads: usize, times: &mut Times) {
    let info = &inner.program.launches[number];
    let amount = |id: ExprId| values.try_get(id).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let entry = &mut times[number];
    entry.calls += 1;
    entry.flops = entry.flops.saturating_add(amount(info.flops));
    entry.bytes = entry.bytes.saturating_add(amount(info.traffic));
    entry.threads = entry.threads.max(threads);
}

/// The error of a launch whose check failed.
#[cold]
pub(crate) fn check_error(inner: &Inner, number: usize, check: u32) -> Error {
    let kernel = &inner.plan.kernels[inner.program.launches[number].kernel as usize];
    let (kernel, nodes) = (kernel.name.clone(), kernel.nodes.join(", "));
    match check {
        1 => Error::IndexOutOfRange { kernel, nodes },
        check => Error::KernelCheck { kernel, nodes, check },
    }
}
