//! Products of matrices.

use super::elementwise::{broadcast_concrete, broadcast_indices, broadcast_shapes};
use crate::accumulate::{Accumulator, contracts};
use crate::dtype::DType;
use crate::kernel::Const;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, bail, op, operands};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// `[batch..., m, k] x [batch..., k, n]` with numpy broadcasting of the batch axes; both operands have at least two
    /// axes. With `trans_a` the first is `[..., k, m]`, with `trans_b` the second `[..., n, k]`. Each element of the
    /// result accumulates over k in order from 0, one fused multiply-add a step, in f32 for narrow floats and wrapping
    /// in `out` for integers (operands are widened to `out` first).
    "matmul" => MatMul {
        /// Axes of the first operand are exchanged.
        trans_a: bool,
        /// Axes of the second operand are exchanged.
        trans_b: bool,
        /// Element type of the result.
        out: DType,
    }
}

impl OpImpl for MatMul {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [a, b] = operands(inputs)?;
        if !contracts(a.dtype, b.dtype, self.out) {
            bail!("element types {} and {} do not multiply to {}", a.dtype, b.dtype, self.out);
        }
        if a.rank() < 2 || b.rank() < 2 {
            bail!("operands {a} and {b} need at least two axes");
        }
        let (batch_a, [m, k]) = split(&a.shape, self.trans_a);
        let (batch_b, [k2, n]) = split(&b.shape, self.trans_b);
        if agree(&k, &k2).is_none() {
            bail!("inner dims {k} and {k2} differ");
        }
        let mut shape = broadcast_shapes(&[batch_a, batch_b])?;
        shape.extend([m, n]);
        Ok(vec![Type::new(self.out, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (&inputs[0], &inputs[1]);
        let out = match self.out.compute() {
            DType::F32 => self.product::<f32>(a, b)?,
            DType::F64 => self.product::<f64>(a, b)?,
            _ => self.product::<i64>(a, b)?,
        };
        Ok(vec![out])
    }
}

impl MatMul {
    fn product<T: Fused>(&self, a: &Tensor, b: &Tensor) -> Result<Tensor, EvalError> {
        let (batch_a, [m, k]) = split(&a.shape, self.trans_a);
        let (batch_b, [k2, n]) = split(&b.shape, self.trans_b);
        if k != k2 {
            return Err(EvalError(format!("inner dims {k} and {k2} differ")));
        }
        let mut shape = broadcast_concrete(&[batch_a, batch_b])?;
        let (xa, xb) = (T::load(a), T::load(b));
        let step = |trans, columns: usize, rows: usize| if trans { [1, rows] } else { [columns, 1] };
        let (step_a, step_b) = (step(self.trans_a, k, m), step(self.trans_b, n, k));
        let pairs = broadcast_indices(batch_a, &shape).zip(broadcast_indices(batch_b, &shape));
        let mut sums = Vec::new();
        for (i, j) in pairs {
            let at = sums.len();
            sums.resize(at + m * n, T::ZERO);
            let a = Matrix { elements: &xa[i * m * k..(i + 1) * m * k], steps: step_a };
            let b = Matrix { elements: &xb[j * k * n..(j + 1) * k * n], steps: step_b };
            multiply(a, b, [m, k, n], &mut sums[at..]);
        }
        shape.extend([m, n]);
        Ok(Tensor::from_consts(self.out, shape, sums.into_iter().map(|sum| sum.finish(self.out))))
    }
}

/// The batch axes and the two axes of the matrix, as they are after `trans`.
fn split<T: Clone>(shape: &[T], trans: bool) -> (&[T], [T; 2]) {
    let (batch, matrix) = shape.split_at(shape.len() - 2);
    let (i, j) = if trans { (1, 0) } else { (0, 1) };
    (batch, [matrix[i].clone(), matrix[j].clone()])
}

/// A type with fused multiply-add.
pub trait Fused: Accumulator {
    /// The widest element type that is computed in it.
    const DTYPE: DType;
    /// The value of a constant of that type.
    fn of(c: Const) -> Self;
    /// `self * w + sum`, rounded once or wrapped.
    fn fused(self, w: Self, sum: Self) -> Self;
}

impl Fused for f32 {
    const DTYPE: DType = DType::F32;
    fn of(c: Const) -> f32 { f32::from_bits(c.bits as u32) }
    #[inline(always)]
    fn fused(self, w: f32, sum: f32) -> f32 { self.mul_add(w, sum) }
}

impl Fused for f64 {
    const DTYPE: DType = DType::F64;
    fn of(c: Const) -> f64 { f64::from_bits(c.bits) }
    #[inline(always)]
    fn fused(self, w: f64, sum: f64) -> f64 { self.mul_add(w, sum) }
}

impl Fused for i64 {
    const DTYPE: DType = DType::I64;
    fn of(c: Const) -> i64 { c.as_i64() }
    #[inline(always)]
    fn fused(self, w: i64, sum: i64) -> i64 { self.wrapping_mul(w).wrapping_add(sum) }
}

/// A matrix in row-major memory, or its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    /// The elements.
    pub elements: &'a [T],
    /// Distance between rows, and between columns.
    pub steps: [usize; 2],
}

/// `out[i][j] <- sum over k of a[i][k] * b[k][j]` for sizes `[m, k, n]`: in order of k, from 0, fused.
pub fn multiply<T: Fused>(a: Matrix<T>, b: Matrix<T>, sizes: [usize; 3], out: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the features.
        unsafe { multiply_avx2(a, b, sizes, out) };
        return;
    }
    multiply_tiled(a, b, sizes, out);
}

