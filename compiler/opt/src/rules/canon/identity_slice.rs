//! A slice that takes everything.

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/identity_slice",
    kind: Kind::Exact,
    from: "(slice:s ?x)",
    when: &[
        (|m| m.same_type("x"), "it takes a part"),
        (|m| attrs!(m, "s", Slice).steps.iter().all(|&s| s > 0), "it reverses an axis"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %y = slice %x {starts = [0, 0], steps = [1, 1], sizes = [2, 3]} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    // All elements within the input, in ascending order and as many as there are: all of them.
    Ok(Edit::value(m.v("x")))
}
