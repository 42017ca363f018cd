//! Axes of size 1 need no reducing. A sum over nothing else stays: it turns -0 into 0.

use xlac_ir::ops;
use xlac_ir::ops::reduce::ReduceFn;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/reduce_units",
    kind: Kind::Exact,
    from: "(reduce:r ?x)",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 1, 3]) -> (%r) {
          %y = reduce %x {f = sum, axes = [1, 2]} : f32[2, 1, 1]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let r = attrs!(m, "r", Reduce);
    let axes: Vec<usize> = r.axes.iter().copied().filter(|&a| !m.shape("x")[a].is(1)).collect();
    match (axes.is_empty(), r.f) {
        _ if axes == r.axes => miss("no reduced axis is known to be of size 1"),
        (false, f) => Ok(Edit::node(ops::Reduce { f, axes }, &[m.v("x")])),
        (true, ReduceFn::Sum) if m.is_float() => miss("a sum of one element turns -0 into 0"),
        (true, _) => Ok(Edit::value(m.v("x"))),
    }
}
