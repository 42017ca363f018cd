//! Sums of four 8-bit products: exact with and without instructions for them, at the ends of the range too.

use xlac_ir::DType;
use xlac_ir::backend::{Backend, Target};
use xlac_ir::kernel::*;
use xlac_llvm::Llvm;

use crate::support::*;

const SIGNS: [[DType; 2]; 4] =
    [[DType::U8, DType::I8], [DType::I8, DType::U8], [DType::I8, DType::I8], [DType::U8, DType::U8]];

/// Adds to `lanes` numbers a tile; of the first factor four elements serve all lanes, or there are four for each.
fn kernel([a, b]: [DType; 2], lanes: u32, broadcast: bool) -> Kernel {
    let mut k = KernelBuilder::new("dot");
    let (a, b) = (k.param("a", a, Access::Read), k.param("b", b, Access::Read));
    let c = k.param("c", DType::I32, Access::ReadWrite);
    let tile = k.tile();
    let at = k.mul_int(tile, i64::from(lanes));
    let at4 = k.mul_int(at, 4);
    let x = if broadcast {
        let x = k.load(a, at4, 0, 4, None);
        k.permute(x, x, &(0..4 * lanes).map(|i| i % 4).collect::<Vec<u32>>())
    } else {
        k.load(a, at4, 0, 4 * lanes, None)
    };
    let (y, z) = (k.load(b, at4, 0, 4 * lanes, None), k.load(c, at, 0, lanes, None));
    let sum = k.dot4(x, y, z);
    k.store(c, at, 0, sum, None);
    k.finish()
}

fn run(signs: [DType; 2], lanes: u32, broadcast: bool, target: &Target) {
    // All pairs of bytes that matter: four in a row are all extremes, where a saturating sum would differ.
    let corners: Vec<u8> = vec![0, 1, 2, 127, 128, 129, 200, 254, 255];
    let tiles = 96usize;
    let n = tiles * lanes as usize;
    let pick = |i: usize, by: usize| if i % 7 < 3 { [128, 127, 255][i / (4 * by) % 3] } else { corners[(i * by + i / 9) % corners.len()] };
    let a: Vec<u8> = (0..4 * n).map(|i| pick(i, 5)).collect();
    let b: Vec<u8> = (0..4 * n).map(|i| pick(i, 2)).collect();
    let c: Vec<i32> = (0..n).map(|i| [0, 1, i32::MAX, i32::MIN, -12345][i % 5]).collect();
    let mut memory = [a.clone(), b.clone(), c.iter().flat_map(|c| c.to_le_bytes()).collect()];
    let buffers: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    let loaded = Loaded::new(&[kernel(signs, lanes, broadcast)], target);
    assert_eq!(loaded.call(0, &buffers, &[], 0..tiles as i64), 0);
    let value = |x: u8, t: DType| if t == DType::I8 { i32::from(x as i8) } else { i32::from(x) };
    for i in 0..n {
        let first = if broadcast { i / lanes as usize * lanes as usize } else { i };
        let product = |j: usize| value(a[4 * first + j], signs[0]) * value(b[4 * i + j], signs[1]);
        let want = (0..4).map(product).fold(c[i], i32::wrapping_add);
        let got = element(&memory[2], DType::I32, i).as_i64();
        assert_eq!(got, i64::from(want), "{} {signs:?} x{lanes}, lane {i} {:?}", target.cpu, target.features);
    }
}

#[test]
fn sums_are_exact() {
    for target in runnable() {
        for signs in SIGNS {
            for lanes in [1, 3, 4, 8, 16, 24, 32] {
                run(signs, lanes, false, &target);
                run(signs, lanes, true, &target);
            }
        }
    }
}

#[test]
fn processors_use_what_they_have() {
    let asm = |signs, lanes, target: &Target| Llvm.print(&[kernel(signs, lanes, true)], target, "asm").expect("prints");
    let arm_dot = target("aarch64", "generic", &["neon", "dotprod"]);
    let arm_mixed = target("aarch64", "generic", &["neon", "dotprod", "i8mm"]);
    let mut avx_vnni = avx2();
    avx_vnni.features.push("avxvnni".into());
    let [mixed, swapped, signed, unsigned] = SIGNS;
    for (signs, lanes, target, wanted) in [
        (mixed, 16, avx512vnni(), "vpdpbusd"),
        (swapped, 16, avx512vnni(), "vpdpbusd"),
        (mixed, 8, avx_vnni, "vpdpbusd"),
        (signed, 16, avx512vnni(), "vpmaddwd"),
        (mixed, 16, avx512(), "vpmaddwd"),
        (mixed, 8, avx2(), "vpmaddwd"),
        (unsigned, 4, sse(), "pmaddwd"),
        (signed, 4, arm_dot.clone(), "sdot"),
        (unsigned, 4, arm_dot.clone(), "udot"),
        (mixed, 4, arm_mixed, "usdot"),
        (mixed, 4, arm_dot, "mla"),
        (mixed, 4, arm(), "mla"),
    ] {
        let text = asm(signs, lanes, &target);
        assert!(text.contains(wanted), "{signs:?} has no `{wanted}`:\n{text}");
        assert!(!text.contains("pmaddubsw") && !text.contains("vpdpbusds"), "{text}");
    }
}
