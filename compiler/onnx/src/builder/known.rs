//! Values that are sizes: their elements as symbolic dims.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Const;
use xlac_ir::ops::{Bind, Dims};
use xlac_ir::tensor::Tensor;

use super::{Builder, SMALL};
use crate::fail::{Res, bail, ensure};

impl Builder<'_> {
    /// The elements of an integer or bool value as dims, where they are known at import.
    pub fn known(&self, v: ValueId) -> Option<Vec<Dim>> {
        if let Some(dims) = self.known.get(&v) {
            return Some(dims.to_vec());
        }
        let ty = self.program.graph.ty(v);
        let integer = ty.dtype.in_kernels() && !ty.dtype.is_float();
        let small = ty.fixed_shape()?.iter().try_fold(1usize, |a, &b| a.checked_mul(b))? <= SMALL;
        if !integer || !small {
            return None;
        }
        Some(self.tensor(v)?.to_i64().into_iter().map(Dim::from).collect())
    }

    /// The elements of an integer or bool value, where they are constants.
    pub fn known_ints(&self, v: ValueId) -> Option<Vec<i64>> { self.known(v)?.iter().map(Dim::as_const).collect() }

    /// The one element of a value that must be a constant.
    pub fn constant_int(&self, v: ValueId, what: &str) -> Res<i64> {
        match self.known_ints(v).as_deref() {
            Some([x]) => Ok(*x),
            Some(x) => bail!(TYPES, "{what} has {} elements, expected one", x.len()),
            None => bail!(UNSUPPORTED_FORM, "{what} must be a constant"),
        }
    }

    /// The elements of a value that must be constants.
    pub fn constant_ints(&self, v: ValueId, what: &str) -> Res<Vec<i64>> {
        match self.known_ints(v) {
            Some(x) => Ok(x),
            None => bail!(UNSUPPORTED_FORM, "{what} must be a constant"),
        }
    }

    /// The elements of a value of at most one axis as dims; data is bound to new symbols, which are sizes: not negative.
    pub fn dims_of(&mut self, v: ValueId, what: &str) -> Res<Vec<Dim>> {
        if let Some(known) = self.known(v) {
            return Ok(known);
        }
        let ty = self.ty(v);
        ensure!(ty.dtype.is_int(), TYPES, "{what} has element type {}, expected an integer", ty.dtype);
        let count = ty.elements().as_const().filter(|&c| c <= SMALL as i64);
        let Some(count) = count else { bail!(UNSUPPORTED_FORM, "{what} has an unknown number of elements") };
        let vector = self.cast(v, DType::I64)?;
        let vector = self.reshape(vector, &[Dim::from(count)])?;
        let name = self.program.graph.value(v).name.clone();
        let hint = name.as_deref().unwrap_or("data").to_string();
        let symbols: Vec<_> = (0..count).map(|i| self.symbol(&if count == 1 { hint.clone() } else { format!("{hint}_{i}") })).collect();
        let dims: Vec<Dim> = symbols.iter().map(|s| Dim::sym(s)).collect();
        self.ops(Bind { symbols }, &[vector])?;
        self.set_known(v, &dims);
        self.bound.push(v);
        Ok(dims)
    }

    /// The one element of a value as a dim.
    pub fn dim_of(&mut self, v: ValueId, what: &str) -> Res<Dim> {
        match self.dims_of(v, what)?.as_slice() {
            [d] => Ok(d.clone()),
            dims => bail!(TYPES, "{what} has {} elements, expected one", dims.len()),
        }
    }

    /// Remembers the elements of a value.
    pub fn set_known(&mut self, v: ValueId, dims: &[Dim]) { self.known.insert(v, dims.into()); }

    /// A value with these elements.
    pub fn dims_value(&mut self, dtype: DType, shape: &[usize], dims: &[Dim]) -> Res<ValueId> {
        if let Some(ints) = dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() {
            let element = |&x: &i64| if dtype == DType::Bool { Const::bool(x != 0) } else { Const::int(dtype, x) };
            return Ok(self.constant(Tensor::from_consts(dtype, shape.to_vec(), ints.iter().map(element))));
        }
        let scalar = shape.is_empty();
        let mut v = self.op(Dims { dims: dims.to_vec(), scalar }, &[])?;
        if shape.len() > 1 {
            let shape: Vec<Dim> = shape.iter().map(|&d| Dim::from(d)).collect();
            v = self.reshape(v, &shape)?;
        }
        let v = self.cast(v, dtype)?;
        self.set_known(v, dims);
        Ok(v)
    }

    /// A dim as a scalar of an element type.
    pub fn dim_scalar(&mut self, dtype: DType, dim: &Dim) -> Res<ValueId> {
        if let Some(x) = dim.as_const() {
            return Ok(self.scalar(dtype, x as f64));
        }
        let v = self.dims_value(DType::I64, &[], std::slice::from_ref(dim))?;
        self.cast(v, dtype)
    }
}

impl Builder<'_> {
    /// The number of elements of a vector, which must be known.
    pub fn constant_len(&self, v: ValueId, what: &str) -> Res<usize> {
        let count = self.ty(v).elements().as_const().and_then(|c| usize::try_from(c).ok()).filter(|&c| c <= SMALL);
        match count {
            Some(c) => Ok(c),
            None => bail!(UNSUPPORTED_FORM, "{what} has an unknown number of elements"),
        }
    }
}
