//! Tied weights: tables whose rows a model reads and with which it multiplies as well, as language models do with their
//! embeddings. The product wants the table in panels; rows are then read from the panels too, so that it is stored once. A
//! row costs a cache line per element instead of one per sixteen, which is nothing beside the product.
//!
//! ```text
//! table[row][term]  =  panels[row / width][term][row % width]
//! ```
//!
//! Which panels a product wants is known when it is lowered, and what reads rows is lowered before. So such programs are
//! lowered twice.

use std::collections::HashMap;

use xlac_ir::weights::{WeightId, Weights};

use crate::memory;
use crate::pack::{Blob, Pack, Source};
use crate::plan::{Plan, Storage};

/// Bytes of a table from which a second copy counts.
const LEAST: usize = 64 << 10;

/// A whole matrix, in panels.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    /// The constant data.
    pub blob: Blob,
    /// Axis of the matrix that is cut into panels.
    pub axis: usize,
    /// Lines of a panel along that axis.
    pub width: usize,
    /// Size of the other axis.
    pub terms: usize,
}

/// Weights that are there in panels.
pub type Tied = HashMap<WeightId, Panels>;

/// The weights that the kernels of a plan read both as they are and in panels.
pub fn find(plan: &Plan, weights: &Weights) -> Tied {
    let plain = |id: WeightId| {
        used(plan).any(|b| b.source == Source::Weight(id) && b.pack == Pack::Plain && b.bytes(weights) >= LEAST)
    };
    used(plan).filter_map(|blob| panels(blob, weights)).filter(|(id, _)| plain(*id)).collect()
}

/// Bytes of constant data that the kernels of a plan read.
pub fn bytes(plan: &Plan, weights: &Weights) -> usize { used(plan).map(|blob| blob.bytes(weights)).sum() }

fn used(plan: &Plan) -> impl Iterator<Item = &Blob> {
    memory::touched(plan).into_iter().filter_map(|id| match plan.buffers[id.0 as usize].storage {
        Storage::Blob(index) => Some(&plan.blobs[index as usize]),
        _ => None,
    })
}

/// What a blob is, if it is a whole weight in panels.
fn panels(blob: &Blob, weights: &Weights) -> Option<(WeightId, Panels)> {
    let (Source::Weight(id), Pack::Strided(pack)) = (&blob.source, &blob.pack) else { return None };
    let [rows, cols] = weights.get(*id).tensor.shape[..] else { return None };
    let ([_, terms, width], [_, term, line]) = (&pack.shape[..], &pack.strides[..]) else { return None };
    let (axis, lines, rest) = match (*line, *term) {
        (line, 1) if line == cols => (0, rows, cols),
        (1, term) if term == cols => (1, cols, rows),
        _ => return None,
    };
    let is_whole = pack.offset == 0 && *terms == rest && pack.limit == Some((0, 2, lines));
    is_whole.then(|| (*id, Panels { blob: blob.clone(), axis, width: *width, terms: rest }))
}
