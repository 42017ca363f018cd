//! The text form of kernels (`.kir`): printed for people and snapshots, and read back.
//!
//! ```text
//! kernel @add(%x: f32 read, %y: f32 write noalias) dims(N) scratch(%s: f32[256], %t: i64[N]) {
//!   // Add_0
//!   %0 = tile : i64
//!   %1 = const 16 : i64
//!   %2 = mul %0, %1 : i64
//!   %3 = const 0.0 : f32x16
//!   %4 = dim N : i64
//!   for %5: i64 = %2 to %4 step 16 carry (%6: f32x16 = %3) unroll 4 {
//!     %7 = load %x[%5 + 3] count %1 : f32x16
//!     %8 = lt %7, %6 : boolx16
//!     %9 = select %8, %7, %6 : f32x16
//!     yield %9
//!   } -> (%10)
//!   store %y[%2], %10 count %1 : f32x16
//! }
//! ```
//!
//! A parameter whose start is a multiple of 16 bytes says `align 16` at its end.
//! Kernels of more than one thread a tile say `threads(128)` before `scratch`; scratch of the tile is `%s: f32[256] shared`.
//! Values are renumbered in the order of their definition, so that a snapshot changes only where the kernel does.
//! `parse(print(k)) == k` for a kernel that is [`canonical`] already. Comments inside the braces are its notes.

use std::fmt;

use super::*;
use crate::lex::{ParseError, name};

mod matrix;
mod number;
mod parse;
mod renumber;

pub use parse::{parse, parse_all};
pub use renumber::canonical;

impl fmt::Display for VType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.lanes {
            1 => write!(f, "{}", self.dtype),
            n => write!(f, "{}x{n}", self.dtype),
        }
    }
}

/// The text of a kernel.
pub fn print(kernel: &Kernel) -> String {
    let kernel = &canonical(kernel);
    let mut p = Printer { kernel, out: String::new(), depth: 1 };
    p.header();
    for note in &kernel.notes {
        let line = format!("// {note}");
        p.line(line.trim_end());
    }
    p.block(&kernel.body);
    p.out.push_str("}\n");
    p.out
}

