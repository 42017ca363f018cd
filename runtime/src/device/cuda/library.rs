//! Finds `libcuda` on this machine. Nothing of a toolkit is needed, and without a driver there is an error, not a crash.

use std::sync::Arc;

use super::api::{Api, Library};
use crate::error::{Error, Result};

/// Name under which every driver installs its library.
#[cfg(unix)]
const NAME: &std::ffi::CStr = c"libcuda.so.1";

/// The driver of this machine.
#[cfg(unix)]
pub(crate) fn load() -> Result<Api> {
    load_from(NAME)
}

/// There is no way to load libraries here.
#[cfg(not(unix))]
pub(crate) fn load() -> Result<Api> {
    Err(Error::NoDriver("this system is not served".into()))
}

#[cfg(unix)]
fn load_from(name: &std::ffi::CStr) -> Result<Api> {
    // SAFETY: the name ends with a zero. Loading runs the initializers of the driver's library, which is what the caller
    // asks for by naming a GPU; the library is never unloaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(Error::NoDriver(last_error()));
    }
    // SAFETY: symbols of `libcuda` have the signatures of `cuda.h`, from which `api` is written.
    let library = unsafe { Library::resolve(|symbol| libc::dlsym(handle, symbol.as_ptr())) };
    match library {
        Ok(library) => Ok(Api(Arc::new(library))),
        Err(symbol) => Err(Error::OldDriver { found: format!("it has no {symbol}"), needed: "11.4" }),
    }
}

#[cfg(unix)]
fn last_error() -> String {
    // SAFETY: `dlerror` returns null or text of this thread that stays until its next call.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() { "no reason given".into() } else { std::ffi::CStr::from_ptr(text).to_string_lossy().into() }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_an_error() {
        let error = load_from(c"libcuda-is-not-here.so.1").err().unwrap();
        assert_eq!(error.code(), "R0401");
        assert!(error.to_string().contains("libcuda-is-not-here"), "{error}");
    }

    #[test]
    fn a_library_without_the_functions_is_an_error() {
        // The C library is always there and has none of them.
        let error = load_from(c"libc.so.6").err();
        assert!(error.is_none_or(|error| matches!(error.code(), "R0401" | "R0402")));
    }
}
