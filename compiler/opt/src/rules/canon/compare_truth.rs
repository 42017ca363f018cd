//! A truth that was cast to a number and compared with zero is that truth, or its complement.

use xlac_ir::DType;
use xlac_ir::elementwise::UnaryFn;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/compare_truth",
    kind: Kind::Exact,
    from: "(eq|ne:p (cast:t ?x) 0)",
    when: &[
        (|m| m.ty("x").dtype == DType::Bool, "what was cast is no truth"),
        (|m| m.node("p").inputs[0] == m.node("t").outputs[0], "the constant stands on the left"),
        (|m| m.same_type("x"), "the constant widens the shape"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: bool[2, 3]) -> (%r) {
          %c = constant {dtype = i64, shape = [], bits = [0]} : i64[]
          %t = cast %x {to = i64} : i64[2, 3]
          %y = eq %t, %c : bool[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    match m.node("p").op {
        Op::Compare(Pred::Ne) => Ok(Edit::value(m.v("x"))),
        _ => Ok(Edit::node(Op::Unary(UnaryFn::Not), &[m.v("x")])),
    }
}
