//! Tensors at the boundary: owned, borrowed, and borrowed to write. Dense, row-major, little-endian.

use half::{bf16, f16};

use crate::device::memory::{self, Block};
use crate::error::{Error, Result};
use crate::plan::DType;

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Lower-case name, such as `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::I16 => "i16",
            DType::I8 => "i8",
            DType::U64 => "u64",
            DType::U32 => "u32",
            DType::U16 => "u16",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    /// Keeps [`super::Element`] to the types below, all scalars without padding.
    pub trait Sealed {}
}

/// A Rust type that is the element of a tensor.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The element type it stands for.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

elements! {
    f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i16 => I16, i8 => I8,
    u64 => U64, u32 => U32, u16 => U16, u8 => U8, bool => Bool,
}

/// Bytes of a dense tensor, or nothing when they do not fit a `usize`.
pub(crate) fn byte_len(dtype: DType, shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the tensor empty, however large the other axes are.
    if shape.contains(&0) {
        return Some(0);
    }
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, &dim| bytes.checked_mul(dim))?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}

fn checked_len(dtype: DType, shape: &[usize]) -> Result<usize> {
    byte_len(dtype, shape).ok_or_else(|| Error::TensorData(format!("shape {shape:?} of {dtype} is too large")))
}

fn check_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<()> {
    let expected = checked_len(dtype, shape)?;
    if bytes.len() != expected {
        let found = bytes.len();
        return Err(Error::TensorData(format!(
            "shape {shape:?} of {dtype} takes {expected} bytes, {found} were given"
        )));
    }
    if !bytes.is_empty() && !bytes.as_ptr().addr().is_multiple_of(dtype.size()) {
        return Err(Error::TensorData(format!(
            "the bytes are not aligned for {dtype}; copy them into a `Tensor` with `Tensor::from_bytes`"
        )));
    }
    Ok(())
}

fn check_booleans(dtype: DType, bytes: &[u8]) -> Result<()> {
    if dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err(Error::TensorData("a boolean is a byte of 0 or 1, another value was given".into()));
    }
    Ok(())
}

/// A tensor that owns its bytes, aligned to 64.
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Block,
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let data = Block::zeroed(checked_len(dtype, shape)?)?;
        Ok(Tensor { dtype, shape: shape.to_vec(), data })
    }

    /// A copy of `elements`.
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Result<Tensor> {
        Tensor::from_bytes(T::DTYPE, shape, memory::as_bytes(elements))
    }

    /// A copy of `bytes`, which need no alignment.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        let expected = checked_len(dtype, shape)?;
        if bytes.len() != expected {
            return Err(Error::TensorData(format!(
                "shape {shape:?} of {dtype} takes {expected} bytes, {} were given",
                bytes.len()
            )));
        }
        check_booleans(dtype, bytes)?;
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Block::copy_of(bytes)? })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.data.bytes_mut()
    }

    /// The elements; an error when `T` is not the element type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.view().as_slice()
    }

    /// The elements, to write; an error when `T` is not the element type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        same_dtype::<T>(self.dtype)?;
        let bytes = self.data.bytes_mut();
        memory::cast_slice_mut(bytes).ok_or_else(not_booleans)
    }

    /// Borrows the tensor.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef { dtype: self.dtype, shape: &self.shape, data: self.data.bytes() }
    }

    /// Borrows the tensor to write.
    pub fn view_mut(&mut self) -> TensorMut<'_> {
        TensorMut { dtype: self.dtype, shape: &self.shape, data: self.data.bytes_mut() }
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Tensor {
        let data = Block::copy_of(self.bytes()).unwrap_or_else(|error| panic!("{error}"));
        Tensor { dtype: self.dtype, shape: self.shape.clone(), data }
    }
}

impl PartialEq for Tensor {
    /// Same type, shape and bits.
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({}{:?})", self.dtype, self.shape)
    }
}

/// A borrowed tensor: aligned for its element type, of exactly the bytes its shape takes.
#[derive(Clone, Copy)]
pub struct TensorRef<'a> {
    dtype: DType,
    shape: &'a [usize],
    data: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// Borrows bytes; checks length, alignment and that booleans are 0 or 1.
    pub fn new(dtype: DType, shape: &'a [usize], data: &'a [u8]) -> Result<TensorRef<'a>> {
        check_bytes(dtype, shape, data)?;
        check_booleans(dtype, data)?;
        Ok(TensorRef { dtype, shape, data })
    }

    /// Borrows elements.
    pub fn from_slice<T: Element>(shape: &'a [usize], elements: &'a [T]) -> Result<TensorRef<'a>> {
        TensorRef::new(T::DTYPE, shape, memory::as_bytes(elements))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.data
    }

    /// The elements; an error when `T` is not the element type.
    pub fn as_slice<T: Element>(&self) -> Result<&'a [T]> {
        same_dtype::<T>(self.dtype)?;
        if self.data.is_empty() {
            return Ok(&[]);
        }
        memory::cast_slice(self.data).ok_or_else(not_booleans)
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Tensor::from_bytes(self.dtype, self.shape, self.data)
    }
}

/// A tensor borrowed to write: aligned for its element type, of exactly the bytes its shape takes.
pub struct TensorMut<'a> {
    dtype: DType,
    shape: &'a [usize],
    data: &'a mut [u8],
}

impl<'a> TensorMut<'a> {
    /// Borrows bytes; checks length and alignment.
    pub fn new(dtype: DType, shape: &'a [usize], data: &'a mut [u8]) -> Result<TensorMut<'a>> {
        check_bytes(dtype, shape, data)?;
        Ok(TensorMut { dtype, shape, data })
    }

    /// Borrows elements. Booleans are borrowed as bytes with [`TensorMut::new`] instead.
    pub fn from_slice<T: Element>(shape: &'a [usize], elements: &'a mut [T]) -> Result<TensorMut<'a>> {
        if T::DTYPE == DType::Bool {
            return Err(Error::TensorData("write booleans into bytes: use `TensorMut::new`".into()));
        }
        TensorMut::new(T::DTYPE, shape, memory::as_bytes_mut(elements))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size of each axis.
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.data
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.data
    }
}

fn same_dtype<T: Element>(dtype: DType) -> Result<()> {
    if dtype != T::DTYPE {
        return Err(Error::DType { tensor: "the tensor".into(), expected: T::DTYPE.name(), found: dtype.name() });
    }
    Ok(())
}

fn not_booleans() -> Error {
    Error::TensorData("a boolean is a byte of 0 or 1, another value was found".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_round_trip() {
        let tensor = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(tensor.as_slice::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(tensor.as_slice::<i32>().unwrap_err().code(), "R0103");
        assert_eq!(tensor.clone(), tensor);
        let halves = Tensor::from_slice(&[1], &[f16::from_f32(0.5)]).unwrap();
        assert_eq!(halves.dtype(), DType::F16);
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Tensor::from_slice(&[3], &[1i64]).unwrap_err().code(), "R0105");
        assert_eq!(Tensor::zeros(DType::F64, &[usize::MAX, 2]).unwrap_err().code(), "R0105");
        let empty = Tensor::zeros(DType::F64, &[usize::MAX, 0, 2]).unwrap();
        assert!(empty.as_slice::<f64>().unwrap().is_empty());
    }

    #[test]
    fn bytes_are_checked() {
        let storage = Tensor::zeros(DType::U8, &[9]).unwrap();
        assert_eq!(TensorRef::new(DType::F32, &[2], &storage.bytes()[1..]).err().unwrap().code(), "R0105");
        assert_eq!(TensorRef::new(DType::Bool, &[1], &[2]).err().unwrap().code(), "R0105");
        let mut flags = [false];
        assert!(TensorMut::from_slice(&[1], &mut flags).is_err());
    }
}
