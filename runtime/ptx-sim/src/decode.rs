//! Turns statements into decoded instructions: resolves names, checks operand types, assigns register slots.

mod arith;
mod bits;
mod compare;
mod control;
mod convert;
mod half;
mod matrix;
mod memory;

use std::collections::HashMap;
use std::sync::Arc;

use crate::fault::ParseError;
use crate::instr::{Guard, Instr, Op};
use crate::module::{Counts, Kernel, ParamDecl};
use crate::parse::{Operand, Statement};
use crate::regs::{File, Init, Reg, Slot, Special};
use crate::symbols::{Globals, Scope, Symbol, Variable, round_up};
use crate::types::{CONST_WINDOW, LOCAL_WINDOW, SHARED_BASE, SHARED_WINDOW, Space, Ty};

/// Why a statement was not understood; the caller knows the line.
pub(crate) type Decoded<T> = Result<T, String>;

/// A kernel under construction.
pub(crate) struct Builder<'a> {
    pub kernel: Kernel,
    scopes: Vec<Scope<'a>>,
    open: usize,
    /// Code index, operand index, label, scope and line of each branch.
    branches: Vec<(usize, usize, &'a str, usize, u32)>,
    constants: HashMap<(File, Init), Reg>,
}

/// Decodes one statement and appends it to the kernel.
pub(crate) fn decode<'a>(b: &mut Builder<'a>, s: &Statement<'a>) -> Decoded<()> {
    let guard = match s.guard {
        Some((name, negated)) => Some(Guard { pred: b.register(name, Ty::Pred)?.slot, negated }),
        None => None,
    };
    let families = [
        arith::decode,
        memory::decode,
        compare::decode,
        control::decode,
        convert::decode,
        bits::decode,
        half::decode,
        matrix::decode,
    ];
    for family in families {
        if let Some(op) = family(b, s)? {
            b.kernel.code.push(Instr { op, guard, line: s.line });
            return Ok(());
        }
    }
    Err("unknown instruction".to_owned())
}

