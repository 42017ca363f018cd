//! Loads and stores: alignment, tails, strides, scratch memory.

use xlac_ir::dtype::DType;
use xlac_ir::kernel::interp::Buffer;
use xlac_ir::kernel::{Access, BinOp, Instr, Kernel, KernelBuilder, ScratchLen, VType};

use crate::support::*;

const LANES: &[u32] = &[1, 2, 3, 4, 6, 7, 8, 16, 32];

/// A kernel that loads some way and stores, both of `count` lanes.
pub fn tail_kernel(t: DType, lanes: u32, how: usize) -> Kernel {
    let mut k = KernelBuilder::new(format!("tail_{t}_{lanes}_{how}"));
    let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
    let whole = k.param("w", t, Access::Write);
    let (zero, count, stride) = (k.int(0), k.dim("count"), k.dim("stride"));
    let x = match how {
        1 if lanes > 1 => k.load_strided(a, zero, stride, lanes, Some(count)),
        2 if lanes > 1 => {
            let two = k.int(2);
            k.load_strided(a, zero, two, lanes, Some(count))
        }
        3 if lanes > 1 => {
            let steps = k.iota(zero, lanes);
            let steps = k.mul(steps, stride);
            k.gather(a, steps, 0, Some(count))
        }
        _ => k.load(a, zero, 0, lanes, Some(count)),
    };
    k.store(whole, zero, 0, x, None);
    k.store(out, zero, 0, x, Some(count));
    k.finish()
}

#[test]
fn tails_touch_nothing_beyond() {
    for t in dtypes() {
        for &lanes in LANES {
            let kernels: Vec<Kernel> = (0..4).map(|how| tail_kernel(t, lanes, how)).collect();
            let code = Code::new(&kernels);
            for count in [-3i64, i64::MIN, 0, 1, 2, i64::from(lanes) - 1, i64::from(lanes), 1 << 33] {
                let n = count.clamp(0, i64::from(lanes)) as usize;
                for (how, k) in kernels.iter().enumerate() {
                    let step = if how == 0 || lanes == 1 { 1 } else { 2 };
                    let elements = if n == 0 { 0 } else { (n - 1) * step + 1 };
                    let buffers = [buffer(t, elements, 3), zeros(t, n), zeros(t, lanes as usize)];
                    for shift in [0, 1] {
                        agree_on(&code, k, how, &buffers, &[count, 2], 1, &How { shift, ..How::default() });
                    }
                }
            }
        }
    }
}

#[test]
fn strided_loads_and_gathers() {
    for t in dtypes() {
        for &lanes in &LANES[1..] {
            let mut k = KernelBuilder::new("strided");
            let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
            let (stride, start) = (k.dim("stride"), k.dim("start"));
            let three = k.int(3);
            let x = k.load_strided(a, start, stride, lanes, None);
            let y = k.load_strided(a, start, three, lanes, None);
            let steps = k.iota(start, lanes);
            let steps = k.mul(steps, stride);
            let z = k.gather(a, steps, 2, None);
            let part = k.int(i64::from(lanes) - 1);
            let ty = VType::vector(t, lanes);
            let w = k.emit(Instr::Load { buf: a, index: start, offset: 1, count: Some(part) }, ty);
            for (i, v) in [x, y, z, w].into_iter().enumerate() {
                let at = k.int(i as i64 * i64::from(lanes));
                k.store(out, at, 0, v, None);
            }
            agree(&k.finish(), &[buffer(t, 300, 1), zeros(t, 4 * lanes as usize)], &[5, 4], 1);
        }
    }
}

/// Copies `lanes` elements per tile from `index(tile) + offset`.
pub fn copy_kernel(t: DType, lanes: u32, offset: i64, step: i64) -> Kernel {
    let mut k = KernelBuilder::new(format!("copy_{t}_{lanes}_{offset}_{step}"));
    let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
    let tile = k.tile();
    let at = k.mul_int(tile, step);
    let x = k.load(a, at, offset, lanes, None);
    k.store(out, at, offset, x, None);
    k.finish()
}

#[test]
fn every_alignment_is_met() {
    for t in dtypes() {
        for &lanes in LANES {
            for offset in [0, 1, 2, 4] {
                for step in [i64::from(lanes), 8, 9] {
                    let k = copy_kernel(t, lanes, offset, step.max(lanes.into()));
                    let n = 40 * step.max(lanes.into()) as usize + lanes as usize + offset as usize;
                    let code = Code::new(std::slice::from_ref(&k));
                    for shift in [0, 1, 2, 3] {
                        let how = How { shift, ..How::default() };
                        agree_on(&code, &k, 0, &[buffer(t, n, 5), zeros(t, n)], &[], 40, &how);
                    }
                }
            }
        }
    }
}

