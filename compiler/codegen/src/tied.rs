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

use xlac_ir::dim::Dim;
use xlac_ir::weights::{WeightId, Weights};

use crate::kb::Place;
use crate::lower::Lowering;
use crate::memory;
use crate::pack::{Blob, Pack, Source};
use crate::plan::{Plan, Storage};
use crate::view::{Layout, View};

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

/// Where the elements of a matrix lie that is in panels: by the number of the panel, the term, and the line in the panel.
pub struct Panelled {
    /// Of three axes.
    pub place: Place,
    /// Axis of the matrix that is cut into panels.
    pub axis: usize,
    /// Lines of a panel.
    pub width: i64,
}

/// The panels that elements are read from instead, if a place is the whole of a tied weight, transposed or not.
pub fn panelled(l: &mut Lowering, place: &Place) -> Option<Panelled> {
    let Storage::Blob(index) = l.plan.buffers[place.buffer.0 as usize].storage else { return None };
    let blob = &l.plan.blobs[index as usize];
    let (Pack::Plain, Source::Weight(id)) = (&blob.pack, &blob.source) else { return None };
    let panels = l.tied.get(id).filter(|panels| panels.blob.dtype == place.dtype)?.clone();
    let shape: Vec<Dim> = l.weights.get(*id).tensor.shape.iter().map(|&n| Dim::from(n)).collect();
    let dense = View::dense(&shape, Layout::RowMajor);
    let axis = match &place.view {
        view if *view == dense => panels.axis,
        view if *view == dense.transpose(&[1, 0]) => 1 - panels.axis,
        _ => return None,
    };
    let strides = [panels.terms * panels.width, panels.width, 1].map(Dim::from).to_vec();
    let (width, dtype) = (panels.width as i64, panels.blob.dtype);
    let place = Place { buffer: l.blob(panels.blob), view: View { offset: Dim::ZERO, strides }, dtype };
    Some(Panelled { place, axis, width })
}

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
    let is_whole = pack.offset == 0 && *terms == rest && pack.limits == [(0, 2, lines)];
    is_whole.then(|| (*id, Panels { blob: blob.clone(), axis, width: *width, terms: rest }))
}
