//! Hand-written kernels against plain loops, in order and under 20 adversarial schedules with every check.

use crate::support::{
    Arg, REGS, Shape, all_options, floats, kernel, kernel_with, run_clean, to_floats, to_words, words,
};

/// c = a + b: four elements per thread where they all exist, one by one in the tail.
pub fn vector_add() -> String {
    kernel(
        4,
        &format!(
            "{REGS}
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  shl.b32 %r5, %r4, 2;
  cvt.u32.u64 %r6, %p3;
  setp.ge.s32 %q1, %r5, %r6;
  @%q1 bra DONE;
  mul.wide.s32 %rd1, %r5, 4;
  add.s64 %rd2, %p0, %rd1;
  add.s64 %rd3, %p1, %rd1;
  add.s64 %rd4, %p2, %rd1;
  add.s32 %r7, %r5, 4;
  setp.gt.s32 %q2, %r7, %r6;
  @%q2 bra TAIL;
  ld.global.nc.v4.f32 {{%f1, %f2, %f3, %f4}}, [%rd2];
  ld.global.nc.v4.f32 {{%f5, %f6, %f7, %f8}}, [%rd3];
  add.f32 %f1, %f1, %f5;
  add.f32 %f2, %f2, %f6;
  add.f32 %f3, %f3, %f7;
  add.f32 %f4, %f4, %f8;
  st.global.v4.f32 [%rd4], {{%f1, %f2, %f3, %f4}};
  bra.uni DONE;
TAIL:
  ld.global.f32 %f1, [%rd2];
  ld.global.f32 %f2, [%rd3];
  add.f32 %f3, %f1, %f2;
  st.global.f32 [%rd4], %f3;
  add.s64 %rd2, %rd2, 4;
  add.s64 %rd3, %rd3, 4;
  add.s64 %rd4, %rd4, 4;
  add.s32 %r5, %r5, 1;
  setp.lt.s32 %q3, %r5, %r6;
  @%q3 bra TAIL;
DONE:
  ret;"
        ),
    )
}

#[test]
fn vectors_add_up() {
    for n in [1usize, 3, 4, 127, 128, 1000, 1023] {
        let (a, b): (Vec<f32>, Vec<f32>) = (0..n).map(|i| (i as f32, 0.5 * i as f32)).unzip();
        for options in all_options().iter().step_by(5) {
            let mut c = vec![0; 4 * n];
            let args = &mut [
                Arg::Bytes(&mut floats(&a)),
                Arg::Bytes(&mut floats(&b)),
                Arg::Bytes(&mut c),
                Arg::Number(n as u64),
            ];
            run_clean(&vector_add(), Shape(n.div_ceil(256) as u32, 64, 0), args, options);
            assert!(to_floats(&c).iter().enumerate().all(|(i, c)| *c == 1.5 * i as f32), "n = {n}");
        }
    }
}

/// One sum per block: shuffles within warps, shared memory between them.
pub fn reduction() -> String {
    kernel(
        2,
        &format!(
            "{REGS}
  .shared .align 4 .f32 parts[32];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mad.lo.u32 %r4, %r2, %r3, %r1;
  mad.wide.u32 %rd1, %r4, 4, %p0;
  ld.global.f32 %f1, [%rd1];
  shfl.sync.bfly.b32 %f2, %f1, 16, 31, 0xffffffff;
  add.f32 %f1, %f1, %f2;
  shfl.sync.bfly.b32 %f2, %f1, 8, 31, 0xffffffff;
  add.f32 %f1, %f1, %f2;
  shfl.sync.bfly.b32 %f2, %f1, 4, 31, 0xffffffff;
  add.f32 %f1, %f1, %f2;
  shfl.sync.bfly.b32 %f2, %f1, 2, 31, 0xffffffff;
  add.f32 %f1, %f1, %f2;
  shfl.sync.bfly.b32 %f2, %f1, 1, 31, 0xffffffff;
  add.f32 %f1, %f1, %f2;
  and.b32 %r5, %r1, 31;
  shr.u32 %r6, %r1, 5;
  mov.u32 %r7, parts;
  shl.b32 %r8, %r6, 2;
  add.u32 %r8, %r7, %r8;
  setp.eq.u32 %q1, %r5, 0;
  @%q1 st.shared.f32 [%r8], %f1;
  bar.sync 0;
  setp.ne.u32 %q2, %r1, 0;
  @%q2 bra END;
  shr.u32 %r9, %r3, 5;
  mov.f32 %f3, 0f00000000;
LOOP:
  ld.shared.f32 %f4, [%r7];
  add.f32 %f3, %f3, %f4;
  add.u32 %r7, %r7, 4;
  sub.u32 %r9, %r9, 1;
  setp.ne.u32 %q3, %r9, 0;
  @%q3 bra LOOP;
  mad.wide.u32 %rd2, %r2, 4, %p1;
  st.global.f32 [%rd2], %f3;
END:
  ret;"
        ),
    )
}

