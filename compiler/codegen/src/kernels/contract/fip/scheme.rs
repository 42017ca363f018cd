//! Whether a product is worth it, and in which blocks, from estimates of time.

use super::kernel::{FEW_ROWS, ROWS_AT_ONCE};
use super::*;
use crate::kernels::contract::products::{MEMORY_BYTES, overlapped};

/// Share of the direct kernel's time that the estimate must not exceed.
const GAIN: f64 = 0.95;
/// Time of a multiply-add in a step, of that in a direct sum.
const STEP_TIME: f64 = 0.69;
/// Rows below which it never wins.
const LEAST_ROWS: i64 = 12;
/// Rows from which on it is faster than the direct sum, where those are known when the model runs.
const DIRECT_ROWS: i64 = 16;
/// Terms below which it never wins.
const LEAST_TERMS: i64 = 12;
/// Tile tasks that keep a pool busy.
const TASKS: i64 = 8;
/// Columns that a task should have, so that copying rows again for each is a small part.
const TASK_COLUMNS: i64 = 192;
/// The least and the most rows of a register tile.
pub(in crate::kernels::contract) const HEIGHTS: std::ops::RangeInclusive<i64> = 12..=24;

/// How a product is cut up.
#[derive(Clone, Debug)]
pub(super) struct Scheme {
    /// Register tile: one vector of columns.
    pub tile: Tile,
    /// Register tiles of a task's rows.
    pub tiles: i64,
    /// Panels of a task.
    pub panels: i64,
    /// Rows below which the direct kernel is launched, which has weights of its own.
    pub least_rows: Option<i64>,
}

impl Scheme {
    /// Rows of a task.
    pub fn len(&self) -> i64 { i64::from(self.tile.mr) * self.tiles }
}

/// Sizes that decide.
pub(super) struct Sizes<'a> {
    pub rows: &'a [Dim],
    pub terms: i64,
    pub cols: i64,
    /// Rows are read as they are.
    pub plain: bool,
}

impl Sizes<'_> {
    /// The best scheme, if it beats the direct sum in register tiles of a size.
    pub fn scheme(&self, l: &Lowering, direct: Tile) -> Option<Scheme> {
        let rows = Dim::product(self.rows);
        // Batches are mostly of one; rows that are none or one then are of any number.
        let (expected, known) = row_count(&rows);
        if expected < LEAST_ROWS || self.terms < LEAST_TERMS {
            return None;
        }
        let lanes = l.target.lanes(DType::F32);
        let all = HEIGHTS.map(|mr| (self.time(lanes, expected, mr), mr));
        let (time, mr) = if known { all.min_by(|a, b| a.0.total_cmp(&b.0))? } else { all.last()? };
        if time > GAIN * direct_time(l, direct, (expected, self.terms, self.cols)) {
            return None;
        }
        let tile = Tile { mr: mr as u32, nv: 1, lanes };
        let panels = self.panels(lanes);
        let second = l.target.cache_bytes[1] as i64;
        let weights = 4 * self.terms * panels * i64::from(lanes);
        // Weights that stay near are read again for every register tile; others for as many as fit.
        let most = if 2 * weights <= second { 1 } else { (A_BLOCK_BYTES / (4 * mr * self.terms)).max(1) };
        let tiles = most.min((expected + mr - 1) / mr);
        let blocks = (expected + tiles * mr - 1) / (tiles * mr);
        // Where there may be one row only, copying it is more beside the sums.
        let columns = if known { TASK_COLUMNS } else { 2 * TASK_COLUMNS };
        let tasks = ((TASKS + blocks - 1) / blocks).min((self.cols / columns).max(1));
        // Of large weights there are not two copies; what few rows cost is little beside reading them from memory.
        let least_rows = (!known && weights <= second).then_some(DIRECT_ROWS);
        Some(Scheme { tile, tiles, panels: (panels + tasks - 1) / tasks, least_rows })
    }

    fn panels(&self, lanes: u32) -> i64 { (self.cols + i64::from(lanes) - 1) / i64::from(lanes) }

    /// Time in register tiles of so many rows.
    fn time(&self, lanes: u32, rows: i64, mr: i64) -> f64 {
        let (tiles, few) = if rows % mr < FEW_ROWS { (rows / mr, rows % mr) } else { (rows / mr + 1, 0) };
        let sum = tile_time(mr, self.terms);
        let copy = row_time(lanes, self.terms) * if self.plain { 1.0 } else { 1.5 };
        let turns = (few + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
        let directly = (turns * ROWS_AT_ONCE) as f64 * (1.1 * self.terms as f64 + 10.0);
        let compute = self.panels(lanes) as f64 * (tiles as f64 * sum + directly) + rows as f64 * copy;
        overlapped(lanes.into(), compute, (4 * self.terms * self.cols) as f64 / MEMORY_BYTES)
    }
}

/// Time of a register tile of so many rows and terms.
pub(in crate::kernels::contract) fn tile_time(mr: i64, terms: i64) -> f64 {
    let (sixes, rest) = (terms / SIX * SIX, terms % SIX);
    mr as f64 * (sixes as f64 * STEP_TIME + rest as f64 + 3.0) + 40.0
}

/// Time of scaling a row of so many terms: it is read twice and written.
pub(in crate::kernels::contract) fn row_time(lanes: u32, terms: i64) -> f64 {
    ((terms + i64::from(lanes) - 1) / i64::from(lanes)) as f64 * 6.0 + 30.0
}
