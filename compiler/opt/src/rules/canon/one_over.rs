//! One divided by something is its reciprocal.

use crate::rule::{Into, Kind, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/one_over",
    kind: Kind::Exact,
    from: "(div 1 ?x)",
    when: &[(|m| m.same_type("x"), "the constant widens the shape"), (|m| m.is_float(), "integers have no reciprocal")],
    into: Into::Text("(reciprocal ?x)"),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [1065353216]} : f32[]
          %y = div %c, %x : f32[2, 3]
          yield %y
        }
    ",
};
