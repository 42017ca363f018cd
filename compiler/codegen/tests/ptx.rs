//! The PTX text of a kernel of each kind, as programs become it: for a person to review. That kernels are right is shown by
//! the differential tests and the simulator.

use xlac_codegen::{Numerics, Options, compile};
use xlac_ir::backend::{Backend, Gpu, Target};
use xlac_ir::text;
use xlac_ptx::Ptx;

fn card() -> Target {
    Target {
        name: "ptx:sm_80".into(),
        arch: "nvptx64".into(),
        cpu: "sm_80".into(),
        features: vec!["sm_80".into()],
        vector_bytes: 16,
        vector_registers: 16,
        masked_memory: true,
        broadcast_fma: false,
        cache_bytes: [128 << 10, 40 << 20, 40 << 20],
        gpu: Some(Gpu { multiprocessors: 108, shared_bytes: 99 << 10, thread_registers: 255 }),
    }
}

/// Compares the text of the kernels whose names contain `which` with the snapshot of this name.
fn shows(name: &str, which: &str, numerics: Numerics, program: &str) {
    let program = text::parse(program).unwrap_or_else(|e| panic!("{e}"));
    let mut plan = compile(&program, &card(), &Options { numerics, ..Options::default() }).expect("the program has kernels");
    plan.kernels.retain(|k| k.name.contains(which));
    assert_eq!(plan.kernels.len(), 1, "one kernel is of interest");
    let text = Ptx.print(&plan.kernels, &card(), "ptx").expect("kernels can be printed");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/ptx" }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn elementwise() {
    shows("elementwise", "", Numerics::Fast, "graph @g(%x: f32[N, 64], %b: f32[64]) -> (%y) {
      %e = broadcast %b {shape = [N, 64]} : f32[N, 64]
      %a = add %x, %e : f32[N, 64]     // Add_0
      %y = exp %a : f32[N, 64]         // Exp_1
      yield %y
    }");
}

#[test]
fn a_transposed_operand() {
    shows("a_transposed_operand", "", Numerics::Fast, "graph @g(%x: f32[N, 48]) -> (%y) {
      %t = transpose %x {perm = [1, 0]} : f32[48, N]   // Transpose_0
      %y = neg %t : f32[48, N]                         // Neg_1
      yield %y
    }");
}

#[test]
fn a_row_in_registers() {
    shows("a_row_in_registers", "", Numerics::Fast, "graph @g(%x: f32[N, 128]) -> (%y) {
      %m = reduce %x {f = max, axes = [1]} : f32[N, 1]   // Softmax_0
      %y = sub %x, %m : f32[N, 128]                      // Softmax_0
      yield %y
    }");
}

#[test]
fn a_long_row() {
    shows("a_long_row", "", Numerics::Fast, "graph @g(%x: f32[N, L]) -> (%y) {
      %y = reduce %x {f = sum, axes = [1]} : f32[N, 1]   // ReduceSum_0
      yield %y
    }");
}

#[test]
fn columns() {
    shows("columns", "", Numerics::Exact, "graph @g(%x: f32[100, 40]) -> (%y) {
      %y = reduce %x {f = sum, axes = [0]} : f32[1, 40]   // ReduceSum_0
      yield %y
    }");
}

#[test]
fn a_gather() {
    shows("a_gather", "", Numerics::Fast, "graph @g(%x: f32[V, 32], %i: i64[N]) -> (%y) {
      %y = gather %x, %i {axis = 0} : f32[N, 32]   // Gather_0
      yield %y
    }");
}

#[test]
fn a_scatter() {
    shows("a_scatter", "scatter", Numerics::Fast, "graph @g(%x: f32[V, 8], %i: i64[N, 8], %u: f32[N, 8]) -> (%y) {
      %y = scatter_elements %x, %i, %u {axis = 0, mode = add} : f32[V, 8]   // ScatterElements_0
      yield %y
    }");
}

#[test]
fn padding() {
    shows("padding", "pad", Numerics::Fast, "graph @g(%x: f32[4, 9]) -> (%y) {
      %z = constant {dtype = f32, shape = [], bits = [1065353216]} : f32[]
      %y = pad %x, %z {before = [0, 2], after = [1, 1], mode = constant} : f32[5, 12]   // Pad_0
      yield %y
    }");
}

