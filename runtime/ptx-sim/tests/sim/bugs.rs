//! Planted bugs: each checker finds its kind within 20 seeds; the correct kernels are clean (`kernels.rs`).

use xlac_ptx_sim::{Fault, FaultKind, Options, Stats};

use crate::kernels::{double_buffer, producer_consumer, reduction, transpose};
use crate::matrix::warp_matmul;
use crate::support::{Arg, REGS, Shape, finds, kernel, run};

const MMA: &str = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";

/// `text` without the `n`th line that starts with `line`.
fn without(text: &str, line: &str, n: usize) -> String {
    replaced(text, line, n, "")
}

/// `text` with another line for the `n`th one that starts with `line`.
fn replaced(text: &str, line: &str, n: usize, with: &str) -> String {
    let mut seen = 0;
    let mut change = |found: &str| {
        let hit = found.trim().starts_with(line);
        seen += usize::from(hit);
        if hit && seen == n + 1 { with.to_owned() } else { found.to_owned() }
    };
    let lines: Vec<String> = text.lines().map(&mut change).collect();
    assert!(seen > n, "`{line}` is not there");
    lines.join("\n")
}

fn run_reduction(text: &str, options: &Options) -> Result<Stats, Fault> {
    run(text, Shape(2, 128, 0), &mut [Arg::Bytes(&mut vec![1; 1024]), Arg::Bytes(&mut vec![0; 8])], options)
}

fn run_transpose(text: &str, options: &Options) -> Result<Stats, Fault> {
    run(text, Shape(4, 256, 0), &mut [Arg::Bytes(&mut vec![1; 16384]), Arg::Bytes(&mut vec![0; 16384])], options)
}

fn run_copy(text: &str, options: &Options) -> Result<Stats, Fault> {
    let args = &mut [Arg::Bytes(&mut vec![1; 16384]), Arg::Bytes(&mut vec![0; 16384]), Arg::Number(16384)];
    run(text, Shape(2, 64, 2048), args, options)
}

fn run_ring(text: &str, options: &Options) -> Result<Stats, Fault> {
    run(text, Shape(1, 64, 0), &mut [Arg::Bytes(&mut vec![1; 768]), Arg::Bytes(&mut vec![0; 768])], options)
}

fn run_matmul(text: &str, options: &Options) -> Result<Stats, Fault> {
    let args = &mut [Arg::Bytes(&mut vec![1; 2048]), Arg::Bytes(&mut vec![1; 1024]), Arg::Bytes(&mut vec![0; 512])];
    run(text, Shape(1, 32, 3072), args, options)
}

/// One warp runs `body` with a buffer of 1024 bytes in `%p0`.
fn run_body(body: &str, options: &Options) -> Result<Stats, Fault> {
    run(&kernel(1, &format!("{REGS}\n{body}\nret;")), Shape(1, 32, 0), &mut [Arg::Bytes(&mut vec![0; 1024])], options)
}

#[test]
fn missing_barriers() {
    assert!(finds(FaultKind::SharedRace, true, |o| run_reduction(&without(&reduction(), "bar.sync", 0), o)));
    assert!(finds(FaultKind::SharedRace, true, |o| run_transpose(&without(&transpose(), "bar.sync", 0), o)));
    for n in 0..2 {
        assert!(finds(FaultKind::SharedRace, true, |o| run_copy(&without(&double_buffer(), "bar.sync", n), o)), "{n}");
    }
    let text = warp_matmul(MMA, "f32", 128, 32);
    assert!(finds(FaultKind::SharedRace, true, |o| run_matmul(&without(&text, "bar.warp.sync", 0), o)));
}

