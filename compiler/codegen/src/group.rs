//! Clusters: which nodes share a kernel.
//!
//! A group has one iteration space. It starts at an anchor - a contraction or window template, a reduction, an indexed
//! read, or an elementwise node - and grows forward over elementwise users of the same shape (its epilogue), over further
//! reductions along the same axes (softmax, normalization), and backward over elementwise operands nobody else needs.
//! Views (transpose, slice, broadcast, reshape) and constants belong to no group: whoever reads them reads through them.

use std::collections::{BTreeSet, HashMap, HashSet};

use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{Def, Graph, NodeId, RegionId, Users, ValueId};
use xlac_ir::op::Attr;
use xlac_ir::ops::Op;

use crate::attention::Attention;

/// What a group's kernel is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Elementwise over the space, every operand an affine view.
    Map,
    /// Elementwise over the space, with indexed reads.
    Indexed,
    /// Reductions along these axes, and elementwise nodes over the space or over the reduced space.
    Rows(Vec<usize>),
    /// A template with an epilogue.
    Template,
    /// A node of its own: scatter, recurrence, host routine, control flow.
    Single,
    /// Joins its operands in one buffer.
    Concat,
    /// Attention in blocks, with an epilogue.
    Attention(Box<Attention>),
}

/// Nodes that share a kernel.
#[derive(Clone, Debug)]
pub struct Group {
    /// How it is built.
    pub kind: Kind,
    /// First node.
    pub anchor: NodeId,
    /// Iteration space.
    pub space: Vec<Dim>,
    /// All nodes, each after those it depends on.
    pub members: Vec<NodeId>,
    /// Values that are needed outside of the group.
    pub exits: Vec<ValueId>,
}

/// What a node is to grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Constant or weight.
    Leaf,
    /// Read through, never computed on its own.
    View,
    /// Elementwise.
    Element,
    /// Reads at computed indices.
    Index,
    /// `reduce`.
    Reduce,
    /// Contraction or window with an epilogue.
    Template,
    /// Kernel without an epilogue, host routine or control flow.
    Single,
    /// `concat`.
    Concat,
}

/// Classifies a node.
pub fn class(op: &Op) -> Class {
    match op {
        Op::Constant(_) | Op::Weight(_) => Class::Leaf,
        Op::Transpose(_) | Op::Reshape(_) | Op::Broadcast(_) | Op::Slice(_) => Class::View,
        Op::Iota(_) | Op::Dims(_) | Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) | Op::Pad(_) => Class::Index,
        Op::Reduce(_) => Class::Reduce,
        Op::MatMul(_) | Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) => Class::Template,
        Op::Concat(_) => Class::Concat,
        op if op.is_elementwise() => Class::Element,
        _ => Class::Single,
    }
}

/// Groups the nodes of one region; the groups come in an order in which each follows those it depends on. `join_gathers`
/// lets several gathers share a kernel.
pub fn groups(
    g: &Graph,
    region: RegionId,
    users: &[Users],
    escaping: &HashSet<ValueId>,
    attentions: Vec<Attention>,
    join_gathers: bool,
) -> Vec<Group> {
    let mut grouping = Grouping::new(g, region, users, escaping, join_gathers);
    grouping.attentions(attentions);
    // Templates choose their epilogues first, then reductions; what is left is elementwise.
    for pass in [&[Class::Template][..], &[Class::Reduce], &[Class::Index, Class::Element, Class::Single, Class::Concat]] {
        for &n in &g.region(region).nodes {
            if pass.contains(&class(&g.node(n).op)) && grouping.group_of[n.0 as usize].is_none() && !grouping.is_gathered(n) {
                grouping.start(n);
            }
        }
    }
    grouping.finish()
}

struct Grouping<'a> {
    g: &'a Graph,
    region: RegionId,
    users: &'a [Users],
    escaping: &'a HashSet<ValueId>,
    /// Position of a node in the region's order.
    position: Vec<usize>,
    group_of: Vec<Option<usize>>,
    groups: Vec<Group>,
    /// For nodes that use symbols bound by a node of the region: the values that binding needs.
    symbol_reads: HashMap<NodeId, Vec<ValueId>>,
    /// For every position, the last position of the groups that have a member there.
    reach: PrefixMax,
    /// Several gathers may share a kernel.
    join_gathers: bool,
}

