//! Whether a matrix product is worth the algorithm, and in which blocks, from estimates of time.

use super::*;
use crate::kernels::contract::products::{Block, CACHE_BYTES, MEMORY_BYTES, OVERLAP, direct_time, overlapped};

/// Share of the direct kernel's time that the estimate must not exceed. Measured times are about 0.93 of the estimates.
const GAIN: f64 = 1.05;
/// Time of a panel's vector that comes from the second-level cache.
const STREAM: f64 = 0.1;
/// Bytes of panels that are fetched ahead from the last-level cache in the time of a multiply-add of 16 lanes, where all of them
/// are a small part of it; larger ones come at [`CACHE_BYTES`].
const FETCHED_BYTES: f64 = 16.0;
/// Columns of a half that a task should have, so that transforming the operands again for each is a small part.
const TASK_COLUMNS: i64 = 64;

/// Sizes that decide.
pub(super) struct Sizes {
    /// Rows; a batch of unknown size is taken for one.
    pub rows: i64,
    pub terms: i64,
    pub cols: i64,
}

impl Sizes {
    /// The best blocks, if they beat the direct sum. They are one register tile high: more would have their operands and
    /// products leave the first-level cache, and panels come fast enough from the second.
    pub fn scheme(&self, l: &Lowering, direct: Tile) -> Option<Block> {
        let pairs = (self.rows + 1) / 2;
        let cuts = Block::all(l, pairs, self.cols / 2).filter(|block| block.rows == 1).map(|block| {
            let blocks = (pairs + block.len() - 1) / block.len();
            let block = Block { panels: block.panels_of_task(self.cols / 2, blocks, TASK_COLUMNS), ..block };
            (self.time(l, &block, pairs), block)
        });
        let (time, block) = cuts.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (time < GAIN * direct_time(l, direct, (self.rows, self.terms, self.cols))).then_some(block)
    }

    fn time(&self, l: &Lowering, block: &Block, pairs: i64) -> f64 {
        let lanes = i64::from(l.target.lanes(DType::F32));
        let products = PAIRED.operands.len() as i64;
        let (terms, cols) = (self.terms / 2, self.cols / 2);
        let panels = block.panels_of(cols);
        let (blocks, tasks) = ((pairs + block.len() - 1) / block.len(), (panels + block.panels - 1) / block.panels);
        let steps = blocks * panels * products * terms;
        let multiply = block.time(pairs, cols, products, terms) + STREAM * (steps * i64::from(block.tile.nv)) as f64;
        let vectors = |n: i64| ((n + lanes - 1) / lanes) as f64;
        // For a vector of a pair's operands: four loads, four squares, and a sum and a store for each product.
        let mut operands = vectors(terms) * (8.0 + 2.0 * products as f64) + 40.0;
        // For a vector of its results: a load for each product, sums, and two times four stores.
        let mut results = vectors(cols) * (products as f64 + 24.0) / OVERLAP + 15.0 * panels as f64;
        let [first, second, third] = l.target.cache_bytes.map(|bytes| bytes as f64);
        // What leaves the first-level cache: nothing of a block that fills less than three quarters of it.
        let block_bytes = (4 * (products * block.len() * (terms + block.tile.nr()) + terms * block.tile.nr())) as f64;
        let misses = products as f64 * ((block_bytes / first - 0.75) / 0.75).clamp(0.0, 1.0);
        operands += vectors(terms) * misses;
        results += vectors(cols) * misses;
        let compute = multiply + pairs as f64 * (tasks as f64 * operands + results);
        let weights = (4 * products * terms * cols) as f64;
        // Panels that do not stay in the second-level cache come from beyond for each block.
        let rate = if weights > third / 8.0 { CACHE_BYTES } else { FETCHED_BYTES };
        let far = if weights > 0.8 * second { weights * blocks as f64 / rate * 16.0 / lanes as f64 } else { 0.0 };
        overlapped(lanes, compute.max(far), weights / MEMORY_BYTES)
    }
}
