//! Two slices are one.

use xlac_ir::dim::Dim;
use xlac_ir::ops;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/slice_of_slice",
    kind: Kind::Exact,
    from: "(slice:outer (slice:inner ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[9, 4]) -> (%r) {
          %a = slice %x {starts = [8, 1], steps = [-2, 1], sizes = [4, 3]} : f32[4, 3]
          %y = slice %a {starts = [1, 0], steps = [1, 2], sizes = [3, 2]} : f32[3, 2]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (outer, inner) = (attrs!(m, "outer", Slice), attrs!(m, "inner", Slice));
    let start = |a: usize| &inner.starts[a] + &(&outer.starts[a] * &Dim::from(inner.steps[a]));
    let step = |a: usize| inner.steps[a].checked_mul(outer.steps[a]);
    let axes = 0..outer.starts.len();
    let Some(steps) = axes.clone().map(step).collect() else { return miss("the steps are too large") };
    let starts = axes.map(start).collect();
    Ok(Edit::node(ops::Slice { starts, steps, sizes: outer.sizes.clone() }, &[m.v("x")]))
}
