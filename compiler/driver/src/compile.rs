//! The pipeline: import, optimize, lower, emit, write.

use std::collections::BTreeMap;
use std::io::{Cursor, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use xlac_codegen::{Numerics, plan as cg};
use xlac_ir::backend::{Backend, Image, Target};
use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::Dim;
use xlac_ir::graph::Program;
use xlac_onnx::{DimOverride, ImportOptions, Imported};
use xlac_runtime::{ArtifactWriter, Metadata, VariantInfo};

use crate::assemble::{self, BlobTable};
use crate::{codes, targets};

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file; external data lies beside it.
    Path(PathBuf),
    /// The bytes of a model without external data.
    Bytes(Bytes),
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Source {
    fn from(path: &P) -> Source { Source::Path(path.as_ref().into()) }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Source { Source::Bytes(bytes) }
}

/// ONNX operators with a host routine, and the core ops they become.
pub const HOST_OPS: &[(&str, &str)] = &[("NonZero", "non_zero"), ("TopK", "top_k")];

/// Told what is being done.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// How to compile.
#[derive(Clone, Default)]
pub struct CompileOptions {
    /// Values and ranges of symbolic dims, by name.
    pub dims: BTreeMap<String, DimOverride>,
    /// Shapes of inputs, by name; -1 leaves an axis as it is.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// Numeric contract.
    pub numerics: Numerics,
    /// Targets, one variant each; this machine if there are none.
    pub targets: Vec<String>,
    /// Core ops that a GPU may leave to the host; see [`HOST_OPS`].
    pub allow_host: Vec<String>,
    /// Name of the backend for processors; the best one built in without it.
    pub backend: Option<String>,
    /// Threads that compile kernels; as many as this process may use without it.
    pub threads: Option<usize>,
    /// Folder for the text of every stage.
    pub dump_dir: Option<PathBuf>,
    /// Told what is being done.
    pub progress: Option<Progress>,
}

impl CompileOptions {
    fn say(&self, text: &str) {
        if let Some(progress) = &self.progress {
            progress(text);
        }
    }

    fn compile_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
    }
}

/// An artifact in memory, and what happened.
#[derive(Debug)]
pub struct Compiled {
    /// The artifact.
    pub bytes: Vec<u8>,
    /// What happened.
    pub report: Report,
}

/// What happened while compiling.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the user should know.
    pub warnings: Vec<Diagnostic>,
    /// Name of the model.
    pub model_name: String,
    /// Phases and how long they took.
    pub phases: Vec<(&'static str, Duration)>,
    /// One entry per variant.
    pub variants: Vec<VariantReport>,
    /// Bytes of weights in the artifact.
    pub weight_bytes: u64,
}

/// One variant of an artifact.
#[derive(Clone, Debug, Default)]
pub struct VariantReport {
    /// Target as given.
    pub target: String,
    /// Processor it is scheduled for.
    pub cpu: String,
    /// Backend.
    pub backend: &'static str,
    /// Number of kernels.
    pub kernels: usize,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Bytes of working memory, as a formula of the symbolic dims.
    pub arena: String,
    /// What a GPU leaves to the host, and what crosses the bus for it.
    pub on_host: Vec<String>,
}

/// Compiles a model to an artifact in memory.
pub fn compile(source: impl Into<Source>, options: &CompileOptions) -> Result<Compiled, Vec<Diagnostic>> {
    let (cursor, report) = compile_to(source, options, Cursor::new(Vec::new()))?;
    Ok(Compiled { bytes: cursor.into_inner(), report })
}

/// Compiles a model and streams the artifact to `to`.
pub fn compile_to<W: Write + Seek>(
    source: impl Into<Source>,
    options: &CompileOptions,
    to: W,
) -> Result<(W, Report), Vec<Diagnostic>> {
    let source = source.into();
    let mut report = Report::default();
    let mut program = import_optimized(&source, options, &mut report)?;
    write_program(&mut program, hash(&source)?, options, report, to)
}

/// Compiles a program that is already optimized and streams the artifact to `to`.
pub fn write_program<W: Write + Seek>(
    program: &mut Program,
    model_hash: [u8; 32],
    options: &CompileOptions,
    mut report: Report,
    to: W,
) -> Result<(W, Report), Vec<Diagnostic>> {
    let start = Instant::now();
    let mut variants = Vec::new();
    for name in target_names(options) {
        variants.push(compile_variant(program, name, options).map_err(|e| vec![e])?);
    }
    report.phases.push(("compile", start.elapsed()));
    release_unused(program, &variants);
    options.say("writing the artifact");
    let start = Instant::now();
    let to = write(program, &variants, model_hash, options, &mut report, to).map_err(|e| vec![e])?;
    report.phases.push(("write", start.elapsed()));
    Ok((to, report))
}

/// Imports a model and optimizes it.
pub fn import_optimized(
    source: &Source,
    options: &CompileOptions,
    report: &mut Report,
) -> Result<Program, Vec<Diagnostic>> {
    options.say("importing the model");
    let start = Instant::now();
    let mut imported = import(source, options)?;
    report.model_name = imported.program.graph.name.clone();
    report.warnings.append(&mut imported.warnings);
    report.phases.push(("import", start.elapsed()));
    options.say("optimizing the graph");
    let start = Instant::now();
    let notes = optimize(&mut imported.program, options).map_err(|e| vec![e])?;
    report.warnings.extend(notes);
    report.phases.push(("optimize", start.elapsed()));
    Ok(imported.program)
}