#[test]
fn blocks_reduce() {
    let data: Vec<f32> = (0..1024).map(|i| (i % 37) as f32).collect();
    for options in all_options() {
        let mut sums = vec![0; 16];
        let args = &mut [Arg::Bytes(&mut floats(&data)), Arg::Bytes(&mut sums)];
        let stats = run_clean(&reduction(), Shape(4, 256, 0), args, &options);
        assert_eq!(stats.barriers, 4);
        for (found, chunk) in to_floats(&sums).iter().zip(data.chunks(256)) {
            assert_eq!(*found, chunk.iter().sum::<f32>());
        }
    }
}

/// Transposes a 64 x 64 matrix by tiles of 32 x 32 in shared memory with one column of padding.
pub fn transpose() -> String {
    kernel(
        2,
        &format!(
            "{REGS}
  .shared .align 4 .b8 tile[4224];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  and.b32 %r3, %r2, 1;
  shr.u32 %r4, %r2, 1;
  and.b32 %r5, %r1, 31;
  shr.u32 %r6, %r1, 5;
  shl.b32 %r7, %r3, 5;
  shl.b32 %r8, %r4, 5;
  mov.u32 %r20, tile;
  mov.u32 %r9, %r6;
FILL:
  add.u32 %r10, %r8, %r9;
  shl.b32 %r11, %r10, 6;
  add.u32 %r11, %r11, %r7;
  add.u32 %r11, %r11, %r5;
  mad.wide.u32 %rd1, %r11, 4, %p0;
  ld.global.b32 %r12, [%rd1];
  mad.lo.u32 %r13, %r9, 33, %r5;
  shl.b32 %r13, %r13, 2;
  add.u32 %r13, %r13, %r20;
  st.shared.b32 [%r13], %r12;
  add.u32 %r9, %r9, 8;
  setp.lt.u32 %q1, %r9, 32;
  @%q1 bra FILL;
  bar.sync 0;
  mov.u32 %r9, %r6;
DRAIN:
  mad.lo.u32 %r13, %r5, 33, %r9;
  shl.b32 %r13, %r13, 2;
  add.u32 %r13, %r13, %r20;
  ld.shared.b32 %r12, [%r13];
  add.u32 %r10, %r7, %r9;
  shl.b32 %r11, %r10, 6;
  add.u32 %r11, %r11, %r8;
  add.u32 %r11, %r11, %r5;
  mad.wide.u32 %rd1, %r11, 4, %p1;
  st.global.b32 [%rd1], %r12;
  add.u32 %r9, %r9, 8;
  setp.lt.u32 %q1, %r9, 32;
  @%q1 bra DRAIN;
  ret;"
        ),
    )
}

#[test]
fn matrices_transpose() {
    let data: Vec<u32> = (0..4096).collect();
    for options in all_options() {
        let mut out = vec![0; 4 * 4096];
        run_clean(&transpose(), Shape(4, 256, 0), &mut [Arg::Bytes(&mut words(&data)), Arg::Bytes(&mut out)], &options);
        let out = to_words(&out);
        assert!((0..64).all(|i| (0..64).all(|j| out[64 * j + i] == data[64 * i + j])));
    }
}

/// Each block copies eight tiles of 1024 bytes through two buffers; the last tile may be short (zero fill).
pub fn double_buffer() -> String {
    kernel_with(
        ".extern .shared .align 16 .b8 buffer[];",
        3,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, buffer;
  shl.b32 %r4, %r1, 4;
  shl.b32 %r5, %r2, 13;
  add.u32 %r5, %r5, %r4;
  cvt.u32.u64 %r6, %p2;
  add.u32 %r10, %r3, %r4;
  xor.b32 %r30, %r4, 16;
  add.u32 %r30, %r3, %r30;
  cvt.u64.u32 %rd1, %r5;
  add.s64 %rd2, %p0, %rd1;
  add.s64 %rd3, %p1, %rd1;
  sub.s32 %r7, %r6, %r5;
  max.s32 %r7, %r7, 0;
  min.s32 %r8, %r7, 16;
  cp.async.cg.shared.global [%r10], [%rd2], 16, %r8;
  cp.async.commit_group;
  mov.u32 %r9, 0;
LOOP:
  add.u32 %r11, %r9, 1;
  setp.lt.u32 %q1, %r11, 8;
  shl.b32 %r12, %r11, 10;
  and.b32 %r13, %r12, 1024;
  add.u32 %r14, %r10, %r13;
  sub.s32 %r15, %r7, %r12;
  max.s32 %r15, %r15, 0;
  min.s32 %r15, %r15, 16;
  cvt.u64.u32 %rd4, %r12;
  add.s64 %rd5, %rd2, %rd4;
  @%q1 cp.async.cg.shared.global [%r14], [%rd5], 16, %r15;
  cp.async.commit_group;
  cp.async.wait_group 1;
  bar.sync 0;
  shl.b32 %r16, %r9, 10;
  and.b32 %r17, %r16, 1024;
  add.u32 %r18, %r30, %r17;
  ld.shared.v4.b32 {{%r20, %r21, %r22, %r23}}, [%r18];
  cvt.u64.u32 %rd6, %r16;
  add.s64 %rd7, %rd3, %rd6;
  st.global.v4.b32 [%rd7], {{%r20, %r21, %r22, %r23}};
  bar.sync 0;
  mov.u32 %r9, %r11;
  @%q1 bra LOOP;
  ret;"
        ),
    )
}

