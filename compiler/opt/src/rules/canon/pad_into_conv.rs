//! Zeros around the input of a convolution are its padding.

use xlac_ir::dim::Dim;
use xlac_ir::ops;
use xlac_ir::ops::pad::PadMode;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/pad_into_conv",
    kind: Kind::Exact,
    from: "(conv:k (pad:p ?x 0) ?w)",
    when: &[
        (|m| attrs!(m, "p", Pad).mode == PadMode::Constant, "the pad repeats elements"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 2, 4, 4]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %w = weight @w : f32[3, 2, 3, 3]
          %p = pad %x, %c {before = [0, 0, 1, 0], after = [0, 0, 1, 2], mode = constant} : f32[1, 2, 6, 6]
          %y = conv %p, %w {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32} : f32[1, 3, 4, 4]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (conv, pad) = (attrs!(m, "k", Conv), attrs!(m, "p", Pad));
    if !help::pads_spatial_axes(m, pad) {
        return miss("it pads batch or channels, or removes elements");
    }
    let sum = |a: &[Dim], b: &[Dim]| a.iter().zip(&b[2..]).map(|(a, b)| a + b).collect();
    let (before, after) = (sum(&conv.before, &pad.before), sum(&conv.after, &pad.after));
    Ok(Edit::node(ops::Conv { before, after, ..conv.clone() }, &[m.v("x"), m.v("w")]))
}