/// Imports a model.
pub fn import(source: &Source, options: &CompileOptions) -> Result<Imported, Vec<Diagnostic>> {
    let import = ImportOptions { dims: options.dims.clone(), shapes: options.shapes.clone(), ..ImportOptions::default() };
    match source {
        Source::Path(path) => xlac_onnx::import_file(path, &import),
        Source::Bytes(bytes) => xlac_onnx::import_bytes(bytes.clone(), None, &import),
    }
}

/// Optimizes a program; gives what the user should know.
fn optimize(program: &mut Program, options: &CompileOptions) -> Result<Vec<Diagnostic>, Diagnostic> {
    let mut pass_options = xlac_opt::Options { numerics: opt_numerics(options.numerics), ..Default::default() };
    let Some(dir) = &options.dump_dir else { return Ok(xlac_opt::optimize(program, &mut pass_options)?.notes) };
    let mut failed = dump(dir, "00-import.xir", &xlac_ir::text::print(program)).err();
    let mut number = 0;
    let mut write = |pass: &str, text: &str| {
        number += 1;
        failed = failed.take().or_else(|| dump(dir, &format!("{number:02}-{pass}.xir"), text).err());
    };
    pass_options.dump = Some(&mut write);
    let notes = xlac_opt::optimize(program, &mut pass_options)?.notes;
    failed.map_or(Ok(notes), Err)
}

/// The optimizer's name of a numeric contract.
pub fn opt_numerics(numerics: Numerics) -> xlac_opt::Numerics {
    match numerics {
        Numerics::Fast => xlac_opt::Numerics::Fast,
        Numerics::Exact => xlac_opt::Numerics::Exact,
    }
}

/// Names of the targets to compile for.
pub fn target_names(options: &CompileOptions) -> Vec<&str> {
    if options.targets.is_empty() { vec!["cpu"] } else { options.targets.iter().map(String::as_str).collect() }
}

/// A program lowered for one target.
pub struct Lowered {
    /// The target, as the backend adapted it.
    pub target: Target,
    /// What makes the code.
    pub backend: &'static dyn Backend,
    /// Kernels and steps.
    pub plan: cg::Plan,
}

/// Lowers an optimized program for a target.
pub fn lower(program: &Program, target: &str, options: &CompileOptions) -> Result<Lowered, Diagnostic> {
    let machine = targets::target(target)?;
    targets::check(&machine)?;
    let backend = targets::backend_for(&machine, options.backend.as_deref())?;
    let target = backend.constrain(&machine);
    let cg_options = xlac_codegen::Options { numerics: options.numerics, allow_host: options.allow_host.clone() };
    let plan = xlac_codegen::compile(program, &target, &cg_options).map_err(|e| {
        let at = if e.loc.0.is_empty() { String::new() } else { format!("node `{}`: ", e.loc.0.join("`, `")) };
        Diagnostic::error(codes::LOWER, format!("{at}{}", e.reason))
            .help("`--device interp` runs the model without compiling it")
    })?;
    Ok(Lowered { target, backend, plan })
}

/// An artifact of a plan that was made for a target, without a model.
pub fn artifact_of(target: &str, options: &CompileOptions, plan: impl Fn(&Target) -> cg::Plan) -> Result<Vec<u8>, Diagnostic> {
    let machine = targets::target(target)?;
    let backend = targets::backend_for(&machine, options.backend.as_deref())?;
    let target = backend.constrain(&machine);
    let plan = plan(&target);
    let variant = emit(Lowered { target, backend, plan }, options)?;
    let to = Cursor::new(Vec::new());
    Ok(write(&Program::default(), &[variant], [0; 32], options, &mut Report::default(), to)?.into_inner())
}

struct Variant {
    lowered: Lowered,
    image: Image,
}

fn compile_variant(program: &Program, target: &str, options: &CompileOptions) -> Result<Variant, Diagnostic> {
    options.say(&format!("generating kernels for {target}"));
    let lowered = lower(program, target, options)?;
    if let Some(dir) = &options.dump_dir {
        dump_kernels(dir, &lowered)?;
    }
    options.say(&format!("compiling {} kernels with {}", lowered.plan.kernels.len(), lowered.backend.name()));
    emit(lowered, options)
}

fn emit(lowered: Lowered, options: &CompileOptions) -> Result<Variant, Diagnostic> {
    let image = lowered
        .backend
        .compile(&lowered.plan.kernels, &lowered.target, options.compile_threads())
        .map_err(|e| Diagnostic::error(codes::EMIT, e.to_string()).help("this is a fault of the compiler, please report it"))?;
    Ok(Variant { lowered, image })
}

