//! Text that must be refused, with its line and the reason.

use xlac_ptx_sim::Module;

use crate::support::{REGS, kernel, parse};

fn refused(body: &str, reason: &str) {
    let error = Module::parse(&kernel(1, &format!("{REGS}\n{body}\nret;"))).err();
    let error = error.unwrap_or_else(|| panic!("accepted: {body}"));
    assert!(error.message.contains(reason), "{body}: {error}");
    assert!(body.contains(error.text.trim()) || body.contains(&error.text), "{body}: {error}");
}

#[test]
fn unknown_text() {
    refused("frobnicate.u32 %r1, %r2;", "unknown instruction");
    refused("add.q32 %r1, %r2, %r3;", "`.q32` is not known");
    refused("add.u32 %r1, %r2;", "3 operands expected, 2 found");
    refused("add.u32 %r1, %r2, %nothing;", "not declared");
    refused("add.u32 %r1, %r2, %r500;", "not declared");
    refused("bra NOWHERE;", "not defined");
    refused("wgmma.fence.sync.aligned;", "unknown instruction");
    refused("cp.async.bulk.commit_group;", "not supported");
    refused("add.u32 %r1, %r2, 3", "`;` expected");
    refused("ld.global.u32 %r1, [%p0;", "`]` expected");
    refused("mov.u32 %r1, #;", "unexpected character");
}

#[test]
fn wrong_operands() {
    refused("add.u32 %r1, %r2, %rd1;", "does not fit");
    refused("add.f32 %f1, %f2, %r1; mul.lo.u32 %r1, %f1, %r2;", "does not fit");
    refused("add.f32 %f1, %f2, 1;", "integer where a floating-point");
    refused("add.u32 %tid.x, %r1, %r2;", "not a register");
    refused("ld.global.u32 %r1, [%r2];", "is no address");
    refused("ld.param.u32 %r1, [p9];", "not declared");
    refused("ld.global.u32 %r1, [p0];", "not in this state space");
    refused("st.param.u32 [p0], %r1;", "cannot be written");
    refused("ld.global.v4.b64 {%rd1, %rd2, %rd3, %rd4}, [%p0];", "16 bytes at most");
    refused("ld.global.v2.b32 %r1, [%p0];", "vector of 2");
    refused("setp.lt.b32 %q1, %r1, %r2;", "not for");
    refused("cvt.f32.s32 %f1, %r1;", "wrong rounding");
    refused("cvt.rn.s32.f32 %r1, %f1;", "wrong rounding");
    refused("cvt.f16.f32 %h1, %f1;", "wrong rounding");
    refused("div.f32 %f1, %f2, %f3;", "rounding mode");
    refused("cp.async.cg.shared.global [%r1], [%p0], 8;", "16 only");
    refused(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32 {%f1,%f1,%f1,%f1},{%r1,%r1,%r1,%r1},{%r1,%r1},{%f1,%f1,%f1,%f1};",
        "not supported",
    );
    refused(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1,%f1,%f1,%f1},{%r1,%r1},{%r1,%r1},{%f1,%f1,%f1,%f1};",
        "4 registers expected",
    );
    refused(".reg .b32 %x; .reg .b32 %x;", "declared twice");
    refused("L: add.u32 %r1, %r1, 1; L: add.u32 %r1, %r1, 1;", "defined twice");
}

#[test]
fn lines_are_exact() {
    let text = ".version 7.0\n.target sm_80\n.address_size 64\n/* a\n comment */ .visible .entry k()\n{\n  ret;\n  nonsense;\n}\n";
    let error = Module::parse(text).expect_err("it is nonsense");
    assert_eq!((error.line, error.text.as_str()), (8, "nonsense;"));
    assert_eq!(error.to_string(), "line 8: unknown instruction: `nonsense;`");
    assert!(Module::parse("").is_err());
    assert!(Module::parse(".version 7.0\n.target sm_80\n.address_size 32\n").is_err());
}

#[test]
fn harmless_text() {
    parse(
        &kernel(
            1,
            &format!(
                "{REGS}
  .pragma \"nounroll\";
  // A comment; with .words and [marks].
  mov.u32 %r1, 0x1f;
  mov.u32 %r2, 017;
  mov.u32 %r3, 0b101;
  mov.u32 %r4, -1;
  mov.f32 %f1, 1.5;
  mov.f64 %fd1, -2.0e-3;
  mov.f64 %fd2, 0d3FF0000000000000;
  prefetch.global.L2 [%p0];
  membar.gl;
  fence.acq_rel.gpu;
  nanosleep.u32 20;
  ld.global.L1::no_allocate.L2::128B.v2.u32 {{%r5, %r6}}, [%p0];
  ld.relaxed.gpu.global.u32 %r7, [%p0];
  ld.global.nc.L1::evict_last.u32 %r8, [%p0];
  st.global.cs.u32 [%p0], %r1;
  {{ .reg .b32 %t; mov.u32 %t, 1; {{ .reg .b32 %t; mov.u32 %t, 2; }} }}
  bra.uni END;
END:
  ret;"
            )
            .replace("L1::no_allocate.L2::128B", "L1::no_allocate"),
        )
        .replace(".version 7.0", ".version 7.4"),
    );
}
