//! Einsum: operands are multiplied two at a time, as batched matrix products over the labels they share.

use std::collections::BTreeMap;

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::kernel::Pred;
use xlac_ir::ops::reduce::ReduceFn;

use crate::builder::Builder;
use crate::fail::{Res, ensure};
use crate::node::Node;
use crate::ops::{MANY, OnnxOp, matmul};

pub const OPS: &[OnnxOp] = &[OnnxOp::new("Einsum", (1, MANY), import).attrs(&["equation"])];

/// A tensor whose axes have labels, each once.
#[derive(Clone)]
struct Labelled {
    value: ValueId,
    labels: Vec<char>,
}

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let operands = n.all_inputs()?;
    let ranks: Vec<usize> = operands.iter().map(|&v| b.rank(v)).collect();
    let (inputs, output) = parse(n.word("equation", "")?, &ranks)?;
    let mut terms = Vec::new();
    for (&value, labels) in operands.iter().zip(inputs) {
        terms.push(diagonal(b, value, labels)?);
    }
    let mut terms = terms.into_iter();
    let Some(mut result) = terms.next() else { return Ok(Vec::new()) };
    let rest: Vec<Labelled> = terms.collect();
    for (i, term) in rest.iter().enumerate() {
        let later: Vec<char> = rest[i + 1..].iter().flat_map(|t| t.labels.clone()).chain(output.clone()).collect();
        result = contract(b, result, term.clone(), &later)?;
    }
    let summed = sum_out(b, result, &output)?;
    let perm: Vec<usize> = output.iter().filter_map(|l| summed.labels.iter().position(|m| m == l)).collect();
    ensure!(perm.len() == output.len(), ATTRIBUTE_VALUE, "a label of the result is in no operand");
    Ok(vec![b.transpose(summed.value, &perm)?])
}

/// Labels of the operands and of the result; an ellipsis becomes labels of its own.
fn parse(equation: &str, ranks: &[usize]) -> Res<(Vec<Vec<char>>, Vec<char>)> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    ensure!(terms.len() == ranks.len(), ATTRIBUTE_VALUE, "`{equation}` has {} operands, the node {}", terms.len(), ranks.len());
    let mut widest = 0;
    let mut inputs = Vec::new();
    for (term, &rank) in terms.iter().zip(ranks) {
        let named = term.replace("...", "").chars().count();
        let hidden = if term.contains("...") { rank.checked_sub(named) } else { (rank == named).then_some(0) };
        let Some(hidden) = hidden else {
            crate::fail::bail!(TYPES, "`{term}` does not fit an operand of rank {rank}")
        };
        widest = widest.max(hidden);
        inputs.push(expand(term, hidden)?);
    }
    let output = match right {
        Some(r) => expand(r, widest)?,
        None => implicit(&inputs, widest),
    };
    let mut sorted = output.clone();
    sorted.sort_unstable();
    ensure!(sorted.windows(2).all(|w| w[0] != w[1]), ATTRIBUTE_VALUE, "a label is twice in the result of `{equation}`");
    Ok((inputs, output))
}

/// Label of the axis of an ellipsis that is `from_end` axes before its end: a digit-like private character.
fn hidden_label(from_end: usize) -> char { char::from_u32(0xE000 + from_end as u32 % 64).unwrap_or('\u{E000}') }

fn expand(term: &str, hidden: usize) -> Res<Vec<char>> {
    let ellipsis: String = (0..hidden).rev().map(hidden_label).collect();
    let labels: Vec<char> = term.replacen("...", &ellipsis, 1).chars().collect();
    let known = labels.iter().all(|c| c.is_ascii_alphabetic() || *c >= '\u{E000}');
    ensure!(known, ATTRIBUTE_VALUE, "`{term}` holds something that is no label");
    Ok(labels)
}

/// Without an arrow the result has the ellipsis, then the labels used once, in alphabetic order.
fn implicit(inputs: &[Vec<char>], widest: usize) -> Vec<char> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    inputs.iter().flatten().filter(|c| c.is_ascii()).for_each(|c| *counts.entry(*c).or_default() += 1);
    (0..widest).rev().map(hidden_label).chain(counts.into_iter().filter(|(_, n)| *n == 1).map(|(c, _)| c)).collect()
}

