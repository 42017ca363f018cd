//! Types of graph values: an element type and a shape of symbolic dims.

use std::fmt;

use crate::dim::Dim;
use crate::dtype::DType;

/// Type of a tensor value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// One dim per axis; none for a scalar.
    pub shape: Vec<Dim>,
}

impl Type {
    /// A type.
    pub fn new(dtype: DType, shape: impl Into<Vec<Dim>>) -> Type { Type { dtype, shape: shape.into() } }

    /// A type with constant dims.
    pub fn fixed(dtype: DType, shape: &[usize]) -> Type {
        Type { dtype, shape: shape.iter().map(|&d| Dim::from(d)).collect() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize { self.shape.len() }

    /// Number of elements.
    pub fn elements(&self) -> Dim { Dim::product(&self.shape) }

    /// The shape, if every dim is a constant that is a size.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| usize::try_from(d.as_const()?).ok()).collect()
    }

    /// The same shape with another element type.
    pub fn with(&self, dtype: DType) -> Type { Type { dtype, shape: self.shape.clone() } }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}
