//! The sum of a register tile: for each term, vectors of a panel times broadcast elements of the rows.
//!
//! Long sums are made in chains of at most [`CHAIN`] terms, which are added up in scratch memory: short chains round less. The
//! accumulators of the last chain never leave their registers.
//!
//! Each term also fetches a part of the panel that follows into the second-level cache, so that weights, which come from
//! memory, arrive while the panel before is computed with. A single row has no time for that: it fetches what it will read
//! itself some terms later.

use super::*;

/// What a prefetch brings.
pub(super) const CACHE_LINE: i64 = 64;
/// How many bytes before they are read a single row fetches what is in a panel.
const AHEAD_BYTES: i64 = 4096;

/// The operands of a sum of products.
pub(super) struct Sum {
    /// Where the rows' elements are.
    pub from: Buf,
    /// Where the panels are.
    pub panels: Buf,
    pub tile: Tile,
    /// Element type of the accumulators.
    pub acc: DType,
    /// Nested sum axes, outermost first: size and stride in the rows.
    pub k: Vec<(Dim, Dim)>,
    /// Elements of a panel from term to term.
    pub pitch: i64,
    pub unroll: u32,
    /// Scratch memory for what the chains come to, if there are several.
    pub totals: Option<Buf>,
    /// The panels are too large to be near when they are read.
    pub far: bool,
    /// How a step takes four terms, if it does.
    pub quads: Option<Quads>,
    /// How high blocks of rows are summed, if it is by matrices.
    pub matrices: Option<Matrices>,
    /// A step takes twelve terms in eight multiplications: see `fip`. Axes and pitch are those of steps.
    pub fip: bool,
}

/// First elements of what a sum reads.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// In the rows' buffer.
    pub rows: Val,
    /// In the panels.
    pub panel: Val,
    /// In the panels, what is fetched meanwhile.
    pub fetch: Option<Fetch>,
}

/// What is fetched with each term: some lines, from this element of the panels on, which moves by some elements a term.
#[derive(Clone, Copy)]
pub(super) struct Fetch {
    at: Val,
    lines: i64,
    step: i64,
}

/// How far the loops are.
#[derive(Clone, Copy)]
struct Progress {
    at: Start,
    /// Terms before it; only kept up outside of chains.
    terms: Val,
}

impl Sum {
    /// The sums of `rows`, which tell by how much a row's elements lie after those of the first, in part known.
    pub fn emit(&self, kb: &mut Kb, at: Start, rows: &[(Val, i64)]) -> Vec<Val> {
        let zero = kb.k.splat_const(Const::number(self.acc, 0.0), self.tile.lanes);
        if let Some(quads) = &self.quads {
            return self.emit_quads(kb, quads, at, rows, zero);
        }
        let zeros = vec![zero; rows.len() * self.tile.nv as usize];
        let Some(totals) = self.totals else { return self.nest(kb, 0, at, rows, zeros) };
        let terms = kb.k.int(0);
        let last = self.chains(kb, 0, Progress { at, terms }, totals, rows, &zeros, zeros.clone());
        let begin = kb.k.int(0);
        (0..).zip(last).map(|(i, chain)| {
            let total = self.total(kb, totals, begin, i);
            kb.k.add(total, chain)
        }).collect()
    }

    /// [`Sum::emit`], added to what there is.
    pub fn add_to(&self, kb: &mut Kb, at: Start, rows: &[(Val, i64)], before: Vec<Val>) -> Vec<Val> {
        if self.totals.is_none() {
            return self.nest(kb, 0, at, rows, before);
        }
        let sums = self.emit(kb, at, rows);
        sums.into_iter().zip(before).map(|(sum, before)| kb.k.add(sum, before)).collect()
    }

    fn total(&self, kb: &mut Kb, totals: Buf, begin: Val, i: i64) -> Val {
        kb.k.load(totals, begin, i * i64::from(self.tile.lanes), self.tile.lanes, None)
    }

    fn terms(&self) -> Dim { Dim::product(self.k.iter().map(|k| &k.0)) }

    /// The most steps of a chain.
    fn chain(&self) -> i64 { if self.fip { CHAIN / fip::STEP } else { CHAIN } }

    /// True if there are more steps than a chain's.
    pub fn is_long(&self) -> bool { hint(&self.terms()) > self.chain() }

    /// Terms of one step along an axis.
    fn inner(&self, level: usize) -> Dim { Dim::product(self.k[level + 1..].iter().map(|k| &k.0)) }

