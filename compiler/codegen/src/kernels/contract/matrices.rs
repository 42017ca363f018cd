//! Sums of 8-bit products by matrices in registers (AMX): sixteen rows and sixteen columns gain sixty-four terms an
//! instruction.
//!
//! The panels are those of steps of four terms (`quads`): sixteen such steps lie as the instruction wants its second factor.
//! The first factor is read from where it is, its rows a stride apart. A block is two matrices of rows by two of columns, or
//! one by four, so that four sums are under way and the loads are shared; blocks of more than one matrix, but less than two,
//! overlap them. All matrices are as large as registers allow, so that one shape serves all rows, but for axes shorter than
//! that.
//!
//! Terms left over at the end of the innermost axis cannot be read by a load of whole rows: what is next to them may not
//! exist, and is part of another sum. The last step of a sum reads as many terms as the others, from further ahead, and its
//! rows are copied, with zeros where terms were summed up before or are past the last.
//!
//! The sums go to scratch memory, from which the epilogue takes them row by row.

use xlac_ir::backend::Target;
use xlac_ir::kernel::matrix::{ROW_BYTES, ROWS};

use super::sum::{Start, Sum};
use super::*;

/// Rows of a matrix, and columns of a matrix of sums.
const SIDE: u32 = ROWS;
/// Terms of a step.
const STEP: i64 = ROW_BYTES as i64;
/// Rows of the highest block.
const BLOCK: u32 = 2 * SIDE;
/// Matrices of sums in registers.
const SUMS: u32 = 4;
/// Fewest rows that are summed by matrices.
const LEAST_ROWS: i64 = 2;

/// How sums are made by matrices.
pub(super) struct Matrices {
    /// Terms of the innermost axis.
    terms: i64,
    /// Blocks of fewer rows are made without matrices.
    least: u32,
    /// Scratch memory for rows of the last step, if they are copied.
    pub edge: Option<Buf>,
}

/// Some of the columns of a block of rows.
struct Block {
    /// First row of each matrix of rows.
    starts: Vec<u32>,
    /// Rows of a matrix.
    rows: u32,
    /// First vector of columns, and how many.
    columns: (u32, u32),
    /// Rows of the block.
    height: u32,
    /// Elements from row to row of the first factor.
    stride: Val,
}

/// The last step along the innermost axis.
struct Last {
    /// The step of four terms it begins with.
    quad: i64,
    /// Terms before that are summed up already, after that are past the last.
    terms: (i64, i64),
    /// Terms it reads.
    width: u32,
}

impl Matrices {
    /// The register tile for sums by matrices and its estimated time in cycles, if the target and the operands allow it: steps
    /// of four terms along `k`, of which the innermost axis has `terms`. `meet`: rows share one or two sets of the first-level
    /// cache.
    pub fn of(
        target: &Target,
        rows: &Dim,
        cols: &Dim,
        k: &[(Dim, Dim)],
        terms: i64,
        meet: bool,
    ) -> Option<(f64, Tile, Matrices)> {
        let exist = target.has("amx-tile") && target.has("amx-int8") && target.lanes(DType::I32) == SIDE;
        let enough = rows.as_const().is_none_or(|n| n >= LEAST_ROWS);
        if !exist || !enough {
            return None;
        }
        let mr = rows.as_const().map_or(BLOCK, |n| n.min(i64::from(BLOCK)) as u32);
        let matrices = Matrices { terms, least: mr.min(SIDE), edge: None };
        let n = cols.as_const().unwrap_or(1024).max(1);
        let outer = hint(&Dim::product(k[..k.len() - 1].iter().map(|k| &k.0))).max(1);
        let mut tiles: Vec<Tile> = (1..=SUMS).map(|nv| Tile { mr, nv, lanes: SIDE }).collect();
        // Single rows, which are made without matrices, want many vectors.
        if rows.as_const().is_none() {
            tiles.reverse();
        }
        tiles.retain(|t| t.nv == 1 || i64::from((t.nv - 1) * SIDE) < n);
        let timed = tiles.into_iter().map(|tile| (matrices.time(rows, n, outer, tile, meet), tile));
        let (time, tile) = timed.reduce(|best, next| if next.0 < best.0 { next } else { best })?;
        Some((time, tile, matrices))
    }

