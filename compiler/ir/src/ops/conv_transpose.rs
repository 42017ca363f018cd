//! Transposed convolution.

use crate::accumulate::{Accumulator, contracts};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::Const;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, bail, op, operands};
use crate::ops::conv::{check_groups, check_windows, dot, offsets, reach, spatial_axes};
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;

op! {
    /// Operands: x `[N, C, spatial...]`, w `[C, O / groups, kernel...]`. Output size per axis is
    /// `stride * (in - 1) + dilation * (kernel - 1) + 1 + extra - before - after`. Each element of the result accumulates in
    /// order from 0 over kernel positions (row-major) that hit it, and for each over the channels of its group, one fused
    /// multiply-add a step; beyond its edges x counts as zeros that are stored.
    "conv_transpose" => ConvTranspose {
        strides: Vec<usize>,
        /// Elements cut at the start of each spatial axis.
        before: Vec<Dim>,
        /// Elements cut at the end.
        after: Vec<Dim>,
        /// Zeros appended (`output_padding`).
        extra: Vec<usize>,
        dilations: Vec<usize>,
        groups: usize,
    }
}

impl OpImpl for ConvTranspose {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x, w] = operands(inputs)?;
        let spatial = spatial_axes(x, w)?;
        check_windows(spatial, &[&self.strides, &self.dilations], &[&self.before, &self.after])?;
        if self.extra.len() != spatial {
            bail!("attributes for {} spatial axes on operands with {spatial}", self.extra.len());
        }
        if !contracts(x.dtype, w.dtype, x.dtype) {
            bail!("does not take {} and {}", x.dtype, w.dtype);
        }
        let groups = check_groups(self.groups, "channels", &w.shape[0])?;
        if agree(&x.shape[1], &w.shape[0]).is_none() {
            bail!("the operand has {} channels, the kernel takes {}", x.shape[1], w.shape[0]);
        }
        let mut shape = vec![x.shape[0].clone(), &w.shape[1] * &groups];
        for i in 0..spatial {
            let steps = &(&x.shape[i + 2] - &Dim::ONE) * &Dim::from(self.strides[i]);
            let full = &(&steps + &reach(&w.shape[i + 2], self.dilations[i])) + &Dim::from(self.extra[i]);
            let size = &(&full - &self.before[i]) - &self.after[i];
            if size.as_const().is_some_and(|s| s < 0) {
                bail!("nothing is left of axis {} of size {full} after cutting", i + 2);
            }
            shape.push(size);
        }
        Ok(vec![Type::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let inputs = &[with_margins(self, &inputs[0], &inputs[1].shape, cx)?, inputs[1].clone()];
        let geometry = Geometry::new(self, &inputs[0].shape, &inputs[1].shape, cx)?;
        Ok(vec![match inputs[0].dtype {
            DType::F64 => transposed::<f64>(self, &geometry, inputs),
            t if t.is_float() => transposed::<f32>(self, &geometry, inputs),
            _ => transposed::<i64>(self, &geometry, inputs),
        }])
    }
}

/// Zeros that a spatial axis gets before and after it, so that every kernel position that hits a result reads something.
fn margins(op: &ConvTranspose, i: usize, kernel: usize, cx: &EvalCx) -> Result<(usize, usize), EvalError> {
    let stride = op.strides[i];
    let reach = kernel.saturating_sub(1).saturating_mul(op.dilations[i]) / stride + 1;
    let beyond = |cut: i64| usize::try_from(-cut.min(0)).unwrap_or(0);
    let (before, after) = (beyond(cx.dim(&op.before[i])?), beyond(cx.dim(&op.after[i])?));
    Ok((reach + before.div_ceil(stride), reach + (after + op.extra[i]).div_ceil(stride)))
}

