//! Checks PTX text as this backend writes it, and says the least target and version it needs.
//!
//! - P1: the text has a version, a target and entries of different names, and reads as PTX.
//! - P2: every instruction is in the table (`table`), with operands of the classes it says.
//! - P3: the version and the target are at least those of every instruction.
//! - P4: registers, labels, parameters and variables are declared, labels once.
//! - P5: every register is written on every way to where it is read.
//! - P6: an entry ends with a jump or a return, and keeps to the limits of a block: threads, parameters, local memory.

mod flow;
mod parse;
mod table;

use std::collections::HashSet;

use parse::{Function, Instruction, Operand};

/// A target and a version of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// PTX version, major and minor.
    pub version: (u32, u32),
    /// Number of the target: 80 is `sm_80`.
    pub sm: u32,
}

/// What every module needs.
pub const FLOOR: Level = Level { version: (7, 0), sm: 80 };
/// What the table knows up to.
pub(crate) const LIMIT: Level = Level { version: (9, 0), sm: 120 };

/// What a text holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names of the entries, in their order.
    pub kernels: Vec<String>,
    /// Least target, at least that of [`FLOOR`].
    pub sm: u32,
    /// Least version, at least that of [`FLOOR`].
    pub version: (u32, u32),
}

/// Something wrong in a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}: {message}")]
pub struct VerifyError {
    /// Line, from 1.
    pub line: usize,
    /// Which rule: `P1` and so on, see the module text.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Most threads of a block.
const MOST_THREADS: u32 = 1024;
/// Most bytes of parameters.
const MOST_PARAMS: usize = 4352;
/// Most bytes of local memory of a thread.
const MOST_LOCAL: u64 = 512 << 10;

/// Checks a text, which may end with a NUL; gives everything that is wrong with it.
pub fn verify(text: &str) -> Result<Summary, Vec<VerifyError>> {
    let module = parse::module(text.trim_end_matches('\0')).map_err(|e| vec![e])?;
    let mut v = Verifier { errors: Vec::new(), declared: module.level, needed: FLOOR };
    let mut names = HashSet::new();
    for f in &module.functions {
        v.require(names.insert(&f.name), f.line, "P1", || format!("two entries are named `{}`", f.name));
        v.function(f, &module.symbols);
    }
    if !v.errors.is_empty() {
        v.errors.sort_by_key(|e| e.line);
        return Err(v.errors);
    }
    let kernels = module.functions.into_iter().map(|f| f.name).collect();
    Ok(Summary { kernels, sm: v.needed.sm, version: v.needed.version })
}

struct Verifier {
    errors: Vec<VerifyError>,
    declared: Level,
    needed: Level,
}

impl Verifier {
    fn require(&mut self, holds: bool, line: usize, rule: &'static str, message: impl FnOnce() -> String) {
        if !holds {
            self.errors.push(VerifyError { line, rule, message: message() });
        }
    }

    fn function(&mut self, f: &Function, symbols: &HashSet<String>) {
        let threads = f.threads.unwrap_or(0);
        self.require((1..=MOST_THREADS).contains(&threads), f.line, "P6", || {
            format!("`{}` has blocks of {threads} threads", f.name)
        });
        let bytes = f.params.len() * 8;
        self.require(bytes <= MOST_PARAMS, f.line, "P6", || format!("`{}` has {bytes} bytes of parameters", f.name));
        let local: u64 = f.locals.iter().map(|l| l.1).sum();
        self.require(local <= MOST_LOCAL, f.line, "P6", || format!("`{}` has {local} bytes of local memory", f.name));
        let ends = f.instructions.last().is_some_and(|i| i.guard.is_none() && matches!(i.name.as_str(), "ret" | "bra"));
        self.require(ends, f.line, "P6", || format!("`{}` runs past its end", f.name));
        let before = self.errors.len();
        for i in &f.instructions {
            self.instruction(f, symbols, i);
        }
        // What is read undefined says little of instructions that are not understood.
        if self.errors.len() == before {
            self.errors.extend(flow::check(f));
        }
    }

    fn instruction(&mut self, f: &Function, symbols: &HashSet<String>, i: &Instruction) {
        let Some(row) = table::find(&i.name) else {
            return self.require(false, i.line, "P2", || format!("there is no instruction `{}`", i.name));
        };
        let fits = row.signatures.iter().any(|s| s.fits(&i.operands));
        self.require(fits, i.line, "P2", || format!("`{}` takes {}", i.name, row.text));
        let level = row.level;
        let allowed = level.sm <= self.declared.sm && level.version <= self.declared.version;
        self.require(allowed, i.line, "P3", || {
            format!("`{}` needs sm_{} and version {}.{}", i.name, level.sm, level.version.0, level.version.1)
        });
        self.needed.sm = self.needed.sm.max(level.sm);
        self.needed.version = self.needed.version.max(level.version);
        let parameter = i.name.starts_with("ld.param");
        for operand in &i.operands {
            let name = match operand {
                Operand::Name(name) | Operand::Symbol(name) => name,
                _ => continue,
            };
            let known = match operand {
                _ if name.starts_with('%') => parse::SPECIAL.contains(&name.as_str()),
                Operand::Symbol(_) if parameter => f.params.contains(name),
                Operand::Name(_) if i.name == "bra" => f.labels.contains_key(name),
                _ => symbols.contains(name) || f.locals.iter().any(|l| l.0 == *name),
            };
            self.require(known, i.line, "P4", || format!("`{name}` is not declared"));
        }
    }
}

#[cfg(test)]
mod tests;
