//! A loaded model: immutable, shared by any number of sessions and threads.

use std::path::Path;
use std::sync::Arc;

use crate::artifact::{self, Artifact, LoadOptions, Metadata, Refusal, VariantInfo};
use crate::check;
use crate::device::arena::SCRATCH_ALIGN;
use crate::device::cpu::{CodeImage, KernelFn};
use crate::device::cuda::{self, GpuCode};
use crate::device::memory::{Block, FileBytes};
use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::expr::{self, Values};
use crate::plan::{BufferId, DType, ExprId, Plan, Storage, SymbolSource, TensorDecl};
use crate::program::Program;
use crate::tensor;

/// A model ready to run on this machine. Cloning shares everything.
#[derive(Clone)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

/// What a model consists of.
pub(crate) struct Inner {
    pub(crate) plan: Plan,
    pub(crate) program: Program,
    pub(crate) code: Code,
    file: FileBytes,
    /// Where the weights lie in `file`.
    weights: std::ops::Range<usize>,
    /// Buffers that are the caller's: for each input, and for each output.
    pub(crate) input_buffers: Vec<Vec<BufferId>>,
    pub(crate) output_buffers: Vec<Vec<BufferId>>,
    /// Outputs that are copied to the caller at the end of a run, in order.
    pub(crate) indirect_outputs: Vec<usize>,
    metadata: Metadata,
    variant: usize,
    refused: Vec<Refusal>,
}

/// Code, where it runs.
pub(crate) enum Code {
    /// Functions of this process.
    Cpu(CodeImage),
    /// On a GPU, with the weights.
    Gpu(GpuCode),
}

impl Inner {
    /// The weights section.
    pub(crate) fn weights(&self) -> &[u8] {
        &self.file.bytes()[self.weights.clone()]
    }
}

/// A graph input or output, for people and callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Each axis: a number, or an expression of symbolic dims such as `N` or `2*H`.
    pub shape: Vec<String>,
}

