//! Matrices in the seven combinations of their quarters that Strassen's algorithm multiplies with.

use super::{dense, offsets};
use xlac_ir::tensor::Tensor;

/// Combinations of the quarters of a matrix of terms by columns, in panels of columns: `[panel][combination][term][column]`,
/// zero past the last column. A quarter has half of the terms and half of the columns. Computed in f64 and rounded once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Halves {
    /// Coefficients of the quarters in a combination: first terms and first columns, first terms and last columns, last
    /// and first, last and last.
    pub combinations: Vec<[i8; 4]>,
    /// Number of terms, which is even, and stride.
    pub terms: (usize, usize),
    /// Number of columns, which is even, and stride.
    pub cols: (usize, usize),
    /// First source element.
    pub offset: usize,
    /// Columns of a panel.
    pub width: usize,
    /// Powers of two by which terms and columns are multiplied before.
    pub exponents: (Vec<i16>, Vec<i16>),
}

impl Halves {
    /// Elements.
    pub fn len(&self) -> usize { (self.cols.0 / 2).div_ceil(self.width) * self.width * (self.terms.0 / 2) * self.combinations.len() }

    /// Makes the bytes, panel by panel.
    pub fn write<E>(&self, tensor: &Tensor, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let (terms, cols) = (self.terms.0 / 2, self.cols.0 / 2);
        let values = dense(tensor, &offsets(&[self.terms]), self.cols, self.offset);
        let factors = |exponents: &[i16]| exponents.iter().map(|&e| f64::from(e).exp2()).collect::<Vec<_>>();
        let (of_terms, of_cols) = (factors(&self.exponents.0), factors(&self.exponents.1));
        let plane = terms * self.width;
        let mut panel = vec![0f32; self.combinations.len() * plane];
        let mut quarters = vec![vec![0f64; self.width]; 4];
        let mut sums = vec![0f64; self.width];
        for first in (0..cols).step_by(self.width) {
            let width = self.width.min(cols - first);
            panel.fill(0.0);
            for term in 0..terms {
                for (i, quarter) in quarters.iter_mut().enumerate() {
                    let (term, col) = (term + i / 2 * terms, first + i % 2 * cols);
                    let line = values[term * self.cols.0 + col..].iter().zip(&of_cols[col..]);
                    let factor = of_terms[term];
                    quarter[..width].iter_mut().zip(line).for_each(|(to, (&x, of_col))| *to = f64::from(x) * factor * of_col);
                }
                for (i, combination) in self.combinations.iter().enumerate() {
                    sums.fill(0.0);
                    for (&coefficient, quarter) in combination.iter().zip(&quarters).filter(|(c, _)| **c != 0) {
                        sums.iter_mut().zip(quarter).for_each(|(sum, x)| *sum += f64::from(coefficient) * x);
                    }
                    let to = &mut panel[i * plane + term * self.width..][..width];
                    to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = *sum as f32);
                }
            }
            let bytes: Vec<u8> = panel.iter().flat_map(|x| x.to_le_bytes()).collect();
            sink(&bytes)?;
        }
        Ok(())
    }
}
