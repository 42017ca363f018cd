//! Short convolutions with few multiplications: the algorithms of Toom and Cook, as Winograd uses them (A. Lavin and S. Gray,
//! "Fast Algorithms for Convolutional Neural Networks", 2015).
//!
//! `m` neighbouring results of a filter of `r` taps need `n = m + r - 1` multiplications instead of `m * r`: results and
//! operands are seen as polynomials, which are multiplied by their values at `n` points, one of them infinity. With `G`, `B`
//! and `A` as below, `y = A (G g * B d)`, elementwise in the middle.
//!
//! The points are 0, pairs `±a` and infinity, so that the rows of a pair share their even and odd parts. Which pairs decides
//! about rounding errors: 3/4 and 3/2 are exact in binary and round a third as much as the customary 1 and 2. The test of
//! errors in `tests/kernels/winograd.rs` holds them to the stated bound; see also B. Barabasz et al., "Error Analysis and
//! Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.

use xlac_ir::DType;
use xlac_ir::kernel::{Const, Val};

use crate::kb::Kb;

/// An algorithm along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToomCook {
    /// Results.
    pub m: usize,
    /// Taps of the filter.
    pub r: usize,
}

impl ToomCook {
    /// The algorithms for a filter of this many taps: one tap needs none.
    pub fn for_taps(r: usize) -> Vec<ToomCook> {
        if r == 1 {
            return vec![ToomCook { m: 1, r }];
        }
        [4, 6].into_iter().filter(|&n| n > r).map(|n| ToomCook { m: n + 1 - r, r }).collect()
    }

    /// Multiplications, and operands read.
    pub fn n(self) -> usize { self.m + self.r - 1 }

    /// The positive points of the pairs.
    fn pairs(self) -> &'static [f64] {
        match self.n() {
            1 => &[],
            4 => &[1.0],
            6 => &[0.75, 1.5],
            n => unreachable!("no points for {n} multiplications"),
        }
    }

    /// Coefficients of the product of `x² - a²` over the pairs, all or all but one, the constant first, in powers of `x²`.
    fn product(self, without: Option<usize>) -> Vec<f64> {
        let mut out = vec![1.0];
        for (_, a) in self.pairs().iter().enumerate().filter(|p| Some(p.0) != without) {
            let mut next = vec![0.0; out.len() + 1];
            for (k, c) in out.iter().enumerate() {
                next[k] -= a * a * c;
                next[k + 1] += c;
            }
            out = next;
        }
        out
    }

    /// `G`, of `n` rows and `r` columns: what becomes of a filter.
    pub fn filter(self) -> Vec<Vec<f64>> {
        if self.n() == 1 {
            return vec![vec![1.0]];
        }
        let powers = |a: f64, scale: f64| (0..self.r).map(|k| a.powi(k as i32) / scale).collect::<Vec<f64>>();
        let mut rows = vec![powers(0.0, self.product(None)[0])];
        for (i, &a) in self.pairs().iter().enumerate() {
            let rest: f64 = self.product(Some(i)).iter().enumerate().map(|(k, c)| c * a.powi(2 * k as i32)).sum();
            rows.push(powers(a, 2.0 * a * a * rest));
            rows.push(powers(-a, 2.0 * a * a * rest));
        }
        rows.push((0..self.r).map(|k| f64::from(u8::from(k + 1 == self.r))).collect());
        rows
    }

    /// `B d`: what becomes of `n` operands.
    pub fn input(self, kb: &mut Kb, d: &[Val]) -> Vec<Val> {
        if self.n() == 1 {
            return d.to_vec();
        }
        // Every polynomial has a leading coefficient of one.
        let even = |kb: &mut Kb, c: &[f64], first: usize| {
            let lead = d[first + 2 * (c.len() - 1)];
            (0..c.len() - 1).rev().fold(lead, |sum, k| add_scaled(kb, sum, d[first + 2 * k], c[k]))
        };
        let all = self.product(None);
        let mut rows = vec![even(kb, &all, 0)];
        for (i, &a) in self.pairs().iter().enumerate() {
            let rest = self.product(Some(i));
            let (e, o) = (even(kb, &rest, 2), even(kb, &rest, 1));
            rows.push(add_scaled(kb, e, o, a));
            rows.push(add_scaled(kb, e, o, -a));
        }
        rows.push(even(kb, &all, 1));
        rows
    }

    /// `A v`: the `m` results of `n` products.
    pub fn output(self, kb: &mut Kb, v: &[Val]) -> Vec<Val> {
        if self.n() == 1 {
            return v.to_vec();
        }
        let pairs: Vec<(Val, Val)> = (0..self.pairs().len())
            .map(|i| (v[1 + 2 * i], v[2 + 2 * i]))
            .map(|(p, n)| (kb.k.add(p, n), kb.k.sub(p, n)))
            .collect();
        (0..self.m)
            .map(|i| {
                let part = |pair: &(Val, Val)| if i % 2 == 0 { pair.0 } else { pair.1 };
                let mut terms = self.pairs().iter().zip(&pairs).map(|(a, p)| (part(p), a.powi(i as i32)));
                let (first, scale) = terms.next().expect("a pair of points");
                let mut sum = match i {
                    0 => kb.k.add(v[0], first),
                    _ => scaled(kb, first, scale),
                };
                for (x, scale) in terms {
                    sum = add_scaled(kb, sum, x, scale);
                }
                if i + 1 == self.m { kb.k.add(sum, v[self.n() - 1]) } else { sum }
            })
            .collect()
    }
}

/// `sum + c x`.
fn add_scaled(kb: &mut Kb, sum: Val, x: Val, c: f64) -> Val {
    if c == 1.0 {
        return kb.k.add(sum, x);
    }
    if c == -1.0 {
        return kb.k.sub(sum, x);
    }
    let c = factor(kb, x, c);
    kb.k.fma(x, c, sum)
}

/// `c x`.
fn scaled(kb: &mut Kb, x: Val, c: f64) -> Val {
    if c == 1.0 {
        return x;
    }
    let c = factor(kb, x, c);
    kb.k.mul(x, c)
}

fn factor(kb: &mut Kb, x: Val, c: f64) -> Val {
    let lanes = kb.k.ty(x).lanes;
    kb.k.splat_const(Const::number(DType::F32, c), lanes)
}

/// Applies a transformation along every axis of a row-major array of values, the last axis last.
pub fn along_axes(
    kb: &mut Kb,
    sizes: &[usize],
    mut values: Vec<Val>,
    mut transform: impl FnMut(&mut Kb, usize, &[Val]) -> Vec<Val>,
) -> Vec<Val> {
    let mut sizes = sizes.to_vec();
    for axis in 0..sizes.len() {
        let inner: usize = sizes[axis + 1..].iter().product();
        let outer: usize = sizes[..axis].iter().product();
        let mut lines = Vec::with_capacity(outer * inner);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let line: Vec<Val> = (0..sizes[axis]).map(|k| values[(o * sizes[axis] + k) * inner + i]).collect();
            lines.push(transform(kb, axis, &line));
        }
        sizes[axis] = lines.first().map_or(0, Vec::len);
        values = (0..outer * sizes[axis] * inner)
            .map(|at| lines[at / (sizes[axis] * inner) * inner + at % inner][at / inner % sizes[axis]])
            .collect();
    }
    values
}
