//! A broadcast to the shape at hand.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/identity_broadcast",
    kind: Kind::Exact,
    from: "(broadcast ?x)",
    when: &[(|m| m.same_type("x"), "it changes the shape")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %y = broadcast %x {shape = [2, 3]} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
