//! Two complements cancel.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/not_not",
    kind: Kind::Exact,
    from: "(not (not ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: bool[2, 3]) -> (%r) {
          %n = not %x : bool[2, 3]
          %y = not %n : bool[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
