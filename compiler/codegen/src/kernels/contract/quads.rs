//! Sums of 8-bit products: four terms of the innermost axis a step, by the instructions processors have for them.
//!
//! A step reads four neighbouring elements of a row at once, and for each column four neighbouring elements of a panel, which
//! is packed in that order and keeps its 8-bit type. A last step of fewer terms reads no more of a row than there is; the
//! panel has zeros there.
//!
//! Where the processor multiplies elements of other signs than it is given, the rows' are flipped: `a ^ 0x80` read with the
//! other sign is `a + 128` or `a - 128`. What that adds to a sum is the same for all rows, `128 * sum of b`; it is summed up
//! next to the rows, as one more of them, and taken off at the end. All of that wraps, so that the result is exact.

use xlac_ir::backend::Target;

use super::sum::{Start, Sum};
use super::*;

/// How a step takes four terms.
pub(super) struct Quads {
    /// Steps of four terms along the innermost axis.
    whole: i64,
    /// Terms after them: 0 to 3.
    rest: u32,
    /// Element type of the first operand.
    a: DType,
    /// Its signs are flipped.
    flipped: bool,
    /// The target has an instruction for a step.
    native: bool,
}

/// Vector registers a sum needs besides accumulators, the panel's vectors and a broadcast element.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra {
    pub fixed: u32,
    /// For each vector of columns.
    pub column: u32,
}

impl Quads {
    /// Four terms a step, if the operands allow it.
    pub fn of(target: &Target, c: &Contraction) -> Option<Quads> {
        let Second::View { place: b, .. } = &c.b;
        let bytes = [c.a.dtype, b.dtype].iter().all(|t| matches!(t, DType::I8 | DType::U8));
        let (size, stride) = c.k.last()?;
        let terms = size.as_const().filter(|_| stride.is(1) && bytes && c.acc == DType::I32)?;
        let windows = c.k.iter().rev().skip(1).any(|k| !k.0.is(1));
        if windows && terms < 4 {
            // Each position of the window would be less than a step.
            return None;
        }
        let (same, mixed) = (c.a.dtype == b.dtype, c.a.dtype != b.dtype);
        let x86 = target.has("avxvnni") || target.has("avx512vnni");
        let (arm, arm_mixed) = (target.has("dotprod"), target.has("dotprod") && target.has("i8mm"));
        let flipped = (x86 && same) || (arm && !arm_mixed && mixed);
        Some(Quads { whole: terms / 4, rest: (terms % 4) as u32, a: c.a.dtype, flipped, native: x86 || arm })
    }

    /// Registers besides those of every sum.
    pub fn registers(&self) -> Extra {
        let native = if self.native { Extra::default() } else { Extra { fixed: 2, column: 1 } };
        if self.flipped { Extra { fixed: native.fixed + 1, column: native.column + 1 } } else { native }
    }

    /// Terms along the innermost axis of [`Quads::steps`], if they are known.
    pub fn terms(&self, steps: &[(Dim, Dim)]) -> Option<i64> {
        let whole = steps.last().and_then(|k| k.0.as_const())?;
        Some(if self.rest == 0 { 4 * whole } else { 4 * self.whole + i64::from(self.rest) })
    }

    /// The sum's axes with steps instead of terms along the innermost.
    pub fn steps(&self, k: &[(Dim, Dim)]) -> Vec<(Dim, Dim)> {
        let (_, outer) = k.split_last().expect("a sum has an axis");
        let last = (Dim::from(self.whole + i64::from(self.rest > 0)), Dim::from(4i64));
        if self.rest == 0 {
            return merge_k(&[outer, &[last]].concat());
        }
        // Steps that cross a row of the window would need its elements side by side.
        let outer = if outer.iter().all(|k| k.0.is(1)) { Vec::new() } else { merge_k(outer) };
        [outer, vec![last]].concat()
    }
}

impl Sum {
    /// The sums of `rows`, four terms a step.
    pub(super) fn emit_quads(&self, kb: &mut Kb, quads: &Quads, at: Start, rows: &[(Val, i64)], zero: Val) -> Vec<Val> {
        let nv = self.tile.nv as usize;
        let count = rows.len() * nv;
        let extra = if quads.flipped { nv } else { 0 };
        let mut sums = self.nest(kb, 0, at, rows, vec![zero; count + extra]);
        let added = sums.split_off(count);
        if added.is_empty() {
            return sums;
        }
        sums.iter().zip(added.iter().cycle()).map(|(&sum, &added)| kb.k.sub(sum, added)).collect()
    }

    /// The steps along the innermost axis.
    pub(super) fn steps_of_four(&self, kb: &mut Kb, quads: &Quads, at: Start, rows: &[(Val, i64)], mut accs: Vec<Val>) -> Vec<Val> {
        let level = self.k.len() - 1;
        // Merged axes have more steps than one of them.
        let whole = if quads.rest == 0 { self.k[level].0.clone() } else { Dim::from(quads.whole) };
        if !whole.is(0) {
            let (zero, hi) = (kb.k.int(0), kb.dim(&whole));
            accs = self.range(kb, level, (zero, hi), at, rows, accs);
        }
        if quads.rest == 0 {
            return accs;
        }
        let last = kb.k.int(quads.whole);
        let at = self.step_to(kb, level, at, last);
        self.four_terms(kb, quads, at, rows, &accs, quads.rest)
    }

    /// One step of `terms` terms, at most four.
    pub(super) fn four_terms(&self, kb: &mut Kb, quads: &Quads, at: Start, rows: &[(Val, i64)], accs: &[Val], terms: u32) -> Vec<Val> {
        let lanes = self.tile.lanes;
        let panel: Vec<Val> =
            (0..self.tile.nv).map(|v| kb.k.load(self.panels, at.panel, i64::from(4 * v * lanes), 4 * lanes, None)).collect();
        let mut next = Vec::with_capacity(accs.len());
        let mut add = |kb: &mut Kb, x: Val| {
            for &y in &panel {
                let acc = accs[next.len()];
                next.push(kb.k.dot4(x, y, acc));
            }
        };
        for &(extra, offset) in rows {
            let at = kb.k.add(at.rows, extra);
            let x = first_terms(kb, self.from, at, offset, terms);
            let x = kb.k.permute(x, x, &(0..4 * lanes).map(|i| i % 4).collect::<Vec<u32>>());
            let x = if quads.flipped { flip(kb, x, quads.a) } else { x };
            add(kb, x);
        }
        if quads.flipped {
            let zero = kb.k.splat_const(Const::int(quads.a, 0), 4 * lanes);
            let added = flip(kb, zero, quads.a);
            add(kb, added);
        }
        next
    }
}

/// The first few of four elements; the others are zero.
fn first_terms(kb: &mut Kb, from: Buf, at: Val, offset: i64, terms: u32) -> Val {
    if terms == 4 {
        return kb.k.load(from, at, offset, 4, None);
    }
    let zeros = kb.k.splat_const(Const::int(kb.k.buf_dtype(from), 0), 4 - terms);
    let x = kb.k.load(from, at, offset, terms, None);
    kb.k.concat(x, zeros)
}

/// The same bytes with their first bit flipped and the other sign.
fn flip(kb: &mut Kb, x: Val, dtype: DType) -> Val {
    let bit = kb.k.splat_const(Const::int(dtype, 128), kb.k.ty(x).lanes);
    let flipped = kb.k.bin(BinOp::Xor, x, bit);
    kb.k.bitcast(flipped, if dtype == DType::I8 { DType::U8 } else { DType::I8 })
}
