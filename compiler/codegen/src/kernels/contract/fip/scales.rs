//! Powers of two that make the terms and the columns of a matrix of weights alike, and what its pairs add up to.

use super::{PAIRS, SIX, is_opposite};
use crate::kernels::contract::weights::{LARGEST, Matrix, ZEROS, factor};

/// How unlike the norms of terms may be, as the base 2 logarithm of the ratio of their squares to that of a typical one.
pub(super) const TERMS: f64 = 4.0;
/// The same for columns.
pub(super) const COLS: f64 = 2.0;
/// The least and the largest sum of squares of a typical column, as powers of two, and the largest of a term: what comes of
/// products of the like neither vanishes nor overflows.
const SQUARES: std::ops::RangeInclusive<f64> = -80.0..=80.0;

/// Exponents of the factors of the terms and of the columns of a matrix; none where all are alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scales {
    pub terms: Option<Vec<i16>>,
    pub cols: Option<Vec<i16>>,
    /// A typical column's sum of squares, as a power of two.
    pub square: i64,
    /// What the pairs of each column add to its sums.
    pub own: Vec<f32>,
}

impl Scales {
    /// The scales of weights; none where one is not finite, or all are zeros, or too large.
    pub fn of(matrix: &Matrix) -> Option<Scales> {
        let squares = matrix.squares_of_terms();
        if !squares.iter().all(|&n| sane(n)) {
            return None;
        }
        let terms = exponents(&squares, TERMS, typical(&squares)?);
        let factors: Vec<f64> = (0..squares.len()).map(|i| terms.as_ref().map_or(1.0, |e| factor(e[i]))).collect();
        let squares = matrix.squares_of_cols(factors.iter().copied());
        let square = typical(&squares)?;
        let cols = exponents(&squares, COLS, square);
        let mut own = pair_sums(matrix, &factors);
        if let Some(cols) = &cols {
            own.iter_mut().zip(cols).for_each(|(own, &e)| *own *= factor(e).powi(2));
        }
        let own = own.into_iter().map(|x| x as f32).collect();
        SQUARES.contains(&square).then(|| Scales { terms, cols, square: wanted(square), own })
    }

    /// True if weights are used as they are.
    pub fn is_plain(&self) -> bool { self.terms.is_none() && self.cols.is_none() }

    /// Exponents of all terms and columns.
    pub fn exponents(&self, terms: usize, cols: usize) -> (Vec<i16>, Vec<i16>) {
        let all = |exponents: &Option<Vec<i16>>, n: usize| exponents.clone().unwrap_or_else(|| vec![0; n]);
        (all(&self.terms, terms), all(&self.cols, cols))
    }
}

/// What the pairs of every column add up to, with terms multiplied by factors.
pub(super) fn pair_sums(matrix: &Matrix, factors: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; matrix.cols];
    let six = SIX as usize;
    let all = matrix.values.chunks_exact(six * matrix.cols).zip(factors.chunks_exact(six));
    for (number, (terms, factors)) in (0..).zip(all) {
        let line = |i: usize| &terms[i * matrix.cols..][..matrix.cols];
        for (pair, (first, second)) in PAIRS.into_iter().enumerate() {
            let (first, second) = (first as usize, second as usize);
            let sign = if is_opposite(pair, number) { -1.0 } else { 1.0 };
            let factor = sign * factors[first] * factors[second];
            let values = line(first).iter().zip(line(second));
            sums.iter_mut().zip(values).for_each(|(sum, (&a, &b))| *sum += f64::from(a) * f64::from(b) * factor);
        }
    }
    sums
}

/// True if a sum of squares is that of weights that can be multiplied in pairs.
pub(super) fn sane(square: f64) -> bool { square <= SQUARES.end().exp2() }

/// A typical column's sum of squares, as a power of two, where products of the like do not vanish.
pub(super) fn wanted(typical: f64) -> i64 { typical.max(*SQUARES.start()).round() as i64 }

/// The base 2 logarithm of the median of those that are not zero.
pub(super) fn typical(squares: &[f64]) -> Option<f64> {
    let mut some: Vec<f64> = squares.iter().copied().filter(|&s| s > 0.0).collect();
    let middle = some.len() / 2;
    if some.is_empty() {
        return None;
    }
    Some(some.select_nth_unstable_by(middle, f64::total_cmp).1.log2())
}

/// Exponents that bring norms, given as their squares, to a typical one, if one is unlike it.
pub(super) fn exponents(squares: &[f64], tolerance: f64, typical: f64) -> Option<Vec<i16>> {
    let unlike = |&s: &f64| s == 0.0 || (s.log2() - typical).abs() > tolerance;
    let exponent = |&s: &f64| match s {
        0.0 => ZEROS,
        _ => ((typical - s.log2()) / 2.0).round().clamp(-LARGEST, LARGEST) as i16,
    };
    squares.iter().any(unlike).then(|| squares.iter().map(exponent).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(values: &[f32], terms: usize) -> Option<Scales> {
        Scales::of(&Matrix { values, cols: values.len() / terms })
    }

    #[test]
    fn alike_is_left_alone() {
        let found = scales(&[1.0, -1.9, 1.5, 0.8], 2).expect("finite");
        assert!(found.is_plain());
    }

    #[test]
    fn terms_and_columns_are_brought_together() {
        let found = scales(&[1.0, 1.0, 8.0, 8.0, 1.0, 1.0], 3).expect("finite");
        assert_eq!((found.terms, found.cols), (Some(vec![0, -3, 0]), None));
        let found = scales(&[1.0, 16.0, 1.0, 1.0, 16.0, 1.0], 2).expect("finite");
        assert_eq!((found.terms, found.cols), (None, Some(vec![0, -4, 0])));
        let found = scales(&[1.0, 1.0, 1e-38, 1.0, 1.0, 1e-38], 2).expect("finite");
        assert_eq!((found.terms, found.cols), (None, Some(vec![0, 0, 100])));
    }

    #[test]
    fn zeros_stay_zeros() {
        let found = scales(&[0.0, 0.0, 1.0, 1.5, 1.0, 1.5], 3).expect("finite");
        assert_eq!(found.terms, Some(vec![ZEROS, 0, 0]));
    }

    #[test]
    fn some_weights_are_multiplied_one_by_one() {
        assert_eq!(scales(&[f32::INFINITY, 1.0, 1.0, 1.0], 2), None);
        assert_eq!(scales(&[1.0, f32::NAN, 1.0, 1.0], 2), None);
        assert_eq!(scales(&[3e38, 1.0, 1.0, 2.0], 2), None, "a square may overflow");
        assert_eq!(scales(&[1e-15, 1e-14, 1e-14, 1e-15], 2), None, "products vanish");
        assert_eq!(scales(&[0.0; 4], 2), None, "nothing tells a size");
    }

    #[test]
    fn pairs_are_the_first_two_terms_of_six_with_the_next_two() {
        let found = scales(&[1.0, 2.0, 3.0, 2.0, 2.0, 3.0, 1.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0], 13).expect("finite");
        assert_eq!((found.terms, found.own), (None, vec![(1.0 * 3.0 - 2.0 * 2.0) - (1.0 * 1.0 - 2.0 * 3.0)]));
    }
}