    /// Elements of a cache line.
    fn line(&self) -> i64 { CACHE_LINE * self.width() / self.acc.size() as i64 }

    /// Elements of a panel for a column and step: as many bytes as an accumulator.
    fn width(&self) -> i64 { if self.quads.is_some() { 4 } else { 1 } }

    /// The place `i` steps along an axis.
    pub(super) fn step_to(&self, kb: &mut Kb, level: usize, at: Start, i: Val) -> Start {
        let inner = self.inner(level);
        let mut along = |at: Val, step: &Dim| {
            let step = kb.dim(step);
            let shift = kb.k.mul(i, step);
            kb.k.add(at, shift)
        };
        let rows = along(at.rows, &self.k[level].1);
        let panel = along(at.panel, &(&inner * &Dim::from(self.pitch)));
        let fetch = at.fetch.map(|f| Fetch { at: along(f.at, &(&inner * &Dim::from(f.step))), ..f });
        Start { rows, panel, fetch }
    }

    /// The loops over the terms from axis `level` on, in chains. `chain` is the one before, which goes to the totals when the
    /// next begins; returned is the last.
    #[allow(clippy::too_many_arguments)]
    fn chains(&self, kb: &mut Kb, level: usize, done: Progress, totals: Buf, rows: &[(Val, i64)], zeros: &[Val], chain: Vec<Val>) -> Vec<Val> {
        let size = &self.k[level].0;
        let inner = self.inner(level);
        let outer = hint(&inner) >= self.chain();
        let piece = if outer { 1 } else { self.piece(level) };
        let (zero, hi) = (kb.k.int(0), kb.dim(size));
        let open = kb.k.begin_for((zero, hi, piece), &chain, LoopHint::Plain);
        let chain = open.phis.clone();
        let steps = kb.dim(&inner);
        let before = kb.k.mul(open.var, steps);
        let terms = kb.k.add(done.terms, before);
        let last = if outer {
            let at = self.step_to(kb, level, done.at, open.var);
            self.chains(kb, level + 1, Progress { at, terms }, totals, rows, zeros, chain)
        } else {
            self.end_chain(kb, totals, terms, &(&inner * &Dim::from(piece)), &chain);
            let end = kb.k.add_int(open.var, piece);
            let end = kb.min(end, hi);
            self.range(kb, level, (open.var, end), done.at, rows, zeros.to_vec())
        };
        kb.k.end_for(open, &last)
    }

    /// Steps along an axis that make a chain: chains of an axis are equally long, and at least two make a sum.
    fn piece(&self, level: usize) -> i64 {
        let inner = hint(&self.inner(level)).max(1);
        match self.k[level].0.as_const() {
            Some(size) => {
                let least = if level == 0 { 2 } else { 1 };
                let chains = ((size * inner + self.chain() - 1) / self.chain()).max(least);
                (size + chains - 1) / chains
            }
            None => (self.chain() / inner).max(1),
        }
    }

    /// Adds the chain before the term number `terms` to the totals, if there is one.
    fn end_chain(&self, kb: &mut Kb, totals: Buf, terms: Val, length: &Dim, chain: &[Val]) {
        let several = self.terms().as_const().zip(length.as_const()).is_some_and(|(all, n)| all > n);
        if !several {
            // There may be one chain only: the zeros before it make totals too.
            return self.add_chain(kb, totals, terms, length, chain);
        }
        let zero = kb.k.int(0);
        let begun = kb.k.cmp(Pred::Gt, terms, zero);
        let mut open = kb.k.begin_if(begun);
        self.add_chain(kb, totals, terms, length, chain);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }

    /// Adds a chain to the totals, or sets them if it is the first.
    fn add_chain(&self, kb: &mut Kb, totals: Buf, terms: Val, length: &Dim, chain: &[Val]) {
        let (zero, lanes) = (kb.k.int(0), i64::from(self.tile.lanes));
        let length = kb.dim(length);
        let first = kb.k.cmp(Pred::Le, terms, length);
        let mut open = kb.k.begin_if(first);
        for (i, &x) in (0..).zip(chain) {
            kb.k.store(totals, zero, i * lanes, x, None);
        }
        kb.k.begin_else(&mut open, &[]);
        for (i, &x) in (0..).zip(chain) {
            let total = self.total(kb, totals, zero, i);
            let total = kb.k.add(total, x);
            kb.k.store(totals, zero, i * lanes, total, None);
        }
        kb.k.end_if(open, &[]);
    }