#[test]
fn missing_waits_for_copies() {
    // Also without race detection: the destination counts as poisoned.
    for races in [false, true] {
        let text = without(&double_buffer(), "cp.async.wait_group", 0);
        assert!(finds(FaultKind::SharedRace, races, |o| run_copy(&text, o)), "races: {races}");
        let text = replaced(&double_buffer(), "cp.async.wait_group", 0, "cp.async.wait_group 2;");
        assert!(finds(FaultKind::SharedRace, races, |o| run_copy(&text, o)), "races: {races}");
        let text = without(&double_buffer(), "cp.async.commit_group", 0);
        assert!(finds(FaultKind::SharedRace, races, |o| run_copy(&text, o)), "races: {races}");
        let text = without(&warp_matmul(MMA, "f32", 128, 32), "cp.async.wait_all", 0);
        assert!(finds(FaultKind::SharedRace, races, |o| run_matmul(&text, o)), "races: {races}");
    }
    // The wait after the barrier: the thread itself is fine, the others are not.
    let text = replaced(&double_buffer(), "cp.async.wait_group", 0, "bar.sync 0;\n  cp.async.wait_group 1;");
    let text = without(&text, "bar.sync", 1);
    assert!(finds(FaultKind::SharedRace, true, |o| run_copy(&text, o)));
}

#[test]
fn wrong_indices() {
    let past_the_end = replaced(&transpose(), "mad.lo.u32 %r13, %r9, 33", 0, "mad.lo.u32 %r13, %r9, 34, %r5;");
    assert!(finds(FaultKind::OutOfBounds, false, |o| run_transpose(&past_the_end, o)));
    let same_place = replaced(&transpose(), "mad.lo.u32 %r13, %r9, 33", 0, "mad.lo.u32 %r13, %r9, 31, %r5;");
    assert!(finds(FaultKind::SharedRace, true, |o| run_transpose(&same_place, o)));
    let overlapping_blocks = replaced(&transpose(), "shl.b32 %r8, %r4, 5", 0, "shl.b32 %r8, %r4, 4;");
    assert!(finds(FaultKind::GlobalRace, true, |o| run_transpose(&overlapping_blocks, o)));
    let outside = replaced(&reduction(), "mad.wide.u32 %rd1", 0, "mad.wide.u32 %rd1, %r4, 8, %p0;");
    let fault = run_reduction(&outside, &Options::default()).expect_err("it reads past its input");
    assert_eq!((fault.kind, fault.thread, fault.block), (FaultKind::OutOfBounds, [0, 0, 0], [1, 0, 0]));
    assert!(fault.text.starts_with("ld.global.f32"), "{fault}");
}

#[test]
fn misaligned_accesses() {
    for (body, what) in [
        ("ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%p0+4];", "a vector load"),
        ("mov.b32 %r1, 1; st.global.b32 [%p0+2], %r1;", "a store"),
        ("atom.global.add.u32 %r1, [%p0+1], 1;", "an atomic"),
        (".shared .align 16 .b8 s[1024]; mov.u32 %r1, s; cp.async.ca.shared.global [%r1], [%p0+4], 16;", "a copy"),
        (
            ".shared .align 16 .b8 s[1024]; mov.u32 %r1, s;
             ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1+8];",
            "a matrix load",
        ),
    ] {
        let fault = run_body(body, &Options::default()).expect_err(what);
        assert_eq!(fault.kind, FaultKind::Misaligned, "{what}: {fault}");
    }
}

#[test]
fn undefined_registers() {
    for body in [
        "add.u32 %r1, %r2, 1;",
        "mov.u32 %r2, %laneid; setp.lt.u32 %q1, %r2, 31; @%q1 mov.u32 %r3, 5; st.global.u32 [%p0], %r3;",
        "@%q1 add.u32 %r1, %r1, 1;",
        "ld.global.u32 %r1, [%rd1];",
        "shfl.sync.bfly.b32 %r1, %r2, 1, 31, -1;",
        "fma.rn.f64 %fd1, %fd2, %fd2, %fd2;",
        "mov.b64 %rd1, {%r1, %r2};",
        "mov.b32 %r1, 0; mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r1}, {%r1},
         {%f1, %f1, %f1, %f1};",
        ".shared .align 16 .b8 s[512]; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];",
    ] {
        let fault = run_body(body, &Options::default()).expect_err(body);
        assert_eq!(fault.kind, FaultKind::UndefinedRegister, "{body}: {fault}");
    }
    let fault = run_body(
        "mov.u32 %r2, %laneid; setp.lt.u32 %q1, %r2, 31; @%q1 mov.u32 %r3, 5; add.u32 %r4, %r3, 1;",
        &Options::default(),
    );
    assert_eq!(fault.expect_err("lane 31 has not defined it").thread, [31, 0, 0]);
    // Lanes that are switched off need nothing.
    run_body("setp.ne.u32 %q1, 1, 1; @%q1 add.u32 %r1, %r2, %r3;", &Options::default()).expect("nothing is read");
}

