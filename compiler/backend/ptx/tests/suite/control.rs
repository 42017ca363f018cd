//! Loops, branches, checks.

use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Access, BinOp, Kernel, KernelBuilder, LoopHint, Pred};

use crate::support::*;

/// Sums `a[lo..hi].step_by(step)` and counts trips, in floats, indices and packed halves.
pub fn sum_kernel(bounds: Option<(i64, i64)>, step: i64, hint: LoopHint) -> Kernel {
    let mut k = KernelBuilder::new("sum");
    let a = k.param("a", DType::F32, Access::Read);
    let (out, counts) = (k.param("o", DType::F32, Access::Write), k.param("n", DType::I64, Access::Write));
    let halves = k.param("h", DType::F16, Access::Write);
    let dims = (k.dim("lo"), k.dim("hi"));
    let (lo, hi) = match bounds {
        Some((lo, hi)) => (k.int(lo), k.int(hi)),
        None => dims,
    };
    let tile = k.tile();
    let zero = k.constant(xlac_ir::kernel::Const::f32(0.0));
    let start = k.int(3);
    let first = k.splat_const(xlac_ir::kernel::Const::number(DType::F16, 1.0), 4);
    let sums = k.for_carry((lo, hi, step), &[zero, start, first, lo], hint, |k, i, phis| {
        let x = k.load(a, i, 0, 1, None);
        let x = k.bin(BinOp::Add, phis[0], x);
        let n = k.add_int(phis[1], 2);
        let wide = k.widen(x, 4);
        let half = k.convert(wide, DType::F16);
        vec![x, n, half, i]
    });
    k.store(out, tile, 0, sums[0], None);
    let at = k.mul_int(tile, 4);
    k.store(halves, at, 0, sums[2], None);
    let both = k.concat(sums[1], sums[3]);
    let at = k.mul_int(tile, 2);
    k.store(counts, at, 0, both, None);
    k.finish()
}

#[test]
fn loops_count() {
    let a = {
        let mut a = zeros(DType::F32, 200);
        (0..200).for_each(|i| set_element(&mut a, i, u64::from((i as f32 + 0.25).to_bits())));
        a
    };
    let buffers = [a, zeros(DType::F32, 2), zeros(DType::I64, 4), zeros(DType::F16, 8)];
    let hints = [LoopHint::Plain, LoopHint::Unroll(2), LoopHint::Unroll(4), LoopHint::Unroll(64)];
    for hint in hints {
        for step in [1, 2, 3, 7, 100] {
            let dynamic = sum_kernel(None, step, hint);
            let code = Code::new(std::slice::from_ref(&dynamic));
            for (lo, hi) in [(0, 0), (0, 1), (0, 7), (0, 8), (3, 200), (5, 4), (10, 11), (190, 200), (0, 100)] {
                agree_on(&code, &dynamic, 0, &buffers, &[lo, hi], 2, &How::default());
                agree(&sum_kernel(Some((lo, hi)), step, hint), &buffers, &[lo, hi], 2);
            }
        }
    }
}

#[test]
fn counters_do_not_wrap() {
    for hint in [LoopHint::Plain, LoopHint::Unroll(3)] {
        for step in [1, 2, 3, 5, i64::MAX] {
            let mut k = KernelBuilder::new("edge");
            let out = k.param("o", DType::I64, Access::Write);
            let (lo, hi) = (k.dim("lo"), k.dim("hi"));
            let zero = k.int(0);
            let n = k.for_carry((lo, hi, step), &[zero], hint, |k, _, n| vec![k.add_int(n[0], 1)]);
            k.store(out, zero, 0, n[0], None);
            let k = k.finish();
            let code = Code::new(std::slice::from_ref(&k));
            for (lo, hi) in [
                (i64::MAX - 7, i64::MAX),
                (i64::MAX - 6, i64::MAX - 1),
                (i64::MIN, i64::MIN + 5),
                (i64::MAX, i64::MIN),
                (i64::MIN, i64::MIN),
            ] {
                agree_on(&code, &k, 0, &[zeros(DType::I64, 1)], &[lo, hi], 1, &How::default());
            }
            if step == i64::MAX {
                agree_on(&code, &k, 0, &[zeros(DType::I64, 1)], &[i64::MIN, i64::MAX], 1, &How::default());
            }
        }
    }
}

