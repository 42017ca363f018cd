//! Registers of one warp: a row of 32 lanes per register, and which lanes of it are defined.

use crate::fault::{FaultKind, Stop, stop};

/// Threads of a warp.
pub(crate) const LANES: usize = 32;
/// The mask of a full warp.
pub(crate) const FULL: u32 = u32::MAX;

/// Index of a register within its file.
pub(crate) type Slot = u16;
/// One 32-bit value per lane.
pub(crate) type Row32 = [u32; LANES];
/// One 64-bit value per lane.
pub(crate) type Row64 = [u64; LANES];

/// The three register files; narrower registers live in the 32-bit one, zero-extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum File {
    Pred,
    W32,
    W64,
}

/// A register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Reg {
    pub file: File,
    pub slot: Slot,
}

/// What stands in a register before the kernel starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Init {
    Const(u64),
    /// The address of dynamic shared memory plus an offset.
    Dynamic(u64),
    Special(Special),
}

/// A special register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Lane,
    Warp,
    Warps,
    LanesEq,
    LanesLt,
    LanesLe,
    LanesGt,
    LanesGe,
    DynamicShared,
    TotalShared,
    Zero,
}

/// The registers of one warp.
#[derive(Default)]
pub(crate) struct Regs {
    pub w32: Vec<Row32>,
    pub w64: Vec<Row64>,
    pub pred: Vec<u32>,
    pub def32: Vec<u32>,
    pub def64: Vec<u32>,
    pub def_pred: Vec<u32>,
}

#[cold]
fn undefined(missing: u32) -> Stop {
    let lane = missing.trailing_zeros();
    stop(FaultKind::UndefinedRegister, lane, "a register is read that this thread has not written")
}

impl Regs {
    /// Registers for a kernel that names this many of each file.
    pub fn new(pred: usize, w32: usize, w64: usize) -> Regs {
        Regs {
            w32: vec![[0; LANES]; w32],
            w64: vec![[0; LANES]; w64],
            pred: vec![0; pred],
            def32: vec![0; w32],
            def64: vec![0; w64],
            def_pred: vec![0; pred],
        }
    }

    /// Forgets which registers are defined.
    pub fn clear(&mut self) {
        self.def32.fill(0);
        self.def64.fill(0);
        self.def_pred.fill(0);
    }

    /// Fails unless each lane of `mask` has defined all of `slots`.
    #[inline(always)]
    pub fn need32<const N: usize>(&self, mask: u32, slots: [Slot; N]) -> Result<(), Stop> {
        let defined = slots.iter().fold(mask, |m, &s| m & self.def32[s as usize]);
        if defined == mask { Ok(()) } else { Err(undefined(mask & !defined)) }
    }

    /// As [`Regs::need32`], for 64-bit registers.
    #[inline(always)]
    pub fn need64<const N: usize>(&self, mask: u32, slots: [Slot; N]) -> Result<(), Stop> {
        let defined = slots.iter().fold(mask, |m, &s| m & self.def64[s as usize]);
        if defined == mask { Ok(()) } else { Err(undefined(mask & !defined)) }
    }

    /// As [`Regs::need32`], for a predicate.
    #[inline(always)]
    pub fn need_pred(&self, mask: u32, slot: Slot) -> Result<(), Stop> {
        let defined = mask & self.def_pred[slot as usize];
        if defined == mask { Ok(()) } else { Err(undefined(mask & !defined)) }
    }

    /// As [`Regs::need32`], for any register.
    #[inline]
    pub fn need(&self, mask: u32, reg: Reg) -> Result<(), Stop> {
        match reg.file {
            File::Pred => self.need_pred(mask, reg.slot),
            File::W32 => self.need32(mask, [reg.slot]),
            File::W64 => self.need64(mask, [reg.slot]),
        }
    }

