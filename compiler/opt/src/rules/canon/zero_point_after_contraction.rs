//! A zero point of the first operand is taken off after the contraction: `(x - z) w = x w - z (sum of w)`, whose second part
//! is constant. Integers wrap, so that this is exact. What pads a convolution is then `z`, which stands for 0.

use xlac_ir::dim::Dim;
use xlac_ir::elementwise::BinaryFn;
use xlac_ir::kernel::Const;
use xlac_ir::ops::pad::PadMode;
use xlac_ir::ops::{self, Op};
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;

use crate::edit::{Edit, Ref};
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/zero_point_after_contraction",
    kind: Kind::Exact,
    from: "(matmul|conv:k (add (cast:c ?x) #z) #w)",
    when: &[
        (|m| help::widens_byte(m, "x", "c"), "the first operand is not of 8 bits"),
        (|m| m.ty("w").dtype.bits() == 8, "the weights are not of 8 bits"),
        (|m| help::terms_lie_together(m), "the products are not summed along neighbouring elements"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: u8[1, 8, 3, 3]) -> (%r) {
          %z = constant {dtype = i32, shape = [], bits = [4294967289]} : i32[]
          %w = weight @w : i8[2, 8, 2, 2]
          %c = cast %x {to = i32} : i32[1, 8, 3, 3]
          %s = add %c, %z : i32[1, 8, 3, 3]
          %y = conv %s, %w {strides = [2, 2], before = [1, 1], after = [0, 0], dilations = [1, 1], groups = 1, out = i32} : i32[1, 2, 2, 2]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let added = m.splat("z").ok_or_else(|| Miss("the zero point is not one number".into()))?;
    let sums = help::sums_of_weights(m)?;
    let dtype = m.root_ty().dtype;
    let shift = help::combine(m, BinaryFn::Mul, &sums, &Tensor::scalar(scalar::convert(added, dtype)))?;
    let mut edit = Edit::new();
    let product = match &m.node("k").op {
        Op::Conv(conv) => padded(m, &mut edit, conv, added)?,
        op => edit.op(op.clone(), &[m.v("x"), m.v("w")]),
    };
    let shift = edit.constant(shift, m.weight_name("w", "zero"));
    let result = edit.op(Op::Binary(BinaryFn::Add), &[product, shift]);
    Ok(edit.give(result))
}

/// The convolution of `x` with the zero point around it, which `added` takes to 0.
fn padded(m: &Match, edit: &mut Edit, conv: &ops::Conv, added: Const) -> Result<Ref, Miss> {
    if conv.before.iter().chain(&conv.after).all(|p| p.is(0)) {
        return Ok(edit.op(conv.clone(), &[m.v("x"), m.v("w")]));
    }
    let zero = Const::int(m.ty("x").dtype, added.as_i64().wrapping_neg());
    if zero.as_i64() != added.as_i64().wrapping_neg() {
        return miss("the zero point is none of the operand's elements");
    }
    let around = |pads: &[Dim]| [&[Dim::ZERO, Dim::ZERO], pads].concat();
    let pad = ops::Pad { before: around(&conv.before), after: around(&conv.after), mode: PadMode::Constant };
    let zero = edit.constant(Tensor::scalar(zero), "zero");
    let x = edit.op(pad, &[m.v("x"), zero]);
    let none = vec![Dim::ZERO; conv.before.len()];
    Ok(edit.op(ops::Conv { before: none.clone(), after: none, ..conv.clone() }, &[x, m.v("w")]))
}
