//! Kernel IR to PTX: the entry around the tiles, and the state while one kernel is written.
//!
//! What the emitter guarantees:
//! - every arithmetic instruction rounds as it says (`.rn`), so that ptxas fuses nothing;
//! - no register is read that was not written on every way there;
//! - registers are assigned once, but for those that carry values around loops and out of branches;
//! - what rarely runs (unaligned or partial accesses, failed checks) stands after the hot code.

mod address;
mod arith;
mod control;
mod convert;
mod index;
mod memory;
mod order;
mod team;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

use xlac_ir::DType;
use xlac_ir::backend::{BlockShape, Gpu};
use xlac_ir::kernel::*;

use crate::asm::{self, Arg, Base, Class, Ins, Label, Line, Reg};
use crate::facts::Facts;
use address::Place;
use value::{Opnd, Value};

/// Threads of a block in which every thread runs a tile of its own.
pub const BLOCK: u32 = 128;
/// Most tiles of a launch: their numbers fit in 32 bits, whatever the grid is rounded to.
pub const MOST_TILES: i64 = (1 << 31) - 2 * BLOCK as i64;
/// Status of a launch with more tiles than that.
pub const TOO_MANY_TILES: u32 = u32::MAX;
/// Most bytes of private scratch memory that a thread keeps in local memory.
const MOST_LOCAL: u64 = 4096;
/// Most bytes of parameters an entry may have.
const MOST_PARAMS: usize = 4096;
/// Name of the dynamic shared memory.
pub const SHARED: &str = "xlac_shared";

/// Text of one entry and how its tiles become blocks.
pub struct Entry {
    pub text: String,
    pub block: BlockShape,
}

/// What an earlier instruction computed, to be used again where that instruction is sure to have run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Address of a buffer's element: a sum of registers and factors.
    Address(usize, Rc<[(Reg, i64)]>),
    /// A 32-bit register sign-extended.
    Wide(Reg),
    /// A count of lanes, between 0 and this.
    Count(Reg, u32),
    /// The count is above this number.
    Above(Reg, u32),
    /// Register plus constant is a multiple of a power of two.
    Aligned(Reg, i64, i64),
}

/// State while one kernel is written.
struct Emitter<'a> {
    kernel: &'a Kernel,
    /// Lines of the hot code so far.
    lines: Vec<Line>,
    /// Lines that run before it, once.
    prologue: Vec<Line>,
    /// Lines after it.
    cold: Vec<Line>,
    values: Vec<Option<Value>>,
    /// Per register: what is known of the i64 value in it.
    facts: Vec<Option<Facts>>,
    labels: u32,
    /// Registers before each loop around, innermost last.
    loops: Vec<u32>,
    /// Innermost block last.
    known: Vec<HashMap<Key, (Reg, i64)>>,
    /// Parameters, then scratch buffers.
    places: Vec<Place>,
    /// Values of the dim parameters.
    dims: Vec<Reg>,
    tile: Option<Reg>,
    thread: Option<Reg>,
    status: Option<Reg>,
    /// Where a failed check goes, by code.
    failures: Vec<(u32, Label)>,
    /// Declarations of local memory.
    locals: String,
    shared: u64,
}

/// Writes one kernel.
pub fn entry(kernel: &Kernel, gpu: &Gpu) -> Result<Entry, String> {
    let mut e = Emitter {
        kernel,
        lines: Vec::new(),
        prologue: Vec::new(),
        cold: Vec::new(),
        values: vec![None; kernel.values.len()],
        facts: Vec::new(),
        labels: 0,
        loops: Vec::new(),
        known: vec![HashMap::new()],
        places: Vec::new(),
        dims: Vec::new(),
        tile: None,
        thread: None,
        status: None,
        failures: Vec::new(),
        locals: String::new(),
        shared: 0,
    };
    let strided = e.function()?;
    if e.shared > u64::from(gpu.shared_bytes) {
        return Err(format!("{} bytes of shared memory, and the device has {}", e.shared, gpu.shared_bytes));
    }
    let alone = kernel.threads == 1;
    let block = BlockShape {
        threads: if alone { BLOCK } else { kernel.threads },
        tiles: if alone { BLOCK } else { 1 },
        shared: e.shared as u32,
        strided,
    };
    Ok(Entry { text: e.text(), block })
}