/// The operand with its margins.
fn with_margins(op: &ConvTranspose, x: &Tensor, w: &[usize], cx: &EvalCx) -> Result<Tensor, EvalError> {
    let mut shape = x.shape.clone();
    let mut offset = 0;
    let margins: Vec<_> = (0..op.strides.len()).map(|i| margins(op, i, w[i + 2], cx)).collect::<Result<_, _>>()?;
    for (i, (before, after)) in margins.iter().enumerate() {
        shape[i + 2] += before + after;
    }
    let steps = strides(&shape);
    for (i, (before, _)) in margins.iter().enumerate() {
        offset += before * steps[i + 2];
    }
    let mut elements = vec![Const::number(x.dtype, 0.0); shape.iter().product()];
    let mut number = 0;
    for_each_index(&x.shape, |at| {
        elements[offset + at.iter().zip(&steps).map(|(i, s)| i * s).sum::<usize>()] = x.get(number);
        number += 1;
    });
    Ok(Tensor::from_consts(x.dtype, shape, elements))
}

/// Concrete sizes of the spatial axes, the margins of the operand included.
struct Geometry {
    image: Vec<usize>,
    kernel: Vec<usize>,
    out: Vec<usize>,
    /// Everything the kernel reaches, before cutting.
    full: Vec<usize>,
    /// Elements cut at the start.
    before: Vec<i64>,
}

