//! Matrix products and convolutions with constant weights in two thirds of the multiplications (S. Winograd, "A New Algorithm
//! for Inner Product", 1968), for processors that add beside multiplying.
//!
//! ```text
//! (x1 + y2)(x2 + y1)  =  x1 y1 + x2 y2  +  x1 x2  +  y1 y2
//! ```
//!
//! Two terms take one multiplication and two additions. The last two summands depend on the row alone and the column alone:
//! they are summed up before, and taken off. Of six terms two pairs are multiplied in this way, and two terms directly, which
//! makes four multiply-adds and four additions. Pairs have either sign, `(y2 - x1)(x2 - y1)` is the other, so that what is
//! taken off does not grow with the number of terms, even if all operands are positive: of twelve terms, which make a step,
//! the signs are `+ -` and then `- +`.
//!
//! A tile task copies some rows to scratch memory, multiplied by powers of two that give each the norm of a typical column,
//! with their windows unrolled; then, panel by panel, come register tiles of many rows by one vector of columns, and from
//! each the results with their epilogue.
//!
//! Limit: a multiply-add and an addition a cycle and accumulator, which is two thirds of the direct sum's time.
//!
//! **Errors.** They are relative to the norms of the row and of the column that are multiplied, which are made alike: rows when
//! the model runs, columns and terms, where they differ, when the artifact is made (`scales`). No row or column has an
//! influence on another. The root mean square of the errors against f64 is at most 4 times that of a plain f32 sum in every row
//! and 8 times in every column, for dense weights; 16 times for rows made to follow the signs of the pairs. Rows that hold an
//! infinity or NaN, or whose squares leave the range of f32, are summed directly, and so are few that are left over by the
//! register tiles. `fast` numerics only.

mod filters;
mod kernel;
mod rows;
mod scales;
mod scheme;
mod sums;

use super::panels::packed_blob;
use super::products::direct_time;
use super::weights::{Matrix, constant, inverses, numbers};
use super::*;
use crate::pack::{Scaled, dense, offsets};
use scales::Scales;
use scheme::{Scheme, Sizes};
use xlac_ir::tensor::Tensor;

pub(super) use filters::{FilterScales, fits};
pub(super) use rows::{Rows, signs};
pub(super) use scheme::{HEIGHTS, row_time, tile_time};
pub(super) use sums::Sums;

/// Terms of which two pairs and two single ones are taken.
const SIX: i64 = 6;
/// Terms of a step of the loop.
pub(super) const STEP: i64 = 2 * SIX;

/// The terms of each pair among six.
const PAIRS: [(i64, i64); 2] = [(0, 2), (1, 3)];

/// True if what a pair adds is taken off instead, in the sixes of an even or an odd number.
fn is_opposite(pair: usize, six: i64) -> bool { (pair as i64 + six) % 2 == 1 }

/// A contraction that is worth it.
pub(super) struct Product {
    scheme: Scheme,
    scales: Scales,
    weights: Blob,
    /// Sizes and strides of the sum's axes in the first operand, and all terms.
    k: Vec<(i64, Dim)>,
    terms: i64,
    cols: i64,
}

