//! A scale for each column of a product with constant weights goes into the weights.

use xlac_ir::elementwise::BinaryFn;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fold/scale_matmul",
    kind: Kind::Fold,
    from: "(mul (matmul:k ?x #w) #c)",
    when: &[
        (|m| m.used_once("k"), "the unscaled result is used elsewhere"),
        (|m| help::keeps_shape(m, "k"), "the scale widens the shape"),
        (|m| m.ty("w").dtype == m.root_ty().dtype && m.is_float(), "the weights are not floats of the result's type"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 4]) -> (%r) {
          %w = weight @w : f32[3, 4]
          %s = weight @s : f32[3]
          %k = matmul %x, %w {trans_a = false, trans_b = true, out = f32} : f32[2, 3]
          %y = mul %k, %s : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (w, ty) = (m.data("w")?, m.root_ty());
    let scale = help::per_channel(&m.data("c")?, ty.rank() - 1, &ty.shape[ty.rank() - 1], ty.rank())?;
    let columns = w.shape.len() - if attrs!(m, "k", MatMul).trans_b { 2 } else { 1 };
    let scaled = help::combine(m, BinaryFn::Mul, &w, &help::along(&scale, columns, w.shape.len()))?;
    let mut edit = Edit::new();
    let w = edit.constant(scaled, m.weight_name("w", "scaled"));
    let result = edit.op(attrs!(m, "k", MatMul).clone(), &[m.v("x"), w]);
    Ok(edit.give(result))
}