impl Geometry {
    fn new(op: &ConvTranspose, x: &[usize], w: &[usize], cx: &EvalCx) -> Result<Geometry, EvalError> {
        // The result has the size that the operand without its margins gives.
        let (image, kernel) = (x[2..].to_vec(), w[2..].to_vec());
        let (mut out, mut full, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..image.len() {
            let (start, end) = (cx.dim(&op.before[i])?, cx.dim(&op.after[i])?);
            let (left, right) = margins(op, i, kernel[i], cx)?;
            let (start, end) = (start + (left * op.strides[i]) as i64, end + (right * op.strides[i]) as i64);
            let span = (image[i] as i64 - 1) * op.strides[i] as i64 + (kernel[i] as i64 - 1) * op.dilations[i] as i64 + 1;
            let size = span.saturating_add(op.extra[i] as i64).saturating_sub(start).saturating_sub(end);
            let size = usize::try_from(size)
                .map_err(|_| EvalError(format!("nothing is left of axis {} of size {span} after cutting", i + 2)))?;
            out.push(size);
            full.push(span.max(0) as usize);
            before.push(start);
        }
        Ok(Geometry { image, kernel, out, full, before })
    }
}

fn transposed<T: Accumulator>(op: &ConvTranspose, g: &Geometry, inputs: &[Tensor]) -> Tensor {
    let (x, w) = (T::load(&inputs[0]), T::load(&inputs[1]));
    let (batch, channels) = (inputs[0].shape[0], inputs[0].shape[1]);
    let (per_group, group_channels) = (inputs[1].shape[1], channels / op.groups);
    let (plane, positions): (usize, usize) = (g.image.iter().product(), g.kernel.iter().product());
    let offsets = offsets(&g.image, &op.strides, &g.full);
    let mut elements = Vec::new();
    for n in 0..batch {
        for o in 0..per_group * op.groups {
            let mut sums = vec![T::ZERO; g.full.iter().product()];
            let mut position = 0;
            for_each_index(&g.kernel, |k| {
                // The sums this kernel position hits, one for each element of the image.
                let base = dot(k, &op.dilations, &strides(&g.full));
                let mut hit: Vec<T> = offsets.iter().map(|i| sums[base + i]).collect();
                for c in o / per_group * group_channels..(o / per_group + 1) * group_channels {
                    let weight = w[(c * per_group + o % per_group) * positions + position];
                    T::add_scaled(&mut hit, &x[(n * channels + c) * plane..][..plane], weight);
                }
                offsets.iter().zip(hit).for_each(|(i, sum)| sums[base + i] = sum);
                position += 1;
            });
            cut(g, &sums, |sum| elements.push(sum.finish(inputs[0].dtype)));
        }
    }
    let shape = [&[batch, per_group * op.groups], g.out.as_slice()].concat();
    Tensor::from_consts(inputs[0].dtype, shape, elements)
}

/// Calls `f` with each sum that is part of the result, row-major; zero beyond what the kernel reaches.
fn cut<T: Accumulator>(g: &Geometry, sums: &[T], mut f: impl FnMut(T)) {
    let strides = strides(&g.full);
    for_each_index(&g.out, |at| {
        let position = |a: usize| usize::try_from(at[a] as i64 + g.before[a]).ok().filter(|&p| p < g.full[a]);
        let from: Option<usize> = (0..at.len()).map(|a| Some(position(a)? * strides[a])).sum();
        f(from.map_or(T::ZERO, |i| sums[i]));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval_f32, f32s, infer};

    /// Attributes for one spatial axis.
    fn op(stride: usize, cut: (i64, i64), extra: usize, dilation: usize, groups: usize) -> ConvTranspose {
        let (before, after) = (vec![Dim::from(cut.0)], vec![Dim::from(cut.1)]);
        ConvTranspose { strides: vec![stride], before, after, extra: vec![extra], dilations: vec![dilation], groups }
    }

    #[test]
    fn shapes() {
        assert_eq!(infer(op(2, (1, 1), 1, 1, 2), &["f32[N, 4, L]", "f32[4, 3, 3]"]), "f32[N, 6, 2*L]");
        let fails = |op: ConvTranspose, x: &str, w: &str, why: &str| assert_eq!(infer(op, &[x, w]), why);
        fails(op(1, (0, 0), 0, 1, 1), "f32[1, 2, 3]", "f32[3, 1, 3]", "the operand has 2 channels, the kernel takes 3");
        fails(op(1, (0, 0), 0, 1, 2), "f32[1, 3, 3]", "f32[3, 1, 3]", "3 channels do not divide into 2 groups");
        fails(op(1, (3, 3), 0, 1, 1), "f32[1, 1, 3]", "f32[1, 1, 3]", "nothing is left of axis 2 of size 5 after cutting");
        fails(op(0, (0, 0), 0, 1, 1), "f32[1, 1, 3]", "f32[1, 1, 3]", "strides and dilations must be positive");
        fails(op(1, (0, 0), 0, 1, 1), "f32[1, 1, 3]", "f64[1, 1, 3]", "does not take f32 and f64");
        fails(op(1, (0, 0), 0, 1, 1), "f32[1, 1, 3, 3]", "f32[1, 1, 3, 3]", "attributes for 1 spatial axes on operands with 2");
    }

    #[test]
    fn scatters_the_kernel() {
        let (x, w) = (f32s(&[1, 1, 2], &[1.0, 2.0]), f32s(&[1, 1, 3], &[1.0, 10.0, 100.0]));
        let run = |op: ConvTranspose| eval_f32(op, &[x.clone(), w.clone()]);
        assert_eq!(run(op(1, (0, 0), 0, 1, 1)), [1.0, 12.0, 120.0, 200.0]);
        assert_eq!(run(op(2, (0, 0), 1, 1, 1)), [1.0, 10.0, 102.0, 20.0, 200.0, 0.0]);
        assert_eq!(run(op(1, (1, 1), 0, 1, 1)), [12.0, 120.0]);
        assert_eq!(run(op(1, (0, 0), 0, 2, 1)), [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]);
        assert_eq!(run(op(1, (-1, 0), 0, 1, 1)), [0.0, 1.0, 12.0, 120.0, 200.0]);
    }

    #[test]
    fn groups_keep_apart() {
        let (x, w) = (f32s(&[1, 2, 1], &[1.0, 2.0]), f32s(&[2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]));
        assert_eq!(eval_f32(op(1, (0, 0), 0, 1, 1), &[x.clone(), w.clone()]), [201.0, 2010.0]);
        assert_eq!(eval_f32(op(1, (0, 0), 0, 1, 2), &[x, w]), [1.0, 10.0, 200.0, 2000.0]);
    }

    #[test]
    fn planes() {
        let (x, w) = (f32s(&[1, 1, 1, 2], &[1.0, 2.0]), f32s(&[1, 1, 2, 1], &[1.0, 10.0]));
        let zeros = vec![Dim::ZERO; 2];
        let op = ConvTranspose {
            strides: vec![1, 2],
            before: zeros.clone(),
            after: zeros,
            extra: vec![0, 0],
            dilations: vec![1, 1],
            groups: 1,
        };
        assert_eq!(eval_f32(op, &[x, w]), [1.0, 0.0, 2.0, 10.0, 0.0, 20.0]);
    }
}
