//! Loads and stores.

use crate::exec::{Env, Site, Warp};
use crate::fault::{FaultKind, Stop, stop};
use crate::instr::{Access, Address};
use crate::race::Kind;
use crate::regs::{File, LANES, Reg, Regs, Row32, Row64, lanes};
use crate::types::{CONST_WINDOW, LOCAL_WINDOW, SHARED_BASE, SHARED_WINDOW, Space};

/// The addresses of the lanes of `mask`; those of other lanes mean nothing.
#[inline]
pub(crate) fn addresses(r: &Regs, address: &Address, mask: u32) -> Result<Row64, Stop> {
    let slot = address.base.slot;
    match address.base.file {
        File::W64 => {
            r.need64(mask, [slot])?;
            Ok(r.w64[slot as usize].map(|base| base.wrapping_add(address.offset as u64)))
        }
        _ => {
            r.need32(mask, [slot])?;
            Ok(r.w32[slot as usize].map(|base| u64::from(base.wrapping_add(address.offset as u32))))
        }
    }
}

/// The state space that a generic address points to, and the address within.
pub(crate) fn locate(space: Space, address: u64) -> (Space, u64) {
    const SIZE: u64 = 1 << 32;
    match space {
        Space::Generic if address.wrapping_sub(SHARED_WINDOW) < SIZE => (Space::Shared, address - SHARED_WINDOW),
        Space::Generic if address.wrapping_sub(LOCAL_WINDOW) < SIZE => (Space::Local, address - LOCAL_WINDOW),
        Space::Generic if address.wrapping_sub(CONST_WINDOW) < SIZE => (Space::Const, address - CONST_WINDOW),
        Space::Generic => (Space::Global, address),
        other => (other, address),
    }
}

/// The lanes of `mask` whose access is not inside `[base, base + size)` or not aligned.
#[inline(always)]
fn outside(addresses: &Row64, mask: u32, base: u64, size: u64, bytes: u64) -> u32 {
    let Some(last) = size.checked_sub(bytes) else { return mask };
    let bad = (0..32).fold(0u32, |bits, i| {
        let offset = addresses[i].wrapping_sub(base);
        bits | u32::from((offset > last) | (addresses[i] & (bytes - 1) != 0)) << i
    });
    bad & mask
}

/// Loads of one, two or four 32-bit registers where all is well and nobody watches; false if that is not so.
#[inline]
fn load_words(env: &mut Env, r: &mut Regs, access: &Access, at: &Row64, mask: u32, site: Site) -> bool {
    match access.regs[..] {
        [Some(a)] => load_n(env, r, access.space, [a], at, mask, site),
        [Some(a), Some(b)] => load_n(env, r, access.space, [a, b], at, mask, site),
        [Some(a), Some(b), Some(c), Some(d)] => load_n(env, r, access.space, [a, b, c, d], at, mask, site),
        _ => false,
    }
}

#[inline]
fn load_n<const N: usize>(
    env: &mut Env,
    r: &mut Regs,
    space: Space,
    regs: [Reg; N],
    at: &Row64,
    mask: u32,
    site: Site,
) -> bool {
    if regs.iter().any(|reg| reg.file != File::W32) {
        return false;
    }
    let bytes = 4 * N as u64;
    let mut rows = [[0; LANES]; N];
    match space {
        Space::Global if !env.check_defined => {
            let Some(allocation) = hinted(env, at, mask, bytes, site) else { return false };
            for lane in lanes(mask) {
                let words = allocation.words::<N>((at[lane] - allocation.base) as usize / 4);
                (0..N).for_each(|i| rows[i][lane] = words[i]);
            }
        }
        Space::Shared if env.pending_words == 0 => {
            if outside(at, mask, SHARED_BASE, env.shared.len() as u64, bytes) != 0 {
                return false;
            }
            for lane in lanes(mask) {
                let start = (at[lane] - SHARED_BASE) as usize;
                let (words, _) = env.shared[start..start + 4 * N].as_chunks::<4>();
                (0..N).for_each(|i| rows[i][lane] = u32::from_le_bytes(words[i]));
            }
        }
        _ => return false,
    }
    regs.iter().zip(&rows).for_each(|(reg, row)| r.set32(reg.slot, mask, row));
    true
}

