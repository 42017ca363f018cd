//! A pad that adds nothing.

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/identity_pad",
    kind: Kind::Exact,
    from: "(pad:p ?x ?rest...)",
    when: &[
        (|m| m.same_type("x"), "it adds or removes elements"),
        (|m| attrs!(m, "p", Pad).before.iter().chain(&attrs!(m, "p", Pad).after).all(|d| d.is(0)), "it moves elements"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [1088421888]} : f32[]
          %y = pad %x, %c {before = [0, 0], after = [0, 0], mode = constant} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