/// The same loops with fused multiply-add as one instruction: without it each one is a call into libm.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2<T: Fused>(a: Matrix<T>, b: Matrix<T>, sizes: [usize; 3], out: &mut [T]) {
    multiply_tiled(a, b, sizes, out);
}

/// Rows and columns of results computed together: their sums stay in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 16;

/// Inlined, so that it is compiled with the features of its caller.
#[inline(always)]
fn multiply_tiled<T: Fused>(a: Matrix<T>, b: Matrix<T>, [m, k, n]: [usize; 3], out: &mut [T]) {
    // Operands are copied in the order in which they are read, so that the innermost loops have no index to check. Rows
    // past the last repeat it, columns past the last repeat what was there; their sums are dropped.
    let mut tiles: Vec<[T; ROWS]> = Vec::with_capacity(m.div_ceil(ROWS) * k);
    for i in (0..m).step_by(ROWS) {
        let element = |r: usize, at: usize| a.elements[(i + r).min(m - 1) * a.steps[0] + at * a.steps[1]];
        tiles.extend((0..k).map(|at| std::array::from_fn(|r| element(r, at))));
    }
    let mut panel = vec![[T::ZERO; COLUMNS]; k];
    for j in (0..n).step_by(COLUMNS) {
        let columns = COLUMNS.min(n - j);
        for (at, row) in panel.iter_mut().enumerate() {
            for (c, w) in row[..columns].iter_mut().enumerate() {
                *w = b.elements[at * b.steps[0] + (j + c) * b.steps[1]];
            }
        }
        for i in (0..m).step_by(ROWS) {
            let sums = tile(&tiles[i / ROWS * k..][..k], &panel);
            for (r, sums) in sums.iter().enumerate().take(m - i) {
                let to = (i + r) * n + j;
                out[to..to + columns].copy_from_slice(&sums[..columns]);
            }
        }
    }
}

