//! Rewrite rules as data, and what a rule sees of a match.

use xlac_ir::DType;
use xlac_ir::dim::Dim;
use xlac_ir::graph::{Def, Loc, Node, NodeId, Program, RegionId, ValueId};
use xlac_ir::kernel::Const;
use xlac_ir::op::EvalCx;
use xlac_ir::ops::Op;
use xlac_ir::scalar;
use xlac_ir::tensor::Tensor;
use xlac_ir::types::Type;

use crate::edit::{Edit, Ref, constant_data, is_constant};
use crate::pattern::Pattern;

/// When a rule may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps every bit of the result (up to the payload of NaNs): always.
    Exact,
    /// Computes new weights. It changes bits, but once for all targets: always.
    Fold,
    /// Changes bits: only with fast numerics.
    Fast,
}

/// How the replacement is made.
pub enum Into {
    /// An expression over the pattern's variables; ops without attributes.
    Text(&'static str),
    /// Code that looks closer, and may still refuse.
    Code(fn(&Match) -> Result<Edit, Miss>),
}

/// A condition, and the reason to give when it does not hold.
pub type When = (fn(&Match) -> bool, &'static str);

/// A rewrite rule.
pub struct Rule {
    /// Its path under `rules/`, without the ending.
    pub name: &'static str,
    /// When it may be used.
    pub kind: Kind,
    /// The pattern: see [`crate::pattern`].
    pub from: &'static str,
    /// Conditions on a match.
    pub when: &'static [When],
    /// The replacement.
    pub into: Into,
    /// A graph in text IR that the rule rewrites.
    pub example: &'static str,
}

/// Why a rule does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss(pub String);

impl From<&str> for Miss {
    fn from(reason: &str) -> Miss {
        Miss(reason.into())
    }
}

/// A refusal.
pub fn miss<T>(reason: impl std::convert::Into<String>) -> Result<T, Miss> {
    Err(Miss(reason.into()))
}

/// What matching knows about a graph besides the graph.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Number of uses of each value, region outputs included.
    pub uses: Vec<u32>,
    /// Region of each live node.
    pub home: Vec<Option<RegionId>>,
}

/// A place where a pattern matches.
#[derive(Clone)]
pub struct Match<'a> {
    /// The program.
    pub program: &'a Program,
    facts: &'a Facts,
    root: NodeId,
    vars: Vec<(&'static str, ValueId)>,
    rests: Vec<(&'static str, Vec<ValueId>)>,
    nodes: Vec<(&'static str, NodeId)>,
}

/// Attributes of a labelled node: `attrs!(m, "t", Transpose)`.
#[macro_export]
macro_rules! attrs {
    ($m:expr, $label:literal, $op:ident) => {
        match &$m.node($label).op {
            xlac_ir::ops::Op::$op(op) => op,
            other => unreachable!("the pattern says that `{}` is another op than `{}`", $label, other.mnemonic()),
        }
    };
}

impl<'a> Match<'a> {
    /// Finds the first match of `pattern` at `root` for which `accept` gives something; operands of commuting ops are
    /// tried in both orders.
    pub fn search<T>(
        pattern: &Pattern,
        program: &'a Program,
        facts: &'a Facts,
        root: NodeId,
        accept: &mut dyn FnMut(&Match<'a>) -> Option<T>,
    ) -> Option<T> {
        let m = Match { program, facts, root, vars: Vec::new(), rests: Vec::new(), nodes: Vec::new() };
        let result = *program.graph.node(root).outputs.first()?;
        m.step(&mut vec![(pattern, result)], accept)
    }

    /// Matches the last goal, then the others.
    fn step<T>(
        mut self,
        goals: &mut Vec<(&Pattern, ValueId)>,
        accept: &mut dyn FnMut(&Match<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some((pattern, value)) = goals.pop() else { return accept(&self) };
        match pattern {
            Pattern::Var(name) => self.bind(name, value).then(|| self.step(goals, accept))?,
            Pattern::Constant(name) => {
                let is_data = self.program.graph.producer(value).is_some_and(|n| is_constant(&n.op));
                (is_data && self.bind(name, value)).then(|| self.step(goals, accept))?
            }
            Pattern::Number(x) => self.repeats(value, *x).then(|| self.step(goals, accept))?,
            Pattern::Node { ops, label, operands, rest } => {
                let id = self.interior(value)?;
                let node = self.program.graph.node(id);
                let fits = if rest.is_some() {
                    node.inputs.len() >= operands.len()
                } else {
                    node.inputs.len() == operands.len()
                };
                if !fits || !ops.contains(&node.op.mnemonic()) {
                    return None;
                }
                self.nodes.push((label, id));
                if let Some(name) = rest {
                    self.rests.push((name, node.inputs[operands.len()..].to_vec()));
                }
                let commutes = matches!(node.op, Op::Binary(f) if f.commutes());
                if commutes && operands.len() == 2 {
                    let mut swapped = goals.clone();
                    swapped.extend([(&operands[1], node.inputs[0]), (&operands[0], node.inputs[1])]);
                    goals.extend([(&operands[1], node.inputs[1]), (&operands[0], node.inputs[0])]);
                    return self.clone().step(goals, accept).or_else(|| self.step(&mut swapped, accept));
                }
                goals.extend(operands.iter().zip(node.inputs.iter().copied()).rev());
                self.step(goals, accept)
            }
        }
    }

    fn bind(&mut self, name: &'static str, value: ValueId) -> bool {
        match self.vars.iter().find(|(n, _)| *n == name) {
            Some((_, bound)) => *bound == value,
            None => {
                self.vars.push((name, value));
                true
            }
        }
    }

    fn repeats(&self, value: ValueId, x: f64) -> bool {
        let same = |c: Const| f64::from_bits(scalar::convert(c, DType::F64).bits) == x;
        self.program.graph.splat_constant(value).is_some_and(same)
    }

    /// The one-result node that gives `value`, if it is in the root's region: elsewhere it runs less often.
    fn interior(&self, value: ValueId) -> Option<NodeId> {
        let Def::Node(id, _) = self.program.graph.value(value).def else { return None };
        let one_result = self.program.graph.node(id).outputs.len() == 1;
        (one_result && self.home(id) == self.home(self.root)).then_some(id)
    }

    fn home(&self, node: NodeId) -> Option<RegionId> {
        self.facts.home.get(node.0 as usize).copied().flatten()
    }

    /// The value a variable is bound to. Rules name only variables of their pattern, which a test checks.
    pub fn id(&self, name: &str) -> ValueId {
        let found = self.vars.iter().find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("the pattern has no variable `{name}`")).1
    }

    /// A variable as an operand of the edit.
    pub fn v(&self, name: &str) -> Ref {
        Ref::Old(self.id(name))
    }

    /// The operands that `?name...` took.
    pub fn rest(&self, name: &str) -> &[ValueId] {
        let found = self.rests.iter().find(|(n, _)| *n == name);
        &found.unwrap_or_else(|| panic!("the pattern has no variable `{name}...`")).1
    }

    /// A labelled node.
    pub fn node(&self, label: &str) -> &'a Node {
        let found = self.nodes.iter().find(|(l, _)| *l == label);
        self.program.graph.node(found.unwrap_or_else(|| panic!("the pattern has no label `{label}`")).1)
    }

    /// The matched node.
    pub fn root(&self) -> &'a Node {
        self.program.graph.node(self.root)
    }

    /// Its region.
    pub fn region(&self) -> RegionId {
        self.home(self.root).expect("matched nodes are live")
    }

    /// Type of the matched value.
    pub fn root_ty(&self) -> &'a Type {
        self.program.graph.ty(self.root().outputs[0])
    }

    /// Type of a variable.
    pub fn ty(&self, name: &str) -> &'a Type {
        self.program.graph.ty(self.id(name))
    }

