//! Convolution (cross-correlation, as in ONNX).

use crate::accumulate::{Accumulator, contracts};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, bail, op, operands};
use crate::tensor::{Tensor, for_each_index, strides};
use crate::types::Type;

op! {
    /// Operands: x `[N, C, spatial...]`, w `[O, C / groups, kernel...]`, 1 to 3 spatial axes. Each element of the result
    /// accumulates in order from 0 over kernel positions (row-major), and for each over the channels of its group, one fused
    /// multiply-add a step; padding contributes zeros as if stored. Narrow floats accumulate in f32, integers wrap in `out`.
    "conv" => Conv {
        strides: Vec<usize>,
        /// Zeros before each spatial axis; may be symbolic (`SAME_*`).
        before: Vec<Dim>,
        /// Zeros after each spatial axis.
        after: Vec<Dim>,
        dilations: Vec<usize>,
        groups: usize,
        /// Element type of the result.
        out: DType,
    }
}

impl OpImpl for Conv {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [x, w] = operands(inputs)?;
        let spatial = spatial_axes(x, w)?;
        check_windows(spatial, &[&self.strides, &self.dilations], &[&self.before, &self.after])?;
        if !contracts(x.dtype, w.dtype, self.out) {
            bail!("does not take {} and {} to {}", x.dtype, w.dtype, self.out);
        }
        let channels = &w.shape[1] * &check_groups(self.groups, "output channels", &w.shape[0])?;
        if agree(&x.shape[1], &channels).is_none() {
            bail!("the operand has {} channels, the kernel takes {channels}", x.shape[1]);
        }
        let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
        for i in 0..spatial {
            let padded = &(&x.shape[i + 2] + &self.before[i]) + &self.after[i];
            let reach = reach(&w.shape[i + 2], self.dilations[i]);
            let room = &padded - &reach;
            if room.as_const().is_some_and(|r| r < 0) {
                bail!("a kernel that spans {reach} does not fit axis {} of padded size {padded}", i + 2);
            }
            shape.push(&room.floor_div(&Dim::from(self.strides[i])) + &Dim::ONE);
        }
        Ok(vec![Type::new(self.out, shape)])
    }

    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let geometry = Geometry::new(self, &inputs[0].shape, &inputs[1].shape, cx)?;
        Ok(vec![match self.out {
            DType::F64 => convolve::<f64>(self, &geometry, inputs),
            t if t.is_float() => convolve::<f32>(self, &geometry, inputs),
            _ => convolve::<i64>(self, &geometry, inputs),
        }])
    }
}

/// Number of spatial axes of an image and a kernel.
pub fn spatial_axes(x: &Type, w: &Type) -> Result<usize, InferError> {
    if !(3..=5).contains(&x.rank()) {
        bail!("has 1 to 3 spatial axes, and so operands of rank 3 to 5, not {}", x.rank());
    }
    if w.rank() != x.rank() {
        bail!("operands have different ranks: {} and {}", x.rank(), w.rank());
    }
    if let Some(size) = w.shape[2..].iter().find(|d| d.as_const().is_some_and(|d| d < 1)) {
        bail!("the kernel has an axis of size {size}");
    }
    Ok(x.rank() - 2)
}

/// Requires one positive step and one padding for each spatial axis.
pub fn check_windows(spatial: usize, steps: &[&[usize]], pads: &[&[Dim]]) -> Result<(), InferError> {
    let lengths = steps.iter().map(|s| s.len()).chain(pads.iter().map(|p| p.len()));
    for n in lengths {
        if n != spatial {
            bail!("attributes for {n} spatial axes on operands with {spatial}");
        }
    }
    if steps.iter().any(|s| s.contains(&0)) {
        bail!("strides and dilations must be positive");
    }
    Ok(())
}

/// The number of groups as a dim, if it divides the channels.
pub fn check_groups(groups: usize, what: &str, channels: &Dim) -> Result<Dim, InferError> {
    if groups == 0 {
        bail!("there must be at least one group");
    }
    if channels.as_const().is_some_and(|c| c % groups as i64 != 0) {
        bail!("{channels} {what} do not divide into {groups} groups");
    }
    Ok(Dim::from(groups))
}

/// Elements a dilated kernel axis spans.
pub fn reach(kernel: &Dim, dilation: usize) -> Dim { &(&(kernel - &Dim::ONE) * &Dim::from(dilation)) + &Dim::ONE }

/// Concrete sizes of a convolution.
struct Geometry {
    /// Batch size.
    batch: usize,
    /// Input channels of a group.
    channels: usize,
    /// Output channels of all groups.
    out_channels: usize,
    /// Input, kernel and output sizes of the spatial axes.
    image: Vec<usize>,
    kernel: Vec<usize>,
    out: Vec<usize>,
    /// Spatial sizes of the image with padding, and where the image lies in it.
    padded: Vec<usize>,
    before: Vec<i64>,
}

