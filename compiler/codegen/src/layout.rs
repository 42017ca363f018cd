//! Chooses the physical order of the axes of every stored value.
//!
//! Convolutions and windows want channels last, for their input and their output: channels are their vector lanes and
//! their contiguous reduction axis. Elementwise kernels take the layout of what they read; everything else is row-major.
//! Because every kernel reads through strides, no transposition is ever inserted between two layouts, except for graph
//! outputs and reshapes that need the row-major order.

use xlac_ir::dim::Dim;
use xlac_ir::graph::{NodeId, ValueId};
use xlac_ir::ops::Op;

use crate::group::{Group, Kind};
use crate::kernels::contract::winograd;
use crate::kernels::window::{self, across};
use crate::lower::Lowering;
use crate::view::Layout;

/// Assigns a layout to every value the groups compute, and room for padding to those that padded windows read.
pub fn assign(l: &mut Lowering, groups: &[Group]) {
    for group in groups {
        let wanted = group_layout(l, group);
        for &v in &group.exits {
            let choice = has_choice(&l.g.ty(v).shape) || wanted == Layout::Exchanged;
            let layout = if choice { wanted } else { Layout::RowMajor };
            l.set_layout(v, layout);
            let halo = halo(l, v).filter(|_| layout == Layout::ChannelsLast && group.kind != Kind::Single);
            if let Some(halo) = halo {
                l.set_halo(v, halo);
            }
        }
    }
}

/// Zeros stored around the spatial axes of a value, so that padded windows can read it in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halo {
    /// Elements before each spatial axis.
    pub before: Vec<i64>,
    /// Elements after each spatial axis.
    pub after: Vec<i64>,
}

/// The zeros that the windows reading a value want around it, if any do.
fn halo(l: &Lowering, v: ValueId) -> Option<Halo> {
    let spatial = l.g.ty(v).rank().checked_sub(2)?;
    let mut halo = Halo { before: vec![0; spatial], after: vec![0; spatial] };
    for &n in &l.users[v.0 as usize].nodes {
        let node = l.g.node(n);
        let Op::Conv(op) = &node.op else { continue };
        if node.inputs[0] != v {
            continue;
        }
        let after = match winograd::scheme(l, n, op) {
            // Whole tiles are read, or, of few, the windows of the direct sum.
            Some(scheme) => {
                let reach = scheme.reach(op, &l.g.ty(v).shape[2..], &l.g.ty(node.outputs[0]).shape[2..]);
                let known = |(reach, after): (Dim, &Dim)| if reach.as_const().is_some() { reach } else { after.clone() };
                if scheme.may_be_direct() { reach.into_iter().zip(&op.after).map(known).collect() } else { reach }
            }
            None => op.after.clone(),
        };
        let left_out = window::axis_left_out(l, node, op);
        for s in (0..spatial).filter(|&s| Some(s) != left_out) {
            halo.before[s] = halo.before[s].max(op.before[s].as_const().unwrap_or(0));
            halo.after[s] = halo.after[s].max(after[s].as_const().unwrap_or(0));
        }
    }
    halo.before.iter().chain(&halo.after).any(|&p| p > 0).then_some(halo)
}

fn group_layout(l: &Lowering, group: &Group) -> Layout {
    let node = l.anchor(group);
    match (&group.kind, &node.op) {
        (Kind::Template, Op::MatMul(_)) | (Kind::Single | Kind::Attention(_), _) => Layout::RowMajor,
        (Kind::Template, Op::Pool(op)) if across::applies(l, node, op) => Layout::Exchanged,
        (Kind::Template, _) => Layout::ChannelsLast,
        (Kind::Concat, _) => {
            let last = node.inputs.iter().filter(|&&v| stored_last(l, v)).count();
            if 2 * last > node.inputs.len() || feeds_window(l, group) { Layout::ChannelsLast } else { Layout::RowMajor }
        }
        _ => {
            let operands: Vec<ValueId> = group.members.iter().flat_map(|&m| l.g.node(m).inputs.clone()).collect();
            let last = operands.iter().any(|&v| l.g.ty(v).shape == group.space && stored_last(l, v)) || gathers_last(l, group);
            let all_outputs = group.exits.iter().all(|&v| l.is_output(v));
            if (last || feeds_window(l, group)) && !all_outputs { Layout::ChannelsLast } else { Layout::RowMajor }
        }
    }
}

/// True if a group on a CPU reads spatial positions of values stored channels-last at computed indices.
fn gathers_last(l: &Lowering, group: &Group) -> bool {
    let spatial = |m: NodeId| {
        let node = l.g.node(m);
        let Op::Gather(op) = &node.op else { return false };
        op.axis >= 2 && l.g.ty(node.inputs[1]).rank() == 1 && stored_last(l, node.inputs[0])
    };
    !l.target.is_gpu() && group.members.iter().any(|&m| spatial(m))
}

/// True if a value is stored channels-last: views of other values are not.
pub fn stored_last(l: &Lowering, v: ValueId) -> bool { l.layout(v) == Layout::ChannelsLast }

/// True if a convolution or window reads one of the group's results.
fn feeds_window(l: &Lowering, group: &Group) -> bool {
    group.exits.iter().any(|&v| {
        l.users[v.0 as usize].nodes.iter().any(|&n| {
            let node = l.g.node(n);
            matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_)) && node.inputs[0] == v
        })
    })
}

/// True if channels-last differs from row-major for this shape.
fn has_choice(shape: &[Dim]) -> bool { shape.len() >= 3 && !shape[1].is(1) && !shape[2..].iter().all(|d| d.is(1)) }
