//! Forward progress and repeatability of schedules.

use xlac_ptx_sim::{FaultKind, Options};

use crate::support::{Arg, REGS, Shape, kernel, run, run_clean, to_words, words};

/// Blocks take turns in descending order by a flag in memory: the first one runs last.
fn descending_blocks() -> String {
    kernel(
        2,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %q1, %r1, 0;
  @%q1 bra DONE;
  mov.u32 %r2, %ctaid.x;
SPIN:
  ld.acquire.gpu.global.u32 %r3, [%p0];
  setp.ne.u32 %q2, %r3, %r2;
  @%q2 bra SPIN;
  mad.wide.u32 %rd1, %r2, 4, %p1;
  st.global.u32 [%rd1], %r2;
  sub.u32 %r4, %r2, 1;
  st.release.gpu.global.u32 [%p0], %r4;
DONE:
  ret;"
        ),
    )
}

#[test]
fn blocks_wait_for_each_other() {
    for seed in [None, Some(5), Some(6)] {
        let mut out = vec![0xff; 4 * 12];
        let options = Options { seed, instruction_limit: 500_000_000, ..Options::default() };
        let args = &mut [Arg::Bytes(&mut words(&[11])), Arg::Bytes(&mut out)];
        run_clean(&descending_blocks(), Shape(12, 32, 0), args, &options);
        assert!(to_words(&out).iter().enumerate().all(|(i, v)| *v == i as u32));
    }
}

/// Lane 0 waits for lane 5 of its own warp, which stands behind it in the code.
#[test]
fn lanes_wait_for_each_other() {
    let text = kernel(
        1,
        &format!(
            "{REGS}
  .shared .align 4 .b32 flag;
  mov.u32 %r1, %laneid;
  setp.eq.u32 %q3, %r1, 0;
  @%q3 st.shared.u32 [flag], 0;
  bar.warp.sync -1;
  @!%q3 bra OTHERS;
SPIN:
  ld.volatile.shared.u32 %r2, [flag];
  setp.eq.u32 %q1, %r2, 0;
  @%q1 bra SPIN;
  st.global.u32 [%p0], %r2;
  bra DONE;
OTHERS:
  setp.eq.u32 %q2, %r1, 5;
  mov.u32 %r3, 77;
  @%q2 st.volatile.shared.u32 [flag], %r3;
DONE:
  ret;"
        ),
    );
    for seed in [None, Some(1), Some(2), Some(3)] {
        let mut out = vec![0; 4];
        let options = Options { seed, races: true, instruction_limit: 100_000_000, ..Options::default() };
        run_clean(&text, Shape(1, 32, 0), &mut [Arg::Bytes(&mut out)], &options);
        assert_eq!(to_words(&out), [77]);
    }
}

#[test]
fn seeds_are_repeatable() {
    let text = crate::kernels::transpose().replace("bar.sync 0;", "");
    let go = |seed| {
        let options = Options { seed: Some(seed), races: true, ..Options::default() };
        let args = &mut [Arg::Bytes(&mut vec![0; 16384]), Arg::Bytes(&mut vec![0; 16384])];
        run(&text, Shape(4, 256, 0), args, &options).expect_err("it races")
    };
    assert_eq!(go(3), go(3));
    assert_eq!(go(3).kind, FaultKind::SharedRace);
    assert!((0..20).any(|seed| go(seed).thread != go(3).thread), "seeds differ");
}

#[test]
fn schedules_are_adversarial() {
    // The last one to write wins: over the seeds every warp does.
    let text = kernel(
        1,
        &format!(
            "{REGS}
  mov.u32 %r1, %warpid;
  mov.u32 %r2, %laneid;
  setp.eq.u32 %q1, %r2, 0;
  @%q1 st.global.u32 [%p0], %r1;
  ret;"
        ),
    );
    let mut winners = [false; 4];
    for seed in 0..40 {
        let mut out = vec![0; 4];
        run_clean(
            &text,
            Shape(1, 128, 0),
            &mut [Arg::Bytes(&mut out)],
            &Options { seed: Some(seed), ..Options::default() },
        );
        winners[to_words(&out)[0] as usize] = true;
    }
    assert_eq!(winners, [true; 4]);
}
