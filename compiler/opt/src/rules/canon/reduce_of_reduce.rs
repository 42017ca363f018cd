//! The largest of the largest is the largest of all; integer sums have no order.

use xlac_ir::ops;
use xlac_ir::ops::reduce::ReduceFn;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/reduce_of_reduce",
    kind: Kind::Exact,
    from: "(reduce:outer (reduce:inner ?x))",
    when: &[(|m| m.used_once("inner"), "the first result is used elsewhere")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3, 4]) -> (%r) {
          %a = reduce %x {f = max, axes = [1]} : f32[2, 1, 4]
          %y = reduce %a {f = max, axes = [2]} : f32[2, 1, 1]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (outer, inner) = (attrs!(m, "outer", Reduce), attrs!(m, "inner", Reduce));
    if outer.f != inner.f {
        return miss("the functions differ");
    }
    if m.is_float() && matches!(outer.f, ReduceFn::Sum | ReduceFn::Prod) {
        return miss("the order of the steps is part of the meaning");
    }
    let mut axes = [outer.axes.clone(), inner.axes.clone()].concat();
    axes.sort();
    axes.dedup();
    Ok(Edit::node(ops::Reduce { f: outer.f, axes }, &[m.v("x")]))
}
