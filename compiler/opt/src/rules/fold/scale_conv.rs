//! A scale for each output channel of a convolution goes into its weights: batch normalization costs nothing.

use xlac_ir::elementwise::BinaryFn;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fold/scale_conv",
    kind: Kind::Fold,
    from: "(mul (conv:k ?x #w) #c)",
    when: &[
        (|m| m.used_once("k"), "the unscaled result is used elsewhere"),
        (|m| help::keeps_shape(m, "k"), "the scale widens the shape"),
        (|m| m.ty("w").dtype == m.root_ty().dtype && m.is_float(), "the weights are not floats of the result's type"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 2, 4, 4]) -> (%r) {
          %w = weight @w : f32[3, 2, 3, 3]
          %s = weight @s : f32[3, 1, 1]
          %k = conv %x, %w {strides = [1, 1], before = [1, 1], after = [1, 1], dilations = [1, 1], groups = 1, out = f32} : f32[1, 3, 4, 4]
          %y = mul %k, %s : f32[1, 3, 4, 4]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (w, rank) = (m.data("w")?, m.root_ty().rank());
    let scale = help::per_channel(&m.data("c")?, 1, &m.root_ty().shape[1], rank)?;
    let scaled = help::combine(m, BinaryFn::Mul, &w, &help::along(&scale, 0, w.shape.len()))?;
    let mut edit = Edit::new();
    let w = edit.constant(scaled, m.weight_name("w", "scaled"));
    let result = edit.op(attrs!(m, "k", Conv).clone(), &[m.v("x"), w]);
    Ok(edit.give(result))
}
