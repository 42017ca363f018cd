//! The XLAC runtime: loads `.xlac` artifacts and runs them. It knows no compiler, no ONNX and no vendor library.
//!
//! ```no_run
//! use xlac_runtime::{Model, Session, TensorRef};
//!
//! let model = Model::load("model.xlac")?;
//! let mut session = Session::new(&model);
//! let image = vec![0.5f32; 3 * 224 * 224];
//! let outputs = session.run(&[TensorRef::from_slice(&[1, 3, 224, 224], &image)?])?;
//! println!("{:?}", &outputs[0].as_slice::<f32>()?[..4]);
//! # Ok::<(), xlac_runtime::Error>(())
//! ```
//!
//! On a GPU: `Model::load_on("model.xlac", &Device::cuda(0)?)`; everything else is the same.
//!
//! In reading order:
//!
//! - [`plan`]: the contract with the compiler: what a program is
//! - [`artifact`]: the file that holds it
//! - [`model`]: a checked program on this machine; `check` and `lower` look at every index, `program` is the flat result
//! - [`session`]: memory and threads to run it; `exec` walks the program, [`profile`] tells where the time went
//! - [`expr`]: symbolic sizes, evaluated when shapes change
//! - [`device`]: memory and code on the CPU or a GPU; `pool` divides launches among threads
//! - [`host`]: operators that are not generated code
//! - [`tensor`], [`error`]: what crosses the boundary

#![deny(unsafe_code)]

pub mod artifact;
mod check;
#[allow(unsafe_code)]
pub mod device;
pub mod error;
mod exec;
pub mod expr;
pub mod host;
mod lower;
pub mod model;
pub mod plan;
#[allow(unsafe_code)]
mod pool;
pub mod profile;
mod program;
pub mod session;
pub mod tensor;
mod threads;

pub use artifact::{Artifact, ArtifactWriter, LoadOptions, Metadata, Refusal, SectionInfo, VariantInfo};
pub use device::Device;
pub use device::cpu::KernelFn;
pub use device::cuda::{CubinCache, CudaOptions, GpuInfo};
pub use error::{Error, Result};
pub use model::{Model, TensorInfo};
pub use plan::{DType, Plan};
pub use profile::{LaunchTime, Profile};
pub use session::{Session, SessionOptions};
pub use tensor::{Element, Tensor, TensorMut, TensorRef};
pub use threads::default_threads;
