//! A scale after the bias of a contraction moves before it, where the weights take it up.

use xlac_ir::elementwise::BinaryFn;
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fold/scale_bias",
    kind: Kind::Fold,
    from: "(mul (add:s ?y #b) #c)",
    when: &[
        (|m| m.used_once("s"), "the sum is used elsewhere"),
        (|m| help::is_scalable(m, m.id("y")), "no contraction with constant weights is scaled"),
        (|m| help::keeps_shape(m, "s") && m.same_type("y"), "a constant widens the shape"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 4]) -> (%r) {
          %w = weight @w : f32[4, 3]
          %b = weight @b : f32[3]
          %s = weight @s : f32[3]
          %k = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[2, 3]
          %a = add %k, %b : f32[2, 3]
          %y = mul %a, %s : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let bias = help::combine(m, BinaryFn::Mul, &m.data("b")?, &m.data("c")?)?;
    let mut edit = Edit::new();
    let scaled = edit.op(Op::Binary(BinaryFn::Mul), &[m.v("y"), m.v("c")]);
    let bias = edit.constant(bias, m.weight_name("b", "scaled"));
    let sum = edit.op(Op::Binary(BinaryFn::Add), &[scaled, bias]);
    Ok(edit.give(sum))
}