#[test]
fn carried_values_may_swap() {
    for hint in [LoopHint::Plain, LoopHint::Unroll(2), LoopHint::Unroll(16)] {
        let mut k = KernelBuilder::new("fibonacci");
        let out = k.param("o", DType::I32, Access::Write);
        let n = k.dim("n");
        let (zero, tile) = (k.int(0), k.tile());
        let (a, b) = (k.constant(int32(0)), k.constant(int32(1)));
        let r = k.for_carry((zero, n, 1), &[a, b, a], hint, |k, _, p| vec![p[1], k.bin(BinOp::Add, p[0], p[1]), p[0]]);
        for (i, &v) in r.iter().enumerate() {
            let at = k.mul_int(tile, 3);
            k.store(out, at, i as i64, v, None);
        }
        let k = k.finish();
        let code = Code::new(std::slice::from_ref(&k));
        for n in [0, 1, 2, 3, 10, 15] {
            agree_on(&code, &k, 0, &[zeros(DType::I32, 3)], &[n], 1, &How::default());
        }
    }
}

fn int32(x: i64) -> xlac_ir::kernel::Const {
    xlac_ir::kernel::Const::int(DType::I32, x)
}

/// Branches nested in a loop, with results of every type.
pub fn branches(t: DType, lanes: u32) -> Kernel {
    let mut k = KernelBuilder::new(format!("branches_{t}_{lanes}"));
    let (a, b) = (k.param("a", t, Access::Read), k.param("b", t, Access::Read));
    let (c, out) = (k.param("c", DType::I32, Access::Read), k.param("o", t, Access::Write));
    let tile = k.tile();
    let at = k.mul_int(tile, lanes.into());
    let (x, y) = (k.load(a, at, 0, lanes, None), k.load(b, at, 0, lanes, None));
    let (zero, three) = (k.int(0), k.int(3));
    let r = k.for_carry((zero, three, 1), &[x, y], LoopHint::Plain, |k, i, p| {
        let at = k.add(tile, i);
        let flag = k.load(c, at, 0, 1, None);
        let none = k.constant(int32(0));
        let up = k.cmp(Pred::Gt, flag, none);
        let even = k.constant(int32(1));
        let even = k.bin(BinOp::And, flag, even);
        let even = k.cmp(Pred::Eq, even, none);
        let (p0, p1) = (p[0], p[1]);
        k.if_else(
            up,
            |k| k.if_else(even, |_| vec![p1, p0], |_| vec![p0, p0]),
            |k| {
                let s = k.select(even, p1, p0);
                vec![p1, s]
            },
        )
    });
    k.store(out, at, 0, r[0], None);
    k.finish()
}

#[test]
fn branches_choose() {
    for t in dtypes() {
        for lanes in [1, 3, 4, 8] {
            let k = branches(t, lanes);
            let n = 300 * lanes as usize;
            agree(&k, &[buffer(t, n, 1), buffer(t, n, 2), buffer(DType::I32, 310, 3), zeros(t, n)], &[], 300);
        }
    }
}

/// Fails with code 7 where `a` is negative, and with 8 where it is above 100.
pub fn check_kernel() -> Kernel {
    let mut k = KernelBuilder::new("checked");
    let (a, out) = (k.param("a", DType::I32, Access::Read), k.param("o", DType::I32, Access::Write));
    let tile = k.tile();
    let x = k.load(a, tile, 0, 1, None);
    let (zero, most) = (k.constant(int32(0)), k.constant(int32(100)));
    let positive = k.cmp(Pred::Ge, x, zero);
    k.check(positive, 7);
    let small = k.cmp(Pred::Le, x, most);
    k.check(small, 8);
    k.store(out, tile, 0, x, None);
    k.finish()
}

#[test]
fn checks_leave_their_code() {
    let k = check_kernel();
    let code = Code::new(std::slice::from_ref(&k));
    for (bad, value) in [(None, 0), (Some(3), -1), (Some(250), 101), (Some(299), -5)] {
        let mut a = zeros(DType::I32, 300);
        if let Some(i) = bad {
            set_element(&mut a, i, int32(value).bits);
        }
        agree_on(&code, &k, 0, &[a, zeros(DType::I32, 300)], &[], 300, &How::default());
    }
}

#[test]
fn no_tile_runs_beyond_the_last() {
    let mut k = KernelBuilder::new("tiles");
    let out = k.param("o", DType::I64, Access::Write);
    let tile = k.tile();
    let x = k.add_int(tile, 5);
    k.store(out, tile, 0, x, None);
    let k = k.finish();
    let code = Code::new(std::slice::from_ref(&k));
    for n in [1, 2, 127, 128, 129, 1000] {
        agree_on(&code, &k, 0, &[zeros(DType::I64, n as usize)], &[], n, &How::default());
    }
}

#[test]
fn too_many_tiles_are_told() {
    let k = check_kernel();
    let code = Code::new(std::slice::from_ref(&k));
    assert!(code.text.contains(&format!("{}", xlac_ptx::MOST_TILES)));
}
