//! Kernel builders: one file for each kind of loop nest.

pub mod arg_reduce;
pub mod attention;
pub mod contract;
pub mod cumulate;
pub mod indexed;
pub mod map;
pub mod max_pool_indices;
pub mod non_zero;
pub mod recurrent;
pub mod rows;
pub mod scatter;
pub mod top_k;
pub mod window;

use xlac_ir::ops::Op;

use crate::CompileError;
use crate::control;
use crate::group::Group;
use crate::lower::Lowering;

/// Check code of the runtime for an index out of range.
pub const CHECK_INDEX: u32 = 1;

/// Lowers a template with its epilogue.
pub fn template(l: &mut Lowering, group: &Group) -> Result<(), CompileError> {
    match &l.anchor(group).op {
        Op::MatMul(op) => contract::matmul(l, group, op),
        Op::Conv(op) if window::is_depthwise(l, l.anchor(group), op) => window::depthwise(l, group, op),
        Op::Conv(op) => contract::conv(l, group, op),
        Op::ConvTranspose(op) => contract::conv_transpose(l, group, op),
        Op::Pool(op) => window::pool(l, group, op),
        other => unreachable!("`{}` is not a template", other.mnemonic()),
    }
}

/// Lowers a node that has a kernel, a routine or regions of its own.
pub fn single(l: &mut Lowering, group: &Group) -> Result<(), CompileError> {
    match &l.anchor(group).op {
        Op::If(op) => control::branch(l, group, op),
        Op::Loop(op) => control::repeat(l, group, op),
        Op::Bind(op) => control::bind(l, group, op),
        Op::TopK(op) if l.stays_on_device("top_k") => top_k::lower(l, group, op),
        Op::NonZero(op) if l.stays_on_device("non_zero") => non_zero::lower(l, group, op),
        Op::TopK(op) => control::top_k(l, group, op),
        Op::NonZero(op) => control::non_zero(l, group, op),
        Op::Rnn(op) => recurrent::lower(l, group, op),
        Op::ScatterElements(op) => scatter::elements(l, group, op),
        Op::ScatterNd(op) => scatter::slices(l, group, op),
        Op::Cumulate(op) => cumulate::lower(l, group, op),
        Op::ArgReduce(op) => arg_reduce::lower(l, group, op),
        Op::MaxPoolIndices(op) => max_pool_indices::lower(l, group, op),
        other => Err(l.unsupported(group, other)),
    }
}
