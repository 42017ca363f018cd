//! Loops, branches, checks, scratch, chains in strips, images for other machines.

mod common;

use common::{Code, bare, host};
use xlac_cranelift::Cranelift;
use xlac_ir::backend::{Backend, Target};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Access, Const, Kernel, KernelBuilder, LoopHint, Pred, ScratchLen, UnOp};

fn i64s(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks(8).map(|c| i64::from_le_bytes(c.try_into().expect("eight bytes"))).collect()
}

fn f32s(values: &[f32]) -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() }

/// Sums the counter two ways, with a loop inside the loop.
fn loops(hint: LoopHint, step: i64, bounds: Option<(i64, i64)>) -> Kernel {
    let mut k = KernelBuilder::new("loops");
    let out = k.param("o", DType::I64, Access::Write);
    let (lo, hi) = match bounds {
        Some((lo, hi)) => (k.int(lo), k.int(hi)),
        None => (k.dim("lo"), k.dim("hi")),
    };
    let zero = k.int(0);
    let sums = k.for_carry((lo, hi, step), &[zero, lo], hint, |k, i, c| {
        let inner = k.for_carry((zero, i, 2), &[c[0]], hint, |k, j, d| vec![k.add(d[0], j)]);
        let swapped = k.add(c[1], inner[0]);
        vec![swapped, c[0]]
    });
    k.store(out, zero, 0, sums[0], None);
    k.store(out, zero, 1, sums[1], None);
    k.finish()
}

#[test]
fn loops_carry_values() {
    for hint in [LoopHint::Plain, LoopHint::Unroll(2), LoopHint::Unroll(4), LoopHint::Unroll(5)] {
        for step in [1, 3] {
            for (lo, hi) in [(0, 0), (0, 1), (0, 4), (-3, 9), (5, 2), (1, 14)] {
                let kernels = [loops(hint, step, None), loops(hint, step, Some((lo, hi)))];
                let code = Code::new(&kernels);
                let (mut a, mut b) = (0i64, lo);
                for i in (lo..hi).step_by(step as usize) {
                    let inner: i64 = a.wrapping_add((0..i).step_by(2).sum());
                    (a, b) = (b.wrapping_add(inner), a);
                }
                for which in 0..2 {
                    let mut got = vec![0u8; 16];
                    assert_eq!(code.tile(which, &mut [&mut got], &[lo, hi]), 0);
                    assert_eq!(i64s(&got), [a, b], "{lo}..{hi} by {step}, {hint:?}, kernel {which}");
                }
            }
        }
    }
}

#[test]
fn branches_have_results_and_masks_are_carried() {
    let lanes = 7;
    let mut k = KernelBuilder::new("branches");
    let (a, out) = (k.param("a", DType::F32, Access::Read), k.param("o", DType::F32, Access::Write));
    let n = k.dim("n");
    let (zero, five) = (k.int(0), k.int(5));
    let x = k.load(a, zero, 0, lanes, None);
    let nil = k.splat_const(Const::f32(0.0), lanes);
    let none = k.splat_const(Const::bool(false), lanes);
    let positive = k.cmp(Pred::Gt, x, nil);
    let r = k.for_carry((zero, n, 1), &[none, nil], LoopHint::Unroll(2), |k, i, c| {
        let late = k.cmp(Pred::Gt, i, five);
        let picked = k.if_else(
            late,
            |k| vec![k.un(UnOp::Neg, x), positive],
            |k| {
                let one = k.splat_const(Const::f32(1.0), lanes);
                let v = k.add(x, one);
                vec![v, none]
            },
        );
        let either = k.bin(xlac_ir::kernel::BinOp::Or, c[0], picked[1]);
        let sum = k.add(c[1], picked[0]);
        vec![either, sum]
    });
    let chosen = k.select(r[0], r[1], nil);
    k.store(out, zero, 0, chosen, None);
    k.store(out, zero, i64::from(lanes), r[1], None);
    let code = Code::new(&[k.finish()]);
    let xs = [1.0f32, -2.0, 3.0, -4.0, 0.5, 0.0, 8.0];
    for n in [0i64, 3, 6, 7, 9] {
        let mut got = vec![0u8; 14 * 4];
        code.tile(0, &mut [&mut f32s(&xs), &mut got], &[n]);
        let sums: Vec<f32> = xs.iter().map(|x| (0..n).fold(0.0, |s, i| s + if i > 5 { -x } else { x + 1.0 })).collect();
        let mut want: Vec<f32> = xs.iter().zip(&sums).map(|(&x, &s)| if n > 6 && x > 0.0 { s } else { 0.0 }).collect();
        want.extend(&sums);
        assert_eq!(got, f32s(&want), "{n} trips");
    }
}

#[test]
fn checks_end_the_kernel() {
    let mut k = KernelBuilder::new("checks");
    let out = k.param("o", DType::I64, Access::Write);
    let limit = k.dim("limit");
    let tile = k.tile();
    let fine = k.cmp(Pred::Lt, tile, limit);
    k.check(fine, 42);
    k.store(out, tile, 0, tile, None);
    let code = Code::new(&[k.finish()]);
    let mut got = vec![0xffu8; 64];
    let pointers = [got.as_mut_ptr()];
    assert_eq!(code.run(0, &pointers, &[8], 2..5), 0);
    assert_eq!(code.run(0, &pointers, &[6], 5..8), 42);
    assert_eq!(code.run(0, &pointers, &[6], 7..7), 0);
    assert_eq!(i64s(&got), [-1, -1, 2, 3, 4, 5, -1, -1]);
}

