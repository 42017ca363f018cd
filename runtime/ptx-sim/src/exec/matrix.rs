//! `mma` and `ldmatrix`: fragments as the PTX ISA lays them out over the lanes of a warp.

use crate::exec::access::{addresses, locate, shared_access};
use crate::exec::{Env, Site, Warp, each};
use crate::fault::{FaultKind, Stop, stop};
use crate::float::{F16, Round, canonical, f16_to_f32};
use crate::instr::{Element, LoadMatrix, Mma};
use crate::race::Kind;
use crate::regs::{FULL, LANES, Regs};
use crate::types::Space;

fn whole_warp(mask: u32) -> Result<(), Stop> {
    match mask == FULL {
        true => Ok(()),
        false => Err(stop(FaultKind::MemberMask, (!mask).trailing_zeros(), "all 32 lanes of the warp must take part")),
    }
}

/// Executes `ldmatrix`: lane `8 i + j` names row `j` of matrix `i`.
pub(crate) fn load_matrix(
    env: &mut Env,
    warp: &mut Warp,
    load: &LoadMatrix,
    mask: u32,
    site: Site,
) -> Result<(), Stop> {
    whole_warp(mask)?;
    let named = (u64::MAX >> (64 - 8 * load.to.len())) as u32;
    let at = addresses(&warp.regs, &load.address, named)?;
    for (index, to) in load.to.iter().enumerate() {
        let mut matrix = [[0u16; 8]; 8];
        for (j, row) in matrix.iter_mut().enumerate() {
            let lane = 8 * index + j;
            let (space, address) = locate(load.space, at[lane]);
            if space != Space::Shared {
                return Err(stop(FaultKind::OutOfBounds, lane as u32, "`ldmatrix` outside of shared memory"));
            }
            if address % 16 != 0 {
                let message = format!("a row of `ldmatrix` at {address:#x}, which is no multiple of 16");
                return Err(stop(FaultKind::Misaligned, lane as u32, message));
            }
            let offset = shared_access(env, warp, lane, address, 16, Kind::Read, site)?;
            let (halves, _) = env.shared[offset..offset + 16].as_chunks::<2>();
            row.iter_mut().zip(halves).for_each(|(to, from)| *to = u16::from_le_bytes(*from));
        }
        let value = |lane: usize| {
            let (group, pair) = (lane / 4, lane % 4 * 2);
            let (low, high) = match load.transposed {
                false => (matrix[group][pair], matrix[group][pair + 1]),
                true => (matrix[pair][group], matrix[pair + 1][group]),
            };
            u32::from(low) | u32::from(high) << 16
        };
        warp.regs.set32(*to, FULL, &std::array::from_fn(value));
    }
    Ok(())
}

/// The elements of one register in all lanes: `parts[p][lane]` is part `p`.
#[inline(always)]
fn widen<const N: usize>(ty: Element, row: &[u32; LANES]) -> [[f32; LANES]; N] {
    let mut parts = [[0.0; LANES]; N];
    for (part, values) in parts.iter_mut().enumerate() {
        let shift = (part * ty.bits()) as u32;
        *values = match ty {
            Element::F16 => each(|lane| f16_to_f32(row[lane] >> shift & 0xffff)),
            Element::Bf16 => each(|lane| f32::from_bits(row[lane] >> shift << 16)),
            // The hardware ignores the low bits.
            Element::Tf32 => each(|lane| f32::from_bits(row[lane] & 0xffff_e000)),
            Element::S8 => each(|lane| f32::from((row[lane] >> shift) as i8)),
            Element::U8 => each(|lane| f32::from((row[lane] >> shift) as u8)),
        };
    }
    parts
}

/// The matrices of one `mma`, widened without loss: up to 16 x 32 times 32 x 8. Lane `4 g + q` holds elements of row
/// `g` (and `g + 8`) of A and of the accumulator, and of column `g` of B.
struct Tiles {
    a: [[f32; 32]; 16],
    b: [[f64; 8]; 32],
    c: [[f64; 8]; 16],
}

/// The model of the tensor core: products are exact, their sum onto the accumulator is taken in f64 in the order of
/// the depth. The caller rounds the result once, to nearest. A bit-accurate model of some hardware would replace this.
#[inline(always)]
fn multiply_accumulate(t: &mut Tiles, rows: usize, depth: usize) {
    for (a, c) in t.a.iter().zip(&mut t.c).take(rows) {
        let mut sums = *c;
        for (x, b) in a.iter().zip(&t.b).take(depth) {
            let x = f64::from(*x);
            for (sum, y) in sums.iter_mut().zip(b) {
                *sum += x * y;
            }
        }
        *c = sums;
    }
}