    /// The value of one lane.
    #[inline]
    pub fn get(&self, reg: Reg, lane: usize) -> u64 {
        let slot = reg.slot as usize;
        match reg.file {
            File::Pred => u64::from(self.pred[slot] >> lane & 1),
            File::W32 => u64::from(self.w32[slot][lane]),
            File::W64 => self.w64[slot][lane],
        }
    }

    /// The values of all lanes, defined or not.
    #[inline]
    pub fn row(&self, reg: Reg) -> Row64 {
        let slot = reg.slot as usize;
        match reg.file {
            File::Pred => std::array::from_fn(|lane| u64::from(self.pred[slot] >> lane & 1)),
            File::W32 => self.w32[slot].map(u64::from),
            File::W64 => self.w64[slot],
        }
    }

    /// Writes one lane and defines it.
    #[inline]
    pub fn set(&mut self, reg: Reg, lane: usize, value: u64) {
        let (slot, bit) = (reg.slot as usize, 1 << lane);
        match reg.file {
            File::Pred => {
                self.pred[slot] = self.pred[slot] & !bit | (value as u32 & 1) << lane;
                self.def_pred[slot] |= bit;
            }
            File::W32 => {
                self.w32[slot][lane] = value as u32;
                self.def32[slot] |= bit;
            }
            File::W64 => {
                self.w64[slot][lane] = value;
                self.def64[slot] |= bit;
            }
        }
    }

    /// Marks the lanes of `mask` as defined.
    pub fn define(&mut self, reg: Reg, mask: u32) {
        let slot = reg.slot as usize;
        match reg.file {
            File::Pred => self.def_pred[slot] |= mask,
            File::W32 => self.def32[slot] |= mask,
            File::W64 => self.def64[slot] |= mask,
        }
    }

    /// Writes the lanes of `mask` and defines them.
    #[inline]
    pub fn set_row(&mut self, reg: Reg, mask: u32, row: &Row64) {
        let slot = reg.slot as usize;
        match reg.file {
            File::Pred => {
                let bits = row.iter().enumerate().fold(0, |bits, (lane, v)| bits | (*v as u32 & 1) << lane);
                self.set_pred(reg.slot, mask, bits);
            }
            File::W32 => {
                for (lane, value) in row.iter().enumerate() {
                    let old = self.w32[slot][lane];
                    self.w32[slot][lane] = if mask >> lane & 1 == 1 { *value as u32 } else { old };
                }
                self.def32[slot] |= mask;
            }
            File::W64 => {
                for (lane, value) in row.iter().enumerate() {
                    let old = self.w64[slot][lane];
                    self.w64[slot][lane] = if mask >> lane & 1 == 1 { *value } else { old };
                }
                self.def64[slot] |= mask;
            }
        }
    }

    /// Writes the lanes of `mask` of a predicate.
    #[inline(always)]
    pub fn set_pred(&mut self, slot: Slot, mask: u32, bits: u32) {
        let old = &mut self.pred[slot as usize];
        *old = *old & !mask | bits & mask;
        self.def_pred[slot as usize] |= mask;
    }

    /// Writes the lanes of `mask` of a 32-bit register.
    #[inline(always)]
    pub fn set32(&mut self, slot: Slot, mask: u32, row: &Row32) {
        let old = &mut self.w32[slot as usize];
        if mask == FULL {
            *old = *row;
        } else {
            for lane in 0..LANES {
                old[lane] = if mask >> lane & 1 == 1 { row[lane] } else { old[lane] };
            }
        }
        self.def32[slot as usize] |= mask;
    }

    /// Writes the lanes of `mask` of a 64-bit register.
    #[inline(always)]
    pub fn set64(&mut self, slot: Slot, mask: u32, row: &Row64) {
        let old = &mut self.w64[slot as usize];
        if mask == FULL {
            *old = *row;
        } else {
            for lane in 0..LANES {
                old[lane] = if mask >> lane & 1 == 1 { row[lane] } else { old[lane] };
            }
        }
        self.def64[slot as usize] |= mask;
    }
}

/// The lanes of `mask`, in order.
#[inline]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}
