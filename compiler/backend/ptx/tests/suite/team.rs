//! What the threads of a tile do together, under adversarial schedules and with race detection.

use xlac_ir::dtype::DType;
use xlac_ir::kernel::interp::Buffer;
use xlac_ir::kernel::{Access, BinOp, Const, Kernel, KernelBuilder, Lane, LoopHint, Pred, Val};
use xlac_ptx_sim::Options;

use crate::support::*;

fn hows() -> Vec<How> {
    let adversarial =
        |seed| How { options: Options { seed: Some(seed), races: true, ..Options::default() }, ..How::default() };
    vec![How::default(), adversarial(1), adversarial(2), How { shift: 1, ..How::default() }]
}

fn check(k: &Kernel, buffers: &[Buffer], dims: &[i64], tiles: i64) {
    let code = Code::new(std::slice::from_ref(k));
    for how in hows() {
        agree_on(&code, k, 0, buffers, dims, tiles, &how);
    }
}

#[test]
fn values_move_between_lanes() {
    for t in dtypes() {
        let mut k = KernelBuilder::new("shuffles");
        k.set_threads(64);
        let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
        let (tile, thread) = (k.tile(), k.thread());
        let row = k.mul_int(tile, 64);
        let at = k.add(row, thread);
        let x = k.load(a, at, 0, 1, None);
        let lanes = [Lane::Xor(1), Lane::Xor(31), Lane::Down(4), Lane::Down(0), Lane::Index(0), Lane::Index(31)];
        for (i, lane) in lanes.into_iter().enumerate() {
            let y = k.shuffle(lane, x);
            let to = k.mul_int(at, lanes.len() as i64);
            k.store(out, to, i as i64, y, None);
        }
        check(&k.finish(), &[buffer(t, 192, 1), zeros(t, 192 * 6)], &[], 3);
    }
}

/// Sums rows of `n` by a team: each thread a part, then warps by shuffles, then all by shared memory.
pub fn row_sum(threads: u32) -> Kernel {
    let mut k = KernelBuilder::new("row_sum");
    k.set_threads(threads);
    let (a, out) = (k.param("a", DType::F32, Access::Read), k.param("o", DType::F32, Access::Write));
    let n = k.dim("n");
    let part = k.shared("part", DType::F32, u64::from(threads / 32));
    let (tile, thread) = (k.tile(), k.thread());
    let row = k.mul(tile, n);
    let zero = k.constant(Const::f32(0.0));
    let first = k.mul_int(thread, 4);
    let sum = k.for_carry((first, n, 4 * i64::from(threads)), &[zero], LoopHint::Plain, |k, i, sum| {
        let (at, left) = (k.add(row, i), k.sub(n, i));
        let x = k.load(a, at, 0, 4, Some(left));
        let mut sum = sum[0];
        for lane in 0..4 {
            let x = k.extract(x, lane);
            sum = k.add(sum, x);
        }
        vec![sum]
    })[0];
    let sum = warp_sum(&mut k, sum);
    let warps = k.int(32);
    let (lane, warp) = (k.bin(BinOp::Rem, thread, warps), k.bin(BinOp::Div, thread, warps));
    let none = k.int(0);
    let leads = k.cmp(Pred::Eq, lane, none);
    k.if_then(leads, |k| k.store(part, warp, 0, sum, None));
    k.barrier();
    let first = k.cmp(Pred::Eq, thread, none);
    k.if_then(first, |k| {
        let mut sum = k.load(part, none, 0, 1, None);
        for i in 1..threads / 32 {
            let x = k.load(part, none, i.into(), 1, None);
            sum = k.add(sum, x);
        }
        k.store(out, tile, 0, sum, None);
    });
    k.finish()
}

fn warp_sum(k: &mut KernelBuilder, mut sum: Val) -> Val {
    for n in [16, 8, 4, 2, 1] {
        let other = k.shuffle(Lane::Xor(n), sum);
        sum = k.add(sum, other);
    }
    sum
}

