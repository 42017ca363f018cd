//! Graphs: a stretch of the program with its copies, as one launch. Nodes wait only for those they share memory with.

use std::ffi::c_void;
use std::sync::Arc;

use super::api::{CopySide, Graph, GraphExec, GraphNode, KernelNodeParams, Memcpy3D, memory_type};
use super::gpu::Gpu;
use super::queue::{Extra, LaunchCall};
use super::ranges::{Ranges, simplify};
use crate::error::Result;

/// Longest copy of one node: the driver has a limit just below 2 GiB.
const LONGEST_COPY: usize = 1 << 30;

/// A graph ready to launch.
pub(super) struct Executable {
    gpu: Arc<Gpu>,
    pub(super) handle: GraphExec,
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: the graph is this value's own and is destroyed once; its owner has drained the queue.
        self.gpu.give_back(|api| unsafe { api.0.graph_exec_destroy(self.handle) });
    }
}

/// Bytes a node touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) may_write: bool,
}

/// One end of a copy.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// Host memory that stays as long as the graph, and is touched only while it does not run.
    Host(*mut u8),
    /// Device memory, likewise.
    Device(u64),
}

/// A graph in the making.
pub(super) struct GraphBuilder {
    gpu: Arc<Gpu>,
    graph: Graph,
    nodes: Vec<GraphNode>,
    /// For each node, those it waits for.
    lists: Vec<Vec<u32>>,
    ranges: Ranges,
}

impl GraphBuilder {
    /// An empty graph. The context must be current.
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<GraphBuilder> {
        let mut graph = Graph::default();
        // SAFETY: an out-parameter of its type; destroyed when the builder is dropped.
        gpu.check("cuGraphCreate", unsafe { gpu.api.0.graph_create(&mut graph, 0) })?;
        Ok(GraphBuilder {
            gpu: Arc::clone(gpu),
            graph,
            nodes: Vec::new(),
            lists: Vec::new(),
            ranges: Ranges::default(),
        })
    }

    /// Adds a kernel.
    pub(super) fn launch(&mut self, call: &LaunchCall<'_>, accesses: &[Access]) -> Result<()> {
        let waits = self.wait(accesses);
        let mut bytes = size_of_val(call.params);
        let mut extra = Extra::new(call.params, &mut bytes);
        let params = KernelNodeParams {
            func: call.function,
            grid: [call.grid, 1, 1],
            block: [call.threads, 1, 1],
            shared_bytes: call.shared,
            kernel_params: std::ptr::null_mut(),
            extra: extra.as_mut_ptr(),
        };
        let mut node = GraphNode::default();
        // SAFETY: parameters as in `Queue::launch`, copied before the call returns; nodes of this very graph.
        let status = unsafe {
            self.gpu.api.0.graph_add_kernel_node(&mut node, self.graph, waits.as_ptr(), waits.len(), &params)
        };
        self.gpu.check("cuGraphAddKernelNode", status)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Adds a copy, in several nodes if it is long; ranges of the device must not overlap unless they are the same.
    ///
    /// # Safety
    ///
    /// Host ends are valid for `bytes` bytes for as long as the graph is launched.
    pub(super) unsafe fn copy(&mut self, to: End, from: End, bytes: usize) -> Result<()> {
        if let (End::Device(to), End::Device(from)) = (to, from)
            && to == from
        {
            return Ok(());
        }
        for start in (0..bytes).step_by(LONGEST_COPY) {
            let len = LONGEST_COPY.min(bytes - start);
            self.copy_piece(to.advanced(start), from.advanced(start), len)?;
        }
        Ok(())
    }

    fn copy_piece(&mut self, to: End, from: End, bytes: usize) -> Result<()> {
        let access = |end: End, may_write: bool| match end {
            End::Device(start) => Some(Access { start, bytes: bytes as u64, may_write }),
            End::Host(_) => None,
        };
        let accesses: Vec<Access> = [access(from, false), access(to, true)].into_iter().flatten().collect();
        let waits = self.wait(&accesses);
        let params = Memcpy3D { from: from.side(bytes), to: to.side(bytes), width_bytes: bytes, height: 1, depth: 1 };
        let mut node = GraphNode::default();
        // SAFETY: both ends are valid for `bytes` bytes, by the contract of `copy`; nodes of this very graph.
        let status = unsafe {
            let context = self.gpu.context;
            self.gpu.api.0.graph_add_memcpy_node(&mut node, self.graph, waits.as_ptr(), waits.len(), &params, context)
        };
        self.gpu.check("cuGraphAddMemcpyNode", status)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Whom the next node waits for.
    fn wait(&mut self, accesses: &[Access]) -> Vec<GraphNode> {
        let node = self.nodes.len() as u32;
        let mut after = Vec::new();
        for access in accesses {
            let end = access.start.saturating_add(access.bytes);
            match access.may_write {
                true => self.ranges.write(access.start, end, node, &mut after),
                false => self.ranges.read(access.start, end, node, &mut after),
            }
        }
        simplify(&mut after, node, &self.lists);
        let waits = after.iter().map(|&other| self.nodes[other as usize]).collect();
        self.lists.push(after);
        waits
    }

    /// Whether it has no nodes.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The graph, ready to launch.
    pub(super) fn finish(self) -> Result<Executable> {
        let mut handle = GraphExec::default();
        // SAFETY: an out-parameter of its type; destroyed when the executable is dropped.
        let status = unsafe { self.gpu.api.0.graph_instantiate(&mut handle, self.graph, 0) };
        self.gpu.check_allocation("cuGraphInstantiate", status, 0)?;
        Ok(Executable { gpu: Arc::clone(&self.gpu), handle })
    }
}

impl Drop for GraphBuilder {
    fn drop(&mut self) {
        // SAFETY: the graph is the builder's own and is destroyed once; an executable does not need it.
        self.gpu.give_back(|api| unsafe { api.0.graph_destroy(self.graph) });
    }
}

impl End {
    fn advanced(self, bytes: usize) -> End {
        match self {
            End::Host(start) => End::Host(start.wrapping_add(bytes)),
            End::Device(start) => End::Device(start + bytes as u64),
        }
    }

    fn side(self, bytes: usize) -> CopySide {
        let (memory_type, host, device) = match self {
            End::Host(start) => (memory_type::HOST, start.cast::<c_void>(), 0),
            End::Device(start) => (memory_type::DEVICE, std::ptr::null_mut(), start),
        };
        CopySide {
            x_bytes: 0,
            y: 0,
            z: 0,
            lod: 0,
            memory_type,
            host,
            device,
            array: 0,
            reserved: 0,
            pitch: bytes,
            height: 1,
        }
    }
}
