//! Functions that change nothing when applied again.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/idempotent",
    kind: Kind::Exact,
    from: "(abs|floor|ceil|round|sign:outer (abs|floor|ceil|round|sign:inner ?x))",
    when: &[(|m| m.node("outer").op == m.node("inner").op, "the functions differ")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %a = floor %x : f32[2, 3]
          %y = floor %a : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let op = m.node("inner").op.clone();
    Ok(Edit::node(op, &[m.v("x")]))
}