/// The largest of the numbers stored at the first positions of a list; numbers only grow (a Fenwick tree).
struct PrefixMax(Vec<usize>);

impl PrefixMax {
    /// Raises the number at `position` to at least `number`.
    fn raise(&mut self, position: usize, number: usize) {
        let mut i = position + 1;
        while i < self.0.len() {
            self.0[i] = self.0[i].max(number);
            i += i & i.wrapping_neg();
        }
    }

    /// The largest number at positions `0..=position`.
    fn up_to(&self, position: usize) -> usize {
        let mut i = position + 1;
        let mut largest = 0;
        while i > 0 {
            largest = largest.max(self.0[i]);
            i -= i & i.wrapping_neg();
        }
        largest
    }
}

impl<'a> Grouping<'a> {
    fn new(g: &'a Graph, region: RegionId, users: &'a [Users], escaping: &'a HashSet<ValueId>, join_gathers: bool) -> Grouping<'a> {
        let mut position = vec![usize::MAX; g.node_count()];
        for (i, n) in g.region(region).nodes.iter().enumerate() {
            position[n.0 as usize] = i;
        }
        let reach = PrefixMax(vec![0; g.region(region).nodes.len() + 1]);
        Grouping { g, region, users, escaping, position, group_of: vec![None; g.node_count()], groups: Vec::new(), symbol_reads: symbol_reads(g, region), reach, join_gathers }
    }

    /// All of them are groups before any takes in an epilogue.
    fn attentions(&mut self, attentions: Vec<Attention>) {
        let first = self.groups.len();
        for a in attentions {
            let (id, anchor, members) = (self.groups.len(), a.anchor, a.members.clone());
            let space = self.out_shape(anchor);
            self.groups.push(Group { kind: Kind::Attention(Box::new(a)), anchor, space, members: Vec::new(), exits: Vec::new() });
            members.into_iter().for_each(|n| self.insert(id, n));
        }
        (first..self.groups.len()).for_each(|id| self.grow(id));
    }

    fn start(&mut self, n: NodeId) {
        let node = self.g.node(n);
        let (kind, space) = match (&node.op, class(&node.op)) {
            (Op::Reduce(r), _) => (Kind::Rows(r.axes.clone()), self.g.ty(node.inputs[0]).shape.clone()),
            (_, Class::Template) => (Kind::Template, self.out_shape(n)),
            (_, Class::Index) => (Kind::Indexed, self.out_shape(n)),
            (_, Class::Element) => (Kind::Map, self.out_shape(n)),
            (_, Class::Concat) => (Kind::Concat, self.out_shape(n)),
            _ => (Kind::Single, Vec::new()),
        };
        let id = self.groups.len();
        self.groups.push(Group { kind, anchor: n, space, members: vec![n], exits: Vec::new() });
        self.group_of[n.0 as usize] = Some(id);
        if !matches!(self.groups[id].kind, Kind::Single | Kind::Concat) {
            self.grow(id);
        }
    }

    /// True for a gather by a vector that another such gather, the only one to use it, reads at its own indices.
    fn is_gathered(&self, n: NodeId) -> bool {
        let by_vector = |n: NodeId| match &self.g.node(n).op {
            Op::Gather(_) => self.g.ty(self.g.node(n).inputs[1]).rank() == 1,
            _ => false,
        };
        let v = self.g.node(n).outputs.first().copied().filter(|_| self.join_gathers && by_vector(n));
        v.is_some_and(|v| {
            let users = &self.users[v.0 as usize];
            let reads = |&u: &NodeId| by_vector(u) && self.g.node(u).inputs[0] == v && self.g.node(u).inputs[1] != v;
            let here = |u: &NodeId| self.position[u.0 as usize] != usize::MAX;
            !users.output && !self.escaping.contains(&v) && users.nodes.len() == 1 && users.nodes.iter().all(|u| here(u) && reads(u))
        })
    }

    fn out_shape(&self, n: NodeId) -> Vec<Dim> { self.g.ty(self.g.node(n).outputs[0]).shape.clone() }

    fn grow(&mut self, id: usize) {
        self.absorb_operands(id);
        loop {
            let candidates: Vec<NodeId> = self.groups[id]
                .members
                .iter()
                .flat_map(|&m| self.g.node(m).outputs.iter().flat_map(|v| self.users[v.0 as usize].nodes.clone()))
                .collect();
            let found = candidates.into_iter().filter(|&n| self.joins(id, n)).min_by_key(|n| self.position[n.0 as usize]);
            let Some(n) = found else { return };
            self.insert(id, n);
            self.absorb_operands(id);
        }
    }

    fn insert(&mut self, id: usize, n: NodeId) {
        self.group_of[n.0 as usize] = Some(id);
        let position = &self.position;
        let members = &mut self.groups[id].members;
        let at = members.partition_point(|m| position[m.0 as usize] < position[n.0 as usize]);
        members.insert(at, n);
        let last = members.last().map_or(0, |m| position[m.0 as usize]);
        members.iter().for_each(|m| self.reach.raise(position[m.0 as usize], last));
    }

    /// True if `n`, a user of group `id`, can be computed in its kernel.
    fn joins(&self, id: usize, n: NodeId) -> bool {
        let group = &self.groups[id];
        let free = self.group_of[n.0 as usize].is_none() && self.position[n.0 as usize] != usize::MAX;
        free && group.members.len() < 64 && self.fits(group, n) && self.operands_are_ready(id, n)
    }

    /// True if `n` has the group's iteration space.
    fn fits(&self, group: &Group, n: NodeId) -> bool {
        let node = self.g.node(n);
        match (&node.op, &group.kind) {
            (Op::Reduce(r), Kind::Rows(axes)) => {
                r.axes == *axes && self.g.ty(node.inputs[0]).shape == group.space && self.in_group_value(group, node.inputs[0])
            }
            (op, kind) if op.is_elementwise() => {
                let shape = self.out_shape(n);
                shape == group.space || matches!(kind, Kind::Rows(axes) if shape == reduced(&group.space, axes))
            }
            _ => false,
        }
    }

    fn in_group_value(&self, group: &Group, v: ValueId) -> bool {
        matches!(self.g.value(v).def, Def::Node(p, _) if group.members.contains(&p))
    }

    /// True if no operand of `n` from outside depends on the group, and every one can be read where it is needed.
    fn operands_are_ready(&self, id: usize, n: NodeId) -> bool {
        let group = &self.groups[id];
        let operands = self.g.node(n).inputs.iter().all(|&v| match self.g.value(v).def {
            Def::Node(p, _) if group.members.contains(&p) => true,
            _ => !self.depends(v, group),
        });
        operands && self.symbol_reads.get(&n).is_none_or(|bound| bound.iter().all(|&v| !self.depends(v, group)))
    }

    /// True if `v` depends on a member of the group.
    fn depends(&self, v: ValueId, group: &Group) -> bool {
        let first = group.members.iter().map(|m| self.position[m.0 as usize]).min().unwrap_or(0);
        let mut stack = vec![v];
        let mut seen = HashSet::new();
        while let Some(v) = stack.pop() {
            let Def::Node(p, _) = self.g.value(v).def else { continue };
            let at = self.position[p.0 as usize];
            if at == usize::MAX || !seen.insert(p) {
                continue;
            }
            if group.members.contains(&p) {
                return true;
            }
            // What lies before the group cannot depend on it, unless a group reaches from there to behind it.
            if at < first && self.reach.up_to(at) <= at {
                continue;
            }
            match self.group_of[p.0 as usize] {
                Some(other) => stack.extend(self.groups[other].members.iter().flat_map(|&m| self.reads(m))),
                None => stack.extend(self.reads(p)),
            }
        }
        false
    }

    /// Values a node reads, those its regions capture included.
    fn reads(&self, n: NodeId) -> Vec<ValueId> {
        let node = self.g.node(n);
        let mut out = node.inputs.clone();
        out.extend(self.symbol_reads.get(&n).into_iter().flatten());
        let mut regions = node.regions.clone();
        while let Some(r) = regions.pop() {
            let region = self.g.region(r);
            out.extend(&region.outputs);
            for &m in &region.nodes {
                out.extend(&self.g.node(m).inputs);
                regions.extend(&self.g.node(m).regions);
            }
        }
        out
    }

    /// Takes in elementwise operands of the group's space that nobody else uses.
    fn absorb_operands(&mut self, id: usize) {
        if self.groups[id].kind == Kind::Template && self.groups[id].members.len() == 1 {
            return; // Operands of the template itself are not elementwise in its space.
        }
        if matches!(self.groups[id].kind, Kind::Attention(_)) {
            return; // Those on the scores are not in the space of the result.
        }
        loop {
            let group = &self.groups[id];
            let is_template = |m: NodeId| matches!(class(&self.g.node(m).op), Class::Template | Class::Index);
            let operands = group.members.iter().filter(|&&m| !is_template(m)).flat_map(|&m| self.g.node(m).inputs.clone());
            let gathered = group.members.iter().filter_map(|&m| self.gathered(m));
            let found = gathered.chain(operands.into_iter().find_map(|v| self.absorbable(id, v))).next();
            match found {
                Some(n) => self.insert(id, n),
                None => return,
            }
        }
    }

    /// The gather that was left for gather `m` to take in.
    fn gathered(&self, m: NodeId) -> Option<NodeId> {
        let node = self.g.node(m);
        let Op::Gather(_) = node.op else { return None };
        let Def::Node(p, _) = self.g.value(node.inputs[0]).def else { return None };
        (self.group_of[p.0 as usize].is_none() && self.is_gathered(p)).then_some(p)
    }

    fn absorbable(&self, id: usize, v: ValueId) -> Option<NodeId> {
        let group = &self.groups[id];
        let Def::Node(p, _) = self.g.value(v).def else { return None };
        let node = self.g.node(p);
        let free = self.group_of[p.0 as usize].is_none() && self.position[p.0 as usize] != usize::MAX;
        let cheap = !matches!(group.kind, Kind::Rows(_)) || cost(&node.op) <= 4;
        let private = |v: &ValueId| {
            let u = &self.users[v.0 as usize];
            !u.output && !self.escaping.contains(v) && u.nodes.iter().all(|n| group.members.contains(n))
        };
        // The template reads its operands from memory.
        let read = group.kind == Kind::Template && self.g.node(group.anchor).inputs.contains(&v);
        let gathers = self.join_gathers && group.kind == Kind::Indexed && matches!(node.op, Op::Gather(_));
        let ok = free
            && !read
            && cheap
            && (node.op.is_elementwise() || gathers)
            && self.out_shape(p) == group.space
            && group.members.len() < 64
            && node.outputs.iter().all(private)
            && self.operands_are_ready(id, p);
        ok.then_some(p)
    }

    fn finish(mut self) -> Vec<Group> {
        for id in 0..self.groups.len() {
            self.groups[id].exits = self.exits(&self.groups[id]);
        }
        self.sorted()
    }

    fn exits(&self, group: &Group) -> Vec<ValueId> {
        let outside = |v: &ValueId| {
            let u = &self.users[v.0 as usize];
            u.output || self.escaping.contains(v) || u.nodes.iter().any(|n| !group.members.contains(n))
        };
        group.members.iter().flat_map(|&m| self.g.node(m).outputs.clone()).filter(outside).collect()
    }

    /// Symbols a group needs to know: those of its values, of its attributes, and of the views it reads through.
    fn symbols(&self, group: &Group) -> BTreeSet<Symbol> {
        let mut out = BTreeSet::new();
        let mut stack = group.members.clone();
        let mut seen = HashSet::new();
        while let Some(n) = stack.pop() {
            if !seen.insert(n) {
                continue;
            }
            let node = self.g.node(n);
            for &v in node.inputs.iter().chain(&node.outputs) {
                self.g.ty(v).shape.iter().for_each(|d| d.symbols(&mut out));
            }
            for (_, attr) in node.op.attrs() {
                if let Attr::Dims(dims) = attr {
                    dims.iter().for_each(|d| d.symbols(&mut out));
                }
            }
            for &r in &node.regions {
                stack.extend(&self.g.region(r).nodes);
            }
            for v in self.reads(n) {
                if let Def::Node(p, _) = self.g.value(v).def
                    && class(&self.g.node(p).op) == Class::View
                {
                    stack.push(p);
                }
            }
        }
        out
    }

    /// Groups in dependency order, otherwise as in the model.
    fn sorted(self) -> Vec<Group> {
        let n = self.groups.len();
        let mut needs: Vec<HashSet<usize>> = vec![HashSet::new(); n];
        for (id, group) in self.groups.iter().enumerate() {
            let mut stack: Vec<ValueId> = group.members.iter().flat_map(|&m| self.reads(m)).collect();
            let mut seen = HashSet::new();
            while let Some(v) = stack.pop() {
                let Def::Node(p, _) = self.g.value(v).def else { continue };
                if self.position[p.0 as usize] == usize::MAX || !seen.insert(p) {
                    continue;
                }
                match self.group_of[p.0 as usize] {
                    Some(other) if other != id => _ = needs[id].insert(other),
                    Some(_) => {}
                    None => stack.extend(self.reads(p)),
                }
            }
        }
        // Symbols must be bound before they are used.
        for (b, group) in self.groups.iter().enumerate() {
            let bound = xlac_ir::view::binds(&self.g.node(group.anchor).op);
            if bound.is_empty() {
                continue;
            }
            for (id, needs) in needs.iter_mut().enumerate().filter(|(id, _)| *id != b) {
                let used = self.symbols(&self.groups[id]);
                if bound.iter().any(|s| used.contains(s)) {
                    needs.insert(b);
                }
            }
        }
        let position = |g: &Group| g.members.iter().map(|m| self.position[m.0 as usize]).max().unwrap_or(0);
        let mut done = vec![false; n];
        let mut order: Vec<usize> = Vec::with_capacity(n);
        let mut by_position: Vec<usize> = (0..n).collect();
        by_position.sort_by_key(|&i| position(&self.groups[i]));
        while order.len() < n {
            let before = order.len();
            for &i in &by_position {
                if !done[i] && needs[i].iter().all(|&d| done[d]) {
                    done[i] = true;
                    order.push(i);
                }
            }
            assert!(order.len() > before, "groups of region {:?} depend on each other in a circle", self.region);
        }
        let mut slots: Vec<Option<Group>> = self.groups.into_iter().map(Some).collect();
        order.into_iter().map(|i| slots[i].take().expect("each group once")).collect()
    }
}

/// For every node of a region that uses symbols bound in it: what must be computed before they are bound.
fn symbol_reads(g: &Graph, region: RegionId) -> HashMap<NodeId, Vec<ValueId>> {
    let mut bound: HashMap<Symbol, Vec<ValueId>> = HashMap::new();
    for &n in &g.region(region).nodes {
        let node = g.node(n);
        for s in xlac_ir::view::binds(&node.op) {
            let values = if node.outputs.is_empty() { &node.inputs } else { &node.outputs };
            bound.insert(s.clone(), values.clone());
        }
    }
    let mut out = HashMap::new();
    if bound.is_empty() {
        return out;
    }
    for &n in &g.region(region).nodes {
        let node = g.node(n);
        let mut symbols = BTreeSet::new();
        node.outputs.iter().for_each(|&v| g.ty(v).shape.iter().for_each(|d| d.symbols(&mut symbols)));
        for (_, attr) in node.op.attrs() {
            if let Attr::Dims(dims) = attr {
                dims.iter().for_each(|d| d.symbols(&mut symbols));
            }
        }
        let own = xlac_ir::view::binds(&node.op);
        let reads: Vec<ValueId> =
            symbols.iter().filter(|s| !own.contains(s)).filter_map(|s| bound.get(s)).flatten().copied().collect();
        if !reads.is_empty() {
            out.insert(n, reads);
        }
    }
    out
}

/// The space with the reduced axes of size 1.
pub fn reduced(space: &[Dim], axes: &[usize]) -> Vec<Dim> {
    space.iter().enumerate().map(|(a, d)| if axes.contains(&a) { Dim::ONE } else { d.clone() }).collect()
}

/// Rough cost of an elementwise op.
pub fn cost(op: &Op) -> u32 {
    match op {
        Op::Unary(f) => f.cost(),
        Op::Binary(f) => f.cost(),
        _ => 1,
    }
}
