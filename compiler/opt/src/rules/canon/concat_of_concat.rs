//! A concatenation within one along the same axis; operands without elements are left out.

use xlac_ir::ops::{self, Op};

use crate::attrs;
use crate::edit::{Edit, Ref};
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/concat_of_concat",
    kind: Kind::Exact,
    from: "(concat:c ?xs...)",
    when: &[(|m| m.rest("xs").len() > 1, "it has one operand")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3], %z: f32[1, 3]) -> (%r) {
          %a = concat %x, %z {axis = 0} : f32[3, 3]
          %y = concat %a, %z {axis = 0} : f32[4, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let graph = &m.program.graph;
    let axis = attrs!(m, "c", Concat).axis;
    let mut operands = Vec::new();
    for &v in m.rest("xs") {
        match graph.producer(v) {
            Some(n) if matches!(&n.op, Op::Concat(inner) if inner.axis == axis) && m.uses(v) <= 1 => {
                operands.extend(&n.inputs)
            }
            _ => operands.push(v),
        }
    }
    let first = operands[0];
    operands.retain(|&v| !graph.ty(v).shape[axis].is(0));
    if operands.is_empty() {
        operands.push(first);
    }
    if operands == m.rest("xs") {
        return miss("no operand is a concatenation that only this one uses, or empty");
    }
    let operands: Vec<Ref> = operands.into_iter().map(Ref::Old).collect();
    Ok(Edit::node(ops::Concat { axis }, &operands))
}
