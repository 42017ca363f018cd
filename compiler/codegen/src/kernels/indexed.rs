//! Kernels that read at computed indices: gathers, padding, counting, and the elementwise nodes that follow them.
//!
//! Lanes run along the fastest axis of the result if no computed index varies along it, so that each read is one contiguous
//! vector; otherwise the kernel is scalar. A gather of a gather is one read at two computed indices.

use std::collections::{HashMap, HashSet};

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Def, Node, NodeId, ValueId};
use xlac_ir::kernel::{BinOp, Buf, Const, Pred, UnOp, Val};
use xlac_ir::ops::Op;
use xlac_ir::ops::pad::PadMode;
use xlac_ir::DType;

use crate::CompileError;
use crate::eval;
use crate::group::Group;
use crate::kb::{Kb, Place};
use crate::kernels::{map, scatter};
use crate::lower::{Cost, Lowering};
use crate::tied::{self, Panelled};

/// An index along one axis: `base + lane * step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ix {
    base: Val,
    step: i64,
}

/// Lowers a group whose anchor reads at computed indices.
pub fn lower(l: &mut Lowering, group: &Group) -> Result<(), CompileError> {
    let exits: Vec<(ValueId, Place)> = group.exits.iter().map(|&v| (v, l.place_exit(v))).collect();
    let space = group.space.clone();
    if space.iter().any(|d| d.is(0)) || exits.is_empty() {
        return Ok(());
    }
    let mut kb = Kb::new(&l.name(group));
    let order = map::physical_order(&exits[0].1, &space);
    let dims: Vec<Dim> = order.iter().map(|&a| space[a].clone()).collect();
    let outs: Vec<(ValueId, Buf, Place)> = exits.into_iter().map(|(v, p)| (v, kb.write(&p), p)).collect();
    let inner = order.last().copied();
    let unit = inner.is_none_or(|a| outs.iter().all(|o| o.2.view.strides[a].is(1)));
    let lanes = match inner {
        Some(a) if unit && group.members.iter().all(|&m| uniform_along(l, l.g.node(m), a)) => {
            let widest = outs.iter().map(|o| o.2.dtype.compute().size()).max().unwrap_or(4).max(4) as u32;
            map::fit_lanes((l.target.vector_bytes / widest).max(1), dims.last(), l.target.masked_memory)
        }
        _ => 1,
    };
    let walk = l.walk();
    let members = l.members(group);
    // Places must be known before the kernel is built: looking one up may emit a copy.
    let (mut places, mut panels) = (HashMap::new(), HashMap::new());
    for v in map::operands(l.g, group.exits.iter().copied(), &members) {
        if l.const_leaf(v).is_none() {
            let place = l.access(v);
            if let Some(p) = tied::panelled(l, &place) {
                panels.insert(v, p);
            }
            places.insert(v, place);
        }
    }
    let tiles = map::nest(&mut kb, &dims, lanes, walk, |kb, index, lanes, count| {
        let mut at = vec![Ix { base: kb.k.int(0), step: 0 }; space.len()];
        for (i, &axis) in order.iter().enumerate() {
            let step = i64::from(i + 1 == order.len() && lanes > 1);
            at[axis] = Ix { base: index[i], step };
        }
        let mut reader = Reader { l, members: &members, places: &places, panels: &panels, lanes, count, known: HashMap::new() };
        for (v, buf, place) in &outs {
            let x = reader.value(kb, *v, &at);
            let x = kb.k.convert(x, place.dtype);
            let x = kb.k.widen(x, lanes);
            let bases: Vec<Val> = at.iter().map(|i| i.base).collect();
            let address = kb.address(&bases, &place.view.strides);
            kb.store(*buf, address, &Dim::ONE, x, count);
        }
    });
    let elements = Dim::product(&space);
    let traffic = &elements * &Dim::from(8i64);
    let tile_ns = traffic.floor_div(&Dim::from(4i64)).floor_div(&tiles.at_least(&Dim::ONE));
    let loc = l.loc(group);
    l.launch(kb, tiles, Cost { tile_ns, flops: elements, traffic }, &loc);
    Ok(())
}

/// True if a node's computed index, if it has one, is the same all along an axis of its result.
fn uniform_along(l: &Lowering, node: &Node, axis: usize) -> bool {
    match &node.op {
        Op::Gather(op) => {
            let rank = l.g.ty(node.inputs[1]).rank();
            !(op.axis..op.axis + rank).contains(&axis)
        }
        Op::GatherNd(_) => axis + 1 >= l.g.ty(node.inputs[1]).rank(),
        Op::Pad(op) => op.before[axis].is(0) && op.after[axis].is(0),
        op => op.is_elementwise(),
    }
}

