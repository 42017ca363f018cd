//! Combines the elements along axes.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::{BinOp, Const};
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, check_axis, op, operands, words};
use crate::scalar;
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;

words! {
    /// The combining function.
    ReduceFn {
        /// Sum; 0 for no elements.
        Sum "sum",
        /// Product; 1 for no elements.
        Prod "prod",
        /// Largest; NaN wins; the lowest value of the type for no elements.
        Max "max",
        /// Smallest; NaN wins; the highest value of the type for no elements.
        Min "min",
    }
}

op! {
    /// Combines over `axes` (sorted, at least one), which stay with size 1. The order is part of the meaning: with the
    /// reduced elements numbered row-major, 32 partial results take the elements whose number is equal modulo 32, each
    /// in order starting from the neutral element (`sum` from 0, `prod` from 1, ...), and are then combined in a tree:
    /// `p[j] = f(p[j], p[j + 16])` for j in 0..16, then with distance 8, 4, 2, 1. Narrow floats are computed in f32 and
    /// rounded at the end.
    "reduce" => Reduce { f: ReduceFn, axes: Vec<usize> }
}

impl OpImpl for Reduce {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x] = operands(inputs)?;
        if !self.f.accepts(x.dtype) {
            bail!("{} does not apply to {}", self.f.name(), x.dtype);
        }
        if self.axes.is_empty() || !self.axes.is_sorted_by(|a, b| a < b) {
            bail!("axes {:?} are not sorted, different and at least one", self.axes);
        }
        self.axes.iter().try_for_each(|&a| check_axis(a, x.rank()))?;
        let mut shape = x.shape.clone();
        self.axes.iter().for_each(|&a| shape[a] = Dim::ONE);
        Ok(vec![Type::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let x = &inputs[0];
        let neutral = self.f.neutral(x.dtype.compute());
        let out = match x.dtype.compute() {
            DType::F32 => {
                let f = |a: f32, b: f32| match self.f {
                    ReduceFn::Sum => a + b,
                    ReduceFn::Prod => a * b,
                    ReduceFn::Max => if b > a || b.is_nan() { b } else { a },
                    ReduceFn::Min => if b < a || b.is_nan() { b } else { a },
                };
                self.each(x, &x.to_f32(), f32::from_bits(neutral.bits as u32), f, Const::f32)
            }
            _ => {
                let f = |a: Const, b: Const| scalar::bin(self.f.op(), a, b).unwrap_or(a);
                self.each(x, &x.iter().collect::<Vec<_>>(), neutral, f, |c| c)
            }
        };
        Ok(vec![out])
    }
}

impl Reduce {
    /// The result for the elements of `x` in the type it is computed in.
    fn each<T: Copy>(
        &self,
        x: &Tensor,
        elements: &[T],
        neutral: T,
        f: impl Fn(T, T) -> T + Copy,
        to_const: impl Fn(T) -> Const,
    ) -> Tensor {
        let steps = strides(&x.shape);
        let reduced: Vec<usize> = self.axes.iter().map(|&a| x.shape[a]).collect();
        let mut inner = Vec::with_capacity(reduced.iter().product());
        for_each_index(&reduced, |index| inner.push(index.iter().zip(&self.axes).map(|(i, &a)| i * steps[a]).sum()));

        let mut shape = x.shape.clone();
        self.axes.iter().for_each(|&a| shape[a] = 1);
        let mut out = Vec::with_capacity(shape.iter().product());
        for_each_index(&shape, |index| {
            let base: usize = index.iter().zip(&steps).map(|(i, s)| i * s).sum();
            let sum = combine(inner.iter().map(|i: &usize| elements[base + i]), neutral, f);
            out.push(scalar::convert(to_const(sum), x.dtype));
        });
        Tensor::from_consts(x.dtype, shape, out)
    }
}

/// Number of partial results.
pub const PARTIALS: usize = 32;

/// Combines elements in the order that is part of the op's meaning.
pub fn combine<T: Copy>(elements: impl Iterator<Item = T>, neutral: T, f: impl Fn(T, T) -> T) -> T {
    let mut partials = [neutral; PARTIALS];
    for (i, x) in elements.enumerate() {
        partials[i % PARTIALS] = f(partials[i % PARTIALS], x);
    }
    let mut distance = PARTIALS / 2;
    while distance > 0 {
        for j in 0..distance {
            partials[j] = f(partials[j], partials[j + distance]);
        }
        distance /= 2;
    }
    partials[0]
}

impl ReduceFn {
    /// The kernel instruction that combines two elements.
    pub fn op(self) -> BinOp {
        match self {
            ReduceFn::Sum => BinOp::Add,
            ReduceFn::Prod => BinOp::Mul,
            ReduceFn::Max => BinOp::Max,
            ReduceFn::Min => BinOp::Min,
        }
    }

