//! Throughput, printed; run with `--release -- --ignored --nocapture speed`.

use std::time::Instant;

use crate::support::{Arg, REGS, Shape, kernel, run_clean};
use xlac_ptx_sim::Options;

fn measure(name: &str, text: &str, shape: Shape, args: &mut [Arg], options: &Options) {
    let (start, busy) = (Instant::now(), processor_seconds());
    let stats = run_clean(text, shape, args, options);
    let elapsed = start.elapsed().as_secs_f64();
    // Others may use the machine: what counts is the time this thread ran, if it did the work.
    let seconds =
        if options.threads > 1 { elapsed } else { busy.zip(processor_seconds()).map_or(elapsed, |(a, b)| b - a) };
    let rate = stats.instructions as f64 / seconds / 1e6;
    println!("{name:32} {rate:8.0} M thread instructions/s ({} in {seconds:.3} s)", stats.instructions);
}

/// How long this thread has run, where the system says so.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
}

/// A loop around `body`.
fn looped(body: &str, rounds: u32) -> String {
    kernel(
        1,
        &format!(
            "{REGS}
  .shared .align 16 .b8 tile[8192];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, 0;
  mov.u32 %r3, tile;
  shl.b32 %r4, %r1, 4;
  add.u32 %r5, %r3, %r4;
  mad.wide.u32 %rd1, %r4, 1, %p0;
  mov.f32 %f1, 0f3F800000;
  mov.f32 %f2, 0f3F000000;
  mov.f32 %f3, 0f3F000000;
  mov.f32 %f4, 0f3F000000;
  mov.b32 %r10, 0;
  mov.b32 %r11, 0;
  mov.b32 %r12, 0;
  mov.b32 %r13, 0;
  st.shared.v4.f32 [%r5], {{%f1, %f2, %f3, %f4}};
  bar.sync 0;
LOOP:
{body}
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %q1, %r2, {rounds};
  @%q1 bra LOOP;
  st.global.v4.f32 [%rd1], {{%f1, %f2, %f3, %f4}};
  ret;"
        ),
    )
}

#[test]
#[ignore = "prints throughput"]
fn speed() {
    let fma = "fma.rn.f32 %f1, %f1, %f2, %f3;\n".repeat(16);
    let integer = "mad.lo.u32 %r10, %r10, %r1, %r2;\nadd.u32 %r11, %r10, %r11;\nand.b32 %r12, %r11, %r10;\nshl.b32 %r13, %r12, 3;\n".repeat(4);
    let wide = "mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd2, %rd1;\nshl.b64 %rd4, %rd3, 2;\n".repeat(4);
    let select = "setp.lt.f32 %q2, %f1, %f2;\nselp.f32 %f3, %f1, %f2, %q2;\nmax.f32 %f4, %f3, %f1;\n".repeat(4);
    let shared =
        "ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r5];\nst.shared.v4.f32 [%r5], {%f1, %f2, %f3, %f4};\n".repeat(4);
    let global =
        "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1];\nst.global.v4.f32 [%rd1], {%f1, %f2, %f3, %f4};\n".repeat(4);
    let scalar = "ld.global.f32 %f1, [%rd1];\nst.global.f32 [%rd1], %f1;\n".repeat(4);
    let half =
        "ld.global.b16 %h1, [%rd1];\ncvt.f32.f16 %f1, %h1;\ncvt.rn.f16.f32 %h2, %f1;\nst.global.b16 [%rd1], %h2;\n"
            .repeat(4);
    let slow = "ex2.approx.f32 %f1, %f2;\nrcp.rn.f32 %f3, %f2;\n".repeat(4);
    let mma = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r10, %r11, %r12, %r13}, {%r10, %r11}, {%f1, %f2, %f3, %f4};\n".repeat(4);
    let ldmatrix = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r5];\n".repeat(4);
    let shuffle = "shfl.sync.bfly.b32 %f2, %f1, 16, 31, 0xffffffff;\nadd.f32 %f1, %f1, %f2;\n".repeat(4);
    let diverge = "and.b32 %r20, %r1, 1;\nsetp.eq.u32 %q3, %r20, 0;\n@%q3 bra SKIP;\nadd.f32 %f1, %f1, %f2;\nSKIP:\n";
    let cases = [
        ("fma f32", &*fma, 20_000),
        ("integer", &integer, 20_000),
        ("64-bit integer", &wide, 20_000),
        ("compare, select, max", &select, 20_000),
        ("shared v4", &shared, 10_000),
        ("global v4", &global, 10_000),
        ("global scalar", &scalar, 10_000),
        ("global f16 and conversions", &half, 5_000),
        ("shuffle and add", &shuffle, 10_000),
        ("lane-wise (ex2, rcp.rn)", &slow, 3_000),
        ("mma m16n8k16", &mma, 5_000),
        ("ldmatrix x4", &ldmatrix, 5_000),
        ("divergent branch", diverge, 20_000),
    ];
    let mut out = vec![0; 1 << 16];
    for (name, body, rounds) in cases {
        let options = Options::default();
        measure(name, &looped(body, rounds), Shape(1, 256, 0), &mut [Arg::Bytes(&mut out)], &options);
    }
    let watched = Options { races: true, seed: Some(1), ..Options::default() };
    measure("shared v4, races", &looped(&shared, 500), Shape(1, 256, 0), &mut [Arg::Bytes(&mut out)], &watched);
    let options = Options { threads: 2, ..Options::default() };
    // Blocks write the same bytes here, which only the race detector would mind.
    measure(
        "fma f32, 8 blocks, 2 threads",
        &looped(&fma, 5_000),
        Shape(8, 256, 0),
        &mut [Arg::Bytes(&mut out)],
        &options,
    );
}
