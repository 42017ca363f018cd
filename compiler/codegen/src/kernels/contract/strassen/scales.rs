//! Powers of two that make the terms and the columns of a matrix of weights alike, so that what Strassen's algorithm adds up
//! is of a size. They are exact: operands are multiplied by the terms' and results by the columns'.

use std::collections::HashMap;

use crate::kernels::contract::weights::{LARGEST, Matrix, ZEROS, factor};

/// How unlike two terms or two columns that are added may be, as the ratio of their norms.
const ALIKE: f64 = 2.0;
/// The largest sum of squares of a term whose combinations are finite for certain.
const LARGEST_SQUARE: f64 = 1e74;

/// Exponents of the factors of the terms and of the columns of a matrix; none where all are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scales {
    pub terms: Option<Vec<i16>>,
    pub cols: Option<Vec<i16>>,
}

impl Scales {
    /// The scales; none for weights that should be multiplied one by one:
    ///
    /// - where one is not finite;
    /// - where combinations could overflow;
    /// - where two columns are the same: their results must be, or a tie would be broken, and each depends on its partner too.
    pub fn of(matrix: &Matrix) -> Option<Scales> {
        let squares = matrix.squares_of_terms();
        if squares.iter().any(|n| n.is_nan() || *n > LARGEST_SQUARE) {
            return None;
        }
        let terms = exponents(&squares);
        let factors = (0..squares.len()).map(|i| terms.as_ref().map_or(1.0, |e| factor(e[i])));
        let squares = matrix.squares_of_cols(factors);
        if has_twins(matrix, &squares) {
            return None;
        }
        Some(Scales { terms, cols: exponents(&squares) })
    }
}

/// True if two columns are the same, of those that are not all zeros; columns that are have the same squares.
fn has_twins(matrix: &Matrix, squares: &[f64]) -> bool {
    let mut before: HashMap<u64, Vec<usize>> = HashMap::new();
    let same = |a: usize, b: usize| matrix.terms().all(|term| term[a] == term[b]);
    (0..matrix.cols).filter(|&col| squares[col] > 0.0).any(|col| {
        let like = before.entry(squares[col].to_bits()).or_default();
        let twin = like.iter().any(|&other| same(other, col));
        like.push(col);
        twin
    })
}

/// Exponents that make each of the first half of some norms, given as their squares, like its partner in the other half, by
/// raising the smaller.
fn exponents(squares: &[f64]) -> Option<Vec<i16>> {
    let (first, last) = squares.split_at(squares.len() / 2);
    let pairs = || first.iter().zip(last);
    let unlike = |(&a, &b): (&f64, &f64)| a.max(b) > ALIKE * ALIKE * a.min(b);
    if !squares.contains(&0.0) && !pairs().any(unlike) {
        return None;
    }
    // How far `a` is to be raised to `b`.
    let raise = |a: f64, b: f64| match a {
        0.0 => ZEROS,
        _ if a < b => ((b / a).log2() / 2.0).round().min(LARGEST) as i16,
        _ => 0,
    };
    Some(pairs().map(|(&a, &b)| raise(a, b)).chain(pairs().map(|(&a, &b)| raise(b, a))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(values: &[f32], terms: usize) -> Option<Scales> {
        Scales::of(&Matrix { values, cols: values.len() / terms })
    }

    #[test]
    fn alike_is_left_alone() {
        assert_eq!(scales(&[1.0, -1.9, 1.5, 0.8], 2), Some(Scales { terms: None, cols: None }));
    }

    #[test]
    fn the_smaller_is_raised() {
        assert_eq!(scales(&[8.0, 9.0, 1.0, 1.5], 2), Some(Scales { terms: Some(vec![0, 3]), cols: None }));
        assert_eq!(scales(&[1.0, 16.0, 1.0, 16.0], 2), Some(Scales { terms: None, cols: Some(vec![4, 0]) }));
        assert_eq!(scales(&[1e-38, 1.0, 0.0, 1.0], 2), Some(Scales { terms: None, cols: Some(vec![100, 0]) }));
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(scales(&[0.0, 0.0, 1.0, 1.5], 2), Some(Scales { terms: Some(vec![ZEROS, 0]), cols: None }));
        assert_eq!(scales(&[0.0, 1.0, 0.0, 1.5], 2), Some(Scales { terms: None, cols: Some(vec![ZEROS, 0]) }));
    }

    #[test]
    fn some_weights_are_multiplied_one_by_one() {
        assert_eq!(scales(&[f32::INFINITY, 1.0, 1.0, 1.0], 2), None);
        assert_eq!(scales(&[1.0, f32::NAN, 1.0, 1.0], 2), None);
        assert_eq!(scales(&[3e38, 1.0, 1.0, 2.0], 2), None, "a combination may overflow");
        assert_eq!(scales(&[1.0, 2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 1.0], 2), None, "columns that are the same");
        assert_eq!(scales(&[1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 2.0, 1.0], 2), None, "columns of a half that are the same");
        assert!(scales(&[1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0], 2).is_some(), "all differ");
    }
}