#[test]
fn copies_are_double_buffered() {
    let data: Vec<u32> = (0..4096).map(|i| i * 7 + 1).collect();
    for options in all_options() {
        // The second block ends 12 bytes early: they must arrive as zeros.
        let (mut source, mut out) = (words(&data[..4093]), vec![1; 4 * 4096]);
        let bytes = source.len() as u64;
        let args = &mut [Arg::Bytes(&mut source), Arg::Bytes(&mut out), Arg::Number(bytes)];
        run_clean(&double_buffer(), Shape(2, 64, 2048), args, &options);
        let out = to_words(&out);
        // Threads swap pieces of 16 bytes with their neighbour, so that the barrier matters.
        let source = |i: usize| if i < 4093 { data[i] } else { 0 };
        let wrong = (0..4096).find(|i| out[*i] != source(i ^ 4));
        assert_eq!(wrong, None);
    }
}

/// A histogram by shared atomics, merged into global memory, and a counter by a compare-and-swap loop.
#[test]
fn atomics_count() {
    let text = kernel(
        3,
        &format!(
            "{REGS}
  .shared .align 4 .b32 bins[16];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, bins;
  setp.lt.u32 %q1, %r1, 16;
  shl.b32 %r3, %r1, 2;
  add.u32 %r4, %r2, %r3;
  @%q1 st.shared.u32 [%r4], 0;
  bar.sync 0;
  mov.u32 %r5, %ctaid.x;
  mov.u32 %r6, %ntid.x;
  mad.lo.u32 %r7, %r5, %r6, %r1;
  mad.wide.u32 %rd1, %r7, 4, %p0;
  ld.global.u32 %r8, [%rd1];
  and.b32 %r8, %r8, 15;
  shl.b32 %r8, %r8, 2;
  add.u32 %r8, %r2, %r8;
  atom.shared.add.u32 %r9, [%r8], 1;
  bar.sync 0;
  @!%q1 bra COUNT;
  ld.shared.u32 %r10, [%r4];
  mul.wide.u32 %rd2, %r1, 4;
  add.s64 %rd3, %p1, %rd2;
  red.global.add.u32 [%rd3], %r10;
COUNT:
  ld.volatile.global.u32 %r11, [%p2];
AGAIN:
  add.u32 %r12, %r11, 1;
  atom.global.cas.b32 %r13, [%p2], %r11, %r12;
  setp.ne.u32 %q2, %r13, %r11;
  mov.u32 %r11, %r13;
  @%q2 bra AGAIN;
  add.s64 %rd4, %p2, 8;
  mov.b64 %rd5, 1;
  red.relaxed.gpu.global.add.u64 [%rd4], %rd5;
  atom.global.max.s32 %r14, [%p2+16], %r1;
  atom.global.inc.u32 %r15, [%p2+20], 6;
  mov.f32 %f1, 0f3E800000;
  red.global.add.f32 [%p2+24], %f1;
  atom.global.exch.b32 %r16, [%p2+28], 5;
  atom.global.or.b32 %r17, [%p2+32], %r1;
  ret;"
        ),
    );
    let data: Vec<u32> = (0..256).map(|i| i * i).collect();
    for options in all_options() {
        let (mut bins, mut counters) = (words(&[0; 16]), words(&[0; 9]));
        let args = &mut [Arg::Bytes(&mut words(&data)), Arg::Bytes(&mut bins), Arg::Bytes(&mut counters)];
        run_clean(&text, Shape(4, 64, 0), args, &options);
        let mut expected = [0u32; 16];
        data.iter().for_each(|v| expected[*v as usize & 15] += 1);
        assert_eq!(to_words(&bins), expected);
        let counters = to_words(&counters);
        assert_eq!(counters[..6], [256, 0, 256, 0, 63, 256 % 7]);
        assert_eq!((f32::from_bits(counters[6]), counters[7], counters[8]), (64.0, 5, 63));
    }
}

