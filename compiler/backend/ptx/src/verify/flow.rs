//! Registers that may be read before they are written.

use super::VerifyError;
use super::parse::{Function, Instruction, Operand, Register};
use super::table;
use crate::asm::Class;

/// A set of registers.
type Set = Vec<u64>;

/// An instruction's registers, numbered through all classes.
struct Effect {
    reads: Vec<u32>,
    writes: Vec<u32>,
}

struct Block {
    from: usize,
    to: usize,
    next: Vec<usize>,
}

/// Every read of a register that is not written on every way there.
pub fn check(f: &Function) -> Vec<VerifyError> {
    let mut first = [0; 6];
    let mut count = 0;
    for (i, n) in f.registers.iter().enumerate() {
        first[i] = count;
        count += n;
    }
    let number = |r: &Register| first[r.class as usize] + r.number;
    let effects: Vec<Effect> = f.instructions.iter().map(|i| effect(i, &number)).collect();
    let blocks = blocks(f);
    let words = count.div_ceil(64) as usize;
    // What is written on every way to each block; none until a way is found.
    let mut at: Vec<Option<Set>> = vec![None; blocks.len()];
    if !blocks.is_empty() {
        at[0] = Some(vec![0; words]);
    }
    let mut work: std::collections::BTreeSet<usize> = [0].into();
    while let Some(b) = work.pop_first() {
        let Some(block) = blocks.get(b) else { continue };
        let mut written = at[b].clone().unwrap_or_else(|| vec![0; words]);
        effects[block.from..block.to].iter().for_each(|e| write(&mut written, e));
        for &n in &block.next {
            if meet(&mut at[n], &written) {
                work.insert(n);
            }
        }
    }
    let mut errors = Vec::new();
    for (block, set) in blocks.iter().zip(at) {
        // Nothing goes to a block without a way.
        let Some(mut written) = set else { continue };
        let inside = block.from..block.to;
        for (i, effect) in f.instructions[inside.clone()].iter().zip(&effects[inside]) {
            for &r in effect.reads.iter().filter(|&&r| written[r as usize / 64] >> (r % 64) & 1 == 0) {
                errors.push(VerifyError {
                    line: i.line,
                    rule: "P5",
                    message: format!("`{}` may be read before it is written", name(&first, r)),
                });
            }
            write(&mut written, effect);
        }
    }
    errors
}

fn effect(i: &Instruction, number: &impl Fn(&Register) -> u32) -> Effect {
    let defs = table::find(&i.name).map_or(0, |row| row.defs(&i.operands));
    let mut e = Effect { reads: Vec::new(), writes: Vec::new() };
    for (at, operand) in i.operands.iter().enumerate() {
        let to = if at < defs { &mut e.writes } else { &mut e.reads };
        match operand {
            Operand::Register(r) => to.push(number(r)),
            Operand::Group(group) => to.extend(group.iter().map(number)),
            Operand::Memory(r) => e.reads.push(number(r)),
            _ => {}
        }
    }
    if let Some(guard) = &i.guard {
        e.reads.push(number(guard));
        // It may not happen.
        e.writes.clear();
    }
    e
}

fn write(set: &mut Set, e: &Effect) {
    e.writes.iter().for_each(|&r| set[r as usize / 64] |= 1 << (r % 64));
}

/// Keeps what is in both; true if that changed the first.
fn meet(into: &mut Option<Set>, from: &Set) -> bool {
    match into {
        None => {
            *into = Some(from.clone());
            true
        }
        Some(set) => set.iter_mut().zip(from).fold(false, |changed, (a, b)| {
            let both = *a & b;
            let differs = both != *a;
            *a = both;
            changed | differs
        }),
    }
}

fn blocks(f: &Function) -> Vec<Block> {
    let n = f.instructions.len();
    let mut starts: Vec<usize> = f.labels.values().copied().chain([0]).collect();
    starts.extend((0..n).filter(|&i| jumps(&f.instructions[i])).map(|i| i + 1));
    starts.retain(|&s| s < n);
    starts.sort();
    starts.dedup();
    let block_of = |i: usize| starts.binary_search(&i).ok();
    let mut blocks = Vec::with_capacity(starts.len());
    for (b, &from) in starts.iter().enumerate() {
        let to = starts.get(b + 1).copied().unwrap_or(n);
        let last = &f.instructions[to - 1];
        let falls = last.guard.is_some() || !jumps(last);
        let mut next = Vec::new();
        if falls {
            next.extend(block_of(to));
        }
        if let ("bra", [Operand::Name(label)]) = (last.name.as_str(), &last.operands[..]) {
            next.extend(f.labels.get(label).and_then(|&i| block_of(i)));
        }
        blocks.push(Block { from, to, next });
    }
    blocks
}

fn jumps(i: &Instruction) -> bool {
    matches!(i.name.as_str(), "bra" | "ret")
}

fn name(first: &[u32; 6], r: u32) -> String {
    let class = Class::ALL.iter().rev().find(|&&c| first[c as usize] <= r).expect("classes begin at 0");
    format!("{}{}", class.prefix(), r - first[*class as usize])
}
