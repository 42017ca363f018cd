//! The language of XLAC: element types, symbolic dims, the graph IR and the kernel IR.

pub mod accumulate;
pub mod backend;
pub mod diag;
pub mod dim;
pub mod dtype;
pub mod elementwise;
pub mod graph;
pub mod interp;
pub mod kernel;
pub mod lex;
pub mod math;
pub mod op;
pub mod ops;
pub mod random;
pub mod scalar;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;
pub mod view;
pub mod weights;

pub use dtype::DType;