impl Model {
    /// Loads an artifact from a file, which is mapped and must not be changed while the model lives.
    ///
    /// An artifact holds machine code. Digests show damage, not ill will: load only what you trust or made yourself.
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::load_with(path, &LoadOptions::default())
    }

    /// As [`Model::load`], with options.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Model> {
        Model::from_artifact(Artifact::open_with(path, options)?)
    }

    /// As [`Model::load`], onto a device.
    pub fn load_on(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        Model::from_artifact_on(Artifact::open(path)?, device)
    }

    /// Loads an artifact from memory; the bytes are copied.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model> {
        Model::from_artifact(Artifact::from_bytes(bytes)?)
    }

    /// As [`Model::from_bytes`], onto a device.
    pub fn from_bytes_on(bytes: &[u8], device: &Device) -> Result<Model> {
        Model::from_artifact_on(Artifact::from_bytes(bytes)?, device)
    }

    /// Makes a model of the best variant of an artifact that this machine's processor can run.
    pub fn from_artifact(artifact: Artifact) -> Result<Model> {
        Model::from_artifact_on(artifact, &Device::cpu())
    }

    /// Makes a model of the best variant of an artifact that a device can run. On a GPU this compiles the kernels, unless
    /// they are found in the cache, and uploads the weights, which all sessions share.
    pub fn from_artifact_on(artifact: Artifact, device: &Device) -> Result<Model> {
        let (variant, refused) = artifact.choose_for(device)?;
        let plan = artifact.unchecked_plan(variant)?;
        let code_bytes = artifact.code(variant);
        let weights = artifact.weights_range();
        let program = analyze(&plan, code_bytes.len() as u64, weights.len() as u64)?;
        let code = load_code(&plan, &program, code_bytes, artifact.weights(), device)?;
        let (metadata, file) = artifact.into_parts();
        Ok(Model::assemble(plan, program, code, file, weights, metadata, variant, refused))
    }

    /// A model of functions of this program instead of mapped code: one per kernel of the plan, in order. For tests of
    /// the runtime and of compilers; the functions must be sound to call as the plan does.
    #[doc(hidden)]
    pub fn from_plan(plan: Plan, kernels: Vec<KernelFn>, weights: &[u8]) -> Result<Model> {
        if kernels.len() != plan.kernels.len() {
            return check::bad(format!("{} functions for {} kernels", kernels.len(), plan.kernels.len()));
        }
        let program = analyze(&plan, u64::MAX, weights.len() as u64)?;
        let file = FileBytes::Block(Block::copy_of(weights)?);
        let metadata = Metadata::of_functions();
        Ok(Model::assemble(
            plan,
            program,
            Code::Cpu(CodeImage::of_functions(kernels)),
            file,
            0..weights.len(),
            metadata,
            0,
            Vec::new(),
        ))
    }

    /// A model of a plan and PTX text, for tests of the runtime and of compilers.
    #[doc(hidden)]
    pub fn from_plan_on(plan: Plan, ptx: &str, weights: &[u8], device: &Device) -> Result<Model> {
        let text = [ptx.as_bytes(), &[0]].concat();
        let program = analyze(&plan, text.len() as u64, weights.len() as u64)?;
        let code = load_code(&plan, &program, &text, weights, device)?;
        let file = FileBytes::Block(Block::copy_of(weights)?);
        let range = 0..weights.len();
        Ok(Model::assemble(plan, program, code, file, range, Metadata::of_functions(), 0, Vec::new()))
    }

    #[allow(clippy::too_many_arguments)]
    fn assemble(
        plan: Plan,
        program: Program,
        code: Code,
        file: FileBytes,
        weights: std::ops::Range<usize>,
        metadata: Metadata,
        variant: usize,
        refused: Vec<Refusal>,
    ) -> Model {
        let mut input_buffers = vec![Vec::new(); plan.inputs.len()];
        let mut output_buffers = vec![Vec::new(); plan.outputs.len()];
        for (id, buffer) in plan.buffers.iter().enumerate() {
            match buffer.storage {
                Storage::Input(input) => input_buffers[input as usize].push(id as BufferId),
                Storage::Output(output) => output_buffers[output as usize].push(id as BufferId),
                Storage::Arena(_) | Storage::Heap | Storage::Weight(_) => {}
            }
        }
        let is_indirect = |number: &usize| {
            let buffer = &plan.buffers[plan.outputs[*number].buffer as usize];
            buffer.storage != Storage::Output(*number as u32)
        };
        let indirect_outputs = (0..plan.outputs.len()).filter(is_indirect).collect();
        let inner = Inner {
            plan,
            program,
            code,
            file,
            weights,
            input_buffers,
            output_buffers,
            indirect_outputs,
            metadata,
            variant,
            refused,
        };
        Model { inner: Arc::new(inner) }
    }

    /// The plan in use.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// What the artifact says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// The variant in use.
    pub fn variant(&self) -> &VariantInfo {
        &self.inner.metadata.variants[self.inner.variant]
    }

    /// Variants that this machine cannot run, and why.
    pub fn refused(&self) -> &[Refusal] {
        &self.inner.refused
    }

    /// The device it is loaded on.
    pub fn device(&self) -> Device {
        match &self.inner.code {
            Code::Cpu(_) => Device::cpu(),
            Code::Gpu(code) => Device { kind: DeviceKind::Cuda(Arc::clone(code.gpu())) },
        }
    }

    /// Bytes of the weights; on a GPU of those it holds.
    pub fn weight_bytes(&self) -> usize {
        match &self.inner.code {
            Code::Cpu(_) => self.inner.weights.len(),
            Code::Gpu(code) => code.weight_bytes(),
        }
    }

    /// Graph inputs, in the order `run` takes them.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        self.infos(&self.inner.plan.inputs)
    }

    /// Graph outputs, in the order `run` returns them.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.infos(&self.inner.plan.outputs)
    }

    fn infos(&self, decls: &[TensorDecl]) -> Vec<TensorInfo> {
        let info = |decl: &TensorDecl| TensorInfo {
            name: decl.name.clone(),
            dtype: decl.dtype,
            shape: decl.shape.iter().map(|&dim| expr::describe(&self.inner.plan, dim)).collect(),
        };
        decls.iter().map(info).collect()
    }

    /// Bytes of the arena as a formula of the symbolic dims, such as `4096*N + 65536`.
    pub fn memory_formula(&self) -> String {
        expr::describe(&self.inner.plan, self.inner.plan.arena_bytes)
    }

    /// Bytes a session of one thread holds for inputs of these shapes, weights and the caller's tensors aside: arena,
    /// scratch and those heap buffers whose size does not depend on data; on a GPU its copies of inputs and outputs too.
    pub fn peak_bytes(&self, shapes: &[&[usize]]) -> Result<u64> {
        let values = self.values_for(shapes)?;
        let Inner { plan, program, .. } = &*self.inner;
        let size = |id: ExprId| values.size(id).map(|bytes| bytes as u64);
        let mut total = size(plan.arena_bytes)?;
        for buffer in &plan.buffers {
            if buffer.storage == Storage::Heap && program.dependencies.is_static(buffer.bytes) {
                total = total.saturating_add(size(buffer.bytes)?);
            }
        }
        if let Code::Gpu(_) = self.inner.code {
            let io = cuda::io_bytes(&self.inner, &values)? as u64;
            return Ok(total.saturating_add(io).saturating_add(cuda::static_scratch(&self.inner, &values)?));
        }
        let mut scratch = 0;
        for launch in &program.launches {
            if program.dependencies.is_static(launch.scratch) {
                scratch = size(launch.scratch)?.max(scratch);
            }
        }
        let stride = scratch.checked_next_multiple_of(SCRATCH_ALIGN as u64).unwrap_or(scratch);
        Ok(total.saturating_add(stride))
    }

    /// Shapes of the outputs for inputs of these shapes; dims that depend on data are `None`.
    pub fn output_shapes(&self, shapes: &[&[usize]]) -> Result<Vec<Vec<Option<usize>>>> {
        let values = self.values_for(shapes)?;
        let dim = |id: &ExprId| match self.inner.program.dependencies.is_static(*id) {
            true => values.size(*id).map(Some),
            false => Ok(None),
        };
        self.inner.plan.outputs.iter().map(|output| output.shape.iter().map(dim).collect()).collect()
    }

    fn values_for(&self, shapes: &[&[usize]]) -> Result<Values> {
        let mut values = Values::new(&self.inner.plan);
        bind_shapes(&self.inner, shapes.iter().copied(), &mut values)?;
        Ok(values)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {})", self.inner.metadata.model_name, self.variant().target)
    }
}

