//! Rows on a GPU: a warp, or a block of warps, works on a row whose reduced axis is the contiguous one.
//!
//! Thread `i` takes the vectors `i`, `i + threads`, ... of the row. A row of known length that fits is kept in registers,
//! so that it is read once and written once whatever the number of passes; longer ones are read again in each pass, from
//! the caches. With `exact` numerics the threads are the 32 strided partial results of the contract and the shuffles its
//! tree. Limit: memory, one read and one write.

use xlac_ir::kernel::{Lane, WARP};

use super::*;

/// Rows a tile has when each is worked on by one warp.
const ROWS: u32 = 4;
/// Elements from which a row deserves a block.
const LONG: i64 = 2048;
/// Threads of such a block.
const BLOCK: u32 = 256;
/// Vectors of a row a thread keeps in registers.
const KEPT: i64 = 8;

/// Who works on a row.
struct Team {
    /// Threads of a row.
    threads: u32,
    /// Lanes of a thread's vectors.
    lanes: u32,
    /// Number of this thread in its row.
    me: Val,
    /// Where the warps of a block exchange what they found, for each reduction; none if a row has one warp.
    exchange: Vec<Buf>,
}

impl Rows<'_> {
    /// A tile is a block's row, or the rows of four warps.
    pub(super) fn emit_team(&self, kb: &mut Kb) -> Dim {
        let rows = Dim::product(&self.kept);
        let long = !self.exact && hint(&self.red[0]) >= LONG;
        let tile = kb.k.tile();
        let thread = {
            kb.k.set_threads(if long { BLOCK } else { ROWS * WARP });
            kb.k.thread()
        };
        if long {
            let exchange = self.reductions.iter().enumerate();
            let exchange = exchange.map(|(i, r)| kb.k.shared(format!("warps{i}"), r.dtype, u64::from(BLOCK / WARP)));
            let team = Team { threads: BLOCK, lanes: self.team_lanes(), me: thread, exchange: exchange.collect() };
            self.team_row(kb, &team, tile);
            return rows;
        }
        let warp = kb.k.int(i64::from(WARP));
        let (number, me) = (kb.k.bin(BinOp::Div, thread, warp), kb.k.bin(BinOp::Rem, thread, warp));
        let first = kb.k.mul_int(tile, i64::from(ROWS));
        let row = kb.k.add(first, number);
        let team = Team { threads: WARP, lanes: self.team_lanes(), me, exchange: Vec::new() };
        let limit = kb.dim(&rows);
        let inside = kb.k.cmp(Pred::Lt, row, limit);
        let mut open = kb.k.begin_if(inside);
        self.team_row(kb, &team, row);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
        rows.ceil_div(&Dim::from(i64::from(ROWS)))
    }

    /// The contract's partial results are those of single elements.
    fn team_lanes(&self) -> u32 { if self.exact { 1 } else { self.lanes } }

    fn team_row(&self, kb: &mut Kb, team: &Team, row: Val) {
        let kept = if self.kept.is_empty() { Vec::new() } else { kb.unflatten(row, &self.kept) };
        let zero = kb.k.int(0);
        let mut chunks = self.kept_chunks(kb, team, &kept);
        let mut known = HashMap::new();
        for s in 0..self.passes {
            self.row_values(kb, s, [&kept[..], &[zero]].concat(), 1, None, &mut known);
            if !self.busy(s) {
                continue;
            }
            let reduces: Vec<&Reduction> = self.in_pass(s).collect();
            let init: Vec<Val> = reduces.iter().map(|r| kb.k.splat_const(neutral(r.f, r.dtype), team.lanes)).collect();
            let found = match &mut chunks {
                Some(chunks) => self.kept_pass(kb, s, chunks, init, &kept, &known),
                None => self.team_pass(kb, s, team, &init, &kept, &known),
            };
            for (r, x) in reduces.iter().zip(found) {
                let x = self.gather_team(kb, team, r, x);
                let x = kb.k.convert(x, self.g.ty(r.output).dtype);
                known.insert(r.output, x);
            }
        }
        self.row_values(kb, self.passes, [&kept[..], &[zero]].concat(), 1, None, &mut known);
        if self.exits.iter().all(|e| e.full) {
            return;
        }
        let first = kb.k.cmp(Pred::Eq, team.me, zero);
        let mut open = kb.k.begin_if(first);
        self.store_reduced(kb, &kept, 1, None, &known);
        kb.k.begin_else(&mut open, &[]);
        kb.k.end_if(open, &[]);
    }

    /// A thread's vectors of a row that fits into registers. What lies beyond the end of the row reads its last vector
    /// again, counts for nothing and is not stored.
    fn kept_chunks<'p>(&'p self, kb: &mut Kb, team: &Team, kept: &[Val]) -> Option<Vec<(Point<'p>, Val)>> {
        let n = self.red[0].as_const()?;
        let (lanes, stride) = (i64::from(team.lanes), i64::from(team.threads * team.lanes));
        let count = (n + stride - 1) / stride;
        if count > KEPT || n % lanes != 0 || self.passes < 2 {
            return None;
        }
        let first = kb.k.mul_int(team.me, lanes);
        let last = kb.k.int(n - lanes);
        let mut chunk = |i: i64| {
            let at = kb.k.add_int(first, i * stride);
            let (at, valid) = if (i + 1) * stride <= n {
                (at, None)
            } else {
                let left = kb.k.int(n);
                (kb.min(at, last), Some(kb.k.sub(left, at)))
            };
            (self.point([kept, &[at]].concat(), team.lanes, valid, &HashMap::new()), at)
        };
        Some((0..count).map(&mut chunk).collect())
    }

    fn kept_pass(
        &self,
        kb: &mut Kb,
        s: usize,
        chunks: &mut [(Point<'_>, Val)],
        init: Vec<Val>,
        kept: &[Val],
        known: &HashMap<ValueId, Val>,
    ) -> Vec<Val> {
        let mut accs = init;
        for (point, at) in chunks {
            point.known.extend(known);
            accs = self.pass_body(kb, s, point, *at, &accs, kept, &[*at]);
        }
        accs
    }

    fn team_pass(
        &self,
        kb: &mut Kb,
        s: usize,
        team: &Team,
        init: &[Val],
        kept: &[Val],
        known: &HashMap<ValueId, Val>,
    ) -> Vec<Val> {
        let lanes = i64::from(team.lanes);
        let n = kb.dim(&self.red[0]);
        let first = kb.k.mul_int(team.me, lanes);
        let open = kb.k.begin_for((first, n, i64::from(team.threads) * lanes), init, LoopHint::Plain);
        let (at, phis) = (open.var, open.phis.clone());
        let whole = lanes == 1 || self.red[0].as_const().is_some_and(|n| n % lanes == 0);
        let count = (!whole).then(|| kb.k.sub(n, at));
        let mut point = self.point([kept, &[at]].concat(), team.lanes, count, known);
        let next = self.pass_body(kb, s, &mut point, at, &phis, kept, &[at]);
        kb.k.end_for(open, &next)
    }

    /// The result of all threads of a row, known to each of them.
    fn gather_team(&self, kb: &mut Kb, team: &Team, r: &Reduction, x: Val) -> Val {
        let x = tree(kb, r.f, x);
        let x = warp_tree(kb, r.f, x, WARP);
        let number = self.reductions.iter().position(|other| std::ptr::eq(other, r)).expect("one of them");
        let Some(&exchange) = team.exchange.get(number) else { return x };
        let warp = kb.k.int(i64::from(WARP));
        let (number, lane) = (kb.k.bin(BinOp::Div, team.me, warp), kb.k.bin(BinOp::Rem, team.me, warp));
        kb.k.store(exchange, number, 0, x, None);
        kb.k.barrier();
        let warps = team.threads / WARP;
        let mask = kb.k.int(i64::from(warps) - 1);
        let from = kb.k.bin(BinOp::And, lane, mask);
        let x = kb.k.load(exchange, from, 0, 1, None);
        warp_tree(kb, r.f, x, warps)
    }
}

/// The combination of the first `lanes` lanes of each warp, in the order of the contract's tree, known to all of them.
pub fn warp_tree(kb: &mut Kb, f: ReduceFn, mut x: Val, lanes: u32) -> Val {
    let mut distance = lanes / 2;
    while distance > 0 {
        let other = kb.k.shuffle(Lane::Down(distance), x);
        x = kb.k.bin(combine(f), x, other);
        distance /= 2;
    }
    kb.k.shuffle(Lane::Index(0), x)
}
