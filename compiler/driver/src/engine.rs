//! What runs a model: the compiled artifact, or the reference interpreter.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use xlac_ir::DType;
use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::Program;
use xlac_ir::interp::{self, RunErrorKind};
use xlac_ir::tensor::Tensor;
use xlac_runtime::{Artifact, LoadOptions, Model, Session, SessionOptions, TensorRef};

use crate::assemble::{dims_of, ir_dtype, runtime_dtype};
use crate::codes;
use crate::compile::{self, CompileOptions, Report, Source, cannot};
use crate::device::Opened;

/// Name, element type and shape of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<Dim>,
}

/// A model that can be run.
pub enum Engine {
    /// The reference interpreter on the optimized graph.
    Interp(Box<Program>),
    /// Compiled code on a processor or GPU.
    Compiled(Box<Session>, Opened),
}

impl Engine {
    /// Compiled code of an artifact file.
    pub fn load(path: &Path, on: Opened, threads: Option<usize>) -> Result<Engine, Diagnostic> {
        let options = LoadOptions { threads, ..LoadOptions::default() };
        let artifact = Artifact::open_with(path, &options).map_err(|e| on.error(e))?;
        let model = Model::from_artifact_on(artifact, &on.device).map_err(|e| on.error(e))?;
        Ok(Engine::Compiled(Box::new(session(&model, threads)), on))
    }

    /// A model compiled for a device. The artifact passes through a temporary file, so that its weights are mapped
    /// and never held twice.
    pub fn compile(
        source: &Source,
        options: &CompileOptions,
        on: Opened,
        threads: Option<usize>,
    ) -> Result<(Engine, Report), Vec<Diagnostic>> {
        let file = TempFile::new().map_err(|e| vec![e])?;
        let (_, report) = compile::compile_to(source.clone(), options, file.open().map_err(|e| vec![e])?)?;
        let engine = Engine::load(&file.path, on, threads).map_err(|e| vec![e])?;
        Ok((engine, report))
    }

    /// As [`Engine::compile`], for a program that is already optimized.
    pub fn compile_program(
        mut program: Program,
        options: &CompileOptions,
        on: Opened,
        threads: Option<usize>,
    ) -> Result<Engine, Vec<Diagnostic>> {
        let file = TempFile::new().map_err(|e| vec![e])?;
        let to = file.open().map_err(|e| vec![e])?;
        compile::write_program(&mut program, [0; 32], options, Report::default(), to)?;
        drop(program);
        Engine::load(&file.path, on, threads).map_err(|e| vec![e])
    }

    /// The interpreter on a model.
    pub fn interpret(source: &Source, options: &CompileOptions) -> Result<(Engine, Report), Vec<Diagnostic>> {
        let mut report = Report::default();
        let program = compile::import_optimized(source, options, &mut report)?;
        Ok((Engine::Interp(Box::new(program)), report))
    }

    /// Its inputs.
    pub fn inputs(&self) -> Vec<Slot> {
        match self {
            Engine::Interp(program) => {
                let g = &program.graph;
                let slot = |v: &xlac_ir::graph::ValueId| {
                    let value = g.value(*v);
                    let name = value.name.as_deref().unwrap_or("").to_string();
                    Slot { name, dtype: value.ty.dtype, shape: value.ty.shape.clone() }
                };
                g.inputs().iter().map(slot).collect()
            }
            Engine::Compiled(session, _) => slots(session, &session.model().plan().inputs),
        }
    }

    /// Its outputs.
    pub fn outputs(&self) -> Vec<Slot> {
        match self {
            Engine::Interp(program) => {
                let g = &program.graph;
                let slot = |(v, name): (&xlac_ir::graph::ValueId, &std::sync::Arc<str>)| {
                    let ty = g.ty(*v);
                    Slot { name: name.to_string(), dtype: ty.dtype, shape: ty.shape.clone() }
                };
                g.outputs().iter().zip(&g.output_names).map(slot).collect()
            }
            Engine::Compiled(session, _) => slots(session, &session.model().plan().outputs),
        }
    }

    /// Smallest and largest values of symbols that have bounds.
    pub fn ranges(&self) -> Vec<(Symbol, i64, i64)> {
        match self {
            Engine::Interp(program) => program.graph.ranges.clone(),
            Engine::Compiled(session, _) => {
                let symbols = &session.model().plan().symbols;
                symbols.iter().map(|s| (s.name.as_str().into(), s.range.0, s.range.1)).collect()
            }
        }
    }

    /// Runs it.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
        match self {
            Engine::Interp(program) => interp::run(program, inputs, interp::Options::default()).map_err(interp_error),
            Engine::Compiled(session, on) => {
                let owned = inputs.iter().map(to_runtime).collect::<Result<Vec<_>, _>>()?;
                let views: Vec<TensorRef> = owned.iter().map(xlac_runtime::Tensor::view).collect();
                let outputs = session.run(&views).map_err(|e| on.error(e))?;
                Ok(outputs.iter().map(from_runtime).collect())
            }
        }
    }
}

fn slots(session: &Session, decls: &[xlac_runtime::plan::TensorDecl]) -> Vec<Slot> {
    let dims = dims_of(session.model().plan());
    let slot = |d: &xlac_runtime::plan::TensorDecl| Slot {
        name: d.name.clone(),
        dtype: ir_dtype(d.dtype),
        shape: d.shape.iter().map(|&id| dims[id as usize].clone()).collect(),
    };
    decls.iter().map(slot).collect()
}

/// A session for a model.
pub fn session(model: &Model, threads: Option<usize>) -> Session {
    Session::with_options(model, SessionOptions { threads, ..SessionOptions::default() })
}

/// An error of the runtime as a diagnostic.
pub fn runtime_error(error: xlac_runtime::Error) -> Diagnostic { Diagnostic::error(error.code(), error.to_string()) }

fn interp_error(error: interp::RunError) -> Diagnostic {
    let code = match error.kind {
        RunErrorKind::Limit => codes::RUN_LIMIT,
        RunErrorKind::Internal => codes::INTERNAL,
        RunErrorKind::Input => codes::BAD_INPUT,
        RunErrorKind::Constraint | RunErrorKind::Eval => codes::RUN,
    };
    Diagnostic::error(code, error.to_string())
}

/// A tensor for the runtime.
pub fn to_runtime(tensor: &Tensor) -> Result<xlac_runtime::Tensor, Diagnostic> {
    let dtype = runtime_dtype(tensor.dtype).ok_or_else(|| {
        Diagnostic::error(codes::BAD_INPUT, format!("compiled code cannot take elements of type {}", tensor.dtype))
    })?;
    xlac_runtime::Tensor::from_bytes(dtype, &tensor.shape, &tensor.data).map_err(runtime_error)
}

/// A tensor of the runtime's.
pub fn from_runtime(tensor: &xlac_runtime::Tensor) -> Tensor {
    Tensor {
        dtype: ir_dtype(tensor.dtype()),
        shape: tensor.shape().to_vec(),
        data: bytes::Bytes::copy_from_slice(tensor.bytes()),
    }
}

/// A file that is removed when it goes out of scope; on Unix what is mapped stays readable.
struct TempFile {
    path: PathBuf,
}

impl TempFile {
    fn new() -> Result<TempFile, Diagnostic> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xlac-{}-{number}.xlac", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        file.map_err(|e| cannot("create", &path, &e))?;
        Ok(TempFile { path })
    }

    fn open(&self) -> Result<std::fs::File, Diagnostic> {
        OpenOptions::new().write(true).open(&self.path).map_err(|e| cannot("write", &self.path, &e))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Nothing can be done if it is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}
