//! The code itself: microkernels without spills, the same image for any number of threads, errors that name their
//! cause.

use xlac_ir::DType;
use xlac_ir::backend::Backend;
use xlac_ir::kernel::*;
use xlac_llvm::Llvm;

use crate::gemm::{Left, microkernel};
use crate::support::*;

const LEFTS: [Left; 3] = [Left::Packed, Left::Rows(256), Left::DimRows];

#[test]
fn microkernels_multiply() {
    for target in runnable().into_iter().filter(|t| t.has("fma")) {
        let lanes = target.vector_bytes / 4;
        let rows = 6;
        for left in LEFTS {
            let loaded = Loaded::new(&[microkernel(left, rows, 2, lanes)], &target);
            let (depth, lda, width) = (100usize, 256usize, 2 * lanes as usize);
            let rows = rows as usize;
            let mut a: Vec<f32> = (0..lda * rows).map(|i| (i % 13) as f32 - 6.0).collect();
            let mut b: Vec<f32> = (0..depth * width).map(|i| (i % 7) as f32 * 0.25).collect();
            let mut c = vec![1f32; rows * width];
            let buffers = [a.as_mut_ptr().cast(), b.as_mut_ptr().cast(), c.as_mut_ptr().cast()];
            assert_eq!(loaded.call(0, &buffers, &[depth as i64, lda as i64], 0..1), 0);
            for (i, &got) in c.iter().enumerate() {
                let (row, column) = (i / width, i % width);
                let x = |k: usize| if left == Left::Packed { a[k * rows + row] } else { a[row * lda + k] };
                let want = (0..depth).fold(1f32, |sum, k| x(k).mul_add(b[k * width + column], sum));
                assert_eq!(got.to_bits(), want.to_bits(), "{left:?} row {row} column {column}");
            }
        }
    }
}

#[test]
fn microkernels_stay_in_registers() {
    for (target, rows) in [(avx512(), 14), (avx2(), 6)] {
        let lanes = target.vector_bytes / 4;
        for left in LEFTS {
            let asm = Llvm.print(&[microkernel(left, rows, 2, lanes)], &target, "asm").expect("prints");
            assert!(asm.starts_with("# kernel gemm"), "{asm}");
            assert!(!asm.contains("(%rsp"), "{left:?} spills:\n{asm}");
            let count = |text: &str| asm.lines().filter(|l| l.contains(text)).count() as i64;
            assert_eq!(count("vfmadd231ps"), rows * 2, "{asm}");
            assert_eq!(count("vbroadcastss"), rows, "{asm}");
        }
        // A row that is used once takes its operand straight from memory.
        if target.broadcast_fma {
            let asm = Llvm.print(&[microkernel(Left::Packed, 24, 1, lanes)], &target, "asm").expect("prints");
            assert_eq!(asm.matches("{1to16}").count(), 24, "{asm}");
            assert!(!asm.contains("(%rsp"), "spills:\n{asm}");
        }
    }
}

#[test]
fn the_image_does_not_depend_on_threads() {
    let mut kernels: Vec<Kernel> = (1..7).map(|rows| microkernel(Left::Packed, rows, 2, 8)).collect();
    for (i, k) in kernels.iter_mut().enumerate() {
        k.name = format!("gemm{i}");
    }
    for target in [avx512(), avx2(), arm()] {
        let one = Llvm.compile(&kernels, &target, 1).expect("compiles");
        assert_eq!(one, Llvm.compile(&kernels, &target, 4).expect("compiles"));
        assert_eq!(one.entries.len(), kernels.len());
        assert!(one.entries.iter().all(|e| e % 64 == 0 && *e < one.bytes.len() as u64));
    }
    assert_eq!(Llvm.compile(&[], &avx2(), 4).expect("compiles").entries, Vec::<u64>::new());
}

fn rejected(kernel: Kernel, target: &xlac_ir::backend::Target) -> String {
    Llvm.compile(&[kernel], target, 1).expect_err("is rejected").to_string()
}

#[test]
fn errors_name_their_cause() {
    let error = rejected(microkernel(Left::Packed, 2, 1, 4), &sse());
    assert_eq!(error, "llvm: kernel `gemm`: the target has no fused multiply-add (feature `fma`)");

    let mut k = KernelBuilder::new("floors");
    let a = k.param("a", DType::F32, Access::ReadWrite);
    let zero = k.int(0);
    let x = k.load(a, zero, 0, 4, None);
    let x = k.un(UnOp::Floor, x);
    k.store(a, zero, 0, x, None);
    let error = rejected(k.finish(), &target("x86_64", "x86-64", &[]));
    assert!(error.contains("kernel `floors`: needs outside symbol `floorf`"), "{error}");

    let error = Llvm.print(&[], &avx2(), "clif").expect_err("is rejected").to_string();
    assert!(error.contains("no text form `clif`; there are llvm, asm"), "{error}");
    let error = rejected(KernelBuilder::new("empty").finish(), &target("riscv64", "generic", &[]));
    assert!(error.contains("no LLVM target for `riscv64`"), "{error}");
}

#[test]
fn constrain_follows_the_features() {
    let shape = |t: xlac_ir::backend::Target| (t.vector_bytes, t.vector_registers, t.masked_memory, t.broadcast_fma);
    assert_eq!(shape(avx512()), (64, 32, true, true));
    assert_eq!(shape(avx2()), (32, 16, false, false));
    assert_eq!(shape(sse()), (16, 16, false, false));
    assert_eq!(shape(arm()), (16, 32, false, false));
}

/// Eight partial sums over a vector; the loop is as long as a dim says.
fn sums(hint: LoopHint) -> Kernel {
    let mut k = KernelBuilder::new("sums");
    let a = k.param("a", DType::F32, Access::Read);
    let out = k.param("out", DType::F32, Access::Write);
    let n = k.dim("n");
    let zero = k.int(0);
    let start = k.splat_const(Const::f32(0.0), 8);
    let ends = k.for_carry((zero, n, 8), &[start], hint, |k, i, c| {
        let x = k.load(a, i, 0, 8, None);
        vec![k.add(c[0], x)]
    });
    k.store(out, zero, 0, ends[0], None);
    k.finish()
}

#[test]
fn loops_unroll_when_told() {
    let adds = |hint| Llvm.print(&[sums(hint)], &avx2(), "asm").expect("prints").matches("vaddps").count();
    assert_eq!(adds(LoopHint::Plain), 1);
    // Four, and those that take the rest.
    assert!((5..=7).contains(&adds(LoopHint::Unroll(4))), "{}", adds(LoopHint::Unroll(4)));
}

/// A filler loop is not turned into a call.
#[test]
fn loops_do_not_become_calls() {
    for target in [avx512(), avx2(), sse(), arm()] {
        let mut k = KernelBuilder::new("fill");
        let a = k.param("a", DType::F32, Access::Read);
        let out = k.param("out", DType::F32, Access::Write);
        let n = k.dim("n");
        let zero = k.int(0);
        let nothing = k.constant(Const::f32(0.0));
        k.for_each(zero, n, 1, |k, i| k.store(out, i, 0, nothing, None));
        k.for_each(zero, n, 1, |k, i| {
            let x = k.load(a, i, 0, 1, None);
            k.store(out, i, 0, x, None);
        });
        Llvm.compile(&[k.finish()], &target, 1).unwrap_or_else(|e| panic!("{e}"));
    }
}
