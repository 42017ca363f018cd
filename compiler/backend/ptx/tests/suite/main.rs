//! Kernels as PTX, executed by the simulator and compared with the kernel interpreter, bit for bit.

mod control;
mod golden;
mod memory;
mod ops;
mod ptxas;
mod random;
mod support;
mod team;
