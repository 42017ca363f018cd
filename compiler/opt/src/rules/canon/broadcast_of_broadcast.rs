//! Two broadcasts are one.

use xlac_ir::ops;

use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/broadcast_of_broadcast",
    kind: Kind::Exact,
    from: "(broadcast (broadcast ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 3]) -> (%r) {
          %a = broadcast %x {shape = [2, 3]} : f32[2, 3]
          %y = broadcast %a {shape = [4, 2, 3]} : f32[4, 2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    Ok(Edit::node(ops::Broadcast { shape: m.root_ty().shape.clone() }, &[m.v("x")]))
}