impl Geometry {
    fn new(op: &Conv, x: &[usize], w: &[usize], cx: &EvalCx) -> Result<Geometry, EvalError> {
        let (image, kernel) = (x[2..].to_vec(), w[2..].to_vec());
        let (mut padded, mut before, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..image.len() {
            let (start, end) = (cx.dim(&op.before[i])?, cx.dim(&op.after[i])?);
            let size = (image[i] as i64).saturating_add(start).saturating_add(end);
            let span = (kernel[i] as i64 - 1) * op.dilations[i] as i64 + 1;
            if size < span {
                return Err(EvalError(format!("a kernel that spans {span} does not fit axis {} of padded size {size}", i + 2)));
            }
            padded.push(size as usize);
            before.push(start);
            out.push((size - span) as usize / op.strides[i] + 1);
        }
        Ok(Geometry { batch: x[0], channels: w[1], out_channels: w[0], image, kernel, out, padded, before })
    }
}

fn convolve<T: Accumulator>(op: &Conv, g: &Geometry, inputs: &[Tensor]) -> Tensor {
    let (x, w) = (T::load(&inputs[0]), T::load(&inputs[1]));
    let (channels, per_group) = (g.channels * op.groups, g.out_channels / op.groups);
    let (plane, positions): (usize, usize) = (g.padded.iter().product(), g.kernel.iter().product());
    let offsets = offsets(&g.out, &op.strides, &g.padded);
    let mut elements = Vec::new();
    for n in 0..g.batch {
        let image = pad_image(g, channels, &x[n * x.len() / g.batch..(n + 1) * x.len() / g.batch]);
        for group in 0..op.groups {
            let (first_in, first_out) = (group * g.channels, group * per_group);
            let mut sums = vec![T::ZERO; per_group * offsets.len()];
            let mut position = 0;
            for_each_index(&g.kernel, |k| {
                // What this kernel position sees, channel by channel: shared by all output channels.
                let base = dot(k, &op.dilations, &strides(&g.padded));
                let seen = |c: usize| &image[(first_in + c) * plane + base..];
                let columns: Vec<T> = (0..g.channels).flat_map(|c| offsets.iter().map(move |&i| seen(c)[i])).collect();
                for (o, sums) in sums.chunks_mut(offsets.len()).enumerate() {
                    for (c, column) in columns.chunks(offsets.len()).enumerate() {
                        T::add_scaled(sums, column, w[((first_out + o) * g.channels + c) * positions + position]);
                    }
                }
                position += 1;
            });
            elements.extend(sums.into_iter().map(|sum| sum.finish(op.out)));
        }
    }
    let shape = [&[g.batch, g.out_channels], g.out.as_slice()].concat();
    Tensor::from_consts(op.out, shape, elements)
}

/// Row-major offsets in a plane of shape `plane` of the elements at every `steps`-th position, for `count` positions.
pub fn offsets(count: &[usize], steps: &[usize], plane: &[usize]) -> Vec<usize> {
    let strides = strides(plane);
    let mut out = Vec::with_capacity(count.iter().product());
    for_each_index(count, |at| out.push(dot(at, steps, &strides)));
    out
}

/// Sum of products of three.
pub fn dot(a: &[usize], b: &[usize], c: &[usize]) -> usize { a.iter().zip(b).zip(c).map(|((a, b), c)| a * b * c).sum() }

/// One image with zeros around its channels; negative padding cuts.
fn pad_image<T: Accumulator>(g: &Geometry, channels: usize, image: &[T]) -> Vec<T> {
    let plane: usize = g.padded.iter().product();
    let mut out = vec![T::ZERO; channels * plane];
    let strides = strides(&g.padded);
    let mut elements = image.iter();
    for c in 0..channels {
        for_each_index(&g.image, |at| {
            let Some(&element) = elements.next() else { return };
            let mut to = c * plane;
            for axis in 0..at.len() {
                let moved = at[axis] as i64 + g.before[axis];
                match usize::try_from(moved) {
                    Ok(p) if p < g.padded[axis] => to += p * strides[axis],
                    _ => return,
                }
            }
            out[to] = element;
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, eval_i64, f32s, infer};
    use crate::kernel::Const;

    /// Square attributes for some spatial axes.
    fn op(spatial: usize, stride: usize, pad: i64, dilation: usize, groups: usize, out: DType) -> Conv {
        let pads = vec![Dim::from(pad); spatial];
        Conv { strides: vec![stride; spatial], before: pads.clone(), after: pads, dilations: vec![dilation; spatial], groups, out }
    }

    #[test]
    fn shapes() {
        let f32 = |spatial, stride, pad, dilation, groups| op(spatial, stride, pad, dilation, groups, DType::F32);
        assert_eq!(infer(f32(2, 2, 1, 1, 1), &["f32[N, 3, 8, H]", "f32[5, 3, 3, 3]"]), "f32[N, 5, 4, floordiv(H + 1, 2)]");
        assert_eq!(infer(f32(1, 1, 0, 2, 3), &["f32[1, 6, 9]", "f32[3, 2, 3]"]), "f32[1, 3, 5]");
        let fails = |op: Conv, x: &str, w: &str, why: &str| assert_eq!(infer(op, &[x, w]), why);
        fails(f32(1, 1, 0, 1, 1), "f32[1, 2]", "f32[1, 2]", "has 1 to 3 spatial axes, and so operands of rank 3 to 5, not 2");
        fails(f32(1, 1, 0, 1, 1), "f32[1, 2, 3]", "f32[1, 2]", "operands have different ranks: 3 and 2");
        fails(f32(2, 1, 0, 1, 1), "f32[1, 2, 3]", "f32[1, 2, 3]", "attributes for 2 spatial axes on operands with 1");
        fails(f32(1, 0, 0, 1, 1), "f32[1, 2, 3]", "f32[1, 2, 3]", "strides and dilations must be positive");
        fails(f32(1, 1, 0, 1, 1), "f32[1, 2, 3]", "f32[1, 3, 3]", "the operand has 2 channels, the kernel takes 3");
        fails(f32(1, 1, 0, 1, 2), "f32[1, 2, 3]", "f32[3, 1, 3]", "3 output channels do not divide into 2 groups");
        fails(f32(1, 1, 0, 1, 0), "f32[1, 2, 3]", "f32[3, 1, 3]", "there must be at least one group");
        fails(f32(1, 1, 0, 2, 1), "f32[1, 2, 4]", "f32[1, 2, 3]", "a kernel that spans 5 does not fit axis 2 of padded size 4");
        fails(f32(1, 1, 0, 1, 1), "f64[1, 2, 4]", "f64[1, 2, 3]", "does not take f64 and f64 to f32");
        fails(f32(1, 1, 0, 1, 1), "f32[1, 2, 4]", "f32[1, 2, 0]", "the kernel has an axis of size 0");
    }

    #[test]
    fn rows_with_stride_padding_and_dilation() {
        let (x, w) = (f32s(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]), f32s(&[1, 1, 2], &[10.0, 1.0]));
        assert_eq!(eval_f32(op(1, 1, 0, 1, 1, DType::F32), &[x.clone(), w.clone()]), [12.0, 23.0, 34.0]);
        assert_eq!(eval_f32(op(1, 2, 1, 1, 1, DType::F32), &[x.clone(), w.clone()]), [1.0, 23.0, 40.0]);
        assert_eq!(eval_f32(op(1, 1, 0, 2, 1, DType::F32), &[x.clone(), w.clone()]), [13.0, 24.0]);
        // Negative padding cuts.
        assert_eq!(eval_f32(op(1, 1, -1, 1, 1, DType::F32), &[x, w]), [23.0]);
    }

    #[test]
    fn planes_of_groups() {
        let x = f32s(&[1, 2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let w = f32s(&[2, 1, 2, 1], &[1.0, 10.0, 2.0, 0.0]);
        assert_eq!(eval_f32(op(2, 1, 0, 1, 2, DType::F32), &[x, w]), [31.0, 42.0, 10.0, 12.0]);
    }

    #[test]
    fn padding_is_a_stored_zero() {
        let (x, w) = (f32s(&[1, 1, 1], &[1.0]), f32s(&[1, 1, 3], &[f32::INFINITY, 1.0, 1.0]));
        assert!(eval_f32(op(1, 1, 1, 1, 1, DType::F32), &[x, w])[0].is_nan());
    }

    #[test]
    fn bytes_are_widened_before() {
        let bytes = |dtype, shape: &[usize], x: &[i64]| {
            Tensor::from_consts(dtype, shape.to_vec(), x.iter().map(|&x| Const::int(dtype, x)))
        };
        let (x, w) = (bytes(DType::U8, &[1, 2, 1], &[255, 200]), bytes(DType::I8, &[1, 2, 1], &[-128, 127]));
        assert_eq!(eval_i64(op(1, 1, 0, 1, 1, DType::I32), &[x, w]), [255 * -128 + 200 * 127]);
    }

    #[test]
    fn half_precision_rounds_once() {
        let half = |x: &[f64]| Tensor::from_consts(DType::F16, vec![1, x.len(), 1], x.iter().map(|&x| Const::number(DType::F16, x)));
        // 2048 + 1 - 2048: a sum in f16 would lose the 1.
        let (x, w) = (half(&[2048.0, 1.0, -2048.0]), half(&[1.0, 1.0, 1.0]));
        assert_eq!(eval(op(1, 1, 0, 1, 1, DType::F16), &[x, w]).unwrap().to_f32(), [1.0]);
    }

    #[test]
    fn empty_batches_are_fine() {
        let op = op(1, 1, 0, 1, 1, DType::F32);
        assert_eq!(eval_f32(op, &[f32s(&[0, 1, 3], &[]), f32s(&[1, 1, 3], &[1.0; 3])]), [0.0; 0]);
    }

    #[test]
    fn no_channels_give_zeros() {
        let op = op(1, 1, 0, 1, 1, DType::F32);
        assert_eq!(eval_f32(op, &[f32s(&[1, 0, 3], &[]), f32s(&[2, 0, 3], &[])]), [0.0; 2]);
    }
}