impl<'a> Builder<'a> {
    pub fn new(name: &str, globals: &Globals, source: &Arc<str>) -> Builder<'a> {
        let kernel = Kernel {
            name: name.to_owned(),
            params: Vec::new(),
            param_bytes: 0,
            max_threads: None,
            required_threads: None,
            shared_bytes: 0,
            dynamic_offset: 0,
            local_bytes: 0,
            constants: Arc::new([]),
            code: Vec::new(),
            counts: Counts::default(),
            registers: 0,
            inits: Vec::new(),
            granules: (4, 4),
            source: source.clone(),
        };
        let mut builder = Builder {
            kernel,
            scopes: vec![Scope::default()],
            open: 0,
            branches: Vec::new(),
            constants: HashMap::new(),
        };
        for (name, offset) in &globals.constant_offsets {
            builder.scopes[0].symbols.insert(name.clone(), Symbol::Const(*offset));
        }
        for v in &globals.shared {
            let (name, data) = (v.name.clone(), Vec::new());
            let copy = Variable { name, space: v.space, align: v.align, bytes: v.bytes, data, external: v.external };
            builder.declare(copy).expect("a module declares only shared variables here");
        }
        builder
    }

    /// Where the parameters so far end.
    pub fn param_end(&self) -> usize {
        self.kernel.param_bytes
    }

    pub fn add_param(&mut self, param: ParamDecl) {
        self.kernel.param_bytes = param.offset + param.size;
        self.scopes[0].symbols.insert(param.name.clone(), Symbol::Param(param.offset as u64));
        self.kernel.params.push(param);
    }

    pub fn open_scope(&mut self) {
        self.scopes.push(Scope { parent: self.open, ..Scope::default() });
        self.open = self.scopes.len() - 1;
    }

    pub fn close_scope(&mut self) {
        self.open = self.scopes[self.open].parent;
    }

    /// Declares a variable in the open scope.
    pub fn declare(&mut self, v: Variable) -> Decoded<()> {
        let symbol = match v.space {
            Space::Shared if v.external => {
                self.kernel.dynamic_offset = self.kernel.dynamic_offset.max(v.align);
                Symbol::Dynamic
            }
            Space::Shared => Symbol::Shared(SHARED_BASE + place(&mut self.kernel.shared_bytes, &v)),
            Space::Local => Symbol::Local(place(&mut self.kernel.local_bytes, &v)),
            _ => return Err("variables of a kernel are `.shared` or `.local`".to_owned()),
        };
        match self.scopes[self.open].symbols.insert(v.name, symbol) {
            None => Ok(()),
            Some(_) => Err("this name is declared twice".to_owned()),
        }
    }

    pub fn declare_range(&mut self, prefix: &'a str, ty: Ty, count: u64) {
        self.scopes[self.open].ranges.push((prefix, ty, count));
    }

    pub fn declare_register(&mut self, name: &'a str, ty: Ty) -> Decoded<()> {
        match self.scopes[self.open].registers.insert(name, (ty, None)) {
            None => Ok(()),
            Some(_) => Err(format!("register `{name}` is declared twice")),
        }
    }

    pub fn label(&mut self, name: &'a str) -> Decoded<()> {
        let here = self.kernel.code.len() as u32;
        match self.scopes[self.open].labels.insert(name, here) {
            None => Ok(()),
            Some(_) => Err(format!("label `{name}` is defined twice")),
        }
    }

    pub fn branch_targets(&mut self, name: &'a str, targets: Vec<&'a str>) {
        self.scopes[self.open].tables.insert(name, targets);
    }

    /// Notes that operand `operand` of the next instruction is a label to resolve.
    fn refer(&mut self, label: &'a str, operand: usize, line: u32) {
        self.branches.push((self.kernel.code.len(), operand, label, self.open, line));
    }

    /// Looks `find` up from the open scope outwards.
    fn search<T>(&self, start: usize, find: impl Fn(&Scope<'a>) -> Option<T>) -> Option<(usize, T)> {
        let mut scope = start;
        loop {
            if let Some(found) = find(&self.scopes[scope]) {
                return Some((scope, found));
            }
            if scope == 0 {
                return None;
            }
            scope = self.scopes[scope].parent;
        }
    }

    fn symbol(&self, name: &str) -> Option<Symbol> {
        self.search(self.open, |s| s.symbols.get(name).copied()).map(|(_, s)| s)
    }

    /// The register `name` and its declared type.
    fn find_register(&mut self, name: &'a str) -> Decoded<(Reg, Ty)> {
        let find = |s: &Scope| s.registers.get(name).copied().or_else(|| Some((s.range_type(name)?, None)));
        let Some((scope, (ty, reg))) = self.search(self.open, find) else {
            return Err(format!("`{name}` is not declared"));
        };
        if let Some(reg) = reg {
            return Ok((reg, ty));
        }
        let file = match (ty, ty.bytes()) {
            (Ty::Pred, _) => File::Pred,
            (_, 8) => File::W64,
            _ => File::W32,
        };
        let reg = self.new_slot(file)?;
        self.kernel.registers += 1;
        self.scopes[scope].registers.insert(name, (ty, Some(reg)));
        Ok((reg, ty))
    }

    fn new_slot(&mut self, file: File) -> Decoded<Reg> {
        Kernel::next_slot(&mut self.kernel.counts, file).ok_or_else(|| "too many registers".to_owned())
    }

    /// The register `name`, which must be fit for `ty`.
    pub fn register(&mut self, name: &'a str, ty: Ty) -> Decoded<Reg> {
        let (reg, have) = self.find_register(name)?;
        match have.fits(ty) {
            true => Ok(reg),
            false => Err(format!("register `{name}` of type {have:?} does not fit {ty:?}")),
        }
    }

    /// A register that holds `init` from the start.
    pub fn initial(&mut self, file: File, init: Init) -> Decoded<Reg> {
        if let Some(reg) = self.constants.get(&(file, init)) {
            return Ok(*reg);
        }
        let reg = self.new_slot(file)?;
        self.kernel.inits.push((reg, init));
        self.constants.insert((file, init), reg);
        Ok(reg)
    }

    /// A register that holds a constant.
    pub fn constant(&mut self, ty: Ty, bits: u64) -> Decoded<Reg> {
        let (file, bits) = match ty.bytes() {
            8 => (File::W64, bits),
            4 => (File::W32, bits & 0xffff_ffff),
            2 => (File::W32, bits & 0xffff),
            _ => (File::W32, bits & 0xff),
        };
        self.initial(file, Init::Const(bits))
    }

    /// The address of a symbol as a constant of `ty`'s width.
    fn address_of(&mut self, symbol: Symbol, offset: u64, file: File, generic: bool) -> Decoded<Reg> {
        let window = |base: u64| if generic { base } else { 0 };
        let init = match symbol {
            Symbol::Param(at) => Init::Const(at.wrapping_add(offset)),
            Symbol::Shared(at) => Init::Const(at.wrapping_add(offset).wrapping_add(window(SHARED_WINDOW))),
            Symbol::Dynamic => Init::Dynamic(offset.wrapping_add(window(SHARED_WINDOW))),
            Symbol::Local(at) => Init::Const(at.wrapping_add(offset).wrapping_add(window(LOCAL_WINDOW))),
            Symbol::Const(at) => Init::Const(at.wrapping_add(offset).wrapping_add(window(CONST_WINDOW))),
        };
        self.initial(file, init)
    }

    /// A source operand of type `ty`.
    pub fn source(&mut self, operand: &Operand<'a>, ty: Ty) -> Decoded<Reg> {
        match operand {
            Operand::Int(value) if ty == Ty::F32 || ty == Ty::F64 => {
                Err(format!("`{value}` is an integer where a floating-point number is expected"))
            }
            Operand::Int(value) => self.constant(ty, *value),
            Operand::F32(bits) if matches!(ty, Ty::F32 | Ty::B32) => self.constant(ty, u64::from(*bits)),
            Operand::F64(bits) if matches!(ty, Ty::F64 | Ty::B64) => self.constant(ty, *bits),
            Operand::F64(bits) if ty == Ty::F32 => {
                self.constant(ty, u64::from((f64::from_bits(*bits) as f32).to_bits()))
            }
            Operand::Name(name) => self.named_source(name, ty),
            other => Err(format!("operand {other:?} does not fit {ty:?}")),
        }
    }

    fn named_source(&mut self, name: &'a str, ty: Ty) -> Decoded<Reg> {
        if let Some((special, width)) = special(name) {
            if width != ty.bytes() || !ty.is_integer() {
                return Err(format!("special register `{name}` does not fit {ty:?}"));
            }
            let file = if width == 8 { File::W64 } else { File::W32 };
            return self.initial(file, Init::Special(special));
        }
        if let Some(symbol) = self.symbol(name) {
            let file = match (ty.bytes(), ty.is_integer()) {
                (8, true) => File::W64,
                (4, true) => File::W32,
                _ => return Err(format!("the address of `{name}` does not fit {ty:?}")),
            };
            return self.address_of(symbol, 0, file, false);
        }
        self.register(name, ty)
    }

    /// A destination register of type `ty`.
    pub fn destination(&mut self, operand: &Operand<'a>, ty: Ty) -> Decoded<Reg> {
        match operand {
            Operand::Name(name) if special(name).is_none() => self.register(name, ty),
            other => Err(format!("{other:?} is not a register")),
        }
    }

    /// A predicate operand, possibly negated.
    pub fn predicate(&mut self, operand: &Operand<'a>) -> Decoded<Guard> {
        match operand {
            Operand::Name(name) => Ok(Guard { pred: self.register(name, Ty::Pred)?.slot, negated: false }),
            Operand::Not(name) => Ok(Guard { pred: self.register(name, Ty::Pred)?.slot, negated: true }),
            Operand::Int(value) => {
                let reg = self.initial(File::Pred, Init::Const(u64::from(*value != 0)))?;
                Ok(Guard { pred: reg.slot, negated: false })
            }
            other => Err(format!("{other:?} is not a predicate")),
        }
    }

    /// The slot of a 32-bit source.
    pub fn slot32(&mut self, operand: &Operand<'a>, ty: Ty) -> Decoded<Slot> {
        self.source(operand, ty).map(|r| r.slot)
    }

    /// Resolves labels and hands the kernel over.
    pub fn finish(mut self) -> Result<Kernel, ParseError> {
        self.kernel.code.push(Instr { op: Op::Exit, guard: None, line: 0 });
        for (at, operand, label, scope, line) in std::mem::take(&mut self.branches) {
            let Some((_, found)) = self.search(scope, |s| s.labels.get(label).copied()) else {
                return Err(ParseError::new(&self.kernel.source, line, format!("label `{label}` is not defined")));
            };
            match &mut self.kernel.code[at].op {
                Op::Branch { target } => *target = found,
                Op::BranchTable { targets, .. } => targets[operand] = found,
                _ => {}
            }
        }
        let align = self.kernel.dynamic_offset.max(16);
        self.kernel.dynamic_offset = round_up(self.kernel.shared_bytes, align);
        Ok(self.kernel)
    }
}

