//! Reads PTX text: entries, declarations, instructions. Only what this backend writes is understood.

use std::collections::{HashMap, HashSet};

use super::{Level, VerifyError};
use crate::asm::Class;

/// Special registers that may be read.
pub const SPECIAL: &[&str] = &["%tid.x", "%ntid.x", "%ctaid.x", "%nctaid.x", "%laneid", "%warpid"];

/// A module.
pub struct Module {
    pub level: Level,
    /// Variables declared outside of entries.
    pub symbols: HashSet<String>,
    pub functions: Vec<Function>,
}

/// An entry.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub params: Vec<String>,
    pub threads: Option<u32>,
    /// Number of registers declared, by class.
    pub registers: [u32; 6],
    /// Names and bytes.
    pub locals: Vec<(String, u64)>,
    pub instructions: Vec<Instruction>,
    /// The instruction each label stands before.
    pub labels: HashMap<String, usize>,
}

/// An instruction.
pub struct Instruction {
    pub line: usize,
    /// Class and number of the predicate, if it has one.
    pub guard: Option<Register>,
    pub name: String,
    pub operands: Vec<Operand>,
}

/// A register: its class and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    pub class: Class,
    pub number: u32,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Register(Register),
    Group(Vec<Register>),
    Integer,
    Float,
    Double,
    /// Memory at a register and a constant offset.
    Memory(Register),
    /// Memory at a variable or parameter.
    Symbol(String),
    /// A label, variable or special register.
    Name(String),
}

struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let mut rest = line.split("//").next().unwrap_or("").trim_start();
        while let Some(c) = rest.chars().next() {
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '%' | '$');
            let len = match word(c) {
                true => rest.find(|c| !word(c)).unwrap_or(rest.len()),
                false => c.len_utf8(),
            };
            out.push(Token { text: &rest[..len], line: n + 1 });
            rest = rest[len..].trim_start();
        }
    }
    out
}

type Read<T> = Result<T, VerifyError>;

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

/// Reads a module.
pub fn module(text: &str) -> Read<Module> {
    let mut r = Reader { tokens: tokens(text), at: 0 };
    let mut module = Module { level: Level { version: (0, 0), sm: 0 }, symbols: HashSet::new(), functions: Vec::new() };
    while let Some(token) = r.next_if_any() {
        match token {
            ".version" => {
                let text = r.next()?;
                let numbers = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                module.level.version = numbers.ok_or_else(|| r.error(format!("`{text}` is no version")))?;
            }
            ".target" => {
                let text = r.next()?;
                let number = text.strip_prefix("sm_").and_then(|n| n.trim_end_matches('a').parse().ok());
                module.level.sm = number.ok_or_else(|| r.error(format!("`{text}` is no target")))?;
            }
            ".address_size" => r.expect("64")?,
            ".extern" => {
                let words = r.until(";")?;
                let name = words.iter().rev().find(|w| w.chars().any(char::is_alphabetic));
                module.symbols.extend(name.map(|n| n.to_string()));
            }
            ".visible" => {
                r.expect(".entry")?;
                module.functions.push(r.function()?);
            }
            other => return Err(r.error(format!("`{other}` is not expected here"))),
        }
    }
    let headed = module.level.version.0 > 0 && module.level.sm > 0;
    if headed { Ok(module) } else { Err(r.error("the version or the target is missing".into())) }
}

