//! Runs kernels: slow, and as plain as their meaning. The other engines are held to it.
//!
//! What a wrong kernel does is told instead of done: access out of bounds, reading scratch that was not written, and
//! checks that fail. The threads of a tile go in lock step, statement by statement; what needs all of them and does not
//! get them is told, and so is reading an asynchronous copy before it was waited for. Missing barriers are not found.

use super::verify::{KernelError, verify};
use std::collections::VecDeque;

use super::*;
use crate::scalar;

/// Memory of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Element type.
    pub dtype: DType,
    /// Elements, little-endian, one after the other.
    pub bytes: Vec<u8>,
}

/// Why a kernel stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The kernel is malformed.
    #[error("the kernel is malformed: {}", .0.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("; "))]
    Malformed(Vec<KernelError>),
    /// Buffers or dims are not those the kernel asks for.
    #[error("wrong arguments: {0}")]
    Arguments(String),
    /// Access beyond the ends of a buffer.
    #[error("tile {tile}: index {index} of buffer %{buffer}, which has {len} elements")]
    OutOfBounds {
        /// The tile that did it.
        tile: i64,
        /// Name of the buffer.
        buffer: String,
        /// The index.
        index: i128,
        /// Elements the buffer has.
        len: usize,
    },
    /// Scratch that the tile has not written was read.
    #[error("tile {tile}: element {index} of scratch %{buffer} is read before it is written")]
    Uninitialized {
        /// The tile that did it.
        tile: i64,
        /// Name of the buffer.
        buffer: String,
        /// The index.
        index: usize,
    },
    /// Not all threads of a warp or tile came to what they do together.
    #[error("tile {tile}: {active} of {threads} threads come to `{what}`")]
    Divergent {
        /// The tile that did it.
        tile: i64,
        /// What they should do together.
        what: String,
        /// Threads that came.
        active: usize,
        /// Threads of the tile.
        threads: u32,
    },
    /// A check failed.
    #[error("tile {tile}: check {code} failed")]
    Check {
        /// The tile that did it.
        tile: i64,
        /// The check's code.
        code: u32,
    },
}

/// Runs the tiles in the given order. After a fault the buffers hold what was written so far.
pub fn run(
    kernel: &Kernel,
    buffers: &mut [Buffer],
    dims: &[i64],
    tiles: impl Iterator<Item = i64>,
) -> Result<(), Fault> {
    let origins = vec![0; buffers.len()];
    run_at(kernel, buffers, &origins, dims, tiles)
}

/// [`run`] with pointers into the buffers: index 0 of parameter `i` is element `origins[i]` of its buffer, and indices may
/// be negative.
pub fn run_at(
    kernel: &Kernel,
    buffers: &mut [Buffer],
    origins: &[usize],
    dims: &[i64],
    tiles: impl Iterator<Item = i64>,
) -> Result<(), Fault> {
    verify(kernel).map_err(Fault::Malformed)?;
    check_arguments(kernel, buffers, dims)?;
    for tile in tiles {
        // Scratch does not survive a tile.
        let scratch: Vec<_> = kernel.scratch.iter().map(|s| vec![None; scratch_len(s.len, dims)]).collect();
        let thread = Thread { values: vec![Vec::new(); kernel.values.len()], scratch: scratch.clone(), ..Thread::default() };
        let threads = vec![thread; kernel.threads as usize];
        let all: Vec<usize> = (0..threads.len()).collect();
        let mut machine = Machine { kernel, buffers, origins, dims, tile, shared: scratch, threads, now: 0 };
        machine.block(&kernel.body, &all)?;
    }
    Ok(())
}

fn check_arguments(kernel: &Kernel, buffers: &[Buffer], dims: &[i64]) -> Result<(), Fault> {
    let fault = |text: String| Err(Fault::Arguments(text));
    if buffers.len() != kernel.params.len() {
        return fault(format!("{} buffers for {} parameters", buffers.len(), kernel.params.len()));
    }
    if dims.len() != kernel.dims.len() {
        return fault(format!("{} dims for {}", dims.len(), kernel.dims.len()));
    }
    for (b, p) in buffers.iter().zip(&kernel.params) {
        if b.dtype != p.dtype {
            return fault(format!("a buffer of {} for %{} of {}", b.dtype, p.name, p.dtype));
        }
        if b.bytes.len() % b.dtype.size() != 0 {
            return fault(format!("the buffer for %{} ends within an element", p.name));
        }
    }
    Ok(())
}

