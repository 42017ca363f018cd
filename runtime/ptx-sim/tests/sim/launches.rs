//! Shapes of launches, parameters, special registers, state spaces and host access to memory.

use xlac_ptx_sim::{FaultKind, Launch, Memory, MemoryError, Options, launch};

use crate::support::{Arg, REGS, Shape, kernel, kernel_with, parse, run, run_clean, to_words};

#[test]
fn parameters_are_laid_out() {
    let module = parse(
        ".version 7.0\n.target sm_80\n.address_size 64
         .visible .entry k(.param .u8 a, .param .u32 b, .param .u64 c, .param .align 16 .b8 d[20], .param .f32 e,
             .param .u64 .ptr .global .align 16 f)
         .maxntid 128, 2, 1
         .minnctapersm 2
         { .reg .b32 %r<4>; .shared .align 16 .b8 s[100]; .shared .f32 t[3]; ld.param.u8 %r1, [a]; ret; }",
    );
    assert_eq!((module.version(), module.target()), ((7, 0), "sm_80"));
    assert_eq!(module.kernels().collect::<Vec<_>>(), ["k"]);
    let k = module.kernel("k").expect("it is there");
    let offsets: Vec<_> = k.params().iter().map(|p| (p.offset, p.size, p.align)).collect();
    assert_eq!(offsets, [(0, 1, 1), (4, 4, 4), (8, 8, 8), (16, 20, 16), (36, 4, 4), (40, 8, 8)]);
    assert_eq!((k.param_bytes(), k.max_threads(), k.shared_bytes(), k.registers()), (48, 256, 112, 1));
}

#[test]
fn impossible_launches() {
    let module = parse(&kernel_with("", 1, "ret;").replace("p0)", "p0) .reqntid 64"));
    let k = module.kernel("k").expect("it is there");
    let memory = Memory::new(0);
    let go = |grid, block, dynamic_shared, params: &[u8]| {
        let shape = Launch { grid, block, dynamic_shared, params };
        launch(k, &shape, &memory, &Options::default()).map_err(|f| f.kind)
    };
    assert!(go([1, 1, 1], [64, 1, 1], 0, &[0; 8]).is_ok());
    for (grid, block, shared, bytes) in [
        ([0, 1, 1], [64, 1, 1], 0, 8),
        ([1, 70000, 1], [64, 1, 1], 0, 8),
        ([1, 1, 1], [32, 1, 1], 0, 8),
        ([1, 1, 1], [64, 1, 1], 300_000, 8),
        ([1, 1, 1], [64, 1, 1], 0, 4),
    ] {
        assert_eq!(go(grid, block, shared, &vec![0; bytes]), Err(FaultKind::InvalidLaunch));
    }
}

#[test]
fn special_registers() {
    let module = parse(&kernel(
        1,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %tid.y;
  mov.u32 %r3, %tid.z;
  mov.u32 %r4, %ctaid.x;
  mov.u32 %r5, %ctaid.y;
  mov.u32 %r6, %ctaid.z;
  mov.u32 %r7, %ntid.x;
  mov.u32 %r8, %ntid.y;
  mov.u32 %r9, %nctaid.x;
  mov.u32 %r10, %nctaid.y;
  mov.u32 %r11, %laneid;
  mov.u32 %r12, %lanemask_lt;
  mad.lo.u32 %r13, %r6, %r10, %r5;
  mad.lo.u32 %r13, %r13, %r9, %r4;
  mad.lo.u32 %r14, %r3, %r8, %r2;
  mad.lo.u32 %r14, %r14, %r7, %r1;
  mad.lo.u32 %r15, %r13, 48, %r14;
  mad.wide.u32 %rd1, %r15, 8, %p0;
  st.global.v2.u32 [%rd1], {{%r11, %r12}};
  ret;"
        ),
    ));
    let mut memory = Memory::new(1 << 20);
    let blocks = 2 * 3 * 2;
    let bytes = 8 * 48 * blocks;
    let at = memory.alloc(bytes).expect("there is room");
    let shape = Launch { grid: [2, 3, 2], block: [4, 3, 4], dynamic_shared: 0, params: &at.to_le_bytes() };
    for threads in [1, 3] {
        memory.fill(at, 0xee, bytes).expect("it is allocated");
        let options = Options { threads, ..Options::default() };
        let stats = launch(module.kernel("k").expect("it is there"), &shape, &memory, &options).expect("it is clean");
        assert_eq!(stats.blocks, blocks as u64);
        let mut out = vec![0; bytes];
        memory.read(at, &mut out).expect("it is allocated");
        for (thread, pair) in to_words(&out).chunks(2).enumerate() {
            let lane = thread as u32 % 48 % 32;
            assert_eq!(pair, [lane, (1 << lane) - 1]);
        }
    }
}

