//! Adding zero changes nothing but the sign of a negative zero.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/add_positive_zero",
    kind: Kind::Fast,
    from: "(add ?x 0)",
    when: &[(|m| m.same_type("x"), "the constant widens the shape")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %y = add %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
