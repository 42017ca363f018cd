//! What kernels compute, and the faults of wrong ones.

use proptest::prelude::*;

use super::*;
use crate::kernel::text::{parse, tests::random_kernel};

fn f32s(x: &[f32]) -> Buffer {
    Buffer { dtype: DType::F32, bytes: x.iter().flat_map(|x| x.to_le_bytes()).collect() }
}

fn to_f32s(b: &Buffer) -> Vec<f32> {
    b.bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

/// Runs tiles 0..tiles backwards on `x` and a zeroed `y` of as many elements; gives `y`.
fn run_xy(text: &str, x: &[f32], dims: &[i64], tiles: i64) -> Result<Vec<f32>, Fault> {
    let mut buffers = [f32s(x), f32s(&vec![0.0; x.len()])];
    run(&parse(text).unwrap(), &mut buffers, dims, (0..tiles).rev())?;
    Ok(to_f32s(&buffers[1]))
}

#[test]
fn tails_are_predicated() {
    let text = "kernel @double(%x: f32 read, %y: f32 write) dims(N) {
        %t = tile : i64  %four = const 4 : i64  %i = mul %t, %four : i64
        %n = dim N : i64  %left = sub %n, %i : i64
        %v = load %x[%i] count %left : f32x4
        %w = add %v, %v : f32x4
        store %y[%i], %w count %left : f32x4
    }";
    assert_eq!(run_xy(text, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[6], 2).unwrap(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    let fault = run_xy(text, &[1.0; 6], &[7], 2).unwrap_err();
    assert_eq!(fault.to_string(), "tile 1: index 6 of buffer %x, which has 6 elements");
}

#[test]
fn loops_carry_values() {
    let text = "kernel @sums(%x: f32 read, %y: f32 write) dims(N) {
        %zero = const 0 : i64  %n = dim N : i64  %start = const 0.0 : f32
        for %i: i64 = %zero to %n step 2 carry (%sum: f32 = %start) {
            %v = load %x[%i] : f32
            %next = add %sum, %v : f32
            store %y[%i], %next : f32
            yield %next
        } -> (%all)
        for %j: i64 = %n to %zero step 1 carry (%k: f32 = %all) { yield %start } -> (%same)
        store %y[%zero + 1], %same : f32
    }";
    assert_eq!(run_xy(text, &[1.0, 2.0, 3.0, 4.0, 5.0], &[5], 1).unwrap(), [1.0, 9.0, 4.0, 0.0, 9.0]);
}

#[test]
fn byte_products_are_summed_in_fours() {
    let text = "kernel @dot(%a: u8 read, %b: i8 read, %y: i32 readwrite) {
        %0 = const 0 : i64
        %a0 = load %a[%0] : u8x8  %b0 = load %b[%0] : i8x8  %c = load %y[%0] : i32x2
        %d = dot4 %a0, %b0, %c : i32x2
        store %y[%0], %d : i32x2
    }";
    let bytes = |dtype, x: [i64; 8]| Buffer { dtype, bytes: x.iter().map(|&x| x as u8).collect() };
    let sums = Buffer { dtype: DType::I32, bytes: [5i32, i32::MIN].iter().flat_map(|x| x.to_le_bytes()).collect() };
    let a = bytes(DType::U8, [255, 255, 1, 2, 255, 255, 255, 255]);
    let b = bytes(DType::I8, [127, 127, -1, 0, -128, -128, -128, -128]);
    let mut buffers = [a, b, sums];
    let kernel = parse(text).unwrap();
    run(&kernel, &mut buffers, &[], 0..1).unwrap();
    let sums: Vec<i32> = buffers[2].bytes.chunks(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(sums, [5 + 2 * 255 * 127 - 1, i32::MIN.wrapping_sub(4 * 255 * 128)]);
}

#[test]
fn branches_choose() {
    let text = "kernel @relu(%x: f32 read, %y: f32 write) {
        %i = tile : i64  %v = load %x[%i] : f32  %zero = const 0.0 : f32
        %p = gt %v, %zero : bool
        if %p { yield %v } else { %m = neg %zero : f32 yield %m } -> (%r: f32)
        store %y[%i], %r : f32
    }";
    assert_eq!(run_xy(text, &[1.0, -2.0, 3.0], &[], 3).unwrap(), [1.0, -0.0, 3.0]);
}