/// The one allocation that all lanes access, aligned and within bounds.
#[inline]
fn hinted<'a>(
    env: &mut Env<'a>,
    at: &Row64,
    mask: u32,
    bytes: u64,
    site: Site,
) -> Option<&'a crate::memory::Allocation> {
    let memory = env.memory;
    let first = at[mask.trailing_zeros() as usize & 31];
    let allocation = match memory.allocation(env.hints[site.pc] as usize) {
        Some(allocation) if allocation.holds(first, bytes) => allocation,
        _ => {
            let index = memory.find(first, bytes)?;
            env.hints[site.pc] = index as u32;
            memory.allocation(index)?
        }
    };
    (outside(at, mask, allocation.base, allocation.bytes, bytes) == 0).then_some(allocation)
}

/// Executes a load.
pub(crate) fn load(env: &mut Env, warp: &mut Warp, access: &Access, mask: u32, site: Site) -> Result<(), Stop> {
    let at = addresses(&warp.regs, &access.address, mask)?;
    let quiet = env.races.is_none() && !env.dependent;
    if quiet && access.ty.bytes() == 4 && load_words(env, &mut warp.regs, access, &at, mask, site) {
        return Ok(());
    }
    let (element, count) = (access.ty.bytes(), access.regs.len());
    let kind = if access.strong { Kind::StrongRead } else { Kind::Read };
    let bits = element as u32 * 8;
    for lane in lanes(mask) {
        let value = read(env, warp, access.space, lane, at[lane], element * count, kind, site)?;
        for (index, reg) in access.regs.iter().enumerate() {
            let Some(reg) = reg else { continue };
            let part = (value >> (index as u32 * bits)) as u64;
            let part = if access.ty.is_signed() {
                crate::exec::int::number(access.ty, part) as u64
            } else {
                crate::exec::int::truncate(access.ty, part)
            };
            warp.regs.set(*reg, lane, part);
        }
    }
    Ok(())
}

/// Stores of 32-bit registers where all is well and nobody watches; false if that is not so.
#[inline]
fn store_n<const N: usize>(
    env: &mut Env,
    r: &Regs,
    space: Space,
    regs: [Reg; N],
    at: &Row64,
    mask: u32,
    site: Site,
) -> bool {
    if regs.iter().any(|reg| reg.file != File::W32) {
        return false;
    }
    let bytes = 4 * N as u64;
    let rows: [&Row32; N] = std::array::from_fn(|i| &r.w32[regs[i].slot as usize]);
    match space {
        Space::Global => {
            let Some(allocation) = hinted(env, at, mask, bytes, site) else { return false };
            let tracked = env.memory.is_tracked();
            for lane in lanes(mask) {
                let start = (at[lane] - allocation.base) as usize;
                allocation.set_words::<N>(start / 4, std::array::from_fn(|i| rows[i][lane]));
                if tracked {
                    allocation.define(start, 4 * N);
                }
            }
        }
        Space::Shared if env.pending_words == 0 => {
            if outside(at, mask, SHARED_BASE, env.shared.len() as u64, bytes) != 0 {
                return false;
            }
            for lane in lanes(mask) {
                let start = (at[lane] - SHARED_BASE) as usize;
                let (words, _) = env.shared[start..start + 4 * N].as_chunks_mut::<4>();
                (0..N).for_each(|i| words[i] = rows[i][lane].to_le_bytes());
            }
        }
        _ => return false,
    }
    true
}

#[inline]
fn store_words(env: &mut Env, r: &Regs, access: &Access, at: &Row64, mask: u32, site: Site) -> bool {
    match access.regs[..] {
        [Some(a)] => store_n(env, r, access.space, [a], at, mask, site),
        [Some(a), Some(b)] => store_n(env, r, access.space, [a, b], at, mask, site),
        [Some(a), Some(b), Some(c), Some(d)] => store_n(env, r, access.space, [a, b, c, d], at, mask, site),
        _ => false,
    }
}

