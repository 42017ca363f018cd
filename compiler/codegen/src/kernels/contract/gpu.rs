//! Contractions on GPUs: a tile of results for a block of threads.
//!
//! All rows of a contraction are numbered as one axis, and so are the terms of its sum: a matrix product and a convolution
//! differ only in how a line's or term's number becomes an address ([`operand`]). Chunks of both operands go to shared
//! memory ahead of their use ([`stage`], [`pipeline`]), where they are multiplied by ordinary multiply-adds ([`fma`]) or by
//! tensor cores ([`mma`], f32 in parts: [`split`]). The epilogue is computed on the sums in registers ([`finish`]). Products
//! of few rows have a kernel of their own ([`gemv`]). Long sums of few tiles are made in parts ([`parts`]). [`model`]
//! chooses the tile, and among the kernels that may be used the one of least estimated time:
//!
//! | operands | `exact` | `fast` |
//! | --- | --- | --- |
//! | f32 | fma | fma, split, gemv |
//! | f16, bf16 | fma in f32 | fma in f32, mma, gemv |
//! | f64 | fma | fma, gemv |
//! | 8-bit integers, i32 sums | fma, mma, gemv: all give the same bits | the same |
//! | other integers | fma, gemv | the same |
//!
//! Tiles are numbered so that those at work together share rows and columns in the L2 cache: 8 tiles of rows, then the next
//! tile of columns. Rows past the end read the last row, columns past the end zeros or the last column; neither is stored.

use super::*;

mod finish;
mod fma;
mod gemv;
mod mma;
mod model;
mod operand;
mod parts;
mod pipeline;
mod split;
mod stage;

use finish::{Edges, Finish};
use operand::{Operand, dense};
use crate::kb::multiple;
use pipeline::Span;

/// Tiles of rows that neighbouring tiles share columns with.
const GROUP: i64 = 8;

/// A contraction as the kernels see it.
struct Problem {
    batch: Vec<Dim>,
    m: Dim,
    n: Dim,
    k: Dim,
    a: Operand,
    b: Operand,
    /// Element type of the sums.
    acc: DType,
    name: String,
    loc: Loc,
}

/// Emits the kernels of a contraction.
pub(super) fn emit(l: &mut Lowering, c: Contraction, epilogue: Epilogue) {
    let (name, loc) = (epilogue.name.clone(), epilogue.loc.clone());
    let finish = Finish::new(l, &c, epilogue);
    let p = Problem::new(c, name, loc);
    if let Some(plan) = gemv::plan(l, &p) {
        return gemv::emit(l, &p, &finish, plan);
    }
    // Parts of sums may be added in another order.
    let split = !l.exact() || !p.acc.is_float();
    let plain = model::choose(l, &p, split, fma::candidates(l, &p)).expect("the smallest tile fits every target");
    let kind = mma::Kind::of(l, &p);
    let tensor = kind.and_then(|kind| Some((kind, model::choose(l, &p, split, mma::candidates(l, &p, kind))?)));
    match tensor.filter(|t| t.1.time < plain.time) {
        Some((kind, plan)) => in_parts(l, &p, &finish, plan.splits, |l, finish| mma::emit(l, &p, kind, finish, &plan)),
        None => in_parts(l, &p, &finish, plain.splits, |l, finish| fma::emit(l, &p, finish, &plain)),
    }
}

/// Emits a kernel that makes so many parts of every sum, and one that adds them if there are several.
fn in_parts(l: &mut Lowering, p: &Problem, finish: &Finish, parts: i64, emit: impl FnOnce(&mut Lowering, &Finish)) {
    if parts == 1 {
        return emit(l, finish);
    }
    let workspace = parts::Workspace::new(l, p, parts);
    emit(l, &workspace.finish(p, finish));
    parts::emit(l, p, finish, &workspace);
}

impl Problem {
    fn new(c: Contraction, name: String, loc: Loc) -> Problem {
        let of = |role: Role| c.axes.iter().filter(move |x| x.role == role);
        let sizes = |role: Role| of(role).map(|x| x.size.clone()).collect::<Vec<_>>();
        let batch = sizes(Role::Batch);
        let n = sizes(Role::Col)[0].clone();
        let mut strides = [of(Role::Row).map(|x| x.a.clone()).collect::<Vec<_>>()];
        let rows = coalesce(&sizes(Role::Row), &mut strides);
        let [strides] = strides;
        let mut lines: Vec<(Dim, Dim)> = rows.into_iter().zip(strides).collect();
        if lines.is_empty() {
            lines.push((Dim::ONE, Dim::ZERO));
        }
        let a_batch = of(Role::Batch).map(|x| x.a.clone()).collect();
        let a = Operand { place: c.a, batch: a_batch, lines, k: merge_k(&c.k), tile: None, image: false };
        let Second::View { place, batch: b_batch, k: b_k, n: b_n } = c.b;
        let b_k: Vec<(Dim, Dim)> = c.k.iter().map(|k| k.0.clone()).zip(b_k).collect();
        let b = Operand { place, batch: b_batch, lines: vec![(n.clone(), b_n)], k: merge_k(&b_k), tile: None, image: false };
        let k = Dim::product(c.k.iter().map(|k| &k.0));
        Problem { batch, m: a.count(), n, k, a, b, acc: c.acc, name, loc }
    }