impl Product {
    /// The product that a contraction is, whose direct sum would take register tiles of this size; if there is a gain.
    pub fn of(l: &Lowering, c: &Contraction, rows: &[Dim], direct: Tile) -> Option<Product> {
        let Second::View { place, batch, k: b_k, n } = &c.b;
        let Storage::Blob(index) = l.plan.buffers[place.buffer.0 as usize].storage else { return None };
        if l.exact() || !l.target.adds_beside_multiplying() || c.acc != DType::F32 || !batch.is_empty() || c.part.is_some() {
            return None;
        }
        let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok());
        let nest = c.k.iter().zip(b_k).map(|(k, b)| Some((size(&k.0)?, size(b)?))).collect::<Option<Vec<_>>>()?;
        let col = c.axes.iter().find(|x| x.role == Role::Col).expect("one column axis");
        let (cols, offset) = ((size(&col.size)?, size(n)?), size(&place.view.offset)?);
        let k = merge_k(&c.k).iter().map(|(n, stride)| Some((n.as_const()?, stride.clone()))).collect::<Option<Vec<_>>>()?;
        if !k.last().is_some_and(|k| k.1.is(1)) {
            return None;
        }
        let terms = nest.iter().map(|k| k.0 as i64).product();
        let plain = k.len() == 1 && c.a.dtype == DType::F32;
        let scheme = Sizes { rows, terms, cols: cols.0 as i64, plain }.scheme(l, direct)?;
        let source = l.plan.blobs[index as usize].source.clone();
        let tensor = source.tensor(l.weights);
        let scales = Scales::of(&Matrix { values: &dense(tensor, &offsets(&nest), cols, offset), cols: cols.0 })?;
        let width = scheme.tile.nr();
        let weights = if scales.is_plain() {
            let k_sizes: Vec<Dim> = c.k.iter().map(|k| k.0.clone()).collect();
            packed_blob(l, place, batch, b_k, n, &k_sizes, &col.size, width, &[], DType::F32, false)?
        } else {
            let pack = Scaled { terms: nest, cols, offset, width: width as usize, exponents: scales.exponents(terms as usize, cols.0) };
            Blob { source, pack: Pack::Scaled(pack), dtype: DType::F32 }
        };
        Some(Product { scheme, scales, weights, k, terms, cols: cols.0 as i64 })
    }

    /// Rows from which on it is faster than the direct sum, if that is launched for fewer.
    pub fn least_rows(&self) -> Option<i64> { self.scheme.least_rows }

    /// Launches the kernel.
    pub fn emit(&self, l: &mut Lowering, a: &Place, form: &Form) {
        let Scheme { tile, .. } = self.scheme;
        let lanes = i64::from(tile.lanes);
        let weights = constant(l, self.weights.clone());
        let bytes = l.plan.buffers[weights.buffer.0 as usize].bytes.clone();
        let [term_scales, col_scales] = scale_constants(l, [&self.scales.terms, &self.scales.cols], lanes);
        let of_columns = constant(l, numbers(self.scales.own.iter().map(|x| -x), lanes));
        let signs = constant(l, numbers(rows::signs(self.terms), lanes));
        let mut kb = Kb::new(&format!("fip_{}", form.name));
        let (from, panels, of_columns, signs) = (kb.read(a), kb.read(&weights), kb.read(&of_columns), kb.read(&signs));
        let [term_scales, col_scales] = [term_scales, col_scales].map(|place| place.map(|place| kb.read(&place)));
        let mut scratch = |name: &str, len: i64| kb.scratch(name, DType::F32, &Dim::from(len));
        let x_row = rows::pitch(self.terms, lanes);
        let len = self.scheme.len();
        let x = rows::Rows {
            rows: form.rows.clone(),
            from,
            strides: form.a_rows.clone(),
            k: self.k.clone(),
            terms: self.terms,
            lanes: tile.lanes,
            scales: term_scales,
            signs,
            gathered: self.k.len() > 1 || a.dtype != DType::F32,
            x: scratch("operands", len * x_row),
            x_row,
            own: scratch("own", len),
            inverses: scratch("inverses", len),
        };
        let tile_len = i64::from(tile.mr) * tile.nr();
        let sums = Sums::new(tile, (self.terms, x.x_row), (x.x, panels), (x.own, x.inverses, of_columns), |len| scratch("totals", len));
        let spill = (form.work > INLINE_EPILOGUE).then(|| scratch("results", tile_len));
        let (leaves, outs) = form.bind(&mut kb);
        let (strides, leaves, outs) = by_row(&form.rows, leaves, outs);
        let places = kb.scratch("places", DType::I64, &Dim::from(strides.len() as i64 * len));
        let e = kernel::Emitter {
            g: l.g,
            anchor: form.anchor,
            dtype: form.dtype,
            scheme: self.scheme.clone(),
            terms: self.terms,
            cols: self.cols,
            rows: x,
            square: self.scales.square,
            sums,
            strides,
            places,
            col_scales,
            spill,
            leaves,
            outs,
        };
        let tiles = e.emit(&mut kb);
        let cost = form.product_cost((self.terms, self.cols), &bytes, i64::from(l.target.vector_bytes) * 2, &tiles);
        l.launch(kb, tiles, cost, &form.loc);
    }
}

/// Results and operands, of which an index is where a row lies by each of some strides, and the column.
fn by_row(rows: &[Dim], mut leaves: HashMap<ValueId, Leaf>, mut outs: Vec<Out>) -> (Vec<Vec<Dim>>, HashMap<ValueId, Leaf>, Vec<Out>) {
    let mut buffers: Vec<(ValueId, &mut Vec<Dim>)> = leaves.iter_mut().filter_map(|(&v, leaf)| match leaf {
        Leaf::Buffer { strides, .. } => Some((v, strides)),
        Leaf::Const(_) => None,
    }).collect();
    // In an order that does not change from one compilation to the next.
    buffers.sort_by_key(|b| b.0);
    let mut all: Vec<&mut Vec<Dim>> = outs.iter_mut().map(|out| &mut out.3).chain(buffers.into_iter().map(|b| b.1)).collect();
    let mut each: Vec<Vec<Dim>> = Vec::new();
    for strides in &all {
        let row = &strides[..rows.len()];
        if row.iter().any(|s| !s.is(0)) && !each.iter().any(|other| other == row) {
            each.push(row.to_vec());
        }
    }
    for strides in &mut all {
        let (row, col) = strides.split_at(rows.len());
        let of = |other: &Vec<Dim>| if other == row { Dim::ONE } else { Dim::ZERO };
        **strides = each.iter().map(of).chain([col[0].clone()]).collect();
    }
    (each, leaves, outs)
}

/// The inverses of the factors of terms and columns, where there are any.
pub(super) fn scale_constants(l: &mut Lowering, exponents: [&Option<Vec<i16>>; 2], lanes: i64) -> [Option<Place>; 2] {
    exponents.map(|e| e.as_ref().map(|e| constant(l, numbers(inverses(e), lanes))))
}
