//! Multiplying by one changes nothing.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/mul_one",
    kind: Kind::Exact,
    from: "(mul ?x 1)",
    when: &[(|m| m.same_type("x"), "the constant widens the shape")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [1065353216]} : f32[]
          %y = mul %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
