//! Decodes loads, stores, atomics, asynchronous copies and what only hints at memory.

use super::{Builder, Decoded, Suffixes, count};
use crate::instr::{Access, Address, Atomic, Bin64, Copy, Op, Rmw};
use crate::parse::{Operand, Statement};
use crate::regs::{File, Init, Reg};
use crate::symbols::Symbol;
use crate::types::{CONST_WINDOW, Class, LOCAL_WINDOW, SHARED_WINDOW, Space, Ty};

/// Decodes `s` if it belongs here.
pub(super) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Option<Op>> {
    let op = match s.words[0] {
        "ld" | "ldu" => load(b, s)?,
        "st" => store(b, s)?,
        "atom" | "red" => atomic(b, s)?,
        "cvta" => cvta(b, s)?,
        "cp" if s.words.get(1) == Some(&"async") => copy(b, s)?,
        "membar" | "fence" => Op::Nop,
        "prefetch" | "prefetchu" | "applypriority" | "discard" => Op::Nop,
        "createpolicy" => {
            // The policy itself is opaque; defining the register is all that counts.
            let d = b.destination(&s.operands[0], Ty::B64)?.slot;
            Op::Mov64 { d, a: b.constant(Ty::B64, 0)?.slot }
        }
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn is_hint(word: &str) -> bool {
    let operators = ["ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "weak"];
    operators.contains(&word) || word.starts_with("L1::") || word.starts_with("L2::")
}

fn is_scope(word: &str) -> bool {
    matches!(word, "cta" | "cluster" | "gpu" | "sys" | "gl")
}

/// Suffixes of `ld` and `st`: strength, space, vector length and type.
fn access_suffixes(s: &Statement) -> Decoded<(bool, Space, usize, Ty)> {
    let mut x = Suffixes::new(s);
    let is_strong = |w: &str| matches!(w, "volatile" | "relaxed" | "acquire" | "release" | "mmio").then_some(());
    let strong = x.find(is_strong).is_some();
    x.skip(|w| w == "weak" || is_scope(w));
    let space = x.find(Space::parse).unwrap_or(Space::Generic);
    x.skip(is_hint);
    let length = x.find(|w| ["v1", "v2", "v4"].iter().position(|v| *v == w)).map_or(1, |p| 1 << p);
    let ty = x.ty()?;
    x.end()?;
    if length * ty.bytes() > 16 || ty == Ty::Pred {
        return Err("accesses are of 16 bytes at most".to_owned());
    }
    Ok((strong, space, length, ty))
}

/// The elements of a vector operand, or the operand itself.
fn elements<'o, 'a>(operand: &'o Operand<'a>, length: usize) -> Decoded<&'o [Operand<'a>]> {
    let found = match operand {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    match found.len() == length && (length == 1 || matches!(operand, Operand::Vector(_))) {
        true => Ok(found),
        false => Err(format!("a vector of {length} registers expected")),
    }
}

impl<'a> Builder<'a> {
    /// A register that an access of type `ty` may use: of its size, or wider if it is no floating-point type.
    pub fn relaxed(&mut self, name: &'a str, ty: Ty) -> Decoded<Reg> {
        let (reg, have) = self.find_register(name)?;
        let wider = have.bytes() > ty.bytes() && ty.class() != Class::Float && have != Ty::Pred;
        match wider || have.fits(ty) {
            true => Ok(reg),
            false => Err(format!("register `{name}` of type {have:?} does not fit {ty:?}")),
        }
    }

    /// The address in `operand`, within `space`.
    pub fn address(&mut self, operand: &Operand<'a>, space: Space) -> Decoded<Address> {
        let Operand::Memory(base, offset) = operand else { return Err("an address in brackets expected".to_owned()) };
        let name = match **base {
            Operand::Name(name) => name,
            Operand::Int(value) => {
                let base = self.initial(File::W64, Init::Const(value.wrapping_add(*offset as u64)))?;
                return Ok(Address { base, offset: 0 });
            }
            _ => return Err("a register or a symbol expected in brackets".to_owned()),
        };
        if let Some(symbol) = self.symbol(name) {
            let fits = match symbol {
                Symbol::Param(_) => space == Space::Param,
                Symbol::Shared(_) | Symbol::Dynamic => matches!(space, Space::Shared | Space::Generic),
                Symbol::Local(_) => matches!(space, Space::Local | Space::Generic),
                Symbol::Const(_) => matches!(space, Space::Const | Space::Generic),
            };
            if !fits {
                return Err(format!("`{name}` is not in this state space"));
            }
            let base = self.address_of(symbol, *offset as u64, File::W64, space == Space::Generic)?;
            return Ok(Address { base, offset: 0 });
        }
        let (base, ty) = self.find_register(name)?;
        let narrow = !matches!(space, Space::Global | Space::Generic) && ty.bytes() == 4;
        match ty.is_integer() && (ty.bytes() == 8 || narrow) {
            true => Ok(Address { base, offset: *offset }),
            false => Err(format!("register `{name}` of type {ty:?} is no address")),
        }
    }

    /// Notes an access of `bytes` per element, for the granularity of race detection.
    pub fn note_access(&mut self, space: Space, bytes: usize) {
        let (shared, global) = &mut self.kernel.granules;
        if matches!(space, Space::Shared | Space::Generic) {
            *shared = bytes.min(*shared);
        }
        if matches!(space, Space::Global | Space::Generic) {
            *global = bytes.min(*global);
        }
    }
}

/// Drops the operand of a cache policy.
fn without_policy<'o, 'a>(s: &'o Statement<'a>) -> &'o [Operand<'a>] {
    let hinted = s.words.contains(&"L2::cache_hint");
    &s.operands[..s.operands.len() - usize::from(hinted && !s.operands.is_empty())]
}

fn load<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let (strong, space, length, ty) = access_suffixes(s)?;
    let [to, from] = without_policy(s) else { return Err("two operands expected".to_owned()) };
    let mut regs = Vec::new();
    for part in elements(to, length)? {
        regs.push(match part {
            Operand::Sink => None,
            Operand::Name(name) => Some(b.relaxed(name, ty)?),
            _ => return Err("a register expected".to_owned()),
        });
    }
    let address = b.address(from, space)?;
    b.note_access(space, ty.bytes());
    Ok(Op::Load(Box::new(Access { space, address, ty, regs, strong })))
}

fn store<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let (strong, space, length, ty) = access_suffixes(s)?;
    let [to, from] = without_policy(s) else { return Err("two operands expected".to_owned()) };
    if matches!(space, Space::Const | Space::Param) {
        return Err("this state space cannot be written".to_owned());
    }
    let mut regs = Vec::new();
    for part in elements(from, length)? {
        regs.push(Some(match part {
            Operand::Name(name) if b.symbol(name).is_none() && !name.contains('.') => b.relaxed(name, ty)?,
            other => b.source(other, ty)?,
        }));
    }
    let address = b.address(to, space)?;
    b.note_access(space, ty.bytes());
    Ok(Op::Store(Box::new(Access { space, address, ty, regs, strong })))
}