#[test]
fn state_spaces() {
    let text = kernel_with(
        ".const .align 4 .b32 primes[6] = {2, 3, 5, 7, 11, 13};\n.const .f32 half = 0.5;",
        1,
        &format!(
            "{REGS}
  .local .align 8 .b8 stack[64];
  .shared .align 8 .b8 s[512];
  mov.u32 %r1, %tid.x;
  rem.u32 %r2, %r1, 6;
  mul.wide.u32 %rd1, %r2, 4;
  mov.u64 %rd2, primes;
  add.s64 %rd2, %rd2, %rd1;
  ld.const.u32 %r3, [%rd2];
  ld.const.f32 %f1, [half];
  cvt.rn.f32.u32 %f2, %r3;
  mul.f32 %f2, %f2, %f1;
  mov.u64 %rd3, stack;
  and.b32 %r4, %r1, 7;
  mul.wide.u32 %rd4, %r4, 8;
  add.s64 %rd3, %rd3, %rd4;
  st.local.f32 [%rd3], %f2;
  cvta.local.u64 %rd5, %rd3;
  st.u32 [%rd5+4], %r1;
  ld.local.v2.b32 {{%r5, %r6}}, [%rd3];
  mov.u64 %rd6, s;
  mul.wide.u32 %rd7, %r1, 8;
  add.s64 %rd6, %rd6, %rd7;
  cvta.shared.u64 %rd8, %rd6;
  st.v2.u32 [%rd8], {{%r5, %r6}};
  cvta.to.shared.u64 %rd9, %rd8;
  cvt.u32.u64 %r7, %rd9;
  ld.shared.u64 %rd10, [%r7];
  cvta.to.global.u64 %rd11, %p0;
  add.s64 %rd11, %rd11, %rd7;
  st.global.u64 [%rd11], %rd10;
  {{
    .reg .b32 %r<2>;
    .reg .s8 %inner;
    mov.u32 %r1, 5;
  }}
  ret;"
        )
        .replace(".reg .s8 %inner;", ".reg .s16 %inner;"),
    );
    let mut out = vec![0; 8 * 64];
    run_clean(&text, Shape(1, 64, 0), &mut [Arg::Bytes(&mut out)], &Options::default());
    for (i, pair) in to_words(&out).chunks(2).enumerate() {
        let prime = [2.0f32, 3.0, 5.0, 7.0, 11.0, 13.0][i % 6];
        assert_eq!(pair, [(prime / 2.0).to_bits(), i as u32]);
    }
}

#[test]
fn narrow_accesses() {
    let text = kernel(
        2,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  cvt.u64.u32 %rd1, %r1;
  add.s64 %rd2, %p0, %rd1;
  ld.global.s8 %r2, [%rd2];
  ld.global.u8 %h1, [%rd2];
  cvt.u32.u16 %r3, %h1;
  add.u32 %r4, %r2, %r3;
  mad.wide.u32 %rd3, %r1, 2, %p1;
  cvt.u16.u32 %h2, %r4;
  st.global.u16 [%rd3], %h2;
  add.s64 %rd4, %p1, %rd1;
  st.global.u8 [%rd4+128], %r3;
  ret;"
        ),
    );
    let input: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37)).collect();
    let mut out = vec![0; 192];
    run_clean(&text, Shape(1, 64, 0), &mut [Arg::Bytes(&mut input.clone()), Arg::Bytes(&mut out)], &Options::default());
    for (i, byte) in input.iter().enumerate() {
        let sum = (i16::from(*byte as i8) + i16::from(*byte)).to_le_bytes();
        assert_eq!((&out[2 * i..2 * i + 2], out[128 + i]), (&sum[..], *byte));
    }
}

#[test]
fn hosts_access_memory() {
    let mut memory = Memory::tracked(1000);
    let a = memory.alloc(333).expect("there is room");
    let b = memory.alloc(600).expect("there is room");
    assert_eq!((a % 256, b % 256, memory.used()), (0, 0, 933));
    assert_eq!(memory.alloc(100), None);
    let data: Vec<u8> = (0..=255).collect();
    for start in 0..9 {
        memory.write(a + start, &data[..77]).expect("it is allocated");
        let mut back = vec![0; 70];
        memory.read(a + start + 3, &mut back).expect("it is allocated");
        assert_eq!(back, data[3..73]);
    }
    memory.copy(a + 5, a + 8, 50).expect("ranges may overlap");
    let mut byte = [0];
    memory.read(a + 5, &mut byte).expect("it is allocated");
    assert_eq!(byte, [0]);
    assert_eq!(memory.read(a + 333, &mut byte), Err(MemoryError::OutOfBounds { address: a + 333, bytes: 1 }));
    assert!(memory.write(a + 300, &[0; 40]).is_err() && memory.fill(a - 1, 0, 1).is_err());
    assert_eq!(memory.free(a + 1), Err(MemoryError::NotAllocated(a + 1)));
    memory.free(a).expect("it is allocated");
    assert!(memory.free(a).is_err() && memory.read(a, &mut byte).is_err());
    assert_ne!(memory.alloc(10), Some(a), "addresses are not used again");
}

#[test]
fn jumps_through_tables() {
    let text = kernel(
        1,
        &format!(
            "{REGS}
  mov.u32 %r1, %tid.x;
  and.b32 %r2, %r1, 3;
  setp.gt.u32 %q1, %r2, 2;
  mov.u32 %r3, 9;
  @%q1 bra DONE;
TABLE: .branchtargets A, B, C;
  brx.idx %r2, TABLE;
A:
  mov.u32 %r3, 10;
  bra DONE;
B:
  mov.u32 %r3, 20;
  bra DONE;
C:
  mov.u32 %r3, 30;
DONE:
  mad.wide.u32 %rd1, %r1, 4, %p0;
  st.global.u32 [%rd1], %r3;
  ret;"
        ),
    );
    for seed in [None, Some(1), Some(2)] {
        let mut out = vec![0; 128];
        let options = Options { seed, ..Options::default() };
        run_clean(&text, Shape(1, 32, 0), &mut [Arg::Bytes(&mut out)], &options);
        assert!(to_words(&out).iter().enumerate().all(|(i, v)| *v == [10, 20, 30, 9][i % 4]));
    }
    let fault = run(
        &text.replace("%r2, 2;", "%r2, 7;"),
        Shape(1, 32, 0),
        &mut [Arg::Bytes(&mut vec![0; 128])],
        &Options::default(),
    );
    assert_eq!(fault.expect_err("index 3 of 3").kind, FaultKind::BadInstruction);
}
