//! Dividing by a power of two is multiplying by its reciprocal, which has no rounding error.

use xlac_ir::elementwise::BinaryFn;
use xlac_ir::ops::Op;
use xlac_ir::tensor::Tensor;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/div_power_of_two",
    kind: Kind::Exact,
    from: "(div ?x #c)",
    when: &[(|m| m.is_float(), "integer division truncates")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [1090519040]} : f32[]
          %y = div %x, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let Some(c) = m.splat("c") else { return miss("the constant is not one number") };
    let Some(r) = help::exact_reciprocal(c) else { return miss("the constant is no power of two") };
    let mut edit = Edit::new();
    let r = edit.constant(Tensor::filled(m.data("c")?.shape, r), "reciprocal");
    let product = edit.op(Op::Binary(BinaryFn::Mul), &[m.v("x"), r]);
    Ok(edit.give(product))
}