#[test]
fn rows_are_summed() {
    for threads in [32, 128] {
        for n in [1, 5, 64, 127, 1000] {
            let mut a = zeros(DType::F32, 3 * n);
            (0..3 * n).for_each(|i| set_element(&mut a, i, u64::from(((i % 97) as f32 * 0.37).to_bits())));
            check(&row_sum(threads), &[a, zeros(DType::F32, 3)], &[n as i64], 3);
        }
    }
}

/// Copies rows of 64 elements through shared memory, the next one under way while one is reversed.
pub fn pipeline(t: DType) -> Kernel {
    let lanes = (16 / t.size() as u32).min(8);
    let threads = 32;
    let row = i64::from(lanes * threads);
    let mut k = KernelBuilder::new(format!("pipeline_{t}"));
    k.set_threads(threads);
    let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
    let rows = k.dim("rows");
    let s = k.shared("stages", t, 2 * row as u64);
    let (tile, thread) = (k.tile(), k.thread());
    let mine = k.mul_int(thread, lanes.into());
    let per_tile = k.mul_int(rows, row);
    let start = k.mul(tile, per_tile);
    let from = k.add(start, mine);
    k.copy_async((s, mine, 0), (a, from, 0), lanes, None);
    k.copy_commit();
    let (zero, two) = (k.int(0), k.int(2));
    k.for_each(zero, rows, 1, |k, i| {
        let next = k.add_int(i, 1);
        let stage = k.bin(BinOp::Rem, next, two);
        let stage = k.mul_int(stage, row);
        let to = k.add(stage, mine);
        let step = k.mul_int(next, row);
        let from = k.add(from, step);
        // The last one copies zeros: nothing is left to read.
        let left = k.sub(rows, next);
        let left = k.mul_int(left, lanes.into());
        k.copy_async((s, to, 0), (a, from, 0), lanes, Some(left));
        k.copy_commit();
        k.copy_wait(1);
        k.barrier();
        let stage = k.bin(BinOp::Rem, i, two);
        let stage = k.mul_int(stage, row);
        let last = k.int(row - 1);
        let mirror = k.sub(last, mine);
        let at = k.add(stage, mirror);
        let minus = k.int(-1);
        let x = k.load_strided(s, at, minus, lanes, None);
        let step = k.mul_int(i, row);
        let to = k.add(start, step);
        let to = k.add(to, mine);
        k.store(out, to, 0, x, None);
        k.barrier();
    });
    k.copy_wait(0);
    k.finish()
}

#[test]
fn copies_are_asynchronous() {
    for t in [DType::F32, DType::F16, DType::I8, DType::F64, DType::U8, DType::I64] {
        let row = (16 / t.size()).min(8) * 32;
        let k = pipeline(t);
        let code = Code::new(std::slice::from_ref(&k));
        for rows in [1, 2, 5] {
            let n = 2 * rows * row;
            for how in hows().into_iter().filter(|h| h.shift == 0) {
                agree_on(&code, &k, 0, &[buffer(t, n, 1), zeros(t, n)], &[rows as i64], 2, &how);
            }
        }
    }
}

/// One product of fragments that come straight from memory.
pub fn product(a: DType, b: DType) -> Kernel {
    let (lanes, sum) = match a {
        DType::F32 => (4, DType::F32),
        DType::F16 | DType::BF16 => (8, DType::F32),
        _ => (16, DType::I32),
    };
    let mut k = KernelBuilder::new(format!("product_{a}_{b}"));
    k.set_threads(32);
    let (pa, pb) = (k.param("a", a, Access::Read), k.param("b", b, Access::Read));
    let (pc, out) = (k.param("c", sum, Access::Read), k.param("o", sum, Access::Write));
    let thread = k.thread();
    let at = k.mul_int(thread, lanes.into());
    let x = k.load(pa, at, 0, lanes, None);
    let at = k.mul_int(thread, i64::from(lanes) / 2);
    let y = k.load(pb, at, 0, lanes / 2, None);
    let at = k.mul_int(thread, 4);
    let z = k.load(pc, at, 0, 4, None);
    let once = k.mma(x, y, z);
    let (zero, three) = (k.int(0), k.int(3));
    let r = k.for_carry((zero, three, 1), &[once], LoopHint::Plain, |k, _, c| vec![k.mma(x, y, c[0])]);
    k.store(out, at, 0, r[0], None);
    k.finish()
}

