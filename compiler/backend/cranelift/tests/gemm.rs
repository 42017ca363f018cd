//! Register tiles: right, and with `--ignored --nocapture`, how fast each shape is.

mod common;

use common::{Code, host};
use std::time::Instant;
use xlac_cranelift::Cranelift;
use xlac_ir::backend::Backend;
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Access, Kernel, KernelBuilder, LoopHint, Val};

/// C[rows][4 * cols] += packed A times packed B, as a template would write it.
fn microkernel(rows: i64, cols: i64, unroll: u32) -> Kernel {
    let mut k = KernelBuilder::new(format!("gemm_{rows}x{cols}_u{unroll}"));
    let a = k.param("a", DType::F32, Access::Read);
    let b = k.param("b", DType::F32, Access::Read);
    let c = k.param("c", DType::F32, Access::Write);
    let depth = k.dim("k");
    let zero = k.int(0);
    let lanes = (4 * cols) as u32;
    let nil = k.splat_const(xlac_ir::kernel::Const::f32(0.0), lanes);
    let init: Vec<Val> = vec![nil; rows as usize];
    let tile = k.tile();
    let panel = k.mul(tile, depth);
    let a_base = k.mul_int(panel, rows);
    let acc = k.for_carry((zero, depth, 1), &init, LoopHint::Unroll(unroll), |k, i, acc| {
        let at = k.mul_int(i, 4 * cols);
        let bv = k.load(b, at, 0, lanes, None);
        let at = k.mul_int(i, rows);
        let at = k.add(at, a_base);
        (0..rows)
            .map(|r| {
                let x = k.load(a, at, r, 1, None);
                let x = k.widen(x, lanes);
                k.fma(x, bv, acc[r as usize])
            })
            .collect()
    });
    let c_base = k.mul_int(tile, rows * 4 * cols);
    for (r, &v) in acc.iter().enumerate() {
        k.store(c, c_base, r as i64 * 4 * cols, v, None);
    }
    k.finish()
}

#[test]
fn register_tiles_are_right() {
    for (rows, cols, unroll) in [(6, 2, 4), (4, 3, 1), (3, 1, 4), (2, 4, 3)] {
        let kernel = microkernel(rows, cols, unroll);
        let code = Code::new(&[kernel]);
        for depth in [0usize, 1, 3, 4, 17] {
            let (m, n) = (rows as usize, 4 * cols as usize);
            let mut a: Vec<f32> = (0..m * depth).map(|i| (i % 7) as f32 - 3.0).collect();
            let mut b: Vec<f32> = (0..n * depth).map(|i| (i % 5) as f32 - 2.0).collect();
            let mut c = vec![9.0f32; m * n];
            let pointers = [a.as_mut_ptr().cast(), b.as_mut_ptr().cast(), c.as_mut_ptr().cast()];
            assert_eq!(code.run(0, &pointers, &[depth as i64], 0..1), 0);
            for i in 0..m {
                for j in 0..n {
                    let want: f32 = (0..depth).map(|p| a[p * m + i] * b[p * n + j]).sum();
                    assert_eq!(c[i * n + j], want, "{rows}x{cols} depth {depth} at {i},{j}");
                }
            }
        }
    }
}

#[test]
#[ignore = "a measurement, not a test"]
fn register_tiles_speed() {
    let depth = 256usize;
    let only = std::env::var("TILE").ok();
    for (rows, cols) in [(5, 2), (4, 2), (6, 2), (3, 3), (2, 4), (4, 3), (8, 1), (10, 1), (12, 1)] {
        for unroll in [1, 4, 8, 16] {
            let kernel = microkernel(rows, cols, unroll);
            if only.as_deref() == Some(&format!("{rows}x{cols}u{unroll}")) {
                println!("{}", Cranelift.print(std::slice::from_ref(&kernel), &host(), "asm").unwrap());
            }
            if std::env::var("ONLY").is_ok() {
                continue;
            }
            let code = Code::new(&[kernel]);
            let (m, n) = (rows as usize, 4 * cols as usize);
            let tiles = 2;
            let mut a = vec![1.0f32; m * depth * tiles];
            let mut b = vec![1.0f32; n * depth];
            let mut c = vec![0.0f32; m * n * tiles];
            let pointers = [a.as_mut_ptr().cast(), b.as_mut_ptr().cast(), c.as_mut_ptr().cast()];
            let mut best = f64::MAX;
            for _ in 0..200 {
                let start = Instant::now();
                for _ in 0..40 {
                    code.run_with(0, &pointers, &[depth as i64], &mut [], 0..tiles as i64);
                }
                best = best.min(start.elapsed().as_secs_f64() / 40.0);
            }
            let flops = 2.0 * (m * n * depth * tiles) as f64;
            println!("{rows}x{cols} unroll {unroll}: {:.1} GFLOP/s", flops / best / 1e9);
        }
    }
    #[cfg(target_arch = "x86_64")]
    println!("peak of 128-bit fma: {:.1} GFLOP/s", peak());
}

/// Independent fused multiply-adds in registers, nothing else.
#[cfg(target_arch = "x86_64")]
fn peak() -> f64 {
    #[target_feature(enable = "avx,fma")]
    fn spin(n: usize) -> f32 {
        use std::arch::x86_64::*;
        let mut acc = [_mm_set1_ps(1.0); 12];
        let (x, y) = (_mm_set1_ps(std::hint::black_box(1.0)), _mm_set1_ps(std::hint::black_box(0.5)));
        for _ in 0..n {
            for a in &mut acc {
                *a = _mm_fmadd_ps(*a, y, x);
            }
        }
        acc.iter().map(|&a| _mm_cvtss_f32(a)).sum()
    }
    let n = 1_000_000;
    let mut best = f64::MAX;
    for _ in 0..40 {
        let start = Instant::now();
        // SAFETY: the caller's machine has FMA: the kernels measured before need it as well.
        std::hint::black_box(unsafe { spin(std::hint::black_box(n)) });
        best = best.min(start.elapsed().as_secs_f64());
    }
    (n * 12 * 8) as f64 / best / 1e9
}