/// Executes a store.
pub(crate) fn store(env: &mut Env, warp: &mut Warp, access: &Access, mask: u32, site: Site) -> Result<(), Stop> {
    let at = addresses(&warp.regs, &access.address, mask)?;
    for reg in access.regs.iter().flatten() {
        warp.regs.need(mask, *reg)?;
    }
    let quiet = env.races.is_none() && !env.dependent;
    if quiet && access.ty.bytes() == 4 && store_words(env, &warp.regs, access, &at, mask, site) {
        return Ok(());
    }
    let (element, count) = (access.ty.bytes(), access.regs.len());
    let kind = if access.strong { Kind::StrongWrite } else { Kind::Write };
    let bits = element as u32 * 8;
    for lane in lanes(mask) {
        let mut value = 0u128;
        for (index, reg) in access.regs.iter().flatten().enumerate() {
            let part = crate::exec::int::truncate(access.ty, warp.regs.get(*reg, lane));
            value |= u128::from(part) << (index as u32 * bits);
        }
        write(env, warp, access.space, lane, at[lane], element * count, value, kind, site)?;
    }
    Ok(())
}

fn misaligned(lane: usize, address: u64, bytes: usize) -> Stop {
    stop(FaultKind::Misaligned, lane as u32, format!("{bytes} bytes at {address:#x}, which is no multiple of {bytes}"))
}

/// The offset of `bytes` bytes at `address` in a space of `size` bytes from `base` on.
fn offset_in(lane: usize, address: u64, bytes: usize, base: u64, size: usize, name: &str) -> Result<usize, Stop> {
    let offset = address.wrapping_sub(base);
    if offset.checked_add(bytes as u64).is_some_and(|end| end <= size as u64) {
        return Ok(offset as usize);
    }
    let signed = offset as i64;
    let message = format!("{bytes} bytes at offset {signed} of {name} memory, which has {size} bytes");
    Err(stop(FaultKind::OutOfBounds, lane as u32, message))
}

/// Fails if an asynchronous copy is under way to these bytes of shared memory.
fn check_pending(env: &Env, lane: usize, offset: usize, bytes: usize) -> Result<(), Stop> {
    if env.pending_words > 0 && (offset / 4..(offset + bytes).div_ceil(4)).any(|w| env.pending[w] > 0) {
        let message = format!(
            "asynchronous race: {bytes} bytes at offset {offset} of shared memory are accessed while `cp.async` to them \
             has not been waited for"
        );
        return Err(stop(FaultKind::SharedRace, lane as u32, message));
    }
    Ok(())
}

/// Fails if the launch must wait for its predecessor and this lane has not.
pub(crate) fn check_dependence(env: &Env, warp: &Warp, lane: usize) -> Result<(), Stop> {
    if env.dependent && warp.waited >> lane & 1 == 0 {
        let message = "global memory is accessed before `griddepcontrol.wait` in a dependent launch";
        return Err(stop(FaultKind::GlobalRace, lane as u32, message));
    }
    Ok(())
}

/// Checks an access to shared memory and returns its offset.
pub(crate) fn shared_access(
    env: &mut Env,
    warp: &Warp,
    lane: usize,
    address: u64,
    bytes: usize,
    kind: Kind,
    site: Site,
) -> Result<usize, Stop> {
    let offset = offset_in(lane, address, bytes, SHARED_BASE, env.shared.len(), "shared")?;
    if kind != Kind::Copy {
        check_pending(env, lane, offset, bytes)?;
    }
    if let Some(races) = &mut env.races {
        races.shared_access(warp.thread(lane), offset, bytes, kind, site.line)?;
    }
    Ok(offset)
}

