//! Tensor-core kernels: `ldmatrix`, `cp.async` and `mma` against plain loops, for every element type.

use crate::support::{Arg, Numbers, REGS, Shape, all_options, kernel_with, run_clean, to_floats, to_words};

/// 16 x 8 += 16 x K times K x 8 by one warp: A row-major, B column-major, both copied to shared memory by rows of
/// 16 bytes and read by `ldmatrix`. `step` bytes of each row go into one `mma`.
pub fn warp_matmul(instruction: &str, accumulate: &str, depth_bytes: u32, step: u32) -> String {
    let rows = if step == 32 { "x4" } else { "x2" };
    let (a_regs, b_load, b_regs) = match step {
        32 => ("{%r40, %r41, %r42, %r43}", "x2", "{%r44, %r45}"),
        _ => ("{%r40, %r41}", "x1", "{%r44}"),
    };
    let pieces = depth_bytes / 16;
    kernel_with(
        ".extern .shared .align 16 .b8 buffer[];",
        3,
        &format!(
            "{REGS}
  .reg .{accumulate} %c<4>;
  mov.u32 %r1, %laneid;
  mov.u32 %r2, buffer;
  mov.u32 %r3, %r1;
COPY:
  shl.b32 %r4, %r3, 4;
  cvt.u64.u32 %rd1, %r4;
  add.s64 %rd2, %p0, %rd1;
  add.u32 %r5, %r2, %r4;
  cp.async.cg.shared.global [%r5], [%rd2], 16;
  add.u32 %r3, %r3, 32;
  setp.lt.u32 %q1, %r3, {a_pieces};
  @%q1 bra COPY;
  mov.u32 %r3, %r1;
COPYB:
  setp.lt.u32 %q1, %r3, {b_pieces};
  shl.b32 %r4, %r3, 4;
  cvt.u64.u32 %rd1, %r4;
  add.s64 %rd2, %p1, %rd1;
  add.u32 %r5, %r2, %r4;
  @%q1 cp.async.ca.shared.global [%r5+{b_start}], [%rd2], 16;
  add.u32 %r3, %r3, 32;
  setp.lt.u32 %q1, %r3, {b_pieces};
  @%q1 bra COPYB;
  cp.async.commit_group;
  cp.async.wait_all;
  bar.warp.sync 0xffffffff;
  // Rows of the A matrices: 0-7, 8-15, then the same rows 16 bytes on.
  and.b32 %r6, %r1, 15;
  mul.lo.u32 %r7, %r6, {depth_bytes};
  shr.u32 %r8, %r1, 4;
  shl.b32 %r8, %r8, 4;
  add.u32 %r9, %r2, %r7;
  add.u32 %r9, %r9, %r8;
  and.b32 %r10, %r1, 7;
  mul.lo.u32 %r11, %r10, {depth_bytes};
  shr.u32 %r12, %r1, 3;
  and.b32 %r12, %r12, 1;
  shl.b32 %r12, %r12, 4;
  add.u32 %r13, %r2, %r11;
  add.u32 %r13, %r13, %r12;
  mov.b32 %c0, 0;
  mov.b32 %c1, 0;
  mov.b32 %c2, 0;
  mov.b32 %c3, 0;
  mov.u32 %r20, 0;
LOOP:
  add.u32 %r21, %r9, %r20;
  add.u32 %r22, %r13, %r20;
  ldmatrix.sync.aligned.m8n8.{rows}.shared.b16 {a_regs}, [%r21];
  ldmatrix.sync.aligned.m8n8.{b_load}.shared.b16 {b_regs}, [%r22+{b_start}];
  {instruction} {{%c0, %c1, %c2, %c3}}, {a_regs}, {b_regs}, {{%c0, %c1, %c2, %c3}};
  add.u32 %r20, %r20, {step};
  setp.lt.u32 %q2, %r20, {depth_bytes};
  @%q2 bra LOOP;
  shr.u32 %r30, %r1, 2;
  and.b32 %r31, %r1, 3;
  shl.b32 %r32, %r30, 3;
  shl.b32 %r33, %r31, 1;
  add.u32 %r34, %r32, %r33;
  mad.wide.u32 %rd5, %r34, 4, %p2;
  st.global.v2.{accumulate} [%rd5], {{%c0, %c1}};
  st.global.v2.{accumulate} [%rd5+256], {{%c2, %c3}};
  ret;",
            a_pieces = 16 * pieces,
            b_pieces = 8 * pieces,
            b_start = 16 * depth_bytes,
        ),
    )
}

/// An element type as a test sees it: how a small number is stored, and its bytes.
type Encode = fn(f32) -> Vec<u8>;

fn f16(x: f32) -> Vec<u8> {
    // Small integers: exact.
    let bits = x.to_bits();
    let half = if x == 0.0 { 0 } else { (((bits >> 13) & 0x3_ffff) - (112 << 10)) & 0x7fff | (bits >> 16) & 0x8000 };
    (half as u16).to_le_bytes().to_vec()
}

fn bf16(x: f32) -> Vec<u8> {
    ((x.to_bits() >> 16) as u16).to_le_bytes().to_vec()
}

fn tf32(x: f32) -> Vec<u8> {
    // The low bits must not matter.
    (x.to_bits() | 0x1abc).to_le_bytes().to_vec()
}

