//! Where elements are: bases, index sums, constant parts in the immediate offset of an access, alignment.

use super::index::int;
use super::*;

/// Most terms of an index that are added to an address one by one.
const MOST_ADDED: usize = 4;

/// State space of a buffer, as in mnemonics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateSpace {
    Global,
    Shared,
    Local,
}

/// A buffer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub space: StateSpace,
    pub dtype: DType,
    /// Address of its variable or its first element: of 64 bits in global memory, of 32 elsewhere.
    base: Reg,
    /// The variable, in local and shared memory.
    symbol: Cow<'static, str>,
    /// Bytes from the base to index 0.
    offset: i64,
    /// Power of two the base is a multiple of; 1 if that must be asked.
    align: i64,
    /// True if nothing writes it while the kernel runs.
    pub constant: bool,
}

impl Place {
    fn new(space: StateSpace, base: Reg, dtype: DType, align: i64) -> Place {
        Place { space, dtype, base, symbol: "".into(), offset: 0, align, constant: false }
    }

    pub(super) fn param(base: Reg, dtype: DType, align: i64, constant: bool) -> Place {
        Place { constant, ..Place::new(StateSpace::Global, base, dtype, align) }
    }

    pub(super) fn scratch(base: Reg, dtype: DType) -> Place {
        Place::new(StateSpace::Global, base, dtype, 64)
    }

    pub(super) fn shared(base: Reg, dtype: DType, offset: i64) -> Place {
        Place { symbol: SHARED.into(), offset, ..Place::new(StateSpace::Shared, base, dtype, 128) }
    }

    pub(super) fn local(base: Reg, dtype: DType, symbol: String) -> Place {
        Place { symbol: symbol.into(), ..Place::new(StateSpace::Local, base, dtype, 16) }
    }
}

/// An element's address.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// Index into the emitter's places.
    place: usize,
    base: Base,
    offset: i64,
    /// Bytes from the place's base are `residue` modulo `2^bits`.
    bits: u32,
    residue: i64,
}

impl Address {
    /// The operand of an access some bytes further.
    pub(super) fn at(&self, bytes: i64) -> Arg {
        Arg::Mem(self.base.clone(), self.offset + bytes)
    }
}

/// What must be asked at run time before an access of several elements.
pub(super) enum Aligned {
    Always,
    If(Reg),
}

