//! A decoded model to a program: versions, functions, checks, inputs, nodes, outputs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use xlac_ir::diag::{Diagnostic, Severity};
use xlac_ir::dim::Dim;
use xlac_ir::graph::BODY;
use xlac_ir::types::Type;

use crate::builder::Builder;
use crate::external::External;
use crate::fail::{Fail, Res, bail, ensure};
use crate::node::{clean, supported};
use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::{GraphProto, ModelProto, TensorShapeProto, ValueInfoProto, type_proto};
use crate::{DimOverride, ImportOptions, Imported, ModelInfo, check, codes, functions, import, prune, tensor_data};

/// Newest IR version known.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 1..=14;
/// Newest version of `ai.onnx` known.
const NEWEST_OPSET: i64 = 28;

/// Imports a model.
pub fn import(model: &ModelProto, base_dir: Option<&Path>, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let fatal = |e: Fail| vec![e.into_diagnostic()];
    let opsets = versions(model).map_err(fatal)?;
    let Some(graph) = &model.graph else { return Err(fatal(Fail::new(codes::NO_GRAPH, "the model has no graph"))) };
    let expanded = functions::expand(model, graph, &options.limits).map_err(fatal)?;
    let graph = expanded.as_ref().unwrap_or(graph);
    let errors = check::check(graph, &opsets, &options.limits);
    if !errors.is_empty() {
        return Err(errors);
    }

    let mut b = Builder::new(&graph.name, options, External::new(base_dir));
    b.opsets = opsets.iter().cloned().collect();
    let result = build(graph, &mut b);
    let mut errors = std::mem::take(&mut b.errors);
    errors.extend(result.err().map(Fail::into_diagnostic));
    if !errors.is_empty() {
        return Err(errors);
    }
    prune::prune(&mut b.program);
    let info = ModelInfo {
        ir_version: model.ir_version,
        producer: clean(&model.producer_name),
        producer_version: clean(&model.producer_version),
        opsets,
    };
    Ok(Imported { program: b.program, warnings: b.warnings, info })
}

/// Domains and versions, the default domain under its short name.
fn versions(model: &ModelProto) -> Res<Vec<(String, i64)>> {
    ensure!(
        IR_VERSIONS.contains(&model.ir_version),
        IR_VERSION, "IR version {} is not supported: versions {IR_VERSIONS:?} are", model.ir_version
    );
    let mut opsets = BTreeMap::new();
    for o in &model.opset_import {
        let domain = functions::domain(&o.domain).to_string();
        let newest = if domain.is_empty() { NEWEST_OPSET } else { 1 << 20 };
        ensure!((1..=newest).contains(&o.version), OPSET_IMPORT, "version {} of operator set `{}` is not known", o.version, clean(&domain));
        if opsets.insert(domain.clone(), o.version).is_some_and(|v| v != o.version) {
            bail!(OPSET_IMPORT, "operator set `{}` is imported in two versions", clean(&domain));
        }
    }
    // Before IR version 3 there were no imports: everything meant version 1.
    if opsets.is_empty() && model.ir_version < 3 {
        opsets.insert(String::new(), 1);
    }
    ensure!(!opsets.is_empty(), OPSET_IMPORT, "the model imports no operator set");
    Ok(opsets.into_iter().collect())
}

fn build<'m>(graph: &'m GraphProto, b: &mut Builder<'m>) -> Res<()> {
    ensure!(!graph.output.is_empty(), NO_OUTPUT, "the graph has no outputs");
    b.scopes.push(import::Scope::default());
    import::enter_initializers(graph, b)?;
    inputs(graph, b)?;
    import::nodes(graph, b)?;
    let poisoned = b.errors.iter().any(|e| e.severity == Severity::Error);
    for output in &graph.output {
        if output.name.is_empty() {
            bail!(BAD_NAME, "a graph output has no name");
        }
        match import::lookup(b, &output.name)? {
            Some(v) => finish_output(b, output, v)?,
            None if poisoned => {}
            None => bail!(UNDEFINED, "graph output `{}` is produced by nothing", clean(&output.name)),
        }
    }
    Ok(())
}

