//! Adding a negation is subtracting.

use crate::rule::{Into, Kind, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/add_negated",
    kind: Kind::Exact,
    from: "(add ?x (neg ?y))",
    when: &[],
    into: Into::Text("(sub ?x ?y)"),
    example: "
        graph @g(%x: f32[2, 3], %z: f32[2, 3]) -> (%r) {
          %n = neg %z : f32[2, 3]
          %y = add %x, %n : f32[2, 3]
          yield %y
        }
    ",
};
