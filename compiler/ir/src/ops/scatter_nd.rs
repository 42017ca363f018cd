//! Writes slices by index tuples.

use super::scatter_elements::{ScatterMode, wrap_index};
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
            for axis in 0..k {
                to += wrap_index(indices.get(tuple * k + axis).as_i64(), axis, data.shape[axis])? * steps[axis];
            }
            for i in 0..slice {
                let cell = |i: usize| i * width..(i + 1) * width;
                self.mode.apply(data.dtype, &mut cells[cell(to + i)], &from[cell(tuple * slice + i)]);
            }
        }
        Ok(vec![Tensor::from_cells(data.dtype, data.shape.clone(), cells)])
    }
}
