//! Images, the linker, and what a driver of some version takes for which device.

use std::sync::Arc;

use xlac_runtime::device::cuda::api::Status;

use super::SimConfig;
use crate::Module;

/// How a simulated cubin begins; its length and the PTX text follow.
const MAGIC: &[u8; 8] = b"XLACSIM\0";

/// A loaded image.
pub(super) struct Image {
    pub(super) module: Module,
}

/// A link under way.
pub(super) struct Link {
    /// Address and size of the error log.
    pub(super) log: Option<(usize, usize)>,
    pub(super) cubin: Vec<u8>,
}

/// Parses text for a device, or says what the driver would answer.
pub(super) fn parse(text: &[u8], config: &SimConfig) -> Result<Arc<Image>, (Status, String)> {
    let text = std::str::from_utf8(text).map_err(|error| (Status::INVALID_PTX, error.to_string()))?;
    let module = Module::parse(text).map_err(|error| (Status::INVALID_PTX, error.to_string()))?;
    let (major, minor) = module.version();
    if needed_driver(major, minor) > config.driver {
        let log = format!("Unsupported .version {major}.{minor}");
        return Err((Status::UNSUPPORTED_PTX_VERSION, log));
    }
    let own = config.capability.0 * 10 + config.capability.1;
    let target = module.target();
    let number = target.strip_prefix("sm_").unwrap_or(target);
    let fits = match number.strip_suffix('a') {
        Some(exact) => exact.parse() == Ok(own),
        None => number.parse::<u32>().is_ok_and(|needed| needed <= own),
    };
    if !fits {
        return Err((Status::NO_BINARY_FOR_GPU, format!("the text is for {target}, the device is sm_{own}")));
    }
    Ok(Arc::new(Image { module }))
}

/// The oldest version of CUDA that knows a version of PTX.
fn needed_driver(major: u32, minor: u32) -> (u32, u32) {
    match (major, minor) {
        (..=7, minor) => (11, minor),
        (8, ..=5) => (12, minor),
        (8, minor) => (12, minor + 1),
        (major, minor) => (major + 4, minor),
    }
}

/// The text as an image of its own.
pub(super) fn to_cubin(text: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &(text.len() as u64).to_le_bytes(), text].concat()
}

/// The text of an image, which may be text itself.
///
/// # Safety
///
/// `image` points to what [`to_cubin`] made, or to bytes that end with a zero.
pub(super) unsafe fn text_of(image: *const u8) -> Vec<u8> {
    // SAFETY: the first zero is at the end of the text, or of the magic, so comparing stops in time.
    unsafe {
        let is_cubin = (0..MAGIC.len()).all(|i| *image.add(i) == MAGIC[i]);
        if is_cubin {
            let len = u64::from_le_bytes(image.add(8).cast::<[u8; 8]>().read());
            return std::slice::from_raw_parts(image.add(16), len as usize).to_vec();
        }
        std::ffi::CStr::from_ptr(image.cast()).to_bytes().to_vec()
    }
}
