//! Control flow, data-dependent sizes and host routines: steps of the plan that are not kernels.

use std::collections::HashSet;

use xlac_ir::dim::Dim;
use xlac_ir::graph::{RegionId, ValueId};
use xlac_ir::ops::{Bind, If, Loop, NonZero, TopK};
use xlac_ir::types::Type;
use xlac_ir::DType;

use crate::CompileError;
use crate::group::Group;
use crate::kb::Place;
use crate::kernels::map;
use crate::lower::{Lowering, bytes};
use crate::plan::{BufferId, Host, Operand, Routine, Step, Storage};
use crate::view::{Layout, View};

/// Binds symbols to the elements of a vector.
pub fn bind(l: &mut Lowering, group: &Group, op: &Bind) -> Result<(), CompileError> {
    let from = l.whole_buffer(l.anchor(group).inputs[0]).buffer;
    for (index, symbol) in (0..).zip(&op.symbols) {
        l.step(Step::Bind { symbol: symbol.clone(), from, index });
    }
    Ok(())
}

/// Lowers `top_k` to the runtime's routine.
pub fn top_k(l: &mut Lowering, group: &Group, op: &TopK) -> Result<(), CompileError> {
    host(l, group, Routine::TopK { axis: op.axis, largest: op.largest }, Vec::new())
}

/// Lowers `non_zero` to the runtime's routine.
pub fn non_zero(l: &mut Lowering, group: &Group, op: &NonZero) -> Result<(), CompileError> {
    host(l, group, Routine::NonZero, op.count.clone())
}

fn host(l: &mut Lowering, group: &Group, routine: Routine, binds: Vec<xlac_ir::dim::Symbol>) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let operand = |l: &Lowering, v: ValueId, place: &Place| Operand {
        buffer: place.buffer,
        dtype: place.dtype,
        shape: l.g.ty(v).shape.clone(),
    };
    let mut inputs = Vec::new();
    for &v in &node.inputs {
        let place = l.whole_buffer(v);
        inputs.push(operand(l, v, &place));
    }
    let mut outputs = Vec::new();
    for &v in &node.outputs {
        let place = l.temp(l.g.ty(v));
        outputs.push(operand(l, v, &place));
        l.set_place(v, place);
    }
    let loc = l.loc(group);
    l.step(Step::Host(Host { routine, inputs, outputs, binds, loc }));
    Ok(())
}

/// Lowers a branch. Each side writes its results to the same places.
pub fn branch(l: &mut Lowering, group: &Group, op: &If) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let cond = l.whole_buffer(node.inputs[0]).buffer;
    let results: Vec<Place> = node.outputs.iter().map(|&v| l.temp(l.g.ty(v))).collect();
    let mut sides = Vec::new();
    for &region in &node.regions {
        l.begin_region();
        l.region(region)?;
        let given = l.g.region(region).outputs.clone();
        for (&v, &result) in given.iter().zip(&node.outputs) {
            set_symbols(l, &op.symbols, &l.g.ty(result).shape.clone(), &l.g.ty(v).shape.clone());
        }
        for ((&v, &result), place) in given.iter().zip(&node.outputs).zip(&results) {
            write(l, v, l.g.ty(result), place);
        }
        sides.push(l.end_region());
    }
    let else_steps = sides.pop().expect("an if has two regions");
    let then_steps = sides.pop().expect("an if has two regions");
    for (&v, place) in node.outputs.iter().zip(results) {
        l.set_place(v, place);
    }
    l.step(Step::If { cond, then_steps, else_steps });
    Ok(())
}

/// Binds those of `symbols` that are dims of `result` to the dims of `given`.
fn set_symbols(l: &mut Lowering, symbols: &[xlac_ir::dim::Symbol], result: &[Dim], given: &[Dim]) {
    for (r, d) in result.iter().zip(given) {
        if let Some(symbol) = r.as_symbol().filter(|s| symbols.contains(s)) {
            l.step(Step::Set { symbol: symbol.clone(), value: d.clone() });
        }
    }
}