    /// Estimates for the plan.
    fn cost(&self, finish: &Finish, tiles: &Dim, splits: i64) -> Cost {
        let batch = Dim::product(&self.batch);
        let elements = &(&batch * &self.m) * &self.n;
        let flops = &(&elements * &self.k) * &Dim::from(2i64);
        let (a, b) = (&self.m * &Dim::from(self.a.place.dtype.size()), &self.n * &Dim::from(self.b.place.dtype.size()));
        let operands = &(&batch * &(&a + &b)) * &self.k;
        let traffic = &operands + &(&elements * &Dim::from(finish.bytes * splits));
        // About 500 multiply-adds a nanosecond and multiprocessor.
        let tile_ns = flops.floor_div(&Dim::from(1000i64)).floor_div(&tiles.at_least(&Dim::ONE));
        Cost { tile_ns, flops, traffic }
    }
}

/// The tiles of a kernel.
struct Grid {
    batch: Vec<Dim>,
    rows: Dim,
    columns: Dim,
    splits: i64,
}

/// The tile at work.
struct Tile {
    batch: Vec<Val>,
    /// Where results go: the batch axes, after the part of the sum if it is split.
    batch_out: Vec<Val>,
    part: Val,
    /// Tile of rows and of columns.
    m: Val,
    n: Val,
}

impl Grid {
    fn new(p: &Problem, bm: i64, bn: i64, splits: i64) -> Grid {
        Grid { batch: p.batch.clone(), rows: p.m.ceil_div(&Dim::from(bm)), columns: p.n.ceil_div(&Dim::from(bn)), splits }
    }

    /// Number of tiles.
    fn tiles(&self) -> Dim {
        &(&(&Dim::product(&self.batch) * &self.rows) * &self.columns) * &Dim::from(self.splits)
    }

    fn open(&self, kb: &mut Kb) -> Tile {
        let number = kb.k.tile();
        let plane = &self.rows * &self.columns;
        let sizes = [&[Dim::from(self.splits)], &self.batch[..], &[plane]].concat();
        let mut index = kb.unflatten(number, &sizes);
        let flat = index.pop().expect("rows and columns");
        let (m, n) = self.order(kb, flat);
        let part = index[0];
        let batch = index.split_off(1);
        let batch_out = if self.splits == 1 { batch.clone() } else { [&[part], &batch[..]].concat() };
        Tile { batch, batch_out, part, m, n }
    }

    /// Tiles of rows and columns by number.
    fn order(&self, kb: &mut Kb, flat: Val) -> (Val, Val) {
        if self.columns.is(1) || self.rows.is(1) {
            let mut index = kb.unflatten(flat, &[self.rows.clone(), self.columns.clone()]);
            let n = index.pop().expect("columns");
            return (index[0], n);
        }
        let (rows, columns) = (kb.dim(&self.rows), kb.dim(&self.columns));
        let group = kb.k.mul_int(columns, GROUP);
        let (number, inside) = (kb.k.bin(BinOp::Div, flat, group), kb.k.bin(BinOp::Rem, flat, group));
        let first = kb.k.mul_int(number, GROUP);
        let left = kb.k.sub(rows, first);
        let most = kb.k.int(GROUP);
        let height = kb.min(left, most);
        let (n, m) = (kb.k.bin(BinOp::Div, inside, height), kb.k.bin(BinOp::Rem, inside, height));
        (kb.k.add(first, m), n)
    }
}

impl Tile {
    /// The chunks of this tile's part of the sum. The last chunk is not counted as whole if it has fewer terms.
    fn span(&self, kb: &mut Kb, p: &Problem, depth: i64, splits: i64) -> Span {
        let depth_dim = Dim::from(depth);
        let chunks = p.k.ceil_div(&depth_dim);
        let whole = p.k.floor_div(&depth_dim);
        let (staged, whole) = (kb.dim(&chunks), kb.dim(&whole));
        if splits == 1 {
            let first = kb.k.int(0);
            return Span { first, staged, whole };
        }
        let each = kb.dim(&chunks.ceil_div(&Dim::from(splits)));
        let skip = kb.k.mul(self.part, each);
        let first = kb.k.mul_int(skip, depth);
        let zero = kb.k.int(0);
        let cut = |kb: &mut Kb, end: Val| {
            let left = kb.k.sub(end, skip);
            let left = kb.max(left, zero);
            kb.min(left, each)
        };
        Span { first, staged: cut(kb, staged), whole: cut(kb, whole) }
    }
}

/// A branch that nothing comes out of.
fn when(kb: &mut Kb, cond: Val, then: impl FnOnce(&mut Kb)) {
    match kb.k.known(cond) {
        Some(c) if c.bits == 0 => {}
        Some(_) => then(kb),
        None => {
            let mut open = kb.k.begin_if(cond);
            then(kb);
            kb.k.begin_else(&mut open, &[]);
            kb.k.end_if(open, &[]);
        }
    }
}