/// Reads values of the group at an index.
struct Reader<'a, 'b> {
    l: &'a Lowering<'b>,
    members: &'a HashSet<NodeId>,
    places: &'a HashMap<ValueId, Place>,
    /// Matrices that are there in panels, which elements of one line are read from.
    panels: &'a HashMap<ValueId, Panelled>,
    lanes: u32,
    count: Option<Val>,
    known: HashMap<(ValueId, Vec<Ix>), Val>,
}

impl Reader<'_, '_> {
    fn value(&mut self, kb: &mut Kb, v: ValueId, at: &[Ix]) -> Val {
        let key = (v, at.to_vec());
        if let Some(&x) = self.known.get(&key) {
            return x;
        }
        let x = match self.l.g.value(v).def {
            Def::Node(n, _) if self.members.contains(&n) => self.member(kb, self.l.g.node(n), v, at),
            _ => self.load(kb, v, at),
        };
        self.known.insert(key, x);
        x
    }

    fn load(&mut self, kb: &mut Kb, v: ValueId, at: &[Ix]) -> Val {
        if let Some(c) = self.l.g.splat_constant(v) {
            return kb.k.constant(c);
        }
        let (place, at) = match self.panels.get(&v).filter(|p| at[p.axis].step == 0) {
            Some(panels) => (&panels.place, in_panels(kb, panels, at)),
            None => (&self.places[&v], at.to_vec()),
        };
        let buf = kb.read(place);
        let bases: Vec<Val> = at.iter().map(|i| i.base).collect();
        let address = kb.address(&bases, &place.view.strides);
        let step = at.iter().zip(&place.view.strides).fold(Dim::ZERO, |sum, (i, s)| &sum + &(s * &Dim::from(i.step)));
        let x = if step.is(0) {
            kb.k.load(buf, address, 0, 1, None)
        } else {
            let step = kb.dim(&step);
            kb.k.load_strided(buf, address, step, self.lanes, self.count)
        };
        kb.k.convert(x, self.l.g.ty(v).dtype)
    }

    fn member(&mut self, kb: &mut Kb, node: &Node, v: ValueId, at: &[Ix]) -> Val {
        match &node.op {
            Op::Gather(op) => {
                let rank = self.l.g.ty(node.inputs[1]).rank();
                let j = self.value(kb, node.inputs[1], &at[op.axis..op.axis + rank]);
                let size = &self.l.g.ty(node.inputs[0]).shape[op.axis];
                let j = match self.is_within(node.inputs[1], size) {
                    true => Ix { base: kb.k.convert(j, DType::I64), step: 0 },
                    false => self.checked(kb, j, size),
                };
                let index = [&at[..op.axis], &[j], &at[op.axis + rank..]].concat();
                self.value(kb, node.inputs[0], &index)
            }
            Op::GatherElements(op) => {
                let j = self.value(kb, node.inputs[1], at);
                let mut index = at.to_vec();
                index[op.axis] = self.checked(kb, j, &self.l.g.ty(node.inputs[0]).shape[op.axis].clone());
                self.value(kb, node.inputs[0], &index)
            }
            Op::GatherNd(op) => self.gather_nd(kb, node, op.batch_dims, at),
            Op::Pad(op) => self.pad(kb, node, op, at),
            Op::Iota(op) => self.count_up(kb, op.dtype, at[0]),
            Op::Dims(op) => self.dims(kb, &op.dims, at),
            op => {
                let operands: Vec<Val> = node.inputs.iter().map(|&i| {
                    let index = self.broadcast(kb, i, v, at);
                    self.value(kb, i, &index)
                }).collect();
                eval::apply(kb, op, &operands)
            }
        }
    }

    /// The index of operand `v` for the element at `at` of an elementwise result.
    fn broadcast(&self, kb: &mut Kb, v: ValueId, result: ValueId, at: &[Ix]) -> Vec<Ix> {
        let (from, to) = (&self.l.g.ty(v).shape, &self.l.g.ty(result).shape);
        let skip = to.len() - from.len();
        let zero = Ix { base: kb.k.int(0), step: 0 };
        from.iter().enumerate().map(|(a, d)| if d.is(1) && !to[a + skip].is(1) { zero } else { at[a + skip] }).collect()
    }

    /// A computed index, counted from the end if negative, checked against the size of its axis.
    fn checked(&mut self, kb: &mut Kb, j: Val, size: &Dim) -> Ix {
        Ix { base: scatter::checked_index(kb, j, size), step: 0 }
    }

    /// True for constant indices that all count an element of an axis of this size from its start.
    fn is_within(&self, indices: ValueId, size: &Dim) -> bool {
        let weights = || Some(self.l.weights.get(self.l.g.weight(indices)?).tensor.clone());
        let (Some(data), Some(n)) = (self.l.g.constant(indices).or_else(weights), size.as_const()) else { return false };
        data.to_i64().iter().all(|i| (0..n).contains(i))
    }