/// Places `v` behind what `end` counts.
fn place(end: &mut usize, v: &Variable) -> u64 {
    let at = round_up(*end, v.align);
    *end = at + v.bytes;
    at as u64
}

/// The special register `name` and its width in bytes.
fn special(name: &str) -> Option<(Special, usize)> {
    let rest = name.strip_prefix('%')?;
    if let Some((group, axis)) = rest.split_once('.') {
        let axis = "xyz".find(axis)? as u8;
        return Some(match group {
            "tid" => (Special::Tid(axis), 4),
            "ntid" => (Special::Ntid(axis), 4),
            "ctaid" => (Special::Ctaid(axis), 4),
            "nctaid" => (Special::Nctaid(axis), 4),
            _ => return None,
        });
    }
    Some(match rest {
        "laneid" => (Special::Lane, 4),
        "warpid" => (Special::Warp, 4),
        "nwarpid" => (Special::Warps, 4),
        "lanemask_eq" => (Special::LanesEq, 4),
        "lanemask_lt" => (Special::LanesLt, 4),
        "lanemask_le" => (Special::LanesLe, 4),
        "lanemask_gt" => (Special::LanesGt, 4),
        "lanemask_ge" => (Special::LanesGe, 4),
        "dynamic_smem_size" => (Special::DynamicShared, 4),
        "total_smem_size" => (Special::TotalShared, 4),
        "smid" | "clock" | "gridid" => (Special::Zero, 4),
        "clock64" | "globaltimer" => (Special::Zero, 8),
        _ => return None,
    })
}

