//! A selection whose condition is one constant takes one side, broadcast if need be.

use xlac_ir::ops;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/select_known",
    kind: Kind::Exact,
    from: "(select #c ?a ?b)",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3], %z: f32[2, 3]) -> (%r) {
          %c = constant {dtype = bool, shape = [], bits = [1]} : bool[]
          %y = select %c, %x, %z : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let Some(c) = m.splat("c") else { return miss("the condition is not one constant") };
    let side = if c.bits != 0 { "a" } else { "b" };
    if m.same_type(side) {
        return Ok(Edit::value(m.v(side)));
    }
    Ok(Edit::node(ops::Broadcast { shape: m.root_ty().shape.clone() }, &[m.v(side)]))
}
