//! An elementwise op on the reshaped or transposed result of a convolution or pooling is computed before: the kernel that
//! has the result in registers can then do it.

use xlac_ir::dim::Dim;
use xlac_ir::graph::ValueId;
use xlac_ir::ops::{self, Op};

use crate::edit::{Edit, Ref};
use crate::rule::{Into, Kind, Match, Miss, Rule, miss};
use crate::rules::help;

/// The rule.
pub const RULE: Rule = Rule {
    name: "canon/view_later",
    kind: Kind::Exact,
    from: "(elementwise:e ?xs...)",
    when: &[],
    into: Into::Code(into),
    example: "
        graph @g(%x: f32[1, 2, 1, 4], %w: f32[3, 2, 1, 1]) -> (%r) {
          %p = conv %x, %w {strides = [1, 1], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32} : f32[1, 3, 1, 4]
          %v = reshape %p {shape = [1, 3, 4]} : f32[1, 3, 4]
          %c = constant {dtype = f32, shape = [], bits = [0]} : f32[]
          %y = max %v, %c : f32[1, 3, 4]
          yield %y
        }
    ",
};

/// Nodes looked at between a convolution and a view of its result, or between two operands.
const FARTHEST: usize = 32;

fn into(m: &Match) -> Result<Edit, Miss> {
    let operands = m.rest("xs");
    let Some(seen) = operands.iter().position(|&v| is_viewed_window(m, v)) else {
        return miss("no operand is a view, used only here, of what a convolution or pooling and elementwise ops give");
    };
    let graph = &m.program.graph;
    if graph.ty(operands[seen]).shape != m.root_ty().shape {
        return miss("the view is repeated");
    }
    // The op can be part of the kernel that makes another operand, unless what is viewed is made from that.
    let others = operands.iter().filter(|&&v| v != operands[seen] && graph.ty(v).shape == m.root_ty().shape);
    if others.clone().any(|&v| is_window(m, v) && !depends(m, operands[seen], v)) {
        return miss("another operand is the result of a convolution or pooling");
    }
    let view = graph.producer(operands[seen]).expect("a view is computed");
    let inner = view.inputs[0];
    let mut edit = Edit::new();
    let mut moved = Vec::new();
    for (i, &v) in operands.iter().enumerate() {
        moved.push(if i == seen { Ref::Old(inner) } else { unviewed(m, &mut edit, &view.op, v, &graph.ty(inner).shape)? });
    }
    let result = edit.op(m.node("e").op.clone(), &moved);
    let out = match &view.op {
        Op::Reshape(_) => edit.op(help::reshape(&m.root_ty().shape), &[result]),
        op => edit.op(op.clone(), &[result]),
    };
    Ok(edit.give(out))
}

/// True for a view that is used once, of a value that a window op and elementwise ops make.
fn is_viewed_window(m: &Match, v: ValueId) -> bool {
    let view = m.program.graph.producer(v).filter(|_| m.uses(v) <= 1);
    view.is_some_and(|view| matches!(view.op, Op::Reshape(_) | Op::Transpose(_)) && is_window(m, view.inputs[0]))
}

/// True for a value that a window op and elementwise ops make.
fn is_window(m: &Match, v: ValueId) -> bool {
    let graph = &m.program.graph;
    let mut at = v;
    for _ in 0..FARTHEST {
        let Some(node) = graph.producer(at) else { return false };
        at = match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) => return true,
            op if op.is_elementwise() => {
                let shaped = node.inputs.iter().find(|&&x| graph.ty(x).shape == graph.ty(at).shape);
                let Some(&x) = shaped else { return false };
                x
            }
            _ => return false,
        };
    }
    false
}

/// True if `v` is seen to be computed from `from`.
fn depends(m: &Match, v: ValueId, from: ValueId) -> bool {
    let mut todo = vec![v];
    for _ in 0..FARTHEST {
        let Some(at) = todo.pop() else { return false };
        if at == from {
            return true;
        }
        todo.extend(m.program.graph.producer(at).into_iter().flat_map(|node| &node.inputs));
    }
    false
}

/// Operand `v` of an op on a view, as it is read by the op on the viewed value of shape `from`.
fn unviewed(m: &Match, edit: &mut Edit, view: &Op, v: ValueId, from: &[Dim]) -> Result<Ref, Miss> {
    let shape = &m.program.graph.ty(v).shape;
    if shape.is_empty() {
        return Ok(Ref::Old(v));
    }
    let to = &m.root_ty().shape;
    let padded = [vec![Dim::ONE; to.len() - shape.len()], shape.clone()].concat();
    match view {
        Op::Transpose(t) => {
            let whole = edit.op(help::reshape(&padded), &[Ref::Old(v)]);
            let mut perm = vec![0; to.len()];
            t.perm.iter().enumerate().for_each(|(i, &p)| perm[p] = i);
            Ok(edit.op(ops::Transpose { perm }, &[whole]))
        }
        _ => {
            let whole = (*shape == *to).then(|| from.to_vec());
            let shape = whole.or_else(|| reshaped_back(&padded, to, from)).ok_or_else(|| Miss("an operand varies along axes that the view splits or joins".into()))?;
            Ok(edit.op(help::reshape(&shape), &[Ref::Old(v)]))
        }
    }
}

/// Shape, along the axes `from`, of an operand that has `shape` along the axes `to` they are reshaped to.
fn reshaped_back(shape: &[Dim], to: &[Dim], from: &[Dim]) -> Option<Vec<Dim>> {
    if shape.iter().all(|d| d.is(1)) {
        return Some(vec![Dim::ONE; from.len()]);
    }
    let sized = |dims: &[Dim]| (0..dims.len()).filter(|&a| !dims[a].is(1)).collect::<Vec<_>>();
    let (new, old) = (sized(to), sized(from));
    let same = new.len() == old.len() && new.iter().zip(&old).all(|(&a, &b)| to[a] == from[b]);
    same.then(|| {
        let mut back = vec![Dim::ONE; from.len()];
        new.iter().zip(&old).for_each(|(&a, &b)| back[b] = shape[a].clone());
        back
    })
}
