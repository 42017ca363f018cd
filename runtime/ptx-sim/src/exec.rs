//! Execution of decoded instructions.
//!
//! - [`vector`]: frequent arithmetic, all lanes at once; [`compare`] and the lane-wise functions in [`int`], [`bits`],
//!   [`real`], [`half`], [`convert`]
//! - [`access`]: loads and stores; [`atomic`]: read-modify-write; [`copy`]: asynchronous copies
//! - [`warp`]: exchanges between lanes; [`matrix`]: `mma` and `ldmatrix`

pub(crate) mod access;
pub(crate) mod atomic;
pub(crate) mod bits;
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod copy;
pub(crate) mod half;
pub(crate) mod int;
pub(crate) mod matrix;
pub(crate) mod real;
pub(crate) mod vector;
pub(crate) mod warp;

use crate::fault::{FaultKind, Stop, stop};
use crate::instr::Op;
use crate::memory::Memory;
use crate::module::Kernel;
use crate::race::{Races, Thread};
use crate::random::Random;
use crate::regs::Regs;

/// What the threads of one block share.
pub(crate) struct Env<'a> {
    pub kernel: &'a Kernel,
    pub memory: &'a Memory,
    pub params: &'a [u8],
    pub shared: Vec<u8>,
    /// Local memory of each thread, one after the other.
    pub local: Vec<u8>,
    /// Reads of undefined global memory are faults.
    pub check_defined: bool,
    /// The launch depends on an earlier one: `griddepcontrol.wait` comes before global accesses.
    pub dependent: bool,
    /// Asynchronous copies take effect late.
    pub late: bool,
    /// Per word of shared memory, the asynchronous copies under way to it; empty if nobody tracks them.
    pub pending: Vec<u8>,
    pub pending_words: usize,
    pub races: Option<Box<Races>>,
    pub random: Option<Random>,
    /// Per instruction, the allocation it met last.
    pub hints: Vec<u32>,
    pub mma: u64,
    pub barriers: u64,
}

/// One warp.
pub(crate) struct Warp {
    pub index: usize,
    pub regs: Regs,
    /// Lanes that have not exited.
    pub live: u32,
    /// Lanes that have executed `griddepcontrol.wait`.
    pub waited: u32,
    pub copies: copy::Copies,
    pub fragments: Vec<Fragment>,
}

/// Lanes of a warp that execute together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    pub pc: u32,
    pub mask: u32,
    pub state: State,
}

/// What a fragment is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Ready,
    /// Waits for other lanes of its warp at this instruction.
    Gathering,
    /// Waits at a block barrier.
    Barrier(u8),
}

/// Where an instruction stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub pc: usize,
    pub line: u32,
}

impl Warp {
    /// The thread of the block that `lane` is.
    pub fn thread(&self, lane: usize) -> Thread {
        (self.index * 32 + lane) as Thread
    }
}

/// Executes an instruction that neither branches nor waits.
#[inline(always)]
pub(crate) fn execute(env: &mut Env, warp: &mut Warp, op: &Op, mask: u32, site: Site) -> Result<(), Stop> {
    match op {
        Op::Load(access) => access::load(env, warp, access, mask, site),
        Op::Store(access) => access::store(env, warp, access, mask, site),
        Op::Mma(mma) => {
            env.mma += 1;
            matrix::mma(warp, mma, mask)
        }
        Op::LoadMatrix(load) => matrix::load_matrix(env, warp, load, mask, site),
        Op::Lane { f, mods, d, s, n } => compare::lane_wise(&mut warp.regs, *f, **mods, *d, &s[..*n as usize], mask),
        Op::Compare(c) => compare::execute(&mut warp.regs, c, mask),
        Op::Pack { d, parts, bits } => pack(&mut warp.regs, *d, parts, *bits, mask),
        Op::Unpack { parts, a, bits } => unpack(&mut warp.regs, parts, *a, *bits, mask),
        Op::Atomic(atomic) => atomic::execute(env, warp, atomic, mask, site),
        Op::Copy(c) => copy::issue(env, warp, c, mask, site),
        Op::CopyCommit => {
            warp.copies.commit(mask);
            Ok(())
        }
        Op::CopyWait(groups) => copy::wait(env, warp, mask, Some(*groups)),
        Op::CopyWaitAll => copy::wait(env, warp, mask, None),
        Op::ActiveMask { d } => {
            warp.regs.set32(*d, mask, &[mask; 32]);
            Ok(())
        }
        Op::GridWait => {
            warp.waited |= mask;
            Ok(())
        }
        Op::Trap => Err(stop(FaultKind::BadInstruction, mask.trailing_zeros(), "`trap` is executed")),
        Op::Nop => Ok(()),
        _ => vector::execute(&mut warp.regs, op, mask),
    }
}

/// A row of `f` of each lane. Inlined for certain, unlike `std::array::from_fn`, so that it has the caller's vectors.
#[inline(always)]
pub(crate) fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; 32] {
    let mut row = [T::default(); 32];
    for (lane, value) in row.iter_mut().enumerate() {
        *value = f(lane);
    }
    row
}

fn pack(r: &mut Regs, d: crate::regs::Reg, parts: &[crate::regs::Reg], bits: u32, mask: u32) -> Result<(), Stop> {
    let mut row = [0; 32];
    for (at, part) in parts.iter().enumerate() {
        r.need(mask, *part)?;
        let values = r.row(*part);
        for (sum, value) in row.iter_mut().zip(values) {
            *sum |= (value & ((1 << bits) - 1)) << (at as u32 * bits);
        }
    }
    r.set_row(d, mask, &row);
    Ok(())
}

fn unpack(
    r: &mut Regs,
    parts: &[Option<crate::regs::Reg>],
    a: crate::regs::Reg,
    bits: u32,
    mask: u32,
) -> Result<(), Stop> {
    r.need(mask, a)?;
    let values = r.row(a);
    for (at, part) in parts.iter().enumerate() {
        let Some(part) = part else { continue };
        let row = values.map(|v| v >> (at as u32 * bits) & ((1 << bits) - 1));
        r.set_row(*part, mask, &row);
    }
    Ok(())
}
