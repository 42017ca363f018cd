//! The sorted list of core ops, one file each, and the [`Op`] enum over them.

pub mod arg_reduce;
pub mod bind;
pub mod broadcast;
pub mod cast;
pub mod concat;
pub mod constant;
pub mod conv;
pub mod conv_transpose;
pub mod cumulate;
pub mod dims;
pub mod elementwise;
pub mod gather;
pub mod gather_elements;
pub mod gather_nd;
pub mod if_;
pub mod iota;
pub mod loop_;
pub mod matmul;
pub mod max_pool_indices;
pub mod non_zero;
pub mod pad;
pub mod pool;
pub mod reduce;
pub mod reshape;
pub mod rnn;
pub mod scatter_elements;
pub mod scatter_nd;
pub mod select;
pub mod slice;
pub mod top_k;
pub mod transpose;
pub mod weight;

use crate::elementwise::{BinaryFn, UnaryFn};
use crate::kernel::Pred;
use crate::op::{Attr, Attrs, EvalCx, EvalError, InferError, OpDecl, OpImpl};
use crate::tensor::Tensor;
use crate::types::Type;

macro_rules! ops {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(pub use $module::$name;)*

        /// A core op with its attributes.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            /// An elementwise function of one operand.
            Unary(UnaryFn),
            /// An elementwise function of two operands, with numpy broadcasting.
            Binary(BinaryFn),
            /// An elementwise comparison, with numpy broadcasting; the result is bool.
            Compare(Pred),
            $(#[allow(missing_docs)] $name($name)),*
        }

        $(impl From<$name> for Op { fn from(op: $name) -> Op { Op::$name(op) } })*

        impl Op {
            /// Name in the text form.
            pub fn mnemonic(&self) -> &'static str {
                match self {
                    Op::Unary(f) => f.name(),
                    Op::Binary(f) => f.name(),
                    Op::Compare(p) => p.name(),
                    $(Op::$name(_) => $name::MNEMONIC),*
                }
            }

            /// Attributes in the order of the declaration.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
                match self {
                    Op::Unary(_) | Op::Binary(_) | Op::Compare(_) => Vec::new(),
                    $(Op::$name(op) => op.attrs()),*
                }
            }

            /// The op of this name, with its attributes taken out of `attrs`.
            pub fn from_text(mnemonic: &str, attrs: &mut Attrs) -> Result<Op, String> {
                if let Some(f) = UnaryFn::from_name(mnemonic) {
                    return Ok(Op::Unary(f));
                }
                if let Some(f) = BinaryFn::from_name(mnemonic) {
                    return Ok(Op::Binary(f));
                }
                if let Some(p) = Pred::from_name(mnemonic) {
                    return Ok(Op::Compare(p));
                }
                match mnemonic {
                    $($name::MNEMONIC => $name::from_attrs(attrs).map(Op::$name),)*
                    _ => Err(format!("no op is called `{mnemonic}`")),
                }
            }

            /// Name and documentation of every op that is not elementwise.
            pub const DOCS: &[(&'static str, &'static str)] = &[$(($name::MNEMONIC, $name::DOC)),*];

            fn implementation(&self) -> &dyn OpImpl {
                match self {
                    Op::Unary(f) => f,
                    Op::Binary(f) => f,
                    Op::Compare(p) => p,
                    $(Op::$name(op) => op),*
                }
            }
        }
    };
}

ops! {
    arg_reduce::ArgReduce,
    bind::Bind,
    broadcast::Broadcast,
    cast::Cast,
    concat::Concat,
    constant::Constant,
    conv::Conv,
    conv_transpose::ConvTranspose,
    cumulate::Cumulate,
    dims::Dims,
    gather::Gather,
    gather_elements::GatherElements,
    gather_nd::GatherNd,
    if_::If,
    iota::Iota,
    loop_::Loop,
    matmul::MatMul,
    max_pool_indices::MaxPoolIndices,
    non_zero::NonZero,
    pad::Pad,
    pool::Pool,
    reduce::Reduce,
    reshape::Reshape,
    rnn::Rnn,
    scatter_elements::ScatterElements,
    scatter_nd::ScatterNd,
    select::Select,
    slice::Slice,
    top_k::TopK,
    transpose::Transpose,
    weight::Weight,
}

impl From<UnaryFn> for Op {
    fn from(f: UnaryFn) -> Op { Op::Unary(f) }
}

impl From<BinaryFn> for Op {
    fn from(f: BinaryFn) -> Op { Op::Binary(f) }
}

impl From<Pred> for Op {
    fn from(p: Pred) -> Op { Op::Compare(p) }
}

impl Op {
    /// Types of the results. `if` and `loop` take theirs from their regions: [`crate::graph::Graph`] infers them.
    pub fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError> { self.implementation().infer(inputs) }

    /// Results for concrete operands. `if` and `loop` are run by [`crate::interp`].
    ///
    /// What shape inference could not see behind symbols is checked here, on the concrete shapes: implementations of
    /// [`OpImpl::eval`] may rely on operands that pass their own `infer`.
    pub fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
        self.infer(&types).map_err(|e| EvalError(e.0))?;
        self.implementation().eval(inputs, cx)
    }

    /// True for unary, binary, compare, select and cast: output element `i` depends on operand elements `i` alone.
    pub fn is_elementwise(&self) -> bool {
        matches!(self, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select(_) | Op::Cast(_))
    }

    /// Number of regions.
    pub fn regions(&self) -> usize {
        match self {
            Op::If(_) => 2,
            Op::Loop(_) => 1,
            _ => 0,
        }
    }
}
