//! Matrices of weights whose terms and columns are multiplied by powers of two, which are exact: operands are multiplied by the
//! terms' inverses and results by the columns'.

use super::*;
use crate::pack::Source;
use xlac_ir::tensor::Tensor;

/// The largest exponent used: its power and the power's inverse are normal numbers.
pub(super) const LARGEST: f64 = 100.0;

/// The exponent of a term or column that is all zeros: nothing may come of what it is added to, however little, so that what is
/// multiplied by its factor becomes zero.
pub(super) const ZEROS: i16 = i16::MIN;

/// What weights are multiplied by.
pub(super) fn factor(exponent: i16) -> f64 { if exponent == ZEROS { 0.0 } else { f64::from(exponent).exp2() } }

/// What operands and results are multiplied by instead of the factors' inverses.
pub(super) fn inverses(exponents: &[i16]) -> impl Iterator<Item = f32> + '_ {
    exponents.iter().map(|&e| if e == ZEROS { 0.0 } else { f32::from(-e).exp2() })
}

/// The place of constant data.
pub(super) fn constant(l: &mut Lowering, blob: Blob) -> Place {
    let dtype = blob.dtype;
    Place { buffer: l.blob(blob), view: View { offset: Dim::ZERO, strides: Vec::new() }, dtype }
}

/// Numbers as constant data, with zeros up to whole vectors of some lanes.
pub(super) fn numbers(values: impl Iterator<Item = f32>, lanes: i64) -> Blob {
    let mut values: Vec<Const> = values.map(Const::f32).collect();
    values.resize(values.len().next_multiple_of(lanes as usize), Const::f32(0.0));
    let tensor = Tensor::from_consts(DType::F32, vec![values.len()], values);
    Blob { source: Source::Tensor(tensor), pack: Pack::Plain, dtype: DType::F32 }
}

/// A matrix of weights, row-major: terms by columns.
pub(super) struct Matrix<'a> {
    pub values: &'a [f32],
    pub cols: usize,
}

impl Matrix<'_> {
    /// Its terms, a line of columns each.
    pub fn terms(&self) -> std::slice::ChunksExact<'_, f32> { self.values.chunks_exact(self.cols) }

    /// Sums of squares of the terms.
    pub fn squares_of_terms(&self) -> Vec<f64> { self.terms().map(|term| term.iter().map(|&x| f64::from(x).powi(2)).sum()).collect() }

    /// Sums of squares of the columns of terms that are multiplied by factors.
    pub fn squares_of_cols(&self, factors: impl IntoIterator<Item = f64>) -> Vec<f64> {
        let mut sums = vec![0.0; self.cols];
        for (term, factor) in self.terms().zip(factors) {
            sums.iter_mut().zip(term).for_each(|(sum, &x)| *sum += (f64::from(x) * factor).powi(2));
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_of_zeros_are_zeros() {
        assert_eq!(inverses(&[ZEROS, 0, 3]).collect::<Vec<_>>(), [0.0, 1.0, 0.125]);
        assert_eq!([ZEROS, 0, 3].map(factor), [0.0, 1.0, 8.0]);
    }

    #[test]
    fn squares_are_summed_up_along_either_axis() {
        let matrix = Matrix { values: &[1.0, 2.0, 3.0, 4.0], cols: 2 };
        assert_eq!(matrix.squares_of_terms(), [5.0, 25.0]);
        assert_eq!(matrix.squares_of_cols([1.0, 2.0]), [37.0, 68.0]);
    }
}
