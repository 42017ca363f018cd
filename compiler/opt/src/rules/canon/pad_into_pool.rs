//! Zeros around the input of a summing pool are its padding. Not of a maximum, where padding does not count.

use xlac_ir::dim::Dim;
use xlac_ir::ops;
use xlac_ir::ops::pad::PadMode;
use xlac_ir::ops::pool::PoolFn;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/pad_into_pool",
    kind: Kind::Exact,
    from: "(pool:k (pad:p ?x 0))",
    when: &[
        (|m| attrs!(m, "p", Pad).mode == PadMode::Constant, "the pad repeats elements"),
        (|m| matches!(attrs!(m, "k", Pool).f, PoolFn::Sum | PoolFn::MeanPadded), "padding does not count in this pool"),
    ],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 2, 4, 4]) -> (%r) {
          %c = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %p = pad %x, %c {before = [0, 0, 1, 1], after = [0, 0, 1, 1], mode = constant} : f32[1, 2, 6, 6]
          %y = pool %p {f = mean_padded, kernel = [3, 3], strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], sizes = [4, 4]} : f32[1, 2, 4, 4]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let (pool, pad) = (attrs!(m, "k", Pool), attrs!(m, "p", Pad));
    if !help::pads_spatial_axes(m, pad) {
        return miss("it pads batch or channels, or removes elements");
    }
    let sum = |a: &[Dim], b: &[Dim]| a.iter().zip(&b[2..]).map(|(a, b)| a + b).collect();
    let (before, after) = (sum(&pool.before, &pad.before), sum(&pool.after, &pad.after));
    Ok(Edit::node(ops::Pool { before, after, ..pool.clone() }, &[m.v("x")]))
}
