//! A transposition that keeps the order of all axes but those of size 1 is a reshape.

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/transpose_units",
    kind: Kind::Exact,
    from: "(transpose:t ?x)",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 1, 3]) -> (%r) {
          %y = transpose %x {perm = [1, 0, 2]} : f32[1, 2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let perm = &attrs!(m, "t", Transpose).perm;
    let kept: Vec<usize> = perm.iter().copied().filter(|&p| !m.shape("x")[p].is(1)).collect();
    if help::is_identity(perm) || !kept.is_sorted() {
        return miss("it moves axes that are not known to be of size 1");
    }
    Ok(Edit::node(help::reshape(&m.root_ty().shape), &[m.v("x")]))
}
