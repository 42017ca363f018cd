//! One opened GPU: its context, what it can do, and whether it still works.
//!
//! Invariant: after a sticky error no call reaches the driver any more. What was allocated is then left to the end of the
//! process, since the device may still be writing to it.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::api::{Api, Context, Status, device_attribute};
use super::cache::CubinCache;
use crate::artifact::VariantInfo;
use crate::error::{Error, Result};

/// Oldest driver served: explicit graphs are complete from CUDA 11.4 on, and every device served has such a driver.
const MIN_DRIVER: i32 = 11040;
const MIN_DRIVER_NAME: &str = "11.4";
/// Oldest devices served.
const MIN_CAPABILITY: (u32, u32) = (8, 0);

/// How a GPU is used.
#[derive(Clone, Debug, Default)]
pub struct CudaOptions {
    /// Where compiled code is kept between processes.
    pub cache: CubinCache,
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its number among those visible to the process.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uuid: [u8; 16],
    /// Compute capability, such as (9, 0).
    pub capability: (u32, u32),
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the second-level cache.
    pub cache_bytes: u64,
    /// Most bytes of shared memory of a block.
    pub shared_bytes: u32,
    /// Most threads of a block.
    pub block_threads: u32,
    /// Version of CUDA that the driver has, such as (12, 0).
    pub driver: (u32, u32),
}

/// How well a variant suits a GPU, or why it does not. Code for exactly this generation is best, then that for the newest.
pub(crate) fn suits(info: &GpuInfo, variant: &VariantInfo) -> Result<u64, String> {
    if variant.arch != super::ARCH {
        return Err(format!("it is for {}, the device is an NVIDIA GPU", variant.arch));
    }
    let own = info.capability.0 * 10 + info.capability.1;
    let mut best = 0;
    for feature in &variant.features {
        let number = feature.strip_prefix("sm_");
        let (digits, is_exact) = match number.and_then(|number| number.strip_suffix('a')) {
            Some(digits) => (Some(digits), true),
            None => (number, false),
        };
        let Some(needed) = digits.and_then(|digits| digits.parse::<u32>().ok()) else {
            return Err(format!("it needs `{feature}`, which this runtime does not know"));
        };
        if is_exact && needed != own {
            return Err(format!("it is for {feature} exactly, the device is sm_{own}"));
        }
        if needed > own {
            return Err(format!("it is for {feature} and newer, the device is sm_{own}"));
        }
        best = best.max(u64::from(needed) * 2 + u64::from(is_exact));
    }
    Ok(best)
}

/// An opened GPU.
pub(crate) struct Gpu {
    pub(super) api: Api,
    device: i32,
    pub(super) context: Context,
    pub(crate) info: GpuInfo,
    pub(super) cache: CubinCache,
    is_poisoned: AtomicBool,
    poison: Mutex<String>,
}

impl Gpu {
    /// Opens device `ordinal` of a driver.
    pub(crate) fn open(api: Api, ordinal: u32, options: &CudaOptions) -> Result<Arc<Gpu>> {
        let driver = &api.0;
        // SAFETY: no preconditions.
        match unsafe { driver.init(0) } {
            Status::SUCCESS => {}
            Status::NO_DEVICE => return Err(Error::NoDevice { ordinal, found: "the driver sees none".into() }),
            status => return Err(Error::DriverCall { call: "cuInit", error: describe(&api, status) }),
        }
        let mut version = 0;
        // SAFETY: an out-parameter of its type.
        check_early(&api, "cuDriverGetVersion", unsafe { driver.driver_get_version(&mut version) })?;
        if version < MIN_DRIVER {
            let found = format!("it has CUDA {}.{}", version / 1000, version % 1000 / 10);
            return Err(Error::OldDriver { found, needed: MIN_DRIVER_NAME });
        }
        let mut count = 0;
        // SAFETY: as above.
        check_early(&api, "cuDeviceGetCount", unsafe { driver.device_get_count(&mut count) })?;
        let number = i32::try_from(ordinal).ok().filter(|&number| number < count);
        let Some(number) = number else {
            return Err(Error::NoDevice { ordinal, found: format!("the driver sees {count}") });
        };
        let mut device = 0;
        // SAFETY: as above.
        check_early(&api, "cuDeviceGet", unsafe { driver.device_get(&mut device, number) })?;
        let info = query(&api, device, ordinal, version)?;
        if info.capability < MIN_CAPABILITY {
            let found = format!("{}.{}", info.capability.0, info.capability.1);
            return Err(Error::OldDevice { device: info.name, found, needed: "8.0" });
        }
        let mut context = Context::default();
        // SAFETY: as above; released when the `Gpu` is dropped.
        check_early(&api, "cuDevicePrimaryCtxRetain", unsafe { driver.primary_ctx_retain(&mut context, device) })?;
        let is_poisoned = AtomicBool::new(false);
        let cache = options.cache.clone();
        Ok(Arc::new(Gpu { api, device, context, info, cache, is_poisoned, poison: Mutex::default() }))
    }