    /// Shape of a variable.
    pub fn shape(&self, name: &str) -> &'a [Dim] {
        &self.ty(name).shape
    }

    /// True if the variable has the type of the matched value.
    pub fn same_type(&self, name: &str) -> bool {
        self.ty(name) == self.root_ty()
    }

    /// True for a matched value of floats.
    pub fn is_float(&self) -> bool {
        self.root_ty().dtype.is_float()
    }

    /// Data of a variable that is a constant or weight.
    pub fn data(&self, name: &str) -> Result<Tensor, Miss> {
        constant_data(self.program, self.id(name)).ok_or_else(|| Miss(format!("`{name}` is not constant")))
    }

    /// The number a small constant repeats.
    pub fn splat(&self, name: &str) -> Option<Const> {
        self.program.graph.splat_constant(self.id(name))
    }

    /// The same as f64.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.splat(name).map(|c| f64::from_bits(scalar::convert(c, DType::F64).bits))
    }

    /// True if nothing but the match uses the result of a labelled node.
    pub fn used_once(&self, label: &str) -> bool {
        self.uses(self.node(label).outputs[0]) <= 1
    }

    /// Number of uses of a value.
    pub fn uses(&self, value: ValueId) -> u32 {
        self.facts.uses.get(value.0 as usize).copied().unwrap_or(0)
    }

    /// Name for a weight made from the one that a variable is.
    pub fn weight_name(&self, name: &str, suffix: &str) -> String {
        let id = self.id(name);
        let own = self.program.graph.weight(id).map(|w| self.program.weights.get(w).name.to_string());
        let given = || self.program.graph.value(id).name.as_ref().map(|n| n.to_string());
        let base = own.or_else(given).unwrap_or_else(|| "constant".into());
        format!("{}.{suffix}", base.strip_suffix(&format!(".{suffix}")).unwrap_or(&base))
    }

    /// `op` of constant data.
    pub fn eval(&self, op: impl std::convert::Into<Op>, operands: &[Tensor]) -> Result<Tensor, Miss> {
        let cx = EvalCx { symbols: &|_| None };
        let mut results = op.into().eval(operands, &cx).map_err(|e| Miss(e.to_string()))?;
        Ok(results.swap_remove(0))
    }

    /// The type `op` would give.
    pub fn infer(&self, op: &Op, operands: &[ValueId]) -> Option<Type> {
        let types: Vec<Type> = operands.iter().map(|&v| self.program.graph.ty(v).clone()).collect();
        op.infer(&types).ok()?.into_iter().next()
    }

    /// A number that a dim is never below, with the declared ranges of symbols.
    pub fn at_least(&self, dim: &Dim) -> i64 {
        let low = |s: &str| {
            let range = self.program.graph.ranges.iter().find(|r| *r.0 == *s)?;
            (range.1 > 0).then(|| &Dim::sym(s) + &Dim::from(range.1))
        };
        dim.substitute(&low).lower_bound().unwrap_or(i64::MIN)
    }

    /// Origins of all matched nodes, the root's last.
    pub fn loc(&self) -> Loc {
        let of = |(_, id): &(&str, NodeId)| self.program.graph.node(*id).loc.clone();
        self.nodes.iter().rev().map(of).fold(Loc::default(), |a, b| a.merge(&b))
    }
}

/// Builds the edit that a rule's text describes.
pub fn instantiate(pattern: &Pattern, m: &Match) -> Edit {
    fn build(pattern: &Pattern, m: &Match, edit: &mut Edit) -> Ref {
        match pattern {
            Pattern::Var(name) | Pattern::Constant(name) => m.v(name),
            Pattern::Number(x) => edit.constant(Tensor::scalar(Const::number(m.root_ty().dtype, *x)), "number"),
            Pattern::Node { ops, operands, .. } => {
                let operands: Vec<Ref> = operands.iter().map(|p| build(p, m, edit)).collect();
                let op = Op::from_text(ops[0], &mut Default::default());
                edit.op(op.unwrap_or_else(|e| panic!("replacement text uses ops without attributes: {e}")), &operands)
            }
        }
    }
    let mut edit = Edit::new();
    let result = build(pattern, m, &mut edit);
    edit.give(result)
}
