//! Teams: their text form, what they compute, and the faults of wrong ones.

use crate::dtype::DType;
use crate::kernel::Kernel;
use crate::kernel::interp::{Buffer, Fault, run};
use crate::kernel::text::{canonical, parse, print};
use crate::kernel::verify::verify;

/// Every form there is.
const EXAMPLE: &str = "\
kernel @team(%x: f16 read align 16, %y: f32 write noalias align 16) threads(64) scratch(%s: f16[512] shared, %p: f32[4]) {
  %0 = thread : i64
  %1 = const 8 : i64
  %2 = mul %0, %1 : i64
  copy_async %s[%2], %x[%2 + 8], 8 count %1
  copy_async %s[%2 + 0], %x[%2], 8
  copy_commit
  copy_wait 0
  barrier
  %3 = load_matrix %s[%2] : f16x8
  %4 = load_matrix_transposed %s[%2 + 8] : f16x4
  %5 = const 0.0 : f32x4
  %6 = mma %3, %4, %5 : f32x4
  %7 = extract %6[0] : f32
  %8 = shuffle_xor %7[1] : f32
  %9 = shuffle_down %8[16] : f32
  %10 = shuffle_index %9[0] : f32
  store %y[%0], %10 : f32
}
";

fn team(params: &str, threads: u32, scratch: &str, body: &str) -> Kernel {
    let scratch = if scratch.is_empty() { String::new() } else { format!(" scratch({scratch})") };
    let text = format!("kernel @t({params}) threads({threads}){scratch} {{ %t = thread : i64 %zero = const 0 : i64 {body} }}");
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn f32s(x: impl IntoIterator<Item = f32>) -> Buffer {
    Buffer { dtype: DType::F32, bytes: x.into_iter().flat_map(f32::to_le_bytes).collect() }
}

fn to_f32s(b: &Buffer) -> Vec<f32> {
    b.bytes.as_chunks().0.iter().map(|&c| f32::from_le_bytes(c)).collect()
}

/// Runs one tile that reads `x` and writes as many elements.
fn run_xy(threads: u32, scratch: &str, body: &str, x: Vec<f32>) -> Result<Vec<f32>, Fault> {
    let mut buffers = [f32s(x.clone()), f32s(vec![0.0; x.len()])];
    run(&team("%x: f32 read, %y: f32 write", threads, scratch, body), &mut buffers, &[], 0..1)?;
    Ok(to_f32s(&buffers[1]))
}

fn count(n: u32) -> Vec<f32> { (0..n).map(|i| i as f32).collect() }

#[test]
fn text_reads_back() {
    let kernel = parse(EXAMPLE).unwrap();
    assert_eq!(verify(&kernel), Ok(()));
    assert_eq!(parse(&print(&kernel)).unwrap(), canonical(&kernel));
    assert_eq!(print(&kernel), EXAMPLE.replace("%2 + 0", "%2"));
}

#[test]
fn shuffles_read_other_lanes() {
    let with = |shuffle: &str| {
        let body = format!("%v = load %x[%t] : f32 %w = {shuffle} : f32 store %y[%t], %w : f32");
        run_xy(64, "", &body, count(64)).unwrap()
    };
    assert_eq!(with("shuffle_xor %v[5]")[33], (32 + (1 ^ 5)) as f32);
    let down = with("shuffle_down %v[30]");
    assert_eq!((down[1], down[2], down[34]), (31.0, 2.0, 34.0), "a lane without another keeps its own");
    assert_eq!(with("shuffle_index %v[7]")[40], 39.0);
}

#[test]
fn shared_scratch_is_the_tile_s() {
    let turn = "%v = load %x[%t] : f32 store %s[%t], %v : f32 barrier
        %n = const 31 : i64 %i = sub %n, %t : i64 %w = load %s[%i] : f32 store %y[%t], %w : f32";
    let turned: Vec<f32> = count(32).into_iter().rev().collect();
    assert_eq!(run_xy(32, "%s: f32[32] shared", turn, count(32)).unwrap(), turned);
    // Private scratch has only what the thread itself wrote.
    let fault = run_xy(32, "%s: f32[32]", turn, count(32)).unwrap_err();
    assert!(matches!(fault, Fault::Uninitialized { .. }), "{fault}");
}

#[test]
fn a_barrier_needs_every_thread_and_a_shuffle_its_warp() {
    let some = |body: &str| format!("%n = const 40 : i64 %c = lt %t, %n : bool if %c {{ {body} }}");
    let fault = run_xy(64, "", &some("barrier"), count(64)).unwrap_err();
    assert_eq!(fault.to_string(), "tile 0: 40 of 64 threads come to `barrier`");
    let fault = run_xy(64, "", &some("%v = load %x[%t] : f32 %w = shuffle_xor %v[1] : f32"), count(64)).unwrap_err();
    assert!(matches!(fault, Fault::Divergent { active: 40, .. }), "{fault}");
    // A whole warp may go on alone.
    let whole = "%n = const 32 : i64 %c = lt %t, %n : bool
        if %c { %v = load %x[%t] : f32 %w = shuffle_xor %v[1] : f32 store %y[%t], %w : f32 }";
    assert_eq!(run_xy(64, "", whole, count(64)).unwrap()[..3], [1.0, 0.0, 3.0]);
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let copy = |wait: &str| {
        format!(
            "%c = const 3 : i64 copy_async %s[%t], %x[%t], 1 copy_commit %four = const 32 : i64 %u = add %t, %four : i64
             copy_async %s[%u], %x[%t], 1 count %zero copy_commit {wait} barrier
             %a = load %s[%t] : f32 store %y[%t], %a : f32 %b = load %s[%u] : f32 store %y[%u], %b : f32"
        )
    };
    let shared = "%s: f32[64] shared";
    let all = run_xy(32, shared, &copy("copy_wait 0"), count(64)).unwrap();
    assert_eq!(all[..32], count(32)[..]);
    assert_eq!(all[32..], [0.0; 32], "beyond the count is zero");
    // The older group has arrived, the younger one not.
    let fault = run_xy(32, shared, &copy("copy_wait 1"), count(64)).unwrap_err();
    assert!(matches!(fault, Fault::Uninitialized { index: 32, .. }), "{fault}");
    let fault = run_xy(32, shared, &copy(""), count(64)).unwrap_err();
    assert!(matches!(fault, Fault::Uninitialized { index: 0, .. }), "{fault}");
}

#[test]
fn k18_broken() {
    let broken = |threads: u32, scratch: &str, body: &str| {
        let kernel = team("%x: f32 read, %h: f16 read, %y: f32 write", threads, scratch, body);
        let rules: Vec<_> = verify(&kernel).expect_err("it is malformed").iter().map(|e| e.rule).collect();
        assert!(rules.iter().all(|&r| r == "K18"), "{rules:?}: {body}");
    };
    broken(48, "", "");
    broken(1, "", "barrier");
    broken(1, "%s: f32[4] shared", "");
    broken(32, "", "%v = load %x[%t] : f32x2 %w = shuffle_xor %v[1] : f32x2");
    broken(32, "", "%v = load %x[%t] : f32 %w = shuffle_xor %v[32] : f32");
    broken(32, "", "%a = load %h[%t] : f16x8 %c = load %x[%t] : f32x4 %w = mma %a, %a, %c : f32x4");
    broken(32, "%s: f16[512]", "%v = load_matrix %s[%t] : f16x2");
    broken(32, "%s: f16[512] shared", "%v = load_matrix %s[%t] : f16x6");
    broken(32, "%s: f32[64] shared", "copy_async %s[%t], %x[%t], 3");
    broken(32, "%s: f32[64]", "copy_async %s[%t], %x[%t], 1");
    broken(32, "%s: f32[64] shared", "copy_async %s[%t], %h[%t], 2");
}
