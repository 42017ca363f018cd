//! Shorthands for ops that move elements.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Const;
use xlac_ir::ops::pad::PadMode;
use xlac_ir::ops::{Broadcast, Concat, Gather, Iota, Pad, Reshape, Slice, Transpose};
use xlac_ir::tensor::Tensor;

use super::Builder;
use crate::fail::{Res, bail, ensure};

impl Builder<'_> {
    /// The same elements in another shape.
    pub fn reshape(&mut self, x: ValueId, shape: &[Dim]) -> Res<ValueId> {
        let ty = self.ty(x);
        if ty.shape == shape {
            return Ok(x);
        }
        self.equal(&ty.elements(), &Dim::product(shape), "the number of elements stays the same")?;
        let known = self.known.get(&x).cloned();
        let y = self.op(Reshape { shape: shape.to_vec() }, &[x])?;
        if let Some(known) = known {
            self.known.insert(y, known);
        }
        Ok(y)
    }

    /// Without these axes of size 1.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> Res<ValueId> {
        let shape = self.shape(x);
        for &a in axes {
            self.equal(&shape[a], &Dim::ONE, "only axes of size 1 can be removed")?;
        }
        let left: Vec<Dim> = (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a].clone()).collect();
        self.reshape(x, &left)
    }

    /// With new axes of size 1 at these places of the result, ascending.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> Res<ValueId> {
        let mut shape = self.shape(x);
        for &a in axes {
            ensure!(a <= shape.len(), AXIS, "axis {a} is outside of the rank of the result");
            shape.insert(a, Dim::ONE);
        }
        self.reshape(x, &shape)
    }

    /// Reshaped to rank `rank` so that it broadcasts along `axis`: `[n]` to `[1, n, 1, 1]`.
    pub fn along(&mut self, x: ValueId, axis: usize, rank: usize) -> Res<ValueId> {
        let mut shape = vec![Dim::ONE; rank];
        shape[axis] = Dim::product(&self.shape(x));
        self.reshape(x, &shape)
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Res<ValueId> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(x);
        }
        self.op(Transpose { perm: perm.to_vec() }, &[x])
    }

    /// With one axis moved to another place.
    pub fn move_axis(&mut self, x: ValueId, from: usize, to: usize) -> Res<ValueId> {
        let mut perm: Vec<usize> = (0..self.rank(x)).filter(|&a| a != from).collect();
        perm.insert(to, from);
        self.transpose(x, &perm)
    }

    /// Repeated to a shape.
    pub fn broadcast(&mut self, x: ValueId, shape: &[Dim]) -> Res<ValueId> {
        let from = self.shape(x);
        if from == shape {
            return Ok(x);
        }
        ensure!(from.len() <= shape.len(), TYPES, "rank {} does not broadcast to rank {}", from.len(), shape.len());
        for (d, s) in from.iter().zip(&shape[shape.len() - from.len()..]) {
            if !d.is(1) {
                self.equal(d, s, "only axes of size 1 can be repeated")?;
            }
        }
        self.op(Broadcast { shape: shape.to_vec() }, &[x])
    }

    /// Joined along an axis.
    pub fn concat(&mut self, parts: &[ValueId], axis: usize) -> Res<ValueId> {
        let [first, rest @ ..] = parts else { bail!(ARITY, "nothing to join") };
        let shape = self.shape(*first);
        ensure!(axis < shape.len(), AXIS, "axis {axis} is outside of rank {}", shape.len());
        for &part in rest {
            let other = self.shape(part);
            ensure!(other.len() == shape.len(), TYPES, "ranks {} and {} cannot be joined", shape.len(), other.len());
            for a in (0..shape.len()).filter(|&a| a != axis) {
                self.equal(&shape[a], &other[a], "axes of joined tensors agree")?;
            }
        }
        if rest.is_empty() { Ok(*first) } else { self.op(Concat { axis }, parts) }
    }

    /// `size` elements of one axis from `start` on.
    pub fn slice(&mut self, x: ValueId, axis: usize, start: &Dim, size: &Dim) -> Res<ValueId> {
        let shape = self.shape(x);
        if start.is(0) && *size == shape[axis] {
            return Ok(x);
        }
        let mut starts = vec![Dim::ZERO; shape.len()];
        let mut sizes = shape.clone();
        starts[axis] = start.clone();
        sizes[axis] = size.clone();
        self.op(Slice { starts, steps: vec![1; shape.len()], sizes }, &[x])
    }

    /// Element `i` of an axis, which is dropped.
    pub fn pick(&mut self, x: ValueId, axis: usize, i: i64) -> Res<ValueId> {
        let part = self.slice(x, axis, &Dim::from(i), &Dim::ONE)?;
        self.squeeze(part, &[axis])
    }

    /// An axis in the opposite order.
    pub fn reverse(&mut self, x: ValueId, axis: usize) -> Res<ValueId> {
        let shape = self.shape(x);
        let mut starts = vec![Dim::ZERO; shape.len()];
        let mut steps = vec![1; shape.len()];
        starts[axis] = &shape[axis] - &Dim::ONE;
        steps[axis] = -1;
        self.op(Slice { starts, steps, sizes: shape }, &[x])
    }

    /// `value` put around axis `axis`.
    pub fn pad_axis(&mut self, x: ValueId, axis: usize, before: &Dim, after: &Dim, value: f64) -> Res<ValueId> {
        let rank = self.rank(x);
        let (mut b, mut a) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
        b[axis] = before.clone();
        a[axis] = after.clone();
        let value = self.scalar(self.dtype(x), value);
        self.op(Pad { before: b, after: a, mode: PadMode::Constant }, &[x, value])
    }

    /// Slices of an axis by i64 indices.
    pub fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> Res<ValueId> {
        let indices = self.cast(indices, DType::I64)?;
        self.op(Gather { axis }, &[x, indices])
    }

    /// `0, 1, ..., n-1`.
    pub fn iota(&mut self, n: &Dim, dtype: DType) -> Res<ValueId> { self.op(Iota { n: vec![n.clone()], dtype }, &[]) }

    /// `0, 1, ..., n-1` along one axis of rank `rank`.
    pub fn iota_along(&mut self, n: &Dim, dtype: DType, axis: usize, rank: usize) -> Res<ValueId> {
        let i = self.iota(n, dtype)?;
        self.along(i, axis, rank)
    }

    /// A number in every element.
    pub fn filled(&mut self, dtype: DType, shape: &[Dim], x: f64) -> Res<ValueId> {
        let scalar = self.constant(Tensor::scalar(Const::number(dtype, x)));
        self.broadcast(scalar, shape)
    }

    /// An axis attribute as an axis, counted from the end if negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Res<usize> {
        let positive = if axis < 0 { axis.checked_add(rank as i64).unwrap_or(-1) } else { axis };
        match usize::try_from(positive) {
            Ok(a) if a < rank => Ok(a),
            _ => bail!(AXIS, "axis {axis} is outside of rank {rank}"),
        }
    }

    /// Axes attributes as axes, which must be different.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Res<Vec<usize>> {
        let axes: Vec<usize> = axes.iter().map(|&a| self.axis(a, rank)).collect::<Res<_>>()?;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        ensure!(sorted.windows(2).all(|w| w[0] != w[1]), AXIS, "an axis is given twice: {axes:?}");
        Ok(axes)
    }
}
