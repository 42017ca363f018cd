//! ConvTranspose: transposed convolution; the padding follows from the output shape where that is given.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::ConvTranspose;

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::Node;
use crate::ops::{OnnxOp, conv};
use crate::window::kernel;

pub const OPS: &[OnnxOp] = &[OnnxOp::new("ConvTranspose", (2, 3), import).attrs(&[
    "auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape", "pads", "strides",
])];

fn import(n: &Node, b: &mut Builder) -> Res<Vec<ValueId>> {
    let (x, w) = (n.input(0)?, n.input(1)?);
    let (xs, ws) = (b.shape(x), b.shape(w));
    ensure!(xs.len() >= 3 && ws.len() == xs.len(), TYPES, "input and weights have {} and {} axes", xs.len(), ws.len());
    b.equal(&xs[1], &ws[0], "channels of input and weights")?;
    let groups = n.size("group", 1)?;
    let rank = xs.len() - 2;
    let kernel = kernel(n, Some(&ws[2..]), rank)?;
    let strides = n.sizes("strides", rank, 1, 1)?;
    let dilations = n.sizes("dilations", rank, 1, 1)?;
    let mut extra = n.sizes("output_padding", rank, 0, 0)?;
    let full: Vec<Dim> = (0..rank)
        .map(|i| {
            let steps = &Dim::from(strides[i]) * &(&xs[2 + i] - &Dim::ONE);
            &steps + &Dim::from(dilations[i] * (kernel[i] - 1) + 1 + extra[i])
        })
        .collect();
    let (before, after) = padding(n, &xs[2..], &strides, &full, &mut extra)?;
    let y = b.op(ConvTranspose { strides, before, after, extra, dilations, groups }, &[x, w])?;
    Ok(vec![conv::bias(b, y, n.opt(2))?])
}

/// What is cut at the start and end of each axis; an output larger than there is gets zeros at its end instead.
fn padding(n: &Node, spatial: &[Dim], strides: &[usize], full: &[Dim], extra: &mut [usize]) -> Res<(Vec<Dim>, Vec<Dim>)> {
    let rank = spatial.len();
    let auto = n.word("auto_pad", "NOTSET")?;
    let wanted: Option<Vec<Dim>> = match (n.ints("output_shape")?, auto) {
        (Some(shape), _) => {
            // Some exporters write the whole shape, with batch and channels.
            let shape = &shape[shape.len().saturating_sub(rank)..];
            ensure!(shape.len() == rank, ATTRIBUTE_VALUE, "`output_shape` has {} elements, expected {rank}", shape.len());
            Some(shape.iter().map(|&d| Dim::from(d)).collect())
        }
        (None, "SAME_UPPER" | "SAME_LOWER") => Some((0..rank).map(|i| &spatial[i] * &Dim::from(strides[i])).collect()),
        (None, "NOTSET" | "VALID" | "") => None,
        (None, other) => bail!(ATTRIBUTE_VALUE, "`auto_pad` cannot be `{other}`"),
    };
    let Some(wanted) = wanted else {
        let pads = if auto == "VALID" { vec![0; 2 * rank] } else { n.sizes("pads", 2 * rank, 0, 0)? };
        let dims = |p: &[usize]| p.iter().map(|&p| Dim::from(p)).collect();
        return Ok((dims(&pads[..rank]), dims(&pads[rank..])));
    };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for i in 0..rank {
        let total = &full[i] - &wanted[i];
        if let Some(missing) = total.as_const().filter(|&t| t < 0) {
            extra[i] += usize::try_from(-missing).unwrap_or(0);
            before.push(Dim::ZERO);
            after.push(Dim::ZERO);
            continue;
        }
        let less = total.floor_div(&Dim::from(2i64));
        let more = &total - &less;
        let (first, last) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
        before.push(first);
        after.push(last);
    }
    Ok((before, after))
}