impl Emitter<'_> {
    /// The whole function. True if it strides over the tiles.
    fn function(&mut self) -> Result<bool, String> {
        let k = self.kernel;
        if !k.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err("the name of an entry starts with a letter".into());
        }
        if (k.params.len() + k.dims.len() + 4) * 8 > MOST_PARAMS {
            return Err(format!("{} buffers and {} dims are too many for a launch", k.params.len(), k.dims.len()));
        }
        if k.threads > 1024 {
            return Err(format!("{} threads are too many for a block", k.threads));
        }
        self.parameters();
        let strided = self.tile_number()?;
        self.comment("tile");
        if strided {
            let tile = self.tile.expect("it was just computed");
            let again = self.label("next_tile");
            self.place_label(again);
            self.known.push(HashMap::new());
            self.loops.push(tile.id);
            self.stmts(&k.body)?;
            self.loops.pop();
            self.known.pop();
            self.comment("next tile of this thread");
            let (blocks, tiles) = (self.op("mov.u32", Class::B32, [name("%nctaid.x")]), self.tiles_low());
            let step = self.op("mul.lo.s32", Class::B32, [blocks.into(), i64::from(BLOCK).into()]);
            self.ins("add.s32", 1, [tile.into(), tile.into(), step.into()]);
            let more = self.op("setp.lt.u32", Class::Pred, [tile.into(), tiles.into()]);
            self.branch_if(more, true, again);
        } else {
            self.stmts(&k.body)?;
        }
        self.ins("ret", 0, []);
        Ok(strided)
    }

    /// Loads what the launch gives and lays out scratch memory.
    fn parameters(&mut self) {
        let k = self.kernel;
        let apart = k.params.iter().all(|p| p.access == Access::Read || p.noalias);
        self.comment("parameters");
        for (i, p) in k.params.iter().enumerate() {
            let base = self.op("ld.param.u64", Class::B64, [Arg::Mem(Base::Symbol(format!("buf{i}").into()), 0)]);
            let constant = p.access == Access::Read && (apart || p.noalias);
            self.places.push(Place::param(base, p.dtype, p.align.into(), constant));
        }
        for i in 0..k.dims.len() {
            let dim = self.op("ld.param.s64", Class::B64, [Arg::Mem(Base::Symbol(format!("dim{i}").into()), 0)]);
            self.dims.push(dim);
        }
        self.prologue = std::mem::take(&mut self.lines);
    }

    fn param(&mut self, op: &'static str, name: &'static str) -> Reg {
        self.op(op, Class::B64, [Arg::Mem(Base::Symbol(name.into()), 0)])
    }

    /// The number of tiles as 32 bits.
    fn tiles_low(&mut self) -> Reg {
        let tiles = self.param("ld.param.s64", "tiles");
        self.op("cvt.u32.u64", Class::B32, [tiles.into()])
    }

    /// Which tile this is, and scratch memory. True if the kernel strides over the tiles.
    fn tile_number(&mut self) -> Result<bool, String> {
        self.comment("which tile");
        let alone = self.kernel.threads == 1;
        let block = self.op("mov.u32", Class::B32, [name("%ctaid.x")]);
        let thread = self.op("mov.u32", Class::B32, [name("%tid.x")]);
        let tile = match alone {
            true => self.op("mad.lo.s32", Class::B32, [block.into(), i64::from(BLOCK).into(), thread.into()]),
            false => block,
        };
        self.set_facts(thread, Facts::register(thread, 0, i64::from(self.kernel.threads.max(BLOCK)) - 1));
        let tiles = self.param("ld.param.s64", "tiles");
        let many = self.op("setp.gt.s64", Class::Pred, [tiles.into(), MOST_TILES.into()]);
        let failed = self.failure(TOO_MANY_TILES);
        self.branch_if(many, true, failed);
        let tiles = self.op("cvt.u32.u64", Class::B32, [tiles.into()]);
        let beyond = self.op("setp.ge.s32", Class::Pred, [tile.into(), tiles.into()]);
        self.guarded((beyond, true), "ret", 0, []);
        self.set_facts(tile, Facts::register(tile, 0, MOST_TILES - 1));
        (self.tile, self.thread) = (Some(tile), Some(thread));
        self.scratch(tile)
    }

    /// Lays out scratch memory. True if some of it is global, so that a thread must use its part for several tiles.
    fn scratch(&mut self, worker: Reg) -> Result<bool, String> {
        let k = self.kernel;
        let bytes = |s: &Scratch| match s.len {
            ScratchLen::Const(n) => n.saturating_mul(s.dtype.size() as u64),
            ScratchLen::Dim(_) => u64::MAX,
        };
        let private = k.scratch.iter().filter(|s| s.space == Space::Private);
        let total = private.map(|s| bytes(s).saturating_add(15)).fold(0u64, u64::saturating_add);
        let local = total <= MOST_LOCAL + 15 * k.scratch.len() as u64;
        if !local && k.threads > 1 {
            return Err("a thread of a team has too much private scratch memory".into());
        }
        let shared = k.scratch.iter().any(|s| s.space == Space::Shared);
        let shared = shared.then(|| self.first("mov.u32", Class::B32, [name(SHARED)]));
        let mut at = if local { None } else { Some(self.worker_scratch(worker)) };
        for (i, s) in k.scratch.iter().enumerate() {
            let place = match s.space {
                Space::Shared => {
                    let offset = self.shared;
                    self.shared = (self.shared + bytes(s)).next_multiple_of(128);
                    Place::shared(shared.expect("there is shared memory"), s.dtype, offset as i64)
                }
                Space::Private if local => {
                    let symbol = format!("local{i}");
                    let _ =
                        writeln!(self.locals, "    .local .align 16 .b8 {symbol}[{}]; // {}", bytes(s).max(1), s.name);
                    let base = self.first("mov.u32", Class::B32, [name(symbol.clone())]);
                    Place::local(base, s.dtype, symbol)
                }
                Space::Private => {
                    let base = at.expect("scratch memory is global");
                    at = Some(self.after_scratch(base, s));
                    Place::scratch(base, s.dtype)
                }
            };
            self.places.push(place);
        }
        Ok(!local)
    }

    /// Where this thread's part of the global scratch memory begins.
    fn worker_scratch(&mut self, worker: Reg) -> Reg {
        self.comment("scratch memory of this thread");
        let base = self.param("ld.param.u64", "scratch");
        let stride = self.param("ld.param.s64", "scratch_stride");
        let worker = self.op("cvt.s64.s32", Class::B64, [worker.into()]);
        self.op("mad.lo.s64", Class::B64, [worker.into(), stride.into(), base.into()])
    }

    /// Where the scratch buffer after this one begins: at a multiple of 64 bytes.
    fn after_scratch(&mut self, base: Reg, s: &Scratch) -> Reg {
        let size = s.dtype.size() as i64;
        match s.len {
            ScratchLen::Const(n) => {
                let bytes = (n as i64 * size + 63) & -64;
                self.op("add.s64", Class::B64, [base.into(), bytes.into()])
            }
            ScratchLen::Dim(d) => {
                let dim = self.dims[d as usize];
                let elements = self.op("max.s64", Class::B64, [dim.into(), 0.into()]);
                let bytes = self.op("mul.lo.s64", Class::B64, [elements.into(), size.into()]);
                let bytes = self.op("add.s64", Class::B64, [bytes.into(), 63.into()]);
                let bytes = self.op("and.b64", Class::B64, [bytes.into(), (-64).into()]);
                self.op("add.s64", Class::B64, [base.into(), bytes.into()])
            }
        }
    }

    fn stmts(&mut self, block: &Block) -> Result<(), String> {
        order::loads_first(block).into_iter().try_for_each(|s| match s {
            Stmt::Let(v, instr) => self.instr(*v, instr),
            Stmt::Store { buf, index, offset, value, count } => {
                self.store(*buf, (*index, *offset), *value, *count);
                Ok(())
            }
            // Kernels for GPUs copy ahead instead.
            Stmt::Prefetch { .. } => Ok(()),
            Stmt::MatrixStore(_) => Err(arith::NO_MATRIX.into()),
            Stmt::For(f) => self.for_loop(f),
            Stmt::If(i) => self.branch(i),
            Stmt::Check { cond, code } => {
                self.check(*cond, *code);
                Ok(())
            }
            Stmt::Team(stmt) => self.team_stmt(stmt),
        })
    }

    /// Text of the entry, unused instructions left out.
    fn text(mut self) -> String {
        let mut lines = self.prologue;
        lines.append(&mut self.lines);
        if !self.cold.is_empty() {
            lines.push(Line::Comment("what rarely runs".into()));
            lines.append(&mut self.cold);
        }
        asm::sweep(&mut lines, self.facts.len() as u32);
        let (body, declarations) = asm::print(&lines);
        let k = self.kernel;
        let mut out = String::new();
        for note in &k.notes {
            let _ = writeln!(out, "// {}", line(note));
        }
        let _ = writeln!(out, ".visible .entry {}(", k.name);
        for (i, p) in k.params.iter().enumerate() {
            let access = match p.access {
                Access::Read => "read",
                Access::Write => "written",
                Access::ReadWrite => "read and written",
            };
            let _ = writeln!(out, "    .param .u64 buf{i}, // {}: {}, {access}", line(&p.name), p.dtype);
        }
        for (i, name) in k.dims.iter().enumerate() {
            let _ = writeln!(out, "    .param .s64 dim{i}, // {}", line(name));
        }
        out += "    .param .s64 tiles,\n    .param .u64 scratch,\n    .param .s64 scratch_stride,\n    .param .u64 status\n)\n";
        let threads = if k.threads == 1 { BLOCK } else { k.threads };
        let _ = writeln!(out, ".maxntid {threads}, 1, 1");
        out += &performance(k);
        out += "{\n";
        out += &self.locals;
        out += &declarations;
        out += &body;
        out += "}\n";
        out
    }

    // Lines.

    fn fresh(&mut self, class: Class) -> Reg {
        self.facts.push(None);
        Reg { class, id: self.facts.len() as u32 - 1 }
    }

    fn ins<const N: usize>(&mut self, op: impl Into<Cow<'static, str>>, defs: usize, args: [Arg; N]) {
        self.lines.push(Line::Ins(Ins { guard: None, op: op.into(), args: args.into(), defs }));
    }

    fn guarded<const N: usize>(
        &mut self,
        guard: (Reg, bool),
        op: impl Into<Cow<'static, str>>,
        defs: usize,
        args: [Arg; N],
    ) {
        self.lines.push(Line::Ins(Ins { guard: Some(guard), op: op.into(), args: args.into(), defs }));
    }

    /// An instruction that writes a new register.
    fn op<const N: usize>(&mut self, op: impl Into<Cow<'static, str>>, class: Class, sources: [Arg; N]) -> Reg {
        let to = self.fresh(class);
        self.op_to(to, op, sources);
        to
    }

    /// An instruction that writes this register.
    fn op_to<const N: usize>(&mut self, to: Reg, op: impl Into<Cow<'static, str>>, sources: [Arg; N]) {
        let args = std::iter::once(Arg::Reg(to)).chain(sources).collect();
        self.lines.push(Line::Ins(Ins { guard: None, op: op.into(), args, defs: 1 }));
    }

    /// An instruction that runs once, before everything but what already does.
    fn first<const N: usize>(&mut self, op: &'static str, class: Class, sources: [Arg; N]) -> Reg {
        std::mem::swap(&mut self.lines, &mut self.prologue);
        let to = self.op(op, class, sources);
        std::mem::swap(&mut self.lines, &mut self.prologue);
        to
    }

    fn label(&mut self, what: &'static str) -> Label {
        self.labels += 1;
        Label { what, number: self.labels }
    }

    fn place_label(&mut self, label: Label) {
        self.lines.push(Line::Label(label));
    }

    fn comment(&mut self, text: &str) {
        self.lines.push(Line::Comment(text.into()));
    }

    fn branch_if(&mut self, p: Reg, when: bool, to: Label) {
        self.guarded((p, when), "bra", 0, [Arg::To(to)]);
    }

    fn jump(&mut self, to: Label) {
        self.ins("bra", 0, [Arg::To(to)]);
    }

    /// What `f` writes goes after the hot code; what it computes is not known afterwards.
    fn cold(&mut self, f: impl FnOnce(&mut Self)) {
        let hot = std::mem::take(&mut self.lines);
        self.known.push(HashMap::new());
        f(self);
        self.known.pop();
        let mut cold = std::mem::replace(&mut self.lines, hot);
        self.cold.append(&mut cold);
    }

    /// What was computed before under this key, or `f` does it now.
    fn once(&mut self, key: Key, f: impl FnOnce(&mut Self) -> (Reg, i64)) -> (Reg, i64) {
        if let Some(&found) = self.known.iter().rev().find_map(|k| k.get(&key)) {
            return found;
        }
        let made = f(self);
        self.known.last_mut().expect("a block is open").insert(key, made);
        made
    }

    fn set_facts(&mut self, r: Reg, facts: Facts) {
        self.facts[r.id as usize] = Some(facts);
    }

    fn buf_index(&self, buf: Buf) -> usize {
        match buf {
            Buf::Param(i) => i as usize,
            Buf::Scratch(i) => self.kernel.params.len() + i as usize,
        }
    }
}

