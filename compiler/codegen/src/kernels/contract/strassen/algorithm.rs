//! The algorithms as tables: what is multiplied with what, and how the products make the results.
//!
//! Operands come in pairs of rows, `a1` and `a2`, whose terms are halved: `a11`, `a12`, `a21`, `a22`. Weights are quartered
//! alike: `b11` and `b12` are the first half of the terms of the first and last half of the columns, and so are results:
//! `c11` and `c12` are the first row's.

use crate::kb::Kb;
use xlac_ir::kernel::Val;

/// Coefficients of four quarters, or halves of a pair of rows: each 0, 1 or -1.
type Quarters = [i8; 4];

/// The combinations of the weights' quarters. The first four are enough for a row alone.
pub(super) const WEIGHTS: [Quarters; 7] = [
    [1, 0, 0, 0],
    [-1, 0, 1, 0],
    [0, 1, 0, -1],
    [0, 0, 0, 1],
    [1, 0, 0, 1],
    [1, 1, 0, 0],
    [0, 0, 1, 1],
];

/// A way to multiply a pair of rows with the weights.
pub(super) struct Algorithm {
    /// The combination of the rows' halves in each product.
    pub operands: &'static [Quarters],
    /// Product `i` takes the weights' combination `i` modulo this.
    pub period: usize,
    /// Coefficients of the products in `c11`, `c12`, `c21` and `c22`.
    pub results: [&'static [i8]; 4],
}

/// Seven products (V. Strassen, "Gaussian Elimination is not Optimal", 1969). Winograd's variant of it has fewer additions, but
/// adds up to four operands and rounds half as much again.
pub(super) const PAIRED: Algorithm = Algorithm {
    operands: &[[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [-1, 0, 1, 0], [0, 1, 0, -1]],
    period: 7,
    results: [&[0, 1, 0, -1, 1, 0, 1], &[0, 0, 1, 1, 0, 0, 0], &[1, 1, 0, 0, 0, 0, 0], &[-1, 0, 1, 0, 1, 1, 0]],
};

/// Eight products, four for each row: no result depends on the other row, and none of a half of the columns on the weights of
/// the other.
pub(super) const APART: Algorithm = Algorithm {
    operands: &[[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1]],
    period: 4,
    results: [&[1, 1, 0, 0, 0, 0, 0, 0], &[0, 0, 1, 1, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 1, 0, 0], &[0, 0, 0, 0, 0, 0, 1, 1]],
};

/// The most products of an algorithm.
pub(super) const MOST: i64 = APART.operands.len() as i64;

/// Adds and subtracts, in order. Something is added.
pub(super) fn combine(kb: &mut Kb, coefficients: &[i8], values: &[Val]) -> Val {
    let first = coefficients.iter().position(|&c| c > 0).expect("something is added");
    let mut sum = values[first];
    for i in (0..values.len()).filter(|&i| i != first) {
        sum = match coefficients[i] {
            0 => sum,
            1.. => kb.k.add(sum, values[i]),
            _ => kb.k.sub(sum, values[i]),
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every result must be the sum over both halves of the terms, whatever the numbers: compares the coefficients of all
    /// products of an operand's half and a weight's quarter.
    #[test]
    fn results_are_matrix_products() {
        for algorithm in [&PAIRED, &APART] {
            for (result, coefficients) in algorithm.results.iter().enumerate() {
                assert_eq!(coefficients.len(), algorithm.operands.len());
                let (row, col) = (result / 2, result % 2);
                for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                    let of = |i: usize| coefficients[i] * algorithm.operands[i][a] * WEIGHTS[i % algorithm.period][b];
                    let found: i8 = (0..coefficients.len()).map(of).sum();
                    let is_term = a / 2 == row && b % 2 == col && a % 2 == b / 2;
                    assert_eq!(found, i8::from(is_term), "result {result}, operand {a}, weight {b}");
                }
            }
        }
    }

    #[test]
    fn apart_means_apart() {
        for (result, coefficients) in APART.results.iter().enumerate() {
            for i in (0..coefficients.len()).filter(|&i| coefficients[i] != 0) {
                let other_row = &APART.operands[i][2 * (1 - result / 2)..][..2];
                assert_eq!(other_row, [0, 0]);
                let weights = WEIGHTS[i % APART.period];
                let other = 1 - result % 2;
                assert_eq!((weights[other], weights[2 + other]), (0, 0));
            }
        }
    }
}