impl Emitter<'_> {
    pub(super) fn place(&self, buf: Buf) -> &Place {
        &self.places[self.buf_index(buf)]
    }

    /// The address of element `index + offset`.
    pub(super) fn address(&mut self, buf: Buf, index: Opnd, offset: i64) -> Address {
        let which = self.buf_index(buf);
        let place = self.places[which].clone();
        let size = place.dtype.size() as i64;
        let facts = self.facts_of(index);
        let log = size.trailing_zeros();
        let bits = facts.bits + log;
        let residue = facts.residue.wrapping_add(offset).wrapping_mul(size).wrapping_add(place.offset);
        let residue = residue & ((1i64 << bits.min(40)) - 1);
        let (base, mut at) = match facts.value() {
            Some(x) => {
                let base =
                    if place.symbol.is_empty() { Base::Reg(place.base) } else { Base::Symbol(place.symbol.clone()) };
                (base, x.wrapping_add(offset).wrapping_mul(size))
            }
            None => {
                let key = Key::Address(which, facts.terms.clone());
                let (base, from) = self.once(key, |e| e.sum(which, index, &facts));
                (Base::Reg(base), facts.add.wrapping_sub(from).wrapping_add(offset).wrapping_mul(size))
            }
        };
        at = at.wrapping_add(place.offset);
        let mut address = Address { place: which, base, offset: at, bits, residue };
        // Offsets have 32 bits; some room is left for what is added to them.
        if i32::try_from(at).ok().is_none_or(|x| x.unsigned_abs() > 1 << 30) {
            address.base = Base::Reg(self.far(&place, &address.base, at));
            address.offset = 0;
        }
        address
    }

    /// `base + bytes`, where that is no immediate offset.
    fn far(&mut self, place: &Place, base: &Base, bytes: i64) -> Reg {
        let from = match base {
            Base::Reg(r) => *r,
            Base::Symbol(_) => place.base,
        };
        match place.space {
            StateSpace::Global => self.op("add.s64", Class::B64, [from.into(), bytes.into()]),
            _ => self.op("add.s32", Class::B32, [from.into(), i64::from(bytes as i32).into()]),
        }
    }

    /// `base + index * size`, or the same without the constant part of the index; and that part, if it is in.
    ///
    /// A long index, or one that a loop changes in part, is added up term by term, the older first: what a loop does not
    /// change can then be taken out of it, and no index of 64 bits is needed.
    fn sum(&mut self, which: usize, index: Opnd, facts: &Facts) -> (Reg, i64) {
        let place = self.places[which].clone();
        let size = place.dtype.size() as i64;
        let inside = |r: Reg| self.loops.last().is_some_and(|&start| r.id >= start);
        let mixed = facts.terms.iter().any(|t| inside(t.0)) && facts.terms.iter().any(|t| !inside(t.0));
        if (mixed || !self.is_narrow(index)) && facts.terms.len() <= MOST_ADDED {
            return self.added(which, &facts.terms);
        }
        let base = place.base.into();
        if place.space != StateSpace::Global {
            let index = self.low(index);
            let sum = match size {
                1 => self.op("add.s32", Class::B32, [index, base]),
                _ => self.op("mad.lo.s32", Class::B32, [index, size.into(), base]),
            };
            return (sum, facts.add);
        }
        if self.is_narrow(index) && size > 1 {
            let index = self.low(index);
            return (self.op("mad.wide.s32", Class::B64, [index, size.into(), base]), facts.add);
        }
        let mut bytes = self.wide(index);
        if size > 1 {
            bytes = self.op("shl.b64", Class::B64, [bytes, i64::from(size.trailing_zeros()).into()]).into();
        }
        (self.op("add.s64", Class::B64, [base, bytes]), facts.add)
    }

    /// The base plus these terms times the size; and the constant part of the index that is in, if one was before.
    fn added(&mut self, which: usize, terms: &[(Reg, i64)]) -> (Reg, i64) {
        let place = self.places[which].clone();
        let Some((&(r, factor), before)) = terms.split_last() else { return (place.base, 0) };
        let key = Key::Address(which, terms.into());
        self.once(key, |e| {
            let (before, constant) = e.added(which, before);
            let by = factor.wrapping_mul(place.dtype.size() as i64);
            (e.plus(place.space, before, r, by), constant)
        })
    }

    /// `sum + r * by`.
    fn plus(&mut self, space: StateSpace, sum: Reg, r: Reg, by: i64) -> Reg {
        if space != StateSpace::Global {
            let low = self.low(r.into());
            return match by {
                1 => self.op("add.s32", Class::B32, [sum.into(), low]),
                _ => self.op("mad.lo.s32", Class::B32, [low, i64::from(by as i32).into(), sum.into()]),
            };
        }
        if r.class == Class::B32 && i32::try_from(by).is_ok() {
            return self.op("mad.wide.s32", Class::B64, [r.into(), by.into(), sum.into()]);
        }
        let wide = self.wide(r.into());
        if by.count_ones() != 1 {
            return self.op("mad.lo.s64", Class::B64, [wide, by.into(), sum.into()]);
        }
        let bytes = match by {
            1 => wide,
            _ => self.op("shl.b64", Class::B64, [wide, i64::from(by.trailing_zeros()).into()]).into(),
        };
        self.op("add.s64", Class::B64, [sum.into(), bytes])
    }

    fn is_narrow(&self, o: Opnd) -> bool {
        matches!(o, Opnd::Reg(r) if r.class == Class::B32)
    }

    /// Most bytes of one access, a power of two, of accesses that cover `bytes` from this address, and what they depend on.
    pub(super) fn widest(&self, address: &Address, bytes: i64) -> i64 {
        let mut chunk = 16.min(1 << bytes.trailing_zeros());
        if address.residue != 0 {
            chunk = chunk.min(1 << address.residue.trailing_zeros().min(address.bits));
        }
        chunk
    }

    /// Whether the address is a multiple of `chunk`.
    pub(super) fn aligned(&mut self, address: &Address, chunk: i64) -> Aligned {
        let place = self.places[address.place].clone();
        let index = 1i64 << address.bits.min(10) >= chunk && address.residue % chunk == 0;
        if index && place.align >= chunk {
            return Aligned::Always;
        }
        if index {
            let key = Key::Aligned(place.base, 0, chunk);
            let found = self.known[0].get(&key).copied();
            let p = found.unwrap_or_else(|| {
                let low = self.first("and.b64", Class::B64, [place.base.into(), (chunk - 1).into()]);
                let p = self.first("setp.eq.s64", Class::Pred, [low.into(), 0.into()]);
                self.known[0].insert(key, (p, 0));
                (p, 0)
            });
            return Aligned::If(p.0);
        }
        let Base::Reg(base) = address.base else { return Aligned::Always };
        let (p, _) = self.once(Key::Aligned(base, address.offset & (chunk - 1), chunk), |e| {
            let mut low = base;
            if base.class == Class::B64 {
                low = e.op("cvt.u32.u64", Class::B32, [base.into()]);
            }
            let low = match address.offset & (chunk - 1) {
                0 => low,
                rest => e.op("add.s32", Class::B32, [low.into(), rest.into()]),
            };
            let low = e.op("and.b32", Class::B32, [low.into(), (chunk - 1).into()]);
            (e.op("setp.eq.s32", Class::Pred, [low.into(), 0.into()]), 0)
        });
        Aligned::If(p)
    }

    /// The address as a register, for those that are stepped.
    pub(super) fn address_reg(&mut self, address: &Address) -> Reg {
        let place = self.places[address.place].clone();
        match address.base {
            Base::Reg(r) if address.offset == 0 => r,
            _ => self.far(&place, &address.base, address.offset),
        }
    }

    /// An address some bytes after another: `bytes` is a register of the address's width.
    pub(super) fn step(&mut self, address: &Address, bytes: Reg) -> Address {
        let from = self.address_reg(address);
        let op = if from.class == Class::B64 { "add.s64" } else { "add.s32" };
        let base = Base::Reg(self.op(op, from.class, [from.into(), bytes.into()]));
        Address { base, offset: 0, bits: 0, residue: 0, ..address.clone() }
    }

    /// Bytes of a stride in elements of a buffer, in a register of its addresses' width.
    pub(super) fn stride_bytes(&mut self, buf: Buf, stride: Opnd) -> Reg {
        let place = self.place(buf).clone();
        let size = place.dtype.size();
        if place.space == StateSpace::Global {
            let bytes = self.int_bin(BinOp::Mul, stride, int(size as i64));
            return self.full_reg(bytes, DType::I64);
        }
        let low = self.low(stride);
        self.op("mul.lo.s32", Class::B32, [low, (size as i64).into()])
    }
}