/// Repeated labels of one operand: the elements where these axes agree, summed over all but the first.
fn diagonal(b: &mut Builder, mut value: ValueId, mut labels: Vec<char>) -> Res<Labelled> {
    while let Some((first, again)) = repeated(&labels) {
        let shape = b.shape(value);
        b.equal(&shape[first], &shape[again], "axes with one label")?;
        let rank = shape.len();
        let i = b.iota_along(&shape[first], DType::I64, first, rank)?;
        let j = b.iota_along(&shape[again], DType::I64, again, rank)?;
        let on = b.compare(Pred::Eq, i, j)?;
        let zero = b.scalar(b.dtype(value), 0.0);
        let kept = b.select(on, value, zero)?;
        value = b.reduce(ReduceFn::Sum, kept, &[again], false)?;
        labels.remove(again);
    }
    Ok(Labelled { value, labels })
}

fn repeated(labels: &[char]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|i| (i + 1..labels.len()).find(|&j| labels[i] == labels[j]).map(|j| (i, j)))
}

/// Sums over the labels that nothing needs any more.
fn sum_out(b: &mut Builder, x: Labelled, needed: &[char]) -> Res<Labelled> {
    let axes: Vec<usize> = (0..x.labels.len()).filter(|&a| !needed.contains(&x.labels[a])).collect();
    let value = b.reduce(ReduceFn::Sum, x.value, &axes, false)?;
    Ok(Labelled { value, labels: x.labels.into_iter().filter(|l| needed.contains(l)).collect() })
}

/// The product of two operands, summed over the labels that only they have.
fn contract(b: &mut Builder, x: Labelled, y: Labelled, later: &[char]) -> Res<Labelled> {
    let with = |other: &Labelled| other.labels.iter().chain(later).copied().collect::<Vec<char>>();
    let x = sum_out(b, x.clone(), &with(&y))?;
    let y = sum_out(b, y.clone(), &with(&x))?;
    let (batch, inner): (Vec<char>, Vec<char>) =
        x.labels.iter().copied().filter(|l| y.labels.contains(l)).partition(|l| later.contains(l));
    let own = |t: &Labelled, other: &Labelled| t.labels.iter().copied().filter(|l| !other.labels.contains(l)).collect::<Vec<_>>();
    let (left, right) = (own(&x, &y), own(&y, &x));
    let (xb, xl, xi) = (dims(b, &x, &batch), dims(b, &x, &left), dims(b, &x, &inner));
    let (yb, yi, yr) = (dims(b, &y, &batch), dims(b, &y, &inner), dims(b, &y, &right));
    // Shared axes of size 1 are broadcast, as ellipses may ask for.
    let joined = |p: &[Dim], q: &[Dim]| -> Vec<Dim> { p.iter().zip(q).map(|(p, q)| if p.is(1) { q.clone() } else { p.clone() }).collect() };
    let (batch_dims, inner_dims) = (joined(&xb, &yb), joined(&xi, &yi));
    let product = |d: &[Dim]| Dim::product(d);
    let p = arrange(b, &x, &[&batch, &left, &inner], &[&batch_dims, &xl, &inner_dims])?;
    let p = b.reshape(p, &[product(&batch_dims), product(&xl), product(&inner_dims)])?;
    let q = arrange(b, &y, &[&batch, &inner, &right], &[&batch_dims, &inner_dims, &yr])?;
    let q = b.reshape(q, &[product(&batch_dims), product(&yi_or(&inner_dims, &yi)), product(&yr)])?;
    let t = b.dtype(p);
    let z = matmul::product(b, p, q, t)?;
    let shape: Vec<Dim> = batch_dims.into_iter().chain(xl).chain(yr).collect();
    let labels = batch.into_iter().chain(left).chain(right).collect();
    Ok(Labelled { value: b.reshape(z, &shape)?, labels })
}

/// The joined inner sizes: those of one operand alone may be 1.
fn yi_or(joined: &[Dim], own: &[Dim]) -> Vec<Dim> { if joined.is_empty() { own.to_vec() } else { joined.to_vec() } }

fn dims(b: &Builder, t: &Labelled, labels: &[char]) -> Vec<Dim> {
    let shape = b.shape(t.value);
    labels.iter().filter_map(|l| t.labels.iter().position(|m| m == l)).map(|a| shape[a].clone()).collect()
}

/// Axes in the order of the groups of labels, broadcast to these sizes.
fn arrange(b: &mut Builder, t: &Labelled, groups: &[&Vec<char>; 3], sizes: &[&[Dim]; 3]) -> Res<ValueId> {
    let order = groups.iter().flat_map(|g| g.iter());
    let perm: Vec<usize> = order.filter_map(|l| t.labels.iter().position(|m| m == l)).collect();
    let x = b.transpose(t.value, &perm)?;
    b.broadcast(x, &sizes.concat())
}