fn scratch_len(len: ScratchLen, dims: &[i64]) -> usize {
    match len {
        ScratchLen::Const(n) => n as usize,
        ScratchLen::Dim(i) => usize::try_from(dims[i as usize]).unwrap_or(0),
    }
}

/// One tile at work.
struct Machine<'a> {
    kernel: &'a Kernel,
    buffers: &'a mut [Buffer],
    /// Element of each buffer that has index 0.
    origins: &'a [usize],
    dims: &'a [i64],
    tile: i64,
    /// Bits of the elements written, of shared scratch.
    shared: Vec<Vec<Option<u64>>>,
    threads: Vec<Thread>,
    /// The thread whose turn it is.
    now: usize,
}

/// One thread of a tile.
#[derive(Clone, Default)]
struct Thread {
    /// Bits of the elements written, of private scratch.
    scratch: Vec<Vec<Option<u64>>>,
    /// Lanes of the values defined so far; none for the others.
    values: Vec<Vec<Const>>,
    /// Copies that are not committed, then groups that are not waited for, oldest first.
    begun: Vec<Arrival>,
    groups: VecDeque<Vec<Arrival>>,
}

/// What a copy will write: buffer, element, bits.
type Arrival = (u32, usize, u64);

impl Machine<'_> {
    fn block(&mut self, block: &Block, active: &[usize]) -> Result<(), Fault> {
        block.0.iter().try_for_each(|s| self.stmt(s, active))
    }

    fn stmt(&mut self, stmt: &Stmt, active: &[usize]) -> Result<(), Fault> {
        match stmt {
            Stmt::Let(v, Instr::Team(instr)) if *instr != TeamInstr::Thread => self.team_instr(*v, instr, active),
            Stmt::For(f) => self.for_loop(f, active),
            Stmt::If(i) => self.branch(i, active),
            Stmt::Team(stmt) => self.team_stmt(stmt, active),
            _ => active.iter().try_for_each(|&t| {
                self.now = t;
                self.single(stmt)
            }),
        }
    }

    /// A statement that each thread makes for itself.
    fn single(&mut self, stmt: &Stmt) -> Result<(), Fault> {
        match stmt {
            Stmt::Let(v, instr) => {
                let lanes = self.instr(self.kernel.ty(*v), instr)?;
                self.set(*v, lanes);
                Ok(())
            }
            Stmt::Store { buf, index, offset, value, count } => {
                let lanes = self.lanes(*value).to_vec();
                let first = i128::from(self.int(*index)) + i128::from(*offset);
                let n = self.active(*count, lanes.len());
                (0..n).try_for_each(|i| self.write(*buf, first + i as i128, lanes[i]))
            }
            Stmt::Check { cond, code } => match self.lanes(*cond)[0].bits {
                0 => Err(Fault::Check { tile: self.tile, code: *code }),
                _ => Ok(()),
            },
            Stmt::Prefetch { .. } => Ok(()),
            Stmt::MatrixStore(store) => self.matrix_store(store),
            Stmt::For(_) | Stmt::If(_) | Stmt::Team(_) => unreachable!("the threads make these together"),
        }
    }

    fn branch(&mut self, i: &If, active: &[usize]) -> Result<(), Fault> {
        let (then, els): (Vec<usize>, Vec<usize>) =
            active.iter().partition(|&&t| self.threads[t].values[i.cond.0 as usize][0].bits != 0);
        for (side, threads) in [(&i.then, &then), (&i.els, &els)] {
            if !threads.is_empty() {
                self.block(side, threads)?;
            }
        }
        for &(result, a, b) in &i.results {
            then.iter().for_each(|&t| self.copy(t, a, result));
            els.iter().for_each(|&t| self.copy(t, b, result));
        }
        Ok(())
    }

    /// Gives `to` the lanes of `from`.
    fn copy(&mut self, thread: usize, from: Val, to: Val) {
        let values = &mut self.threads[thread].values;
        values[to.0 as usize] = values[from.0 as usize].clone();
    }

    fn for_loop(&mut self, f: &For, active: &[usize]) -> Result<(), Fault> {
        let int = |m: &Machine, t: usize, v: Val| m.threads[t].values[v.0 as usize][0].as_i64();
        let mut counters: Vec<(usize, i64)> = active.iter().map(|&t| (t, int(self, t, f.lo))).collect();
        for &t in active {
            f.carried.iter().for_each(|c| self.copy(t, c.init, c.result));
        }
        loop {
            counters.retain(|&(t, i)| i < int(self, t, f.hi));
            if counters.is_empty() {
                return Ok(());
            }
            for &(t, i) in &counters {
                self.threads[t].values[f.var.0 as usize] = vec![Const::i64(i)];
                f.carried.iter().for_each(|c| self.copy(t, c.result, c.phi));
            }
            let going: Vec<usize> = counters.iter().map(|c| c.0).collect();
            self.block(&f.body, &going)?;
            for &t in &going {
                // A next value may be another's phi: all are read before any changes.
                let next: Vec<_> = f.carried.iter().map(|c| self.threads[t].values[c.next.0 as usize].clone()).collect();
                for (c, lanes) in f.carried.iter().zip(next) {
                    self.threads[t].values[c.result.0 as usize] = lanes;
                }
            }
            // A counter at the end of its range has passed every bound.
            counters.retain_mut(|c| c.1.checked_add(f.step).map(|next| c.1 = next).is_some());
        }
    }

    fn set(&mut self, v: Val, lanes: Vec<Const>) {
        self.threads[self.now].values[v.0 as usize] = lanes;
    }

    fn lanes(&self, v: Val) -> &[Const] {
        &self.threads[self.now].values[v.0 as usize]
    }

    /// The value of an integer scalar.
    fn int(&self, v: Val) -> i64 {
        self.lanes(v)[0].as_i64()
    }

    /// How many leading lanes are accessed.
    fn active(&self, count: Option<Val>, lanes: usize) -> usize {
        count.map_or(lanes, |c| usize::try_from(self.int(c)).unwrap_or(0).min(lanes))
    }

    /// The lanes of an instruction's result.
    fn instr(&self, ty: VType, instr: &Instr) -> Result<Vec<Const>, Fault> {
        let lanes = ty.lanes as usize;
        Ok(match *instr {
            Instr::Const(c) => vec![c; lanes],
            Instr::Tile => vec![Const::i64(self.tile)],
            Instr::Dim(i) => vec![Const::i64(self.dims[i as usize])],
            Instr::Un(op, a) => self.map(a, |x| scalar::un(op, x).expect(VERIFIED)),
            Instr::Bin(op, a, b) => self.zip(a, b, |x, y| scalar::bin(op, x, y).expect(VERIFIED)),
            Instr::Fma(a, b, c) => {
                let abc = self.lanes(a).iter().zip(self.lanes(b)).zip(self.lanes(c));
                abc.map(|((&a, &b), &c)| scalar::fma(a, b, c).expect(VERIFIED)).collect()
            }
            Instr::Dot4(a, b, c) => {
                let (a, b) = (self.lanes(a), self.lanes(b));
                let product = |i: usize| a[i].as_i64() * b[i].as_i64();
                let sum = |(i, c): (usize, &Const)| (4 * i..4 * i + 4).map(product).sum::<i64>() + c.as_i64();
                self.lanes(c).iter().enumerate().map(|lane| Const::int(DType::I32, sum(lane))).collect()
            }
            Instr::Cmp(pred, a, b) => self.zip(a, b, |x, y| Const::bool(scalar::cmp(pred, x, y))),
            Instr::Select(c, a, b) => {
                let cond = self.lanes(c);
                let chosen = |i: usize| if cond[if cond.len() == 1 { 0 } else { i }].bits != 0 { a } else { b };
                (0..lanes).map(|i| self.lanes(chosen(i))[i]).collect()
            }
            Instr::Convert(a) => self.map(a, |x| scalar::convert(x, ty.dtype)),
            Instr::Bitcast(a) => self.map(a, |x| Const { dtype: ty.dtype, bits: x.bits }),
            Instr::Splat(a) => vec![self.lanes(a)[0]; lanes],
            Instr::Iota(a) => (0..lanes as i64).map(|i| Const::int(ty.dtype, self.int(a).wrapping_add(i))).collect(),
            Instr::Extract(a, lane) => vec![self.lanes(a)[lane as usize]],
            Instr::Slice(a, first) => self.lanes(a)[first as usize..][..lanes].to_vec(),
            Instr::Concat(a, b) => [self.lanes(a), self.lanes(b)].concat(),
            Instr::Permute(a, b, ref picks) => {
                let both = [self.lanes(a), self.lanes(b)].concat();
                picks.iter().map(|&p| both[p as usize]).collect()
            }
            Instr::Matrix(ref instr) => self.matrix(ty, instr)?,
            Instr::Team(_) => vec![Const::i64(self.now as i64)],
            Instr::Load { buf, index, offset, count } => {
                let first = i128::from(self.int(index)) + i128::from(offset);
                self.load(buf, ty, count, |i| first + i as i128)?
            }
            Instr::LoadStrided { buf, index, offset, stride, count } => {
                let first = i128::from(self.int(index)) + i128::from(offset);
                let stride = i128::from(self.int(stride));
                self.load(buf, ty, count, |i| first + i as i128 * stride)?
            }
            Instr::Gather { buf, index, offset, count } => {
                let indices = self.lanes(index);
                self.load(buf, ty, count, |i| i128::from(indices[i].as_i64()) + i128::from(offset))?
            }
        })
    }

    fn map(&self, a: Val, f: impl Fn(Const) -> Const) -> Vec<Const> {
        self.lanes(a).iter().map(|&x| f(x)).collect()
    }

    fn zip(&self, a: Val, b: Val, f: impl Fn(Const, Const) -> Const) -> Vec<Const> {
        self.lanes(a).iter().zip(self.lanes(b)).map(|(&x, &y)| f(x, y)).collect()
    }

    fn load(&self, buf: Buf, ty: VType, count: Option<Val>, at: impl Fn(usize) -> i128) -> Result<Vec<Const>, Fault> {
        let lanes = ty.lanes as usize;
        let n = self.active(count, lanes);
        let zero = Const { dtype: ty.dtype, bits: 0 };
        (0..lanes).map(|i| if i < n { self.read(buf, at(i)) } else { Ok(zero) }).collect()
    }

    /// Name of a buffer and the elements it has.
    fn buffer(&self, buf: Buf) -> (&str, usize) {
        match buf {
            Buf::Param(i) => {
                let b = &self.buffers[i as usize];
                (&self.kernel.params[i as usize].name, b.bytes.len() / b.dtype.size())
            }
            Buf::Scratch(i) => (&self.kernel.scratch[i as usize].name, self.scratch(i).len()),
        }
    }

    fn scratch(&self, i: u32) -> &Vec<Option<u64>> {
        match self.kernel.scratch[i as usize].space {
            Space::Shared => &self.shared[i as usize],
            Space::Private => &self.threads[self.now].scratch[i as usize],
        }
    }

    fn scratch_mut(&mut self, i: u32) -> &mut Vec<Option<u64>> {
        match self.kernel.scratch[i as usize].space {
            Space::Shared => &mut self.shared[i as usize],
            Space::Private => &mut self.threads[self.now].scratch[i as usize],
        }
    }

    /// The index as one within the buffer.
    fn bounded(&self, buf: Buf, index: i128) -> Result<usize, Fault> {
        let (name, len) = self.buffer(buf);
        let origin = if let Buf::Param(i) = buf { self.origins[i as usize] } else { 0 };
        let index = index + origin as i128;
        let inside = usize::try_from(index).ok().filter(|&i| i < len);
        inside.ok_or_else(|| Fault::OutOfBounds { tile: self.tile, buffer: name.into(), index, len })
    }

    fn read(&self, buf: Buf, index: i128) -> Result<Const, Fault> {
        let index = self.bounded(buf, index)?;
        let dtype = self.kernel.buf_dtype(buf);
        let bits = match buf {
            Buf::Param(i) => {
                let size = dtype.size();
                let mut word = [0; 8];
                word[..size].copy_from_slice(&self.buffers[i as usize].bytes[index * size..][..size]);
                u64::from_le_bytes(word)
            }
            Buf::Scratch(i) => self.scratch(i)[index].ok_or_else(|| Fault::Uninitialized {
                tile: self.tile,
                buffer: self.buffer(buf).0.into(),
                index,
            })?,
        };
        Ok(if dtype == DType::Bool { Const::bool(bits != 0) } else { Const { dtype, bits } })
    }

    fn write(&mut self, buf: Buf, index: i128, value: Const) -> Result<(), Fault> {
        let index = self.bounded(buf, index)?;
        match buf {
            Buf::Param(i) => {
                let size = value.dtype.size();
                let place = &mut self.buffers[i as usize].bytes[index * size..][..size];
                place.copy_from_slice(&value.bits.to_le_bytes()[..size]);
            }
            Buf::Scratch(i) => self.scratch_mut(i)[index] = Some(value.bits),
        }
        Ok(())
    }
}

/// What a wrongly typed kernel would die of.
const VERIFIED: &str = "the verifier admits operations on types that have them";

mod matrix;
mod team;

#[cfg(test)]
mod tests;
