//! A matrix product reads its right operand transposed: the innermost axis then stays innermost in memory.

use xlac_ir::ops;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/transpose_into_matmul_right",
    kind: Kind::Exact,
    from: "(matmul:p ?y (transpose:t ?x))",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[2, 4], %z: f32[3, 4]) -> (%r) {
          %t = transpose %z {perm = [1, 0]} : f32[4, 3]
          %y = matmul %x, %t {trans_a = false, trans_b = false, out = f32} : f32[2, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let perm = &attrs!(m, "t", Transpose).perm;
    let Some(perm) = help::without_last_swap(perm) else { return miss("the innermost axis is in place") };
    let p = attrs!(m, "p", MatMul);
    let op = ops::MatMul { trans_b: !p.trans_b, ..p.clone() };
    let mut edit = Edit::new();
    let mut v = m.v("x");
    if !help::is_identity(&perm) {
        v = edit.op(ops::Transpose { perm }, &[v]);
    }
    let product = edit.op(op, &[m.v("y"), v]);
    Ok(edit.give(product))
}
