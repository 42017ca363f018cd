//! A sum over axes of size 1 changes nothing but the sign of a negative zero.

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/reduce_unit_sum",
    kind: Kind::Fast,
    from: "(reduce:r ?x)",
    when: &[
        (|m| m.same_type("x"), "it sums more than one element"),
        (|m| attrs!(m, "r", Reduce).axes.iter().all(|&a| m.shape("x")[a].is(1)), "a reduced axis is not of size 1"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 1, 3]) -> (%r) {
          %y = reduce %x {f = sum, axes = [1]} : f32[2, 1, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::value(m.v("x")))
}
