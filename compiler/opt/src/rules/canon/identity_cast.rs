//! A cast to the type at hand.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/identity_cast",
    kind: Kind::Exact,
    from: "(cast ?x)",
    when: &[(|m| m.same_type("x"), "it changes the type")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %y = cast %x {to = f32} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
