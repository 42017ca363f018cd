//! What a rule proposes: new nodes, and the value that takes the place of the matched one. A rule cannot change a
//! program; [`Edit::apply`] does, after checking types.

use xlac_ir::graph::{Loc, NodeId, Program, RegionId, ValueId};
use xlac_ir::ops::{self, Op};
use xlac_ir::tensor::Tensor;
use xlac_ir::types::Type;

use crate::rule::Miss;

/// An operand of a new node: a value of the program, or a result of an earlier new node of the same edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref {
    /// A value of the program.
    Old(ValueId),
    /// The result of new node number `.0`.
    New(usize),
}

#[derive(Clone, Debug)]
enum Piece {
    Node(Op, Vec<Ref>),
    Constant(Tensor, String),
}

/// A proposed replacement.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    pieces: Vec<Piece>,
    result: Option<Ref>,
}

impl Edit {
    /// An edit without nodes yet.
    pub fn new() -> Edit {
        Edit::default()
    }

    /// Replaces the matched value by one that is there already.
    pub fn value(value: Ref) -> Edit {
        Edit::new().give(value)
    }

    /// Replaces the matched value by one new node.
    pub fn node(op: impl Into<Op>, inputs: &[Ref]) -> Edit {
        let mut e = Edit::new();
        let result = e.op(op, inputs);
        e.give(result)
    }

    /// Adds a node with one result.
    pub fn op(&mut self, op: impl Into<Op>, inputs: &[Ref]) -> Ref {
        self.push(Piece::Node(op.into(), inputs.to_vec()))
    }

    /// Adds a constant; `name` is that of the weight, if it becomes one.
    pub fn constant(&mut self, tensor: Tensor, name: impl Into<String>) -> Ref {
        self.push(Piece::Constant(tensor, name.into()))
    }

    /// Says which value takes the place of the matched one.
    pub fn give(mut self, result: Ref) -> Edit {
        self.result = Some(result);
        self
    }

    fn push(&mut self, piece: Piece) -> Ref {
        self.pieces.push(piece);
        Ref::New(self.pieces.len() - 1)
    }

    /// Bytes of the constants it brings.
    pub fn bytes(&self) -> usize {
        let size = |p: &Piece| match p {
            Piece::Constant(t, _) => t.data.len(),
            Piece::Node(..) => 0,
        };
        self.pieces.iter().map(size).sum()
    }

    /// The type of its result, or why it has none.
    pub fn infer(&self, program: &Program) -> Result<Type, Miss> {
        let graph = &program.graph;
        let mut types: Vec<Type> = Vec::new();
        for piece in &self.pieces {
            let ty = match piece {
                Piece::Constant(t, _) => t.ty(),
                Piece::Node(op, inputs) => {
                    let of = |r: &Ref| match r {
                        Ref::Old(v) => graph.ty(*v).clone(),
                        Ref::New(i) => types[*i].clone(),
                    };
                    let operands: Vec<Type> = inputs.iter().map(of).collect();
                    let error = |e| Miss(format!("`{}` does not fit its operands: {e}", op.mnemonic()));
                    let mut results = op.infer(&operands).map_err(error)?;
                    if results.len() != 1 {
                        return Err(Miss(format!("`{}` does not have one result", op.mnemonic())));
                    }
                    results.remove(0)
                }
            };
            types.push(ty);
        }
        match self.result.ok_or_else(|| Miss("the edit gives no result".into()))? {
            Ref::Old(v) => Ok(graph.ty(v).clone()),
            Ref::New(i) => Ok(types.swap_remove(i)),
        }
    }

    /// Appends its nodes to a region and returns them with the result; refuses if the result is not of type `ty`.
    pub fn apply(
        self,
        program: &mut Program,
        region: RegionId,
        ty: &Type,
        loc: &Loc,
    ) -> Result<(Vec<NodeId>, ValueId), Miss> {
        let found = self.infer(program)?;
        if found != *ty {
            return Err(Miss(format!("the result would be `{found}` instead of `{ty}`")));
        }
        let mut nodes = Vec::new();
        let mut results = Vec::new();
        for piece in self.pieces {
            let (op, inputs) = match piece {
                Piece::Constant(tensor, name) => (constant_op(program, &name, tensor), Vec::new()),
                Piece::Node(op, inputs) => (op, inputs),
            };
            let resolve = |r: &Ref| match r {
                Ref::Old(v) => *v,
                Ref::New(i) => results[*i],
            };
            let operands: Vec<ValueId> = inputs.iter().map(resolve).collect();
            let node = program.graph.add(region, op, &operands, loc).map_err(|e| Miss(e.to_string()))?;
            nodes.push(node);
            results.push(program.graph.node(node).outputs[0]);
        }
        match self.result {
            Some(Ref::Old(v)) => Ok((nodes, v)),
            Some(Ref::New(i)) => Ok((nodes, results[i])),
            None => Err(Miss("the edit gives no result".into())),
        }
    }
}

/// A constant as an op: written in place if small, else a new weight.
pub fn constant_op(program: &mut Program, name: &str, tensor: Tensor) -> Op {
    if tensor.len() <= ops::constant::LIMIT && tensor.dtype.in_kernels() {
        return ops::Constant::new(&tensor).into();
    }
    let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
    ops::Weight { id: program.weights.add(name, tensor), dtype, shape }.into()
}

/// Data of a value that is a constant or a weight.
pub fn constant_data(program: &Program, value: ValueId) -> Option<Tensor> {
    program.graph.constant(value).or_else(|| Some(program.weights.get(program.graph.weight(value)?).tensor.clone()))
}

/// True for constants and weights.
pub fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Constant(_) | Op::Weight(_))
}
