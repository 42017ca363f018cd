//! Picking constant positions at an even distance is a slice.

use xlac_ir::dim::Dim;
use xlac_ir::ops;

use crate::attrs;
use crate::edit::Edit;
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/gather_known",
    kind: Kind::Exact,
    from: "(gather:g ?x #i)",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[4, 3]) -> (%r) {
          %i = constant {dtype = i64, shape = [], bits = [-1]} : i64[]
          %y = gather %x, %i {axis = 0} : f32[3]
          yield %y
        }
    ",
};

fn into(m: &Match) -> Result<Edit, Miss> {
    let axis = attrs!(m, "g", Gather).axis;
    let Some(size) = m.shape("x")[axis].as_const() else { return miss("the size of the axis is not known") };
    let indices: Vec<i64> = m.data("i")?.to_i64().into_iter().map(|i| if i < 0 { i + size } else { i }).collect();
    let Some(&first) = indices.first() else { return miss("it picks nothing") };
    if indices.iter().any(|i| !(0..size).contains(i)) {
        return miss("an index is out of range");
    }
    let step = indices.get(1).map_or(1, |second| second - first);
    if step == 0 || indices.windows(2).any(|w| w[1] - w[0] != step) {
        return miss("the distances between the positions differ");
    }
    let shape = m.shape("x");
    let mut slice =
        ops::Slice { starts: vec![Dim::ZERO; shape.len()], steps: vec![1; shape.len()], sizes: shape.to_vec() };
    slice.starts[axis] = Dim::from(first);
    slice.steps[axis] = step;
    slice.sizes[axis] = Dim::from(indices.len());
    let mut edit = Edit::new();
    let part = edit.op(slice, &[m.v("x")]);
    let result = edit.op(help::reshape(&m.root_ty().shape), &[part]);
    Ok(edit.give(result))
}
