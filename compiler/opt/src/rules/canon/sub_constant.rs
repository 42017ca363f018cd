//! Subtracting a constant is adding its negation: one form for shifts.

use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/sub_constant",
    kind: Kind::Exact,
    from: "(sub ?x #c)",
    when: &[(|m| m.ty("c").dtype.is_float() || m.ty("c").dtype.is_int(), "only numbers can be negated")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [3], bits = [1065353216, 3221225472, 0]} : f32[3]
          %y = sub %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let negated = m.eval(Op::Unary(UnaryFn::Neg), &[m.data("c")?])?;
    let mut edit = Edit::new();
    let c = edit.constant(negated, m.weight_name("c", "neg"));
    let sum = edit.op(Op::Binary(BinaryFn::Add), &[m.v("x"), c]);
    Ok(edit.give(sum))
}
