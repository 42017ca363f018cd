//! The shape of the kernels that small programs become, for a machine with four-lane vectors.
//!
//! A snapshot shows structure - what is fused, which loops carry what - for a person to review; that the kernels are right
//! is shown by the differential tests.

use xlac_codegen::{Numerics, Options, compile};
use xlac_ir::backend::Target;
use xlac_ir::{kernel, text};

fn machine() -> Target {
    Target {
        name: "cpu:test".into(),
        arch: "x86_64".into(),
        cpu: "generic".into(),
        features: vec!["fma".into(), "sse4.1".into()],
        vector_bytes: 16,
        vector_registers: 8,
        masked_memory: true,
        broadcast_fma: false,
        cache_bytes: [32 << 10, 1 << 20, 4 << 20],
        gpu: None,
    }
}

/// The kernels of a program, as text.
fn kernels(program: &str, numerics: Numerics) -> String {
    let program = text::parse(program).expect("the program is well-formed");
    let plan = compile(&program, &machine(), &Options { numerics, ..Options::default() }).expect("the program has kernels");
    let texts: Vec<String> = plan.kernels.iter().map(|k| {
        kernel::verify::verify(k).expect("kernels are well-formed");
        kernel::text::print(k)
    }).collect();
    texts.join("\n")
}

/// Compares with the snapshot of this name.
fn assert_kernels(name: &str, text: String) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn an_elementwise_chain_is_one_loop() {
    assert_kernels("an_elementwise_chain_is_one_loop", kernels(
        "graph @chain(%x: f32[N, 8], %b: f32[8]) -> (%y) {
          %two = constant {dtype = f32, shape = [], bits = [1073741824]} : f32[]
          %zero = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %a = mul %x, %two : f32[N, 8]      // Mul_0
          %c = add %a, %b : f32[N, 8]        // Add_1
          %y = max %c, %zero : f32[N, 8]     // Relu_2
          yield %y
        }",
        Numerics::Fast
    ));
}

#[test]
fn a_mean_makes_one_pass_and_keeps_the_order() {
    assert_kernels("a_mean_makes_one_pass_and_keeps_the_order", kernels(
        "graph @mean(%x: f32[N, 64]) -> (%y) {
          %n = constant {dtype = f32, shape = [], bits = [1115684864]} : f32[]
          %s = reduce %x {f = sum, axes = [1]} : f32[N, 1]
          %y = div %s, %n : f32[N, 1]
          yield %y
        }",
        Numerics::Exact
    ));
}

#[test]
fn a_matrix_product_has_its_bias_in_the_epilogue() {
    assert_kernels("a_matrix_product_has_its_bias_in_the_epilogue", kernels(
        "graph @linear(%x: f32[2, 16], %b: f32[8]) -> (%y) {
          %w = weight @w : f32[16, 8]
          %m = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[2, 8]
          %y = add %m, %b : f32[2, 8]
          yield %y
        }",
        Numerics::Fast
    ));
}

#[test]
fn a_gather_checks_its_index() {
    assert_kernels("a_gather_checks_its_index", kernels(
        "graph @embed(%ids: i64[S]) -> (%y) {
          %w = weight @table : f32[100, 8]
          %y = gather %w, %ids {axis = 0} : f32[S, 8]
          yield %y
        }",
        Numerics::Fast
    ));
}

#[test]
fn a_pool_has_channels_in_its_lanes() {
    assert_kernels("a_pool_has_channels_in_its_lanes", kernels(
        "graph @pool(%x: f32[1, 4, 4, 4]) -> (%y) {
          %z = abs %x : f32[1, 4, 4, 4]
          %p = pool %z {f = max, kernel = [2, 2], strides = [2, 2], before = [0, 0], after = [0, 0], dilations = [1, 1], sizes = [2, 2]} : f32[1, 4, 2, 2]
          %y = reshape %p {shape = [1, 16]} : f32[1, 16]
          yield %y
        }",
        Numerics::Fast
    ));
}
