//! Transposed convolutions as contractions: one for each residue of the output position modulo the stride.

use super::*;

/// Lowers a transposed convolution: for every residue of the output position modulo the stride, the kernel positions that
/// hit it form an ordinary convolution over the input, walked backwards.
pub fn conv_transpose(l: &mut Lowering, group: &Group, op: &ConvTranspose) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let (xv, wv, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let shape = l.g.ty(out).shape.clone();
    let w_shape = l.g.ty(wv).shape.clone();
    let spatial = op.strides.len();
    // Enough zeros on both sides that every kernel position reads something.
    let margin: Vec<Dim> = (0..spatial)
        .map(|s| {
            let reach = &(&w_shape[2 + s] - &Dim::ONE) * &Dim::from(op.dilations[s]);
            &reach.floor_div(&Dim::from(op.strides[s])) + &Dim::ONE
        })
        .collect();
    let after: Vec<Dim> = (0..spatial)
        .map(|s| {
            // The last output reads at most input position (out - 1 + before) / stride.
            let last = (&(&shape[2 + s] - &Dim::ONE) + &op.before[s]).floor_div(&Dim::from(op.strides[s]));
            let size = &l.g.ty(xv).shape[2 + s];
            (&(&last - size) + &Dim::ONE).at_least(&Dim::ZERO)
        })
        .collect();
    let kernel: Option<Vec<i64>> = w_shape[2..].iter().map(Dim::as_const).collect();
    let before: Option<Vec<i64>> = op.before.iter().map(Dim::as_const).collect();
    let (Some(kernel), Some(before)) = (kernel, before) else {
        return Err(CompileError { reason: "the kernel or padding of a transposed convolution is symbolic".into(), loc: l.loc(group) });
    };
    let x = padded(l, xv, &margin, &after);
    let w = l.access(wv);
    let phases: Vec<usize> = op.strides.clone();
    let mut result = Ok(());
    xlac_ir::tensor::for_each_index(&phases, |phase| {
        if result.is_ok() {
            let c = transposed_phase(l, group, op, phase, &kernel, &before, &margin, &x, &w, &shape);
            result = c.map_or(Ok(()), |c| emit(l, group, c));
        }
    });
    result
}

/// The contraction for the outputs whose position is `phase` modulo the strides; none if there is no such output.
#[allow(clippy::too_many_arguments)]
fn transposed_phase(
    l: &Lowering,
    group: &Group,
    op: &ConvTranspose,
    phase: &[usize],
    kernel: &[i64],
    before: &[i64],
    margin: &[Dim],
    x: &Place,
    w: &Place,
    shape: &[Dim],
) -> Option<Contraction> {
    let w_shape = &l.g.ty(l.anchor(group).inputs[1]).shape;
    let per_group = w_shape[1].clone();
    let channels = w_shape[0].floor_div(&Dim::from(op.groups));
    let mut axes = vec![Axis { role: Role::Row, size: shape[0].clone(), axis: 0, step: Dim::ONE, a: x.view.strides[0].clone() }];
    let mut b_batch = Vec::new();
    if op.groups > 1 {
        b_batch.push(&w.view.strides[0] * &channels);
        let a = &channels * &x.view.strides[1];
        axes.push(Axis { role: Role::Batch, size: Dim::from(op.groups), axis: 1, step: per_group.clone(), a });
    }
    let mut starts = vec![Dim::ZERO; shape.len()];
    let mut steps = vec![1; shape.len()];
    let (mut a_offset, mut b_offset) = (x.view.offset.clone(), w.view.offset.clone());
    let (mut k, mut b_k) = (Vec::new(), Vec::new());
    for s in 0..phase.len() {
        let (stride, dilation) = (op.strides[s] as i64, op.dilations[s] as i64);
        let (x_stride, w_stride) = (&x.view.strides[2 + s], &w.view.strides[2 + s]);
        // Kernel positions that hit: they recur with a period, the stride over its common divisor with the dilation.
        let target = phase[s] as i64 + before[s];
        let hits: Vec<i64> = (0..kernel[s]).filter(|j| (target - j * dilation).rem_euclid(stride) == 0).collect();
        let first = hits.first().copied().unwrap_or(0);
        let period = hits.get(1).map_or(1, |second| second - first);
        let from = (target - first * dilation).div_euclid(stride);
        a_offset = &a_offset + &(x_stride * &(&margin[s] + &Dim::from(from)));
        b_offset = &b_offset + &(w_stride * &Dim::from(first));
        k.push((Dim::from(hits.len()), x_stride * &Dim::from(-(period * dilation / stride))));
        b_k.push(w_stride * &Dim::from(period));
        let count = (&shape[2 + s] - &Dim::from(phase[s])).ceil_div(&Dim::from(stride));
        if count.as_const().is_some_and(|c| c <= 0) {
            return None;
        }
        starts[2 + s] = Dim::from(phase[s]);
        steps[2 + s] = stride;
        axes.push(Axis { role: Role::Row, size: count, axis: 2 + s, step: Dim::ONE, a: x_stride.clone() });
    }
    axes.push(Axis { role: Role::Col, size: per_group, axis: 1, step: Dim::ONE, a: Dim::ZERO });
    k.push((channels, x.view.strides[1].clone()));
    b_k.push(w.view.strides[0].clone());
    let a = Place { view: View { offset: a_offset, ..x.view.clone() }, ..x.clone() };
    let place = Place { view: View { offset: b_offset, ..w.view.clone() }, ..w.clone() };
    let b = Second::View { place, batch: b_batch, k: b_k, n: w.view.strides[1].clone() };
    let acc = l.g.ty(l.anchor(group).outputs[0]).dtype.compute();
    Some(Contraction { axes, k, a, b, acc, part: Some((starts, steps)) })
}