#[test]
fn undefined_memory() {
    use xlac_ptx_sim::{Launch, Memory, launch};
    let module = crate::support::parse(&kernel(1, &format!("{REGS}\nld.global.b32 %r1, [%p0+4];\nret;")));
    let mut memory = Memory::tracked(1 << 20);
    let at = memory.alloc(64).expect("there is room");
    let shape = Launch { grid: [1; 3], block: [32, 1, 1], dynamic_shared: 0, params: &at.to_le_bytes() };
    let options = Options { uninitialized_global: true, ..Options::default() };
    let kernel = module.kernel("k").expect("it is there");
    for (start, good) in [(0, false), (6, false), (4, true)] {
        memory.write(at + start, &[0; 4]).expect("it is allocated");
        memory.forget(at, 4).expect("it is allocated");
        let result = launch(kernel, &shape, &memory, &options);
        assert_eq!(result.map_err(|f| f.kind).err(), (!good).then_some(FaultKind::UndefinedMemory), "{start}");
    }
    memory.free(at).expect("it is allocated");
    let result = launch(kernel, &shape, &memory, &options);
    assert_eq!(result.expect_err("it is gone").kind, FaultKind::OutOfBounds);
    let shared = ".shared .align 4 .b32 s[32]; mov.u32 %r1, s; ld.shared.b32 %r2, [%r1];";
    let watched = Options { races: true, ..options };
    assert_eq!(run_body(shared, &watched).expect_err("nobody wrote it").kind, FaultKind::UndefinedMemory);
}

#[test]
fn lost_arrivals() {
    for n in 0..2 {
        let text = without(&producer_consumer(), "bar.arrive", n);
        assert!(finds(FaultKind::Deadlock, false, |o| run_ring(&text, o)), "arrival {n}");
    }
    let fault = run_ring(&without(&producer_consumer(), "bar.arrive", 0), &Options::default()).expect_err("it hangs");
    assert!(fault.message.contains("barrier") && fault.message.contains("bar.sync %r13, 64"), "{fault}");
    let text = replaced(&producer_consumer(), "bar.arrive %r10, 64", 0, "bar.arrive %r10, 96;");
    let result = run_ring(&text, &Options::default());
    assert!(matches!(result.expect_err("counts differ").kind, FaultKind::BarrierDivergence | FaultKind::Deadlock));
    // Consumers that do not wait for a full slot, or producers that do not wait for an empty one.
    for n in 0..2 {
        let text = replaced(&producer_consumer(), "bar.sync", n, "");
        assert!((0..20).any(|seed| {
            let options = Options { seed: Some(seed), races: true, ..Options::default() };
            run_ring(&text, &options)
                .is_err_and(|f| matches!(f.kind, FaultKind::SharedRace | FaultKind::BarrierDivergence))
        }));
    }
}

#[test]
fn divergent_barriers() {
    let body = "mov.u32 %r1, %tid.x; setp.lt.u32 %q1, %r1, 16; @%q1 bar.sync 0; @!%q1 bar.sync 0;";
    let kinds = |o: &Options| run_body(body, o).map_err(|f| f.kind).err();
    assert_eq!(kinds(&Options::default()), Some(FaultKind::BarrierDivergence));
    assert_eq!(kinds(&Options { seed: Some(3), ..Options::default() }), Some(FaultKind::BarrierDivergence));
    // Each thread for itself is what `barrier.sync` without `.aligned` is for.
    run_body(&body.replace("bar.sync", "barrier.sync"), &Options::default()).expect("counted thread by thread");
    // Threads that have exited are not waited for.
    run_body("mov.u32 %r1, %tid.x; setp.lt.u32 %q1, %r1, 16; @%q1 exit; bar.sync 0;", &Options::default())
        .expect("16 are left");
}

