//! Constant integers added or multiplied one after the other are one constant: they wrap the same way.

use xlac_ir::ops::Op;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/merge_integers",
    kind: Kind::Exact,
    from: "(add|mul:outer (add|mul:inner ?x #a) #b)",
    when: &[
        (|m| m.node("outer").op == m.node("inner").op, "one adds and the other multiplies"),
        (|m| m.used_once("inner"), "the first result is used elsewhere"),
        (|m| m.root_ty().dtype.is_int(), "floats round at each step"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: i64[2, 3]) -> (%r) {
          %a = constant {dtype = i64, shape = [], bits = [3]} : i64[]
          %b = constant {dtype = i64, shape = [], bits = [-5]} : i64[]
          %z = mul %x, %a : i64[2, 3]
          %y = mul %z, %b : i64[2, 3]
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