/// Steps of the Collatz sequence: a loop of different length in each lane, with a branch inside.
#[test]
fn lanes_diverge_and_meet() {
    let text = kernel(
        1,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  add.u32 %r2, %r1, 1;
  mov.u32 %r3, 0;
LOOP:
  setp.eq.u32 %q1, %r2, 1;
  @%q1 bra DONE;
  and.b32 %r4, %r2, 1;
  setp.eq.u32 %q2, %r4, 0;
  @%q2 bra EVEN;
  mad.lo.u32 %r2, %r2, 3, 1;
  bra NEXT;
EVEN:
  shr.u32 %r2, %r2, 1;
NEXT:
  add.u32 %r3, %r3, 1;
  bra LOOP;
DONE:
  vote.sync.ballot.b32 %r5, 1, 0xffffffff;
  mad.wide.u32 %rd1, %r1, 8, %p0;
  st.global.v2.u32 [%rd1], {{%r3, %r5}};
  ret;"
        ),
    );
    for options in all_options() {
        let mut out = vec![0; 8 * 96];
        run_clean(&text, Shape(1, 96, 0), &mut [Arg::Bytes(&mut out)], &options);
        for (i, pair) in to_words(&out).chunks(2).enumerate() {
            let steps = std::iter::successors(Some(i as u64 + 1), |n| {
                (*n != 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 })
            });
            assert_eq!(pair, [steps.count() as u32 - 1, u32::MAX], "{i}");
        }
    }
}

/// Producers fill a ring of two slots, consumers empty it: named barriers with `arrive` and counts.
pub fn producer_consumer() -> String {
    kernel(
        2,
        &format!(
            "{REGS}
  .shared .align 4 .b32 ring[64];
  mov.u32 %r1, %tid.x;
  and.b32 %r2, %r1, 31;
  mov.u32 %r3, ring;
  shl.b32 %r4, %r2, 2;
  add.u32 %r5, %r3, %r4;
  mov.u32 %r6, 0;
  setp.ge.u32 %q1, %r1, 32;
  @%q1 bra CONSUME;
PRODUCE:
  and.b32 %r7, %r6, 1;
  shl.b32 %r8, %r7, 7;
  add.u32 %r9, %r5, %r8;
  setp.lt.u32 %q2, %r6, 2;
  add.u32 %r10, %r7, 3;
  @%q2 bra FILL;
  bar.sync %r10, 64;
FILL:
  shl.b32 %r11, %r6, 5;
  add.u32 %r11, %r11, %r2;
  mad.wide.u32 %rd1, %r11, 4, %p0;
  ld.global.u32 %r12, [%rd1];
  st.shared.u32 [%r9], %r12;
  add.u32 %r13, %r7, 1;
  bar.arrive %r13, 64;
  add.u32 %r6, %r6, 1;
  setp.lt.u32 %q3, %r6, 6;
  @%q3 bra PRODUCE;
  ret;
CONSUME:
  and.b32 %r7, %r6, 1;
  shl.b32 %r8, %r7, 7;
  xor.b32 %r14, %r4, 4;
  add.u32 %r9, %r3, %r14;
  add.u32 %r9, %r9, %r8;
  add.u32 %r13, %r7, 1;
  bar.sync %r13, 64;
  ld.shared.u32 %r12, [%r9];
  shl.b32 %r11, %r6, 5;
  add.u32 %r11, %r11, %r2;
  mad.wide.u32 %rd1, %r11, 4, %p1;
  st.global.u32 [%rd1], %r12;
  add.u32 %r10, %r7, 3;
  setp.ge.u32 %q2, %r6, 4;
  @%q2 bra LAST;
  bar.arrive %r10, 64;
LAST:
  add.u32 %r6, %r6, 1;
  setp.lt.u32 %q3, %r6, 6;
  @%q3 bra CONSUME;
  ret;"
        ),
    )
}

#[test]
fn producers_feed_consumers() {
    let data: Vec<u32> = (100..292).collect();
    for options in all_options() {
        let mut out = vec![0; 4 * 192];
        run_clean(
            &producer_consumer(),
            Shape(1, 64, 0),
            &mut [Arg::Bytes(&mut words(&data)), Arg::Bytes(&mut out)],
            &options,
        );
        assert!(to_words(&out).iter().enumerate().all(|(i, v)| *v == data[i ^ 1]));
    }
}