#[test]
fn aligned_copies_are_wide() {
    let code = Code::new(&[copy_kernel(DType::F32, 8, 0, 8), copy_kernel(DType::F16, 8, 0, 8)]);
    for wide in ["ld.global.nc.v4.f32", "st.global.v4.f32", "ld.global.nc.v4.b32", "st.global.v4.b32"] {
        assert!(code.text.contains(wide), "{wide}\n{}", code.text);
    }
}

/// Reverses a row through scratch memory.
pub fn scratch_kernel(t: DType, n: i64, len: ScratchLen) -> Kernel {
    let mut k = KernelBuilder::new("scratch");
    let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
    let _ = k.dim("n");
    let (first, second) = (k.scratch("first", t, len), k.scratch("second", t, len));
    let (tile, zero, n) = (k.tile(), k.int(0), k.int(n));
    let row = k.mul(tile, n);
    k.for_each(zero, n, 1, |k, i| {
        let at = k.add(row, i);
        let x = k.load(a, at, 0, 1, None);
        k.store(first, i, 0, x, None);
    });
    k.for_each(zero, n, 4, |k, i| {
        let x = k.load(first, i, 0, 4, None);
        k.store(second, i, 0, x, None);
    });
    k.for_each(zero, n, 1, |k, i| {
        let last = k.add_int(n, -1);
        let from = k.sub(last, i);
        let x = k.load(second, from, 0, 1, None);
        let at = k.add(row, i);
        k.store(out, at, 0, x, None);
    });
    k.finish()
}

#[test]
fn scratch_memory_is_local_or_global() {
    for t in [DType::F32, DType::U8, DType::F64, DType::BF16, DType::Bool] {
        for (n, len, strided) in [
            (12, ScratchLen::Const(12), false),
            (12, ScratchLen::Dim(0), true),
            (12, ScratchLen::Const(5000), true),
            (100, ScratchLen::Const(100), false),
        ] {
            let k = scratch_kernel(t, n, len);
            let elements = 700 * n as usize;
            let code = agree(&k, &[buffer(t, elements, 5), zeros(t, elements)], &[n], 700);
            assert_eq!(code.text.contains("nctaid"), strided);
            assert_eq!(code.text.contains(".local"), !strided);
        }
    }
}

#[test]
fn a_team_has_little_private_memory() {
    let mut k = KernelBuilder::new("team");
    k.set_threads(32);
    let s = k.scratch("s", DType::F32, ScratchLen::Const(2000));
    let zero = k.int(0);
    let x = k.load(s, zero, 0, 1, None);
    k.store(s, zero, 0, x, None);
    let error = xlac_ir::backend::Backend::compile(&xlac_ptx::Ptx, &[k.finish()], &target(), 1).unwrap_err();
    assert_eq!(error.reason, "a thread of a team has too much private scratch memory");
}

#[test]
fn in_place_is_not_read_as_constant() {
    let mut k = KernelBuilder::new("in_place");
    let (a, out) = (k.param("a", DType::F32, Access::Read), k.param("o", DType::F32, Access::Write));
    k.may_alias(out);
    let tile = k.tile();
    let x = k.load(a, tile, 0, 1, None);
    let y = k.bin(BinOp::Add, x, x);
    k.store(out, tile, 0, y, None);
    let code = Code::new(&[k.finish()]);
    assert!(!code.text.contains(".nc"), "{}", code.text);
}

#[test]
fn indices_may_start_outside() {
    let mut k = KernelBuilder::new("outside");
    let (a, out) = (k.param("a", DType::F32, Access::Read), k.param("o", DType::F32, Access::Write));
    let far = k.dim("far");
    let (tile, big) = (k.tile(), k.int(1 << 40));
    let at = k.add(tile, big);
    let x = k.load(a, at, -(1 << 40), 1, None);
    let at = k.add(tile, far);
    let y = k.load(a, at, 7, 1, None);
    let z = k.bin(BinOp::Add, x, y);
    k.store(out, tile, 0, z, None);
    let mut a: Buffer = zeros(DType::F32, 50);
    (0..50).for_each(|i| set_element(&mut a, i, u64::from((i as f32).to_bits())));
    agree(&k.finish(), &[a, zeros(DType::F32, 50)], &[-7], 50);
}