#[test]
fn member_masks() {
    for body in [
        // Lane 16 is read but not a member.
        "mov.u32 %r1, %laneid; setp.lt.u32 %q1, %r1, 16; @%q1 shfl.sync.bfly.b32 %r2, %r1, 16, 31, 0xffff;",
        // Lanes above 15 are not in their own mask.
        "mov.u32 %r1, %laneid; shfl.sync.idx.b32 %r2, %r1, 0, 31, 0xffff;",
        "mov.u32 %r1, %laneid; setp.lt.u32 %q1, %r1, 16; @%q1 exit; bar.warp.sync -1;",
        "mov.u32 %r1, %laneid; setp.eq.u32 %q1, %r1, 3; @%q1 exit; .shared .align 16 .b8 s[512]; mov.u32 %r1, s;
         ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];",
    ] {
        assert!(finds(FaultKind::MemberMask, false, |o| run_body(body, o)), "{body}");
        assert!(run_body(body, &Options::default()).is_err());
    }
    // Lanes that are named but never come.
    let body = "mov.u32 %r1, %laneid; setp.lt.u32 %q1, %r1, 16; @%q1 shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; @!%q1 bar.sync 1, 32;";
    let fault = run_body(body, &Options::default()).expect_err("nobody can go on");
    assert!(matches!(fault.kind, FaultKind::Deadlock | FaultKind::BarrierDivergence), "{fault}");
}

#[test]
fn races_within_a_warp() {
    // Without `bar.warp.sync` lanes are not ordered, however they happen to run.
    let body = |sync: &str| {
        format!(
            ".shared .align 4 .b32 s[32]; mov.u32 %r1, %laneid; mov.u32 %r2, s; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3;
             xor.b32 %r5, %r3, 4; add.u32 %r6, %r2, %r5; st.shared.u32 [%r4], %r1;\n{sync}\nld.shared.u32 %r7, [%r6];
             mad.wide.u32 %rd1, %r1, 4, %p0; st.global.u32 [%rd1], %r7;"
        )
    };
    assert!(finds(FaultKind::SharedRace, true, |o| run_body(&body(""), o)));
    assert!(!finds(FaultKind::SharedRace, true, |o| run_body(&body("bar.warp.sync -1;"), o)));
    // All lanes to one place: a race even in one instruction, unless atomic.
    assert!(finds(FaultKind::GlobalRace, true, |o| run_body("mov.u32 %r1, %laneid; st.global.u32 [%p0], %r1;", o)));
    assert!(!finds(FaultKind::GlobalRace, true, |o| run_body("red.global.add.u32 [%p0], 1;", o)));
    assert!(finds(FaultKind::GlobalRace, true, |o| run_body(
        "red.global.add.u32 [%p0], 1; ld.global.u32 %r1, [%p0];",
        o
    )));
}

#[test]
fn dependent_launches_wait() {
    let dependent = Options { dependent: true, ..Options::default() };
    let text = |wait: &str| {
        kernel(1, &format!("{REGS}\n{wait}\nld.global.u32 %r1, [%p0];\nret;"))
            .replace(".version 7.0", ".version 7.8")
            .replace("sm_80", "sm_90")
    };
    let mut bytes = vec![0; 4];
    let mut go = |wait: &str| run(&text(wait), Shape(1, 32, 0), &mut [Arg::Bytes(&mut bytes)], &dependent);
    assert_eq!(go("").expect_err("no wait").kind, FaultKind::GlobalRace);
    go("griddepcontrol.wait;").expect("it waits");
}

#[test]
fn endless_loops_end() {
    let options = Options { instruction_limit: 1_000_000, ..Options::default() };
    assert_eq!(run_body("L: bra L;", &options).expect_err("endless").kind, FaultKind::InstructionLimit);
    assert_eq!(run_body("trap;", &options).expect_err("trap").kind, FaultKind::BadInstruction);
}