fn rmw(word: &str) -> Option<Rmw> {
    Some(match word {
        "add" => Rmw::Add,
        "min" => Rmw::Min,
        "max" => Rmw::Max,
        "exch" => Rmw::Exch,
        "cas" => Rmw::Cas,
        "and" => Rmw::And,
        "or" => Rmw::Or,
        "xor" => Rmw::Xor,
        "inc" => Rmw::Inc,
        "dec" => Rmw::Dec,
        _ => return None,
    })
}

fn check_atomic(rmw: Rmw, ty: Ty) -> Decoded<()> {
    use Ty::{B16, B32, B64, Bf16, Bf16x2, F16, F16x2, F32, F64, S32, S64, U32, U64};
    let known: &[Ty] = match rmw {
        Rmw::Add => &[U32, S32, U64, F32, F64, F16, F16x2, Bf16, Bf16x2],
        Rmw::Min | Rmw::Max => &[U32, S32, U64, S64],
        Rmw::Exch => &[B32, B64],
        Rmw::Cas => &[B16, B32, B64],
        Rmw::And | Rmw::Or | Rmw::Xor => &[B32, B64],
        Rmw::Inc | Rmw::Dec => &[U32],
    };
    if known.contains(&ty) { Ok(()) } else { Err(format!("atomic {rmw:?} is not for {ty:?}")) }
}

