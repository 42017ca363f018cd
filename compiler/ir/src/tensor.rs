//! Constant data with an element type and a shape.

use bytes::Bytes;

use crate::dtype::DType;
use crate::kernel::Const;
use crate::scalar;
use crate::types::Type;

/// A tensor of constants, row-major, little-endian, packed as in `TensorProto.raw_data`. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements; [`DType::bytes_for`] the number of elements.
    pub data: Bytes,
}

impl Tensor {
    /// A tensor over bytes; none if their number does not fit the shape.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Option<Tensor> {
        let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b))?;
        (dtype.bytes_for(count)? == data.len()).then_some(Tensor { dtype, shape, data })
    }

    /// A tensor from its elements. Panics if their number does not fit the shape.
    pub fn from_consts(dtype: DType, shape: Vec<usize>, elements: impl IntoIterator<Item = Const>) -> Tensor {
        let count: usize = shape.iter().product();
        let mut data = Vec::with_capacity(count * dtype.size());
        let elements = elements.into_iter().inspect(|c| debug_assert_eq!(c.dtype, dtype));
        // A copy of known length is one instruction.
        match dtype.size() {
            4 => elements.for_each(|c| data.extend_from_slice(&(c.bits as u32).to_le_bytes())),
            size => elements.for_each(|c| data.extend_from_slice(&c.bits.to_le_bytes()[..size])),
        }
        Tensor::new(dtype, shape, data.into()).expect("as many elements as the shape says")
    }

    /// A tensor of f32.
    pub fn from_f32(shape: Vec<usize>, elements: &[f32]) -> Tensor {
        Tensor::from_consts(DType::F32, shape, elements.iter().map(|&x| Const::f32(x)))
    }

    /// A tensor of i64.
    pub fn from_i64(shape: Vec<usize>, elements: &[i64]) -> Tensor {
        Tensor::from_consts(DType::I64, shape, elements.iter().map(|&x| Const::i64(x)))
    }

    /// `value` in every element.
    pub fn filled(shape: Vec<usize>, value: Const) -> Tensor {
        let count = shape.iter().product();
        Tensor::from_consts(value.dtype, shape, std::iter::repeat_n(value, count))
    }

    /// A scalar.
    pub fn scalar(value: Const) -> Tensor { Tensor::filled(Vec::new(), value) }

    /// Number of elements.
    pub fn len(&self) -> usize { self.shape.iter().product() }

    /// True without elements.
    pub fn is_empty(&self) -> bool { self.len() == 0 }

    /// Its type.
    pub fn ty(&self) -> Type { Type::fixed(self.dtype, &self.shape) }

    /// Element `i` in row-major order; types of at least one byte.
    pub fn get(&self, i: usize) -> Const {
        let size = self.dtype.size();
        let mut bits = [0; 8];
        bits[..size].copy_from_slice(&self.data[i * size..(i + 1) * size]);
        Const { dtype: self.dtype, bits: u64::from_le_bytes(bits) }
    }

    /// The elements in row-major order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Const> + '_ { (0..self.len()).map(|i| self.get(i)) }

    /// The elements converted to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        if self.dtype == DType::F32 {
            return self.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect();
        }
        self.iter().map(|c| f32::from_bits(scalar::convert(c, DType::F32).bits as u32)).collect()
    }

    /// The elements converted to f64.
    pub fn to_f64(&self) -> Vec<f64> {
        self.iter().map(|c| f64::from_bits(scalar::convert(c, DType::F64).bits)).collect()
    }

    /// The elements of an integer or bool tensor.
    pub fn to_i64(&self) -> Vec<i64> { self.iter().map(|c| scalar::convert(c, DType::I64).as_i64()).collect() }

    /// The tensor whose elements, row-major, are the elements of this one with the numbers `from`. Any element type.
    pub fn pick(&self, shape: Vec<usize>, from: impl IntoIterator<Item = usize>) -> Tensor {
        let cells = self.cells();
        let width = self.dtype.bits().div_ceil(8);
        let mut data = Vec::with_capacity(shape.iter().product::<usize>() * width);
        for i in from {
            data.extend_from_slice(&cells[i * width..(i + 1) * width]);
        }
        Tensor::from_cells(self.dtype, shape, data)
    }

    /// The tensor of `shape` whose element at `index` is element `offset + sum of index[a] * steps[a]` of this one.
    pub fn strided(&self, shape: &[usize], offset: i64, steps: &[i64]) -> Tensor {
        let mut from = Vec::with_capacity(shape.iter().product());
        for_each_index(shape, |index| {
            from.push((offset + index.iter().zip(steps).map(|(&i, s)| i as i64 * s).sum::<i64>()) as usize);
        });
        self.pick(shape.to_vec(), from)
    }

    /// The elements as whole bytes each: types smaller than a byte take one, low bits first.
    pub fn cells(&self) -> Bytes {
        let bits = self.dtype.bits();
        if bits >= 8 || bits == 0 {
            return self.data.clone();
        }
        let per_byte = 8 / bits;
        let cell = |i: usize| (self.data[i / per_byte] >> (i % per_byte * bits)) & ((1 << bits) - 1);
        (0..self.len()).map(cell).collect::<Vec<u8>>().into()
    }

    /// The inverse of [`Tensor::cells`]. Panics if the number of cells does not fit the shape.
    pub fn from_cells(dtype: DType, shape: Vec<usize>, cells: Vec<u8>) -> Tensor {
        let bits = dtype.bits();
        if bits >= 8 || bits == 0 {
            return Tensor::new(dtype, shape, cells.into()).expect("as many elements as the shape says");
        }
        let per_byte = 8 / bits;
        let pack = |group: &[u8]| group.iter().rev().fold(0u8, |byte, c| byte << bits | c & ((1 << bits) - 1));
        let data: Vec<u8> = cells.chunks(per_byte).map(pack).collect();
        Tensor::new(dtype, shape, data.into()).expect("as many elements as the shape says")
    }

    /// The same elements in another shape of as many elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Tensor {
        debug_assert_eq!(shape.iter().product::<usize>(), self.len());
        Tensor { dtype: self.dtype, shape, data: self.data.clone() }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { write!(f, "{} of {} bytes", self.ty(), self.data.len()) }
}

/// Row-major strides of a shape, in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1] * shape[i + 1];
    }
    out
}

/// Calls `f` with every index of a shape, in row-major order.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let Some(axis) = (0..shape.len()).rev().find(|&a| index[a] + 1 < shape[a]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}
