//! The small matrix products in the middle of an algorithm that saves multiplications ([`winograd`], [`strassen`]): rows of
//! transformed operands in scratch memory times panels of transformed weights, into scratch memory. And what such a kernel
//! takes, in the time of a vector multiply-add.

mod scaled;

use super::sum::{Start, Sum};
use super::*;
use scaled::Scaled;

/// Bytes a core gets from the last-level cache in the time of a multiply-add of 16 lanes.
pub(super) const CACHE_BYTES: f64 = 10.0;
/// Bytes a core gets from memory in that time. Weights come from there: those of a whole model seldom stay in a cache.
pub(super) const MEMORY_BYTES: f64 = 5.0;
/// Vector operations of transformations done in the time of a multiply-add.
pub(super) const OVERLAP: f64 = 1.4;
/// Tile tasks that keep a pool busy.
const TASKS: i64 = 8;

/// How a block of products is cut up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Register tile of the products: rows of operands by columns.
    pub(super) tile: Tile,
    /// Register tiles of a block.
    pub(super) rows: i64,
    /// Panels of a tile task.
    pub(super) panels: i64,
    /// Products are made by fast inner products, one vector of columns a tile.
    pub(super) fip: bool,
}

impl Block {
    /// Rows of operands.
    pub(super) fn len(&self) -> i64 { i64::from(self.tile.mr) * self.rows }

    /// Every block for so many rows and columns that the registers have room for, with one panel a task.
    pub(super) fn all(l: &Lowering, rows: i64, cols: i64) -> impl Iterator<Item = Block> {
        let lanes = i64::from(l.target.lanes(DType::F32));
        let registers = i64::from(l.target.vector_registers) - if l.target.vector_bytes <= 16 { 4 } else { 1 };
        let tiles = (1..=4).flat_map(move |nv| (1..registers).map(move |mr| (nv, mr)));
        let fit = tiles.filter(move |&(nv, mr)| mr * nv + nv <= registers && (nv - 1) * lanes < cols && (mr <= rows || mr == 1));
        fit.flat_map(move |(nv, mr)| {
            let tile = Tile { mr: mr as u32, nv: nv as u32, lanes: lanes as u32 };
            (1..=(96 / mr).clamp(1, (rows + mr - 1) / mr)).map(move |rows| Block { tile, rows, panels: 1, fip: false })
        })
    }

    /// Every block for so many rows whose products are fast inner products, with one panel a task.
    pub(super) fn all_fip(l: &Lowering, rows: i64) -> impl Iterator<Item = Block> {
        let lanes = l.target.lanes(DType::F32);
        let heights = l.target.adds_beside_multiplying().then_some(fip::HEIGHTS);
        heights.into_iter().flatten().filter(move |&mr| mr <= rows).flat_map(move |mr| {
            let tile = Tile { mr: mr as u32, nv: 1, lanes };
            (1..=(96 / mr).clamp(1, (rows + mr - 1) / mr)).map(move |rows| Block { tile, rows, panels: 1, fip: true })
        })
    }

    /// The panels of so many columns.
    pub(super) fn panels_of(&self, cols: i64) -> i64 { (cols + self.tile.nr() - 1) / self.tile.nr() }

    /// Panels of a tile task: all of them, unless the pool needs more tasks than there are blocks; but at least some columns,
    /// so that transforming the operands again for each task is a small part.
    pub(super) fn panels_of_task(&self, cols: i64, blocks: i64, least: i64) -> i64 {
        let tasks = ((TASKS + blocks - 1) / blocks).min((cols / least).max(1));
        (self.panels_of(cols) + tasks - 1) / tasks
    }

    /// Time of so many products of `terms` terms for each of `rows` rows and `cols` columns.
    pub(super) fn time(&self, rows: i64, cols: i64, products: i64, terms: i64) -> f64 {
        let (nv, mr) = (i64::from(self.tile.nv), i64::from(self.tile.mr));
        // The last block does only the register tiles it needs.
        let row_tiles = rows / self.len() * self.rows + (rows % self.len() + mr - 1) / mr;
        let product = if self.fip { fip::tile_time(mr, terms) } else { terms as f64 * step_time(self.tile) + 12.0 + 1.5 * (mr * nv) as f64 };
        (row_tiles * self.panels_of(cols) * products) as f64 * product
    }
}

/// Time of a step of a register tile: loads at two a cycle, and the latency of a dependent chain. Of vectors of 64 bytes one is
/// multiplied and added a cycle, of narrower ones two.
pub(super) fn step_time(tile: Tile) -> f64 {
    let (m, v) = (f64::from(tile.mr), f64::from(tile.nv));
    let cycle = if tile.lanes >= 16 { 1.0 } else { 2.0 };
    (m * v).max((m + v) * 0.6 * cycle).max(4.0 * cycle) + 0.05 * (m + v)
}

/// Time of the direct sum of a product of so many rows, terms and columns, in register tiles of a size.
pub(super) fn direct_time(l: &Lowering, tile: Tile, (rows, terms, cols): (i64, i64, i64)) -> f64 {
    let (tall, short) = row_heights(rows, i64::from(tile.mr));
    let of = |mr: u32, tiles: i64| {
        let block = Block { tile: Tile { mr, ..tile }, rows: 1, panels: 1, fip: false };
        block.time(tiles * i64::from(mr), cols, 1, terms)
    };
    let lanes = l.target.lanes(DType::F32);
    let time = of(tile.mr, tall) + if short > 0 { of(tile.mr - 1, short) } else { 0.0 };
    // Tiles of narrower vectors are taken where these are as much faster.
    let time = time * f64::from(tile.lanes) / f64::from(lanes);
    overlapped(lanes.into(), time, (4 * terms * cols) as f64 / MEMORY_BYTES)
}