    /// What no elements give; `dtype` is one of those with [`DType::in_kernels`].
    pub fn neutral(self, dtype: DType) -> Const {
        let bits = dtype.bits() as u32;
        match self {
            ReduceFn::Sum => Const::number(dtype, 0.0),
            ReduceFn::Prod => Const::number(dtype, 1.0),
            ReduceFn::Max if dtype.is_float() => Const::number(dtype, f64::NEG_INFINITY),
            ReduceFn::Min if dtype.is_float() => Const::number(dtype, f64::INFINITY),
            ReduceFn::Max if dtype.is_signed() => Const::int(dtype, i64::MIN >> (64 - bits)),
            ReduceFn::Min if dtype.is_signed() => Const::int(dtype, i64::MAX >> (64 - bits)),
            ReduceFn::Max => Const::int(dtype, 0),
            ReduceFn::Min if dtype == DType::Bool => Const::bool(true),
            ReduceFn::Min => Const::int(dtype, -1),
        }
    }

    /// True if it applies to operands of type `x`.
    pub fn accepts(self, x: DType) -> bool {
        let order = matches!(self, ReduceFn::Max | ReduceFn::Min);
        x.in_kernels() && (x != DType::Bool || order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, eval_i64, f32s, i64s, infer};
    use std::slice::from_ref;

    fn op(f: ReduceFn, axes: &[usize]) -> Reduce { Reduce { f, axes: axes.to_vec() } }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(ReduceFn::Sum, &[0, 2]), &["f32[N, 3, 4]"]), "f32[1, 3, 1]");
        assert_eq!(infer(op(ReduceFn::Sum, &[4]), &["f32[N, 3, 4]"]), "axis 4 is outside rank 3");
        let unsorted = infer(op(ReduceFn::Sum, &[1, 0]), &["f32[N, 3, 4]"]);
        assert_eq!(unsorted, "axes [1, 0] are not sorted, different and at least one");
        assert_eq!(infer(op(ReduceFn::Sum, &[0]), &["bool[2]"]), "sum does not apply to bool");
        assert_eq!(infer(op(ReduceFn::Max, &[0]), &["bool[2]"]), "bool[1]");
    }

    #[test]
    fn reduces_any_axes() {
        let x = f32s(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(eval_f32(op(ReduceFn::Sum, &[0, 2]), from_ref(&x)), [14.0, 22.0]);
        assert_eq!(eval_f32(op(ReduceFn::Prod, &[1]), from_ref(&x)), [3.0, 8.0, 35.0, 48.0]);
        assert_eq!(eval_f32(op(ReduceFn::Min, &[0, 1, 2]), &[x]), [1.0]);
    }

    #[test]
    fn the_order_is_fixed() {
        let x: Vec<f32> = (0..100).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let mut p = [0.0f32; 32];
        for (i, x) in x.iter().enumerate() {
            p[i % 32] += x;
        }
        for d in [16, 8, 4, 2, 1] {
            for j in 0..d {
                p[j] += p[j + d];
            }
        }
        assert_eq!(eval_f32(op(ReduceFn::Sum, &[0]), &[f32s(&[100], &x)])[0].to_bits(), p[0].to_bits());
        // Transposed data reduced over the other axis has the same numbers.
        let columns: Vec<f32> = x.iter().flat_map(|&x| [x, -x]).collect();
        assert_eq!(eval_f32(op(ReduceFn::Sum, &[0]), &[f32s(&[100, 2], &columns)]), [p[0], -p[0]]);
    }

    #[test]
    fn no_elements_give_the_neutral_one() {
        let empty = f32s(&[0, 1], &[]);
        let run = |f| eval_f32(op(f, &[0]), from_ref(&empty))[0];
        let all = [ReduceFn::Sum, ReduceFn::Prod, ReduceFn::Max, ReduceFn::Min].map(run);
        assert_eq!(all, [0.0, 1.0, f32::NEG_INFINITY, f32::INFINITY]);
        assert_eq!(eval_i64(op(ReduceFn::Max, &[0]), &[i64s(&[0], &[])]), [i64::MIN]);
        assert_eq!(ReduceFn::Min.neutral(DType::U8).as_i64(), 255);
        assert_eq!(ReduceFn::Max.neutral(DType::I8).as_i64(), -128);
        assert_eq!(ReduceFn::Min.neutral(DType::Bool), Const::bool(true));
    }

    #[test]
    fn nan_wins_wherever_it_is() {
        for at in [0, 31, 32, 39] {
            let mut x = [1.0; 40];
            x[at] = f32::NAN;
            assert!(eval_f32(op(ReduceFn::Max, &[0]), &[f32s(&[40], &x)])[0].is_nan());
            assert!(eval_f32(op(ReduceFn::Min, &[0]), &[f32s(&[40], &x)])[0].is_nan());
        }
    }

    #[test]
    fn narrow_floats_round_once_and_integers_wrap() {
        let halves = [2048.0, 1.0, 1.0].map(|x| Const::number(DType::F16, x));
        let y = eval(op(ReduceFn::Sum, &[0]), &[Tensor::from_consts(DType::F16, vec![3], halves)]).unwrap();
        assert_eq!(y.to_f32(), [2050.0]);
        let bytes = [200, 100].map(|x| Const::int(DType::U8, x));
        assert_eq!(eval_i64(op(ReduceFn::Sum, &[0]), &[Tensor::from_consts(DType::U8, vec![2], bytes)]), [44]);
    }
}
