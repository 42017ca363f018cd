//! Dividing by a constant is multiplying by its reciprocal, up to one rounding.

use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/div_constant",
    kind: Kind::Fast,
    from: "(div ?x #c)",
    when: &[(|m| m.is_float(), "integer division truncates")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [3], bits = [1077936128, 1084227584, 1088421888]} : f32[3]
          %y = div %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let c = m.data("c")?;
    let reciprocal = m.eval(Op::Unary(UnaryFn::Reciprocal), &[c])?;
    if !help::is_normal(&reciprocal) {
        return miss("a reciprocal is zero, too small or infinite");
    }
    let mut edit = Edit::new();
    let r = edit.constant(reciprocal, m.weight_name("c", "reciprocal"));
    let product = edit.op(Op::Binary(BinaryFn::Mul), &[m.v("x"), r]);
    Ok(edit.give(product))
}
