//! The sorted list of operators, one file each.

use xlac_ir::graph::ValueId;

use crate::builder::Builder;
use crate::codes;
use crate::fail::{Fail, Res};
use crate::functions;
use crate::node::{Node, clean};

macro_rules! operators {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*
        /// Every operator file's table.
        static TABLES: &[&[OnnxOp]] = &[$($module::OPS),*];
    };
}

operators! {
    arg_max,
    attention,
    batch_normalization,
    bit_shift,
    cast,
    center_crop_pad,
    clip,
    compress,
    concat,
    constant,
    constant_of_shape,
    control_flow,
    conv,
    conv_integer,
    conv_transpose,
    cumulative,
    depth_to_space,
    dropout,
    einsum,
    elementwise,
    expand,
    eye_like,
    flatten,
    fused_conv,
    gather,
    gelu,
    gemm,
    grid_sample,
    group_normalization,
    hardmax,
    is_inf,
    layer_normalization,
    loss,
    lp_normalization,
    lrn,
    matmul,
    matmul_integer,
    max_unpool,
    mean_variance_normalization,
    mod_,
    non_zero,
    one_hot,
    pad,
    pool,
    pow,
    qlinear,
    quantize,
    range,
    recurrent,
    reduce,
    reshape,
    resize,
    reverse_sequence,
    rotary_embedding,
    scan,
    scatter,
    shape,
    slice,
    softmax,
    split,
    squeeze,
    tile,
    top_k,
    transpose,
    trilu,
    variadic,
    where_,
}

/// An operator: what it is called and how it is imported.
pub struct OnnxOp {
    /// Domain, empty for `ai.onnx`.
    pub domain: &'static str,
    /// Name.
    pub name: &'static str,
    /// Smallest and largest number of inputs.
    pub inputs: (usize, usize),
    /// First and last version of the domain that has it.
    pub opsets: (i64, i64),
    /// Attributes of any version.
    pub attrs: &'static [&'static str],
    /// Adds the core ops that it means and returns its outputs.
    pub import: for<'m> fn(&Node<'m>, &mut Builder<'m>) -> Res<Vec<ValueId>>,
}

/// As many inputs as there are.
pub const MANY: usize = usize::MAX;

impl OnnxOp {
    /// An operator of `ai.onnx` without attributes.
    pub const fn new(
        name: &'static str,
        inputs: (usize, usize),
        import: for<'m> fn(&Node<'m>, &mut Builder<'m>) -> Res<Vec<ValueId>>,
    ) -> OnnxOp {
        OnnxOp { domain: "", name, inputs, opsets: (1, i64::MAX), attrs: &[], import }
    }

    /// With attributes.
    pub const fn attrs(self, attrs: &'static [&'static str]) -> OnnxOp { OnnxOp { attrs, ..self } }

    /// In another domain.
    pub const fn domain(self, domain: &'static str) -> OnnxOp { OnnxOp { domain, ..self } }

    /// In these versions only.
    pub const fn opsets(self, first: i64, last: i64) -> OnnxOp { OnnxOp { opsets: (first, last), ..self } }
}

/// Every operator that can be imported.
pub fn all() -> impl Iterator<Item = &'static OnnxOp> { TABLES.iter().flat_map(|t| t.iter()) }

/// The operator of this name in a version of its domain.
pub fn find(domain: &str, name: &str, opset: i64) -> Res<&'static OnnxOp> {
    use std::collections::HashMap;
    use std::sync::LazyLock;
    static INDEX: LazyLock<HashMap<(&str, &str), &'static OnnxOp>> =
        LazyLock::new(|| all().map(|op| ((op.domain, op.name), op)).collect());
    let domain = functions::domain(domain);
    let Some(op) = INDEX.get(&(domain, name)) else { return Err(unsupported(domain, name)) };
    let (first, last) = op.opsets;
    if opset < first || opset > last {
        let message = format!("`{name}` does not exist in opset {opset}");
        let known = if last == i64::MAX { format!("from {first} on") } else { format!("from {first} to {last}") };
        return Err(Fail::new(codes::OPSET, message).help(format!("it exists {known}")));
    }
    Ok(op)
}

fn unsupported(domain: &str, name: &str) -> Fail {
    let name = clean(name);
    if ["Sequence", "Optional", "SplitToSequence", "ConcatFromSequence"].iter().any(|p| name.starts_with(p)) {
        return Fail::new(codes::NOT_A_TENSOR, format!("operator `{name}` works on sequences or optionals"))
            .help("export the model without sequence and optional types");
    }
    let full = if domain.is_empty() { name } else { format!("{}.{name}", clean(domain)) };
    Fail::new(codes::UNSUPPORTED_OP, format!("operator `{full}` is not supported"))
        .help("export the model with other operators, or cut it before this node")
}