/// Time of computing that goes on while data arrive; the latter is given for vectors of 16 lanes.
pub(super) fn overlapped(lanes: i64, compute: f64, stream: f64) -> f64 {
    let stream = stream * 16.0 / lanes.max(8) as f64;
    compute.max(stream) + 0.25 * compute.min(stream)
}

/// The products of a block, with their scratch memory.
pub(super) struct Products {
    tile: Tile,
    /// Terms of a product.
    terms: Dim,
    /// Matrices of a panel of weights.
    matrices: i64,
    /// Weights: `[panel][matrix][term][column]`.
    weights: Buf,
    unroll: u32,
    /// A block is one register tile high.
    single: bool,
    /// Transformed operands: `[product][row][term]`.
    pub x: Buf,
    /// Elements from row to row, and from product to product.
    pub x_row: Dim,
    pub x_product: Dim,
    /// Products: `[product][row][column]`.
    pub y: Buf,
    pub y_product: i64,
    /// Rows of a block.
    len: i64,
    fip: Option<Scaled>,
}

impl Products {
    /// Room for `most` products of the rows of a block.
    pub fn new(l: &Lowering, kb: &mut Kb, block: &Block, most: i64, terms: &Dim, (weights, matrices): (Buf, i64)) -> Products {
        let (tile, lanes) = (block.tile, i64::from(block.tile.lanes));
        // An odd number of vectors from row to row: powers of two would meet in few sets of the cache.
        let vectors = terms.ceil_div(&Dim::from(lanes));
        let odd = &(&vectors.floor_div(&Dim::from(2i64)) * &Dim::from(2i64)) + &Dim::ONE;
        let x_row = &odd * &Dim::from(lanes);
        let x_product = &(&x_row * &Dim::from(block.len())) + &Dim::from(lanes);
        let y_product = block.len() * tile.nr() + lanes;
        Products {
            tile,
            terms: terms.clone(),
            matrices,
            weights,
            unroll: if l.target.vector_bytes <= 16 { 8 } else { 1 },
            single: block.rows == 1,
            x: kb.scratch("operands", DType::F32, &(&x_product * &Dim::from(most))),
            x_row,
            x_product,
            y: kb.scratch("products", DType::F32, &Dim::from(y_product * most)),
            y_product,
            len: block.len(),
            fip: None,
        }
    }

    /// A place `i` pitches after another: an address, and what is known of the distance.
    pub fn along(kb: &mut Kb, at: Val, i: i64, pitch: &Dim) -> (Val, i64) {
        match pitch.as_const() {
            Some(pitch) => (at, i * pitch),
            None => {
                let pitch = kb.dim(pitch);
                let shift = kb.k.mul_int(pitch, i);
                (kb.k.add(at, shift), 0)
            }
        }
    }

    /// So many products of a block's operands with a panel of weights, of which product `i` takes matrix `i` modulo `period`.
    pub fn multiply(&self, kb: &mut Kb, panel: Val, row_tiles: Val, (products, period): (i64, i64)) {
        let (mr, lanes) = (i64::from(self.tile.mr), i64::from(self.tile.lanes));
        let all = kb.k.int(products);
        let zero = kb.k.int(0);
        let matrix = kb.dim(&(&self.terms * &Dim::from(self.tile.nr())));
        let (x_product, x_row) = (kb.dim(&self.x_product), kb.dim(&self.x_row));
        let sum = self.sum();
        let rows: Vec<(Val, i64)> = (0..mr).map(|row| Products::along(kb, zero, row, &self.x_row)).collect();
        let first = kb.k.mul_int(panel, self.matrices);
        let product = kb.k.begin_for((zero, all, 1), &[], LoopHint::Plain);
        let number = if products > period {
            let period = kb.k.int(period);
            kb.k.bin(BinOp::Rem, product.var, period)
        } else {
            product.var
        };
        let number = kb.k.add(first, number);
        let b = kb.k.mul(number, matrix);
        let a = kb.k.mul(product.var, x_product);
        let y = kb.k.mul_int(product.var, self.y_product);
        let row_tile = kb.k.begin_for((zero, row_tiles, 1), &[], LoopHint::Plain);
        let row = kb.k.mul_int(row_tile.var, mr);
        let skip = kb.k.mul(row, x_row);
        let a = kb.k.add(a, skip);
        let skip = kb.k.mul_int(row, self.tile.nr());
        let y = kb.k.add(y, skip);
        let next = kb.k.add(b, matrix);
        let fetch = if self.single { Some(sum.fetch_whole(next)) } else { sum.fetch(kb, (b, next), self.tile.mr, row_tile.var) };
        let at = Start { rows: a, panel: b, fetch };
        let accs = sum.emit(kb, at, &rows);
        for (i, acc) in accs.into_iter().enumerate() {
            kb.k.store(self.y, y, i as i64 * lanes, acc, None);
        }
        kb.k.end_for(row_tile, &[]);
        kb.k.end_for(product, &[]);
    }

    /// The sums over the terms.
    fn sum(&self) -> Sum {
        let k = vec![(self.terms.clone(), Dim::ONE)];
        let (from, panels, tile, unroll) = (self.x, self.weights, self.tile, self.unroll);
        Sum { from, panels, tile, acc: DType::F32, k, pitch: tile.nr(), unroll, totals: None, far: false, quads: None, matrices: None, fip: false }
    }
}
