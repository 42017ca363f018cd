//! Tile registers of Intel's AMX: whether the processor has them, and whether the system lets this process use them.
//!
//! The processor says what it has, and the system which states of it are saved when threads are switched (Intel 64 and IA-32
//! Architectures Software Developer's Manual, volume 1, section 18.3). Linux saves the eight kilobytes of tiles only for a
//! process that has asked, once, for all of its threads; the first tile instruction of any other is a signal. So the
//! permission is asked for here, when code that needs it is about to be loaded, and code is refused without it.

use std::sync::OnceLock;

/// The features this module knows.
pub(super) const NAMES: [&str; 2] = ["amx-int8", "amx-tile"];

/// What there is of AMX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amx {
    /// Per name, if the processor has it.
    processor: [bool; 2],
    /// The system saves the states of tiles, and lets this process have them.
    permitted: bool,
}

/// Features of leaf 7, register EDX, by the order of [`NAMES`].
const FEATURE_BITS: [u32; 2] = [25, 24];
/// Bits of XCR0: the configuration of tiles and their data.
const STATES: u64 = 0b11 << 17;

impl Amx {
    /// From the processor's registers, and what the system answers if there is something to ask for.
    fn of(leaf7_edx: u32, xcr0: u64, permission: impl FnOnce() -> bool) -> Amx {
        let processor = FEATURE_BITS.map(|bit| leaf7_edx & 1 << bit != 0);
        let saved = xcr0 & STATES == STATES;
        Amx { processor, permitted: processor.contains(&true) && saved && permission() }
    }

    /// Whether code may use this feature; none if it is no part of AMX.
    fn usable(self, name: &str) -> Option<bool> {
        let at = NAMES.iter().position(|known| *known == name)?;
        Some(self.processor[at] && self.permitted)
    }

    /// True if the processor has this feature, but the system does not let this process use it.
    fn withheld(self, name: &str) -> bool {
        NAMES.iter().zip(self.processor).any(|(known, has)| *known == name && has) && !self.permitted
    }
}

/// Whether code may use this feature, for which the system is asked; none if it is no part of AMX.
pub(super) fn detect(name: &str) -> Option<bool> {
    if NAMES.contains(&name) { here().usable(name) } else { None }
}

/// True if it is the system that does not let this process use this feature of the processor.
pub(super) fn withheld(name: &str) -> bool {
    NAMES.contains(&name) && here().withheld(name)
}

/// What there is on this machine, for this process.
fn here() -> Amx {
    static HERE: OnceLock<Amx> = OnceLock::new();
    *HERE.get_or_init(|| {
        let (leaf7_edx, xcr0) = registers();
        Amx::of(leaf7_edx, xcr0, request)
    })
}

/// EDX of leaf 7, and XCR0.
#[cfg(target_arch = "x86_64")]
fn registers() -> (u32, u64) {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return (0, 0);
    }
    // SAFETY: bit OSXSAVE of leaf 1 says that the system has enabled `xgetbv`, and register 0 exists wherever it has.
    let xcr0 = unsafe { _xgetbv(0) };
    (__cpuid_count(7, 0).edx, xcr0)
}

#[cfg(not(target_arch = "x86_64"))]
fn registers() -> (u32, u64) {
    (0, 0)
}

/// Asks the system to save the data of tiles for this process; true if it does.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request() -> bool {
    /// `ARCH_REQ_XCOMP_PERM` of `arch_prctl` (Linux, `Documentation/arch/x86/xstate.rst`).
    const REQUEST: libc::c_long = 0x1023;
    /// The data of tiles, by its bit in XCR0.
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and touches no memory of the process. What it changes is the size of signal
    // frames of later signals, for which it checks that every alternate stack has room.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn request() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: u32 = 1 << 24 | 1 << 25;

    #[test]
    fn processor_system_and_permission_are_needed() {
        let usable = |edx, xcr0, permission| NAMES.map(|name| Amx::of(edx, xcr0, || permission).usable(name));
        let all = 0xe7 | STATES;
        assert_eq!(usable(BOTH, all, true), [Some(true); 2]);
        assert_eq!(usable(1 << 24, all, true), [Some(false), Some(true)]);
        for (edx, xcr0, permission) in
            [(0, all, true), (BOTH, 0xe7, true), (BOTH, all ^ 1 << 18, true), (BOTH, all, false)]
        {
            assert_eq!(usable(edx, xcr0, permission), [Some(false); 2], "{edx:#x} {xcr0:#x} {permission}");
        }
        assert_eq!(Amx::of(BOTH, all, || true).usable("avx2"), None);
    }

    #[test]
    fn nothing_is_asked_of_a_system_without_tiles() {
        let asked = || panic!("asked for what is not there");
        assert_eq!(Amx::of(0, 0xe7 | STATES, asked).usable("amx-tile"), Some(false));
        assert_eq!(Amx::of(BOTH, 0xe7, asked).usable("amx-tile"), Some(false));
    }

    #[test]
    fn a_refusal_is_told_apart_from_a_lack() {
        let withheld = |edx, permission| NAMES.map(|name| Amx::of(edx, STATES, || permission).withheld(name));
        assert_eq!(withheld(BOTH, false), [true; 2]);
        assert_eq!(withheld(1 << 24, false), [false, true]);
        assert_eq!(withheld(BOTH, true), [false; 2]);
        assert_eq!(withheld(0, false), [false; 2]);
    }
}
