//! Writes slices by index tuples.

use super::gather::wrap_index;
use super::scatter_elements::ScatterMode;
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, agree, arity, bail, check_dtype, op};
use crate::tensor::{Tensor, strides};
use crate::types::Type;

op! {
    /// ONNX ScatterND: operands data, i64 indices whose last axis holds tuples, updates. Updates apply in row-major
    /// order. Negative indices count from the end; indices out of range are a checked error.
    "scatter_nd" => ScatterNd { mode: ScatterMode }
}

impl OpImpl for ScatterNd {
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> {
        arity(inputs, 3)?;
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        check_dtype("the indices", indices, DType::I64)?;
        check_dtype("the updates", updates, data.dtype)?;
        self.mode.check(data.dtype)?;
        let Some((last, outer)) = indices.shape.split_last() else { bail!("the indices need an axis of tuples") };
        let len = last.as_const().and_then(|k| usize::try_from(k).ok());
        let Some(k) = len.filter(|&k| k <= data.rank()) else {
            bail!("index tuples of {last} elements for rank {}", data.rank());
        };
        let expected = [outer, &data.shape[k..]].concat();
        let same = expected.len() == updates.rank()
            && expected.iter().zip(&updates.shape).all(|(a, b)| agree(a, b).is_some());
        if !same {
            bail!("the updates are {updates}, {} is needed", Type::new(data.dtype, expected));
        }
        Ok(vec![data.clone()])
    }

    fn eval(&self, inputs: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        let Some((&k, outer)) = indices.shape.split_last() else {
            return Err(EvalError("the indices need an axis of tuples".into()));
        };
        if [outer, &data.shape[k..]].concat() != updates.shape {
            let shapes = (&data.shape, &indices.shape, &updates.shape);
            return Err(EvalError(format!("data, indices and updates of shapes {shapes:?} do not fit")));
        }
        let steps = strides(&data.shape);
        let slice: usize = data.shape[k..].iter().product();
        let width = data.dtype.bits().div_ceil(8);
        let (mut cells, from) = (data.cells().to_vec(), updates.cells());
        for tuple in 0..outer.iter().product() {
            let mut to = 0;
            for (axis, step) in steps.iter().enumerate().take(k) {
                let index = indices.get(tuple * k + axis).as_i64();
                to += wrap_index(index, axis, data.shape[axis])? * step;
            }
            for i in 0..slice {
                let cell = |i: usize| i * width..(i + 1) * width;
                self.mode.apply(data.dtype, &mut cells[cell(to + i)], &from[cell(tuple * slice + i)]);
            }
        }
        Ok(vec![Tensor::from_cells(data.dtype, data.shape.clone(), cells)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, eval_f32, f32s, i64s, infer};

    const SET: ScatterNd = ScatterNd { mode: ScatterMode::Set };

    #[test]
    fn shapes() {
        assert_eq!(infer(SET, &["f32[N, 5]", "i64[2, 1]", "f32[2, 5]"]), "f32[N, 5]");
        assert_eq!(infer(SET, &["f32[4, 5]", "i64[2, 3]", "f32[2]"]), "index tuples of 3 elements for rank 2");
        assert_eq!(infer(SET, &["f32[4, 5]", "i64[2, K]", "f32[2]"]), "index tuples of K elements for rank 2");
        assert_eq!(infer(SET, &["f32[4, 5]", "i64[2, 1]", "f32[2, 4]"]), "the updates are f32[2, 4], f32[2, 5] is needed");
        assert_eq!(infer(SET, &["f32[4]", "i64[]", "f32[]"]), "the indices need an axis of tuples");
    }

    #[test]
    fn writes_slices_and_elements() {
        let data = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let rows = eval_f32(SET, &[data.clone(), i64s(&[1, 1], &[-1]), f32s(&[1, 2], &[8.0, 9.0])]);
        assert_eq!(rows, [1.0, 2.0, 8.0, 9.0]);
        let add = ScatterNd { mode: ScatterMode::Add };
        let sums = eval_f32(add, &[data.clone(), i64s(&[2, 2], &[0, 1, 0, 1]), f32s(&[2], &[10.0, 100.0])]);
        assert_eq!(sums, [1.0, 112.0, 3.0, 4.0]);
        let all = eval_f32(SET, &[data, i64s(&[0], &[]), f32s(&[2, 2], &[5.0; 4])]);
        assert_eq!(all, [5.0; 4]);
    }

    #[test]
    fn indices_are_checked() {
        let run = eval(SET, &[f32s(&[2, 2], &[0.0; 4]), i64s(&[1, 2], &[1, 2]), f32s(&[1], &[1.0])]);
        assert_eq!(run.unwrap_err(), "index 2 is outside axis 1 of size 2");
    }
}