/// Small whole numbers, so that sums are exact in any order.
fn whole(t: DType, n: usize) -> Buffer {
    let mut b = zeros(t, n);
    let mut random = Random(n as u64);
    (0..n).for_each(|i| {
        let x = (random.next() % 17) as f64 - if t == DType::U8 { 0.0 } else { 8.0 };
        set_element(&mut b, i, Const::number(t, x).bits);
    });
    b
}

pub const FACTORS: [(DType, DType); 7] = [
    (DType::F16, DType::F16),
    (DType::BF16, DType::BF16),
    (DType::F32, DType::F32),
    (DType::I8, DType::I8),
    (DType::U8, DType::U8),
    (DType::I8, DType::U8),
    (DType::U8, DType::I8),
];

#[test]
fn fragments_are_multiplied() {
    for (a, b) in FACTORS {
        let k = product(a, b);
        let lanes = if a == DType::F32 { 4 } else { 16 / a.size() };
        let sum = if a.is_float() { DType::F32 } else { DType::I32 };
        let buffers = [whole(a, 32 * lanes), whole(b, 16 * lanes), whole(sum, 128), zeros(sum, 128)];
        check(&k, &buffers, &[], 1);
    }
}

/// Loads matrices from shared memory as fragments.
pub fn matrices(t: DType, n: u32, transposed: bool) -> Kernel {
    let row = 16 / t.size() as i64;
    let mut k = KernelBuilder::new(format!("matrices_{t}_{n}_{transposed}"));
    k.set_threads(32);
    let (a, out) = (k.param("a", t, Access::Read), k.param("o", t, Access::Write));
    let s = k.shared("s", t, 32 * row as u64);
    let thread = k.thread();
    let at = k.mul_int(thread, row);
    let x = k.load(a, at, 0, row as u32, None);
    k.store(s, at, 0, x, None);
    k.barrier();
    let y = k.load_matrix(s, at, 0, n, transposed);
    let lanes = k.ty(y).lanes;
    let to = k.mul_int(thread, lanes.into());
    k.store(out, to, 0, y, None);
    k.finish()
}

#[test]
fn matrices_are_loaded() {
    for t in [DType::F16, DType::BF16, DType::I8, DType::U8, DType::I16] {
        for n in [1, 2, 4] {
            for transposed in [false, true] {
                if transposed && t.size() != 2 {
                    continue;
                }
                let all = 32 * 16 / t.size();
                let lanes = 32 * n as usize * 4 / t.size();
                check(&matrices(t, n, transposed), &[buffer(t, all, 3), zeros(t, lanes)], &[], 1);
            }
        }
    }
}

#[test]
fn failed_checks_do_not_stop_a_team() {
    let mut k = KernelBuilder::new("team_check");
    k.set_threads(32);
    let (a, out) = (k.param("a", DType::I32, Access::Read), k.param("o", DType::I32, Access::Write));
    let thread = k.thread();
    let x = k.load(a, thread, 0, 1, None);
    let zero = k.constant(Const::int(DType::I32, 0));
    let positive = k.cmp(Pred::Ge, x, zero);
    k.check(positive, 9);
    k.barrier();
    k.store(out, thread, 0, x, None);
    let k = k.finish();
    let mut a = zeros(DType::I32, 32);
    check(&k, &[a.clone(), zeros(DType::I32, 32)], &[], 1);
    set_element(&mut a, 17, Const::int(DType::I32, -1).bits);
    check(&k, &[a, zeros(DType::I32, 32)], &[], 1);
}

#[test]
fn shared_memory_has_a_limit() {
    let mut k = KernelBuilder::new("large");
    k.set_threads(32);
    let s = k.shared("s", DType::U8, (99 << 10) + 1);
    let zero = k.int(0);
    let x = k.load(s, zero, 0, 1, None);
    k.store(s, zero, 0, x, None);
    let error = xlac_ir::backend::Backend::compile(&xlac_ptx::Ptx, &[k.finish()], &target(), 1).unwrap_err();
    assert_eq!(error.reason, "101504 bytes of shared memory, and the device has 101376");
}
