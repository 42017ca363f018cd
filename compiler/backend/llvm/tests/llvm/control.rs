//! Loops, branches, checks, scratch memory and tiles.

use xlac_ir::DType;
use xlac_ir::kernel::*;

use crate::support::*;

/// Fibonacci: two carried values, one of which becomes the other.
#[test]
fn loops_carry_values() {
    for target in runnable() {
        for hint in [LoopHint::Plain, LoopHint::Unroll(4)] {
            let mut k = KernelBuilder::new("fibonacci");
            let out = k.param("out", DType::I64, Access::Write);
            let (lo, hi) = (k.dim("lo"), k.dim("hi"));
            let (zero, one) = (k.int(0), k.int(1));
            let ends = k.for_carry((lo, hi, 2), &[zero, one, zero], hint, |k, i, c| {
                let sum = k.add(c[0], c[1]);
                let count = k.add(c[2], i);
                vec![c[1], sum, count]
            });
            for (i, &v) in ends.iter().enumerate() {
                k.store(out, zero, i as i64, v, None);
            }
            let loaded = Loaded::new(&[k.finish()], &target);
            for (lo, hi) in [(0, 0), (5, 5), (5, -5), (0, 1), (0, 2), (1, 40), (-7, 30)] {
                let mut out = [0i64; 3];
                assert_eq!(loaded.call(0, &[out.as_mut_ptr().cast()], &[lo, hi], 0..1), 0);
                let mut want = [0, 1, 0];
                let mut i = lo;
                while i < hi {
                    want = [want[1], want[0] + want[1], want[2] + i];
                    i += 2;
                }
                assert_eq!(out, want, "{lo}..{hi} {hint:?}");
            }
        }
    }
}

/// Nested loops and branches with vectors, bools and values from outside.
#[test]
fn nested_control_flow() {
    for target in runnable() {
        let mut k = KernelBuilder::new("nested");
        let out = k.param("out", DType::F32, Access::Write);
        let n = k.dim("n");
        let (zero, two) = (k.int(0), k.int(2));
        let start = k.splat_const(Const::f32(1.0), 8);
        let yes = k.splat_const(Const::bool(true), 8);
        let ends = k.for_carry((zero, n, 1), &[start, yes], LoopHint::Plain, |k, i, c| {
            let inner = k.for_carry((zero, i, 1), &[c[0]], LoopHint::Unroll(3), |k, j, c| {
                let odd = k.bin(BinOp::Rem, j, two);
                let is_odd = k.cmp(Pred::Ne, odd, zero);
                k.if_else(
                    is_odd,
                    |k| {
                        let half = k.splat_const(Const::f32(0.5), 8);
                        vec![k.mul(c[0], half)]
                    },
                    |k| {
                        let x = k.convert(j, DType::F32);
                        vec![k.add(c[0], x)]
                    },
                )
            });
            let limit = k.splat_const(Const::f32(3.0), 8);
            let small = k.cmp(Pred::Lt, inner[0], limit);
            let all = k.bin(BinOp::And, small, c[1]);
            vec![inner[0], all]
        });
        k.store(out, zero, 0, ends[0], None);
        let flags = k.convert(ends[1], DType::F32);
        k.store(out, zero, 8, flags, None);
        let loaded = Loaded::new(&[k.finish()], &target);
        for n in 0..9i64 {
            let mut out = [0f32; 16];
            assert_eq!(loaded.call(0, &[out.as_mut_ptr().cast()], &[n], 0..1), 0);
            let (mut x, mut all) = (1f32, true);
            for i in 0..n {
                for j in 0..i {
                    x = if j % 2 != 0 { x * 0.5 } else { x + j as f32 };
                }
                all &= x < 3.0;
            }
            assert!(out[..8].iter().all(|&v| v == x), "n {n}: {out:?}");
            assert!(out[8..].iter().all(|&v| v == f32::from(u8::from(all))), "n {n}: {out:?}");
        }
    }
}

/// A check ends the kernel in its tile; earlier tiles have run, later ones have not.
#[test]
fn checks_return_their_code() {
    for target in runnable() {
        let mut k = KernelBuilder::new("checked");
        let a = k.param("a", DType::I64, Access::Read);
        let out = k.param("out", DType::I64, Access::Write);
        let tile = k.tile();
        let x = k.load(a, tile, 0, 1, None);
        let zero = k.int(0);
        let ten = k.int(10);
        let low = k.cmp(Pred::Ge, x, zero);
        k.check(low, 7);
        k.for_each(zero, x, 1, |k, i| {
            let small = k.cmp(Pred::Lt, i, ten);
            k.check(small, 8);
        });
        k.store(out, tile, 0, x, None);
        let loaded = Loaded::new(&[k.finish()], &target);
        let run = |mut data: [i64; 4], tiles| {
            let mut out = [-9i64; 4];
            let code = loaded.call(0, &[data.as_mut_ptr().cast(), out.as_mut_ptr().cast()], &[], tiles);
            (code, out)
        };
        assert_eq!(run([1, 2, 3, 4], 0..4), (0, [1, 2, 3, 4]));
        assert_eq!(run([1, 2, 3, 4], 1..3), (0, [-9, 2, 3, -9]));
        assert_eq!(run([1, 2, 3, 4], 2..2), (0, [-9; 4]));
        assert_eq!(run([1, -2, 3, 4], 0..4), (7, [1, -9, -9, -9]));
        assert_eq!(run([1, 10, 11, 4], 0..4), (8, [1, 10, -9, -9]));
    }
}

/// Scratch buffers follow one another at multiples of 64 bytes and do not overlap.
#[test]
fn scratch_memory() {
    for target in runnable() {
        let mut k = KernelBuilder::new("scratch");
        let out = k.param("out", DType::I32, Access::Write);
        let n = k.dim("n");
        let first = k.scratch("first", DType::I32, ScratchLen::Dim(0));
        let second = k.scratch("second", DType::I8, ScratchLen::Const(100));
        let third = k.scratch("third", DType::I32, ScratchLen::Dim(0));
        let zero = k.int(0);
        k.for_each(zero, n, 1, |k, i| {
            let x = k.convert(i, DType::I32);
            let minus = k.un(UnOp::Neg, x);
            k.store(first, i, 0, x, None);
            k.store(third, i, 0, minus, None);
        });
        let ones = k.splat_const(Const::int(DType::I8, 1), 50);
        k.store(second, zero, 0, ones, None);
        k.store(second, zero, 50, ones, None);
        k.for_each(zero, n, 1, |k, i| {
            let (x, y) = (k.load(first, i, 0, 1, None), k.load(third, i, 0, 1, None));
            let thousand = k.constant(Const::int(DType::I32, 1000));
            let x = k.mul(x, thousand);
            let sum = k.add(x, y);
            k.store(out, i, 0, sum, None);
        });
        let loaded = Loaded::new(&[k.finish()], &target);
        for n in [1, 15, 16, 17, 100] {
            let mut out = vec![0i32; 100];
            assert_eq!(loaded.call(0, &[out.as_mut_ptr().cast()], &[n], 0..1), 0);
            assert!((0..n).all(|i| out[i as usize] == i as i32 * 999), "n {n}: {out:?}");
        }
    }
}