fn name(s: impl Into<Cow<'static, str>>) -> Arg {
    Arg::Name(s.into())
}

/// Text that stays on its line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Class of the register that holds an element; an i64 that fits may be in a 32-bit one.
fn class_of(dtype: DType) -> Class {
    match dtype {
        DType::F64 => Class::F64,
        DType::F32 => Class::F32,
        DType::F16 | DType::BF16 => Class::B16,
        DType::I64 | DType::U64 => Class::B64,
        DType::Bool => Class::Pred,
        _ => Class::B32,
    }
}

/// Registers a thread may have that adds up what is staged.
const ROOM: u32 = 224;

/// What ptxas is told about a team. Loops that gain by it are unrolled already; it would unroll the others and fill the
/// registers. Left alone it would rather spill a little than lose a block; told that one block is enough it takes what it
/// can, which is right where the sums of tensor cores fill the registers anyway.
fn performance(k: &Kernel) -> String {
    if k.threads == 1 {
        return String::new();
    }
    let registers = match kind(&k.body) {
        Kind::Other => String::new(),
        Kind::Staged => format!(".maxnreg {}\n", ROOM.min(65536 / k.threads / 8 * 8)),
        Kind::Matrices => ".minnctapersm 1\n".into(),
    };
    registers + ".pragma \"nounroll\";\n"
}

/// What fills a team's registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing much.
    Other,
    /// Sums of what is staged asynchronously.
    Staged,
    /// Sums of tensor cores.
    Matrices,
}

fn kind(block: &Block) -> Kind {
    let of = |stmt: &Stmt| match stmt {
        Stmt::For(f) => kind(&f.body),
        Stmt::If(i) => kind(&i.then).max(kind(&i.els)),
        Stmt::Let(_, Instr::Team(TeamInstr::Mma { .. })) => Kind::Matrices,
        Stmt::Team(TeamStmt::CopyAsync { .. }) => Kind::Staged,
        _ => Kind::Other,
    };
    block.0.iter().map(of).max().unwrap_or(Kind::Other)
}
