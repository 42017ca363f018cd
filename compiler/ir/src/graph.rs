//! Graph IR: what is computed. Pure SSA over tensors in arenas, with ordered operands and regions for `if` and `loop`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dim::{Dim, Symbol};
use crate::kernel::Const;
use crate::op::{Attr, InferError};
use crate::ops::{self, Op};
use crate::tensor::Tensor;
use crate::types::Type;
use crate::weights::{WeightId, Weights};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {
        $($(#[$doc])* #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)] pub struct $name(pub u32);)*
    };
}

ids! {
    /// A value of a graph.
    ValueId,
    /// A node of a graph.
    NodeId,
    /// A region of a graph; region 0 is the graph's body.
    RegionId
}

/// The body of every graph.
pub const BODY: RegionId = RegionId(0);

/// Where something came from: names of ONNX nodes, in order, without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Loc(pub Vec<Arc<str>>);

impl Loc {
    /// From one node.
    pub fn node(name: &str) -> Loc { Loc(vec![name.into()]) }

    /// Both origins.
    pub fn merge(&self, other: &Loc) -> Loc {
        let mut names = self.0.clone();
        names.extend(other.0.iter().filter(|n| !self.0.contains(n)).cloned());
        Loc(names)
    }
}

/// A node: an op applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Operands, in order.
    pub inputs: Vec<ValueId>,
    /// Results, in order.
    pub outputs: Vec<ValueId>,
    /// Regions of `if` (then, else) and `loop` (body).
    pub regions: Vec<RegionId>,
    /// Origin.
    pub loc: Loc,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Def {
    /// Input number `.1` of a region.
    Input(RegionId, u32),
    /// Result number `.1` of a node.
    Node(NodeId, u32),
}

/// A value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: Type,
    /// What defines it.
    pub def: Def,
    /// ONNX name, where it has one.
    pub name: Option<Arc<str>>,
}

/// A list of nodes with inputs and outputs.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Values the region is entered with.
    pub inputs: Vec<ValueId>,
    /// Nodes, each after those it depends on.
    pub nodes: Vec<NodeId>,
    /// Values it gives.
    pub outputs: Vec<ValueId>,
}

/// An assumption about symbols that has to be checked when their values are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constraint {
    /// One side.
    pub left: Dim,
    /// The other.
    pub right: Dim,
    /// True for `left == right`, false for `left <= right`.
    pub equal: bool,
    /// What was assumed, and the node it is about.
    pub why: String,
}

/// A program: a graph and its weights.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The graph.
    pub graph: Graph,
    /// Its large constants.
    pub weights: Weights,
}

/// A graph. Removed nodes and values stay in the arenas but in no region.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name of the model's graph.
    pub name: String,
    nodes: Vec<Node>,
    values: Vec<Value>,
    regions: Vec<Region>,
    /// Names of the graph's outputs; those of inputs are in their values.
    pub output_names: Vec<Arc<str>>,
    /// Assumptions about symbols.
    pub constraints: Vec<Constraint>,
    /// Smallest and largest value of symbols that have bounds.
    pub ranges: Vec<(Symbol, i64, i64)>,
    next_symbol: u32,
}

impl Default for Graph {
    fn default() -> Graph { Graph::new("graph") }
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        Graph {
            name: name.into(),
            nodes: Vec::new(),
            values: Vec::new(),
            regions: vec![Region::default()],
            output_names: Vec::new(),
            constraints: Vec::new(),
            ranges: Vec::new(),
            next_symbol: 0,
        }
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node { &self.nodes[id.0 as usize] }
    /// A node, to change. Changing operands or attributes must keep the types of the results.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node { &mut self.nodes[id.0 as usize] }
    /// A value.
    pub fn value(&self, id: ValueId) -> &Value { &self.values[id.0 as usize] }
    /// A value, to change.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value { &mut self.values[id.0 as usize] }
    /// A region.
    pub fn region(&self, id: RegionId) -> &Region { &self.regions[id.0 as usize] }
    /// A region, to change.
    pub fn region_mut(&mut self, id: RegionId) -> &mut Region { &mut self.regions[id.0 as usize] }
    /// Type of a value.
    pub fn ty(&self, id: ValueId) -> &Type { &self.value(id).ty }
    /// Number of values ever made: values are numbered below it.
    pub fn value_count(&self) -> usize { self.values.len() }
    /// Number of nodes ever made.
    pub fn node_count(&self) -> usize { self.nodes.len() }
    /// Number of regions ever made.
    pub fn region_count(&self) -> usize { self.regions.len() }
    /// Inputs of the graph.
    pub fn inputs(&self) -> &[ValueId] { &self.region(BODY).inputs }
    /// Outputs of the graph.
    pub fn outputs(&self) -> &[ValueId] { &self.region(BODY).outputs }