struct Printer<'a> {
    kernel: &'a Kernel,
    out: String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(&"  ".repeat(self.depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn header(&mut self) {
        let k = self.kernel;
        let params: Vec<String> = k.params.iter().map(param).collect();
        self.out = format!("kernel @{}({})", name(&k.name), params.join(", "));
        if !k.dims.is_empty() {
            let dims: Vec<String> = k.dims.iter().map(|d| name(d)).collect();
            self.out += &format!(" dims({})", dims.join(", "));
        }
        if k.threads != 1 {
            self.out += &format!(" threads({})", k.threads);
        }
        if !k.scratch.is_empty() {
            let scratch: Vec<String> = k.scratch.iter().map(|s| self.scratch(s)).collect();
            self.out += &format!(" scratch({})", scratch.join(", "));
        }
        self.out += " {\n";
    }

    fn scratch(&self, s: &Scratch) -> String {
        let len = match s.len {
            ScratchLen::Const(n) => n.to_string(),
            ScratchLen::Dim(i) => self.dim(i),
        };
        let shared = if s.space == Space::Shared { " shared" } else { "" };
        format!("%{}: {}[{len}]{shared}", name(&s.name), s.dtype)
    }

    fn dim(&self, i: u32) -> String {
        name(&self.kernel.dims[i as usize])
    }

    fn block(&mut self, block: &Block) {
        block.0.iter().for_each(|s| self.stmt(s))
    }

    /// A block one level in, with what it yields.
    fn inner(&mut self, block: &Block, yields: &[Val]) {
        self.depth += 1;
        self.block(block);
        if !yields.is_empty() {
            self.line(&format!("yield {}", list(yields)));
        }
        self.depth -= 1;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(v, instr) => {
                let text = format!("{} = {} : {}", val(*v), self.instr(instr), self.kernel.ty(*v));
                self.line(&text);
            }
            Stmt::Store { buf, index, offset, value, count } => {
                let place = self.place(*buf, *index, *offset, None);
                let ty = self.kernel.ty(*value);
                self.line(&format!("store {place}, {}{} : {ty}", val(*value), counted(*count)));
            }
            Stmt::Prefetch { buf, index, offset } => {
                let place = self.place(*buf, *index, *offset, None);
                self.line(&format!("prefetch {place}"));
            }
            Stmt::MatrixStore(store) => self.matrix_store(store),
            Stmt::For(f) => self.for_loop(f),
            Stmt::If(i) => self.branch(i),
            Stmt::Check { cond, code } => self.line(&format!("check {}, code {code}", val(*cond))),
            Stmt::Team(stmt) => self.team_stmt(stmt),
        }
    }

    fn team_stmt(&mut self, stmt: &TeamStmt) {
        let text = match *stmt {
            TeamStmt::Barrier => "barrier".into(),
            TeamStmt::CopyCommit => "copy_commit".into(),
            TeamStmt::CopyWait(n) => format!("copy_wait {n}"),
            TeamStmt::CopyAsync { to, to_index, to_offset, from, from_index, from_offset, lanes, count } => {
                let (to, from) = (self.place(to, to_index, to_offset, None), self.place(from, from_index, from_offset, None));
                format!("copy_async {to}, {from}, {lanes}{}", counted(count))
            }
        };
        self.line(&text);
    }

    fn for_loop(&mut self, f: &For) {
        let mut head = format!("for {} = {} to {} step {}", self.typed(f.var), val(f.lo), val(f.hi), f.step);
        if !f.carried.is_empty() {
            let carry = |c: &Carried| format!("{} = {}", self.typed(c.phi), val(c.init));
            let carried: Vec<String> = f.carried.iter().map(carry).collect();
            head += &format!(" carry ({})", carried.join(", "));
        }
        if let LoopHint::Unroll(n) = f.hint {
            head += &format!(" unroll {n}");
        }
        self.line(&(head + " {"));
        let next: Vec<Val> = f.carried.iter().map(|c| c.next).collect();
        self.inner(&f.body, &next);
        let results: Vec<Val> = f.carried.iter().map(|c| c.result).collect();
        self.close(list(&results));
    }

    fn branch(&mut self, i: &If) {
        self.line(&format!("if {} {{", val(i.cond)));
        let then: Vec<Val> = i.results.iter().map(|r| r.1).collect();
        self.inner(&i.then, &then);
        if !i.els.0.is_empty() || !i.results.is_empty() {
            self.line("} else {");
            let els: Vec<Val> = i.results.iter().map(|r| r.2).collect();
            self.inner(&i.els, &els);
        }
        let results: Vec<String> = i.results.iter().map(|r| self.typed(r.0)).collect();
        self.close(results.join(", "));
    }

    /// Closes a loop or branch with the names of its results.
    fn close(&mut self, results: String) {
        self.line(&if results.is_empty() { "}".into() } else { format!("}} -> ({results})") });
    }

    fn typed(&self, v: Val) -> String {
        format!("{}: {}", val(v), self.kernel.ty(v))
    }

    fn instr(&self, instr: &Instr) -> String {
        match *instr {
            Instr::Const(c) => format!("const {}", number::print(c)),
            Instr::Tile => "tile".into(),
            Instr::Dim(i) => format!("dim {}", self.dim(i)),
            Instr::Un(op, a) => format!("{} {}", op.name(), val(a)),
            Instr::Bin(op, a, b) => format!("{} {}", op.name(), list(&[a, b])),
            Instr::Fma(a, b, c) => format!("fma {}", list(&[a, b, c])),
            Instr::Dot4(a, b, c) => format!("dot4 {}", list(&[a, b, c])),
            Instr::Cmp(pred, a, b) => format!("{} {}", pred.name(), list(&[a, b])),
            Instr::Select(c, a, b) => format!("select {}", list(&[c, a, b])),
            Instr::Convert(a) => format!("convert {}", val(a)),
            Instr::Bitcast(a) => format!("bitcast {}", val(a)),
            Instr::Splat(a) => format!("splat {}", val(a)),
            Instr::Iota(a) => format!("iota {}", val(a)),
            Instr::Extract(a, lane) => format!("extract {}[{lane}]", val(a)),
            Instr::Slice(a, first) => format!("slice {}[{first}]", val(a)),
            Instr::Concat(a, b) => format!("concat {}", list(&[a, b])),
            Instr::Permute(a, b, ref picks) => {
                let picks: Vec<String> = picks.iter().map(u32::to_string).collect();
                format!("permute {} [{}]", list(&[a, b]), picks.join(", "))
            }
            Instr::Load { buf, index, offset, count } => {
                format!("load {}{}", self.place(buf, index, offset, None), counted(count))
            }
            Instr::LoadStrided { buf, index, offset, stride, count } => {
                format!("load {}{}", self.place(buf, index, offset, Some(stride)), counted(count))
            }
            Instr::Matrix(ref instr) => self.matrix_instr(instr),
            Instr::Team(ref instr) => self.team_instr(instr),
            Instr::Gather { buf, index, offset, count } => {
                format!("gather {}{}", self.place(buf, index, offset, None), counted(count))
            }
        }
    }

    fn team_instr(&self, instr: &TeamInstr) -> String {
        match *instr {
            TeamInstr::Thread => "thread".into(),
            TeamInstr::Shuffle(Lane::Xor(n), a) => format!("shuffle_xor {}[{n}]", val(a)),
            TeamInstr::Shuffle(Lane::Down(n), a) => format!("shuffle_down {}[{n}]", val(a)),
            TeamInstr::Shuffle(Lane::Index(n), a) => format!("shuffle_index {}[{n}]", val(a)),
            TeamInstr::Mma { a, b, c } => format!("mma {}", list(&[a, b, c])),
            TeamInstr::LoadMatrix { buf, index, offset, transposed } => {
                let name = if transposed { "load_matrix_transposed" } else { "load_matrix" };
                format!("{name} {}", self.place(buf, index, offset, None))
            }
        }
    }

    /// `%buf[%index + offset by %stride]`.
    fn place(&self, buf: Buf, index: Val, offset: i64, stride: Option<Val>) -> String {
        let buf = match buf {
            Buf::Param(i) => &self.kernel.params[i as usize].name,
            Buf::Scratch(i) => &self.kernel.scratch[i as usize].name,
        };
        let offset = match offset {
            0 => String::new(),
            1.. => format!(" + {offset}"),
            _ => format!(" - {}", offset.unsigned_abs()),
        };
        let stride = stride.map_or(String::new(), |s| format!(" by {}", val(s)));
        format!("%{}[{}{offset}{stride}]", name(buf), val(index))
    }
}

fn param(p: &Param) -> String {
    let noalias = if p.noalias { " noalias" } else { "" };
    let align = if p.align > 1 { format!(" align {}", p.align) } else { String::new() };
    format!("%{}: {} {}{noalias}{align}", name(&p.name), p.dtype, access_name(p.access))
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "readwrite",
    }
}

fn val(v: Val) -> String {
    format!("%{}", v.0)
}

fn list(vals: &[Val]) -> String {
    vals.iter().map(|&v| val(v)).collect::<Vec<_>>().join(", ")
}

fn counted(count: Option<Val>) -> String {
    count.map_or(String::new(), |c| format!(" count {}", val(c)))
}

#[cfg(test)]
pub(crate) mod tests;
