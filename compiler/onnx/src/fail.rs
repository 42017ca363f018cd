//! The error importers return: a diagnostic that does not know its node yet.

use xlac_ir::diag::{Diagnostic, NodeRef};
use xlac_ir::op::{EvalError, InferError};

use crate::codes;

/// Why a node or a file cannot be imported.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fail(Box<Diagnostic>);

/// Result of importing.
pub type Res<T> = Result<T, Fail>;

impl Fail {
    /// A failure with a code and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Fail { Fail(Box::new(Diagnostic::error(code, message))) }

    /// Says what to do.
    pub fn help(self, help: impl Into<String>) -> Fail { Fail(Box::new(self.0.help(help))) }

    /// Names the node, unless an inner node is named already.
    pub fn at(self, node: NodeRef) -> Fail { if self.0.node.is_some() { self } else { Fail(Box::new(self.0.at(node))) } }

    /// The diagnostic.
    pub fn into_diagnostic(self) -> Diagnostic { *self.0 }
}

impl From<InferError> for Fail {
    fn from(e: InferError) -> Fail { Fail::new(codes::TYPES, e.0) }
}

impl From<EvalError> for Fail {
    fn from(e: EvalError) -> Fail { Fail::new(codes::TYPES, e.0) }
}

/// Returns early with a [`Fail`]: `bail!(AXIS, "axis {axis} ...")`.
macro_rules! bail {
    ($code:ident, $($arg:tt)*) => { return Err($crate::fail::Fail::new($crate::codes::$code, format!($($arg)*))) };
}
pub(crate) use bail;

/// Returns early with a [`Fail`] unless the condition holds.
macro_rules! ensure {
    ($cond:expr, $code:ident, $($arg:tt)*) => { if !$cond { $crate::fail::bail!($code, $($arg)*) } };
}
pub(crate) use ensure;
