//! Brings chunks of an operand to shared memory: `lines` lines by `depth` terms of the sum at a time.
//!
//! Every thread copies the same few vectors of each chunk; where they lie is computed once, before the loop over the
//! chunks. Vectors go along k or along the lines, whichever is contiguous. They are copied asynchronously if neither their
//! element type nor their direction changes, and through registers otherwise: read before a chunk is multiplied, written
//! to the next one's place afterwards. Terms past the end of the sum are zero. Lines past the end repeat the last one, or
//! are zero; their results are not used.

use super::*;
use crate::pack::Swizzle;

/// Order of the elements of a chunk in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Line after line, this many elements apart.
    Lines(i64),
    /// Term after term, this many elements apart.
    Terms(i64),
    /// Line after line without gaps, pieces exchanged.
    SwizzledLines(Swizzle),
    /// Term after term without gaps, pieces exchanged.
    SwizzledTerms(Swizzle),
}

/// A position: a value and a constant.
pub(super) type At = (Val, i64);

impl Order {
    /// Where an element lies. `whole` says that it is the first of a piece, if the order has pieces.
    pub fn at(self, kb: &mut Kb, line: At, k: At, whole: bool) -> At {
        match self {
            Order::Lines(pitch) => linear(kb, line, k, pitch),
            Order::Terms(pitch) => linear(kb, k, line, pitch),
            Order::SwizzledLines(swizzle) => swizzled(kb, line, k, swizzle, whole),
            Order::SwizzledTerms(swizzle) => swizzled(kb, k, line, swizzle, whole),
        }
    }

    /// True if neighbours along k are neighbours in shared memory.
    pub fn along_k(self) -> bool { matches!(self, Order::Lines(_) | Order::SwizzledLines(_)) }
}

fn linear(kb: &mut Kb, slow: At, fast: At, pitch: i64) -> At {
    let row = kb.k.mul_int(slow.0, pitch);
    (kb.k.add(row, fast.0), slow.1 * pitch + fast.1)
}

fn swizzled(kb: &mut Kb, slow: At, fast: At, s: Swizzle, whole: bool) -> At {
    let fast = kb.k.add_int(fast.0, fast.1);
    let column = shr(kb, fast, s.piece.trailing_zeros().into());
    // A constant number of whole periods does not change the exchange.
    let (slow, constant) = if slow.1 % s.period() as i64 == 0 { slow } else { (kb.k.add_int(slow.0, slow.1), 0) };
    let key = shr(kb, slow, s.share().trailing_zeros().into());
    let key = and(kb, key, s.mask() as i64);
    let column = kb.k.bin(BinOp::Xor, column, key);
    let row = kb.k.mul_int(slow, (s.pieces * s.piece) as i64);
    let column = kb.k.mul_int(column, s.piece as i64);
    let mut at = kb.k.add(row, column);
    if !whole {
        let rest = and(kb, fast, s.piece as i64 - 1);
        at = kb.k.add(at, rest);
    }
    (at, constant * (s.pieces * s.piece) as i64)
}

/// `x / 2^n` of a number that is not negative.
pub(super) fn shr(kb: &mut Kb, x: Val, n: i64) -> Val {
    if n == 0 {
        return x;
    }
    let n = kb.k.int(n);
    kb.k.bin(BinOp::Shr, x, n)
}

/// `x % (mask + 1)` of a number that is not negative.
pub(super) fn and(kb: &mut Kb, x: Val, mask: i64) -> Val {
    let mask = kb.k.int(mask);
    kb.k.bin(BinOp::And, x, mask)
}

/// How an operand is staged.
pub(super) struct Stage<'a> {
    operand: &'a Operand,
    /// Where it is read.
    from: Buf,
    /// Shared memory: a chunk's place is repeated for every stage of the pipeline.
    pub to: Buf,
    pub order: Order,
    /// Lines of a tile.
    lines: i64,
    /// Terms of a chunk.
    depth: i64,
    /// Elements a thread copies at once.
    vector: i64,
    along_k: bool,
    /// Copied without passing through registers.
    pub copied: bool,
    /// Elements of a chunk in shared memory, all planes together.
    pub size: i64,
    /// Parts every element is split into.
    pub planes: i64,
    /// Terms of the sum.
    k: Dim,
    threads: i64,
}