#[test]
fn a_pool() {
    shows("a_pool", "pool", Numerics::Fast, "graph @g(%x: f32[1, 8, 6, 6]) -> (%y) {
      %y = pool %x {f = max, kernel = [2, 2], strides = [2, 2], before = [0, 0], after = [0, 0], dilations = [1, 1], sizes = [3, 3]} : f32[1, 8, 3, 3]   // MaxPool_0
      yield %y
    }");
}

#[test]
fn a_running_sum() {
    shows("a_running_sum", "", Numerics::Fast, "graph @g(%x: f32[N, 40]) -> (%y) {
      %y = cumulate %x {f = sum, axis = 1, exclusive = false, reverse = false} : f32[N, 40]   // CumSum_0
      yield %y
    }");
}

#[test]
fn the_largest_elements() {
    shows("the_largest_elements", "top_k", Numerics::Fast, "graph @g(%x: f32[N, 40]) -> (%v, %i) {
      %v, %i = top_k %x {k = [3], axis = 1, largest = true} : f32[N, 3], i64[N, 3]   // TopK_0
      yield %v, %i
    }");
}

#[test]
fn a_product_by_multiply_adds() {
    shows("a_product_by_multiply_adds", "matmul", Numerics::Exact, "graph @g(%x: f32[16, 32], %w: f32[32, 32]) -> (%y) {
      %y = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[16, 32]   // MatMul_0
      yield %y
    }");
}

#[test]
fn a_product_of_halves() {
    shows("a_product_of_halves", "matmul", Numerics::Fast, "graph @g(%x: f16[32, 64], %w: f16[64, 32]) -> (%y) {
      %y = matmul %x, %w {trans_a = false, trans_b = false, out = f16} : f16[32, 32]   // MatMul_0
      yield %y
    }");
}

#[test]
fn a_convolution_of_split_floats() {
    shows("a_convolution_of_split_floats", "conv", Numerics::Fast, "graph @g(%x: f32[1, 32, 8, 8]) -> (%y) {
      %w = weight @w : f32[32, 32, 3, 3]
      %c = conv %x, %w {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32} : f32[1, 32, 6, 6]   // Conv_0
      %y = tanh %c : f32[1, 32, 6, 6]   // Tanh_1
      yield %y
    }");
}

#[test]
fn a_product_with_one_row() {
    shows("a_product_with_one_row", "matmul", Numerics::Fast, "graph @g(%x: f32[1, 256]) -> (%y) {
      %w = weight @w : f32[256, 128]
      %y = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[1, 128]   // Gemm_0
      yield %y
    }");
}

#[test]
fn a_recurrence() {
    shows("a_recurrence", "k1_", Numerics::Fast, "graph @g(%x: f32[5, N, 8], %h: f32[1, N, 16]) -> (%y, %e) {
      %w = weight @w : f32[1, 48, 8]
      %r = weight @r : f32[1, 48, 16]
      %b = weight @b : f32[1, 96]
      %y, %e = rnn %x, %w, %r, %b, %h {cell = gru, direction = forward, hidden = 16, activations = [sigmoid, tanh], alpha = [0.0, 0.0], beta = [0.0, 0.0], clip = inf, linear_before_reset = true, input_forget = false, lengths = false} : f32[5, 1, N, 16], f32[1, N, 16]   // GRU_0
      yield %y, %e
    }");
}

#[test]
fn attention() {
    shows("attention", "attention", Numerics::Fast, "graph @g(%q: f16[2, 16, 32], %k: f16[2, 16, 32], %v: f16[2, 16, 32]) -> (%y) {
      %s = matmul %q, %k {trans_a = false, trans_b = true, out = f16} : f16[2, 16, 16]    // MatMul_0
      %m = reduce %s {f = max, axes = [2]} : f16[2, 16, 1]                                // Softmax_1
      %d = sub %s, %m : f16[2, 16, 16]                                                    // Softmax_1
      %e = exp %d : f16[2, 16, 16]                                                        // Softmax_1
      %t = reduce %e {f = sum, axes = [2]} : f16[2, 16, 1]                                // Softmax_1
      %p = div %e, %t : f16[2, 16, 16]                                                    // Softmax_1
      %y = matmul %p, %v {trans_a = false, trans_b = false, out = f16} : f16[2, 16, 32]   // MatMul_2
      yield %y
    }");
}
