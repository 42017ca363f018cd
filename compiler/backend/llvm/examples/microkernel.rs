//! Measures matrix-multiply microkernels against the machine's peak, and compile time.
//!
//! `cargo run --release -p xlac-llvm --example microkernel [-- asm|llvm|time]`

#[path = "../tests/llvm/gemm.rs"]
mod gemm;
#[path = "../tests/llvm/support.rs"]
mod support;

use std::time::Instant;

use gemm::Left;
use support::{Loaded, Scratch};
use xlac_ir::backend::{Backend, Target};
use xlac_ir::kernel::Kernel;
use xlac_llvm::Llvm;

fn main() {
    let form = std::env::args().nth(1);
    for target in support::runnable().into_iter().filter(|t| t.has("fma")) {
        if form.as_deref() == Some("time") {
            compile_time(&target);
            continue;
        }
        let lanes = target.vector_bytes / 4;
        if form.as_deref() == Some("layer") {
            let kernels = gemm::network(lanes, if target.vector_registers == 32 { 14 } else { 6 }, 2);
            println!("{}", Llvm.print(&kernels, &target, "asm").expect("prints"));
            continue;
        }
        let rows = if target.vector_registers == 32 { 14 } else { 6 };
        let chains = if target.vector_registers == 32 { 28 } else { 12 };
        let peak = gflops(&gemm::peak(lanes, chains), &target, chains as i64 * i64::from(lanes), 0);
        println!("{}: peak {peak:.1} GFLOP/s", target.cpu);
        for left in [Left::Packed, Left::Rows(256), Left::DimRows] {
            let kernel = gemm::microkernel(left, rows, 2, lanes);
            if let Some(form) = &form {
                println!("{}", Llvm.print(&[kernel], &target, form).expect("prints"));
                continue;
            }
            let start = Instant::now();
            Llvm.compile(std::slice::from_ref(&kernel), &target, 1).expect("compiles");
            let compile = start.elapsed().as_secs_f64() * 1e3;
            for depth in [64, 256] {
                let speed = gflops(&kernel, &target, rows * 2 * i64::from(lanes), depth);
                let part = speed / peak * 100.0;
                print!("  {left:?} {rows}x2, depth {depth}: {speed:.1} GFLOP/s, {part:.0}% of peak, ");
                println!("compiled in {compile:.1} ms");
            }
        }
    }
}

/// How long the kernels of a network take to compile.
fn compile_time(target: &Target) {
    let rows = if target.vector_registers == 32 { 14 } else { 6 };
    let kernels = gemm::network(target.vector_bytes / 4, rows, 30);
    for threads in [1, 2] {
        let start = Instant::now();
        let image = Llvm.compile(&kernels, target, threads).expect("compiles");
        let seconds = start.elapsed().as_secs_f64();
        println!("{}: 30 kernels, {threads} threads: {seconds:.2} s, {} bytes", target.cpu, image.bytes.len());
    }
}

/// Memory as aligned as the runtime's.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "kernels read it")] [f32; 16]);

/// Multiply-adds per second, the best of several runs; `macs` per step of the loop. Depth 0 means the peak kernel.
fn gflops(kernel: &Kernel, target: &Target, macs: i64, depth: i64) -> f64 {
    let loaded = Loaded::new(std::slice::from_ref(kernel), target);
    // One block, as in the runtime's arena: separate mappings may fall on the same tags of the first-level cache.
    let mut memory = vec![Line([1e-3; 16]); 3 << 9];
    let buffers: Vec<*mut u8> = memory.chunks_mut(1 << 9).map(|m| m.as_mut_ptr().cast()).collect();
    let (buffers, steps, tiles) = if depth == 0 { (&buffers[..1], 4096, 1) } else { (&buffers[..], depth, 1) };
    let calls = (4 << 20) / steps;
    let mut best = f64::MAX;
    let mut scratch = Scratch::dirty();
    for _ in 0..12 {
        let start = Instant::now();
        for _ in 0..calls {
            assert_eq!(loaded.call_with(0, buffers, &[steps, 256], &mut scratch, 0..tiles), 0);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (macs * steps * calls) as f64 / best / 1e9
}