/// One vector a thread copies of every chunk.
pub(super) struct Unit {
    /// Where its line begins in memory.
    base: At,
    /// First term within the chunk.
    k: At,
    /// Lines from its first one on, if vectors go along the lines and may pass the end.
    left: Option<Val>,
    /// Where it goes in a chunk: the vector, or each of its elements if they part.
    to: Vec<At>,
    /// Which threads copy, if not all.
    active: Option<Val>,
}

/// What a stage is made for.
pub(super) struct Shape {
    pub lines: i64,
    pub depth: i64,
    pub stages: i64,
    pub threads: i64,
    pub order: Order,
    /// Elements of a plane of a chunk in shared memory.
    pub size: i64,
    /// Element type in shared memory.
    pub dtype: DType,
    /// Parts every element is split into.
    pub planes: i64,
}

impl<'a> Stage<'a> {
    pub fn new(kb: &mut Kb, name: &str, operand: &'a Operand, k: &Dim, s: &Shape) -> Stage<'a> {
        let from = kb.read(&operand.place);
        let size = operand.place.dtype.size() as i64;
        let image = operand.image;
        let same = operand.place.dtype == s.dtype && (s.planes == 1 || image);
        let width = if s.planes > 1 { 16 / s.dtype.size() as i64 } else { 16 / size.max(s.dtype.size() as i64) };
        let (by_k, by_line) = (operand.vector_along_k(width.min(s.depth)), operand.vector_along_lines(width.min(s.lines)));
        let along_k = by_k > by_line || (by_k == by_line && (operand.k_is_unit() || !operand.lines_are_unit()));
        let mut vector = if along_k { by_k } else { by_line };
        let straight = along_k == s.order.along_k();
        if image {
            vector = width;
        } else if same && !straight && size >= 4 {
            vector = 1;
        }
        let whole = matches!(vector * size, 4 | 8 | 16);
        let copied = image || same && whole && (straight || vector == 1);
        let to = kb.k.shared(name, s.dtype, (s.stages * s.size * s.planes) as u64);
        Stage {
            operand,
            from,
            to,
            order: s.order,
            lines: s.lines,
            depth: s.depth,
            vector,
            along_k,
            copied,
            size: s.size * s.planes,
            planes: s.planes,
            k: k.clone(),
            threads: s.threads,
        }
    }

    /// Computes what does not change from chunk to chunk, for tile `tile` of the lines.
    pub fn units(&self, kb: &mut Kb, batch: &[Val], tile: Val) -> Vec<Unit> {
        if self.operand.image {
            return self.image_units(kb, batch, tile);
        }
        let (fast, slow) = if self.along_k { (self.depth, self.lines) } else { (self.lines, self.depth) };
        let (places, active) = self.places(kb, fast / self.vector, slow);
        let o = self.operand;
        let mut start = kb.address(batch, &o.batch);
        let first = match &o.tile {
            Some(stride) => {
                let stride = kb.dim(stride);
                let skip = kb.k.mul(tile, stride);
                start = kb.k.add(start, skip);
                kb.k.int(0)
            }
            None => kb.k.mul_int(tile, self.lines),
        };
        let mut units = Vec::new();
        for (f, s) in places {
            let f = (kb.k.mul_int(f.0, self.vector), f.1 * self.vector);
            let (line, k) = if self.along_k { (s, f) } else { (f, s) };
            let to = self.destinations(kb, line, k);
            let line = (kb.k.add(first, line.0), line.1);
            let (base, left) = self.line(kb, start, line);
            units.push(Unit { base, k, left, to, active });
        }
        units
    }

    /// Where the vectors of a thread lie in a chunk of `slow` rows of `fast` vectors, and the condition that it has any.
    fn places(&self, kb: &mut Kb, fast: i64, slow: i64) -> (Vec<(At, At)>, Option<Val>) {
        let thread = kb.k.thread();
        if self.threads % fast != 0 {
            let zero = kb.k.int(0);
            let turns = fast / self.threads;
            let at = |i: i64| ((thread, i % turns * self.threads), (zero, i / turns));
            return ((0..slow * turns).map(at).collect(), None);
        }
        let step = self.threads / fast;
        let (f, s) = (and(kb, thread, fast - 1), shr(kb, thread, fast.trailing_zeros().into()));
        let active = (step > slow).then(|| {
            let end = kb.k.int(slow);
            kb.k.cmp(Pred::Lt, s, end)
        });
        ((0..(slow / step).max(1)).map(|i| ((f, 0), (s, i * step))).collect(), active)
    }

    /// The vectors of an image go straight through.
    fn image_units(&self, kb: &mut Kb, batch: &[Val], tile: Val) -> Vec<Unit> {
        let o = self.operand;
        let start = kb.address(batch, &o.batch);
        let stride = kb.dim(o.tile.as_ref().expect("an image is of a tile"));
        let skip = kb.k.mul(tile, stride);
        let start = kb.k.add(start, skip);
        let (zero, thread) = (kb.k.int(0), kb.k.thread());
        let vectors = self.size / self.vector;
        let mut units = Vec::new();
        for first in (0..vectors).step_by(self.threads as usize) {
            let active = (first + self.threads > vectors).then(|| {
                let end = kb.k.int(vectors - first);
                kb.k.cmp(Pred::Lt, thread, end)
            });
            let at = (kb.k.mul_int(thread, self.vector), first * self.vector);
            let base = (kb.k.add(start, at.0), at.1);
            units.push(Unit { base, k: (zero, 0), left: None, to: vec![at], active });
        }
        units
    }

    /// Where a vector that begins with this element goes.
    fn destinations(&self, kb: &mut Kb, line: At, k: At) -> Vec<At> {
        let piece = match self.order {
            Order::SwizzledLines(s) | Order::SwizzledTerms(s) => s.piece as i64,
            Order::Lines(_) | Order::Terms(_) => 1,
        };
        if self.along_k == self.order.along_k() {
            return vec![self.order.at(kb, line, k, self.vector % piece == 0)];
        }
        let next = |i: i64| if self.along_k { (line, (k.0, k.1 + i)) } else { ((line.0, line.1 + i), k) };
        (0..self.vector).map(next).map(|(line, k)| self.order.at(kb, line, k, false)).collect()
    }

    /// Where a line begins, and how many lines there are from it on if that must be known.
    fn line(&self, kb: &mut Kb, start: Val, line: At) -> (At, Option<Val>) {
        let o = self.operand;
        let count = o.count();
        let whole = o.tile.is_some() || multiple(&count, self.lines);
        let single = match &o.lines[..] {
            [(_, stride)] => stride.as_const(),
            _ => None,
        };
        let along = !self.along_k && self.vector > 1;
        if let (Some(stride), true) = (single, whole || along) {
            let at = kb.k.mul_int(line.0, stride);
            let base = (kb.k.add(start, at), line.1 * stride);
            let left = (!whole).then(|| {
                let n = kb.dim(&count);
                let left = kb.k.sub(n, line.0);
                kb.k.add_int(left, -line.1)
            });
            return (base, left);
        }
        let mut line = kb.k.add_int(line.0, line.1);
        if !whole {
            let n = kb.dim(&count);
            let last = kb.k.add_int(n, -1);
            line = kb.min(line, last);
        }
        let (sizes, strides): (Vec<Dim>, Vec<Dim>) = o.lines.iter().cloned().unzip();
        let index = kb.unflatten(line, &sizes);
        let at = kb.address(&index, &strides);
        ((kb.k.add(start, at), 0), None)
    }

    /// Begins to stage the chunk whose first term is `k0` at element `slot` of shared memory. Returns what must be written
    /// there by [`Stage::land`].
    pub fn issue(&self, kb: &mut Kb, units: &[Unit], k0: Val, slot: Val) -> Vec<Val> {
        let mut read = Vec::new();
        for u in units {
            let (from, offset, count) = self.source(kb, u, k0);
            if self.copied {
                let copy = |kb: &mut Kb| {
                    let to = kb.k.add(slot, u.to[0].0);
                    kb.k.copy_async((self.to, to, u.to[0].1), (self.from, from, offset), self.vector as u32, count);
                };
                only(kb, u.active, copy);
            } else {
                let count = match u.active {
                    Some(active) => Some(self.all_if(kb, active, count)),
                    None => count,
                };
                read.push(kb.k.load(self.from, from, offset, self.vector as u32, count));
            }
        }
        read
    }

    /// `count` if `cond`, else nothing.
    fn all_if(&self, kb: &mut Kb, cond: Val, count: Option<Val>) -> Val {
        let all = count.unwrap_or_else(|| kb.k.int(self.vector));
        let zero = kb.k.int(0);
        kb.k.select(cond, all, zero)
    }

    /// Where a unit's elements of a chunk lie, and how many there are if not all.
    fn source(&self, kb: &mut Kb, u: &Unit, k0: Val) -> (Val, i64, Option<Val>) {
        let first = kb.k.add(k0, u.k.0);
        let whole = self.operand.image || self.copied && multiple(&self.k, self.depth);
        let terms = (!whole).then(|| {
            let k = kb.dim(&self.k);
            let left = kb.k.sub(k, first);
            kb.k.add_int(left, -u.k.1)
        });
        let count = match (terms, u.left) {
            (Some(terms), left) if !self.along_k && self.vector > 1 => {
                let zero = kb.k.int(0);
                let any = kb.k.cmp(Pred::Gt, terms, zero);
                Some(self.all_if(kb, any, left))
            }
            (terms, left) => terms.or(left),
        };
        let (at, offset) = match &self.operand.k[..] {
            [(_, stride)] if stride.as_const().is_some() => {
                let stride = stride.as_const().unwrap_or(1);
                (kb.k.mul_int(first, stride), u.k.1 * stride)
            }
            nest => {
                let (sizes, strides): (Vec<Dim>, Vec<Dim>) = nest.iter().cloned().unzip();
                let k = kb.k.add_int(first, u.k.1);
                let index = kb.unflatten(k, &sizes);
                (kb.address(&index, &strides), 0)
            }
        };
        (kb.k.add(u.base.0, at), u.base.1 + offset, count)
    }

    /// Writes what was read for a chunk to element `slot` of shared memory.
    pub fn land(&self, kb: &mut Kb, units: &[Unit], read: &[Val], slot: Val) {
        let dtype = kb.k.buf_dtype(self.to);
        for (u, &x) in units.iter().zip(read) {
            only(kb, u.active, |kb| {
                let planes = if self.planes == 1 { vec![kb.k.convert(x, dtype)] } else { split::planes(kb, x) };
                for (x, plane) in planes.into_iter().zip(0..) {
                    self.write(kb, u, x, slot, plane * self.size / self.planes);
                }
            });
        }
    }

    fn write(&self, kb: &mut Kb, u: &Unit, x: Val, slot: Val, plane: i64) {
        for (i, to) in u.to.iter().enumerate() {
            let x = if u.to.len() == 1 { x } else { kb.k.extract(x, i as u32) };
            let at = kb.k.add(slot, to.0);
            kb.k.store(self.to, at, to.1 + plane, x, None);
        }
    }
}

/// A branch, if there is a condition.
fn only(kb: &mut Kb, cond: Option<Val>, then: impl FnOnce(&mut Kb)) {
    match cond {
        Some(cond) => when(kb, cond, then),
        None => then(kb),
    }
}