    /// The loops over all terms from axis `level` on.
    pub(super) fn nest(&self, kb: &mut Kb, level: usize, at: Start, rows: &[(Val, i64)], accs: Vec<Val>) -> Vec<Val> {
        let (zero, hi) = (kb.k.int(0), kb.dim(&self.k[level].0));
        match &self.quads {
            Some(quads) if level + 1 == self.k.len() => self.steps_of_four(kb, quads, at, rows, accs),
            _ => self.range(kb, level, (zero, hi), at, rows, accs),
        }
    }

    /// [`Sum::nest`] over a part of the outermost axis.
    pub(super) fn range(&self, kb: &mut Kb, level: usize, (lo, hi): (Val, Val), at: Start, rows: &[(Val, i64)], accs: Vec<Val>) -> Vec<Val> {
        let last = level + 1 == self.k.len();
        let hint = if last { LoopHint::Unroll(self.unroll) } else { LoopHint::Plain };
        let open = kb.k.begin_for((lo, hi, 1), &accs, hint);
        let phis = open.phis.clone();
        let at = self.step_to(kb, level, at, open.var);
        let next = if last { self.term(kb, at, rows, &phis) } else { self.nest(kb, level + 1, at, rows, phis) };
        kb.k.end_for(open, &next)
    }

    /// One term: `nv` vectors of the panel times every row's element.
    fn term(&self, kb: &mut Kb, at: Start, rows: &[(Val, i64)], accs: &[Val]) -> Vec<Val> {
        let lanes = self.tile.lanes;
        self.bring(kb, at, 1);
        if let Some(quads) = &self.quads {
            return self.four_terms(kb, quads, at, rows, accs, 4);
        }
        if self.fip {
            return self.fip_step(kb, at, rows, accs);
        }
        let panel: Vec<Val> =
            (0..self.tile.nv).map(|v| kb.k.load(self.panels, at.panel, i64::from(v * lanes), lanes, None)).collect();
        let mut next = Vec::with_capacity(accs.len());
        for &(extra, offset) in rows {
            let at = kb.k.add(at.rows, extra);
            let x = kb.k.load(self.from, at, offset, 1, None);
            let x = kb.k.convert(x, self.acc);
            for &y in &panel {
                let acc = accs[next.len()];
                next.push(if self.acc.is_float() {
                    kb.k.fma(x, y, acc)
                } else {
                    let product = kb.k.bin(BinOp::Mul, x, y);
                    kb.k.add(product, acc)
                });
            }
        }
        next
    }

    /// Fetches what is to be fetched with some terms.
    pub(super) fn bring(&self, kb: &mut Kb, at: Start, terms: i64) {
        if let Some(fetch) = at.fetch {
            (0..terms * fetch.lines).for_each(|i| kb.k.prefetch(self.panels, fetch.at, i * self.line()));
        }
    }

    /// What the only row tile of a panel fetches while it walks it: all of the next.
    pub fn fetch_whole(&self, next: Val) -> Fetch {
        let line = self.line();
        Fetch { at: next, lines: (self.pitch + line - 1) / line, step: self.pitch }
    }

    /// What a row tile of `rows` rows, number `tile` of its task, fetches while it walks a panel. The first few tiles fetch
    /// the panel that follows, each a part, and the next few do so again.
    pub fn fetch(&self, kb: &mut Kb, (panel, next): (Val, Val), rows: u32, tile: Val) -> Option<Fetch> {
        let line = self.line();
        // Of narrow panels a term is less than a line: fetching it again and again would cost more than it brings.
        if self.pitch != self.tile.nr() * self.width() || self.pitch < line {
            return None;
        }
        let lines = (self.pitch + line - 1) / line;
        if rows == 1 {
            let ahead = AHEAD_BYTES * self.width() / self.acc.size() as i64;
            return self.far.then(|| Fetch { at: kb.k.add_int(panel, ahead), lines, step: self.pitch });
        }
        let parts = kb.k.int(lines);
        let part = kb.k.bin(BinOp::Rem, tile, parts);
        let terms = kb.dim(&(&self.terms() * &Dim::from(line)));
        let skip = kb.k.mul(part, terms);
        Some(Fetch { at: kb.k.add(next, skip), lines: 1, step: line })
    }
}
