//! Graphs of a session: made for shapes that are used again, kept for a few of them.

use super::{GpuSession, block_of, code};
use crate::device::cuda::graph::{Access, End, Executable, GraphBuilder};
use crate::device::cuda::stretch::Stretch;
use crate::error::Result;
use crate::model::Inner;
use crate::plan::{BufferId, Storage, SymbolSource};
use crate::program::Op;

/// Graphs are kept for this many sets of shapes.
const KEPT_SHAPES: usize = 8;

/// The graphs of all stretches for some shapes; a stretch without one runs step by step.
pub(super) struct GraphSet {
    dims: Vec<usize>,
    generation: u64,
    is_made: bool,
    graphs: Vec<Option<Executable>>,
}

impl GpuSession {
    /// Finds the graphs of these shapes, or makes them if they are wanted now.
    pub(super) fn select_graphs(&mut self, inner: &Inner, dims: Vec<usize>, make: bool) -> Result<()> {
        let generation = self.memory.generation;
        // Graphs that point to blocks that are gone are of no use any more.
        self.graph_sets.retain(|set| set.generation == generation);
        if let Some(position) = self.graph_sets.iter().position(|set| set.dims == dims) {
            let set = self.graph_sets.remove(position);
            self.has_graphs = set.is_made;
            self.graph_sets.push(set);
            // Shapes that come back are worth a graph.
            return if self.has_graphs { Ok(()) } else { self.make_graphs(inner) };
        }
        if self.graph_sets.len() == KEPT_SHAPES {
            self.graph_sets.remove(0);
        }
        self.graph_sets.push(GraphSet { dims, generation, is_made: false, graphs: Vec::new() });
        let shapes_are_fixed =
            !inner.plan.symbols.iter().any(|symbol| matches!(symbol.source, SymbolSource::Input { .. }));
        if make || shapes_are_fixed {
            self.make_graphs(inner)?;
        }
        Ok(())
    }

    pub(super) fn make_graphs(&mut self, inner: &Inner) -> Result<()> {
        if self.debug_sync {
            return Ok(());
        }
        let mut graphs = Vec::with_capacity(code(inner).stretches.len());
        for &stretch in &code(inner).stretches {
            graphs.push(self.make_graph(inner, stretch)?);
        }
        let generation = self.memory.generation;
        if let Some(set) = self.graph_sets.last_mut() {
            set.graphs = graphs;
            set.is_made = true;
            set.generation = generation;
            self.has_graphs = true;
        }
        Ok(())
    }

    /// The graph of a stretch; none if it has nothing to run, or a step that will fail when it is reached.
    fn make_graph(&mut self, inner: &Inner, stretch: Stretch) -> Result<Option<Executable>> {
        let mut builder = GraphBuilder::new(&code(inner).gpu)?;
        let ops = &inner.program.ops;
        if stretch.start == 0 {
            let (to, from) = (End::Device(self.memory.device_at(0)), End::Host(self.memory.staging.at(0)));
            // SAFETY: staging covers the layout; it is replaced only together with a new generation, which drops graphs.
            unsafe { builder.copy(to, from, self.memory.layout.outputs_start)? };
        }
        for op in &ops[stretch.start as usize..stretch.end as usize] {
            match *op {
                Op::Launch(number) => {
                    let number = number as usize;
                    if self.ready[number].stale {
                        self.prepare(inner, number)?;
                    }
                    let accesses = self.accesses(inner, number);
                    if let Some((call, _)) = self.call(inner, number)? {
                        builder.launch(&call, &accesses)?;
                    }
                }
                Op::Copy { from, to, bytes } => {
                    let values = &self.progress.values;
                    let size = values.size(inner.plan.buffers[to as usize].bytes);
                    let (Ok(bytes), Ok(size)) = (values.size(bytes), size) else { return Ok(None) };
                    let have_room = bytes <= size && bytes <= self.memory.capacity[from as usize];
                    if !have_room || self.ensure(inner, to, size).is_err() {
                        return Ok(None);
                    }
                    let address = |buffer: BufferId| self.memory.address[buffer as usize];
                    let (to, from) = (address(to), address(from));
                    if to != from && to.abs_diff(from) < bytes as u64 {
                        return Ok(None);
                    }
                    // SAFETY: no host end.
                    unsafe { builder.copy(End::Device(to), End::Device(from), bytes)? };
                }
                _ => unreachable!("invariant: stretches are of launches and copies"),
            }
        }
        if stretch.end as usize == ops.len() {
            let start = self.memory.layout.outputs_start;
            let (to, from) = (End::Host(self.memory.staging.at(start)), End::Device(self.memory.device_at(start)));
            // SAFETY: as above.
            unsafe { builder.copy(to, from, self.memory.layout.end - start)? };
        }
        if builder.is_empty() {
            return Ok(None);
        }
        let graph = builder.finish()?;
        self.queue().upload_graph(graph.handle)?;
        Ok(Some(graph))
    }

    /// What a launch touches, but for weights.
    fn accesses(&self, inner: &Inner, number: usize) -> Vec<Access> {
        let launch = &inner.program.launches[number];
        let ready = &self.ready[number];
        let mut accesses = Vec::with_capacity(launch.buffers.len() + 2);
        let writes = block_of(inner, launch).writes;
        for (argument, &(buffer, _)) in launch.buffers.iter().enumerate() {
            let storage = inner.plan.buffers[buffer as usize].storage;
            if matches!(storage, Storage::Weight(_)) {
                continue;
            }
            accesses.push(Access {
                start: self.memory.address[buffer as usize],
                bytes: self.memory.capacity[buffer as usize] as u64,
                may_write: !matches!(storage, Storage::Input(_)) && (argument >= 64 || writes >> argument & 1 == 1),
            });
        }
        let tail = ready.first_param + launch.buffers.len() + launch.dims.len();
        let (scratch, stride, status) = (self.params[tail + 1], self.params[tail + 2], self.params[tail + 3]);
        let workers = u64::from(ready.grid) * u64::from(block_of(inner, launch).tiles);
        accesses.push(Access { start: scratch, bytes: stride * workers, may_write: true });
        accesses.push(Access { start: status, bytes: 4, may_write: true });
        accesses
    }

    /// The graph of stretch number `index`.
    pub(in super::super) fn graph(&self, index: usize) -> Option<&Executable> {
        if !self.has_graphs {
            return None;
        }
        self.graph_sets.last()?.graphs.get(index)?.as_ref()
    }
}