/// The sums of one tile. Without an index anywhere, they stay in registers.
#[inline(always)]
fn tile<T: Fused>(x: &[[T; ROWS]], w: &[[T; COLUMNS]]) -> [[T; COLUMNS]; ROWS] {
    let mut sums = [[T::ZERO; COLUMNS]; ROWS];
    for (x, w) in x.iter().zip(w) {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = x.fused(*w, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::ops::Op;

    fn op(trans_a: bool, trans_b: bool, out: DType) -> Op { MatMul { trans_a, trans_b, out }.into() }

    fn eval(op: &Op, a: &Tensor, b: &Tensor) -> Tensor {
        let types = op.infer(&[a.ty(), b.ty()]).unwrap();
        let out = op.eval(&[a.clone(), b.clone()], &EvalCx { symbols: &|_| None }).unwrap().remove(0);
        assert_eq!(out.ty(), types[0]);
        out
    }

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let x: Vec<f32> = (0..shape.iter().product()).map(|i| ((i * 37 + seed) % 23) as f32 / 7.0 - 1.5).collect();
        Tensor::from_f32(shape.to_vec(), &x)
    }

    #[test]
    fn shapes() {
        let f32s = |shape: &[i64]| Type::new(DType::F32, shape.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>());
        let infer = |a: &Type, b: &Type| op(false, false, DType::F32).infer(&[a.clone(), b.clone()]);
        assert_eq!(infer(&f32s(&[5, 1, 2, 3]), &f32s(&[4, 3, 6])), Ok(vec![f32s(&[5, 4, 2, 6])]));
        assert_eq!(infer(&f32s(&[2, 3]), &f32s(&[4, 6])).unwrap_err().0, "inner dims 3 and 4 differ");
        let symbolic = Type::new(DType::F32, [Dim::sym("N"), Dim::sym("K")]);
        assert_eq!(infer(&symbolic, &f32s(&[4, 6])), Ok(vec![Type::new(DType::F32, [Dim::sym("N"), Dim::from(6i64)])]));
        assert!(infer(&f32s(&[3]), &f32s(&[3, 2])).is_err());
        let ints = f32s(&[3, 3]).with(DType::I8);
        assert!(infer(&ints, &ints).unwrap_err().0.contains("do not multiply to f32"));
    }

    #[test]
    fn every_layout_is_one_ordered_chain() {
        // More than one tile in both directions, with remainders.
        let (m, k, n) = (6, 9, 19);
        for (trans_a, trans_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let a = numbers(&if trans_a { [k, m] } else { [m, k] }, 1);
            let b = numbers(&if trans_b { [n, k] } else { [k, n] }, 2);
            let got = eval(&op(trans_a, trans_b, DType::F32), &a, &b).to_f32();
            let (xa, xb) = (a.to_f32(), b.to_f32());
            for i in 0..m {
                for j in 0..n {
                    let term = |s: f32, p: usize| {
                        let x = xa[if trans_a { p * m + i } else { i * k + p }];
                        x.mul_add(xb[if trans_b { j * k + p } else { p * n + j }], s)
                    };
                    assert_eq!(got[i * n + j].to_bits(), (0..k).fold(0.0, term).to_bits());
                }
            }
        }
    }

    #[test]
    fn batches_broadcast() {
        let a = Tensor::from_f32(vec![2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let b = Tensor::from_f32(vec![2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
        let y = eval(&op(false, false, DType::F32), &a, &b);
        assert_eq!(y.shape, [2, 2, 1, 1]);
        assert_eq!(y.to_f32(), [21.0, 2100.0, 43.0, 4300.0]);
    }

    #[test]
    fn integers_widen_and_wrap() {
        let t = |dtype, x: [i64; 2], shape: [usize; 2]| {
            Tensor::from_consts(dtype, shape.to_vec(), x.map(|x| Const::int(dtype, x)))
        };
        let a = t(DType::U8, [255, 255], [1, 2]);
        let b = t(DType::I8, [-128, 1], [2, 1]);
        assert_eq!(eval(&op(false, false, DType::I32), &a, &b).to_i64(), [255 * -127]);
        let big = t(DType::I32, [1 << 30, 1], [1, 2]);
        assert_eq!(eval(&op(false, true, DType::I32), &big, &t(DType::I32, [4, 7], [1, 2])).to_i64(), [7]);
    }

    #[test]
    fn narrow_floats_round_once() {
        let half = |x: &[f64], shape: &[usize]| {
            Tensor::from_consts(DType::F16, shape.to_vec(), x.iter().map(|&x| Const::number(DType::F16, x)))
        };
        // 2048 + 1 + 1 is 2048 if every step rounds to f16.
        let y = eval(&op(false, false, DType::F16), &half(&[2048.0, 1.0, 1.0], &[1, 3]), &half(&[1.0; 3], &[3, 1]));
        assert_eq!(y.to_f32(), [2050.0]);
    }

    #[test]
    fn no_terms_give_zero() {
        let y = eval(&op(false, false, DType::F32), &numbers(&[2, 0], 0), &numbers(&[0, 3], 0));
        assert_eq!(y.to_f32(), [0.0; 6]);
        assert!(eval(&op(false, false, DType::F32), &numbers(&[0, 2], 0), &numbers(&[2, 3], 0)).is_empty());
    }
}
