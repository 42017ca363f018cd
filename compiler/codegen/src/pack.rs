//! Constant data as the kernels want it: recipes applied once, when the artifact is written.

use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;
use xlac_ir::weights::{WeightId, Weights};
use xlac_ir::DType;

/// Constant data of the artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob {
    /// What it is made from.
    pub source: Source,
    /// How it is arranged.
    pub pack: Pack,
    /// Element type it is stored in.
    pub dtype: DType,
}

/// What a blob is made from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A weight of the program.
    Weight(WeightId),
    /// A small constant.
    Tensor(Tensor),
}

/// How the elements of a blob are arranged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pack {
    /// As they are, row-major.
    Plain,
    /// Any strided arrangement: element `i` of the blob, row-major over `shape`, is source element
    /// `offset + sum of i[a] * strides[a]`, or zero where the coordinate along a `limits` group passes its limit.
    Strided(Strided),
}

/// A strided arrangement with zero padding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Strided {
    /// Shape of the blob.
    pub shape: Vec<usize>,
    /// Stride in the source, per axis of the blob, in elements.
    pub strides: Vec<usize>,
    /// First source element.
    pub offset: usize,
    /// `(axis, inner axis, limit)`: zero unless `index[axis] * shape[inner] + index[inner] < limit`.
    pub limit: Option<(usize, usize, usize)>,
}

impl Blob {
    /// Elements of the blob.
    pub fn len(&self, weights: &Weights) -> usize {
        match &self.pack {
            Pack::Plain => self.tensor(weights).len(),
            Pack::Strided(s) => s.shape.iter().product(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self, weights: &Weights) -> bool { self.len(weights) == 0 }

    /// Bytes of the blob.
    pub fn bytes(&self, weights: &Weights) -> usize { self.len(weights) * self.dtype.size() }

    fn tensor<'a>(&'a self, weights: &'a Weights) -> &'a Tensor {
        match &self.source {
            Source::Weight(id) => &weights.get(*id).tensor,
            Source::Tensor(t) => t,
        }
    }

    /// Makes the bytes, piece by piece, so that no second copy of a large weight is ever held.
    pub fn write<E>(&self, weights: &Weights, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let tensor = self.tensor(weights);
        match &self.pack {
            Pack::Plain if tensor.dtype == self.dtype => sink(&tensor.data),
            Pack::Plain => {
                let flat = Strided { shape: vec![tensor.len()], strides: vec![1], offset: 0, limit: None };
                write_strided(tensor, self.dtype, &flat, sink)
            }
            Pack::Strided(s) => write_strided(tensor, self.dtype, s, sink),
        }
    }
}

fn write_strided<E>(
    tensor: &Tensor,
    dtype: DType,
    s: &Strided,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    if s.shape.contains(&0) {
        return Ok(());
    }
    let (from, to) = (tensor.dtype.size(), dtype.size());
    let rank = s.shape.len();
    let mut index = vec![0usize; rank];
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        let padded = s.limit.is_some_and(|(a, b, limit)| index[a] * s.shape[b] + index[b] >= limit);
        if padded {
            buffer.extend_from_slice(&[0; 8][..to]);
        } else {
            let at = s.offset + index.iter().zip(&s.strides).map(|(i, s)| i * s).sum::<usize>();
            if tensor.dtype == dtype {
                buffer.extend_from_slice(&tensor.data[at * from..][..to]);
            } else {
                buffer.extend_from_slice(&scalar::convert(tensor.get(at), dtype).bits.to_le_bytes()[..to]);
            }
        }
        if buffer.len() >= (1 << 16) - 8 {
            sink(&buffer)?;
            buffer.clear();
        }
        let Some(axis) = (0..rank).rev().find(|&a| index[a] + 1 < s.shape[a]) else { break };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
    sink(&buffer)
}
