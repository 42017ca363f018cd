//! Loads and stores, whole, partial, strided and gathered.
//!
//! A dynamic `count` chooses between the whole access and a loop over elements through a stack slot, so that memory
//! past the count is never touched.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlot, StackSlotData, StackSlotKind, Type, Value, types};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Buf, Instr, VType, Val};

use super::rep::{Rep, count, int_type, mask_type, scalar_type, vector_type};
use super::{Emitter, Result};

/// A byte address: a value and a constant that fits the instruction.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    base: Value,
    disp: i32,
}

/// Where the elements of a load are.
#[derive(Clone)]
enum Source {
    /// One after the other.
    Dense(Address),
    /// A constant number of bytes apart.
    Fixed(Address, i64),
    /// A number of bytes apart.
    Strided(Address, Value),
    /// At these indices from the address.
    Gather(Address, Rep),
}

/// What a partial access moves.
const ELEMENT_FLAGS: MemFlagsData = MemFlagsData::new().with_notrap();

impl Emitter<'_> {
    fn pointer(&self, buf: Buf) -> Value {
        match buf {
            Buf::Param(i) => self.params[i as usize],
            Buf::Scratch(i) => self.scratch[i as usize],
        }
    }

    /// Address of element `index + offset`.
    pub(super) fn address(&mut self, buf: Buf, index: &Rep, offset: i64) -> Address {
        let size = self.kernel.buf_dtype(buf).size() as i64;
        let pointer = self.pointer(buf);
        let (base, at) = match index.bits {
            Some(bits) => (pointer, bits as i64),
            None => {
                let scaled = self.times(index.chunks[0], size);
                (self.ins().iadd(pointer, scaled), index.off)
            }
        };
        self.displace(base, at.wrapping_add(offset).wrapping_mul(size))
    }

    /// `base + bytes`, in the displacement if it fits with some room for the lanes.
    fn displace(&mut self, base: Value, bytes: i64) -> Address {
        match i32::try_from(bytes) {
            Ok(disp) if disp.unsigned_abs() < 1 << 30 => Address { base, disp },
            _ => Address { base: self.plus(base, bytes), disp: 0 },
        }
    }

    fn flat(&mut self, a: Address) -> Value { self.plus(a.base, i64::from(a.disp)) }

    /// A load instruction.
    pub(super) fn load(&mut self, ty: VType, instr: &Instr) -> Result<Rep> {
        let (source, limit) = match instr {
            Instr::Load { buf, index, offset, count } => {
                let index = self.get(*index)?;
                (Source::Dense(self.address(*buf, &index, *offset)), *count)
            }
            Instr::LoadStrided { buf, index, offset, stride, count } => {
                let (index, stride) = (self.get(*index)?, self.get(*stride)?);
                let size = ty.dtype.size() as i64;
                let at = self.address(*buf, &index, *offset);
                let source = match stride.bits {
                    Some(1) => Source::Dense(at),
                    Some(s) => Source::Fixed(at, (s as i64).wrapping_mul(size)),
                    None => {
                        let stride = self.chunk(&stride, 0);
                        Source::Strided(at, self.times(stride, size))
                    }
                };
                (source, *count)
            }
            Instr::Gather { buf, index, offset, count } => {
                let index = self.get(*index)?;
                let size = ty.dtype.size() as i64;
                let pointer = self.pointer(*buf);
                (Source::Gather(self.displace(pointer, offset.wrapping_mul(size)), index), *count)
            }
            _ => unreachable!("only loads are loaded"),
        };
        let limit = match limit {
            None => return Ok(self.load_lanes(ty, &source, ty.lanes)),
            Some(limit) => self.get(limit)?,
        };
        if let Some(n) = limit.bits {
            let n = (n as i64).clamp(0, i64::from(ty.lanes)) as u32;
            return Ok(if n == 0 { Rep::constant(ty, 0) } else { self.load_lanes(ty, &source, n) });
        }
        let limit = self.chunk(&limit, 0);
        Ok(self.load_partial(ty, &source, limit))
    }

    /// The first `n` lanes, without a branch; the others are zero.
    fn load_lanes(&mut self, ty: VType, source: &Source, n: u32) -> Rep {
        match source {
            Source::Dense(at) => self.load_dense(ty, *at, n),
            _ if ty.lanes == 1 => {
                let v = self.load_element(ty.dtype, source, 0);
                Rep::scalar(ty.dtype, v)
            }
            _ => {
                let zero = self.scalar_constant(ty.dtype, 0);
                let mut running = None;
                let lanes: Vec<Value> = (0..ty.lanes)
                    .map(|i| if i < n { self.load_step(ty.dtype, source, i, &mut running) } else { zero })
                    .collect();
                self.gather_lanes(ty.dtype, &lanes)
            }
        }
    }

    /// Lane `i`; a dynamic stride is added up in `running`.
    fn load_step(&mut self, dtype: DType, source: &Source, i: u32, running: &mut Option<Address>) -> Value {
        let Source::Strided(at, stride) = source else { return self.load_element(dtype, source, i) };
        let next = match *running {
            None => *at,
            Some(last) => Address { base: self.ins().iadd(last.base, *stride), disp: last.disp },
        };
        *running = Some(next);
        self.load_scalar(dtype, next)
    }

    fn load_element(&mut self, dtype: DType, source: &Source, i: u32) -> Value {
        let at = match source {
            Source::Dense(at) => self.displace(at.base, i64::from(at.disp) + i64::from(i) * dtype.size() as i64),
            Source::Fixed(at, step) => {
                let bytes = step.wrapping_mul(i64::from(i)).wrapping_add(i64::from(at.disp));
                self.displace(at.base, bytes)
            }
            Source::Strided(at, step) => {
                let by = self.times(*step, i64::from(i));
                Address { base: self.ins().iadd(at.base, by), disp: at.disp }
            }
            Source::Gather(at, index) => {
                let lane = self.lane(index, i);
                let by = self.times(lane, dtype.size() as i64);
                Address { base: self.ins().iadd(at.base, by), disp: at.disp }
            }
        };
        self.load_scalar(dtype, at)
    }

    pub(super) fn load_scalar(&mut self, dtype: DType, at: Address) -> Value {
        let v = self.ins().load(scalar_type(dtype), ELEMENT_FLAGS, at.base, at.disp);
        if dtype == DType::Bool { self.truth(v) } else { v }
    }

    /// Bytes to bool lanes: anything but zero is true.
    fn truth(&mut self, bytes: Value) -> Value {
        let zero = self.int_like(bytes, 0);
        self.ins().icmp(cranelift_codegen::ir::condcodes::IntCC::NotEqual, bytes, zero)
    }

    fn load_dense(&mut self, ty: VType, at: Address, n: u32) -> Rep {
        if ty.lanes == 1 {
            let v = self.load_scalar(ty.dtype, at);
            return Rep::scalar(ty.dtype, v);
        }
        let size = ty.dtype.size() as u32;
        let clif = vector_type(ty.dtype);
        let chunks = (0..count(ty.lanes, size) as u32)
            .map(|i| {
                let bytes = (n * size).saturating_sub(16 * i).min(16);
                let v = self.load_bytes(clif, Address { disp: at.disp + 16 * i as i32, ..at }, bytes);
                if ty.dtype == DType::Bool { self.truth(v) } else { v }
            })
            .collect();
        Rep::new(ty, chunks)
    }

    /// A chunk whose first `bytes` come from memory; the others are zero.
    fn load_bytes(&mut self, clif: Type, at: Address, bytes: u32) -> Value {
        if bytes == 16 {
            return self.ins().load(clif, ELEMENT_FLAGS, at.base, at.disp);
        }
        let mut v = None;
        let mut done = 0;
        for piece in [8, 4, 2, 1] {
            if bytes - done < piece {
                continue;
            }
            let x = self.ins().load(int_type(piece), ELEMENT_FLAGS, at.base, at.disp + done as i32);
            let ty = mask_type(piece);
            v = Some(match v {
                None if piece >= 4 => self.ins().scalar_to_vector(ty, x),
                old => {
                    let old = match old {
                        None => self.int_lanes(ty, 0),
                        Some(old) => self.cast(ty, old),
                    };
                    self.ins().insertlane(old, x, (done / piece) as u8)
                }
            });
            done += piece;
        }
        match v {
            Some(v) => self.cast(clif, v),
            None => {
                let zero = self.int_lanes(mask_type(1), 0);
                self.cast(clif, zero)
            }
        }
    }

    /// The first `limit` lanes.
    fn load_partial(&mut self, ty: VType, source: &Source, limit: Value) -> Rep {
        let shape = Rep::constant(ty, 0);
        let (whole, part, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let params = (0..shape.count()).map(|_| self.b.append_block_param(after, shape.clif())).collect();
        self.branch_on_limit(limit, ty.lanes, whole, part);
        self.b.switch_to_block(whole);
        self.open();
        let rep = self.load_lanes(ty, source, ty.lanes);
        self.jump(after, &rep.chunks);
        self.close();
        self.b.switch_to_block(part);
        self.open();
        let chunks = self.load_slowly(ty, source, limit);
        self.jump(after, &chunks);
        self.close();
        self.b.switch_to_block(after);
        Rep { chunks: params, bits: None, ..shape }
    }

    fn branch_on_limit(
        &mut self,
        limit: Value,
        lanes: u32,
        whole: cranelift_codegen::ir::Block,
        part: cranelift_codegen::ir::Block,
    ) {
        let lanes = self.int(i64::from(lanes));
        self.b.set_cold_block(part);
        self.branch_if_less(limit, lanes, (part, &[]), (whole, &[]));
    }

    /// Element by element into a zeroed slot, then the slot.
    fn load_slowly(&mut self, ty: VType, source: &Source, limit: Value) -> Vec<Value> {
        let size = ty.dtype.size() as u32;
        let n = count(ty.lanes, size) as u32;
        let slot = self.slot(0, 16 * n);
        let to = self.ins().stack_addr(types::I64, slot, 0);
        let zero = self.int_lanes(types::I8X16, 0);
        for i in 0..n {
            self.ins().store(ELEMENT_FLAGS, zero, to, 16 * i as i32);
        }
        let indices = match source {
            Source::Gather(_, index) => Some(self.spill(1, index)),
            _ => None,
        };
        let from = match source {
            Source::Dense(at) | Source::Fixed(at, _) | Source::Strided(at, _) | Source::Gather(at, _) => {
                self.flat(*at)
            }
        };
        self.each_element(limit, |e, i| {
            let by = match source {
                Source::Dense(_) => e.times(i, i64::from(size)),
                Source::Fixed(_, step) => e.times(i, *step),
                Source::Strided(_, step) => e.ins().imul(i, *step),
                Source::Gather(..) => {
                    let at = e.times(i, 8);
                    let at = e.ins().iadd(indices.expect("indices are spilled"), at);
                    let index = e.ins().load(types::I64, ELEMENT_FLAGS, at, 0);
                    e.times(index, i64::from(size))
                }
            };
            let at = e.ins().iadd(from, by);
            let x = e.ins().load(int_type(size), ELEMENT_FLAGS, at, 0);
            let at = e.times(i, i64::from(size));
            let at = e.ins().iadd(to, at);
            e.ins().store(ELEMENT_FLAGS, x, at, 0);
        });
        let rep = self.load_dense(ty, Address { base: to, disp: 0 }, if ty.lanes == 1 { 1 } else { n * 16 / size });
        rep.chunks
    }

    /// A loop over `0..limit`.
    fn each_element(&mut self, limit: Value, f: impl FnOnce(&mut Self, Value)) {
        let (body, after) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(body);
        self.b.set_cold_block(after);
        let i = self.b.append_block_param(body, types::I64);
        let zero = self.int(0);
        self.branch_if_less(zero, limit, (body, &[zero]), (after, &[]));
        self.b.switch_to_block(body);
        self.open();
        f(self, i);
        let one = self.int(1);
        let next = self.ins().iadd(i, one);
        self.branch_if_less(next, limit, (body, &[next]), (after, &[]));
        self.close();
        self.b.switch_to_block(after);
    }

    /// Slot number `which`, at least `bytes` large.
    fn slot(&mut self, which: usize, bytes: u32) -> StackSlot {
        match self.slots[which] {
            Some(slot) => {
                let data = &mut self.b.func.sized_stack_slots[slot];
                data.size = data.size.max(bytes);
                slot
            }
            None => {
                let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4);
                let slot = self.b.create_sized_stack_slot(data);
                self.slots[which] = Some(slot);
                slot
            }
        }
    }

    /// The chunks of `rep` in slot number `which`; returns its address.
    fn spill(&mut self, which: usize, rep: &Rep) -> Value {
        let chunks = self.chunks(rep);
        let slot = self.slot(which, 16 * chunks.len() as u32);
        let to = self.ins().stack_addr(types::I64, slot, 0);
        for (i, c) in chunks.into_iter().enumerate() {
            self.ins().store(ELEMENT_FLAGS, c, to, 16 * i as i32);
        }
        to
    }

    /// A store statement.
    pub(super) fn store(
        &mut self,
        buf: Buf,
        index: Val,
        offset: i64,
        value: Val,
        limit: Option<Val>,
    ) -> Result<()> {
        self.flush_if(|e, instr| matches!(instr, Instr::Load { buf: b, .. } if e.may_overlap(*b, buf)))?;
        self.settle(Some(buf))?;
        let (index, value) = (self.get(index)?, self.get(value)?);
        let value = self.as_bytes(&value);
        let at = self.address(buf, &index, offset);
        let lanes = value.lanes();
        let Some(limit) = limit else {
            self.store_lanes(&value, at, lanes);
            return Ok(());
        };
        let limit = self.get(limit)?;
        if let Some(n) = limit.bits {
            self.store_lanes(&value, at, (n as i64).clamp(0, i64::from(lanes)) as u32);
            return Ok(());
        }
        let limit = self.chunk(&limit, 0);
        self.store_partial(&value, at, limit);
        Ok(())
    }

    pub(super) fn may_overlap(&self, a: Buf, b: Buf) -> bool {
        let alone = |i: u32| self.kernel.params[i as usize].noalias;
        match (a, b) {
            _ if a == b => true,
            (Buf::Param(x), Buf::Param(y)) => !alone(x) && !alone(y),
            _ => false,
        }
    }

    /// Bool vectors as bytes of 0 or 1; anything else as it is.
    fn as_bytes(&mut self, value: &Rep) -> Rep {
        if value.ty.dtype != DType::Bool {
            return value.clone();
        }
        match value.bits {
            Some(bits) => Rep::constant(value.ty.with(DType::U8), u64::from(bits != 0)),
            None => self.convert(value, DType::U8).expect("bools convert to bytes"),
        }
    }

    /// The first `n` lanes.
    fn store_lanes(&mut self, value: &Rep, at: Address, n: u32) {
        if n == 0 {
            return;
        }
        if value.is_scalar() {
            let x = self.chunk(value, 0);
            self.ins().store(ELEMENT_FLAGS, x, at.base, at.disp);
            return;
        }
        let bytes = n * value.width;
        for i in 0..bytes.div_ceil(16) {
            let x = self.chunk(value, i as usize);
            let at = Address { disp: at.disp + 16 * i as i32, ..at };
            self.store_bytes(x, at, (bytes - 16 * i).min(16));
        }
    }

    /// The first `bytes` of a chunk.
    fn store_bytes(&mut self, x: Value, at: Address, bytes: u32) {
        if bytes == 16 {
            self.ins().store(ELEMENT_FLAGS, x, at.base, at.disp);
            return;
        }
        let mut done = 0;
        for piece in [8, 4, 2, 1] {
            if bytes - done < piece {
                continue;
            }
            let v = self.cast(mask_type(piece), x);
            let lane = self.ins().extractlane(v, (done / piece) as u8);
            self.ins().store(ELEMENT_FLAGS, lane, at.base, at.disp + done as i32);
            done += piece;
        }
    }

    fn store_partial(&mut self, value: &Rep, at: Address, limit: Value) {
        let (whole, part, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.branch_on_limit(limit, value.lanes(), whole, part);
        self.b.switch_to_block(whole);
        self.open();
        self.store_lanes(value, at, value.lanes());
        self.jump(after, &[]);
        self.close();
        self.b.switch_to_block(part);
        self.open();
        let from = self.spill(0, value);
        let to = self.flat(at);
        let size = value.ty.dtype.size() as u32;
        self.each_element(limit, |e, i| {
            let by = e.times(i, i64::from(size));
            let at = e.ins().iadd(from, by);
            let x = e.ins().load(int_type(size), ELEMENT_FLAGS, at, 0);
            let at = e.ins().iadd(to, by);
            e.ins().store(ELEMENT_FLAGS, x, at, 0);
        });
        self.jump(after, &[]);
        self.close();
        self.b.switch_to_block(after);
    }
}
