//! A selection between equal sides is that side.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/select_same",
    kind: Kind::Exact,
    from: "(select ?c ?x ?x)",
    when: &[(|m| m.same_type("x"), "the condition widens the shape")],
    into: Into::Code(into),
    example: "
        graph @g(%c: bool[2, 3], %x: f32[2, 3]) -> (%r) {
          %y = select %c, %x, %x : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