/// Brings code, and weights where they must go too, onto a device.
fn load_code(plan: &Plan, program: &Program, code: &[u8], weights: &[u8], device: &Device) -> Result<Code> {
    match &device.kind {
        DeviceKind::Cuda(gpu) => GpuCode::load(gpu, plan, program, code, weights).map(Code::Gpu),
        DeviceKind::Cpu => {
            if let Some(kernel) = plan.kernels.iter().find(|kernel| kernel.block.is_some()) {
                return check::bad(format!("kernel `{}` is for a GPU", kernel.name));
            }
            CodeImage::map(code, plan.kernels.iter().map(|kernel| kernel.entry)).map(Code::Cpu)
        }
    }
}

/// Checks a plan wholly and makes it flat.
pub(crate) fn analyze(plan: &Plan, code_len: u64, weights_len: u64) -> Result<Program> {
    let dependencies = check::check_tables(plan, code_len, weights_len)?;
    crate::lower::lower(plan, dependencies)
}

/// Checks a plan as loading it would.
pub(crate) fn check_plan(plan: &Plan, code_len: u64, weights_len: u64) -> Result<()> {
    artifact::check_sizes(code_len, weights_len)?;
    analyze(plan, code_len, weights_len).map(|_| ())
}

/// Binds the symbols of all inputs, evaluates everything, and checks shapes, ranges and constraints.
pub(crate) fn bind_shapes<'s>(
    inner: &Inner,
    shapes: impl ExactSizeIterator<Item = &'s [usize]> + Clone,
    values: &mut Values,
) -> Result<()> {
    let plan = &inner.plan;
    if shapes.len() != plan.inputs.len() {
        return Err(Error::Count { what: "inputs", expected: plan.inputs.len(), found: shapes.len() });
    }
    for (input, shape) in plan.inputs.iter().zip(shapes.clone()) {
        if input.shape.len() != shape.len() {
            return Err(shape_error(plan, input, shape, String::new()));
        }
    }
    for (id, symbol) in plan.symbols.iter().enumerate() {
        if let SymbolSource::Input { input, axis } = symbol.source {
            let dim = shapes.clone().nth(input as usize).and_then(|shape| shape.get(axis as usize)).copied();
            let value = dim.and_then(|dim| i64::try_from(dim).ok()).unwrap_or(i64::MAX);
            check_range(plan, id, value)?;
            values.set_symbol(id as u32, value);
        }
    }
    values.eval_all(&plan.exprs);
    for (input, shape) in plan.inputs.iter().zip(shapes) {
        for (axis, (&dim, &found)) in input.shape.iter().zip(shape).enumerate() {
            let expected = values.get(dim)?;
            if i64::try_from(found) != Ok(expected) {
                let why = format!(": axis {axis} must be {expected}");
                return Err(shape_error(plan, input, shape, why));
            }
        }
        tensor::byte_len(input.dtype, shape)
            .ok_or_else(|| shape_error(plan, input, shape, ": it is too large".into()))?;
    }
    inner.program.static_constraints.iter().try_for_each(|&number| check_constraint(plan, values, number))
}

/// Fails unless `value` lies in the range of symbol number `id`.
pub(crate) fn check_range(plan: &Plan, id: usize, value: i64) -> Result<()> {
    let symbol = &plan.symbols[id];
    let (low, high) = symbol.range;
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::SymbolRange { symbol: symbol.name.clone(), value, low, high })
}

/// Fails unless constraint `number` holds.
pub(crate) fn check_constraint(plan: &Plan, values: &Values, number: u32) -> Result<()> {
    let constraint = &plan.constraints[number as usize];
    let (left, right) = (values.get(constraint.left)?, values.get(constraint.right)?);
    let holds = match constraint.relation {
        crate::plan::Relation::Equal => left == right,
        crate::plan::Relation::AtMost => left <= right,
    };
    if holds { Ok(()) } else { Err(Error::Constraint { why: constraint.why.clone(), left, right }) }
}

fn shape_error(plan: &Plan, input: &TensorDecl, found: &[usize], why: String) -> Error {
    Error::Shape {
        tensor: format!("input `{}`", input.name),
        expected: expr::describe_shape(plan, &input.shape),
        found: format!("{found:?}"),
        why,
    }
}
