//! NVIDIA GPUs through the driver alone: no toolkit, no other library.
//!
//! In reading order:
//!
//! - [`api`]: the functions of `libcuda`, which `library` loads; a stand-in may take their place
//! - `gpu`: an opened device, and the end of all work on it after a sticky error
//! - `blocks`, `queue`, `graph` (with `ranges`): memory, a stream, and graphs of launches, owned and checked
//! - `code`, `cache`, `stretch`: a model on the device: kernels compiled by the driver, weights, what may become a graph
//! - `memory`, `session`, `walk`: one caller's buffers, what is prepared for given shapes, and a run

pub mod api;
mod blocks;
mod cache;
mod code;
mod gpu;
mod graph;
mod library;
mod memory;
mod queue;
mod ranges;
mod session;
mod stretch;
mod walk;

pub use api::Api;
pub use cache::CubinCache;
pub(crate) use code::{GpuCode, check_text};
pub use gpu::{CudaOptions, GpuInfo};
pub(crate) use gpu::{Gpu, suits};
pub(crate) use library::load;
pub(crate) use memory::io_bytes;
pub(crate) use session::{GpuSession, static_scratch};

/// Architecture of a variant for these devices, as [`crate::VariantInfo::arch`] has it.
pub const ARCH: &str = "nvptx64";
