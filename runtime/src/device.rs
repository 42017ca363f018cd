//! What runs a plan: memory and code of a device. The only place, with [`crate::pool`], where `unsafe` is allowed.

mod amx;
pub(crate) mod arena;
pub mod cpu;
pub mod cuda;
pub mod features;
pub(crate) mod memory;

use std::sync::Arc;

use crate::artifact::VariantInfo;
use crate::error::Result;
use cuda::{Api, CubinCache, CudaOptions, Gpu, GpuInfo};

/// Where a model is loaded and run. Cloning shares the device.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) kind: DeviceKind,
}

/// What a device is.
#[derive(Clone, Debug)]
pub(crate) enum DeviceKind {
    /// This machine's processor.
    Cpu,
    /// An opened GPU.
    Cuda(Arc<Gpu>),
}

impl Device {
    /// This machine's processor.
    pub fn cpu() -> Device {
        Device { kind: DeviceKind::Cpu }
    }

    /// NVIDIA GPU number `ordinal` of those visible to this process.
    pub fn cuda(ordinal: u32) -> Result<Device> {
        Device::cuda_with(ordinal, &CudaOptions::default())
    }

    /// As [`Device::cuda`], with options.
    pub fn cuda_with(ordinal: u32, options: &CudaOptions) -> Result<Device> {
        let gpu = Gpu::open(cuda::load()?, ordinal, options)?;
        Ok(Device { kind: DeviceKind::Cuda(gpu) })
    }

    /// The first GPU of a driver that is not this machine's, such as the stand-in for tests; nothing is cached.
    pub fn from_api(api: Api) -> Result<Device> {
        Device::from_api_with(api, &CudaOptions { cache: CubinCache::Off })
    }

    /// As [`Device::from_api`], with options.
    pub fn from_api_with(api: Api, options: &CudaOptions) -> Result<Device> {
        Ok(Device { kind: DeviceKind::Cuda(Gpu::open(api, 0, options)?) })
    }

    /// What the GPU is; none for the CPU.
    pub fn gpu(&self) -> Option<&GpuInfo> {
        match &self.kind {
            DeviceKind::Cpu => None,
            DeviceKind::Cuda(gpu) => Some(&gpu.info),
        }
    }

    /// Name for people.
    pub fn name(&self) -> &str {
        self.gpu().map_or("CPU", |gpu| &gpu.name)
    }

    /// Why the device has failed and refuses every call, if it has.
    pub fn failure(&self) -> Option<String> {
        match &self.kind {
            DeviceKind::Cpu => None,
            DeviceKind::Cuda(gpu) => gpu.failure(),
        }
    }

    /// How well a variant suits this device, larger being better, or why the device cannot run it.
    pub fn suits(&self, variant: &VariantInfo) -> Result<u64, String> {
        match &self.kind {
            DeviceKind::Cpu => features::suits(variant),
            DeviceKind::Cuda(gpu) => cuda::suits(&gpu.info, variant),
        }
    }
}
