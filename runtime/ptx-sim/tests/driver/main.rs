//! The runtime on the simulated driver: the plans of the runtime's own tests, and everything that can go wrong.
#![allow(missing_docs)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod failures;
mod loading;
mod random;
mod real;
mod runs;

use common::Builder;
use xlac_ptx_sim::driver::{SimConfig, Simulator};
use xlac_runtime::plan::{BlockShape, Plan};
use xlac_runtime::{Device, Model, Session, SessionOptions};

pub const PTX: &str = include_str!("kernels.ptx");

/// The plan with the kernels of `kernels.ptx` in place of functions.
pub fn on_gpu(builder: Builder) -> Plan {
    let mut plan = builder.plan;
    for kernel in &mut plan.kernels {
        kernel.name = format!("k_{}", kernel.name);
        let (threads, tiles, strided) = match kernel.name.as_str() {
            "k_add" => (16, 1, true),
            "k_add_i64" => (64, 64, false),
            "k_gather" => (16, 1, false),
            _ => (1, 1, false),
        };
        kernel.block = Some(BlockShape { threads, tiles, shared: 0, strided, writes: u64::MAX });
    }
    plan
}

pub fn load(builder: Builder, weights: &[u8], device: &Device) -> Model {
    Model::from_plan_on(on_gpu(builder), PTX, weights, device).unwrap()
}

pub fn simulator(seed: u64) -> Simulator {
    let seed = Some(seed).filter(|&seed| seed > 0);
    let races = seed.is_some_and(|seed| seed % 2 == 1);
    Simulator::new(SimConfig { seed, races, uninitialized_global: true, ..SimConfig::default() })
}

/// A model on a simulator of its own.
pub fn simulated(builder: Builder, weights: &[u8]) -> (Simulator, Model) {
    let simulator = simulator(1);
    let model = load(builder, weights, &simulator.device().unwrap());
    (simulator, model)
}

pub fn session(model: &Model) -> Session {
    Session::with_options(model, SessionOptions { debug_sync: false, ..SessionOptions::default() })
}

pub fn code<T>(result: xlac_runtime::Result<T>) -> &'static str {
    result.err().map_or("ok", |error| error.code())
}
