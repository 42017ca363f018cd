//! Matrices whose terms and columns are multiplied by powers of two.

use super::offsets;
use xlac_ir::tensor::Tensor;

/// A matrix of terms by columns, in panels of columns: `[panel][term][column]`, zero past the last column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scaled {
    /// Size and stride of the nested axes of the terms, outermost first.
    pub terms: Vec<(usize, usize)>,
    /// Number of columns, and stride.
    pub cols: (usize, usize),
    /// First source element.
    pub offset: usize,
    /// Columns of a panel.
    pub width: usize,
    /// Powers of two by which terms and columns are multiplied; those that are all zeros may have any.
    pub exponents: (Vec<i16>, Vec<i16>),
}

impl Scaled {
    /// Elements.
    pub fn len(&self) -> usize { self.cols.0.div_ceil(self.width) * self.width * self.exponents.0.len() }

    /// Makes the bytes, panel by panel.
    pub fn write<E>(&self, tensor: &Tensor, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let values = tensor.to_f32();
        let factors = |exponents: &[i16]| exponents.iter().map(|&e| f64::from(e).exp2()).collect::<Vec<_>>();
        let (of_terms, of_cols) = (factors(&self.exponents.0), factors(&self.exponents.1));
        let terms = offsets(&self.terms);
        let mut panel = vec![0f32; terms.len() * self.width];
        for first in (0..self.cols.0).step_by(self.width) {
            let width = self.width.min(self.cols.0 - first);
            panel.fill(0.0);
            for ((line, term), of_term) in panel.chunks_exact_mut(self.width).zip(&terms).zip(&of_terms) {
                for (to, col) in line[..width].iter_mut().zip(first..) {
                    let x = f64::from(values[self.offset + term + col * self.cols.1]);
                    *to = (x * of_term * of_cols[col]) as f32;
                }
            }
            let bytes: Vec<u8> = panel.iter().flat_map(|x| x.to_le_bytes()).collect();
            sink(&bytes)?;
        }
        Ok(())
    }
}