impl<'a> Reader<'a> {
    fn error(&self, message: String) -> VerifyError {
        let line = self.tokens.get(self.at.saturating_sub(1)).map_or(1, |t| t.line);
        VerifyError { line, rule: "P1", message }
    }

    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |t| t.text)
    }

    fn next_if_any(&mut self) -> Option<&'a str> {
        let text = self.tokens.get(self.at)?.text;
        self.at += 1;
        Some(text)
    }

    fn next(&mut self) -> Read<&'a str> {
        self.next_if_any().ok_or_else(|| self.error("the text ends within an entry".into()))
    }

    fn expect(&mut self, want: &str) -> Read<()> {
        let found = self.next()?;
        if found == want { Ok(()) } else { Err(self.error(format!("expected `{want}`, found `{found}`"))) }
    }

    fn until(&mut self, end: &str) -> Read<Vec<&'a str>> {
        let mut words = Vec::new();
        loop {
            match self.next()? {
                word if word == end => return Ok(words),
                word => words.push(word),
            }
        }
    }

    fn function(&mut self) -> Read<Function> {
        let name = self.next()?.to_string();
        let line = self.tokens[self.at - 1].line;
        self.expect("(")?;
        let params = self.until(")")?;
        let params = params.split(|&w| w == ",").filter_map(|p| p.last().map(|n| n.to_string())).collect();
        let mut f = Function {
            name,
            line,
            params,
            threads: None,
            registers: [0; 6],
            locals: Vec::new(),
            instructions: Vec::new(),
            labels: HashMap::new(),
        };
        let performance = self.until("{")?;
        if let Some(i) = performance.iter().position(|&w| w == ".maxntid") {
            let sizes =
                performance[i + 1..].split(|&w| w == ",").map(|w| w.first().and_then(|n| n.parse::<u32>().ok()));
            f.threads = sizes.take(3).try_fold(1, |all: u32, n| all.checked_mul(n?));
        }
        loop {
            match self.next()? {
                "}" => return Ok(f),
                ".reg" => self.registers(&mut f)?,
                ".local" => {
                    let words = self.until(";")?;
                    let open = words.iter().position(|&w| w == "[").filter(|&i| i > 0 && i + 1 < words.len());
                    let local = open.and_then(|i| Some((words[i - 1].to_string(), words[i + 1].parse().ok()?)));
                    f.locals.push(local.ok_or_else(|| self.error("a variable without a length".into()))?);
                }
                word => self.line(&mut f, word)?,
            }
        }
    }

    fn registers(&mut self, f: &mut Function) -> Read<()> {
        let words = self.until(";")?;
        let [ty, prefix, "<", count, ">"] = words[..] else {
            return Err(self.error("registers are declared as `.reg .type %name<count>`".into()));
        };
        let class = Class::ALL.iter().position(|c| ty.strip_prefix('.') == Some(c.ty()) && prefix == c.prefix());
        match class.zip(count.parse().ok()) {
            Some((class, count)) => f.registers[class] = count,
            None => return Err(self.error(format!("`{prefix}` of type `{ty}` is no class of registers"))),
        }
        Ok(())
    }

    /// A label or an instruction that begins with `word`.
    fn line(&mut self, f: &mut Function, word: &'a str) -> Read<()> {
        let line = self.tokens[self.at - 1].line;
        if self.peek() == ":" {
            self.at += 1;
            let twice = f.labels.insert(word.to_string(), f.instructions.len()).is_some();
            return if twice { Err(self.error(format!("label `{word}` stands twice"))) } else { Ok(()) };
        }
        let (mut guard, mut name) = (None, word);
        if word == "@" {
            if self.peek() == "!" {
                self.at += 1;
            }
            let predicate = self.next()?;
            guard = Some(self.register(f, predicate)?);
            name = self.next()?;
        }
        let mut operands = Vec::new();
        while self.peek() != ";" {
            operands.push(self.operand(f)?);
            if self.peek() == "," {
                self.at += 1;
            }
        }
        self.at += 1;
        f.instructions.push(Instruction { line, guard, name: name.to_string(), operands });
        Ok(())
    }

    fn operand(&mut self, f: &Function) -> Read<Operand> {
        match self.next()? {
            "{" => {
                let words = self.until("}")?;
                let words = words.into_iter().filter(|&w| w != ",");
                Ok(Operand::Group(words.map(|w| self.register(f, w)).collect::<Read<_>>()?))
            }
            "[" => {
                let base = self.next()?;
                let offset = self.until("]")?;
                let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit());
                let fits = match offset[..] {
                    [] => true,
                    ["+", n] | ["+", "-", n] => number(n),
                    _ => false,
                };
                if !fits {
                    return Err(self.error(format!("`{}` is no offset", offset.concat())));
                }
                match base.starts_with('%') {
                    true => Ok(Operand::Memory(self.register(f, base)?)),
                    false => Ok(Operand::Symbol(base.to_string())),
                }
            }
            "-" => {
                self.next()?;
                Ok(Operand::Integer)
            }
            word if word.starts_with("0f") => Ok(Operand::Float),
            word if word.starts_with("0d") => Ok(Operand::Double),
            word if word.starts_with(|c: char| c.is_ascii_digit()) => Ok(Operand::Integer),
            word if word.starts_with('%') && !SPECIAL.contains(&word) => Ok(Operand::Register(self.register(f, word)?)),
            word => Ok(Operand::Name(word.to_string())),
        }
    }

    fn register(&self, f: &Function, word: &str) -> Read<Register> {
        let digits = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
        let (prefix, number) = word.split_at(digits);
        let class = Class::ALL.iter().copied().find(|c| c.prefix() == prefix);
        let found = class.zip(number.parse().ok()).map(|(class, number)| Register { class, number });
        let declared = found.filter(|r| r.number < f.registers[r.class as usize]);
        let error = || VerifyError { rule: "P4", ..self.error(format!("register `{word}` is not declared")) };
        declared.ok_or_else(error)
    }
}
