//! Two lower bounds, or two upper bounds, are one.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/merge_bounds",
    kind: Kind::Exact,
    from: "(max|min:outer (max|min:inner ?x #a) #b)",
    when: &[
        (|m| m.node("outer").op == m.node("inner").op, "one is a lower and the other an upper bound"),
        (|m| m.used_once("inner"), "the first result is used elsewhere"),
        (
            |m| m.node("outer").inputs[1] == m.id("b") && m.node("inner").inputs[1] == m.id("a"),
            "a constant stands on the left",
        ),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %a = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %b = constant {dtype = f32, shape = [], bits = [3204448256]} : f32[]
          %z = max %x, %a : f32[2, 3]
          %y = max %z, %b : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let op = m.node("outer").op.clone();
    let (a, b) = (m.data("a")?, m.data("b")?);
    if a.dtype.is_float() && !(help::is_number(&a) && help::is_number(&b)) {
        return miss("a bound is NaN");
    }
    let merged = m.eval(op.clone(), &[a, b])?;
    let mut edit = Edit::new();
    let c = edit.constant(merged, m.weight_name("b", "merged"));
    let result = edit.op(op, &[m.v("x"), c]);
    Ok(edit.give(result))
}
