//! A shift, a scale and a shift, all constant, are one scale and one shift: batch normalization on its own.

use xlac_ir::elementwise::BinaryFn;
use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/scale_and_shift",
    kind: Kind::Fast,
    from: "(add (mul:scale (add:shift ?x #a) #b) #c)",
    when: &[
        (|m| m.is_float(), "integers wrap at each step"),
        (|m| m.used_once("scale") && m.used_once("shift"), "a result in between is used elsewhere"),
        (|m| m.same_type("x"), "a constant widens the shape"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %a = constant {dtype = f32, shape = [3], bits = [1065353216, 1073741824, 1056964608]} : f32[3]
          %b = constant {dtype = f32, shape = [3], bits = [1077936128, 1060320051, 1073741824]} : f32[3]
          %c = constant {dtype = f32, shape = [], bits = [1050253722]} : f32[]
          %s = add %x, %a : f32[2, 3]
          %k = mul %s, %b : f32[2, 3]
          %y = add %k, %c : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let ab = help::combine(m, BinaryFn::Mul, &m.data("a")?, &m.data("b")?)?;
    let shift = help::combine(m, BinaryFn::Add, &ab, &m.data("c")?)?;
    let mut edit = Edit::new();
    let scaled = edit.op(Op::Binary(BinaryFn::Mul), &[m.v("x"), m.v("b")]);
    let shift = edit.constant(shift, m.weight_name("c", "merged"));
    let sum = edit.op(Op::Binary(BinaryFn::Add), &[scaled, shift]);
    Ok(edit.give(sum))
}
