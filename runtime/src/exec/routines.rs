//! Calls host routines: sizes their results, binds what they find, moves operands where the routine can see them.

use super::{Machine, bind, byte_len};
use crate::error::{Error, Result};
use crate::expr::Values;
use crate::host;
use crate::model::Inner;
use crate::plan::{ExprId, Host, Operand, Routine};
use crate::tensor;

/// Runs one host routine.
pub(super) fn run<M: Machine>(inner: &Inner, machine: &mut M, routine: &Host) -> Result<()> {
    match routine.routine {
        Routine::TopK { axis, largest } => top_k(inner, machine, routine, axis as usize, largest),
        Routine::NonZero => nonzero(inner, machine, routine),
    }
}

fn top_k<M: Machine>(inner: &Inner, machine: &mut M, routine: &Host, axis: usize, largest: bool) -> Result<()> {
    let (x, values, indices) = (&routine.inputs[0], &routine.outputs[0], &routine.outputs[1]);
    let x_bytes = byte_len(&machine.progress().values, x.dtype, &x.shape)?;
    let value_bytes = make_room(inner, machine, 1, values)?;
    let index_bytes = make_room(inner, machine, 2, indices)?;
    let case = top_k_case(&machine.progress().values, x, values, axis, largest)?;
    if index_bytes != value_bytes / values.dtype.size() * 8 {
        return crate::check::bad("the outputs of TopK differ in shape");
    }
    machine.fetch(0, x.buffer, x_bytes)?;
    // The working memory goes back afterwards: it is kept between calls.
    let mut keys = std::mem::take(&mut machine.progress_mut().keys);
    let (x_view, value_view) =
        (machine.operand(0, x.buffer, x_bytes)?, machine.operand(1, values.buffer, value_bytes)?);
    let index_view = machine.operand(2, indices.buffer, index_bytes)?;
    host::top_k(x.dtype, &case, x_view, value_view, index_view, &mut keys);
    machine.progress_mut().keys = keys;
    machine.store(1, values.buffer, value_bytes)?;
    machine.store(2, indices.buffer, index_bytes)
}

fn nonzero<M: Machine>(inner: &Inner, machine: &mut M, routine: &Host) -> Result<()> {
    let (x, indices) = (&routine.inputs[0], &routine.outputs[0]);
    let x_bytes = byte_len(&machine.progress().values, x.dtype, &x.shape)?;
    machine.fetch(0, x.buffer, x_bytes)?;
    let count = host::count_nonzero(x.dtype, machine.operand(0, x.buffer, x_bytes)?);
    bind(inner, machine, routine.binds[0], count as i64)?;
    let index_bytes = make_room(inner, machine, 1, indices)?;
    if Some(index_bytes) != count.checked_mul(8 * x.shape.len()) {
        return crate::check::bad("the output of NonZero has another shape than its indices");
    }
    let mut dims = [0usize; host::MAX_RANK];
    for (dim, &id) in dims.iter_mut().zip(&x.shape) {
        *dim = machine.progress().values.size(id)?;
    }
    let (x_view, index_view) =
        (machine.operand(0, x.buffer, x_bytes)?, machine.operand(1, indices.buffer, index_bytes)?);
    host::nonzero(x.dtype, &dims[..x.shape.len()], x_view, count, index_view);
    machine.store(1, indices.buffer, index_bytes)
}

/// Grows the buffer of a result as needed; the result's bytes.
fn make_room<M: Machine>(inner: &Inner, machine: &mut M, slot: usize, operand: &Operand) -> Result<usize> {
    let values = &machine.progress().values;
    let bytes = byte_len(values, operand.dtype, &operand.shape)?;
    let size = values.size(inner.plan.buffers[operand.buffer as usize].bytes)?;
    machine.ensure(operand.buffer, bytes.max(size))?;
    machine.reserve(slot, bytes)?;
    Ok(bytes)
}

fn top_k_case(values: &Values, x: &Operand, found: &Operand, axis: usize, largest: bool) -> Result<host::TopK> {
    // Sizes of non-empty operands were found to fit by `byte_len`; those of empty ones may wrap, and are not used.
    let product = |dims: &[ExprId]| {
        dims.iter().try_fold(1usize, |product, &dim| Ok::<_, Error>(product.saturating_mul(values.size(dim)?)))
    };
    let case = host::TopK {
        outer: product(&x.shape[..axis])?,
        axis: values.size(x.shape[axis])?,
        inner: product(&x.shape[axis + 1..])?,
        k: values.size(found.shape[axis])?,
        largest,
    };
    for (position, (&from, &to)) in x.shape.iter().zip(&found.shape).enumerate() {
        let (from, to) = (values.size(from)?, values.size(to)?);
        if (position != axis && from != to) || to > from {
            return Err(Error::Constraint {
                why: "`k` of TopK is at most the size of the axis, and the other axes stay".into(),
                left: to as i64,
                right: from as i64,
            });
        }
    }
    let is_empty = tensor::byte_len(x.dtype, &[case.outer, case.axis, case.inner]) == Some(0);
    Ok(if is_empty { host::TopK { outer: 0, ..case } } else { case })
}
