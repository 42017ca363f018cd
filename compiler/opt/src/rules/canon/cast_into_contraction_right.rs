//! The same as `cast_into_contraction_left` for the second operand.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/cast_into_contraction_right",
    kind: Kind::Exact,
    from: "(matmul|conv:k ?x (cast:c ?w))",
    when: &[(|m| help::widens_byte(m, "w", "c"), "the cast is not of 8-bit integers to wider ones")],
    into: Into::Code(|m: &Match| Ok(Edit::node(m.node("k").op.clone(), &[m.v("x"), m.v("w")]))),
    example: "
        graph @g(%x: u8[2, 3], %w: i8[3, 2]) -> (%r) {
          %c = cast %w {to = i32} : i32[3, 2]
          %y = matmul %x, %c {trans_a = false, trans_b = false, out = i32} : i32[2, 2]
          yield %y
        }
    ",
};
