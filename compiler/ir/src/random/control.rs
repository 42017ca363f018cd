//! Control flow and sizes from data.

use super::{Generator, Step};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::elementwise::{BinaryFn, UnaryFn};
use crate::graph::{BODY, RegionId, ValueId};
use crate::kernel::{Const, Pred};
use crate::ops::{self, Op};
use crate::tensor::Tensor;
use crate::types::Type;

/// The steps, as often as they shall be taken.
pub(super) const STEPS: &[Step] = &[choose, choose, repeat, repeat, bind];

/// `if` over two chains on one value. Now and then their shapes differ.
fn choose(g: &mut Generator) -> Option<()> {
    if !g.options.control_flow {
        return None;
    }
    let x = g.value(|t| t.dtype != DType::Bool)?;
    let cond = match g.value(|t| *t == Type::new(DType::Bool, [])) {
        Some(cond) => cond,
        None => g.input(Type::new(DType::Bool, [])),
    };
    let differ = g.options.data_dependent && g.ty(x).rank() > 0 && g.random.once_in(3);
    let then = g.program.graph.add_region();
    let els = g.program.graph.add_region();
    within(g, then, |g| chain(g, x))?;
    within(g, els, |g| {
        let last = chain(g, x)?;
        if differ { g.apply(ops::Concat { axis: 0 }, &[last, last]) } else { Some(last) }
    })?;
    let symbols: Vec<Symbol> = if differ { vec![g.program.graph.fresh_symbol()] } else { Vec::new() };
    let types = [then, els].map(|r| region_types(g, r));
    let op = ops::If { symbols };
    let results = op.result_types(&[Type::new(DType::Bool, [])], &types[0], &types[1]).ok()?;
    let loc = g.loc();
    let node = g.program.graph.add_typed(g.region, op.into(), &[cond], vec![then, els], results, &loc);
    let result = g.program.graph.node(node).outputs[0];
    // What has a size from data is not handy for the other ops.
    if differ { g.outputs.push(result) } else { g.pool.push(result) }
    Some(())
}

/// `loop` with a chain on the carried value, and what it was in each trip.
fn repeat(g: &mut Generator) -> Option<()> {
    if !g.options.control_flow {
        return None;
    }
    let x = g.value(|t| t.dtype != DType::Bool)?;
    let (cond, scan) = (g.random.once_in(2), g.options.data_dependent && g.random.once_in(2));
    let trips = g.random.between(0, 4);
    let mut operands = vec![g.constant_of(Tensor::scalar(Const::i64(trips)))];
    if cond {
        operands.push(g.constant_of(Tensor::scalar(Const::bool(true))));
    }
    operands.push(x);
    let body = g.program.graph.add_region();
    let trip = g.program.graph.add_input(body, Type::new(DType::I64, []), None);
    let ty = g.ty(x);
    let carried = g.program.graph.add_input(body, ty, None);
    within(g, body, |g| chain(g, carried))?;
    let mut outputs = g.program.graph.region(body).outputs.clone();
    if scan {
        outputs.push(carried);
    }
    if cond {
        let go_on = within(g, body, |g| {
            let bound = g.constant_of(Tensor::scalar(Const::i64(2)));
            g.apply(Op::Compare(Pred::Lt), &[trip, bound])
        })?;
        outputs.insert(0, go_on);
    }
    g.program.graph.region_mut(body).outputs = outputs;
    let op = ops::Loop { trips: true, cond, carried: 1, count: vec![g.program.graph.fresh_symbol()] };
    let types = |values: &[ValueId]| -> Vec<Type> { values.iter().map(|&v| g.ty(v)).collect() };
    let inputs = types(&[trip, carried]);
    let results = op.result_types(&types(&operands), &inputs, &region_types(g, body)).ok()?;
    let loc = g.loc();
    let node = g.program.graph.add_typed(g.region, op.into(), &operands, vec![body], results, &loc);
    let results = g.program.graph.node(node).outputs.clone();
    g.pool.push(results[0]);
    g.outputs.extend(&results[1..]);
    Some(())
}

/// A symbol bound to a size that is computed as data, and a value of that size.
fn bind(g: &mut Generator) -> Option<()> {
    if !g.options.data_dependent {
        return None;
    }
    let dims = vec![&g.dim() + &Dim::ONE];
    let (loc, region) = (g.loc(), g.region);
    let size = g.program.graph.apply(region, ops::Dims { dims, scalar: false }, &[], &loc).ok()?;
    let symbol = g.program.graph.fresh_symbol();
    let n = vec![Dim::sym(&symbol)];
    g.program.graph.add(region, ops::Bind { symbols: vec![symbol] }, &[size], &loc).ok()?;
    let counted = g.program.graph.apply(region, ops::Iota { n, dtype: DType::F32 }, &[], &loc).ok()?;
    g.outputs.push(counted);
    Some(())
}

/// Runs `build` in a region, whose only output becomes what it gives; values made there are forgotten after.
fn within(g: &mut Generator, region: RegionId, build: impl FnOnce(&mut Generator) -> Option<ValueId>) -> Option<ValueId> {
    let (outer, pool) = (g.region, g.pool.len());
    g.region = region;
    let result = build(g);
    g.region = outer;
    g.pool.truncate(pool);
    debug_assert!(outer == BODY, "regions are not nested");
    g.program.graph.region_mut(region).outputs = result.into_iter().collect();
    result
}

/// One to three elementwise ops that keep the type.
fn chain(g: &mut Generator, x: ValueId) -> Option<ValueId> {
    let mut last = x;
    for _ in 0..1 + g.random.below(3) {
        let dtype = g.ty(last).dtype;
        last = if g.random.once_in(2) && dtype.is_float() {
            let f = g.random.pick(&[UnaryFn::Tanh, UnaryFn::Sigmoid, UnaryFn::Neg, UnaryFn::Abs]);
            g.apply(Op::Unary(f), &[last])?
        } else {
            let y = g.constant(dtype, &[]);
            let f = g.random.pick(&[BinaryFn::Add, BinaryFn::Mul, BinaryFn::Max]);
            g.apply(Op::Binary(f), &[last, y])?
        };
    }
    Some(last)
}

fn region_types(g: &Generator, region: RegionId) -> Vec<Type> {
    g.program.graph.region(region).outputs.iter().map(|&v| g.ty(v)).collect()
}