fn finish_output(b: &mut Builder, output: &ValueInfoProto, v: xlac_ir::graph::ValueId) -> Res<()> {
    if let Some(type_proto::Value::TensorType(t)) = output.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        let found = b.dtype(v);
        if t.elem_type != 0 && t.elem_type != found.onnx_code() {
            bail!(TYPES, "graph output `{}` is declared with element type {}, but is {found}", clean(&output.name), t.elem_type);
        }
        if t.shape.as_ref().is_some_and(|s| contradicts(s, &b.ty(v))) {
            let message = format!("graph output `{}` is declared with another shape than it has: {}", clean(&output.name), b.ty(v));
            b.warnings.push(Diagnostic::warning(codes::OUTPUT_SHAPE, message));
        }
    }
    b.program.graph.region_mut(BODY).outputs.push(v);
    b.program.graph.output_names.push(output.name.as_str().into());
    Ok(())
}

fn contradicts(declared: &TensorShapeProto, found: &Type) -> bool {
    declared.dim.len() != found.rank()
        || declared.dim.iter().zip(&found.shape).any(|(d, f)| match (&d.value, f.as_const()) {
            (Some(DimValue::DimValue(d)), Some(f)) => *d != f && *d >= 0,
            _ => false,
        })
}

/// Adds the graph's inputs, those with an initializer excepted: these are constants.
fn inputs<'m>(graph: &'m GraphProto, b: &mut Builder<'m>) -> Res<()> {
    let overrides = shape_overrides(graph, b)?;
    for (name, range) in &b.options.dims {
        if let DimOverride::Range(low, high) = *range {
            ensure!(0 <= low && low <= high, OVERRIDE, "`{name}={low}..{high}` is no range of sizes");
            let symbol = b.named_symbol(name);
            b.program.graph.ranges.push((symbol, low, high));
        }
    }
    let mut seen = std::collections::HashSet::new();
    let mut defaults = Vec::new();
    let mut fixed = 0;
    for input in &graph.input {
        ensure!(!input.name.is_empty(), BAD_NAME, "a graph input has no name");
        ensure!(seen.insert(&input.name), DUPLICATE, "two graph inputs are called `{}`", clean(&input.name));
        if import::is_initializer(b, &input.name) {
            defaults.push(clean(&input.name));
            continue;
        }
        let ty = input_type(input, b, &overrides)?;
        if let Some(tensor) = b.options.constants.get(&input.name) {
            ensure!(tensor.dtype == ty.dtype && tensor.shape.len() == ty.rank(), OVERRIDE, "input `{}` is {ty}, not {}", clean(&input.name), tensor.ty());
            let v = b.named_constant(&clean(&input.name), tensor.clone());
            import::define(b, &input.name, v)?;
            fixed += 1;
            continue;
        }
        let v = b.program.graph.add_input(BODY, ty, Some(&input.name));
        import::define(b, &input.name, v)?;
    }
    if !defaults.is_empty() && graph.input.len() == defaults.len() + fixed + b.program.graph.inputs().len() {
        let message = format!("{} graph inputs have initializers and are taken as constants", defaults.len());
        b.warnings.push(Diagnostic { severity: Severity::Note, ..Diagnostic::warning(codes::DEFAULT_INPUT, message) });
    }
    Ok(())
}

/// Sizes of symbols that follow from the dim and shape overrides.
fn shape_overrides(graph: &GraphProto, b: &mut Builder) -> Res<HashMap<String, i64>> {
    let mut fixed: HashMap<String, i64> = HashMap::new();
    for (name, value) in &b.options.dims {
        if let DimOverride::Fixed(n) = *value {
            ensure!(n >= 0, OVERRIDE, "`{name}={n}` is no size");
            fixed.insert(name.clone(), n);
        }
    }
    for (name, sizes) in &b.options.shapes {
        let Some(input) = graph.input.iter().find(|i| i.name == *name) else {
            bail!(OVERRIDE, "the model has no input called `{name}`")
        };
        let Some(shape) = tensor_shape(input) else { continue };
        ensure!(shape.dim.len() == sizes.len(), OVERRIDE, "input `{name}` has {} axes, not {}", shape.dim.len(), sizes.len());
        for (dim, &size) in shape.dim.iter().zip(sizes) {
            let Some(DimValue::DimParam(p)) = &dim.value else { continue };
            if size >= 0 && !is_anonymous(p) {
                let old = fixed.insert(p.clone(), size);
                ensure!(old.is_none_or(|o| o == size), OVERRIDE, "`{}` cannot be both {} and {size}", clean(p), old.unwrap_or(0));
            }
        }
    }
    Ok(fixed)
}

