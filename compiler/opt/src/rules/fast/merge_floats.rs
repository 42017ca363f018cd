//! Constants added or multiplied one after the other are one constant.

use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/merge_floats",
    kind: Kind::Fast,
    from: "(add|mul:outer (add|mul:inner ?x #a) #b)",
    when: &[
        (|m| m.node("outer").op == m.node("inner").op, "one adds and the other multiplies"),
        (|m| m.used_once("inner"), "the first result is used elsewhere"),
        (|m| m.is_float(), "integers are merged exactly"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %a = constant {dtype = f32, shape = [], bits = [1077936128]} : f32[]
          %b = constant {dtype = f32, shape = [], bits = [1060320051]} : f32[]
          %z = mul %x, %a : f32[2, 3]
          %y = mul %z, %b : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let Op::Binary(f) = m.node("outer").op else { return miss("not binary") };
    let merged = help::combine(m, f, &m.data("a")?, &m.data("b")?)?;
    let mut edit = Edit::new();
    let c = edit.constant(merged, m.weight_name("b", "merged"));
    let result = edit.op(Op::Binary(f), &[m.v("x"), c]);
    Ok(edit.give(result))
}