    /// Estimated cycles of all blocks. A product of whole matrices takes 16 cycles and gives its sum after 52 (Intel 64 and
    /// IA-32 Architectures Optimization Reference Manual, chapter "Intel AMX"); rows come at one a cycle, from the
    /// second-level cache at less.
    fn time(&self, rows: &Dim, n: i64, outer: i64, tile: Tile, meet: bool) -> f64 {
        let (rows, _) = row_count(rows);
        let (blocks, rest) = (rows / i64::from(tile.mr), rows % i64::from(tile.mr));
        let panels = (n + tile.nr() - 1) / tile.nr();
        let steps = (outer * ((self.terms + STEP - 1) / STEP)) as f64;
        let part = |height: u32, columns: u32| {
            let (m, v) = (starts(height).len() as f64, f64::from(columns));
            let missed = if meet { 16.0 * m } else { 0.0 };
            let step = (16.0 * m * v).max(52.0).max(8.0 * (m + v)) + 3.2 * m + 5.6 * v + missed;
            let copies = if self.copies() { outer as f64 * 1.5 * f64::from(height) } else { 0.0 };
            step * steps + copies + 20.0 + 33.0 * m * v
        };
        let block = |height: u32| columns(height, tile.nv).into_iter().map(|c| part(height, c.1)).sum::<f64>();
        let last =
            if rest == 0 { 0.0 } else { block(if rest <= i64::from(SIDE) { tile.mr.min(SIDE) } else { tile.mr }) };
        panels as f64 * (blocks as f64 * block(tile.mr) + last)
    }

    /// True if a block of so many rows is made by matrices.
    pub fn take(&self, height: u32) -> bool {
        height >= self.least
    }

    /// The last step, if it is not like the others.
    fn last(&self) -> Option<Last> {
        let (whole, rest) = (self.terms / STEP, self.terms % STEP);
        if rest == 0 {
            return None;
        }
        let quads = (self.terms + 3) / 4;
        let width = (4 * quads).min(STEP);
        let quad = quads - width / 4;
        Some(Last { quad, terms: (whole * STEP - 4 * quad, 4 * quads - self.terms), width: width as u32 })
    }

    /// True if rows of the last step are copied.
    pub fn copies(&self) -> bool {
        self.last().is_some_and(|last| last.terms.0.max(last.terms.1) > 0)
    }

    /// Elements of scratch memory for the copies.
    pub fn edge_len() -> i64 {
        i64::from(BLOCK) * STEP
    }
}

/// First rows of the matrices of a block: two overlap if it is less than twice as high as they are.
fn starts(height: u32) -> Vec<u32> {
    if height <= SIDE { vec![0] } else { vec![0, height - SIDE] }
}

/// How the vectors of a panel are divided: first ones and counts.
fn columns(height: u32, nv: u32) -> Vec<(u32, u32)> {
    let most = SUMS / starts(height).len() as u32;
    (0..nv).step_by(most as usize).map(|first| (first, most.min(nv - first))).collect()
}

impl Sum {
    /// The sums of a block of rows that are `stride` elements apart, stored in scratch memory, row after row of a panel's
    /// width.
    pub(super) fn emit_matrices(&self, kb: &mut Kb, m: &Matrices, at: Start, (height, stride): (u32, Val), to: Buf) {
        let rows = height.min(SIDE);
        let (zero, width) = (kb.k.int(0), kb.k.int(self.tile.nr()));
        for (first, count) in columns(height, self.tile.nv) {
            let block = Block { starts: starts(height), rows, columns: (first, count), height, stride };
            let zeros = (0..block.starts.len() * count as usize).map(|_| kb.k.matrix_zero(rows, SIDE)).collect();
            let fetch = at.fetch.filter(|_| first == 0);
            let sums = self.matrix_nest(kb, m, 0, Start { fetch, ..at }, &block, zeros);
            for (i, &sum) in (0..).zip(&sums) {
                let row = i64::from(block.starts[i / count as usize]) * self.tile.nr();
                let column = i64::from(first + i as u32 % count) * i64::from(SIDE);
                kb.k.matrix_store((to, zero, row + column), width, sum, rows);
            }
        }
    }

