//! Constants stand on the right of commuting ops: one form for equal computations.

use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/constant_right",
    kind: Kind::Exact,
    from: "(binary:b #c ?x)",
    when: &[
        (|m| m.node("b").inputs[0] == m.id("c"), "the constant stands on the right"),
        (|m| !help::is_constant_value(m, m.id("x")), "both operands are constant"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [1077936128]} : f32[]
          %y = mul %c, %x : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let op = m.node("b").op.clone();
    match &op {
        Op::Binary(f) if f.commutes() => Ok(Edit::node(op, &[m.v("x"), m.v("c")])),
        _ => miss("operands may not be exchanged"),
    }
}
