//! Names: variables of the module, and registers, variables and labels by scope.

use std::collections::HashMap;

use crate::regs::Reg;
use crate::types::{Space, Ty};

/// A variable as declared.
pub(crate) struct Variable {
    pub name: String,
    pub space: Space,
    pub align: usize,
    pub bytes: usize,
    /// Initial bytes of a constant.
    pub data: Vec<u8>,
    /// Dynamic shared memory.
    pub external: bool,
}

/// Variables of the module.
#[derive(Default)]
pub(crate) struct Globals {
    pub shared: Vec<Variable>,
    pub constants: Vec<u8>,
    pub constant_offsets: HashMap<String, u64>,
}

/// `value` rounded up to a multiple of `align`.
pub(crate) fn round_up(value: usize, align: usize) -> usize {
    value.next_multiple_of(align.max(1))
}

impl Globals {
    /// Adds a variable of module scope.
    pub fn declare(&mut self, variable: Variable) -> Result<(), String> {
        match variable.space {
            Space::Shared => self.shared.push(variable),
            Space::Const => {
                self.constants.resize(round_up(self.constants.len(), variable.align), 0);
                self.constant_offsets.insert(variable.name, self.constants.len() as u64);
                self.constants.extend_from_slice(&variable.data);
            }
            _ => return Err("variables of a module are `.shared` or `.const`".to_owned()),
        }
        Ok(())
    }
}

/// What a name stands for besides a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Symbol {
    Param(u64),
    Shared(u64),
    Dynamic,
    Local(u64),
    Const(u64),
}

/// Names of one `{ }`.
#[derive(Default)]
pub(crate) struct Scope<'a> {
    pub parent: usize,
    pub registers: HashMap<&'a str, (Ty, Option<Reg>)>,
    /// Prefix, type and count of `%r<100>`.
    pub ranges: Vec<(&'a str, Ty, u64)>,
    pub symbols: HashMap<String, Symbol>,
    pub labels: HashMap<&'a str, u32>,
    pub tables: HashMap<&'a str, Vec<&'a str>>,
}

impl Scope<'_> {
    /// The type of the register `name` if a range of this scope declares it.
    pub fn range_type(&self, name: &str) -> Option<Ty> {
        self.ranges.iter().find_map(|(prefix, ty, count)| {
            let number = name.strip_prefix(prefix)?;
            let canonical = number == "0" || !number.starts_with('0');
            let index: u64 = if canonical { number.parse().ok()? } else { return None };
            (index < *count).then_some(*ty)
        })
    }
}
