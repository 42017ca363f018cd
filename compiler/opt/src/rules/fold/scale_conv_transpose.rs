//! A scale for each output channel of a transposed convolution goes into its weights `[C, O / groups, ...]`.

use xlac_ir::elementwise::BinaryFn;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "fold/scale_conv_transpose",
    kind: Kind::Fold,
    from: "(mul (conv_transpose:k ?x #w) #c)",
    when: &[
        (|m| m.used_once("k"), "the unscaled result is used elsewhere"),
        (|m| help::keeps_shape(m, "k"), "the scale widens the shape"),
        (|m| m.ty("w").dtype == m.root_ty().dtype && m.is_float(), "the weights are not floats of the result's type"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 4, 3]) -> (%r) {
          %w = weight @w : f32[4, 2, 3]
          %s = weight @s : f32[4, 1]
          %k = conv_transpose %x, %w {strides = [2], before = [0], after = [0], extra = [0], dilations = [1], groups = 2} : f32[1, 4, 7]
          %y = mul %k, %s : f32[1, 4, 7]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (w, rank) = (m.data("w")?, m.root_ty().rank());
    let groups = attrs!(m, "k", ConvTranspose).groups;
    let scale = help::per_channel(&m.data("c")?, 1, &m.root_ty().shape[1], rank)?;
    // Seen by group: weights [groups, C / groups, O / groups, ...], scales [groups, 1, O / groups, 1...].
    let mut by_group = vec![groups, w.shape[0] / groups];
    by_group.extend(&w.shape[1..]);
    let mut scales = vec![1; by_group.len()];
    if scale.len() > 1 {
        (scales[0], scales[2]) = (groups, w.shape[1]);
    }
    let scaled = help::combine(m, BinaryFn::Mul, &w.reshaped(by_group), &scale.reshaped(scales))?;
    let mut edit = Edit::new();
    let w = edit.constant(scaled.reshaped(w.shape), m.weight_name("w", "scaled"));
    let result = edit.op(attrs!(m, "k", ConvTranspose).clone(), &[m.v("x"), w]);
    Ok(edit.give(result))
}