#[test]
fn lanes_move() {
    let text = "kernel @lanes(%x: f32 read, %y: f32 write) {
        %i = tile : i64  %two = const 2 : i64
        %a = load %x[%i by %two] : f32x3
        %n = iota %i : i64x3
        %b = gather %x[%n + 3] count %two : f32x3
        %c = concat %a, %b : f32x6
        %d = slice %c[1] : f32x4
        %e = extract %c[2] : f32
        %f = splat %e : f32x2
        store %y[%i], %d : f32x4
        store %y[%i + 4], %f : f32x2
    }";
    assert_eq!(run_xy(text, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[], 1).unwrap(), [2.0, 4.0, 3.0, 4.0, 4.0, 4.0]);
    let text = "kernel @permuted(%x: f32 read, %y: f32 write) {
        %i = tile : i64
        %a = load %x[%i] : f32x3
        %b = load %x[%i + 3] : f32x3
        %c = permute %a, %b [5, 0, 0, 3, 2, 4] : f32x6
        store %y[%i], %c : f32x6
    }";
    assert_eq!(run_xy(text, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[], 1).unwrap(), [5.0, 0.0, 0.0, 3.0, 2.0, 4.0]);
}

#[test]
fn wrong_kernels_are_found() {
    let uninitialized = "kernel @k(%x: f32 read, %y: f32 write) scratch(%s: f32[4]) {
        %i = tile : i64  %v = load %x[%i] : f32
        %zero = const 0 : i64
        %w = load %s[%zero] : f32
        store %s[%zero], %v : f32
    }";
    let fault = run_xy(uninitialized, &[1.0], &[], 1).unwrap_err();
    assert_eq!(fault.to_string(), "tile 0: element 0 of scratch %s is read before it is written");

    let failing = "kernel @k(%x: f32 read, %y: f32 write) {
        %i = tile : i64  %two = const 2 : i64  %p = ne %i, %two : bool
        check %p, code 9
    }";
    assert_eq!(run_xy(failing, &[1.0], &[], 4), Err(Fault::Check { tile: 2, code: 9 }));

    let negative = "kernel @k(%x: f32 read, %y: f32 write) { %i = tile : i64 %v = load %x[%i - 1] : f32 }";
    let fault = run_xy(negative, &[1.0], &[], 1).unwrap_err();
    assert_eq!(fault.to_string(), "tile 0: index -1 of buffer %x, which has 1 elements");
}

#[test]
fn arguments_are_checked() {
    let kernel = parse("kernel @k(%x: f32 read) dims(N) { }").unwrap();
    let run = |buffers: &mut [Buffer], dims: &[i64]| run(&kernel, buffers, dims, 0..1).unwrap_err().to_string();
    assert_eq!(run(&mut [], &[1]), "wrong arguments: 0 buffers for 1 parameters");
    assert_eq!(run(&mut [f32s(&[])], &[]), "wrong arguments: 0 dims for 1");
    let other = Buffer { dtype: DType::F64, bytes: Vec::new() };
    assert_eq!(run(&mut [other], &[1]), "wrong arguments: a buffer of f64 for %x of f32");
}

proptest! {
    /// Any well-formed kernel runs or faults, and does the same after a trip through its text.
    #[test]
    fn random_kernels_run(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let kernel = random_kernel(&bytes);
        let read = parse(&crate::kernel::text::print(&kernel)).unwrap();
        let memory = |k: &Kernel| -> Vec<Buffer> {
            k.params.iter().map(|p| Buffer { dtype: p.dtype, bytes: vec![1; 200 * p.dtype.size()] }).collect()
        };
        let (mut a, mut b) = (memory(&kernel), memory(&read));
        prop_assert_eq!(run(&kernel, &mut a, &[50, 70], 0..2), run(&read, &mut b, &[50, 70], 0..2));
        prop_assert_eq!(a, b);
    }
}
