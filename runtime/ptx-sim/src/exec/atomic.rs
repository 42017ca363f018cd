//! Read-modify-write operations on global and shared memory.

use std::sync::atomic::Ordering::Relaxed;

use crate::exec::access::{addresses, global_access, locate, shared_access};
use crate::exec::int::{number, truncate};
use crate::exec::{Env, Site, Warp, half, real};
use crate::fault::{FaultKind, Stop, stop};
use crate::instr::{Atomic, Mods, Rmw};
use crate::race::Kind;
use crate::regs::lanes;
use crate::types::{Space, Ty};

/// The new value at a location that holds `old`.
fn combine(rmw: Rmw, ty: Ty, old: u64, value: u64, swap: u64) -> u64 {
    let (a, b) = (number(ty, old), number(ty, value));
    let result = match rmw {
        Rmw::Add => return add(ty, old, value),
        Rmw::Min => {
            if a <= b {
                old
            } else {
                value
            }
        }
        Rmw::Max => {
            if a >= b {
                old
            } else {
                value
            }
        }
        Rmw::Exch => value,
        Rmw::Cas => {
            if old == value {
                swap
            } else {
                old
            }
        }
        Rmw::And => old & value,
        Rmw::Or => old | value,
        Rmw::Xor => old ^ value,
        Rmw::Inc => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        Rmw::Dec => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
    };
    truncate(ty, result)
}

fn add(ty: Ty, old: u64, value: u64) -> u64 {
    match ty {
        Ty::F32 | Ty::F64 => real::add([old, value, 0], Mods::of(ty)),
        Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 => half::add([old, value, 0], Mods::of(ty)),
        _ => truncate(ty, old.wrapping_add(value)),
    }
}

/// Executes `atom` or `red`, lane after lane.
pub(crate) fn execute(env: &mut Env, warp: &mut Warp, a: &Atomic, mask: u32, site: Site) -> Result<(), Stop> {
    let at = addresses(&warp.regs, &a.address, mask)?;
    warp.regs.need(mask, a.value)?;
    warp.regs.need(mask, a.swap)?;
    let bytes = a.ty.bytes();
    for lane in lanes(mask) {
        let (value, swap) = (warp.regs.get(a.value, lane), warp.regs.get(a.swap, lane));
        let update = |old: u64| combine(a.rmw, a.ty, old, truncate(a.ty, value), truncate(a.ty, swap));
        if at[lane] % bytes as u64 != 0 {
            let message = format!("atomic on {bytes} bytes at {:#x}", at[lane]);
            return Err(stop(FaultKind::Misaligned, lane as u32, message));
        }
        let old = match locate(a.space, at[lane]) {
            (Space::Shared, address) => {
                let offset = shared_access(env, warp, lane, address, bytes, Kind::Atomic, site)?;
                let place = &mut env.shared[offset..offset + bytes];
                let old = place.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
                place.copy_from_slice(&update(old).to_le_bytes()[..bytes]);
                old
            }
            (Space::Global, address) => global(env, warp, lane, address, bytes, update, site)?,
            _ => return Err(stop(FaultKind::OutOfBounds, lane as u32, "atomic on private memory")),
        };
        if let Some(to) = a.to {
            warp.regs.set(to, lane, old);
        }
    }
    Ok(())
}

fn global(
    env: &mut Env,
    warp: &Warp,
    lane: usize,
    address: u64,
    bytes: usize,
    update: impl Fn(u64) -> u64,
    site: Site,
) -> Result<u64, Stop> {
    let (allocation, offset) = global_access(env, warp, lane, address, bytes, Kind::Atomic, site)?;
    allocation.define(offset, bytes);
    if bytes == 8 {
        return Ok(env.memory.exclusive(|| {
            let old = allocation.load(offset, 8) as u64;
            allocation.store(offset, 8, u128::from(update(old)));
            old
        }));
    }
    let (shift, keep) = match bytes {
        4 => (0, 0),
        _ => (8 * (offset % 4) as u32, !(0xffffu32 << (8 * (offset % 4)))),
    };
    let part = |word: u32| u64::from((word & !keep) >> shift);
    let next = |word: u32| word & keep | (update(part(word)) as u32) << shift;
    let old = allocation.atomic(offset / 4).fetch_update(Relaxed, Relaxed, |word| Some(next(word)));
    Ok(part(old.unwrap_or_else(|word| word)))
}