    /// The loops over the terms from axis `level` on.
    fn matrix_nest(
        &self,
        kb: &mut Kb,
        m: &Matrices,
        level: usize,
        at: Start,
        block: &Block,
        sums: Vec<Val>,
    ) -> Vec<Val> {
        if level + 1 == self.k.len() {
            return self.matrix_steps(kb, m, at, block, sums);
        }
        let (zero, hi) = (kb.k.int(0), kb.dim(&self.k[level].0));
        let open = kb.k.begin_for((zero, hi, 1), &sums, LoopHint::Plain);
        let sums = open.phis.clone();
        let at = self.step_to(kb, level, at, open.var);
        let next = self.matrix_nest(kb, m, level + 1, at, block, sums);
        kb.k.end_for(open, &next)
    }

    /// The steps along the innermost axis.
    fn matrix_steps(&self, kb: &mut Kb, m: &Matrices, at: Start, block: &Block, mut sums: Vec<Val>) -> Vec<Val> {
        let (level, quads) = (self.k.len() - 1, STEP / 4);
        let whole = m.terms / STEP;
        if whole > 0 {
            let (zero, hi) = (kb.k.int(0), kb.k.int(whole * quads));
            let open = kb.k.begin_for((zero, hi, quads), &sums, LoopHint::Plain);
            let at = self.step_to(kb, level, at, open.var);
            self.bring(kb, at, quads);
            let next = self.matrix_step(
                kb,
                (self.from, at.rows, block.stride),
                at.panel,
                STEP as u32,
                block,
                &open.phis.clone(),
            );
            sums = kb.k.end_for(open, &next);
        }
        let Some(last) = m.last() else { return sums };
        let quad = kb.k.int(last.quad);
        let at = self.step_to(kb, level, at, quad);
        self.bring(kb, at, i64::from(last.width / 4));
        let rows = match m.edge {
            Some(edge) => self.copied_rows(kb, &last, at, block, edge),
            None => (self.from, at.rows, block.stride),
        };
        self.matrix_step(kb, rows, at.panel, last.width, block, &sums)
    }

    /// Adds the products of `width` terms: rows of the first factor a stride apart, and the panel.
    fn matrix_step(
        &self,
        kb: &mut Kb,
        (from, first, stride): (Buf, Val, Val),
        panel: Val,
        width: u32,
        block: &Block,
        sums: &[Val],
    ) -> Vec<Val> {
        let pitch = kb.k.int(self.pitch);
        let rows: Vec<Val> = block
            .starts
            .iter()
            .map(|&start| {
                let skip = kb.k.mul_int(stride, i64::from(start));
                let at = kb.k.add(first, skip);
                kb.k.matrix_load((from, at, 0), stride, block.rows, width)
            })
            .collect();
        let mut next = sums.to_vec();
        let (column, count) = block.columns;
        for j in 0..count {
            let shift = i64::from(4 * SIDE * (column + j));
            let b = kb.k.matrix_load((self.panels, panel, shift), pitch, width / 4, 4 * SIDE);
            for (i, &a) in rows.iter().enumerate() {
                let sum = &mut next[i * count as usize + j as usize];
                *sum = kb.k.matrix_dot4(a, b, *sum, block.rows);
            }
        }
        next
    }

    /// Copies the rows of the last step, with zeros for what is no term of it; where they are and their stride.
    fn copied_rows(&self, kb: &mut Kb, last: &Last, at: Start, block: &Block, edge: Buf) -> (Buf, Val, Val) {
        let (zero, width) = (kb.k.int(0), last.width);
        let height = kb.k.int(i64::from(block.height));
        let dtype = kb.k.buf_dtype(edge);
        let (done, past) = last.terms;
        let open = kb.k.begin_for((zero, height, 1), &[], LoopHint::Unroll(4));
        let skip = kb.k.mul(open.var, block.stride);
        let from = kb.k.add(at.rows, skip);
        let count = (past > 0).then(|| kb.k.int(i64::from(width) - past));
        let mut x = kb.k.load(self.from, from, 0, width, count);
        if done > 0 {
            let none = kb.k.splat_const(Const::int(dtype, 0), width);
            let first = kb.k.constant(Const::int(DType::U8, 0));
            let number = kb.k.iota(first, width);
            let least = kb.k.splat_const(Const::int(DType::U8, done), width);
            let new = kb.k.cmp(Pred::Ge, number, least);
            x = kb.k.select(new, x, none);
        }
        let to = kb.k.mul_int(open.var, STEP);
        kb.k.store(edge, to, 0, x, None);
        kb.k.end_for(open, &[]);
        (edge, zero, kb.k.int(STEP))
    }
}
