//! The whole pipeline on small models, as snapshots.

use xlac_ir::text;

use super::{difference, outputs, parse};
use crate::{Options, optimize};

/// The optimized text, held to the results before.
fn optimized(source: &str) -> String {
    let before = parse(source);
    let mut after = before.clone();
    optimize(&mut after, &mut Options { verify: true, ..Options::default() }).unwrap();
    for seed in [1, 2] {
        let (a, b) = (outputs(&before, &before, seed).unwrap(), outputs(&after, &before, seed).unwrap());
        assert_eq!(difference(&a, &b, Some(1e-4)), None);
    }
    text::print(&after)
}

#[test]
fn small_cnn() {
    insta::assert_snapshot!(optimized(include_str!("small_cnn.xir")));
}

#[test]
fn transformer_block() {
    insta::assert_snapshot!(optimized(include_str!("transformer_block.xir")));
}

#[test]
fn dynamic_shapes() {
    insta::assert_snapshot!(optimized(include_str!("dynamic_shapes.xir")));
}