    /// The node that defines a value, if one does.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        match self.value(value).def {
            Def::Node(node, _) => Some(self.node(node)),
            Def::Input(..) => None,
        }
    }

    /// The elements of a value that is a `constant`.
    pub fn constant(&self, value: ValueId) -> Option<Tensor> {
        match &self.producer(value)?.op {
            Op::Constant(c) => Some(c.tensor()),
            _ => None,
        }
    }

    /// The one element that a `constant` repeats, if it does.
    pub fn splat_constant(&self, value: ValueId) -> Option<Const> {
        let t = self.constant(value)?;
        let first = (!t.is_empty()).then(|| t.get(0))?;
        t.iter().all(|c| c == first).then_some(first)
    }

    /// The weight a value is, if it is one.
    pub fn weight(&self, value: ValueId) -> Option<WeightId> {
        match &self.producer(value)?.op {
            Op::Weight(w) => Some(w.id),
            _ => None,
        }
    }

    /// A symbol that is not used yet.
    pub fn fresh_symbol(&mut self) -> Symbol {
        self.next_symbol += 1;
        format!("s{}", self.next_symbol - 1).into()
    }

    /// Keeps [`Graph::fresh_symbol`] away from the symbols in use. Builders that choose symbols themselves call it before.
    pub fn reserve_symbols(&mut self) {
        let mut used = self.symbols();
        for n in self.live_nodes() {
            for (_, attr) in self.node(n).op.attrs() {
                if let Attr::Strs(names) = attr {
                    used.extend(names.iter().map(|s| Symbol::from(s.as_str())));
                }
            }
        }
        let numbers = used.iter().filter_map(|s| s.strip_prefix('s')?.parse::<u32>().ok());
        self.next_symbol = numbers.map(|n| n.saturating_add(1)).fold(self.next_symbol, u32::max);
    }

    /// A new region.
    pub fn add_region(&mut self) -> RegionId {
        self.regions.push(Region::default());
        RegionId(self.regions.len() as u32 - 1)
    }

    /// Adds an input to a region.
    pub fn add_input(&mut self, region: RegionId, ty: Type, name: Option<&str>) -> ValueId {
        let index = self.region(region).inputs.len() as u32;
        let id = self.add_value(ty, Def::Input(region, index), name);
        self.region_mut(region).inputs.push(id);
        id
    }

    fn add_value(&mut self, ty: Type, def: Def, name: Option<&str>) -> ValueId {
        self.values.push(Value { ty, def, name: name.map(Into::into) });
        ValueId(self.values.len() as u32 - 1)
    }

    /// Appends a node to a region, its result types inferred.
    pub fn add(&mut self, region: RegionId, op: impl Into<Op>, inputs: &[ValueId], loc: &Loc) -> Result<NodeId, InferError> {
        let op = op.into();
        let types: Vec<Type> = inputs.iter().map(|&v| self.ty(v).clone()).collect();
        let results = op.infer(&types)?;
        Ok(self.add_typed(region, op, inputs, Vec::new(), results, loc))
    }

    /// Appends a node with one result and returns it.
    pub fn apply(&mut self, region: RegionId, op: impl Into<Op>, inputs: &[ValueId], loc: &Loc) -> Result<ValueId, InferError> {
        let node = self.add(region, op, inputs, loc)?;
        Ok(self.node(node).outputs[0])
    }

    /// Appends a node whose result types are given: `if` and `loop`.
    pub fn add_typed(
        &mut self,
        region: RegionId,
        op: Op,
        inputs: &[ValueId],
        regions: Vec<RegionId>,
        results: Vec<Type>,
        loc: &Loc,
    ) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: Vec::new(), regions, loc: loc.clone() });
        let outputs =
            results.into_iter().enumerate().map(|(i, ty)| self.add_value(ty, Def::Node(id, i as u32), None)).collect();
        self.node_mut(id).outputs = outputs;
        self.region_mut(region).nodes.push(id);
        id
    }

    /// Appends a constant: written in place if small, a weight otherwise.
    pub fn add_constant(&mut self, weights: &mut Weights, region: RegionId, name: &str, tensor: Tensor, loc: &Loc) -> ValueId {
        let small = tensor.len() <= ops::constant::LIMIT && tensor.dtype.in_kernels();
        let op: Op = if small {
            ops::Constant::new(&tensor).into()
        } else {
            let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
            ops::Weight { id: weights.add(name, tensor), dtype, shape }.into()
        };
        self.apply(region, op, &[], loc).expect("constants have no operands")
    }

    /// Makes every use of `old`, region outputs included, use `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        let swap = |v: &mut ValueId| {
            if *v == old {
                *v = new;
            }
        };
        self.nodes.iter_mut().for_each(|n| n.inputs.iter_mut().for_each(swap));
        self.regions.iter_mut().for_each(|r| r.outputs.iter_mut().for_each(swap));
    }

    /// Regions reachable from the body, outer before inner.
    pub fn live_regions(&self) -> Vec<RegionId> {
        let mut found = vec![BODY];
        let mut next = 0;
        while next < found.len() {
            let region = found[next];
            next += 1;
            for &n in &self.region(region).nodes {
                found.extend(&self.node(n).regions);
            }
        }
        found
    }

    /// Nodes of every live region, regions outer before inner, each in order.
    pub fn live_nodes(&self) -> Vec<NodeId> {
        self.live_regions().into_iter().flat_map(|r| self.region(r).nodes.clone()).collect()
    }

    /// For every value, the nodes that use it as an operand, and true if a region gives it.
    pub fn users(&self) -> Vec<Users> {
        let mut users = vec![Users::default(); self.values.len()];
        for region in self.live_regions() {
            for &n in &self.region(region).nodes {
                for &v in &self.node(n).inputs {
                    users[v.0 as usize].nodes.push(n);
                }
            }
            for &v in &self.region(region).outputs {
                users[v.0 as usize].output = true;
            }
        }
        users
    }

    /// Symbols in the types and attributes of everything live.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut out = BTreeSet::new();
        for region in self.live_regions() {
            let r = self.region(region);
            let values = r.inputs.iter().chain(r.nodes.iter().flat_map(|&n| &self.node(n).outputs));
            for &v in values {
                self.ty(v).shape.iter().for_each(|d| d.symbols(&mut out));
            }
            for &n in &r.nodes {
                for (_, attr) in self.node(n).op.attrs() {
                    if let Attr::Dims(dims) = attr {
                        dims.iter().for_each(|d| d.symbols(&mut out));
                    }
                }
            }
        }
        out
    }
}

/// Uses of a value.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// Nodes that have it as an operand, once for each time.
    pub nodes: Vec<NodeId>,
    /// True if a region gives it as an output.
    pub output: bool,
}
