//! The complement of a comparison is another one. Orders keep the complement for floats: all are false for NaN.

use xlac_ir::kernel::Pred;
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/not_compare",
    kind: Kind::Exact,
    from: "(not (compare:p ?x ?y))",
    when: &[(|m| m.used_once("p"), "the comparison is used elsewhere")],
    into: Into::Code(into),
    example: "
        graph @g(%x: i64[2, 3], %z: i64[2, 3]) -> (%r) {
          %p = lt %x, %z : bool[2, 3]
          %y = not %p : bool[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let Op::Compare(p) = m.node("p").op else { return miss("not a comparison") };
    let ordered = m.ty("x").dtype.is_float();
    let opposite = match p {
        Pred::Eq => Pred::Ne,
        Pred::Ne => Pred::Eq,
        _ if ordered => return miss("the opposite differs for NaN"),
        Pred::Lt => Pred::Ge,
        Pred::Ge => Pred::Lt,
        Pred::Gt => Pred::Le,
        Pred::Le => Pred::Gt,
    };
    Ok(Edit::node(Op::Compare(opposite), &[m.v("x"), m.v("y")]))
}