#[test]
fn scratch_buffers_lie_apart_and_stores_are_seen() {
    let mut k = KernelBuilder::new("scratch");
    let out = k.param("o", DType::I32, Access::Write);
    k.dim("n");
    let s = k.scratch("s", DType::I32, ScratchLen::Dim(0));
    let t = k.scratch("t", DType::U8, ScratchLen::Const(3));
    let u = k.scratch("u", DType::I32, ScratchLen::Const(16));
    let zero = k.int(0);
    let base = k.constant(Const::int(DType::I32, 5));
    let ramp = k.iota(base, 16);
    k.store(s, zero, 0, ramp, None);
    let bytes = k.splat_const(Const::int(DType::U8, 255), 3);
    k.store(t, zero, 0, bytes, None);
    k.store(u, zero, 0, ramp, None);
    let before = k.load(s, zero, 0, 16, None);
    let nil = k.splat_const(Const::int(DType::I32, 0), 16);
    k.store(s, zero, 0, nil, None);
    let after = k.load(s, zero, 0, 16, None);
    let other = k.load(u, zero, 0, 16, None);
    let sum = k.add(before, other);
    let sum = k.add(sum, after);
    k.store(out, zero, 0, sum, None);
    let code = Code::new(&[k.finish()]);
    let mut got = vec![0u8; 64];
    code.tile(0, &mut [&mut got], &[17]);
    let want: Vec<u8> = (0..16i32).flat_map(|i| (2 * (5 + i)).to_le_bytes()).collect();
    assert_eq!(got, want);
}

/// Clamped polynomial: a chain long enough to be done in strips.
fn polynomial(lanes: u32) -> Kernel {
    let mut k = KernelBuilder::new("polynomial");
    let (a, out) = (k.param("a", DType::F32, Access::Read), k.param("o", DType::F32, Access::Write));
    let n = k.dim("n");
    let zero = k.int(0);
    k.for_each(zero, n, i64::from(lanes), |k, i| {
        let count = k.sub(n, i);
        let x = k.load(a, i, 0, lanes, Some(count));
        let (low, high) = (k.constant(Const::f32(-4.0)), k.constant(Const::f32(4.0)));
        let x = k.bin(xlac_ir::kernel::BinOp::Max, x, low);
        let x = k.bin(xlac_ir::kernel::BinOp::Min, x, high);
        let mut y = k.constant(Const::f32(0.125));
        for c in [0.25f32, 0.5, 1.0, 2.0, 3.0] {
            let c = k.constant(Const::f32(c));
            y = k.fma(y, x, c);
        }
        let nil = k.constant(Const::f32(0.0));
        let below = k.cmp(Pred::Lt, x, nil);
        let r = k.select(below, x, y);
        k.store(out, i, 0, r, Some(count));
    });
    k.finish()
}

#[test]
fn chains_are_right_in_strips() {
    for lanes in [4, 8, 16, 5] {
        let code = Code::new(&[polynomial(lanes)]);
        for n in [0usize, 1, 5, 16, 37] {
            let xs: Vec<f32> = (0..n).map(|i| i as f32 * 0.7 - 6.0).collect();
            let mut got = vec![0u8; 4 * n];
            code.tile(0, &mut [&mut f32s(&xs), &mut got], &[n as i64]);
            let want: Vec<f32> = xs
                .iter()
                .map(|x| {
                    let x = x.clamp(-4.0, 4.0);
                    let y = [0.25f32, 0.5, 1.0, 2.0, 3.0].iter().fold(0.125f32, |y, c| y.mul_add(x, *c));
                    if x < 0.0 { x } else { y }
                })
                .collect();
            assert_eq!(got, f32s(&want), "{n} by {lanes}");
        }
    }
}

#[test]
fn threads_do_not_change_the_image() {
    let kernels: Vec<Kernel> = (1..12).map(polynomial).collect();
    let one = Cranelift.compile(&kernels, &host(), 1).expect("compiles");
    let four = Cranelift.compile(&kernels, &host(), 4).expect("compiles");
    assert_eq!(one, four);
    assert!(one.entries.iter().all(|e| e % 64 == 0));
}

#[test]
fn images_for_aarch64_are_made() {
    let target = Target { arch: "aarch64".to_string(), features: vec!["neon".to_string()], ..host() };
    let target = Cranelift.constrain(&target);
    assert_eq!((target.vector_bytes, target.vector_registers), (16, 32));
    let kernels = [polynomial(4), polynomial(16), loops(LoopHint::Unroll(4), 1, None)];
    let image = Cranelift.compile(&kernels, &target, 2).expect("compiles");
    assert_eq!(image.entries.len(), 3);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_missing_is_said() {
    let error = Cranelift.compile(&[polynomial(4)], &bare(), 1).expect_err("there is no fma");
    assert!(error.to_string().contains("`polynomial`: `fma` needs"), "{error}");
}

#[test]
fn texts_are_printed() {
    for form in Cranelift.forms() {
        let text = Cranelift.print(&[polynomial(8)], &host(), form).expect("prints");
        assert!(text.contains("polynomial") && text.lines().count() > 20, "{text}");
        println!("{text}");
    }
    assert!(Cranelift.print(&[], &host(), "clif").is_ok());
    assert!(Cranelift.print(&[polynomial(4)], &host(), "ptx").is_err());
}