/// Copies a value to a dense place of the result's type; the two shapes are equal when this runs.
fn write(l: &mut Lowering, v: ValueId, _result: &Type, place: &Place) {
    let shape = l.g.ty(v).shape.clone();
    let to = Place { view: View::dense(&shape, Layout::RowMajor), ..place.clone() };
    l.copy(v, &to);
}

/// Lowers a loop.
pub fn repeat(l: &mut Lowering, group: &Group, op: &Loop) -> Result<(), CompileError> {
    let node = l.anchor(group);
    let body = node.regions[0];
    let mut operands = node.inputs.iter().copied();
    let trips = op.trips.then(|| operands.next().expect("trip count"));
    let trips = trips.map(|v| l.whole_buffer(v).buffer);
    let first_cond = op.cond.then(|| operands.next().expect("condition"));
    let carried: Vec<ValueId> = operands.collect();

    let counter = l.temp(&Type::new(DType::I64, []));
    l.set_place(l.g.region(body).inputs[0], counter.clone());
    let cond = first_cond.map(|v| {
        let place = l.temp(&Type::new(DType::Bool, []));
        l.copy(v, &place);
        place
    });
    let mut places = Vec::new();
    for (&init, &inner) in carried.iter().zip(&l.g.region(body).inputs.clone()[1..]) {
        let place = l.temp(l.g.ty(inner));
        l.copy(init, &place);
        l.set_place(inner, place.clone());
        places.push(place);
    }
    let scans: Vec<(ValueId, BufferId)> = node.outputs[op.carried..].iter().map(|&v| {
        let ty = l.g.ty(v).clone();
        let dtype = l.storage(ty.dtype);
        let buffer = l.buffer(Storage::Heap, bytes(&ty.shape, dtype));
        l.set_place(v, Place { buffer, view: View::dense(&ty.shape, Layout::RowMajor), dtype });
        (v, buffer)
    }).collect();

    l.begin_region();
    l.region(body)?;
    loop_end(l, op, body, &cond, &places, &scans);
    let steps = l.end_region();
    for (&v, place) in node.outputs.iter().zip(places) {
        l.set_place(v, place);
    }
    let symbol = op.count[0].clone();
    let cond = cond.map(|p| p.buffer);
    l.step(Step::Loop { trips, cond, counter: counter.buffer, symbol, body: steps });
    Ok(())
}

/// What a trip ends with: the condition, the carried values and the scan outputs are written.
fn loop_end(l: &mut Lowering, op: &Loop, body: RegionId, cond: &Option<Place>, places: &[Place], scans: &[(ValueId, BufferId)]) {
    let given = l.g.region(body).outputs.clone();
    let mut given = given.into_iter();
    let next_cond = op.cond.then(|| given.next().expect("condition"));
    let next: Vec<ValueId> = given.by_ref().take(op.carried).collect();
    for (v, &(_, to)) in given.zip(scans) {
        let place = l.whole_buffer(v);
        let size = bytes(&l.g.ty(v).shape, place.dtype);
        let offset = &Dim::sym(&op.count[0]) * &size;
        l.step(Step::Append { from: place.buffer, to, offset, bytes: size });
    }
    if let (Some(v), Some(place)) = (next_cond, cond) {
        l.copy(v, place);
    }
    // A value that lies in another carried place must be saved before that place is written.
    let homes: HashSet<BufferId> = places.iter().map(|p| p.buffer).collect();
    let mut moves = Vec::new();
    for (&v, place) in next.iter().zip(places) {
        let source = l.access(v);
        if source == *place {
            continue;
        }
        if homes.contains(&source.buffer) {
            let saved = l.temp(l.g.ty(v));
            l.copy(v, &saved);
            let size = bytes(&l.g.ty(v).shape, saved.dtype);
            moves.push(Step::Copy { from: saved.buffer, to: place.buffer, bytes: size });
        } else {
            let shape = l.g.ty(v).shape.clone();
            let before = l.begin_deferred();
            map::emit(l, "carry", &shape, &[(v, place.clone())], &HashSet::new(), &Default::default());
            moves.extend(l.end_deferred(before));
        }
    }
    moves.into_iter().for_each(|step| l.step(step));
}
