//! Applies rules to a program until none applies.
//!
//! A sweep visits every node once, in order, with its operands already rewritten; new nodes are visited at once. Uses
//! are counted as edits are made, so that what becomes unused is dropped on the way, and sweeping costs time in
//! proportion to the program.

use std::collections::HashMap;

use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::Symbol;
use xlac_ir::graph::{BODY, Def, Loc, NodeId, Program, RegionId};
use xlac_ir::ops::Op;
use xlac_ir::types::Type;

use crate::edit::Edit;
use crate::pass::PassCx;
use crate::pattern::Pattern;
use crate::report::MissReport;
use crate::rule::{Facts, Into, Kind, Match, Miss, Rule, instantiate};
use crate::subst::Substitution;

/// Sweeps in a row: each reaches what the one before made possible upstream. A program that wants more gets a note.
const SWEEPS: usize = 64;
/// Rewrites for each node before giving up: more means that rules undo each other.
const REWRITES_PER_NODE: usize = 64;

struct Compiled {
    rule: &'static Rule,
    from: Pattern,
    into: Option<Pattern>,
}

/// Rules by the op they start at, larger patterns first, then by name.
pub struct RuleSet {
    rules: Vec<Compiled>,
    by_op: HashMap<&'static str, Vec<usize>>,
}

impl RuleSet {
    /// Prepares rules. Panics on a pattern that cannot be read; a test reads all of them.
    pub fn new(rules: impl IntoIterator<Item = &'static Rule>) -> RuleSet {
        let read = |name: &str, text| Pattern::parse(text).unwrap_or_else(|e| panic!("rule `{name}`: {e}"));
        let compile = |rule: &'static Rule| {
            let into = match rule.into {
                Into::Text(text) => Some(read(rule.name, text)),
                Into::Code(_) => None,
            };
            Compiled { rule, from: read(rule.name, rule.from), into }
        };
        let mut rules: Vec<Compiled> = rules.into_iter().map(compile).collect();
        rules.sort_by_key(|c| (std::cmp::Reverse(c.from.size()), c.rule.name));
        let mut by_op: HashMap<&'static str, Vec<usize>> = HashMap::new();
        for (i, c) in rules.iter().enumerate() {
            let Pattern::Node { ops, .. } = &c.from else { panic!("rule `{}` starts with no op", c.rule.name) };
            ops.iter().for_each(|op| by_op.entry(op).or_default().push(i));
        }
        RuleSet { rules, by_op }
    }
}

/// Rewrites to a fixed point. True if anything changed; an error if the rules do not come to an end.
pub fn rewrite(program: &mut Program, rules: &RuleSet, cx: &mut PassCx) -> Result<bool, Diagnostic> {
    let mut changed = false;
    let budget = REWRITES_PER_NODE * (program.graph.live_nodes().len() + 16);
    let mut left = budget;
    for _ in 0..SWEEPS {
        let facts = facts(program);
        let dead = vec![false; program.graph.node_count()];
        let mut sweep =
            Sweep { program, rules, cx, facts, dead, subst: Substitution::default(), left, last: "", any: false };
        sweep.region(BODY)?;
        sweep.drop_dead();
        if !sweep.any {
            return Ok(changed);
        }
        left = sweep.left;
        changed = true;
    }
    let text = format!("rules still changed the program after {SWEEPS} sweeps");
    cx.report.notes.push(Diagnostic::warning("X0724", text));
    Ok(changed)
}

fn endless(last: &str, rule: &str) -> Diagnostic {
    Diagnostic::error("X0721", format!("rewriting does not come to an end: the last rules are `{last}` and `{rule}`"))
        .help("this is a fault of the compiler; compile with `--fuel N` to get past it, and report it")
}

/// Counts uses and notes regions.
fn facts(program: &Program) -> Facts {
    let graph = &program.graph;
    let mut facts = Facts { uses: vec![0; graph.value_count()], home: vec![None; graph.node_count()] };
    for region in graph.live_regions() {
        let r = graph.region(region);
        r.outputs.iter().for_each(|v| facts.uses[v.0 as usize] += 1);
        for &n in &r.nodes {
            facts.home[n.0 as usize] = Some(region);
            graph.node(n).inputs.iter().for_each(|v| facts.uses[v.0 as usize] += 1);
        }
    }
    facts
}

/// Symbols that an op gives a value at run time.
pub fn symbols_bound(op: &Op) -> &[Symbol] {
    match op {
        Op::Bind(b) => &b.symbols,
        Op::NonZero(n) => &n.count,
        Op::If(i) => &i.symbols,
        Op::Loop(l) => &l.count,
        _ => &[],
    }
}

struct Sweep<'a, 'b, 'c> {
    program: &'a mut Program,
    rules: &'a RuleSet,
    cx: &'a mut PassCx<'b, 'c>,
    facts: Facts,
    dead: Vec<bool>,
    subst: Substitution,
    left: usize,
    last: &'static str,
    any: bool,
}

