//! Two reshapes are one.

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/reshape_of_reshape",
    kind: Kind::Exact,
    from: "(reshape (reshape ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3]) -> (%r) {
          %a = reshape %x {shape = [6]} : f32[6]
          %y = reshape %a {shape = [3, 2]} : f32[3, 2]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::node(help::reshape(&m.root_ty().shape), &[m.v("x")]))
}
