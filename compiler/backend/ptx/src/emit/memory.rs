//! Loads and stores: as few accesses as alignment allows, and none beyond a count.

use super::address::{Address, Aligned, StateSpace};
use super::index::int;
use super::*;

/// How many leading lanes are accessed.
#[derive(Clone, Copy)]
pub(super) enum Tail {
    /// So many, known now.
    Known(u32),
    /// As many as the register says, between 0 and the lanes.
    Count(Reg),
}

/// Lanes of an access.
struct Lanes {
    /// Element type in memory: bools are bytes.
    dtype: DType,
    n: u32,
    /// True if words are accessed and then taken apart.
    words: bool,
}

impl Lanes {
    fn new(ty: VType) -> Lanes {
        let dtype = if ty.dtype == DType::Bool { DType::U8 } else { ty.dtype };
        Lanes { dtype, n: ty.lanes, words: value::packs(ty) }
    }

    /// True if accesses of `chunk` bytes are not worth more than single ones, or do not exist.
    fn single(&self, chunk: i64) -> bool {
        let size = self.dtype.size() as i64;
        chunk <= size || (self.words && chunk < 4) || (!self.words && size < 4)
    }

    /// Class, type and bytes of the registers of a vector access.
    fn unit(&self) -> (Class, &'static str, i64) {
        if self.words {
            return (Class::B32, "b32", 4);
        }
        let class = class_of(self.dtype);
        (class, class.ty(), self.dtype.size() as i64)
    }
}