/// Suffixes of an opcode, taken one by one; an unknown one is left over and refused.
pub(crate) struct Suffixes<'s, 'a> {
    words: &'s [&'a str],
}

impl<'s, 'a> Suffixes<'s, 'a> {
    /// The suffixes of `s` behind the opcode.
    pub fn new(s: &'s Statement<'a>) -> Suffixes<'s, 'a> {
        Suffixes { words: &s.words[1..] }
    }

    /// Takes the next suffix if it is `word`.
    pub fn accept(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        self.words = &self.words[usize::from(found)..];
        found
    }

    /// Takes the next suffix if `parse` knows it.
    pub fn find<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let found = self.words.first().and_then(|w| parse(w));
        self.words = &self.words[usize::from(found.is_some())..];
        found
    }

    /// Takes the next suffix, which must be one that `parse` knows.
    pub fn need<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Decoded<T> {
        self.find(parse).ok_or_else(|| match self.words.first() {
            Some(word) => format!("suffix `.{word}` is not known here"),
            None => "a suffix is missing".to_owned(),
        })
    }

    /// Takes suffixes while `known` accepts them.
    pub fn skip(&mut self, known: impl Fn(&str) -> bool) {
        while self.words.first().is_some_and(|w| known(w)) {
            self.words = &self.words[1..];
        }
    }

    /// Takes a type.
    pub fn ty(&mut self) -> Decoded<Ty> {
        self.need(Ty::parse)
    }

    /// Fails if suffixes are left.
    pub fn end(&self) -> Decoded<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("suffix `.{word}` is not known here")),
        }
    }
}

/// Fails unless the statement has as many operands.
pub(crate) fn count(s: &Statement, n: usize) -> Decoded<()> {
    match s.operands.len() == n {
        true => Ok(()),
        false => Err(format!("{n} operands expected, {} found", s.operands.len())),
    }
}
