//! What runs a plan: memory and code of a device. The only place, with [`crate::pool`], where `unsafe` is allowed.

pub(crate) mod arena;
pub mod cpu;
pub mod features;
pub(crate) mod memory;
