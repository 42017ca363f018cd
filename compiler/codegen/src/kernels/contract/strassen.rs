//! Matrix products with constant weights in seven eighths of the multiplications (V. Strassen, "Gaussian Elimination is not
//! Optimal", 1969), one level deep.
//!
//! Rows of the first operand are taken in pairs of neighbours; their terms, and the terms and columns of the weights, in
//! halves. A tile task combines the operands of a block of pairs in scratch memory, `[product][pair][term of a half]`; then,
//! panel by panel, come seven small matrix products with the combined weights, and from these the results of both rows and
//! both halves of the columns, with their epilogue.
//!
//! Limit: 7/8 of the multiply-adds of the direct sum, and weights 7/4 times as large.
//!
//! **Errors.** What is added here is not added in the plain sum, so it must be of a size, or the smaller loses digits:
//!
//! - terms and columns are multiplied by powers of two that make the weights of those alike that are added (`scales`), and by
//!   zero if they are all zeros;
//! - of each pair of rows the kernel compares the norms. A block with a pair that differs by more than a factor of 2.8, or
//!   holds what is not finite, is computed row by row with the same combined weights (`algorithm::APART`): then no row
//!   has an influence on another.
//!
//! So errors against f64 are at most 4 times (root mean square) those of a plain f32 sum in every row, and 8 times in every
//! column, whose weights are rounded once more and in every row alike; measured are 1 to 1.6 times over whole results. That is
//! for dense weights; relative to the norms of the row and the column errors are small for any. `fast` numerics only.

mod algorithm;
mod kernel;
mod scales;
mod scheme;

use super::products::{Block, Products};
use super::weights::{Matrix, constant, inverses, numbers};
use super::*;
use crate::pack::{Halves, Source, dense, offsets};
use algorithm::{MOST, PAIRED, WEIGHTS};
use scales::Scales;
use scheme::Sizes;

/// Rows below which it never wins: the weights come from memory, and are more.
const LEAST_ROWS: i64 = 16;

/// A matrix product that is worth it.
pub(super) struct Product {
    block: Block,
    scales: Scales,
    source: Source,
    /// Number and stride of the weights' terms and columns.
    terms: (usize, usize),
    cols: (usize, usize),
    offset: usize,
}

impl Product {
    /// The product that a contraction is, whose direct sum would take register tiles of this size; if there is a gain.
    pub fn of(l: &Lowering, c: &Contraction, rows: &[Dim], direct: Tile) -> Option<Product> {
        let Second::View { place, batch, k, n } = &c.b;
        let size = |d: &Dim| d.as_const().and_then(|c| usize::try_from(c).ok());
        let Storage::Blob(index) = l.plan.buffers[place.buffer.0 as usize].storage else { return None };
        let col = c.axes.iter().find(|x| x.role == Role::Col).expect("one column axis");
        let mut sums = c.k.iter().zip(k).filter(|(k, _)| !k.0.is(1));
        let (((sum, a_stride), b_stride), None) = (sums.next()?, sums.next()) else { return None };
        let (terms, cols) = ((size(sum)?, size(b_stride)?), (size(&col.size)?, size(n)?));
        let lanes = l.target.lanes(DType::F32) as usize;
        let fills = l.target.masked_memory || terms.0 / 2 % lanes == 0;
        let even = terms.0 % 2 == 0 && cols.0 % 2 == 0;
        if l.exact() || c.acc != DType::F32 || !batch.is_empty() || c.part.is_some() || !a_stride.is(1) || !even || !fills {
            return None;
        }
        // There may be one of what is known only when the model runs.
        let rows = Dim::product(rows).eval(&|_| Some(1)).filter(|&rows| rows >= LEAST_ROWS)?;
        let block = Sizes { rows, terms: terms.0 as i64, cols: cols.0 as i64 }.scheme(l, direct)?;
        let source = l.plan.blobs[index as usize].source.clone();
        let offset = size(&place.view.offset)?;
        let tensor = source.tensor(l.weights);
        let scales = Scales::of(&Matrix { values: &dense(tensor, &offsets(&[terms]), cols, offset), cols: cols.0 })?;
        Some(Product { block, scales, source, terms, cols, offset })
    }

    /// The combined weights.
    fn weights(&self, l: &mut Lowering) -> Place {
        let exponents = |scales: &Option<Vec<i16>>, n: usize| scales.clone().unwrap_or_else(|| vec![0; n]);
        let halves = Halves {
            combinations: WEIGHTS.to_vec(),
            terms: self.terms,
            cols: self.cols,
            offset: self.offset,
            width: self.block.tile.nr() as usize,
            exponents: (exponents(&self.scales.terms, self.terms.0), exponents(&self.scales.cols, self.cols.0)),
        };
        constant(l, Blob { source: self.source.clone(), pack: Pack::Halves(halves), dtype: DType::F32 })
    }

    /// Launches the kernel.
    pub fn emit(&self, l: &mut Lowering, a: &Place, form: &Form) {
        let weights = self.weights(l);
        let bytes = l.plan.buffers[weights.buffer.0 as usize].bytes.clone();
        let scales = [&self.scales.terms, &self.scales.cols].map(|e| e.as_ref().map(|e| constant(l, numbers(inverses(e), 1))));
        let mut kb = Kb::new(&format!("strassen_{}", form.name));
        let (from, panels) = (kb.read(a), kb.read(&weights));
        let [term_scales, col_scales] = scales.map(|place| place.map(|place| kb.read(&place)));
        let (terms, cols) = (self.terms.0 as i64, self.cols.0 as i64);
        let (half, matrices) = (Dim::from(terms / 2), WEIGHTS.len() as i64);
        let products = Products::new(l, &mut kb, &self.block, MOST, &half, (panels, matrices));
        let long = form.work > INLINE_EPILOGUE;
        let spill = long.then(|| kb.scratch("results", DType::F32, &Dim::from(2 * self.block.tile.nr())));
        let (leaves, outs) = form.bind(&mut kb);
        let e = kernel::Emitter {
            g: l.g,
            anchor: form.anchor,
            dtype: form.dtype,
            block: self.block.clone(),
            products,
            rows: form.rows.clone(),
            terms: terms / 2,
            cols: cols / 2,
            a: from,
            a_rows: form.a_rows.clone(),
            term_scales,
            col_scales,
            spill,
            leaves,
            outs,
        };
        let tiles = e.emit(&mut kb);
        let cost = form.product_cost((terms, cols), &bytes, i64::from(l.target.vector_bytes.max(16)) * 3 / 2, &tiles);
        l.launch(kb, tiles, cost, &form.loc);
    }
}
