//! A zero point that is computed is taken off after the product too: `(x - z) w = x w - z (sum of w)`. Integers wrap, so that
//! this is exact.

use xlac_ir::elementwise::BinaryFn;
use xlac_ir::ops::Op;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/computed_zero_point_after_matmul",
    kind: Kind::Exact,
    from: "(matmul:k (sub (cast:c ?x) ?z) #w)",
    when: &[
        (|m| help::widens_byte(m, "x", "c"), "the first operand is not of 8 bits"),
        (|m| m.ty("w").dtype.bits() == 8, "the weights are not of 8 bits"),
        (|m| m.ty("z").dtype == m.root_ty().dtype, "the zero point is not of the result's type"),
        (|m| help::terms_lie_together(m), "the products are not summed along neighbouring elements"),
        (|m| m.shape("z").last().is_none_or(|d| d.is(1)), "the zero point differs from term to term"),
        (|m| m.ty("z").rank() <= m.ty("x").rank(), "the zero point has more axes"),
        (|m| !attrs!(m, "k", MatMul).trans_a, "the terms of a row are not along the last axis"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: u8[2, 5, 4], %z: i32[5, 1]) -> (%r) {
          %w = weight @w : i8[3, 4]
          %c = cast %x {to = i32} : i32[2, 5, 4]
          %s = sub %c, %z : i32[2, 5, 4]
          %y = matmul %s, %w {trans_a = false, trans_b = true, out = i32} : i32[2, 5, 3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let sums = help::sums_of_weights(m)?;
    let mut edit = Edit::new();
    let sums = edit.constant(sums, m.weight_name("w", "sums"));
    let product = edit.op(m.node("k").op.clone(), &[m.v("x"), m.v("w")]);
    let shift = edit.op(Op::Binary(BinaryFn::Mul), &[m.v("z"), sums]);
    let result = edit.op(Op::Binary(BinaryFn::Sub), &[product, shift]);
    Ok(edit.give(result))
}
