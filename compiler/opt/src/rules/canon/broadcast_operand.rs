//! Elementwise ops broadcast by themselves: an operand need not be repeated for them.

use xlac_ir::ops::Op;

use crate::edit::{Edit, Ref};
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/broadcast_operand",
    kind: Kind::Exact,
    from: "(elementwise:e ?xs...)",
    when: &[(|m| m.rest("xs").len() > 1, "it has one operand")],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 3], %z: f32[3]) -> (%r) {
          %b = broadcast %z {shape = [2, 3]} : f32[2, 3]
          %y = add %x, %b : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let graph = &m.program.graph;
    let op = &m.node("e").op;
    let mut operands = m.rest("xs").to_vec();
    for i in 0..operands.len() {
        let Some(node) = graph.producer(operands[i]) else { continue };
        let repeated = operands[i];
        if matches!(node.op, Op::Broadcast(_)) {
            operands[i] = node.inputs[0];
        }
        if m.infer(op, &operands).as_ref() != Some(m.root_ty()) {
            operands[i] = repeated;
        }
    }
    if operands == m.rest("xs") {
        return miss("no operand is repeated for this op alone");
    }
    let operands: Vec<Ref> = operands.into_iter().map(Ref::Old).collect();
    Ok(Edit::node(op.clone(), &operands))
}
