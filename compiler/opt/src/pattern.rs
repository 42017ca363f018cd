//! Patterns: expressions over op names that a rule matches.
//!
//! ```text
//! (mul (add:a ?x #c) 1)
//! ```
//!
//! `?x` is any value, `#c` a constant or weight, a number a constant that repeats it, `(op:label operands)` a node;
//! several ops are written `add|sub`, or as a class: `unary`, `binary`, `compare`, `elementwise`. `?xs...` takes the
//! operands that are left. A variable used twice must be the same value twice. Operands of commuting ops match in both orders.

use xlac_ir::elementwise::{BinaryFn, UnaryFn};
use xlac_ir::kernel::Pred;
use xlac_ir::ops::Op;

/// A pattern.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// `?x`
    Var(&'static str),
    /// `#c`
    Constant(&'static str),
    /// `1`
    Number(f64),
    /// `(op:label operands...)`
    Node {
        /// Mnemonics it accepts.
        ops: Vec<&'static str>,
        /// Label, empty if it has none.
        label: &'static str,
        /// Patterns of the operands.
        operands: Vec<Pattern>,
        /// Variable for the operands that are left.
        rest: Option<&'static str>,
    },
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &'static str) -> Result<Pattern, String> {
        let mut parser = Parser { text, at: 0 };
        let pattern = parser.pattern()?;
        match parser.word() {
            "" => Ok(pattern),
            more => Err(format!("`{more}` after the pattern")),
        }
    }

    /// Number of nodes: larger patterns win.
    pub fn size(&self) -> usize {
        match self {
            Pattern::Node { operands, .. } => 1 + operands.iter().map(Pattern::size).sum::<usize>(),
            Pattern::Number(_) | Pattern::Constant(_) => 0,
            Pattern::Var(_) => 0,
        }
    }

    /// Variables, in order of appearance.
    pub fn variables(&self) -> Vec<&'static str> {
        match self {
            Pattern::Var(name) | Pattern::Constant(name) => vec![name],
            Pattern::Number(_) => Vec::new(),
            Pattern::Node { operands, rest, .. } => operands.iter().flat_map(Pattern::variables).chain(*rest).collect(),
        }
    }
}

struct Parser {
    text: &'static str,
    at: usize,
}

impl Parser {
    /// The next parenthesis or word; empty at the end.
    fn word(&mut self) -> &'static str {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let length = match rest.find(|c: char| c.is_whitespace() || c == '(' || c == ')') {
            Some(0) => 1,
            Some(n) => n,
            None => rest.len(),
        };
        self.at = start + length;
        &rest[..length]
    }

    fn pattern(&mut self) -> Result<Pattern, String> {
        let word = self.word();
        if word == "(" {
            return self.node();
        }
        if let Some(name) = word.strip_prefix('?') {
            return Ok(Pattern::Var(name));
        }
        if let Some(name) = word.strip_prefix('#') {
            return Ok(Pattern::Constant(name));
        }
        word.parse().map(Pattern::Number).map_err(|_| format!("`{word}` is no pattern"))
    }

    fn node(&mut self) -> Result<Pattern, String> {
        let head = self.word();
        let (names, label) = head.split_once(':').unwrap_or((head, ""));
        let ops = ops_called(names)?;
        let mut operands = Vec::new();
        let mut rest = None;
        loop {
            let before = self.at;
            match self.word() {
                ")" => return Ok(Pattern::Node { ops, label, operands, rest }),
                "" => return Err("`)` is missing".into()),
                word if rest.is_some() => return Err(format!("`{word}` after `...`")),
                word => match word.strip_suffix("...").and_then(|w| w.strip_prefix('?')) {
                    Some(name) => rest = Some(name),
                    None => {
                        self.at = before;
                        operands.push(self.pattern()?);
                    }
                },
            }
        }
    }
}

/// Mnemonics that `add|sub` or a class stands for.
fn ops_called(names: &'static str) -> Result<Vec<&'static str>, String> {
    let unary = || UnaryFn::ALL.iter().map(|f| f.name());
    let binary = || BinaryFn::ALL.iter().map(|f| f.name());
    let compare = || Pred::ALL.iter().map(|p| p.name());
    let declared = || Op::DOCS.iter().map(|(name, _)| *name);
    let mut ops = Vec::new();
    for name in names.split('|') {
        match name {
            "unary" => ops.extend(unary()),
            "binary" => ops.extend(binary()),
            "compare" => ops.extend(compare()),
            "elementwise" => ops.extend(unary().chain(binary()).chain(compare()).chain(["select", "cast"])),
            _ if unary().chain(binary()).chain(compare()).chain(declared()).any(|n| n == name) => ops.push(name),
            _ => return Err(format!("no op is called `{name}`")),
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read() {
        let p = Pattern::parse("(mul (add|sub:a ?x #c) 1)").unwrap();
        assert_eq!((p.size(), p.variables()), (2, vec!["x", "c"]));
        let p = Pattern::parse("(concat ?first ?xs...)").unwrap();
        assert_eq!(p.variables(), ["first", "xs"]);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| Pattern::parse(text).unwrap_err();
        assert_eq!(error("(multiply ?x ?y)"), "no op is called `multiply`");
        assert_eq!(error("(mul ?x ?y"), "`)` is missing");
        assert_eq!(error("(mul x ?y)"), "`x` is no pattern");
        assert_eq!(error("(abs ?x) ?y"), "`?y` after the pattern");
    }
}
