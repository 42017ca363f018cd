//! A transposition that leaves every axis in place.

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/identity_transpose",
    kind: Kind::Exact,
    from: "(transpose:t ?x)",
    when: &[(|m| help::is_identity(&attrs!(m, "t", Transpose).perm), "it moves axes")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %y = transpose %x {perm = [0, 1]} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