impl Sweep<'_, '_, '_> {
    fn region(&mut self, region: RegionId) -> Result<(), Diagnostic> {
        let mut todo = std::mem::take(&mut self.program.graph.region_mut(region).nodes);
        todo.reverse();
        let mut done = Vec::with_capacity(todo.len());
        while let Some(id) = todo.pop() {
            if self.dead[id.0 as usize] {
                continue;
            }
            let node = self.program.graph.node_mut(id);
            node.inputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
            for inner in node.regions.clone() {
                self.region(inner)?;
            }
            match self.find(id) {
                Some((rule, edit, loc)) => {
                    let new = self.apply(region, id, rule, edit, &loc)?;
                    match new {
                        Some(nodes) => todo.extend(nodes.into_iter().rev()),
                        None => done.push(id),
                    }
                }
                None => done.push(id),
            }
        }
        let r = self.program.graph.region_mut(region);
        r.nodes = done;
        r.outputs.iter_mut().for_each(|v| *v = self.subst.resolve(*v));
        Ok(())
    }

    /// The first rule that applies to a node, with its edit and the origins of what it matched.
    fn find(&mut self, id: NodeId) -> Option<(&'static Rule, Edit, Loc)> {
        let node = self.program.graph.node(id);
        if node.outputs.len() != 1 || self.facts.uses[node.outputs[0].0 as usize] == 0 {
            return None;
        }
        let candidates = self.rules.by_op.get(node.op.mnemonic())?;
        for &i in candidates {
            let c = &self.rules.rules[i];
            let explained = self.cx.options.explain.as_deref() == Some(c.rule.name);
            let mut why: Option<Miss> = None;
            let mut accept = |m: &Match| match attempt(c, m) {
                Ok(edit) => Some((edit, m.loc())),
                Err(miss) => {
                    why = Some(miss);
                    None
                }
            };
            if let Some((edit, loc)) = Match::search(&c.from, self.program, &self.facts, id, &mut accept) {
                return Some((c.rule, edit, loc));
            }
            if explained {
                let reason = why.map_or_else(|| format!("its operands do not look like `{}`", c.rule.from), |m| m.0);
                let node = node.loc.0.join(", ");
                self.cx.report.miss(MissReport { rule: c.rule.name, node, reason });
            }
        }
        None
    }

    /// Makes an edit; gives the new nodes, or nothing if there is no fuel left.
    fn apply(
        &mut self,
        region: RegionId,
        id: NodeId,
        rule: &'static Rule,
        edit: Edit,
        loc: &Loc,
    ) -> Result<Option<Vec<NodeId>>, Diagnostic> {
        if !self.cx.burn() {
            return Ok(None);
        }
        if self.left == 0 {
            return Err(endless(self.last, rule.name));
        }
        self.left -= 1;
        self.last = rule.name;
        self.any = true;
        self.cx.report.folded_bytes += edit.bytes();
        *self.cx.report.rules.entry(rule.name).or_default() += 1;
        let old = self.program.graph.node(id).outputs[0];
        let ty = self.program.graph.ty(old).clone();
        let applied = edit.apply(self.program, region, &ty, loc);
        let (nodes, new) = applied.map_err(|m| Diagnostic::error("X0723", format!("rule `{}`: {}", rule.name, m.0)))?;
        self.program.graph.region_mut(region).nodes.clear();
        self.count_new(region, &nodes);
        self.subst.replace(&mut self.program.graph, old, new);
        self.facts.uses[new.0 as usize] += std::mem::take(&mut self.facts.uses[old.0 as usize]);
        self.kill(id);
        Ok(Some(nodes))
    }

    fn count_new(&mut self, region: RegionId, nodes: &[NodeId]) {
        self.facts.uses.resize(self.program.graph.value_count(), 0);
        self.facts.home.resize(self.program.graph.node_count(), None);
        self.dead.resize(self.program.graph.node_count(), false);
        for &n in nodes {
            self.facts.home[n.0 as usize] = Some(region);
            self.program.graph.node(n).inputs.iter().for_each(|v| self.facts.uses[v.0 as usize] += 1);
        }
    }

    /// Drops a node, and those that only it used.
    fn kill(&mut self, id: NodeId) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            self.dead[id.0 as usize] = true;
            for v in self.program.graph.node(id).inputs.clone() {
                let v = self.subst.resolve(v);
                let uses = &mut self.facts.uses[v.0 as usize];
                *uses = uses.saturating_sub(1);
                if let Def::Node(producer, _) = self.program.graph.value(v).def
                    && self.is_unused(producer)
                {
                    todo.push(producer);
                }
            }
        }
    }

    fn is_unused(&self, id: NodeId) -> bool {
        let node = self.program.graph.node(id);
        !self.dead[id.0 as usize]
            && node.regions.is_empty()
            && symbols_bound(&node.op).is_empty()
            && node.outputs.iter().all(|v| self.facts.uses[v.0 as usize] == 0)
    }

    fn drop_dead(&mut self) {
        for region in self.program.graph.live_regions() {
            let dead = &self.dead;
            self.program.graph.region_mut(region).nodes.retain(|n| !dead[n.0 as usize]);
        }
    }
}

/// Checks a match against a rule's conditions, builds the edit and checks its type.
fn attempt(c: &Compiled, m: &Match) -> Result<Edit, Miss> {
    if let Some((_, reason)) = c.rule.when.iter().find(|(holds, _)| !holds(m)) {
        return Err(Miss::from(*reason));
    }
    let edit = match (&c.rule.into, &c.into) {
        (Into::Code(code), _) => code(m)?,
        (Into::Text(_), Some(text)) => instantiate(text, m),
        (Into::Text(_), None) => unreachable!("texts are read when the rule set is made"),
    };
    let found: Type = edit.infer(m.program)?;
    if found != *m.root_ty() {
        return Err(Miss(format!("the result would be `{found}` instead of `{}`", m.root_ty())));
    }
    Ok(edit)
}

/// True if rules of this kind may be used.
pub fn allowed(kind: Kind, numerics: crate::Numerics) -> bool {
    kind != Kind::Fast || numerics == crate::Numerics::Fast
}
