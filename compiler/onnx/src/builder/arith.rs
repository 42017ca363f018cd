//! Shorthands for elementwise ops and reductions.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::reduce::ReduceFn;
use xlac_ir::ops::{Cast, MatMul, Op, Reduce, Select};

use super::Builder;
use crate::fail::{Res, ensure};

macro_rules! shorthands {
    ($kind:ident: $($name:ident $f:ident),*) => { $(shorthands!(@$kind $name $f);)* };
    (@unary $name:ident $f:ident) => {
        #[allow(missing_docs)]
        pub fn $name(&mut self, x: ValueId) -> Res<ValueId> { self.unary(UnaryFn::$f, x) }
    };
    (@binary $name:ident $f:ident) => {
        #[allow(missing_docs)]
        pub fn $name(&mut self, a: ValueId, b: ValueId) -> Res<ValueId> { self.binary(BinaryFn::$f, a, b) }
    };
    (@compare $name:ident $f:ident) => {
        #[allow(missing_docs)]
        pub fn $name(&mut self, a: ValueId, b: ValueId) -> Res<ValueId> { self.compare(Pred::$f, a, b) }
    };
}

impl Builder<'_> {
    shorthands!(unary: neg Neg, abs Abs, sign Sign, floor Floor, ceil Ceil, round Round, sqrt Sqrt, exp Exp, log Log, tanh Tanh,
        erf Erf, sigmoid Sigmoid, softplus Softplus, not Not);
    shorthands!(binary: add Add, sub Sub, mul Mul, div Div, rem Mod, pow Pow, min Min, max Max, and And, or Or);
    shorthands!(compare: eq Eq, lt Lt, le Le, gt Gt, ge Ge);

    /// A function of one operand.
    pub fn unary(&mut self, f: UnaryFn, x: ValueId) -> Res<ValueId> {
        let t = self.dtype(x);
        ensure!(f.accepts(t) && t.in_kernels(), DTYPE, "`{}` does not apply to {t}", f.name());
        self.op(Op::Unary(f), &[x])
    }

    /// A function of two operands, broadcast against each other.
    pub fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> Res<ValueId> {
        let t = self.dtype(a);
        ensure!(f.accepts(t) && t.in_kernels(), DTYPE, "`{}` does not apply to {t}", f.name());
        self.unify(&[a, b])?;
        self.op(Op::Binary(f), &[a, b])
    }

    /// A function of an operand and a number.
    pub fn binary_scalar(&mut self, f: BinaryFn, a: ValueId, b: f64) -> Res<ValueId> {
        let b = self.scalar(self.dtype(a), b);
        self.binary(f, a, b)
    }

    /// `a + b` for a number `b`.
    pub fn add_scalar(&mut self, a: ValueId, b: f64) -> Res<ValueId> { self.binary_scalar(BinaryFn::Add, a, b) }
    /// `a * b` for a number `b`.
    pub fn mul_scalar(&mut self, a: ValueId, b: f64) -> Res<ValueId> { self.binary_scalar(BinaryFn::Mul, a, b) }
    /// `a / b` for a number `b`.
    pub fn div_scalar(&mut self, a: ValueId, b: f64) -> Res<ValueId> { self.binary_scalar(BinaryFn::Div, a, b) }
    /// The larger of `a` and a number.
    pub fn max_scalar(&mut self, a: ValueId, b: f64) -> Res<ValueId> { self.binary_scalar(BinaryFn::Max, a, b) }
    /// The smaller of `a` and a number.
    pub fn min_scalar(&mut self, a: ValueId, b: f64) -> Res<ValueId> { self.binary_scalar(BinaryFn::Min, a, b) }

    /// A comparison, operands broadcast against each other.
    pub fn compare(&mut self, p: Pred, a: ValueId, b: ValueId) -> Res<ValueId> {
        let t = self.dtype(a);
        ensure!(t.in_kernels(), DTYPE, "comparison does not apply to {t}");
        self.unify(&[a, b])?;
        self.op(Op::Compare(p), &[a, b])
    }

    /// A comparison with a number.
    pub fn compare_scalar(&mut self, p: Pred, a: ValueId, b: f64) -> Res<ValueId> {
        let b = self.scalar(self.dtype(a), b);
        self.compare(p, a, b)
    }

    /// `cond ? a : b`.
    pub fn select(&mut self, cond: ValueId, a: ValueId, b: ValueId) -> Res<ValueId> {
        self.unify(&[cond, a, b])?;
        self.op(Select {}, &[cond, a, b])
    }

    /// Converts the element type.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Res<ValueId> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        let known = self.known.get(&x).cloned();
        let y = self.op(Cast { to }, &[x])?;
        if let Some(known) = known.filter(|_| to.is_int() && to.bits() >= 32) {
            self.known.insert(y, known);
        }
        Ok(y)
    }

    /// Records what broadcasting operands against each other assumes about symbolic dims.
    pub fn unify(&mut self, operands: &[ValueId]) -> Res<()> {
        let shapes: Vec<Vec<Dim>> = operands.iter().map(|&v| self.shape(v)).collect();
        let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
        for from_end in 1..=rank {
            let dims = shapes.iter().filter_map(|s| s.len().checked_sub(from_end).map(|i| &s[i])).filter(|d| !d.is(1));
            let dims: Vec<&Dim> = dims.collect();
            for other in dims.iter().skip(1) {
                self.equal(dims[0], other, "operands are broadcast against each other")?;
            }
        }
        Ok(())
    }

    /// Combines over `axes` (none for nothing), which stay with size 1 or are dropped.
    pub fn reduce(&mut self, f: ReduceFn, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        let y = self.op(Reduce { f, axes: axes.clone() }, &[x])?;
        if keep { Ok(y) } else { self.squeeze(y, &axes) }
    }

    /// Number of elements that a reduction over `axes` combines, as a scalar of the element type.
    pub fn count(&mut self, x: ValueId, axes: &[usize], dtype: DType) -> Res<ValueId> {
        let shape = self.shape(x);
        let n = Dim::product(axes.iter().map(|&a| &shape[a]));
        self.dim_scalar(dtype, &n)
    }

    /// Mean over `axes`, which stay with size 1 or are dropped.
    pub fn mean(&mut self, x: ValueId, axes: &[usize], keep: bool) -> Res<ValueId> {
        let sum = self.reduce(ReduceFn::Sum, x, axes, keep)?;
        let n = self.count(x, axes, self.dtype(x))?;
        self.div(sum, n)
    }

    /// Matrix product with the element type of the first operand.
    pub fn matmul(&mut self, a: ValueId, b: ValueId, trans_b: bool) -> Res<ValueId> {
        let out = self.dtype(a);
        let (sa, sb) = (self.shape(a), self.shape(b));
        ensure!(sa.len() >= 2 && sb.len() >= 2, TYPES, "matrix product of ranks {} and {}", sa.len(), sb.len());
        let inner = if trans_b { &sb[sb.len() - 1] } else { &sb[sb.len() - 2] };
        self.equal(&sa[sa.len() - 1], inner, "inner sizes of a matrix product")?;
        self.op(MatMul { trans_a: false, trans_b, out }, &[a, b])
    }
}