    /// Makes the context current on this thread. To be called before any other call; fails if the device has failed.
    pub(crate) fn enter(&self) -> Result<()> {
        self.alive()?;
        // SAFETY: the context is retained as long as `self` lives.
        self.check("cuCtxSetCurrent", unsafe { self.api.0.ctx_set_current(self.context) })
    }

    /// Fails if the device has failed.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(why) => Err(Error::DevicePoisoned(why)),
        }
    }

    /// Why the device has failed, if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        if !self.is_poisoned.load(Ordering::Acquire) {
            return None;
        }
        Some(self.poison.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The error of a call, if it failed.
    #[inline]
    pub(super) fn check(&self, call: &'static str, status: Status) -> Result<()> {
        if status == Status::SUCCESS { Ok(()) } else { Err(self.error(call, status)) }
    }

    #[cold]
    fn error(&self, call: &'static str, status: Status) -> Error {
        let error = describe(&self.api, status);
        if status.is_sticky() {
            self.fail(&error);
            return Error::DeviceFault { call, error, suspects: String::new() };
        }
        Error::DriverCall { call, error }
    }

    /// Notes why the device has failed; a later, better explanation replaces an earlier one.
    pub(super) fn fail(&self, why: &str) {
        *self.poison.lock().unwrap_or_else(PoisonError::into_inner) = why.to_string();
        self.is_poisoned.store(true, Ordering::Release);
    }

    /// The error of an allocation.
    pub(super) fn check_allocation(&self, call: &'static str, status: Status, bytes: usize) -> Result<()> {
        if status == Status::OUT_OF_MEMORY {
            return Err(Error::OutOfMemory(bytes as u64));
        }
        self.check(call, status)
    }

    /// Runs a call that gives something back to the driver, unless the device has failed. Failures are not reported:
    /// nothing can be done about them while dropping.
    pub(super) fn give_back(&self, call: impl FnOnce(&Api) -> Status) {
        if self.enter().is_ok() {
            let status = call(&self.api);
            if status.is_sticky() {
                self.fail(&describe(&self.api, status));
            }
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: balances the retain in `open`; everything that lives in the context holds this `Gpu` and is gone.
        unsafe { self.api.0.primary_ctx_release(self.device) };
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.fmt(f)
    }
}

fn query(api: &Api, device: i32, ordinal: u32, version: i32) -> Result<GpuInfo> {
    let driver = &api.0;
    let attribute = |attribute: i32| {
        let mut value = 0;
        // SAFETY: an out-parameter of its type; the device comes from the driver.
        check_early(api, "cuDeviceGetAttribute", unsafe {
            driver.device_get_attribute(&mut value, attribute, device)
        })?;
        Ok::<u32, Error>(u32::try_from(value).unwrap_or(0))
    };
    let mut name = [0 as c_char; 256];
    // SAFETY: the buffer has the length given, and the driver ends the name with a zero within it.
    check_early(api, "cuDeviceGetName", unsafe { driver.device_get_name(name.as_mut_ptr(), 255, device) })?;
    let mut uuid = [0; 16];
    // SAFETY: an out-parameter of its type.
    check_early(api, "cuDeviceGetUuid", unsafe { driver.device_get_uuid(&mut uuid, device) })?;
    let mut memory = 0;
    // SAFETY: an out-parameter of its type.
    check_early(api, "cuDeviceTotalMem", unsafe { driver.device_total_mem(&mut memory, device) })?;
    let name: Vec<u8> = name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
    Ok(GpuInfo {
        ordinal,
        name: String::from_utf8_lossy(&name).into_owned(),
        uuid,
        capability: (
            attribute(device_attribute::COMPUTE_CAPABILITY_MAJOR)?,
            attribute(device_attribute::COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(device_attribute::MULTIPROCESSOR_COUNT)?,
        memory_bytes: memory as u64,
        cache_bytes: u64::from(attribute(device_attribute::L2_CACHE_SIZE)?),
        shared_bytes: attribute(device_attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        block_threads: attribute(device_attribute::MAX_THREADS_PER_BLOCK)?,
        driver: ((version / 1000) as u32, (version % 1000 / 10) as u32),
    })
}

/// The error of a call made before there is a context.
fn check_early(api: &Api, call: &'static str, status: Status) -> Result<()> {
    match status {
        Status::SUCCESS => Ok(()),
        status => Err(Error::DriverCall { call, error: describe(api, status) }),
    }
}

/// An error by its name and the driver's own words.
pub(super) fn describe(api: &Api, status: Status) -> String {
    let text = |get: &dyn Fn(*mut *const c_char) -> Status| {
        let mut text = std::ptr::null();
        if get(&mut text) != Status::SUCCESS || text.is_null() {
            return None;
        }
        // SAFETY: the driver returns static text that ends with a zero.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    // SAFETY: an out-parameter of its type; any status may be asked for.
    let name = text(&|out| unsafe { api.0.get_error_name(status, out) });
    // SAFETY: as above.
    let words = text(&|out| unsafe { api.0.get_error_string(status, out) });
    let name = name.or_else(|| status.name().map(|name| format!("CUDA_ERROR_{name}")));
    let name = name.unwrap_or_else(|| format!("error {}", status.0));
    match words {
        Some(words) => format!("{name} ({words})"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(capability: (u32, u32)) -> GpuInfo {
        GpuInfo {
            ordinal: 0,
            name: String::new(),
            uuid: [0; 16],
            capability,
            multiprocessors: 1,
            memory_bytes: 0,
            cache_bytes: 0,
            shared_bytes: 0,
            block_threads: 1024,
            driver: (12, 0),
        }
    }

    fn variant(feature: &str) -> VariantInfo {
        let arch = super::super::ARCH.to_string();
        VariantInfo { arch, features: vec![feature.into()], ..VariantInfo::default() }
    }

    #[test]
    fn the_best_variant_is_the_newest_that_runs() {
        let score = |capability, feature: &str| suits(&info(capability), &variant(feature)).ok();
        assert!(score((9, 0), "sm_90a") > score((9, 0), "sm_90"));
        assert!(score((9, 0), "sm_90") > score((9, 0), "sm_80"));
        assert!(score((12, 0), "sm_80").is_some());
        assert_eq!(score((12, 0), "sm_90a"), None);
        assert_eq!(score((8, 6), "sm_90"), None);
        assert_eq!(score((8, 6), "avx2"), None);
        assert!(suits(&info((9, 0)), &VariantInfo { arch: "x86_64".into(), ..VariantInfo::default() }).is_err());
    }

    #[test]
    fn sticky_errors_are_told_apart() {
        assert!(Status::ILLEGAL_ADDRESS.is_sticky() && Status::LAUNCH_FAILED.is_sticky());
        assert!(!Status::OUT_OF_MEMORY.is_sticky() && !Status::INVALID_VALUE.is_sticky());
    }
}
