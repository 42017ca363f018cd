//! Memory plan: places temporaries in one arena so that those alive at the same time never overlap.
//!
//! Buffers of constant size are packed by decreasing size at the lowest free offset. Buffers of symbolic size share slots:
//! two whose lifetimes do not meet may share one, whose size is the larger of theirs. Offsets are expressions of the
//! symbols, known before the first step. Buffers whose size depends on data live on the heap.

use std::collections::{BTreeMap, BTreeSet};

use xlac_ir::dim::{Dim, Symbol};

use crate::plan::{BufferId, Plan, Step, Storage};

/// First and last step at which a buffer holds something.
#[derive(Clone, Copy, Debug)]
struct Life {
    first: usize,
    last: usize,
}

/// Gives every temporary a place; `early` are the symbols known before the first step.
pub fn place(plan: &mut Plan, early: &BTreeSet<Symbol>) {
    let mut walk = Walk { now: 0, lives: BTreeMap::new() };
    walk.steps(&plan.steps);
    let mut fixed = Vec::new();
    let mut symbolic = Vec::new();
    for (&id, &life) in &walk.lives {
        let buffer = &mut plan.buffers[id.0 as usize];
        if buffer.storage != Storage::Temp {
            continue;
        }
        let mut symbols = BTreeSet::new();
        buffer.bytes.symbols(&mut symbols);
        match buffer.bytes.as_const() {
            Some(bytes) => fixed.push((id, life, bytes)),
            None if symbols.is_subset(early) => symbolic.push((id, life, buffer.bytes.clone())),
            None => buffer.storage = Storage::Heap,
        }
    }
    let base = place_fixed(plan, fixed);
    plan.arena = place_symbolic(plan, symbolic, Dim::from(base));
    for buffer in plan.buffers.iter_mut().filter(|b| b.storage == Storage::Temp) {
        // No step touches it.
        buffer.storage = Storage::Arena(Dim::ZERO);
        buffer.bytes = Dim::ZERO;
    }
}

/// The buffers that some step touches.
pub fn touched(plan: &Plan) -> Vec<BufferId> {
    let mut walk = Walk { now: 0, lives: BTreeMap::new() };
    walk.steps(&plan.steps);
    walk.lives.into_keys().collect()
}

fn align(bytes: i64) -> i64 { (bytes + 63) / 64 * 64 }

fn place_fixed(plan: &mut Plan, mut buffers: Vec<(BufferId, Life, i64)>) -> i64 {
    buffers.sort_by_key(|&(id, life, bytes)| (std::cmp::Reverse(bytes), life.first, id));
    let mut placed: Vec<(Life, i64, i64)> = Vec::new();
    let mut end = 0;
    for (id, life, bytes) in buffers {
        let bytes = align(bytes);
        let mut busy: Vec<(i64, i64)> = placed
            .iter()
            .filter(|(other, _, _)| life.first <= other.last && other.first <= life.last)
            .map(|&(_, from, to)| (from, to))
            .collect();
        busy.sort_unstable();
        let mut at = 0;
        for (from, to) in busy {
            if at + bytes <= from {
                break;
            }
            at = at.max(to);
        }
        placed.push((life, at, at + bytes));
        end = end.max(at + bytes);
        plan.buffers[id.0 as usize].storage = Storage::Arena(Dim::from(at));
    }
    end
}

/// A part of the arena several symbolic buffers take turns in.
struct Slot {
    size: Dim,
    free_after: usize,
    users: Vec<BufferId>,
}

fn place_symbolic(plan: &mut Plan, mut buffers: Vec<(BufferId, Life, Dim)>, base: Dim) -> Dim {
    buffers.sort_by_key(|(id, life, _)| (life.first, *id));
    let mut slots: Vec<Slot> = Vec::new();
    for (id, life, bytes) in buffers {
        let guess = hint(&bytes);
        // The free slot of the nearest size, so that the maximum stays tight.
        let best = slots
            .iter_mut()
            .filter(|s| s.free_after < life.first)
            .min_by_key(|s| if s.size == bytes { 0 } else { 1 + (hint(&s.size) - guess).unsigned_abs() });
        match best {
            Some(slot) => {
                slot.size = slot.size.at_least(&bytes);
                slot.free_after = life.last;
                slot.users.push(id);
            }
            None => slots.push(Slot { size: bytes, free_after: life.last, users: vec![id] }),
        }
    }
    let mut at = base;
    let unit = Dim::from(64i64);
    for slot in slots {
        for id in slot.users {
            plan.buffers[id.0 as usize].storage = Storage::Arena(at.clone());
        }
        at = &at + &(&slot.size.ceil_div(&unit) * &unit);
    }
    at
}

/// A guess of a symbolic number, to compare sizes.
pub fn hint(d: &Dim) -> i64 { hint_of_one(d, None) }

/// [`hint`] where a symbol stands for a batch: those are mostly of one.
pub fn hint_of_one(d: &Dim, batch: Option<&Symbol>) -> i64 {
    d.eval(&|s| Some(if batch.is_some_and(|batch| &**batch == s) { 1 } else { 64 })).unwrap_or(i64::MAX / 4)
}

struct Walk {
    now: usize,
    lives: BTreeMap<BufferId, Life>,
}

impl Walk {
    fn touch(&mut self, id: BufferId) {
        let now = self.now;
        let life = self.lives.entry(id).or_insert(Life { first: now, last: now });
        life.last = now;
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.now += 1;
            match step {
                Step::Launch(l) => l.buffers.iter().for_each(|(b, _)| self.touch(*b)),
                Step::Copy { from, to, .. } | Step::Append { from, to, .. } => {
                    self.touch(*from);
                    self.touch(*to);
                }
                Step::Bind { from, .. } => self.touch(*from),
                Step::Set { .. } => {}
                Step::Host(h) => h.inputs.iter().chain(&h.outputs).for_each(|o| self.touch(o.buffer)),
                Step::If { cond, then_steps, else_steps } => {
                    self.touch(*cond);
                    self.steps(then_steps);
                    self.steps(else_steps);
                    self.now += 1;
                }
                Step::Loop { trips, cond, counter, body, .. } => self.looped(trips, cond, *counter, body),
            }
        }
    }

    /// What was alive before a loop and is used in it must survive every trip.
    fn looped(&mut self, trips: &Option<BufferId>, cond: &Option<BufferId>, counter: BufferId, body: &[Step]) {
        let begin = self.now;
        for id in trips.iter().chain(cond).chain([&counter]) {
            self.touch(*id);
        }
        self.steps(body);
        self.now += 1;
        for id in trips.iter().chain(cond).chain([&counter]) {
            self.touch(*id);
        }
        let end = self.now;
        for life in self.lives.values_mut().filter(|l| l.first < begin && l.last > begin) {
            life.last = end;
        }
    }
}
