//! Walks a program group by group: places values in buffers, emits kernels and the steps that launch them.

use std::collections::{BTreeSet, HashMap, HashSet};

use xlac_ir::backend::Target;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{BODY, Def, Graph, Loc, NodeId, Program, RegionId, Users, ValueId};
use xlac_ir::kernel::{Const, Kernel};
use xlac_ir::ops::Op;
use xlac_ir::types::Type;
use xlac_ir::weights::Weights;
use xlac_ir::DType;

use crate::attention::{self, Attention};
use crate::eval::Leaf;
use crate::group::{self, Group, Kind};
use crate::kb::{Kb, Place, multiple};
use crate::kernels::{self, map};
use crate::layout::Halo;
use crate::pack::{Blob, Pack, Source};
use crate::plan::{Buffer, BufferId, Io, Launch, Plan, Step, Storage};
use crate::tied::{self, Tied};
use crate::view::{Layout, View};
use crate::{CompileError, Numerics, Options};

/// Code generation in progress.
pub struct Lowering<'a> {
    /// The graph.
    pub g: &'a Graph,
    /// Its weights.
    pub weights: &'a Weights,
    /// What the kernels are built for.
    pub target: &'a Target,
    /// What the user asked for.
    pub options: &'a Options,
    /// Uses of every value.
    pub users: Vec<Users>,
    /// The result so far.
    pub plan: Plan,
    kernel_index: HashMap<Kernel, usize>,
    blob_index: Vec<(Blob, BufferId)>,
    places: HashMap<ValueId, Place>,
    layouts: HashMap<ValueId, Layout>,
    halos: HashMap<ValueId, Halo>,
    /// Row-major copies, per open region.
    relaid: Vec<HashMap<ValueId, Place>>,
    /// Values computed straight into a part of a concatenation: the concatenation and the offset along its axis.
    sinks: HashMap<ValueId, (ValueId, usize, Dim)>,
    /// Values used in another region than their own.
    escaping: HashSet<ValueId>,
    steps: Vec<Vec<Step>>,
    /// Symbols that are known before the first step.
    early: BTreeSet<Symbol>,
    /// Weights to be read from panels where that is possible.
    pub tied: Tied,
}

/// Lowers a whole program.
pub fn lower(program: &Program, target: &Target, options: &Options) -> Result<Plan, CompileError> {
    let plan = lower_with(program, target, options, Tied::new())?;
    let tied = if target.is_gpu() { Tied::new() } else { tied::find(&plan, &program.weights) };
    if tied.is_empty() {
        return Ok(plan);
    }
    let again = lower_with(program, target, options, tied)?;
    // There may be readers that need the table as it is.
    let is_smaller = tied::bytes(&again, &program.weights) < tied::bytes(&plan, &program.weights);
    Ok(if is_smaller { again } else { plan })
}

fn lower_with(program: &Program, target: &Target, options: &Options, tied: Tied) -> Result<Plan, CompileError> {
    let mut l = Lowering::new(program, target, options, tied);
    l.declare_io();
    l.begin_region();
    l.region(BODY)?;
    l.write_outputs()?;
    l.plan.steps = l.end_region();
    l.plan.constraints = program.graph.constraints.clone();
    l.plan.ranges = program.graph.ranges.clone();
    let early = l.early.clone();
    crate::memory::place(&mut l.plan, &early);
    Ok(l.plan)
}