    fn gather_nd(&mut self, kb: &mut Kb, node: &Node, batch: usize, at: &[Ix]) -> Val {
        let (data, indices) = (node.inputs[0], node.inputs[1]);
        let index_shape = self.l.g.ty(indices).shape.clone();
        let data_shape = self.l.g.ty(data).shape.clone();
        let lead = index_shape.len() - 1;
        let width = index_shape[lead].as_const().unwrap_or(0) as usize;
        let mut index = at[..batch].to_vec();
        for i in 0..width {
            let tuple = [&at[..lead], &[Ix { base: kb.k.int(i as i64), step: 0 }]].concat();
            let j = self.value(kb, indices, &tuple);
            index.push(self.checked(kb, j, &data_shape[batch + i]));
        }
        index.extend(&at[lead..]);
        self.value(kb, data, &index)
    }

    fn pad(&mut self, kb: &mut Kb, node: &Node, op: &xlac_ir::ops::Pad, at: &[Ix]) -> Val {
        let shape = self.l.g.ty(node.inputs[0]).shape.clone();
        let mut index = Vec::with_capacity(at.len());
        let mut inside = kb.k.constant(Const::bool(true));
        for (a, ix) in at.iter().enumerate() {
            if op.before[a].is(0) && op.after[a].is(0) {
                index.push(*ix);
                continue;
            }
            let before = kb.dim(&op.before[a]);
            let n = kb.dim(&shape[a]);
            let i = kb.k.sub(ix.base, before);
            let zero = kb.k.int(0);
            let base = match op.mode {
                PadMode::Constant => {
                    let ok = kb.within(i, zero, n);
                    inside = if kb.k.known(inside).is_some() { ok } else { kb.k.bin(BinOp::And, inside, ok) };
                    i
                }
                PadMode::Edge => {
                    let last = kb.k.add_int(n, -1);
                    let i = kb.max(i, zero);
                    kb.min(i, last)
                }
                PadMode::Wrap => modulo(kb, i, n),
                PadMode::Reflect => reflect(kb, i, n),
            };
            index.push(Ix { base, ..*ix });
        }
        if op.mode != PadMode::Constant {
            return self.value(kb, node.inputs[0], &index);
        }
        let zero = kb.k.int(0);
        let rank = self.l.g.ty(node.inputs[1]).rank();
        let fill = self.value(kb, node.inputs[1], &vec![Ix { base: zero, step: 0 }; rank]);
        let fill = kb.k.widen(fill, self.lanes);
        let mut open = kb.k.begin_if(inside);
        // What is read inside of the branch is not known outside of it.
        let known = self.known.clone();
        let x = self.value(kb, node.inputs[0], &index);
        let x = kb.k.widen(x, self.lanes);
        self.known = known;
        kb.k.begin_else(&mut open, &[x]);
        kb.k.end_if(open, &[fill])[0]
    }

    fn count_up(&mut self, kb: &mut Kb, dtype: DType, at: Ix) -> Val {
        let x = if at.step == 0 { at.base } else { kb.k.iota(at.base, self.lanes) };
        kb.k.convert(x, dtype)
    }

    fn dims(&mut self, kb: &mut Kb, dims: &[Dim], at: &[Ix]) -> Val {
        let values: Vec<Val> = dims.iter().map(|d| kb.dim(d)).collect();
        let Some(ix) = at.first() else { return values[0] };
        let mut x = values[0];
        for (i, &v) in values.iter().enumerate().skip(1) {
            let n = kb.k.int(i as i64);
            let here = kb.k.cmp(Pred::Eq, ix.base, n);
            x = kb.k.select(here, v, x);
        }
        x
    }
}

/// The index in panels for one in the matrix.
fn in_panels(kb: &mut Kb, panels: &Panelled, at: &[Ix]) -> Vec<Ix> {
    let (line, width) = (at[panels.axis].base, kb.k.int(panels.width));
    let number = kb.k.bin(BinOp::Div, line, width);
    let rest = kb.k.bin(BinOp::Rem, line, width);
    vec![Ix { base: number, step: 0 }, at[1 - panels.axis], Ix { base: rest, step: 0 }]
}

/// Remainder with the sign of the positive divisor.
fn modulo(kb: &mut Kb, x: Val, n: Val) -> Val {
    let r = kb.k.bin(BinOp::Rem, x, n);
    let zero = kb.k.int(0);
    let negative = kb.k.cmp(Pred::Lt, r, zero);
    let up = kb.k.add(r, n);
    kb.k.select(negative, up, r)
}

/// Position `x` of a signal mirrored at its first and last element.
fn reflect(kb: &mut Kb, x: Val, n: Val) -> Val {
    let last = kb.k.add_int(n, -1);
    let one = kb.k.int(1);
    let period = kb.k.mul_int(last, 2);
    let period = kb.max(period, one);
    let m = modulo(kb, x, period);
    let back = kb.k.sub(period, m);
    let past = kb.k.cmp(Pred::Gt, m, last);
    let m = kb.k.select(past, back, m);
    let m = kb.k.un(UnOp::Abs, m);
    kb.min(m, last)
}
