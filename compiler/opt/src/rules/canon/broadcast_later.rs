//! A function of repeated elements is computed once for each, and then repeated.

use xlac_ir::ops;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/broadcast_later",
    kind: Kind::Exact,
    from: "(elementwise:f (broadcast:b ?x))",
    when: &[(|m| m.used_once("b"), "the repeated elements are used elsewhere")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 3]) -> (%r) {
          %b = broadcast %x {shape = [2, 3]} : f32[2, 3]
          %y = exp %b : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let op = m.node("f").op.clone();
    let mut edit = Edit::new();
    let result = edit.op(op, &[m.v("x")]);
    let wide = edit.op(ops::Broadcast { shape: m.root_ty().shape.clone() }, &[result]);
    Ok(edit.give(wide))
}
