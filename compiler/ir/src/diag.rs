//! What the user is told: severity, code, message, the ONNX node it is about, and what to do.

use std::fmt;

/// How bad it is.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity { Note, Warning, Error }

/// An ONNX node, as people find it in their model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct NodeRef {
    /// Node name, or `Op_index` if it has none.
    pub name: String,
    /// Operator type.
    pub op: String,
    /// Operator domain, empty for `ai.onnx`.
    pub domain: String,
    /// Version of the domain the model imports.
    pub opset: i64,
}

/// One message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, `X0107`; `xlac explain` tells more.
    pub code: &'static str,
    /// Lower case, no final stop, names in backticks.
    pub message: String,
    /// The node it is about.
    pub node: Option<NodeRef>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, code, message: message.into(), node: None, help: None }
    }

    /// A warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Names the node.
    pub fn at(self, node: NodeRef) -> Diagnostic { Diagnostic { node: Some(node), ..self } }

    /// Says what to do.
    pub fn help(self, help: impl Into<String>) -> Diagnostic { Diagnostic { help: Some(help.into()), ..self } }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let domain = if self.domain.is_empty() { String::new() } else { format!("{}.", self.domain) };
        write!(f, "node `{}` (`{domain}{}`, opset {})", self.name, self.op, self.opset)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}
