//! Two transpositions are one.

use xlac_ir::ops;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/transpose_of_transpose",
    kind: Kind::Exact,
    from: "(transpose:outer (transpose:inner ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3, 4]) -> (%r) {
          %a = transpose %x {perm = [1, 2, 0]} : f32[3, 4, 2]
          %y = transpose %a {perm = [1, 0, 2]} : f32[4, 3, 2]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (outer, inner) = (attrs!(m, "outer", Transpose), attrs!(m, "inner", Transpose));
    let perm = outer.perm.iter().map(|&p| inner.perm[p]).collect();
    Ok(Edit::node(ops::Transpose { perm }, &[m.v("x")]))
}
