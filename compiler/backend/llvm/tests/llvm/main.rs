//! Kernels compiled by LLVM and run, against the meaning that `xlac_ir::scalar` gives each element.

mod code;
mod control;
mod dot;
mod gemm;
mod matrix;
mod memory;
mod ops;
mod support;