/// Checks an access to global memory and returns the allocation and the offset in it.
pub(crate) fn global_access<'a>(
    env: &mut Env<'a>,
    warp: &Warp,
    lane: usize,
    address: u64,
    bytes: usize,
    kind: Kind,
    site: Site,
) -> Result<(&'a crate::memory::Allocation, usize), Stop> {
    check_dependence(env, warp, lane)?;
    let memory = env.memory;
    let Some(allocation) = memory.find(address, bytes as u64).and_then(|i| memory.allocation(i)) else {
        return Err(stop(FaultKind::OutOfBounds, lane as u32, outside_message(env, address, bytes)));
    };
    let offset = (address - allocation.base) as usize;
    if env.check_defined && !kind.writes() && !allocation.is_defined(offset, bytes) {
        let message = format!("{bytes} bytes at offset {offset} of a global allocation, which nobody has written");
        return Err(stop(FaultKind::UndefinedMemory, lane as u32, message));
    }
    if let Some(races) = &mut env.races {
        races.global_access(warp.thread(lane), allocation, offset, bytes, kind, site.line)?;
    }
    Ok((allocation, offset))
}

fn outside_message(env: &Env, address: u64, bytes: usize) -> String {
    let near = env.memory.nearest(address);
    match near {
        Some((base, size)) => {
            let offset = address.wrapping_sub(base) as i64;
            format!("{bytes} bytes at {address:#x} of global memory: offset {offset} of an allocation of {size} bytes")
        }
        None => format!("{bytes} bytes at {address:#x} of global memory, where no allocation is near"),
    }
}

/// Where the local memory of a thread starts.
fn local_start(env: &Env, warp: &Warp, lane: usize) -> usize {
    warp.thread(lane) as usize * env.kernel.local_bytes
}

/// Reads up to 16 bytes as a little-endian number.
#[allow(clippy::too_many_arguments)]
pub(crate) fn read(
    env: &mut Env,
    warp: &Warp,
    space: Space,
    lane: usize,
    address: u64,
    bytes: usize,
    kind: Kind,
    site: Site,
) -> Result<u128, Stop> {
    if !address.is_multiple_of(bytes as u64) {
        return Err(misaligned(lane, address, bytes));
    }
    let (space, address) = locate(space, address);
    let from: &[u8] = match space {
        Space::Global | Space::Generic => {
            let (allocation, offset) = global_access(env, warp, lane, address, bytes, kind, site)?;
            return Ok(allocation.load(offset, bytes));
        }
        Space::Shared => {
            let offset = shared_access(env, warp, lane, address, bytes, kind, site)?;
            &env.shared[offset..offset + bytes]
        }
        Space::Local => {
            let offset = offset_in(lane, address, bytes, 0, env.kernel.local_bytes, "local")?;
            let start = local_start(env, warp, lane) + offset;
            &env.local[start..start + bytes]
        }
        Space::Const => {
            let offset = offset_in(lane, address, bytes, 0, env.kernel.constants.len(), "constant")?;
            &env.kernel.constants[offset..offset + bytes]
        }
        Space::Param => {
            let offset = offset_in(lane, address, bytes, 0, env.params.len(), "parameter")?;
            &env.params[offset..offset + bytes]
        }
    };
    Ok(from.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte)))
}

/// Writes up to 16 bytes of a little-endian number.
#[allow(clippy::too_many_arguments)]
pub(crate) fn write(
    env: &mut Env,
    warp: &Warp,
    space: Space,
    lane: usize,
    address: u64,
    bytes: usize,
    value: u128,
    kind: Kind,
    site: Site,
) -> Result<(), Stop> {
    if !address.is_multiple_of(bytes as u64) {
        return Err(misaligned(lane, address, bytes));
    }
    let (space, address) = locate(space, address);
    let to: &mut [u8] = match space {
        Space::Global | Space::Generic => {
            let (allocation, offset) = global_access(env, warp, lane, address, bytes, kind, site)?;
            allocation.store(offset, bytes, value);
            allocation.define(offset, bytes);
            return Ok(());
        }
        Space::Shared => {
            let offset = shared_access(env, warp, lane, address, bytes, kind, site)?;
            &mut env.shared[offset..offset + bytes]
        }
        Space::Local => {
            let offset = offset_in(lane, address, bytes, 0, env.kernel.local_bytes, "local")?;
            let start = local_start(env, warp, lane) + offset;
            &mut env.local[start..start + bytes]
        }
        Space::Const | Space::Param => {
            return Err(stop(FaultKind::OutOfBounds, lane as u32, "a store to memory that cannot be written"));
        }
    };
    to.copy_from_slice(&value.to_le_bytes()[..bytes]);
    Ok(())
}
