//! Operands of elementwise ops that repeat one number become scalar constants.
//!
//! A kernel then holds the number in a register, and rules see it as a number.

use std::collections::HashMap;

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::{Program, RegionId, ValueId};
use xlac_ir::kernel::Const;
use xlac_ir::ops::{self, Op};
use xlac_ir::tensor::Tensor;
use xlac_ir::types::Type;

use crate::edit::constant_data;
use crate::pass::{Pass, PassCx};

/// The pass.
pub const PASS: Pass = Pass { name: "splat", why: "a weight full of one number is a number", run };

fn run(program: &mut Program, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let mut numbers: HashMap<ValueId, Option<Const>> = HashMap::new();
    let mut changed = false;
    for region in program.graph.live_regions() {
        let nodes = std::mem::take(&mut program.graph.region_mut(region).nodes);
        let mut out = Vec::with_capacity(nodes.len());
        for id in nodes {
            if matches!(program.graph.node(id).op, Op::Binary(_) | Op::Compare(_) | Op::Select(_)) {
                for i in 0..program.graph.node(id).inputs.len() {
                    let value = program.graph.node(id).inputs[i];
                    let number = *numbers.entry(value).or_insert_with(|| repeated(program, value));
                    let Some(number) = number.filter(|_| keeps_type(program, id, i) && cx.burn()) else { continue };
                    let scalar = add_scalar(program, region, value, number);
                    let node = program.graph.node_mut(id);
                    node.inputs[i] = scalar;
                    changed = true;
                    out.append(&mut program.graph.region_mut(region).nodes);
                }
            }
            out.push(id);
        }
        program.graph.region_mut(region).nodes = out;
    }
    Ok(changed)
}

/// The number that a constant of at least one axis repeats.
fn repeated(program: &Program, value: ValueId) -> Option<Const> {
    let ty = program.graph.ty(value);
    if ty.rank() == 0 || !ty.dtype.in_kernels() {
        return None;
    }
    let data = constant_data(program, value)?;
    let size = data.dtype.size();
    let first = data.data.get(..size)?;
    data.data.chunks_exact(size).all(|c| c == first).then(|| data.get(0))
}

/// True if node `id` gives the same type with a scalar as operand `i`.
fn keeps_type(program: &Program, id: xlac_ir::graph::NodeId, i: usize) -> bool {
    let node = program.graph.node(id);
    let mut types: Vec<Type> = node.inputs.iter().map(|&v| program.graph.ty(v).clone()).collect();
    types[i].shape.clear();
    node.op.infer(&types).is_ok_and(|t| t[0] == *program.graph.ty(node.outputs[0]))
}

fn add_scalar(program: &mut Program, region: RegionId, old: ValueId, number: Const) -> ValueId {
    let loc = program.graph.producer(old).map(|n| n.loc.clone()).unwrap_or_default();
    let op = ops::Constant::new(&Tensor::scalar(number));
    program.graph.apply(region, op, &[], &loc).expect("constants have no operands")
}