fn atomic<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    x.skip(|w| matches!(w, "relaxed" | "acquire" | "release" | "acq_rel"));
    x.skip(is_scope);
    let space = x.find(Space::parse).unwrap_or(Space::Generic);
    let rmw = x.need(rmw)?;
    x.skip(|w| w == "noftz" || is_hint(w));
    let ty = x.ty()?;
    x.end()?;
    check_atomic(rmw, ty)?;
    if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
        return Err("atomics work on global and shared memory".to_owned());
    }
    let mut o = without_policy(s);
    let mut to = None;
    if s.words[0] == "atom" {
        let (first, rest) = o.split_first().ok_or_else(|| "operands are missing".to_owned())?;
        o = rest;
        if *first != Operand::Sink {
            to = Some(b.destination(first, ty)?);
        }
    } else if matches!(rmw, Rmw::Exch | Rmw::Cas) {
        return Err("`red` has no such operation".to_owned());
    }
    let expected = if rmw == Rmw::Cas { 3 } else { 2 };
    if o.len() != expected {
        return Err("wrong number of operands".to_owned());
    }
    let address = b.address(&o[0], space)?;
    let value = b.source(&o[1], ty)?;
    let swap = if rmw == Rmw::Cas { b.source(&o[2], ty)? } else { value };
    b.note_access(space, ty.bytes());
    Ok(Op::Atomic(Box::new(Atomic { space, rmw, ty, to, address, value, swap })))
}

fn cvta<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    let mut x = Suffixes::new(s);
    let to = x.accept("to");
    let space = x.need(Space::parse)?;
    let ty = x.ty()?;
    x.end()?;
    count(s, 2)?;
    if ty != Ty::U64 {
        return Err("addresses have 64 bits".to_owned());
    }
    let d = b.destination(&s.operands[0], ty)?.slot;
    let a = b.source(&s.operands[1], ty)?.slot;
    let window = match space {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Const => CONST_WINDOW,
        _ => return Ok(Op::Mov64 { d, a }),
    };
    let f = if to { Bin64::Sub } else { Bin64::Add };
    Ok(Op::Bin64 { f, d, a, b: b.constant(Ty::U64, window)?.slot })
}

fn copy<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<Op> {
    match s.words[2..] {
        ["commit_group"] => {
            count(s, 0)?;
            return Ok(Op::CopyCommit);
        }
        ["wait_all"] => {
            count(s, 0)?;
            return Ok(Op::CopyWaitAll);
        }
        ["wait_group"] => {
            let [Operand::Int(groups)] = s.operands[..] else { return Err("a constant expected".to_owned()) };
            return Ok(Op::CopyWait(groups as u32));
        }
        ["ca" | "cg", "shared" | "shared::cta", "global", ..] => {}
        _ => return Err("this asynchronous copy is not supported".to_owned()),
    }
    if s.words[5..].iter().any(|w| !w.starts_with("L2::")) {
        return Err("unknown suffix".to_owned());
    }
    let o = without_policy(s);
    let (3..=4, Some(Operand::Int(bytes))) = (o.len(), o.get(2)) else {
        return Err("two addresses and a constant size expected".to_owned());
    };
    let bytes = *bytes as u32;
    if !(bytes == 16 || s.words[2] == "ca" && matches!(bytes, 4 | 8)) {
        return Err("sizes are 4, 8 or 16, and 16 only for `.cg`".to_owned());
    }
    let (to, from) = (b.address(&o[0], Space::Shared)?, b.address(&o[1], Space::Global)?);
    let (mut taken, mut ignore) = (None, None);
    match o.get(3) {
        Some(Operand::Name(name)) if b.find_register(name).is_ok_and(|(_, ty)| ty == Ty::Pred) => {
            ignore = Some(b.register(name, Ty::Pred)?.slot);
        }
        Some(operand) => taken = Some(b.source(operand, Ty::U32)?),
        None => {}
    }
    b.note_access(Space::Shared, 4);
    Ok(Op::Copy(Box::new(Copy { to, from, bytes, taken, ignore })))
}
