//! Matrices in registers: the code made for them, and what it computes where tile instructions are emulated.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod emulated;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod emulator;

use xlac_ir::DType;
use xlac_ir::backend::{Backend, Target};
use xlac_ir::kernel::*;
use xlac_llvm::Llvm;

use crate::support::*;

const SIGNS: [[DType; 2]; 4] =
    [[DType::U8, DType::I8], [DType::I8, DType::U8], [DType::I8, DType::I8], [DType::U8, DType::U8]];

/// x86-64-v4 with sums of 8-bit products and tile registers.
fn amx() -> Target {
    let mut t = avx512vnni();
    t.features.extend(["amx-int8", "amx-tile"].map(String::from));
    t.features.sort();
    t.cpu = "sapphirerapids".into();
    t
}

/// The kernels of a matrix product with a constant right side, of these types.
fn product([a, b]: [DType; 2], rows: &str, k: i64, n: i64) -> xlac_codegen::plan::Plan {
    let text = format!(
        "graph @g(%x: {a}[{rows}, {k}]) -> (%y) {{
           %w = weight @w : {b}[{k}, {n}]
           %y = matmul %x, %w {{trans_a = false, trans_b = false, out = i32}} : i32[{rows}, {n}]
           yield %y
         }}"
    );
    planned(&text)
}

fn planned(text: &str) -> xlac_codegen::plan::Plan {
    let program = xlac_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    xlac_codegen::compile(&program, &amx(), &Default::default()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The blocks of an assembly text that are loops of their own.
fn inner_loops(asm: &str) -> Vec<&str> {
    let labels: Vec<usize> = asm.match_indices("\n.LBB").map(|m| m.0 + 1).chain([asm.len()]).collect();
    let loop_of = |block: &'_ str| -> Option<usize> {
        let (label, code) = block.split_once(':')?;
        let jump = code.lines().find(|l| l.trim_start().starts_with('j') && l.ends_with(label))?;
        Some(label.len() + 1 + code.find(jump)? + jump.len())
    };
    labels.windows(2).filter_map(|w| loop_of(&asm[w[0]..w[1]]).map(|n| &asm[w[0]..w[0] + n])).collect()
}

#[test]
fn sums_stay_in_tiles() {
    for (signs, name) in SIGNS.into_iter().zip(["tdpbusd", "tdpbsud", "tdpbssd", "tdpbuud"]) {
        for (rows, k, n) in [("64", 1024, 128), ("64", 1000, 128), ("13", 768, 256), ("N", 640, 192)] {
            let plan = product(signs, rows, k, n);
            let asm = Llvm.print(&plan.kernels, &amx(), "asm").expect("prints");
            let count = |text: &str| asm.matches(text).count();
            assert!(count(name) >= 4 && count("tdpb") == count(name), "{asm}");
            assert_eq!((count("ldtilecfg"), count("tilerelease")), (1, 1), "{rows}\n{asm}");
            // A tile on the stack would be one that did not fit in registers.
            let tiles = |l: &&str| l.contains("tileload") || l.contains("tilestore");
            assert!(!asm.lines().filter(tiles).any(|l| l.contains("%rsp") || l.contains("%rbp,")), "{asm}");
            let entry = asm.find("ldtilecfg").expect("counted");
            assert!(!asm[..entry].contains("\n.LBB"), "configured in a loop\n{asm}");
            let loops: Vec<&str> = inner_loops(&asm).into_iter().filter(|l| l.contains(name)).collect();
            assert!(!loops.is_empty(), "{asm}");
            assert!(loops.iter().all(|l| !l.contains("(%rsp)")), "spills:\n{}", loops.join("\n"));
        }
    }
}

/// Two matrices of rows and two of columns share their loads: four products for four of them.
#[test]
fn a_step_is_four_loads_and_four_products() {
    let asm = Llvm.print(&product(SIGNS[0], "64", 2048, 128).kernels, &amx(), "asm").expect("prints");
    let inner = inner_loops(&asm).into_iter().find(|l| l.contains("tdpbusd")).expect("a loop of products");
    let count = |text: &str| inner.matches(text).count();
    assert_eq!((count("tdpbusd"), count("tileloadd")), (4, 4), "{inner}");
}

#[test]
fn other_targets_have_no_matrices() {
    let plan = product(SIGNS[0], "64", 256, 64);
    let text = "llvm: kernel `matmul`: the target has no products of matrices in registers (features `amx-tile` and `amx-int8`)";
    let error = Llvm.compile(&plan.kernels, &avx512vnni(), 1).expect_err("is rejected").to_string();
    let kernel = &plan.kernels.iter().find(|k| k.uses_matrices()).expect("a kernel with matrices").name;
    assert_eq!(error, text.replace("matmul", kernel));
}
