//! Two constants added after a contraction are one bias.

use xlac_ir::elementwise::BinaryFn;
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fold/merge_bias",
    kind: Kind::Fold,
    from: "(add (add:s ?y #a) #b)",
    when: &[
        (|m| m.used_once("s"), "the first sum is used elsewhere"),
        (|m| help::is_scalable(m, m.id("y")), "no contraction with constant weights is shifted"),
        (|m| help::keeps_shape(m, "s") && m.same_type("y"), "a constant widens the shape"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 4]) -> (%r) {
          %w = weight @w : f32[4, 3]
          %a = weight @a : f32[3]
          %b = weight @b : f32[3]
          %k = matmul %x, %w {trans_a = false, trans_b = false, out = f32} : f32[2, 3]
          %s = add %k, %a : f32[2, 3]
          %y = add %s, %b : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let bias = help::combine(m, BinaryFn::Add, &m.data("a")?, &m.data("b")?)?;
    let mut edit = Edit::new();
    let bias = edit.constant(bias, m.weight_name("a", "merged"));
    let sum = edit.op(Op::Binary(BinaryFn::Add), &[m.v("y"), bias]);
    Ok(edit.give(sum))
}
