//! Fast inner products inside of short convolutions: the transformed filters are one matrix for each product of a tile.

use super::scales::{COLS, TERMS, exponents, pair_sums, sane, typical, wanted};
use super::*;
use crate::kernels::contract::weights::{Matrix, factor};
use crate::pack::Filters;

/// What makes the matrices of filters alike, and what their pairs add up to.
pub(in crate::kernels::contract) struct FilterScales {
    /// Exponents of input and output channels, the same in all products; none where all are alike.
    pub terms: Option<Vec<i16>>,
    pub cols: Option<Vec<i16>>,
    /// Of each product, a typical column's sum of squares, as a power of two.
    pub squares: Vec<i64>,
    /// What the pairs of each column add to its sums: `[panel][product][column]`.
    pub own: Vec<f32>,
}

/// The filters, a line for every tap and input channel.
fn lines(tensor: &Tensor, filters: &Filters) -> Vec<f32> {
    let taps = filters.axes.iter().zip(&filters.taps).map(|(axis, &stride)| (axis.r, stride));
    let nest: Vec<(usize, usize)> = taps.chain([filters.channels]).collect();
    dense(tensor, &offsets(&nest), filters.cols, filters.offset)
}

/// True if filters have scales: they are finite, and neither too large nor too small.
pub(in crate::kernels::contract) fn fits(tensor: &Tensor) -> bool {
    let squares: f64 = tensor.to_f32().iter().map(|&x| f64::from(x).powi(2)).sum();
    sane(squares) && sane(1.0 / squares)
}

impl FilterScales {
    /// The scales of filters that fit; the filters are told of them.
    pub fn new(tensor: &Tensor, filters: &mut Filters) -> FilterScales {
        let (channels, cols) = (filters.channels.0, filters.cols.0);
        let values = lines(tensor, filters);
        let matrix = Matrix { values: &values, cols };
        let mut squares = vec![0.0; channels];
        matrix.squares_of_terms().iter().enumerate().for_each(|(i, square)| squares[i % channels] += square);
        let center = |squares: &[f64]| typical(squares).expect("some weight is not zero");
        let terms = exponents(&squares, TERMS, center(&squares));
        let factors: Vec<f64> = (0..values.len() / cols).map(|i| terms.as_ref().map_or(1.0, |e| factor(e[i % channels]))).collect();
        let squares = matrix.squares_of_cols(factors);
        let of_cols = exponents(&squares, COLS, center(&squares));
        if terms.is_some() || of_cols.is_some() {
            filters.exponents = Some((terms.clone().unwrap_or_else(|| vec![0; channels]), of_cols.clone().unwrap_or_else(|| vec![0; cols])));
        }
        let (products, width) = (filters.products(), filters.width);
        let panels = filters.panels(tensor);
        let mut own = Vec::with_capacity(panels.len() / channels);
        let mut all = vec![Vec::with_capacity(cols); products];
        for (i, values) in panels.chunks_exact(channels * width).enumerate() {
            let matrix = Matrix { values, cols: width };
            own.extend(pair_sums(&matrix, &vec![1.0; channels]).into_iter().map(|x| x as f32));
            all[i % products].extend(matrix.squares_of_cols(std::iter::repeat_n(1.0, channels)));
        }
        let squares = all.iter().map(|squares| wanted(typical(squares).unwrap_or(0.0))).collect();
        FilterScales { terms, cols: of_cols, squares, own }
    }
}
