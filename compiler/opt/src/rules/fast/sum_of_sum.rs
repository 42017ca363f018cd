//! The sum of sums is the sum of all.

use xlac_ir::ops;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "fast/sum_of_sum",
    kind: Kind::Fast,
    from: "(reduce:outer (reduce:inner ?x))",
    when: &[(|m| m.used_once("inner"), "the first result is used elsewhere")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3, 4]) -> (%r) {
          %a = reduce %x {f = sum, axes = [1]} : f32[2, 1, 4]
          %y = reduce %a {f = sum, axes = [2]} : f32[2, 1, 1]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (outer, inner) = (attrs!(m, "outer", Reduce), attrs!(m, "inner", Reduce));
    if outer.f != inner.f {
        return miss("the functions differ");
    }
    let mut axes = [outer.axes.clone(), inner.axes.clone()].concat();
    axes.sort();
    axes.dedup();
    Ok(Edit::node(ops::Reduce { f: outer.f, axes }, &[m.v("x")]))
}
