//! A stand-in for the CUDA driver over the simulator: the whole path of the runtime without a GPU.
//!
//! It keeps to what the driver promises and to nothing else: work in streams happens only when somebody waits for it, and
//! in a graph in any order that its edges allow, so that a missing wait, a missing edge or memory freed too early changes
//! the outcome. Any call can be made to fail, and nothing can hang: kernels have an instruction limit.
//!
//! ```no_run
//! use xlac_ptx_sim::driver::{SimConfig, Simulator};
//!
//! let simulator = Simulator::new(SimConfig::default());
//! let model = xlac_runtime::Model::load_on("model.xlac", &simulator.device()?)?;
//! let outputs = xlac_runtime::Session::new(&model).run(&[]);
//! if let (Err(_), Some(fault)) = (outputs, simulator.last_fault()) {
//!     eprintln!("{fault}");
//! }
//! # Ok::<(), xlac_runtime::Error>(())
//! ```

mod calls;
mod code;
mod entry;
mod state;
mod work;

use std::sync::Arc;

use xlac_runtime::Device;
use xlac_runtime::device::cuda::api::Status;
use xlac_runtime::device::cuda::{Api, CubinCache, CudaOptions};

use entry::StandIn;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Name of the device.
    pub name: String,
    /// Number of devices the driver sees; they are alike, and only the first is of use.
    pub devices: u32,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Most bytes of shared memory of a block.
    pub shared_bytes: u32,
    /// Bytes of device memory.
    pub memory_bytes: u64,
    /// Version of CUDA that the driver has.
    pub driver: (u32, u32),
    /// Chooses the order of a graph's nodes. None: kernels run in order too, and fast; some: adversarially.
    pub seed: Option<u64>,
    /// Whether races are looked for, which is slow.
    pub races: bool,
    /// Whether reads of global memory that nobody wrote are faults.
    pub uninitialized_global: bool,
    /// Whether fresh memory reads as zeros, as on the CPU, instead of as what nobody would expect.
    pub zeroed: bool,
    /// Most instructions of one launch.
    pub instruction_limit: u64,
    /// Threads of the host that simulate.
    pub threads: usize,
    /// Calls that fail.
    pub failures: Vec<Failure>,
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            name: "XLAC PTX simulator".into(),
            devices: 1,
            capability: (8, 0),
            multiprocessors: 4,
            shared_bytes: 163 << 10,
            memory_bytes: 8 << 30,
            driver: (12, 0),
            seed: None,
            races: false,
            uninitialized_global: false,
            zeroed: false,
            instruction_limit: 20_000_000_000,
            threads: 1,
            failures: Vec::new(),
        }
    }
}

/// A call that is made to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Symbol of the call, such as `cuMemAlloc_v2`.
    pub call: String,
    /// Which call of it, from 1.
    pub nth: u64,
    /// What it answers; a sticky error is the end of the device.
    pub status: Status,
}

impl Failure {
    /// Call number `nth` of `call` answers `status`.
    pub fn new(call: &str, nth: u64, status: Status) -> Failure {
        Failure { call: call.into(), nth, status }
    }
}

/// A simulated driver with its device. Cloning shares it.
#[derive(Clone)]
pub struct Simulator {
    driver: Arc<StandIn>,
}

impl Simulator {
    /// A driver of its own: simulators share nothing.
    pub fn new(config: SimConfig) -> Simulator {
        Simulator { driver: Arc::new(StandIn::new(config)) }
    }

    /// The driver's calls.
    pub fn api(&self) -> Api {
        Api::new(self.driver.clone())
    }

    /// Its first device, without a cache of compiled code.
    pub fn device(&self) -> xlac_runtime::Result<Device> {
        self.device_with(&CudaOptions { cache: CubinCache::Off })
    }

    /// Its first device.
    pub fn device_with(&self, options: &CudaOptions) -> xlac_runtime::Result<Device> {
        Device::from_api_with(self.api(), options)
    }

    /// The whole text of the fault that ended the device, if there was one.
    pub fn last_fault(&self) -> Option<String> {
        self.driver.state().fault.clone()
    }

    /// How often a call was made, by its symbol.
    pub fn calls(&self, symbol: &str) -> u64 {
        self.driver.state().calls.get(symbol).copied().unwrap_or(0)
    }

    /// How many calls were made in all.
    pub fn all_calls(&self) -> u64 {
        self.driver.state().calls.values().sum()
    }

    /// Device allocations, pinned blocks, modules, streams, events and graphs that were not given back.
    pub fn live(&self) -> usize {
        self.driver.state().live()
    }
}

/// The calls of a simulated driver, for those who need no more of it.
pub fn api(config: SimConfig) -> Api {
    Simulator::new(config).api()
}
