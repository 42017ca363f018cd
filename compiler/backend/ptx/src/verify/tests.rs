//! Every rule of the verifier has a text that breaks it.

use super::*;

fn entry(body: &str) -> String {
    format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(\n    .param .u64 buf0\n)\n.maxntid 128, 1, 1\n{{\n\
         .reg .pred %p<2>;\n.reg .b32 %r<4>;\n.reg .b64 %rd<2>;\n.reg .f32 %f<4>;\n{body}\n}}\n"
    )
}

fn rules(text: &str) -> Vec<&'static str> {
    verify(text).map_or_else(|errors| errors.iter().map(|e| e.rule).collect(), |_| Vec::new())
}

#[test]
fn good_text_is_summed_up() {
    let text = entry("ld.param.u64 %rd0, [buf0];\nld.global.f32 %f0, [%rd0+4];\nst.global.f32 [%rd0], %f0;\nret;");
    let summary = verify(&text).unwrap();
    assert_eq!(summary, Summary { kernels: vec!["k".into()], sm: 80, version: (7, 0) });
}

#[test]
fn bad_text_is_refused() {
    let check = |body: &str, rule: &str| assert_eq!(rules(&entry(body)), [rule], "{body}");
    check("frobnicate; ret;", "P2");
    check("mov.b32 %r0, %rd0; ret;", "P2");
    check("mov.b32 %r9, 0; ret;", "P4");
    check("bra nowhere;", "P4");
    check("mov.u32 %r0, nothing; ret;", "P4");
    check("ld.param.u64 %rd0, [buf1]; ret;", "P4");
    check("add.s32 %r0, %r1, 1; ret;", "P5");
    check("mov.b32 %r0, 1;", "P6");
    check("ld.param.u64 %rd0, [buf0]; ld.global.f32 %f0, [%rd0-4]; ret;", "P1");
    assert_eq!(rules("kernel"), ["P1"]);
    assert_eq!(rules(&entry("ret;").replace("7.0", "6.0")), ["P3"]);
    assert_eq!(rules(&entry("ret;").replace("128", "2048")), ["P6"]);
}

#[test]
fn every_way_is_looked_at() {
    let one_way =
        "mov.b32 %r0, 1;\nsetp.eq.s32 %p0, %r0, 0;\n@%p0 bra over;\nmov.b32 %r1, 2;\nover:\nadd.s32 %r2, %r1, 1;\nret;";
    assert_eq!(rules(&entry(one_way)), ["P5"]);
    let guarded = "mov.b32 %r0, 1;\nsetp.eq.s32 %p0, %r0, 0;\n@%p0 mov.b32 %r1, 2;\nadd.s32 %r2, %r1, 1;\nret;";
    assert_eq!(rules(&entry(guarded)), ["P5"]);
    let both = "mov.b32 %r0, 1;\nsetp.eq.s32 %p0, %r0, 0;\n@!%p0 bra no;\nmov.b32 %r1, 2;\nbra on;\nno:\nmov.b32 %r1, 3;\non:\nadd.s32 %r2, %r1, 1;\nret;";
    assert_eq!(rules(&entry(both)), Vec::<&str>::new());
    let around = "mov.b32 %r0, 1;\nagain:\nadd.s32 %r0, %r0, 1;\nsetp.lt.s32 %p0, %r0, 9;\nmov.b32 %r1, 1;\n@%p0 bra again;\nadd.s32 %r2, %r1, 1;\nret;";
    assert_eq!(rules(&entry(around)), Vec::<&str>::new());
}
