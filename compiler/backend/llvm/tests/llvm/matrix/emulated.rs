//! Machine code for AMX, run with its instructions emulated, against the kernel interpreter.

use xlac_codegen::plan::{Launch, Plan, Step};
use xlac_ir::dim::Dim;
use xlac_ir::kernel::interp;

use super::emulator::with_tiles;
use super::*;

/// True if all but the tile instructions exist here.
fn runs_here() -> bool {
    let exists = runnable().iter().any(|t| t.has("avx512vnni"));
    if !exists {
        eprintln!("skipped: code for AMX needs AVX-512 with VNNI besides what is emulated");
    }
    exists
}

/// Bytes that are often at an end of the range.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        if state >> 62 == 0 { [127, 128, 255][(state >> 40) as usize % 3] } else { (state >> 48) as u8 }
    };
    (0..n).map(next).collect()
}

/// Runs a kernel both ways on the same memory, in which parameter `i` begins at `origins[i]`; products of matrices made.
fn compare(kernel: &Kernel, buffers: &[interp::Buffer], origins: &[usize], dims: &[i64], tiles: i64) -> u32 {
    let (mut expected, mut found) = (buffers.to_vec(), buffers.to_vec());
    interp::run_at(kernel, &mut expected, origins, dims, 0..tiles)
        .unwrap_or_else(|e| panic!("{e}\n{}", text::print(kernel)));
    let pointers: Vec<*mut u8> =
        found.iter_mut().zip(origins).map(|(b, o)| b.bytes[o * b.dtype.size()..].as_mut_ptr()).collect();
    let loaded = Loaded::new(std::slice::from_ref(kernel), &amx());
    let seen = with_tiles(|| assert_eq!(loaded.call(0, &pointers, dims, 0..tiles), 0));
    assert_eq!(seen.wrong, None, "{}", text::print(kernel));
    assert_eq!((seen.configured, seen.released), (1, 1), "{}", text::print(kernel));
    assert!(expected == found, "other results than the interpreter's\n{}", text::print(kernel));
    seen.dots
}

/// The launches of a plan whose kernels use matrices, on made-up memory.
fn compare_plan(plan: &Plan, n: i64) -> u32 {
    let int = |d: &Dim| d.eval(&|_| Some(n)).expect("a size");
    let launches = plan.steps.iter().filter_map(|s| if let Step::Launch(l) = s { Some(l) } else { None });
    let matrices = launches.filter(|l| plan.kernels[l.kernel].uses_matrices());
    let run = |l: &Launch| {
        let kernel = &plan.kernels[l.kernel];
        let memory = l.buffers.iter().zip(&kernel.params).zip(1..).map(|(((id, offset), p), seed)| {
            let size = int(&plan.buffers[id.0 as usize].bytes) as usize;
            let buffer = interp::Buffer { dtype: p.dtype, bytes: bytes(size / p.dtype.size() * p.dtype.size(), seed) };
            (buffer, int(offset) as usize / p.dtype.size())
        });
        let (buffers, origins): (Vec<_>, Vec<_>) = memory.unzip();
        let dims: Vec<i64> = l.dims.iter().map(int).collect();
        compare(kernel, &buffers, &origins, &dims, int(&l.tiles))
    };
    matrices.map(run).sum()
}

/// A load of both factors, a product, and a store, with strides that are arguments.
fn one_product([a, b]: [DType; 2], (rows, steps, columns): (u32, u32, u32)) -> Kernel {
    let mut k = KernelBuilder::new("product");
    let (a, b) = (k.param("a", a, Access::Read), k.param("b", b, Access::Read));
    let c = k.param("c", DType::I32, Access::ReadWrite);
    let strides = ["a_row", "b_row", "c_row"].map(|name| k.dim(name));
    let (zero, turns) = (k.int(0), k.dim("turns"));
    let none = k.matrix_zero(rows, columns);
    let sums = k.for_carry((zero, turns, 1), &[none, none], LoopHint::Plain, |k, i, sums| {
        let x = k.matrix_load((a, i, 3), strides[0], rows, 4 * steps);
        let y = k.matrix_load((b, zero, 0), strides[1], steps, 4 * columns);
        vec![k.matrix_dot4(x, y, sums[0], rows), sums[0]]
    });
    let odd = k.cmp(Pred::Gt, turns, zero);
    let chosen = k.if_else(odd, |_| vec![sums[0]], |_| vec![sums[1]]);
    k.matrix_store((c, zero, 1), strides[2], chosen[0], rows);
    k.finish()
}

#[test]
fn products_of_every_shape() {
    if !runs_here() {
        return;
    }
    for signs in SIGNS {
        for (rows, steps, columns) in [(16, 16, 16), (1, 1, 1), (3, 5, 7), (16, 1, 2), (9, 16, 16), (16, 11, 16)] {
            for turns in [0, 1, 3] {
                let kernel = one_product(signs, (rows, steps, columns));
                let strides = [4 * steps + 5, 4 * columns, columns + 3].map(i64::from);
                let memory = |dtype, n: i64| interp::Buffer { dtype, bytes: bytes(n as usize * dtype.size(), 5) };
                let (rows, steps) = (i64::from(rows), i64::from(steps));
                let buffers = [
                    memory(signs[0], 6 + rows * strides[0]),
                    memory(signs[1], steps * strides[1]),
                    memory(DType::I32, 1 + rows * strides[2]),
                ];
                let dots = compare(&kernel, &buffers, &[0; 3], &[&strides[..], &[turns]].concat(), 1);
                assert_eq!(i64::from(dots), turns);
            }
        }
    }
}

#[test]
fn contractions_are_exact() {
    if !runs_here() {
        return;
    }
    for signs in SIGNS {
        for (rows, k, n) in
            [(64, 128, 64), (19, 64, 18), (40, 65, 33), (33, 96, 48), (49, 200, 130), (15, 50, 37), (7, 256, 100)]
        {
            assert!(compare_plan(&product(signs, &rows.to_string(), k, n), 1) > 0, "{rows} {k} {n}");
        }
    }
}

#[test]
fn rows_counted_late() {
    if !runs_here() {
        return;
    }
    for n in [1, 3, 4, 15, 16, 17, 31, 32, 33, 48, 65] {
        let dots = compare_plan(&product(SIGNS[n as usize % 4], "N", 150, 70), n);
        assert_eq!(dots > 0, n >= 16, "{n}");
    }
}

/// Windows, with what follows the sum: bias, scale, and rounding to bytes.
#[test]
fn convolutions_are_exact() {
    if !runs_here() {
        return;
    }
    for (channels, [a, b]) in [(8, SIGNS[0]), (64, SIGNS[1]), (70, SIGNS[2]), (32, SIGNS[3])] {
        let text = format!(
            "graph @g(%x: {a}[1, {channels}, 6, 18]) -> (%z) {{
               %w = weight @w : {b}[40, {channels}, 3, 3]
               %y = conv %x, %w {{strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1, out = i32}} : i32[1, 40, 6, 18]
               %s = weight @s : i32[40, 1, 1]
               %v = broadcast %s {{shape = [1, 40, 6, 18]}} : i32[1, 40, 6, 18]
               %t = add %y, %v : i32[1, 40, 6, 18]
               %z = cast %t {{to = f32}} : f32[1, 40, 6, 18]
               yield %z
             }}"
        );
        assert!(compare_plan(&planned(&text), 1) > 0, "{text}");
    }
}
