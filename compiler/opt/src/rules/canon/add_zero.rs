//! Adding an integer zero, or a negative zero, changes nothing. (`-0 + 0` is `0`: not a positive one.)

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/add_zero",
    kind: Kind::Exact,
    from: "(add ?x #c)",
    when: &[
        (|m| m.same_type("x"), "the constant widens the shape"),
        (|m| m.number("c") == Some(0.0), "the constant is not zero"),
        (|m| !m.is_float() || m.number("c").is_some_and(f64::is_sign_negative), "a positive zero turns -0 into 0"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [2147483648]} : f32[]
          %y = add %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