fn s8(x: f32) -> Vec<u8> {
    vec![x as i8 as u8]
}

fn u8s(x: f32) -> Vec<u8> {
    vec![x.abs() as u8]
}

fn product(a: &[f32], b: &[f32], depth: usize) -> Vec<f32> {
    let element = |i: usize, j: usize| (0..depth).map(|k| a[i * depth + k] * b[j * depth + k]).sum();
    (0..128).map(|at| element(at / 8, at % 8)).collect()
}

fn encode(values: &[f32], f: Encode) -> Vec<u8> {
    values.iter().flat_map(|v| f(*v)).collect()
}

fn case(instruction: &str, (a_type, b_type): (Encode, Encode), step: u32) {
    let integer = instruction.contains("s32");
    let depth_bytes = 128;
    let depth = depth_bytes as usize / a_type(1.0).len();
    let mut numbers = Numbers(u64::from(step) + instruction.len() as u64);
    let unsigned = |f: Encode, x: f32| if f(-1.0) == vec![1] { x.abs() } else { x };
    let a: Vec<f32> = (0..16 * depth).map(|_| unsigned(a_type, numbers.small())).collect();
    let b: Vec<f32> = (0..8 * depth).map(|_| unsigned(b_type, numbers.small())).collect();
    let text = warp_matmul(instruction, if integer { "s32" } else { "f32" }, depth_bytes, step);
    for options in all_options().iter().step_by(4) {
        let mut out = vec![0; 512];
        let args =
            &mut [Arg::Bytes(&mut encode(&a, a_type)), Arg::Bytes(&mut encode(&b, b_type)), Arg::Bytes(&mut out)];
        let stats = run_clean(&text, Shape(1, 32, 24 * depth_bytes), args, options);
        assert_eq!(stats.mma, u64::from(depth_bytes / step));
        let found: Vec<f32> =
            if integer { to_words(&out).iter().map(|w| *w as i32 as f32).collect() } else { to_floats(&out) };
        assert_eq!(found, product(&a, &b, depth), "{instruction}");
    }
}

#[test]
fn half_products() {
    case("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", (f16, f16), 32);
    case("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", (f16, f16), 16);
    case("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", (bf16, bf16), 32);
    case("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", (bf16, bf16), 16);
}

#[test]
fn tensor_float_products() {
    case("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", (tf32_exact, tf32_exact), 32);
    case("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", (tf32, tf32), 16);
}

fn tf32_exact(x: f32) -> Vec<u8> {
    x.to_le_bytes().to_vec()
}

#[test]
fn byte_products() {
    case("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", (s8, s8), 32);
    case("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32", (u8s, s8), 32);
    case("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.u8.s32", (s8, u8s), 32);
    case("mma.sync.aligned.m16n8k16.row.col.s32.u8.u8.s32", (u8s, u8s), 16);
}

/// f16 accumulators, a transposed B by `ldmatrix.trans`, and rounding of the sum.
#[test]
fn half_accumulators_and_transposed_loads() {
    let text = kernel_with("", 2, &format!("{REGS}
  .shared .align 16 .b8 tile[256];
  mov.u32 %r1, %laneid;
  mov.u32 %r2, tile;
  shl.b32 %r3, %r1, 3;
  add.u32 %r4, %r2, %r3;
  mad.wide.u32 %rd1, %r1, 8, %p0;
  ld.global.v2.b32 {{%r5, %r6}}, [%rd1];
  st.shared.v2.b32 [%r4], {{%r5, %r6}};
  bar.warp.sync -1;
  and.b32 %r7, %r1, 15;
  shl.b32 %r7, %r7, 4;
  add.u32 %r8, %r2, %r7;
  ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {{%r10, %r11}}, [%r8];
  // A is the identity in its first eight columns: the product is the upper half of B.
  shr.u32 %r12, %r1, 2;
  and.b32 %r13, %r1, 3;
  shl.b32 %r13, %r13, 1;
  setp.eq.u32 %q1, %r12, %r13;
  selp.b32 %r14, 0x3c00, 0, %q1;
  add.u32 %r15, %r13, 1;
  setp.eq.u32 %q2, %r12, %r15;
  selp.b32 %r16, 0x3c000000, %r14, %q2;
  mov.b32 %r17, 0;
  mov.b32 %r18, 0x3c003c00;
  mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {{%r20, %r21}}, {{%r16, %r17, %r17, %r17}}, {{%r10, %r11}}, {{%r18, %r17}};
  mad.wide.u32 %rd2, %r1, 8, %p1;
  st.global.v2.b32 [%rd2], {{%r20, %r21}};
  ret;"));
    let value = |row: usize, column: usize| (row * 8 + column) as f32;
    let b: Vec<u8> = (0..128).flat_map(|i| f16(value(i / 8, i % 8))).collect();
    for options in all_options() {
        let mut out = vec![0; 256];
        run_clean(&text, Shape(1, 32, 0), &mut [Arg::Bytes(&mut b.clone()), Arg::Bytes(&mut out)], &options);
        for lane in 0..32 {
            let (row, column) = (lane / 4, lane % 4 * 2);
            let expected: Vec<u8> =
                [f16(value(row, column) + 1.0), f16(value(row, column + 1) + 1.0), vec![0; 4]].concat();
            assert_eq!(out[8 * lane..8 * lane + 8], expected, "lane {lane}");
        }
    }
}