fn tensor_shape(input: &ValueInfoProto) -> Option<&TensorShapeProto> {
    match input.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(t) => t.shape.as_ref(),
        _ => None,
    }
}

fn input_type(input: &ValueInfoProto, b: &mut Builder, fixed: &HashMap<String, i64>) -> Res<Type> {
    let name = clean(&input.name);
    let tensor = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t,
        Some(_) => bail!(NOT_A_TENSOR, "graph input `{name}` is not a tensor"),
        None => bail!(INPUT_TYPE, "graph input `{name}` has no type"),
    };
    let dtype = supported(tensor_data::dtype(tensor.elem_type)?)?;
    let given = b.options.shapes.get(&input.name).cloned();
    let shape = match (&tensor.shape, &given) {
        (Some(shape), _) => shape.clone(),
        (None, Some(sizes)) => TensorShapeProto { dim: vec![Default::default(); sizes.len()] },
        (None, None) => {
            let fail = Fail::new(codes::INPUT_TYPE, format!("graph input `{name}` has no shape, so its rank is unknown"));
            return Err(fail.help(format!("give its shape, for example `--dim {name}=1,3,224,224`")));
        }
    };
    ensure!(shape.dim.len() <= 64, BAD_DIM, "graph input `{name}` has {} axes", shape.dim.len());
    let mut dims = Vec::new();
    for (axis, dim) in shape.dim.iter().enumerate() {
        let size = given.as_ref().map(|s| s[axis]).filter(|&s| s >= 0);
        dims.push(input_dim(&name, axis, dim.value.as_ref(), size, b, fixed)?);
    }
    let ty = Type::new(dtype, dims);
    b.check_size(&ty)?;
    Ok(ty)
}

/// True for names that say nothing: some exporters write `?` for every size they do not know, and these are not all the
/// same size.
fn is_anonymous(name: &str) -> bool { matches!(name, "" | "?") }

fn input_dim(
    input: &str,
    axis: usize,
    declared: Option<&DimValue>,
    given: Option<i64>,
    b: &mut Builder,
    fixed: &HashMap<String, i64>,
) -> Res<Dim> {
    match declared {
        Some(DimValue::DimValue(n)) if *n >= 0 => {
            ensure!(given.is_none_or(|g| g == *n), OVERRIDE, "axis {axis} of input `{input}` has size {n}, not {}", given.unwrap_or(0));
            return Ok(Dim::from(*n));
        }
        Some(DimValue::DimValue(n)) => {
            ensure!(*n == -1, BAD_DIM, "axis {axis} of graph input `{input}` has size {n}");
            let message = format!("axis {axis} of graph input `{input}` has size -1, taken as unknown");
            b.warnings.push(Diagnostic::warning(codes::BAD_DIM, message));
        }
        Some(DimValue::DimParam(name)) if !is_anonymous(name) => {
            if let Some(&n) = fixed.get(name) {
                return Ok(Dim::from(n));
            }
            return Ok(Dim::sym(&b.named_symbol(name)));
        }
        _ => {}
    }
    let hint = format!("{input}_d{axis}");
    match given.or(fixed.get(&hint).copied()) {
        Some(n) => Ok(Dim::from(n)),
        None if b.options.dims.contains_key(&hint) => Ok(Dim::sym(&hint)),
        None => Ok(Dim::sym(&b.symbol(&hint))),
    }
}