impl<'a> Lowering<'a> {
    fn new(program: &'a Program, target: &'a Target, options: &'a Options, tied: Tied) -> Lowering<'a> {
        let g = &program.graph;
        let mut early = BTreeSet::new();
        for &v in g.inputs() {
            g.ty(v).shape.iter().filter_map(Dim::as_symbol).for_each(|s| _ = early.insert(s.clone()));
        }
        Lowering {
            g,
            weights: &program.weights,
            target,
            options,
            users: g.users(),
            plan: Plan::default(),
            kernel_index: HashMap::new(),
            blob_index: Vec::new(),
            places: HashMap::new(),
            layouts: HashMap::new(),
            halos: HashMap::new(),
            relaid: Vec::new(),
            sinks: HashMap::new(),
            escaping: escaping(g),
            steps: Vec::new(),
            early,
            tied,
        }
    }

    /// Element type a value is kept in between kernels: on CPUs narrow floats as f32, rounded when they are computed.
    pub fn storage(&self, dtype: DType) -> DType {
        match dtype {
            DType::F16 | DType::BF16 if !self.target.is_gpu() => DType::F32,
            t => t,
        }
    }

    /// True for inputs of narrow floats on CPUs, which values between kernels are not.
    pub fn is_narrow(&self, place: &Place) -> bool { place.dtype != self.storage(place.dtype) }

    /// True if an op the runtime has a routine for is to be a kernel all the same.
    pub fn stays_on_device(&self, op: &str) -> bool {
        self.target.is_gpu() && !self.options.allow_host.iter().any(|allowed| allowed == op)
    }

    /// How the target walks iteration spaces.
    pub fn walk(&self) -> map::Walk { map::Walk { masked: self.target.masked_memory, fine: self.target.is_gpu() } }

    /// True if kernels must follow the contract's order of operations to the letter.
    pub fn exact(&self) -> bool { self.options.numerics == Numerics::Exact }

    fn declare_io(&mut self) {
        for (i, &v) in self.g.inputs().iter().enumerate() {
            let ty = self.g.ty(v).clone();
            let buffer = self.buffer(Storage::Input(i as u32), bytes(&ty.shape, ty.dtype));
            let name = self.g.value(v).name.as_deref().unwrap_or("").to_string();
            self.places.insert(v, Place { buffer, view: View::dense(&ty.shape, Layout::RowMajor), dtype: ty.dtype });
            self.plan.inputs.push(Io { name, ty, buffer });
        }
        for (i, &v) in self.g.outputs().iter().enumerate() {
            let ty = self.g.ty(v).clone();
            let late = self.is_late(&ty.shape);
            let storage = if late { Storage::Heap } else { Storage::Output(i as u32) };
            let buffer = self.buffer(storage, bytes(&ty.shape, ty.dtype));
            let name = self.g.output_names.get(i).map(|n| n.to_string()).unwrap_or_default();
            self.plan.outputs.push(Io { name, ty, buffer });
        }
    }

    fn is_late(&self, shape: &[Dim]) -> bool {
        let mut symbols = BTreeSet::new();
        shape.iter().for_each(|d| d.symbols(&mut symbols));
        !symbols.is_subset(&self.early)
    }

    /// A new buffer.
    pub fn buffer(&mut self, storage: Storage, bytes: Dim) -> BufferId {
        self.plan.buffers.push(Buffer { storage, bytes });
        BufferId(self.plan.buffers.len() as u32 - 1)
    }

    /// Constant data; equal data is stored once.
    pub fn blob(&mut self, blob: Blob) -> BufferId {
        if let Some((_, buffer)) = self.blob_index.iter().find(|(b, _)| *b == blob) {
            return *buffer;
        }
        let bytes = Dim::from(blob.bytes(self.weights));
        let index = self.plan.blobs.len() as u32;
        self.plan.blobs.push(blob.clone());
        let buffer = self.buffer(Storage::Blob(index), bytes);
        self.blob_index.push((blob, buffer));
        buffer
    }

    /// A dense row-major temporary for a value of this type.
    pub fn temp(&mut self, ty: &Type) -> Place { self.temp_in(ty, Layout::RowMajor) }

    fn temp_in(&mut self, ty: &Type, layout: Layout) -> Place {
        let dtype = self.storage(ty.dtype);
        let buffer = self.buffer(Storage::Temp, bytes(&ty.shape, dtype));
        Place { buffer, view: View::dense(&ty.shape, layout), dtype }
    }

    /// Opens a list of steps.
    pub fn begin_region(&mut self) {
        self.steps.push(Vec::new());
        self.relaid.push(HashMap::new());
    }

    /// Closes the innermost list of steps.
    pub fn end_region(&mut self) -> Vec<Step> {
        self.relaid.pop();
        self.steps.pop().expect("a region is open")
    }

    /// Emits what `f` emits if `guard` is 1, and nothing if it is 0, which may be known only when the model runs: launches get
    /// as many times the tiles. What else `f` emits is made either way. Results are placed before.
    pub fn guarded(&mut self, guard: &Dim, f: impl FnOnce(&mut Self) -> Result<(), CompileError>) -> Result<(), CompileError> {
        self.begin_region();
        let done = f(self);
        for mut step in self.end_region() {
            if let Step::Launch(launch) = &mut step {
                let Launch { tiles, flops, traffic, .. } = launch;
                [tiles, flops, traffic].into_iter().for_each(|d| *d = &*d * guard);
            }
            self.step(step);
        }
        done
    }

    /// Appends a step to the innermost list.
    pub fn step(&mut self, step: Step) { self.steps.last_mut().expect("a region is open").push(step); }

    /// Number of steps of the innermost list: what is emitted from here on can be taken back with
    /// [`Lowering::end_deferred`], to be appended later.
    pub fn begin_deferred(&self) -> usize { self.steps.last().map_or(0, Vec::len) }

    /// Takes back the steps emitted since [`Lowering::begin_deferred`].
    pub fn end_deferred(&mut self, before: usize) -> Vec<Step> {
        self.steps.last_mut().expect("a region is open").split_off(before)
    }

    /// The error for an op without a kernel.
    pub fn unsupported(&self, group: &Group, op: &Op) -> CompileError {
        CompileError { reason: format!("`{}` has no kernel for this target", op.mnemonic()), loc: self.loc(group) }
    }

    /// Lowers the nodes of a region into the innermost list.
    pub fn region(&mut self, region: RegionId) -> Result<(), CompileError> {
        let attentions = self.attentions(region);
        let groups = group::groups(self.g, region, &self.users, &self.escaping, attentions, !self.target.is_gpu());
        crate::layout::assign(self, &groups);
        self.plan_sinks(&groups);
        groups.iter().try_for_each(|group| self.group(group))
    }

    /// The attentions of a region that have a kernel: it reorders sums.
    fn attentions(&self, region: RegionId) -> Vec<Attention> {
        if self.exact() {
            return Vec::new();
        }
        attention::find(self.g, region, &self.users, &self.escaping)
    }

    fn group(&mut self, group: &Group) -> Result<(), CompileError> {
        match &group.kind {
            Kind::Map => map::lower(self, group),
            Kind::Indexed => kernels::indexed::lower(self, group),
            Kind::Rows(axes) => kernels::rows::lower(self, group, axes),
            Kind::Template => kernels::template(self, group),
            Kind::Single => kernels::single(self, group),
            Kind::Concat => self.concat(group),
            Kind::Attention(a) => kernels::attention::lower(self, group, a),
        }
    }

    /// Where a value lies, through any views; copies are made where strides cannot express a view.
    pub fn access(&mut self, v: ValueId) -> Place {
        if let Some(place) = self.places.get(&v) {
            return place.clone();
        }
        if let Some(place) = self.relaid.iter().rev().find_map(|m| m.get(&v)) {
            return place.clone();
        }
        let Def::Node(n, _) = self.g.value(v).def else { unreachable!("region inputs are placed when the region opens") };
        let node = self.g.node(n);
        let input = node.inputs.first().copied();
        match (&node.op, input) {
            (Op::Constant(c), _) => self.constant_place(Source::Tensor(c.tensor()), self.g.ty(v)),
            (Op::Weight(w), _) => self.constant_place(Source::Weight(w.id), self.g.ty(v)),
            (Op::Transpose(t), Some(x)) => self.map_view(x, |view| view.transpose(&t.perm)),
            (Op::Slice(s), Some(x)) => self.map_view(x, |view| view.slice(&s.starts, &s.steps)),
            (Op::Broadcast(b), Some(x)) => {
                let from = self.g.ty(x).shape.clone();
                self.map_view(x, |view| view.broadcast(&from, &b.shape))
            }
            (Op::Reshape(r), Some(x)) => self.reshape(x, &r.shape),
            (op, _) => unreachable!("the result of `{}` is used before it is computed", op.mnemonic()),
        }
    }

    fn map_view(&mut self, x: ValueId, f: impl FnOnce(&View) -> View) -> Place {
        let place = self.access(x);
        Place { view: f(&place.view), ..place }
    }

    fn reshape(&mut self, x: ValueId, to: &[Dim]) -> Place {
        let from = self.g.ty(x).shape.clone();
        let place = self.access(x);
        if let Some(view) = place.view.reshape(&from, to) {
            return Place { view, ..place };
        }
        let place = self.row_major(x);
        // Dense row-major data can take any shape of as many elements, even if their dims do not say so.
        let view = View { offset: place.view.offset.clone(), ..View::dense(to, Layout::RowMajor) };
        Place { view, ..place }
    }

    fn constant_place(&mut self, source: Source, ty: &Type) -> Place {
        let dtype = self.storage(ty.dtype);
        let buffer = self.blob(Blob { source, pack: Pack::Plain, dtype });
        Place { buffer, view: View::dense(&ty.shape, Layout::RowMajor), dtype }
    }

    /// Where a value lies dense and row-major; a copy if it does not yet.
    pub fn row_major(&mut self, v: ValueId) -> Place {
        let shape = self.g.ty(v).shape.clone();
        let place = self.access(v);
        if place.view.is_row_major(&shape) {
            return place;
        }
        if let Some(place) = self.relaid.iter().rev().find_map(|m| m.get(&v)).filter(|p| p.view.is_row_major(&shape)) {
            return place.clone();
        }
        let to = self.temp(self.g.ty(v));
        self.copy(v, &to);
        if !self.places.contains_key(&v) {
            self.relaid.last_mut().expect("a region is open").insert(v, to.clone());
        }
        to
    }

    /// Where a value lies dense and row-major at the start of a buffer: for steps that take whole buffers.
    pub fn whole_buffer(&mut self, v: ValueId) -> Place {
        let place = self.row_major(v);
        // Inputs and outputs of narrow floats have another element type than values between kernels.
        if place.view.offset.is(0) && place.dtype == self.storage(place.dtype) {
            return place;
        }
        let to = self.temp(self.g.ty(v));
        self.copy(v, &to);
        to
    }

    /// Emits a kernel that copies a value to another place.
    pub fn copy(&mut self, v: ValueId, to: &Place) {
        let shape = self.g.ty(v).shape.clone();
        let loc = self.g.producer(v).map(|n| n.loc.clone()).unwrap_or_default();
        map::emit(self, "copy", &shape, &[(v, to.clone())], &HashSet::new(), &loc);
    }

    /// How a value is read from a kernel over `space`; `order` maps the kernel's loops to axes of the space.
    pub fn leaf_view(&mut self, v: ValueId, space: &[Dim]) -> Place {
        let place = self.access(v);
        let from = self.g.ty(v).shape.clone();
        Place { view: place.view.broadcast(&from, space), ..place }
    }

    /// The constant leaf a value is, if it repeats one element.
    pub fn const_leaf(&self, v: ValueId) -> Option<Leaf> { self.g.splat_constant(v).map(Leaf::Const) }

    /// Layout chosen for a value.
    pub fn layout(&self, v: ValueId) -> Layout { self.layouts.get(&v).copied().unwrap_or(Layout::RowMajor) }

    /// Chooses the layout of a value, before it is placed.
    pub fn set_layout(&mut self, v: ValueId, layout: Layout) { self.layouts.insert(v, layout); }

    /// Reserves room for padding around a value, before it is placed.
    pub fn set_halo(&mut self, v: ValueId, halo: Halo) { self.halos.insert(v, halo); }

    /// The zeros stored around a value, if it was computed into a place of its own.
    pub fn halo(&self, v: ValueId) -> Option<&Halo> {
        self.halos.get(&v).filter(|_| self.places.contains_key(&v) && !self.sinks.contains_key(&v))
    }

    /// A channels-last temporary with zeros around it; they are written now.
    fn temp_with_halo(&mut self, ty: &Type, halo: &Halo) -> Place {
        let mut shape = ty.shape.clone();
        for (s, (b, a)) in halo.before.iter().zip(&halo.after).enumerate() {
            shape[2 + s] = &shape[2 + s] + &Dim::from(b + a);
        }
        let dtype = self.storage(ty.dtype);
        let buffer = self.buffer(Storage::Temp, bytes(&shape, dtype));
        let whole = View::dense(&shape, Layout::ChannelsLast);
        let widths = |all: &[i64]| all.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>();
        let (before, after) = (widths(&halo.before), widths(&halo.after));
        let place = Place { buffer, view: whole, dtype };
        map::border(self, &shape, &place, (&before, &after), Const::number(dtype, 0.0));
        let mut inside = place.view.clone();
        for (s, before) in before.iter().enumerate() {
            inside.offset = &inside.offset + &(before * &place.view.strides[2 + s]);
        }
        Place { view: inside, ..place }
    }

    /// True if a value already lies somewhere.
    pub fn is_placed(&self, v: ValueId) -> bool { self.places.contains_key(&v) }

    /// Says where a value lies.
    pub fn set_place(&mut self, v: ValueId, place: Place) { self.places.insert(v, place); }

    /// Where a value that a group computes will lie.
    pub fn place_exit(&mut self, v: ValueId) -> Place {
        if let Some(place) = self.places.get(&v) {
            return place.clone();
        }
        let layout = self.layout(v);
        let ty = self.g.ty(v).clone();
        let place = if let Some((parent, axis, start)) = self.sinks.get(&v).cloned() {
            let parent = self.place_exit(parent);
            let offset = &parent.view.offset + &(&start * &parent.view.strides[axis]);
            Place { view: View { offset, ..parent.view }, ..parent }
        } else if let Some(i) = self.output_slot(v).filter(|_| layout == Layout::RowMajor) {
            let buffer = self.plan.outputs[i].buffer;
            Place { buffer, view: View::dense(&ty.shape, Layout::RowMajor), dtype: ty.dtype }
        } else if let Some(halo) = self.halos.get(&v).cloned() {
            self.temp_with_halo(&ty, &halo)
        } else {
            self.temp_in(&ty, layout)
        };
        self.places.insert(v, place.clone());
        place
    }

    /// The graph output a value of the body is computed straight into.
    fn output_slot(&self, v: ValueId) -> Option<usize> {
        let slot = self.g.outputs().iter().position(|&o| o == v)?;
        let narrow = self.storage(self.g.ty(v).dtype) != self.g.ty(v).dtype;
        // Narrow floats that are read again stay f32; heap outputs are sized when they are first written.
        (!(narrow && !self.users[v.0 as usize].nodes.is_empty())).then_some(slot)
    }

    /// True if a value is an output of the graph.
    pub fn is_output(&self, v: ValueId) -> bool { self.g.outputs().contains(&v) }

    fn plan_sinks(&mut self, groups: &[Group]) {
        for group in groups.iter().rev().filter(|gr| gr.kind == Kind::Concat) {
            let node = self.g.node(group.anchor);
            let Op::Concat(concat) = &node.op else { continue };
            let parent = node.outputs[0];
            let mut start = Dim::ZERO;
            for &v in &node.inputs {
                let computed = groups.iter().any(|gr| {
                    gr.exits.contains(&v) && !matches!(gr.kind, Kind::Single)
                });
                let same_layout = self.layout(v) == self.layout(parent);
                let taken = self.sinks.contains_key(&v) || self.is_output(v) || self.escaping.contains(&v);
                let once = node.inputs.iter().filter(|&&x| x == v).count() == 1;
                let late = self.is_late(&self.g.ty(parent).shape);
                if computed && same_layout && !taken && once && !late && !self.is_output(parent) {
                    self.sinks.insert(v, (parent, concat.axis, start.clone()));
                }
                start = &start + &self.g.ty(v).shape[concat.axis];
            }
        }
    }

    fn concat(&mut self, group: &Group) -> Result<(), CompileError> {
        let node = self.g.node(group.anchor);
        let Op::Concat(concat) = &node.op else { unreachable!("the anchor of a concat group is a concat") };
        let (result, axis) = (node.outputs[0], concat.axis);
        let place = self.place_exit(result);
        let mut start = Dim::ZERO;
        for &v in &node.inputs {
            let sunk = self.sinks.get(&v).is_some_and(|(parent, _, _)| *parent == result);
            if !sunk {
                let offset = &place.view.offset + &(&start * &place.view.strides[axis]);
                let part = Place { view: View { offset, strides: place.view.strides.clone() }, ..place.clone() };
                let shape = self.g.ty(v).shape.clone();
                map::emit(self, "concat", &shape, &[(v, part)], &HashSet::new(), &node.loc);
            }
            start = &start + &self.g.ty(v).shape[axis];
        }
        Ok(())
    }

    fn write_outputs(&mut self) -> Result<(), CompileError> {
        for (i, &v) in self.g.outputs().iter().enumerate() {
            let buffer = self.plan.outputs[i].buffer;
            if self.places.get(&v).is_some_and(|p| p.buffer == buffer) {
                continue;
            }
            let ty = self.g.ty(v);
            let to = Place { buffer, view: View::dense(&ty.shape, Layout::RowMajor), dtype: ty.dtype };
            self.copy(v, &to);
        }
        Ok(())
    }

    /// Appends a launch; a kernel that already exists under another name is used again.
    pub fn launch(&mut self, kb: Kb, tiles: Dim, cost: Cost, loc: &Loc) {
        let done = kb.finish();
        let mut key = done.kernel;
        if self.target.is_gpu() {
            // A device's buffers all start at such addresses.
            let aligned = |offset: &Dim| multiple(offset, 16);
            key.params.iter_mut().zip(&done.buffers).filter(|(_, (_, at))| aligned(at)).for_each(|(p, _)| p.align = 16);
        }
        let name = std::mem::take(&mut key.name);
        let notes = std::mem::take(&mut key.notes);
        let next = self.plan.kernels.len();
        let kernel = *self.kernel_index.entry(key.clone()).or_insert(next);
        if kernel == next {
            self.plan.kernels.push(Kernel { name: format!("k{next}_{name}"), notes, ..key });
        }
        let notes = &mut self.plan.kernels[kernel].notes;
        for n in &loc.0 {
            if notes.len() < 8 && !notes.iter().any(|m| **m == **n) {
                notes.push(n.to_string());
            }
        }
        self.step(Step::Launch(Launch {
            kernel,
            tiles,
            buffers: done.buffers,
            dims: done.dims,
            scratch: done.scratch,
            tile_ns: cost.tile_ns,
            flops: cost.flops,
            traffic: cost.traffic,
            loc: loc.clone(),
        }));
    }

    /// About the nanoseconds that a processor's core takes for elementwise operations on vectors of so many lanes, and for
    /// bytes of the second-level cache.
    pub fn nanoseconds(&self, lanes: u32, operations: &Dim, bytes: &Dim) -> Dim {
        &operations.floor_div(&Dim::from(2 * i64::from(lanes.max(1)))) + &bytes.floor_div(&Dim::from(i64::from(self.target.vector_bytes.max(16))))
    }

    /// The node of a group's anchor.
    pub fn anchor(&self, group: &Group) -> &'a xlac_ir::graph::Node { self.g.node(group.anchor) }

    /// Origin of a group: that of its members.
    pub fn loc(&self, group: &Group) -> Loc {
        group.members.iter().fold(Loc::default(), |loc, &m| loc.merge(&self.g.node(m).loc))
    }

    /// Name of a group: its ops.
    pub fn name(&self, group: &Group) -> String {
        let mut names: Vec<&str> = group.members.iter().map(|&m| self.g.node(m).op.mnemonic()).collect();
        names.dedup();
        names.truncate(4);
        names.join("_")
    }

    /// Members as a set.
    pub fn members(&self, group: &Group) -> HashSet<NodeId> { group.members.iter().copied().collect() }
}

/// Estimates a launch carries.
pub struct Cost {
    /// Nanoseconds a tile.
    pub tile_ns: Dim,
    /// Floating-point operations.
    pub flops: Dim,
    /// Bytes read and written.
    pub traffic: Dim,
}

/// Bytes of a dense value.
pub fn bytes(shape: &[Dim], dtype: DType) -> Dim { &Dim::product(shape) * &Dim::from(dtype.size()) }

/// Values used in another region than the one that defines them.
fn escaping(g: &Graph) -> HashSet<ValueId> {
    let mut home: HashMap<ValueId, RegionId> = HashMap::new();
    for r in g.live_regions() {
        let region = g.region(r);
        region.inputs.iter().for_each(|&v| _ = home.insert(v, r));
        region.nodes.iter().flat_map(|&n| &g.node(n).outputs).for_each(|&v| _ = home.insert(v, r));
    }
    let mut out = HashSet::new();
    for r in g.live_regions() {
        let region = g.region(r);
        let uses = region.outputs.iter().chain(region.nodes.iter().flat_map(|&n| &g.node(n).inputs));
        out.extend(uses.filter(|v| home.get(v).is_some_and(|&h| h != r)));
    }
    out
}
