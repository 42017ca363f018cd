//! Assembly lines before they become text: registers by class, instructions, labels.
//!
//! Lines are kept apart from text for two reasons: what nothing reads is dropped, and registers are numbered by class in
//! the order they appear.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Class of a register: what it holds.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Pred,
    B16,
    B32,
    B64,
    F32,
    F64,
}

impl Class {
    /// Every class, in the order of declarations.
    pub const ALL: [Class; 6] = [Class::Pred, Class::B16, Class::B32, Class::B64, Class::F32, Class::F64];

    /// What names of its registers begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Class::Pred => "%p",
            Class::B16 => "%h",
            Class::B32 => "%r",
            Class::B64 => "%rd",
            Class::F32 => "%f",
            Class::F64 => "%fd",
        }
    }

    /// Its type in a declaration, and in a `mov`.
    pub fn ty(self) -> &'static str {
        match self {
            Class::Pred => "pred",
            Class::B16 => "b16",
            Class::B32 => "b32",
            Class::B64 => "b64",
            Class::F32 => "f32",
            Class::F64 => "f64",
        }
    }
}

/// A register. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg {
    /// Unique in a kernel.
    pub id: u32,
    pub class: Class,
}

/// A place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    pub what: &'static str,
    pub number: u32,
}

/// What an address starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Reg(Reg),
    Symbol(Cow<'static, str>),
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Reg(Reg),
    Int(i64),
    F32(u32),
    F64(u64),
    /// A special register, or the address of a variable.
    Name(Cow<'static, str>),
    Mem(Base, i64),
    Group(Vec<Reg>),
    To(Label),
}

impl From<Reg> for Arg {
    fn from(r: Reg) -> Arg {
        Arg::Reg(r)
    }
}

impl From<i64> for Arg {
    fn from(x: i64) -> Arg {
        Arg::Int(x)
    }
}

impl Arg {
    fn regs(&self) -> &[Reg] {
        match self {
            Arg::Reg(r) | Arg::Mem(Base::Reg(r), _) => std::slice::from_ref(r),
            Arg::Group(regs) => regs,
            _ => &[],
        }
    }
}

/// One instruction. Operands are in the order of the text; the first `defs` of them are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Ins {
    /// Runs only if the predicate is this.
    pub guard: Option<(Reg, bool)>,
    pub op: Cow<'static, str>,
    pub args: Vec<Arg>,
    pub defs: usize,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Ins(Ins),
    Label(Label),
    Comment(String),
}

impl Ins {
    /// True if it does more than write its registers.
    fn has_effect(&self) -> bool {
        let (first, _) = self.op.split_once('.').unwrap_or((&self.op, ""));
        matches!(first, "st" | "bra" | "ret" | "bar" | "cp" | "red" | "atom" | "trap")
    }

    fn written(&self) -> impl Iterator<Item = Reg> + '_ {
        self.args[..self.defs].iter().flat_map(|a| a.regs()).copied()
    }

    fn read(&self) -> impl Iterator<Item = Reg> + '_ {
        let guard = self.guard.map(|g| g.0);
        self.args[self.defs..].iter().flat_map(|a| a.regs()).copied().chain(guard)
    }
}

/// Drops instructions whose results nothing reads, and labels nothing jumps to.
pub fn sweep(lines: &mut Vec<Line>, registers: u32) {
    let mut writers: Vec<Vec<usize>> = vec![Vec::new(); registers as usize];
    let mut live = vec![false; lines.len()];
    let mut work = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Line::Ins(ins) = line else { continue };
        ins.written().for_each(|r| writers[r.id as usize].push(i));
        if ins.has_effect() {
            live[i] = true;
            work.push(i);
        }
    }
    let mut wanted = vec![false; registers as usize];
    while let Some(i) = work.pop() {
        let Line::Ins(ins) = &lines[i] else { continue };
        for r in ins.read() {
            if std::mem::replace(&mut wanted[r.id as usize], true) {
                continue;
            }
            for &w in &writers[r.id as usize] {
                if !std::mem::replace(&mut live[w], true) {
                    work.push(w);
                }
            }
        }
    }
    let mut targets = std::collections::HashSet::new();
    for (i, line) in lines.iter().enumerate() {
        if let (true, Line::Ins(ins)) = (live[i], line) {
            targets.extend(ins.args.iter().filter_map(|a| if let Arg::To(l) = a { Some(*l) } else { None }));
        }
    }
    let mut i = 0;
    lines.retain(|line| {
        i += 1;
        match line {
            Line::Ins(_) => live[i - 1],
            Line::Label(l) => targets.contains(l),
            Line::Comment(_) => true,
        }
    });
}

/// Text of the lines, and of the declarations of their registers.
pub fn print(lines: &[Line]) -> (String, String) {
    let mut p = Printer { numbers: HashMap::new(), counts: [0; 6], out: String::new() };
    lines.iter().for_each(|line| p.line(line));
    let mut declarations = String::new();
    for (class, &count) in Class::ALL.iter().zip(&p.counts) {
        if count > 0 {
            let _ = writeln!(declarations, "    .reg .{} {}<{count}>;", class.ty(), class.prefix());
        }
    }
    (p.out, declarations)
}

struct Printer {
    /// Number within its class of each register met so far.
    numbers: HashMap<u32, u32>,
    counts: [u32; 6],
    out: String,
}

impl Printer {
    fn line(&mut self, line: &Line) {
        match line {
            Line::Comment(text) => {
                let _ = writeln!(self.out, "    // {text}");
            }
            Line::Label(l) => {
                let _ = writeln!(self.out, "{}_{}:", l.what, l.number);
            }
            Line::Ins(ins) => self.ins(ins),
        }
    }

    fn ins(&mut self, ins: &Ins) {
        self.out += "    ";
        if let Some((r, when)) = ins.guard {
            self.out += if when { "@" } else { "@!" };
            self.reg(r);
            self.out.push(' ');
        }
        self.out += &ins.op;
        for (i, arg) in ins.args.iter().enumerate() {
            self.out += if i == 0 { " " } else { ", " };
            self.arg(arg);
        }
        self.out += ";\n";
    }

    fn arg(&mut self, arg: &Arg) {
        match arg {
            Arg::Reg(r) => self.reg(*r),
            Arg::Int(x) => _ = write!(self.out, "{x}"),
            Arg::F32(bits) => _ = write!(self.out, "0f{bits:08X}"),
            Arg::F64(bits) => _ = write!(self.out, "0d{bits:016X}"),
            Arg::Name(name) => self.out += name,
            Arg::To(l) => _ = write!(self.out, "{}_{}", l.what, l.number),
            Arg::Group(regs) => {
                self.out.push('{');
                for (i, &r) in regs.iter().enumerate() {
                    self.out += if i == 0 { "" } else { ", " };
                    self.reg(r);
                }
                self.out.push('}');
            }
            Arg::Mem(base, offset) => {
                self.out.push('[');
                match base {
                    Base::Reg(r) => self.reg(*r),
                    Base::Symbol(s) => self.out += s,
                }
                if *offset != 0 {
                    // A sign of its own is no syntax: `[r+-4]`.
                    let _ = write!(self.out, "+{offset}");
                }
                self.out.push(']');
            }
        }
    }

    fn reg(&mut self, r: Reg) {
        let count = &mut self.counts[r.class as usize];
        let number = *self.numbers.entry(r.id).or_insert_with(|| {
            *count += 1;
            *count - 1
        });
        let _ = write!(self.out, "{}{number}", r.class.prefix());
    }
}
