//! The text of a kernel of each kind, for a person to review.

use xlac_ir::dtype::DType;
use xlac_ir::kernel::{Access, BinOp, Const, Kernel, KernelBuilder, ScratchLen};

use crate::support::*;
use crate::{control, memory, team};

fn shows(name: &str, k: Kernel) {
    let text = Code::new(&[k]).text;
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn an_elementwise_chain() {
    let mut k = KernelBuilder::new("chain");
    let (x, b) = (k.param("x", DType::F16, Access::Read), k.param("b", DType::F32, Access::Read));
    let (y, n) = (k.param("y", DType::F16, Access::Write), k.dim("N"));
    k.note("Add_0");
    k.note("Relu_1");
    let tile = k.tile();
    let at = k.mul_int(tile, 8);
    let left = k.sub(n, at);
    let v = k.load(x, at, 0, 8, Some(left));
    let v = k.convert(v, DType::F32);
    let zero = k.int(0);
    let bias = k.load(b, zero, 2, 1, None);
    let v = k.add(v, bias);
    let zero = k.constant(Const::f32(0.0));
    let v = k.bin(BinOp::Max, v, zero);
    let v = k.convert(v, DType::F16);
    k.store(y, at, 0, v, Some(left));
    shows("an_elementwise_chain", k.finish());
}

#[test]
fn a_check() {
    shows("a_check", control::check_kernel());
}

#[test]
fn a_row_sum_by_a_team() {
    shows("a_row_sum_by_a_team", team::row_sum(64));
}

#[test]
fn a_product_of_fragments() {
    shows("a_product_of_fragments", team::product(DType::F16, DType::F16));
}

#[test]
fn scratch_memory_per_worker() {
    shows("scratch_memory_per_worker", memory::scratch_kernel(DType::F32, 12, ScratchLen::Dim(0)));
}
