//! Exchanges between the lanes of a warp against the pseudo-code of the ISA.

use crate::support::{Arg, REGS, Shape, all_options, kernel, run_clean, to_words};

/// Runs one warp that leaves a value in `%r10` and one in `%r11`.
fn two_words(body: &str) -> Vec<[u32; 2]> {
    let text = kernel(
        1,
        &format!(
            "{REGS}
  mov.u32 %r1, %laneid;
  mul.lo.u32 %r2, %r1, %r1;
  mov.u32 %r11, 0;
{body}
  mad.wide.u32 %rd1, %r1, 8, %p0;
  st.global.v2.u32 [%rd1], {{%r10, %r11}};
  ret;"
        ),
    );
    let mut results = Vec::new();
    for options in all_options().iter().step_by(3) {
        let mut out = vec![0; 256];
        run_clean(&text, Shape(1, 32, 0), &mut [Arg::Bytes(&mut out)], options);
        results.push(to_words(&out).chunks(2).map(|c| [c[0], c[1]]).collect::<Vec<_>>());
    }
    assert!(results.windows(2).all(|w| w[0] == w[1]), "the schedule matters");
    results.remove(0)
}

#[test]
fn shuffles() {
    for (mode, b, c) in [
        ("up", 1, 0),
        ("up", 4, 0x1800),
        ("down", 3, 31),
        ("down", 2, 0x181f),
        ("bfly", 5, 31),
        ("bfly", 12, 0x181f),
        ("idx", 7, 31),
        ("idx", 3, 0x1c1f),
        ("idx", 9, 0x1003),
        ("down", 31, 31),
    ] {
        let body = format!("  shfl.sync.{mode}.b32 %r10|%q1, %r2, {b}, {c}, 0xffffffff;\n  selp.u32 %r11, 1, 0, %q1;");
        for (lane, found) in two_words(&body).into_iter().enumerate() {
            let (lane, clamp, segment) = (lane as i32, c & 31, c >> 8 & 31);
            let highest = (lane & segment) | (clamp & !segment);
            let lowest = lane & segment;
            let (from, valid) = match mode {
                "up" => (lane - b, lane - b >= highest),
                "down" => (lane + b, lane + b <= highest),
                "bfly" => (lane ^ b, lane ^ b <= highest),
                _ => (lowest | (b & !segment), lowest | (b & !segment) <= highest),
            };
            let valid = if mode == "idx" { from <= highest } else { valid };
            let from = if valid { from } else { lane };
            assert_eq!(found, [(from * from) as u32, u32::from(valid)], "{mode} {b} {c:#x} in lane {lane}");
        }
    }
}

#[test]
fn votes() {
    let found = two_words(
        "  setp.lt.u32 %q1, %r2, 100;\n  vote.sync.ballot.b32 %r10, %q1, -1;\n  vote.sync.ballot.b32 %r11, !%q1, -1;",
    );
    assert!(found.iter().all(|f| *f == [0x3ff, !0x3ff]));
    let select = |kind: &str, first: &str, second: &str| {
        let body = format!(
            "  setp.{first} %q1, %r1, 5;\n  setp.{second} %q2, %r1, 40;\n  vote.sync.{kind}.pred %q3, %q1, -1;
  vote.sync.{kind}.pred %q4, %q2, -1;\n  selp.u32 %r10, 1, 0, %q3;\n  selp.u32 %r11, 1, 0, %q4;"
        );
        two_words(&body)[7]
    };
    assert_eq!(select("all", "lt.u32", "lt.u32"), [0, 1]);
    assert_eq!(select("any", "eq.u32", "gt.u32"), [1, 0]);
    assert_eq!(select("uni", "lt.u32", "gt.u32"), [0, 1]);
}

#[test]
fn reductions_and_matches() {
    let cases: [(&str, u32); 7] = [
        ("add.u32", (0..32u32).map(|i| i * i).sum()),
        ("max.u32", 961),
        ("min.s32", 0),
        ("and.b32", 0),
        ("or.b32", (0..32).fold(0, |a, i| a | (i * i))),
        ("xor.b32", (0..32).fold(0, |a, i| a ^ (i * i))),
        ("max.s32", 961),
    ];
    for (kind, expected) in cases {
        let found = two_words(&format!("  redux.sync.{kind} %r10, %r2, -1;"));
        assert!(found.iter().all(|f| f[0] == expected), "{kind}");
    }
    let found = two_words(
        "  and.b32 %r3, %r1, 3;\n  match.any.sync.b32 %r10, %r3, -1;\n  match.all.sync.b32 %r11|%q1, %r3, -1;",
    );
    for (lane, f) in found.iter().enumerate() {
        assert_eq!(*f, [0x1111_1111 << (lane % 4), 0]);
    }
    let found = two_words("  mov.u32 %r3, 9;\n  match.all.sync.b32 %r10|%q1, %r3, -1;\n  selp.u32 %r11, 1, 0, %q1;");
    assert!(found.iter().all(|f| *f == [u32::MAX, 1]));
}

#[test]
fn parts_of_a_warp() {
    // The halves of a warp shuffle on different paths, each among itself.
    let found = two_words(
        "
  setp.lt.u32 %q1, %r1, 16;
  @%q1 bra LOW;
  shfl.sync.bfly.b32 %r10, %r1, 1, 31, 0xffff0000;
  activemask.b32 %r12;
  bra MEET;
LOW:
  shfl.sync.bfly.b32 %r10, %r1, 2, 31, 0x0000ffff;
MEET:
  bar.warp.sync 0xffffffff;
  selp.u32 %r3, 0x0000ffff, 0xffff0000, %q1;
  redux.sync.add.u32 %r11, %r1, %r3;",
    );
    for (lane, f) in found.iter().enumerate() {
        let lane = lane as u32;
        assert_eq!(*f, if lane < 16 { [lane ^ 2, 120] } else { [lane ^ 1, 376] });
    }
}

#[test]
fn barriers_that_reduce() {
    let text = kernel(
        1,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %q1, %r1, 40;
  bar.red.popc.u32 %r10, 0, %q1;
  bar.red.and.pred %q2, 0, %q1;
  bar.red.or.pred %q3, 0, !%q1;
  selp.u32 %r11, 1, 0, %q2;
  selp.u32 %r12, 2, 0, %q3;
  add.u32 %r11, %r11, %r12;
  mad.wide.u32 %rd1, %r1, 8, %p0;
  st.global.v2.u32 [%rd1], {{%r10, %r11}};
  ret;"
        ),
    );
    for options in all_options() {
        let mut out = vec![0; 8 * 96];
        let stats = run_clean(&text, Shape(1, 96, 0), &mut [Arg::Bytes(&mut out)], &options);
        assert!(to_words(&out).chunks(2).all(|c| c == [40, 2]));
        assert_eq!(stats.barriers, 3);
    }
}
