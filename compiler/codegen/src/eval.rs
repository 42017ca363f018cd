//! Evaluates the elementwise nodes of a group at a point of its iteration space, lane by lane.

use std::collections::HashMap;

use xlac_ir::dim::Dim;
use xlac_ir::graph::{Graph, ValueId};
use xlac_ir::kernel::{Buf, Const, Val};
use xlac_ir::math;
use xlac_ir::ops::Op;
use xlac_ir::DType;

use crate::kb::Kb;

/// Where an operand from outside of the group is read.
#[derive(Clone, Debug)]
pub enum Leaf {
    /// The same constant everywhere.
    Const(Const),
    /// From a buffer, with one stride per loop of the kernel.
    Buffer {
        /// The buffer.
        buf: Buf,
        /// Strides along the kernel's loops, the lanes' loop last.
        strides: Vec<Dim>,
        /// Element type of the value in the graph.
        dtype: DType,
    },
}

/// A result of a kernel: the value, where it goes, its element type there, and one stride per loop.
pub type Out = (ValueId, Buf, DType, Vec<Dim>);

/// A point of the iteration space.
pub struct Point<'a> {
    /// The graph.
    pub g: &'a Graph,
    /// Operands from outside.
    pub leaves: &'a HashMap<ValueId, Leaf>,
    /// Loop counters; the last one is that of lane 0.
    pub index: Vec<Val>,
    /// Lanes along the last loop.
    pub lanes: u32,
    /// Number of valid lanes, if not all.
    pub count: Option<Val>,
    /// Values known at this point.
    pub known: HashMap<ValueId, Val>,
}

impl Point<'_> {
    /// The value of `v` at this point: one lane if it is the same along the last loop.
    pub fn value(&mut self, kb: &mut Kb, v: ValueId) -> Val {
        if let Some(&x) = self.known.get(&v) {
            return x;
        }
        let x = match self.leaves.get(&v) {
            Some(leaf) => self.leaf(kb, &leaf.clone()),
            None => {
                let node = self.g.producer(v).expect("a value is a leaf or computed by the group");
                let operands: Vec<Val> = node.inputs.iter().map(|&i| self.value(kb, i)).collect();
                apply(kb, &node.op, &operands)
            }
        };
        self.known.insert(v, x);
        x
    }

    /// Computes and stores every result at this point.
    pub fn store(&mut self, kb: &mut Kb, outs: &[Out]) {
        for (v, buf, dtype, strides) in outs {
            let x = self.value(kb, *v);
            let x = kb.k.convert(x, *dtype);
            let x = kb.k.widen(x, self.lanes);
            let at = kb.address(&self.index, strides);
            kb.store(*buf, at, strides.last().unwrap_or(&Dim::ONE), x, self.count);
        }
    }

    fn leaf(&mut self, kb: &mut Kb, leaf: &Leaf) -> Val {
        match leaf {
            Leaf::Const(c) => kb.k.constant(*c),
            Leaf::Buffer { buf, strides, dtype } => {
                let at = kb.address(&self.index, strides);
                let inner = strides.last().cloned().unwrap_or(Dim::ZERO);
                let x = if inner.is(0) || self.lanes == 1 {
                    kb.k.load(*buf, at, 0, 1, None)
                } else {
                    let stride = kb.dim(&inner);
                    kb.k.load_strided(*buf, at, stride, self.lanes, self.count)
                };
                kb.k.convert(x, *dtype)
            }
        }
    }
}

/// Applies an elementwise op to operands of any lanes.
pub fn apply(kb: &mut Kb, op: &Op, x: &[Val]) -> Val {
    match op {
        Op::Unary(f) => math::unary(&mut kb.k, *f, x[0]),
        Op::Binary(f) => {
            let lanes = kb.k.ty(x[0]).lanes.max(kb.k.ty(x[1]).lanes);
            let (a, b) = (kb.k.widen(x[0], lanes), kb.k.widen(x[1], lanes));
            math::binary(&mut kb.k, *f, a, b)
        }
        Op::Compare(p) => {
            // Narrow floats compare as f32: widening is exact.
            let t = kb.k.ty(x[0]).dtype.compute();
            let (a, b) = (kb.k.convert(x[0], t), kb.k.convert(x[1], t));
            kb.k.cmp(*p, a, b)
        }
        Op::Select(_) => kb.k.select(x[0], x[1], x[2]),
        Op::Cast(c) => kb.k.convert(x[0], c.to),
        other => unreachable!("`{}` is not elementwise", other.mnemonic()),
    }
}