impl Emitter<'_> {
    /// How many lanes a count stands for.
    pub(super) fn tail(&mut self, count: Option<Val>, lanes: u32) -> Tail {
        let Some(count) = count else { return Tail::Known(lanes) };
        let count = self.scalar(count);
        let clamp = |e: &mut Self| {
            let most = e.int_bin(BinOp::Min, count, int(lanes.into()));
            e.int_bin(BinOp::Max, most, int(0))
        };
        match count {
            Opnd::Const(c) => Tail::Known(c.as_i64().clamp(0, lanes.into()) as u32),
            Opnd::Reg(r) => {
                let (r, known) = self.once(Key::Count(r, lanes), |e| match clamp(e) {
                    Opnd::Reg(r) => (r, -1),
                    Opnd::Const(c) => (r, c.as_i64()),
                });
                if known < 0 { Tail::Count(r) } else { Tail::Known(known as u32) }
            }
        }
    }

    /// True if lane `i` lies below the count.
    pub(super) fn within(&mut self, count: Reg, i: u32) -> Reg {
        let make = |e: &mut Self| (e.op("setp.gt.s32", Class::Pred, [count.into(), i64::from(i).into()]), 0);
        self.once(Key::Above(count, i), make).0
    }

    fn load_name(&self, buf: Buf) -> String {
        let place = self.place(buf);
        match place.space {
            StateSpace::Global if place.constant => "ld.global.nc".into(),
            StateSpace::Global => "ld.global".into(),
            StateSpace::Shared => "ld.shared".into(),
            StateSpace::Local => "ld.local".into(),
        }
    }

    fn store_name(&self, buf: Buf) -> &'static str {
        match self.place(buf).space {
            StateSpace::Global => "st.global",
            StateSpace::Shared => "st.shared",
            StateSpace::Local => "st.local",
        }
    }

    /// Loads one element; zero unless the guard holds.
    fn load_one(&mut self, buf: Buf, dtype: DType, at: Arg, guard: Option<Reg>) -> Reg {
        let to = self.fresh(class_of(dtype));
        self.load_one_to(to, buf, dtype, at, guard);
        to
    }

    fn load_one_to(&mut self, to: Reg, buf: Buf, dtype: DType, at: Arg, guard: Option<Reg>) {
        let name = format!("{}.{}", self.load_name(buf), element(dtype));
        match guard {
            None => self.op_to(to, name, [at]),
            Some(p) => {
                let zero = if dtype.is_float() { Const::number(dtype, 0.0) } else { Const::int(dtype, 0) };
                self.copy_to(to, Opnd::Const(zero));
                self.guarded((p, true), name, 1, [to.into(), at]);
            }
        }
    }

    /// Contiguous lanes.
    pub(super) fn load(&mut self, v: Val, buf: Buf, (index, offset): (Val, i64), count: Option<Val>) {
        let ty = self.kernel.ty(v);
        let index = self.scalar(index);
        let tail = self.tail(count, ty.lanes);
        let lanes = Lanes::new(ty);
        let (class, _, unit) = lanes.unit();
        let size = lanes.dtype.size() as i64;
        let whole = !matches!(tail, Tail::Known(n) if n < ty.lanes);
        if !whole || ty.lanes == 1 {
            return self.load_each(v, buf, tail, |e, i| e.address(buf, index, offset + i64::from(i)).at(0));
        }
        let address = self.address(buf, index, offset);
        let bytes = size * i64::from(lanes.n);
        let chunk = self.widest(&address, bytes);
        if lanes.single(chunk) {
            return self.load_each(v, buf, tail, |_, i| address.at(i64::from(i) * size));
        }
        let regs: Vec<Reg> = (0..bytes / unit).map(|_| self.fresh(class)).collect();
        let slow = |e: &mut Self| e.load_slowly(&regs, buf, &lanes, &address, tail);
        self.whole_or(&address, chunk, tail, lanes.n, |e| e.load_whole(&regs, buf, &lanes, &address, chunk), slow);
        self.loaded(v, ty, &lanes, regs);
    }

    /// Gives a value the registers it was loaded into.
    fn loaded(&mut self, v: Val, ty: VType, lanes: &Lanes, regs: Vec<Reg>) {
        if lanes.words && ty.dtype == DType::Bool {
            let bools = regs.iter().flat_map(|&w| self.unpack(w, DType::Bool)).collect();
            return self.set_lanes(v, bools);
        }
        if lanes.words {
            return self.set_words(v, regs);
        }
        let each = regs.into_iter().map(|r| if ty.dtype == DType::Bool { self.truth(r) } else { r.into() }).collect();
        self.set_lanes(v, each);
    }

    /// A byte as a bool.
    fn truth(&mut self, byte: Reg) -> Opnd {
        self.op("setp.ne.s32", Class::Pred, [byte.into(), 0.into()]).into()
    }

    /// Lanes one by one; those beyond the count are zero.
    fn load_each(&mut self, v: Val, buf: Buf, tail: Tail, mut at: impl FnMut(&mut Self, u32) -> Arg) {
        let ty = self.kernel.ty(v);
        let lanes = Lanes::new(ty);
        let zero = if ty.dtype.is_float() { Const::number(ty.dtype, 0.0) } else { Const::int(ty.dtype, 0) };
        let each = (0..ty.lanes).map(|i| {
            let guard = match tail {
                Tail::Known(n) if i >= n => return Opnd::Const(zero),
                Tail::Known(_) => None,
                Tail::Count(count) => Some(self.within(count, i)),
            };
            let at = at(self, i);
            let r = self.load_one(buf, lanes.dtype, at, guard);
            if ty.dtype == DType::Bool { self.truth(r) } else { r.into() }
        });
        let each = each.collect();
        self.set_lanes(v, each);
    }

    /// Accesses of `chunk` bytes where the address allows it and no lane is missing, single ones elsewhere.
    fn whole_or(
        &mut self,
        address: &Address,
        chunk: i64,
        tail: Tail,
        lanes: u32,
        fast: impl FnOnce(&mut Self),
        slow: impl FnOnce(&mut Self),
    ) {
        let aligned = self.aligned(address, chunk);
        let condition = match (tail, aligned) {
            (Tail::Known(_), Aligned::Always) => return fast(self),
            (Tail::Known(_), Aligned::If(p)) => p,
            (Tail::Count(count), Aligned::Always) => self.within(count, lanes - 1),
            (Tail::Count(count), Aligned::If(p)) => {
                self.op("setp.gt.and.s32", Class::Pred, [count.into(), i64::from(lanes - 1).into(), p.into()])
            }
        };
        let (single, done) = (self.label("single"), self.label("done"));
        self.branch_if(condition, false, single);
        fast(self);
        self.place_label(done);
        self.cold(|e| {
            e.place_label(single);
            slow(e);
            e.jump(done);
        });
    }

    fn load_whole(&mut self, regs: &[Reg], buf: Buf, lanes: &Lanes, address: &Address, chunk: i64) {
        let (_, ty, unit) = lanes.unit();
        for (i, group) in regs.chunks((chunk / unit) as usize).enumerate() {
            let at = address.at(i as i64 * chunk);
            let name = self.load_name(buf);
            match group {
                [one] => self.op_to(*one, format!("{name}.{ty}"), [at]),
                _ => self.ins(format!("{name}.v{}.{ty}", group.len()), 1, [Arg::Group(group.into()), at]),
            }
        }
    }

    fn load_slowly(&mut self, regs: &[Reg], buf: Buf, lanes: &Lanes, address: &Address, tail: Tail) {
        let size = lanes.dtype.size() as i64;
        let per = if lanes.words { (4 / size) as u32 } else { 1 };
        for (&to, first) in regs.iter().zip((0..lanes.n).step_by(per as usize)) {
            let guard = |e: &mut Self, i: u32| match tail {
                Tail::Known(_) => None,
                Tail::Count(count) => Some(e.within(count, i)),
            };
            if !lanes.words {
                let guard = guard(self, first);
                self.load_one_to(to, buf, lanes.dtype, address.at(i64::from(first) * size), guard);
                continue;
            }
            let parts: Vec<Opnd> = (first..first + per)
                .map(|i| {
                    let guard = guard(self, i);
                    self.load_one(buf, lanes.dtype, address.at(i64::from(i) * size), guard).into()
                })
                .collect();
            self.pack_to(to, &parts, lanes.dtype);
        }
    }

    /// Lanes a stride apart.
    pub(super) fn load_strided(
        &mut self,
        v: Val,
        buf: Buf,
        (index, offset): (Val, i64),
        stride: Val,
        count: Option<Val>,
    ) {
        let n = self.kernel.ty(v).lanes;
        let step = self.scalar(stride);
        let known = self.facts_of(step).value();
        if known == Some(1) || n == 1 {
            return self.load(v, buf, (index, offset), count);
        }
        let index = self.scalar(index);
        let tail = self.tail(count, n);
        if let Some(step) = known {
            let at = |i: u32| offset.wrapping_add(step.wrapping_mul(i.into()));
            return self.load_each(v, buf, tail, |e, i| e.address(buf, index, at(i)).at(0));
        }
        let bytes = self.stride_bytes(buf, step);
        let mut next = self.address(buf, index, offset);
        self.load_each(v, buf, tail, |e, i| {
            if i > 0 {
                next = e.step(&next, bytes);
            }
            next.at(0)
        });
    }

    /// Lanes at the indices of a vector.
    pub(super) fn gather(&mut self, v: Val, buf: Buf, (index, offset): (Val, i64), count: Option<Val>) {
        let indices = self.lanes(index);
        let tail = self.tail(count, self.kernel.ty(v).lanes);
        self.load_each(v, buf, tail, |e, i| e.address(buf, indices[i as usize], offset).at(0));
    }

    /// Contiguous lanes.
    pub(super) fn store(&mut self, buf: Buf, (index, offset): (Val, i64), value: Val, count: Option<Val>) {
        let ty = self.kernel.ty(value);
        let index = self.scalar(index);
        let tail = self.tail(count, ty.lanes);
        let lanes = Lanes::new(ty);
        let size = lanes.dtype.size() as i64;
        let whole = !matches!(tail, Tail::Known(n) if n < ty.lanes);
        if !whole || ty.lanes == 1 {
            let each = self.lanes(value);
            return self
                .store_each(buf, ty.dtype, &each, tail, |e, i| e.address(buf, index, offset + i64::from(i)).at(0));
        }
        let address = self.address(buf, index, offset);
        let bytes = size * i64::from(lanes.n);
        let chunk = self.widest(&address, bytes);
        if lanes.single(chunk) {
            let each = self.lanes(value);
            return self.store_each(buf, ty.dtype, &each, tail, |_, i| address.at(i64::from(i) * size));
        }
        let regs: Vec<Reg> = match lanes.words {
            true => self.words(value).to_vec(),
            false => self.lanes(value).to_vec().into_iter().map(|x| self.full_reg(x, ty.dtype)).collect(),
        };
        let slow = |e: &mut Self| {
            let each = e.lanes(value);
            e.store_each(buf, ty.dtype, &each, tail, |_, i| address.at(i64::from(i) * size));
        };
        self.whole_or(&address, chunk, tail, lanes.n, |e| e.store_whole(&regs, buf, &lanes, &address, chunk), slow);
    }

    fn store_whole(&mut self, regs: &[Reg], buf: Buf, lanes: &Lanes, address: &Address, chunk: i64) {
        let (_, ty, unit) = lanes.unit();
        for (i, group) in regs.chunks((chunk / unit) as usize).enumerate() {
            let at = address.at(i as i64 * chunk);
            let name = self.store_name(buf);
            match group {
                [one] => self.ins(format!("{name}.{ty}"), 0, [at, (*one).into()]),
                _ => self.ins(format!("{name}.v{}.{ty}", group.len()), 0, [at, Arg::Group(group.into())]),
            }
        }
    }

    /// Lanes one by one, as far as the count goes.
    fn store_each(
        &mut self,
        buf: Buf,
        dtype: DType,
        lanes: &[Opnd],
        tail: Tail,
        mut at: impl FnMut(&mut Self, u32) -> Arg,
    ) {
        let in_memory = if dtype == DType::Bool { DType::U8 } else { dtype };
        let name = format!("{}.{}", self.store_name(buf), stored(in_memory));
        for (i, &lane) in lanes.iter().enumerate() {
            let guard = match tail {
                Tail::Known(n) if i as u32 >= n => return,
                Tail::Known(_) => None,
                Tail::Count(count) => Some(self.within(count, i as u32)),
            };
            let mut r = self.full_reg(lane, dtype);
            if dtype == DType::Bool {
                r = self.op("selp.b32", Class::B32, [1.into(), 0.into(), r.into()]);
            }
            let at = at(self, i as u32);
            match guard {
                None => self.ins(name.clone(), 0, [at, r.into()]),
                Some(p) => self.guarded((p, true), name.clone(), 0, [at, r.into()]),
            }
        }
    }
}

/// Type of an element in a load: it is extended to the register's width.
fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::I8 => "s8",
        DType::U8 | DType::Bool => "u8",
        DType::I16 => "s16",
        DType::U16 => "u16",
        _ => class_of(dtype).ty(),
    }
}

/// Type of an element in a store.
fn stored(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "u8",
        2 if class_of(dtype) == Class::B32 => "u16",
        _ => class_of(dtype).ty(),
    }
}
