//! What matrices are: sums of products of every shape and sign, rows a stride apart, and the text form.

use proptest::prelude::*;

use crate::DType;
use crate::kernel::interp::{Buffer, Fault, run};
use crate::kernel::text::{parse, print};
use crate::kernel::*;

/// Two loads and a product added to what is in `c`; all three a stride apart, `b` behind two elements.
fn product([a, b]: [DType; 2], (rows, steps, columns): (u32, u32, u32)) -> Kernel {
    let mut k = KernelBuilder::new("product");
    let (a, b) = (k.param("a", a, Access::Read), k.param("b", b, Access::Read));
    let c = k.param("c", DType::I32, Access::ReadWrite);
    let strides = ["a_row", "b_row", "c_row"].map(|name| k.dim(name));
    let (zero, two) = (k.int(0), k.int(2));
    let x = k.matrix_load((a, zero, 0), strides[0], rows, 4 * steps);
    let y = k.matrix_load((b, zero, 2), strides[1], steps, 4 * columns);
    let none = k.matrix_zero(rows, columns);
    let once = k.matrix_dot4(x, y, none, rows);
    let twice =
        k.for_carry((zero, two, 1), &[once], LoopHint::Plain, |k, _, sums| vec![k.matrix_dot4(x, y, sums[0], rows)]);
    k.matrix_store((c, zero, 1), strides[2], twice[0], rows);
    k.finish()
}

/// Three times the product of the same operands.
fn expected(
    a: &[u8],
    b: &[u8],
    signed: [bool; 2],
    (rows, steps, columns): (usize, usize, usize),
    strides: [usize; 3],
) -> Vec<i32> {
    let value = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
    let mut c = vec![7; 1 + (rows - 1) * strides[2] + columns];
    for m in 0..rows {
        for n in 0..columns {
            let term = |k: usize| {
                let (x, y) = (a[m * strides[0] + k], b[2 + k / 4 * strides[1] + 4 * n + k % 4]);
                value(x, signed[0]) * value(y, signed[1])
            };
            c[1 + m * strides[2] + n] = (0..4 * steps).map(term).fold(0, i32::wrapping_add).wrapping_mul(3);
        }
    }
    c
}

proptest! {
    #[test]
    fn products_are_exact(
        rows in 1usize..=16, steps in 1usize..=16, columns in 1usize..=16, signs in 0usize..4, gap in 0usize..5,
        seed in any::<u64>(), extreme in any::<bool>(),
    ) {
        let signed = [signs & 1 != 0, signs & 2 != 0];
        let types = signed.map(|s| if s { DType::I8 } else { DType::U8 });
        let strides = [4 * steps + gap, 4 * columns + gap, columns + gap];
        let mut state = seed;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if extreme { [127, 128, 255][(state >> 40) as usize % 3] } else { (state >> 56) as u8 }
        };
        let a: Vec<u8> = (0..(rows - 1) * strides[0] + 4 * steps).map(|_| byte()).collect();
        let b: Vec<u8> = (0..2 + (steps - 1) * strides[1] + 4 * columns).map(|_| byte()).collect();
        let want = expected(&a, &b, signed, (rows, steps, columns), strides);
        let sums = [7i32.to_le_bytes(); 1].concat().repeat(want.len());
        let mut buffers = [
            Buffer { dtype: types[0], bytes: a }, Buffer { dtype: types[1], bytes: b }, Buffer { dtype: DType::I32, bytes: sums },
        ];
        let kernel = product(types, (rows as u32, steps as u32, columns as u32));
        prop_assert_eq!(&text::canonical(&kernel), &parse(&print(&kernel)).unwrap());
        run(&kernel, &mut buffers, &strides.map(|s| s as i64), 0..1).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let found: Vec<i32> = buffers[2].bytes.chunks(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect();
        prop_assert_eq!(found, want);
    }
}

#[test]
fn the_text_says_rows_and_strides() {
    let text = "\
kernel @k(%a: u8 read, %b: i8 read, %y: i32 write) {
  %0 = tile : i64
  %1 = const 64 : i64
  %2 = matrix_zero rows 2 : i32x6
  %3 = matrix_load %a[%0 + 4 by %1] rows 2 : u8x16
  %4 = matrix_load %b[%0 by %1] rows 2 : i8x24
  %5 = matrix_dot4 %3, %4, %2 rows 2 : i32x6
  matrix_store %y[%0 - 1 by %1], %5 rows 2 : i32x6
}
";
    let kernel = parse(text).unwrap();
    assert_eq!(verify::verify(&kernel), Ok(()));
    assert_eq!(print(&kernel), text);
    assert!(kernel.uses_matrices());
    assert!(!KernelBuilder::new("empty").finish().uses_matrices());
    let error =
        |body: &str| parse(&format!("kernel @k(%a: u8 read) {{ %i = tile : i64 {body} }}")).unwrap_err().message;
    assert_eq!(error("%x = matrix_load %a[%i] rows 2 : u8x8"), "this access takes a stride");
    assert_eq!(error("%x = matrix_zero : i32x8"), "expected `rows`, found `:`");
}

/// Nothing of a matrix lies outside of its buffer, however far its rows are apart.
#[test]
fn rows_outside_of_the_buffer_are_found() {
    let kernel = product([DType::U8, DType::U8], (2, 1, 1));
    let bytes = |n| Buffer { dtype: DType::U8, bytes: vec![1; n] };
    let sums = |n: usize| Buffer { dtype: DType::I32, bytes: vec![0; 4 * n] };
    let fault = |mut buffers: [Buffer; 3]| run(&kernel, &mut buffers, &[5, 4, 1], 0..1);
    assert_eq!(fault([bytes(9), bytes(6), sums(3)]), Ok(()));
    let outside = |buffer: &str, index, len| Err(Fault::OutOfBounds { tile: 0, buffer: buffer.into(), index, len });
    assert_eq!(fault([bytes(8), bytes(6), sums(3)]), outside("a", 8, 8));
    assert_eq!(fault([bytes(9), bytes(5), sums(3)]), outside("b", 5, 5));
    assert_eq!(fault([bytes(9), bytes(6), sums(2)]), outside("c", 2, 2));
}
