//! How kernel values live in registers: an operand per lane, or lanes of 8 and 16 bits packed in 32-bit words.
//!
//! Integers of 8 and 16 bits are kept sign- or zero-extended in 32-bit registers, bools in predicates, halves in 16-bit
//! registers. Words are as memory and matrix fragments have them; a value is packed and unpacked where it is used.

use super::*;

/// A lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Opnd {
    Reg(Reg),
    Const(Const),
}

/// A kernel value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Lanes(Rc<[Opnd]>),
    Words(Rc<[Reg]>),
}

impl From<Reg> for Opnd {
    fn from(r: Reg) -> Opnd {
        Opnd::Reg(r)
    }
}

/// True for vectors that memory and matrix instructions see as 32-bit words.
pub(super) fn packs(ty: VType) -> bool {
    let size = ty.dtype.size();
    size <= 2 && (ty.lanes as usize * size).is_multiple_of(4)
}

impl Emitter<'_> {
    pub(super) fn set(&mut self, v: Val, value: Value) {
        self.values[v.0 as usize] = Some(value);
    }

    pub(super) fn set_lanes(&mut self, v: Val, lanes: Vec<Opnd>) {
        self.set(v, Value::Lanes(lanes.into()));
    }

    pub(super) fn set_words(&mut self, v: Val, words: Vec<Reg>) {
        self.set(v, Value::Words(words.into()));
    }

    pub(super) fn value(&self, v: Val) -> Value {
        self.values[v.0 as usize].clone().expect("a verified kernel defines values before their use")
    }

    /// The lanes, unpacked.
    pub(super) fn lanes(&mut self, v: Val) -> Rc<[Opnd]> {
        match self.value(v) {
            Value::Lanes(lanes) => lanes,
            Value::Words(words) => {
                let dtype = self.kernel.ty(v).dtype;
                words.iter().flat_map(|&w| self.unpack(w, dtype)).collect()
            }
        }
    }

    /// The one lane.
    pub(super) fn scalar(&mut self, v: Val) -> Opnd {
        self.lanes(v)[0]
    }

    /// The words of a value that packs.
    pub(super) fn words(&mut self, v: Val) -> Rc<[Reg]> {
        match self.value(v) {
            Value::Words(words) => words,
            Value::Lanes(lanes) => {
                let dtype = self.kernel.ty(v).dtype;
                lanes.chunks(4 / dtype.size()).map(|part| self.pack(part, dtype)).collect()
            }
        }
    }

    /// The lanes in a word.
    pub(super) fn unpack(&mut self, word: Reg, dtype: DType) -> Vec<Opnd> {
        if class_of(dtype) == Class::B16 {
            let halves = [self.fresh(Class::B16), self.fresh(Class::B16)];
            self.ins("mov.b32", 1, [Arg::Group(halves.into()), word.into()]);
            return halves.map(Opnd::Reg).into();
        }
        let bits = dtype.bits() as i64;
        (0..32 / bits).map(|i| Opnd::Reg(self.field(word, i * bits, bits, dtype))).collect()
    }

    /// Some bits of a word, as an integer.
    fn field(&mut self, word: Reg, at: i64, bits: i64, dtype: DType) -> Reg {
        let signed = dtype.is_signed();
        if dtype == DType::Bool {
            let byte = self.op("and.b32", Class::B32, [word.into(), (0xff << at).into()]);
            return self.op("setp.ne.s32", Class::Pred, [byte.into(), 0.into()]);
        }
        match at {
            0 if signed => self.op(format!("cvt.s32.s{bits}"), Class::B32, [word.into()]),
            0 => self.op("and.b32", Class::B32, [word.into(), ((1 << bits) - 1).into()]),
            _ if at + bits == 32 && signed => self.op("shr.s32", Class::B32, [word.into(), at.into()]),
            _ if at + bits == 32 => self.op("shr.u32", Class::B32, [word.into(), at.into()]),
            _ if signed => self.op("bfe.s32", Class::B32, [word.into(), at.into(), bits.into()]),
            _ => self.op("bfe.u32", Class::B32, [word.into(), at.into(), bits.into()]),
        }
    }

    /// Lanes as a word.
    pub(super) fn pack(&mut self, lanes: &[Opnd], dtype: DType) -> Reg {
        let to = self.fresh(Class::B32);
        self.pack_to(to, lanes, dtype);
        to
    }

    /// Lanes as a word in this register.
    pub(super) fn pack_to(&mut self, to: Reg, lanes: &[Opnd], dtype: DType) {
        let bits = dtype.bits() as u32;
        let constant = lanes.iter().enumerate().try_fold(0u64, |word, (i, &lane)| match lane {
            Opnd::Const(c) => Some(word | c.bits << (i as u32 * bits)),
            Opnd::Reg(_) => None,
        });
        if let Some(word) = constant {
            self.op_to(to, "mov.b32", [i64::from(word as u32 as i32).into()]);
        } else if dtype == DType::Bool {
            self.pack_bools(to, lanes);
        } else if class_of(dtype) == Class::B16 {
            let halves = lanes.iter().map(|&lane| self.reg(lane)).collect();
            self.op_to(to, "mov.b32", [Arg::Group(halves)]);
        } else if bits == 16 {
            let (a, b) = (self.reg(lanes[0]), self.arg(lanes[1]));
            self.op_to(to, "prmt.b32", [a.into(), b, 0x5410.into()]);
        } else {
            let pair = |e: &mut Self, x: Opnd, y: Opnd| {
                let (x, y) = (e.reg(x), e.arg(y));
                e.op("prmt.b32", Class::B32, [x.into(), y, 0x0040.into()])
            };
            let (low, high) = (pair(self, lanes[0], lanes[1]), pair(self, lanes[2], lanes[3]));
            self.op_to(to, "prmt.b32", [low.into(), high.into(), 0x5410.into()]);
        }
    }

    fn pack_bools(&mut self, to: Reg, lanes: &[Opnd]) {
        let bits: Vec<Reg> = lanes
            .iter()
            .enumerate()
            .map(|(i, &lane)| {
                let p = self.reg(lane);
                self.op("selp.b32", Class::B32, [(1i64 << (8 * i)).into(), 0.into(), p.into()])
            })
            .collect();
        let (last, rest) = bits.split_last().expect("a word has lanes");
        let first = rest[1..].iter().fold(rest[0], |a, &b| self.op("or.b32", Class::B32, [a.into(), b.into()]));
        self.op_to(to, "or.b32", [first.into(), (*last).into()]);
    }

    /// An operand as an instruction may have it; not for bools.
    pub(super) fn arg(&self, o: Opnd) -> Arg {
        match o {
            Opnd::Reg(r) => Arg::Reg(r),
            Opnd::Const(c) => match c.dtype {
                DType::F32 => Arg::F32(c.bits as u32),
                DType::F64 => Arg::F64(c.bits),
                _ if c.dtype.is_int() => Arg::Int(c.as_i64()),
                _ => Arg::Int(c.bits as i64),
            },
        }
    }

    /// An operand in a register of its element type's class, but for i64s known to fit in a 32-bit one.
    pub(super) fn reg(&mut self, o: Opnd) -> Reg {
        match o {
            Opnd::Reg(r) => r,
            Opnd::Const(c) => {
                let class = class_of(c.dtype);
                let arg = self.arg(o);
                self.op(format!("mov.{}", class.ty()), class, [arg])
            }
        }
    }

    /// An operand in a register of exactly its element type's class.
    pub(super) fn full_reg(&mut self, o: Opnd, dtype: DType) -> Reg {
        match o {
            Opnd::Reg(r) if r.class == Class::B32 && class_of(dtype) == Class::B64 => self.extended(r),
            _ => self.reg(o),
        }
    }

    /// A 32-bit register sign-extended to 64 bits.
    pub(super) fn extended(&mut self, r: Reg) -> Reg {
        let facts = self.facts_of(Opnd::Reg(r));
        self.once(Key::Wide(r), |e| {
            let wide = e.op("cvt.s64.s32", Class::B64, [r.into()]);
            e.set_facts(wide, facts);
            (wide, 0)
        })
        .0
    }

    /// Writes an operand to a register.
    pub(super) fn copy_to(&mut self, to: Reg, from: Opnd) {
        match from {
            Opnd::Reg(r) if r.class == Class::B32 && to.class == Class::B64 => {
                self.op_to(to, "cvt.s64.s32", [r.into()])
            }
            Opnd::Reg(r) if r.class == Class::B64 && to.class == Class::B32 => {
                self.op_to(to, "cvt.u32.u64", [r.into()])
            }
            _ => {
                let arg = self.arg(from);
                self.op_to(to, format!("mov.{}", to.class.ty()), [arg]);
            }
        }
    }

    /// Moves lanes around.
    pub(super) fn rearrange(&mut self, v: Val, instr: &Instr) {
        let ty = self.kernel.ty(v);
        match *instr {
            Instr::Permute(a, b, ref picks) => {
                let both = [&self.lanes(a)[..], &self.lanes(b)[..]].concat();
                let lanes = picks.iter().map(|&p| both[p as usize]).collect();
                self.set_lanes(v, lanes);
            }
            Instr::Splat(a) => {
                let lane = self.scalar(a);
                let value = match packs(ty) && class_of(ty.dtype) == Class::B16 {
                    true => {
                        let word = self.pack(&[lane, lane], ty.dtype);
                        Value::Words(vec![word; ty.lanes as usize / 2].into())
                    }
                    false => Value::Lanes(vec![lane; ty.lanes as usize].into()),
                };
                self.set(v, value);
            }
            Instr::Extract(a, n) => {
                let lane = match self.value(a) {
                    Value::Lanes(lanes) => lanes[n as usize],
                    Value::Words(words) => {
                        let per = 4 / ty.dtype.size();
                        self.unpack(words[n as usize / per], ty.dtype)[n as usize % per]
                    }
                };
                self.set_lanes(v, vec![lane]);
            }
            Instr::Slice(a, first) => {
                let per = 4 / ty.dtype.size().min(4);
                let (first, n) = (first as usize, ty.lanes as usize);
                match self.value(a) {
                    Value::Words(words) if first.is_multiple_of(per) && n.is_multiple_of(per) => {
                        self.set_words(v, words[first / per..][..n / per].to_vec());
                    }
                    _ => {
                        let lanes = self.lanes(a)[first..][..n].to_vec();
                        self.set_lanes(v, lanes);
                    }
                }
            }
            Instr::Concat(a, b) => match (self.value(a), self.value(b)) {
                (Value::Words(a), Value::Words(b)) => self.set_words(v, [&a[..], &b[..]].concat()),
                _ => {
                    let lanes = [&self.lanes(a)[..], &self.lanes(b)[..]].concat();
                    self.set_lanes(v, lanes);
                }
            },
            _ => unreachable!("called for these only"),
        }
    }
}