/// Loads A and B, whose registers hold `N` elements each.
#[inline(always)]
fn gather<const N: usize>(r: &Regs, mma: &Mma, t: &mut Tiles) {
    for (register, slot) in mma.a.iter().enumerate() {
        let parts: [[f32; LANES]; N] = widen(mma.a_type, &r.w32[*slot as usize]);
        // The registers of a 16-row A alternate between its halves.
        let (half, step) = if mma.rows == 16 { (register % 2, register / 2) } else { (0, register) };
        for group in 0..8 {
            let row: &mut [f32] = &mut t.a[group + 8 * half][step * 4 * N..][..4 * N];
            for (at, value) in row.iter_mut().enumerate() {
                *value = parts[at % N][4 * group + at / N];
            }
        }
    }
    for (register, slot) in mma.b.iter().enumerate() {
        let parts: [[f32; LANES]; N] = widen(mma.b_type, &r.w32[*slot as usize]);
        let rows: &mut [[f64; 8]] = &mut t.b[register * 4 * N..][..4 * N];
        for (at, row) in rows.iter_mut().enumerate() {
            for (group, value) in row.iter_mut().enumerate() {
                *value = f64::from(parts[at % N][4 * group + at / N]);
            }
        }
    }
}

/// Loads the accumulator.
#[inline(always)]
fn gather_sums(r: &Regs, mma: &Mma, t: &mut Tiles) {
    for (register, slot) in mma.c.iter().enumerate() {
        let row = &r.w32[*slot as usize];
        for (lane, bits) in row.iter().copied().enumerate() {
            let (group, column) = (lane / 4, lane % 4 * 2);
            if mma.half {
                let place = &mut t.c[group + 8 * register];
                place[column] = f64::from(f16_to_f32(bits & 0xffff));
                place[column + 1] = f64::from(f16_to_f32(bits >> 16));
            } else {
                let float = f64::from(f32::from_bits(bits));
                let value = if mma.a_type.is_integer() { f64::from(bits as i32) } else { float };
                t.c[group + 8 * (register / 2)][column + register % 2] = value;
            }
        }
    }
}

/// Accumulator register `register`, all lanes.
#[inline(always)]
fn result(mma: &Mma, t: &Tiles, register: usize) -> [u32; LANES] {
    let half = |value: f64| F16.encode(value, Round::Even) as u32;
    let value = |lane: usize| t.c[lane / 4 + 8 * (register / 2)][lane % 4 * 2 + register % 2];
    match (mma.half, mma.a_type.is_integer(), mma.satfinite) {
        (true, _, _) => each(|lane| {
            let pair = &t.c[lane / 4 + 8 * register][lane % 4 * 2..];
            half(pair[0]) | half(pair[1]) << 16
        }),
        // Sums of so few products are exact in f64.
        (_, true, true) => each(|lane| (value(lane) as i32) as u32),
        (_, true, false) => each(|lane| value(lane) as i64 as u32),
        _ => each(|lane| canonical(value(lane) as f32)),
    }
}

/// Executes `mma`.
#[inline(always)]
pub(crate) fn mma(warp: &mut Warp, mma: &Mma, mask: u32) -> Result<(), Stop> {
    whole_warp(mask)?;
    let r = &mut warp.regs;
    for slots in [&mma.a, &mma.b, &mma.c] {
        for slot in slots {
            r.need32(FULL, [*slot])?;
        }
    }
    let mut tiles = Tiles { a: [[0.0; 32]; 16], b: [[0.0; 8]; 32], c: [[0.0; 8]; 16] };
    match mma.a_type.bits() {
        8 => gather::<4>(r, mma, &mut tiles),
        16 => gather::<2>(r, mma, &mut tiles),
        _ => gather::<1>(r, mma, &mut tiles),
    }
    gather_sums(r, mma, &mut tiles);
    match (mma.rows, mma.depth) {
        (16, 16) => multiply_accumulate(&mut tiles, 16, 16),
        (16, 8) => multiply_accumulate(&mut tiles, 16, 8),
        (rows, depth) => multiply_accumulate(&mut tiles, rows, depth),
    }
    for (register, slot) in mma.d.iter().enumerate() {
        r.set32(*slot, FULL, &result(mma, &tiles, register));
    }
    Ok(())
}