/// Weights that no kernel reads any more need not stay in memory while the artifact is written.
fn release_unused(program: &mut Program, variants: &[Variant]) {
    let mut used = vec![false; program.weights.len()];
    for variant in variants {
        for blob in assemble::used_blobs(&variant.lowered.plan) {
            if let xlac_codegen::pack::Source::Weight(id) = blob.source {
                used[id.0 as usize] = true;
            }
        }
    }
    program.weights.release(|id| used[id.0 as usize]);
}

fn write<W: Write + Seek>(
    program: &Program,
    variants: &[Variant],
    model_hash: [u8; 32],
    options: &CompileOptions,
    report: &mut Report,
    to: W,
) -> Result<W, Diagnostic> {
    let failed = |e: xlac_runtime::Error| Diagnostic::error(codes::ASSEMBLE, e.to_string());
    let mut writer = ArtifactWriter::new(to).map_err(failed)?;
    let mut offsets = BlobTable::default();
    for blob in variants.iter().flat_map(|v| assemble::used_blobs(&v.lowered.plan)) {
        if offsets.find(blob).is_none() {
            offsets.insert(blob, writer.start_weight().map_err(failed)?);
            blob.write(&program.weights, |bytes| writer.extend_weight(bytes)).map_err(failed)?;
        }
    }
    report.weight_bytes = writer.weights_len();
    for Variant { lowered: Lowered { target, backend, plan }, image } in variants {
        let on_host = if target.is_gpu() { crossings(plan) } else { Vec::new() };
        let needed = targets::needed(target, &plan.kernels);
        let offset = |blob: &_| offsets.find(blob).unwrap_or(u64::MAX);
        let plan = assemble::assemble(plan, image, &offset).map_err(|e| Diagnostic::error(codes::ASSEMBLE, e))?;
        let info = VariantInfo {
            target: target.name.clone(),
            arch: target.arch.clone(),
            features: targets::runtime_features(&needed),
            backend: backend.name().into(),
        };
        report.variants.push(VariantReport {
            target: target.name.clone(),
            cpu: target.cpu.clone(),
            backend: backend.name(),
            kernels: image.entries.len(),
            code_bytes: image.bytes.len(),
            arena: xlac_runtime::expr::describe(&plan, plan.arena_bytes),
            on_host,
        });
        writer.add_variant(info, &plan, &image.bytes).map_err(failed)?;
    }
    writer.finish(metadata(program, model_hash, options)).map_err(failed)
}

/// Sentences about what crosses the bus for the routines of a plan that a GPU leaves to the host.
fn crossings(plan: &cg::Plan) -> Vec<String> {
    let bytes = |operands: &[cg::Operand]| {
        operands.iter().fold(Dim::ZERO, |sum, o| &sum + &(&Dim::product(&o.shape) * &Dim::from(o.dtype.size())))
    };
    let sentence = |host: &&cg::Host| {
        format!(
            "{} runs on the host: each time {} bytes go to it and {} come back, and the device waits",
            host.loc.0.join(", "),
            bytes(&host.inputs),
            bytes(&host.outputs)
        )
    };
    plan.host_steps().iter().map(sentence).collect()
}

fn metadata(program: &Program, model_hash: [u8; 32], options: &CompileOptions) -> Metadata {
    let numerics = match options.numerics {
        Numerics::Fast => "fast",
        Numerics::Exact => "exact",
    };
    Metadata {
        producer: format!("xlac {}", env!("CARGO_PKG_VERSION")),
        model_name: program.graph.name.clone(),
        model_hash,
        numerics: numerics.into(),
        notes: Vec::new(),
        variants: Vec::new(),
    }
}

/// BLAKE3 digest of a model file.
pub fn hash(source: &Source) -> Result<[u8; 32], Vec<Diagnostic>> {
    match source {
        Source::Bytes(bytes) => Ok(*blake3::hash(bytes).as_bytes()),
        Source::Path(path) => {
            let mut hasher = blake3::Hasher::new();
            let read = std::fs::File::open(path).and_then(|f| hasher.update_reader(f).map(|_| ()));
            read.map_err(|e| vec![cannot("read", path, &e)])?;
            Ok(*hasher.finalize().as_bytes())
        }
    }
}

/// A diagnostic about a file.
pub fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(codes::NO_FILE, format!("cannot {what} `{}`: {error}", path.display()))
}

fn dump_kernels(dir: &Path, lowered: &Lowered) -> Result<(), Diagnostic> {
    let Lowered { target, backend, plan } = lowered;
    let stem = target.name.replace(':', "-");
    dump(dir, &format!("{stem}.kernels"), &print_kernels(plan))?;
    for form in backend.forms() {
        let text = backend.print(&plan.kernels, target, form).map_err(|e| Diagnostic::error(codes::EMIT, e.to_string()))?;
        dump(dir, &format!("{stem}.{form}"), &text)?;
    }
    Ok(())
}

/// The kernels of a plan as text.
pub fn print_kernels(plan: &cg::Plan) -> String {
    plan.kernels.iter().map(|k| xlac_ir::kernel::text::print(k) + "\n").collect()
}

fn dump(dir: &Path, name: &str, text: &str) -> Result<(), Diagnostic> {
    let path = dir.join(name);
    std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, text)).map_err(|e| cannot("write", &path, &e))
}
