//! A reshape to the shape at hand.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/identity_reshape",
    kind: Kind::Exact,
    from: "(reshape ?x)",
    when: &[(|m| m.same_type("x"), "it changes the shape")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, N]) -> (%r) {
          %y = reshape %x {shape = [2, N]} : f32[2, N]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
