//! A division by constants after a contraction is a scale by their reciprocals.

use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fold/scale_by_quotient",
    kind: Kind::Fold,
    from: "(div ?y #c)",
    when: &[
        (|m| help::is_scalable(m, m.id("y")), "no contraction with constant weights is scaled"),
        (|m| m.same_type("y"), "the divisor widens the shape"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 4]) -> (%r) {
          %w = weight @w : f32[4, 3]
          %c = constant {dtype = f32, shape = [3], bits = [1077936128, 1084227584, 1060320051]} : f32[3]
          %k = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[2, 3]
          %y = div %k, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let scale = m.eval(Op::Unary(UnaryFn::Reciprocal), &[m.data("c")?])?;
    if !help::is_normal(&scale) {
        return miss("a reciprocal is zero, too small or infinite");
    }
    let mut edit = Edit::new();
    let scale = edit.constant(scale, m.weight_name("c", "reciprocal"));
    let product = edit.op(Op::Binary(BinaryFn::Mul), &[m.v("y"), scale]);
    Ok(edit.give(product))
}
