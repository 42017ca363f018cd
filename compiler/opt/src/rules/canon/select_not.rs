//! A selection by a complement exchanges the sides.

use crate::rule::{Into, Kind, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/select_not",
    kind: Kind::Exact,
    from: "(select (not ?c) ?a ?b)",
    when: &[],
    into: Into::Text("(select ?c ?b ?a)"),
    example: "
        graph @g(%c: bool[2, 3], %x: f32[2, 3], %z: f32[2, 3]) -> (%r) {
          %n = not %c : bool[2, 3]
          %y = select %n, %x, %z : f32[2, 3]
          yield %y
        }
    ",
};
